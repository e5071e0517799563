"""What a run says at its end: as a record for JSON, and as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from stageflow.cli.failure import as_stageflow_error, error_record
from stageflow.cli.jsonable import dump, jsonable
from stageflow.cli.pictures.lettering import shorten
from stageflow.cli.pictures.parts import waited_ns, worked_ns
from stageflow.errors import PipelineCancelled
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stageflow.cli.pictures.chart import Chart
    from stageflow.runtime.results import PipelineResults
    from stageflow.runtime.timeline import StageTimeline
    from stageflow.stages.output import StageOutput
    from stageflow.stages.spec import StageSpec

__all__ = ["record_of", "text_of"]

_CITED: Final = 100


def record_of(specs: Sequence[StageSpec], results: PipelineResults, chart: Chart) -> dict[str, Any]:
    """Return the whole run as data for JSON."""
    record: dict[str, Any] = {"status": "ok"}
    error, timeline = results.error, chart.timeline
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
        "pipeline": chart.pipeline,
        "run_id": results.run_id,
        "duration_ms": round(results.duration_ms, 3),
        "stages": {
            stage.name: _stage_record(stage, chart.reasons.get(stage.name, "")) for stage in chart.stages
        },
        "critical_path": [
            {"stage": step.stage, "duration_ns": step.duration_ns} for step in timeline.critical_path
        ],
        "tail_ns": timeline.tail_ns,
        "gains": [
            {"stage": gain.stage, "part": gain.part.value, "gain_ns": gain.gain_ns}
            for gain in timeline.gains()
        ],
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


def _stage_record(stage: StageTimeline, reason: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "status": stage.status,
        "kind": stage.kind,
        "duration_ms": round(worked_ns(stage) / 1e6, 3),
        "waited_ms": round(waited_ns(stage) / 1e6, 3),
        "attempts": stage.attempts,
        "parts_ns": {part.value: ns for part, ns in stage.totals.items()},
    }
    if reason:
        record["error" if stage.status == "fail" else "reason"] = reason
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
