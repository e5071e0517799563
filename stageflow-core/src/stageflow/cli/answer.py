"""What a run says at its end: as a record for JSON, and as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from stageflow.cli.failure import as_stageflow_error, error_record
from stageflow.cli.jsonable import dump, jsonable
from stageflow.cli.pictures.lettering import shorten
from stageflow.cli.pictures.timeline import Part
from stageflow.errors import PipelineCancelled
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stageflow.cli.pictures.timeline import Row, Timeline
    from stageflow.runtime.results import PipelineResults
    from stageflow.stages.output import StageOutput
    from stageflow.stages.spec import StageSpec

__all__ = ["record_of", "text_of"]

_CITED: Final = 100


def record_of(specs: Sequence[StageSpec], results: PipelineResults, timeline: Timeline) -> dict[str, Any]:
    """Return the whole run as data for JSON."""
    record: dict[str, Any] = {"status": "ok"}
    error = results.error
    answered = _answered(specs, results)
    if error is not None:
        record["status"] = "cancelled" if isinstance(error, PipelineCancelled) else "failed"
        record["error"] = error_record(as_stageflow_error(error))
    elif answered is not None:
        record["status"] = str(jsonable(answered.get("status") or "ok"))
    if error is None and answered is not None:
        record["answer"] = answered["answer"]
        record["citations"] = answered.get("citations") or []
    else:
        record["outputs"] = {
            name: output.data for name, output in results.items() if output.status is StageStatus.OK
        }
    record |= {
        "pipeline": timeline.pipeline,
        "run_id": results.run_id,
        "duration_ms": round(results.duration_ms, 3),
        "stages": {row.stage: _stage_record(row) for row in timeline.rows},
    }
    return record


def text_of(specs: Sequence[StageSpec], results: PipelineResults) -> str:
    """Return what the run answered; of a pipeline that does not answer, what its last stages handed over."""
    answered = _answered(specs, results)
    if answered is not None:
        return "\n".join([_shown(answered["answer"]), *_citations(answered.get("citations"))])
    needed = {name for spec in specs for name in spec.dependencies}
    last = {
        name: output
        for name, output in results.items()
        if name not in needed and output.status is StageStatus.OK
    }
    if len(last) == 1:
        return _shown(_only_value(next(iter(last.values())).data))
    return "\n".join(f"{name}: {_shown(_only_value(output.data))}" for name, output in last.items())


def _answered(specs: Sequence[StageSpec], results: Mapping[str, StageOutput]) -> Mapping[str, Any] | None:
    """Return the data of the last stage that succeeded, if it answers.

    A stage that works on the world and hands over no answer of its own, as one that files the answer away, is passed
    over.
    """
    for spec in reversed(specs):
        output = results.get(spec.name)
        if output is None or output.status is not StageStatus.OK:
            continue
        if "answer" in output.data:
            return output.data
        if spec.kind is not StageKind.WORK:
            return None
    return None


def _stage_record(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {
        "status": row.status,
        "kind": row.kind,
        "duration_ms": round(row.total(Part.WORK) / 1e6, 3),
        "waited_ms": round(row.total(Part.DEPENDENCIES, Part.QUEUE, Part.BACKOFF) / 1e6, 3),
        "attempts": row.attempts,
    }
    if row.reason:
        record["error" if row.status == "fail" else "reason"] = row.reason
    return record


def _citations(citations: object) -> list[str]:
    """Return the citations as numbered lines."""
    found: object = jsonable(citations)
    if not isinstance(found, list):
        return []
    lines = [f"  [{number}] {_citation(one)}" for number, one in enumerate(cast("list[object]", found), 1)]
    return ["", *lines] if lines else []


def _citation(one: object) -> str:
    if not isinstance(one, dict) or "topic" not in one:
        return _shown(one)  # pyright: ignore[reportUnknownArgumentType] - whatever it is, it is shown
    parts = cast("dict[str, object]", one)
    line = f", line {parts['line']}" if parts.get("line") is not None else ""
    # On one line: the answer holds the words, the citation says where they are from.
    text = shorten(" ".join(str(parts.get("text") or "").split()), _CITED)
    said = f": {text}" if text else ""
    return f"{parts['topic']}{line}{said}"


def _only_value(data: Mapping[str, Any]) -> Any:
    """Return the one value of a stage's data, or all of it."""
    return next(iter(data.values())) if len(data) == 1 else data


def _shown(value: object) -> str:
    return value if isinstance(value, str) else dump(value)
