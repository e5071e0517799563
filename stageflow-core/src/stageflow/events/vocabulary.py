"""Every event type that the core emits, once.

The types of a stage carry its name (``stage.greet.completed``); consumers should read ``data["stage"]`` instead of
taking the type apart, since stage names may have dots.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLEANUP_FAILED",
    "EFFECT_GATE_CLOSED",
    "EFFECT_GATE_OPENED",
    "EFFECT_HELD",
    "EFFECT_RECEIPT",
    "GUARD_RETRY_ATTEMPT",
    "GUARD_RETRY_EXHAUSTED",
    "GUARD_RETRY_RECOVERED",
    "GUARD_RETRY_SCHEDULED",
    "PIPELINE_CANCELED",
    "PIPELINE_CANCELLED",
    "PIPELINE_CHILD_COMPLETED",
    "PIPELINE_CHILD_FAILED",
    "PIPELINE_COMPLETED",
    "PIPELINE_FAILED",
    "PIPELINE_SPAWNED_CHILD",
    "PIPELINE_STARTED",
    "RETRY_EXHAUSTED",
    "RETRY_REFUSED",
    "RETRY_SCHEDULED",
    "STAGE_CANCELLED",
    "STAGE_COMPLETED",
    "STAGE_FAILED",
    "STAGE_RETRYING",
    "STAGE_SKIPPED",
    "STAGE_STARTED",
    "STREAM_CHUNK",
    "STREAM_CLOSED",
    "STREAM_GAP",
    "stage_event",
]

PIPELINE_STARTED: Final = "pipeline.started"
PIPELINE_COMPLETED: Final = "pipeline.completed"
PIPELINE_FAILED: Final = "pipeline.failed"
PIPELINE_CANCELLED: Final = "pipeline.cancelled"

PIPELINE_SPAWNED_CHILD: Final = "pipeline.spawned_child"
PIPELINE_CHILD_COMPLETED: Final = "pipeline.child_completed"
PIPELINE_CHILD_FAILED: Final = "pipeline.child_failed"
PIPELINE_CANCELED: Final = "pipeline.canceled"
"""A run was asked to stop by ``cancel_with_children``; that it has stopped, ``PIPELINE_CANCELLED`` says."""

STAGE_STARTED: Final = "started"
STAGE_RETRYING: Final = "retrying"
STAGE_COMPLETED: Final = "completed"
STAGE_FAILED: Final = "failed"
STAGE_SKIPPED: Final = "skipped"
STAGE_CANCELLED: Final = "cancelled"

RETRY_SCHEDULED: Final = "stage.retry_scheduled"
RETRY_EXHAUSTED: Final = "stage.retry_exhausted"
RETRY_REFUSED: Final = "stage.retry_refused"

EFFECT_HELD: Final = "effect.held"
EFFECT_GATE_OPENED: Final = "effect.gate_opened"
EFFECT_GATE_CLOSED: Final = "effect.gate_closed"
EFFECT_RECEIPT: Final = "effect.receipt"

GUARD_RETRY_ATTEMPT: Final = "guard_retry.attempt"
GUARD_RETRY_SCHEDULED: Final = "guard_retry.scheduled"
GUARD_RETRY_EXHAUSTED: Final = "guard_retry.exhausted"
GUARD_RETRY_RECOVERED: Final = "guard_retry.recovered"

CLEANUP_FAILED: Final = "cleanup.failed"
STREAM_CHUNK: Final = "stream.chunk"
"""What a stage publishes. Only who reads ``pipeline.stream()`` gets it; sinks do not."""

STREAM_CLOSED: Final = "stream.closed"
STREAM_GAP: Final = "stream.gap"


def stage_event(stage: str, status: str) -> str:
    """Return the event type of a stage's step.

    ```python
    from stageflow.events.vocabulary import STAGE_STARTED, stage_event

    print(stage_event("greet", STAGE_STARTED))
    #> stage.greet.started
    ```
    """
    return f"stage.{stage}.{status}"
