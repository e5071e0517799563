"""Wide events: one event per stage, and one per run, that says everything about it at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, final

from stageflow.context.checks import check_type, require_mapping, wrong_type

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SettledStage", "StageOutcome", "WideContext", "WideEventEmitter"]

_IDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")
# What the statuses of outputs are called in events, and in ``StageResult``.
_WORDS = {"ok": "completed", "skip": "skipped", "cancel": "cancelled", "fail": "failed"}
_DEFAULT_NAME = "pipeline"


class WideContext(Protocol):
    """Who a wide event is about: any context of the run.

    Its ids are read from the context itself, or from its ``snapshot``.
    """

    def try_emit_event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - published
        """Emit an event of the run; never raises."""
        ...


class SettledStage(Protocol):
    """How a stage ended: a ``StageResult`` or a ``StageOutput``."""

    @property
    def status(self) -> str:
        """How it ended."""
        ...

    @property
    def error(self) -> str | None:
        """Why it failed."""
        ...

    @property
    def duration_ms(self) -> float | None:
        """How long it took, in milliseconds."""
        ...


class StageOutcome(SettledStage, Protocol):
    """How a stage ended, and when: a ``StageResult``."""

    @property
    def name(self) -> str:
        """The stage."""
        ...

    @property
    def started_at(self) -> datetime:
        """When it began."""
        ...

    @property
    def ended_at(self) -> datetime:
        """When it ended."""
        ...

    @property
    def data(self) -> Mapping[str, Any]:
        """What it left."""
        ...


@final
class WideEventEmitter:
    """Emits wide events; the payloads can also be had without emitting.

    Args:
        stage_event_type: The type of the event about a stage.
        pipeline_event_type: The type of the event about a run.

    ```python
    from datetime import UTC, datetime

    from stageflow import PipelineContext, StageResult
    from stageflow.events.wide import WideEventEmitter

    now = datetime.now(UTC)
    result = StageResult("greet", "completed", now, now, {"text": "hi"})
    payload = WideEventEmitter.build_stage_payload(ctx=PipelineContext(topology="chat_fast"), result=result)
    print(payload["stage"], payload["status"], payload["data_keys"], payload["topology"])
    #> greet completed ['text'] chat_fast
    ```
    """

    __slots__ = ("pipeline_event_type", "stage_event_type")

    def __init__(
        self, stage_event_type: str = "stage.wide", pipeline_event_type: str = "pipeline.wide"
    ) -> None:
        self.stage_event_type = stage_event_type
        self.pipeline_event_type = pipeline_event_type

    def emit_stage_event(
        self, *, ctx: WideContext, result: StageOutcome, extra: Mapping[str, Any] | None = None
    ) -> None:
        """Emit everything about one stage."""
        _check_context("WideEventEmitter.emit_stage_event", ctx)
        payload = self.build_stage_payload(ctx=ctx, result=result, extra=extra)
        ctx.try_emit_event(self.stage_event_type, payload)

    def emit_pipeline_event(
        self,
        *,
        ctx: WideContext,
        stage_results: Mapping[str, SettledStage],
        pipeline_name: str | None = None,
        status: str | None = None,
        duration_ms: float | None = None,
        started_at: datetime | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Emit everything about one run; see ``build_pipeline_payload``."""
        _check_context("WideEventEmitter.emit_pipeline_event", ctx)
        payload = self.build_pipeline_payload(
            ctx=ctx,
            stage_results=stage_results,
            pipeline_name=pipeline_name,
            status=status,
            duration_ms=duration_ms,
            started_at=started_at,
            extra=extra,
        )
        ctx.try_emit_event(self.pipeline_event_type, payload)

    @staticmethod
    def build_stage_payload(
        *, ctx: object, result: StageOutcome, extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the payload about one stage.

        Args:
            ctx: A context of the run.
            result: How the stage ended.
            extra: More to say; under ``extra``, if there is any.
        """
        owner = "WideEventEmitter.build_stage_payload"
        if not hasattr(result, "ended_at"):
            raise wrong_type(owner, "result", "a StageResult", result)
        payload = _identity(ctx)
        payload |= {
            "stage": result.name,
            "status": _word(result),
            "started_at": result.started_at.isoformat(),
            "ended_at": result.ended_at.isoformat(),
            "duration_ms": result.duration_ms,
            "error": result.error,
            "data_keys": sorted(map(str, result.data)),
        }
        if extra is not None and (more := dict(require_mapping(owner, "extra", extra))):
            payload["extra"] = more
        return payload

    @staticmethod
    def build_pipeline_payload(
        *,
        ctx: object,
        stage_results: Mapping[str, SettledStage],
        pipeline_name: str | None = None,
        status: str | None = None,
        duration_ms: float | None = None,
        started_at: datetime | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the payload about one run.

        Args:
            ctx: A context of the run.
            stage_results: How its stages ended, by stage.
            pipeline_name: The pipeline; by default the topology, or ``"pipeline"``.
            status: How the run ended; by default ``"failed"`` if a stage failed, and else ``"completed"``.
            duration_ms: How long it took; by default since *started_at*, if that is given.
            started_at: When it began.
            extra: More to say; under ``extra``, if there is any.
        """
        owner = "WideEventEmitter.build_pipeline_payload"
        if started_at is not None:
            check_type(owner, "started_at", started_at, datetime, "a datetime or None")
        payload = _identity(ctx)
        counts: dict[str, int] = {}
        details: list[dict[str, Any]] = []
        for stage, result in require_mapping(owner, "stage_results", stage_results).items():
            if not hasattr(result, "duration_ms"):
                raise wrong_type(owner, "stage_results", "the result of each stage", result)
            word = _word(result)
            counts[word] = counts.get(word, 0) + 1
            details.append(
                {"stage": stage, "status": word, "duration_ms": result.duration_ms, "error": result.error}
            )
        if duration_ms is None and started_at is not None:
            since = started_at if started_at.tzinfo is not None else started_at.replace(tzinfo=UTC)
            duration_ms = (datetime.now(UTC) - since).total_seconds() * 1000
        payload |= {
            "pipeline_name": pipeline_name or payload["topology"] or _DEFAULT_NAME,
            "status": status or ("failed" if counts.get("failed") else "completed"),
            "started_at": None if started_at is None else started_at.isoformat(),
            "duration_ms": duration_ms,
            "stage_counts": counts,
            "stage_details": details,
        }
        if extra is not None and (more := dict(require_mapping(owner, "extra", extra))):
            payload["extra"] = more
        return payload


def _check_context(owner: str, ctx: object) -> None:
    if not callable(getattr(ctx, "try_emit_event", None)):
        raise wrong_type(owner, "ctx", "a context of the run", ctx)


def _identity(ctx: object) -> dict[str, Any]:
    """Return what a context says of its run, every key present."""
    snapshot = getattr(ctx, "snapshot", None)
    context = getattr(ctx, "pipeline_context", None)  # what a run was started with

    def read(name: str) -> Any:
        value = getattr(ctx, name, None)
        return getattr(snapshot, name, None) if value is None else value

    ids: dict[str, Any] = {name: None if (value := read(name)) is None else str(value) for name in _IDS}
    return {
        **ids,
        "topology": read("topology"),
        "execution_mode": read("execution_mode"),
        "service": read("service") or getattr(context, "service", None) or _DEFAULT_NAME,
    }


def _word(result: SettledStage) -> str:
    status = str(getattr(result.status, "value", result.status))
    return _WORDS.get(status, status)
