"""What is told of child runs: values that say what the payloads of the events are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import text_of
from stageflow.context.record import Record

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "ChildEvent",
    "PipelineCanceledEvent",
    "PipelineChildCompletedEvent",
    "PipelineChildFailedEvent",
    "PipelineSpawnedChildEvent",
]

_put = object.__setattr__


class ChildEvent(Record):
    """Something that is told of a child run. Read-only.

    Attributes:
        timestamp: When it was made, as ISO 8601 text in UTC.
    """

    __slots__ = ("timestamp",)
    timestamp: str

    def to_dict(self) -> dict[str, Any]:
        """Return the payload: every field, ids as text."""
        values = zip(self.__match_args__, self._values(), strict=True)
        return {name: value if isinstance(value, _PLAIN) else text_of(value) for name, value in values}

    def _stamp(self, timestamp: str | None) -> None:
        _put(self, "timestamp", datetime.now(UTC).isoformat() if timestamp is None else timestamp)


_PLAIN = (str, int, float, type(None))


@final
class PipelineSpawnedChildEvent(ChildEvent):
    """A run starts a child: the payload of ``pipeline.spawned_child``.

    Args:
        parent_run_id: The run.
        child_run_id: The child.
        parent_stage_id: The stage that starts it.
        pipeline_name: What the child runs.
        correlation_id: What ties it to others.
        timestamp: When; now by default.

    ```python
    from uuid import UUID

    from stageflow.pipeline.subpipeline import PipelineSpawnedChildEvent

    event = PipelineSpawnedChildEvent(UUID(int=1), UUID(int=2), "plan", "search", None, timestamp="2026-01-01T00:00:00")
    print(event.to_dict()["child_run_id"], event.pipeline_name)
    #> 00000000-0000-0000-0000-000000000002 search
    ```
    """

    __slots__ = ("child_run_id", "correlation_id", "parent_run_id", "parent_stage_id", "pipeline_name")
    __match_args__ = (
        "parent_run_id",
        "child_run_id",
        "parent_stage_id",
        "pipeline_name",
        "correlation_id",
        "timestamp",
    )
    parent_run_id: UUID | None
    child_run_id: UUID
    parent_stage_id: str
    pipeline_name: str
    correlation_id: UUID | None

    def __init__(
        self,
        parent_run_id: UUID | None,
        child_run_id: UUID,
        parent_stage_id: str,
        pipeline_name: str,
        correlation_id: UUID | None,
        timestamp: str | None = None,
    ) -> None:
        _put(self, "parent_run_id", parent_run_id)
        _put(self, "child_run_id", child_run_id)
        _put(self, "parent_stage_id", parent_stage_id)
        _put(self, "pipeline_name", pipeline_name)
        _put(self, "correlation_id", correlation_id)
        self._stamp(timestamp)


@final
class PipelineChildCompletedEvent(ChildEvent):
    """A child has ended well: the payload of ``pipeline.child_completed``.

    Args:
        parent_run_id: The run that started it.
        child_run_id: The child.
        pipeline_name: What it ran.
        duration_ms: How long it took, in milliseconds.
        timestamp: When; now by default.

    ```python
    from uuid import UUID

    from stageflow.pipeline.subpipeline import PipelineChildCompletedEvent

    event = PipelineChildCompletedEvent(None, UUID(int=2), "search", 1.5)
    print(event.to_dict()["duration_ms"], event.parent_run_id)
    #> 1.5 None
    ```
    """

    __slots__ = ("child_run_id", "duration_ms", "parent_run_id", "pipeline_name")
    __match_args__ = ("parent_run_id", "child_run_id", "pipeline_name", "duration_ms", "timestamp")
    parent_run_id: UUID | None
    child_run_id: UUID
    pipeline_name: str
    duration_ms: float

    def __init__(
        self,
        parent_run_id: UUID | None,
        child_run_id: UUID,
        pipeline_name: str,
        duration_ms: float,
        timestamp: str | None = None,
    ) -> None:
        _put(self, "parent_run_id", parent_run_id)
        _put(self, "child_run_id", child_run_id)
        _put(self, "pipeline_name", pipeline_name)
        _put(self, "duration_ms", duration_ms)
        self._stamp(timestamp)


@final
class PipelineChildFailedEvent(ChildEvent):
    """A child has failed or was cancelled: the payload of ``pipeline.child_failed``.

    Args:
        parent_run_id: The run that started it.
        child_run_id: The child.
        pipeline_name: What it ran.
        duration_ms: How long it took, in milliseconds.
        error_message: What went wrong.
        timestamp: When; now by default.
        error_code: The code of the error, if it has one.

    ```python
    from uuid import UUID

    from stageflow.pipeline.subpipeline import PipelineChildFailedEvent

    event = PipelineChildFailedEvent(None, UUID(int=2), "search", 1.5, "no such index")
    print(event.to_dict()["error_message"], event.error_code)
    #> no such index None
    ```
    """

    __slots__ = (
        "child_run_id",
        "duration_ms",
        "error_code",
        "error_message",
        "parent_run_id",
        "pipeline_name",
    )
    __match_args__ = (
        "parent_run_id",
        "child_run_id",
        "pipeline_name",
        "duration_ms",
        "error_message",
        "timestamp",
        "error_code",
    )
    parent_run_id: UUID | None
    child_run_id: UUID
    pipeline_name: str
    duration_ms: float
    error_message: str
    error_code: str | None

    def __init__(
        self,
        parent_run_id: UUID | None,
        child_run_id: UUID,
        pipeline_name: str,
        duration_ms: float,
        error_message: str,
        timestamp: str | None = None,
        error_code: str | None = None,
    ) -> None:
        _put(self, "parent_run_id", parent_run_id)
        _put(self, "child_run_id", child_run_id)
        _put(self, "pipeline_name", pipeline_name)
        _put(self, "duration_ms", duration_ms)
        _put(self, "error_message", error_message)
        _put(self, "error_code", error_code)
        self._stamp(timestamp)


@final
class PipelineCanceledEvent(ChildEvent):
    """A run was asked to stop by ``cancel_with_children``: the payload of ``pipeline.canceled``.

    Args:
        pipeline_run_id: The run.
        parent_run_id: The run above it, or None for the one that was asked for.
        reason: Why.
        cascade_depth: How far below the one that was asked for it is.
        timestamp: When; now by default.

    ```python
    from uuid import UUID

    from stageflow.pipeline.subpipeline import PipelineCanceledEvent

    print(PipelineCanceledEvent(UUID(int=2), UUID(int=1), "the user left", 1).to_dict()["reason"])
    #> the user left
    ```
    """

    __slots__ = ("cascade_depth", "parent_run_id", "pipeline_run_id", "reason")
    __match_args__ = ("pipeline_run_id", "parent_run_id", "reason", "cascade_depth", "timestamp")
    pipeline_run_id: UUID
    parent_run_id: UUID | None
    reason: str
    cascade_depth: int

    def __init__(
        self,
        pipeline_run_id: UUID,
        parent_run_id: UUID | None,
        reason: str,
        cascade_depth: int,
        timestamp: str | None = None,
    ) -> None:
        _put(self, "pipeline_run_id", pipeline_run_id)
        _put(self, "parent_run_id", parent_run_id)
        _put(self, "reason", reason)
        _put(self, "cascade_depth", cascade_depth)
        self._stamp(timestamp)
