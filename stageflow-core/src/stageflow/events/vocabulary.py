"""Every event type that the core emits, once.

The types of a stage carry its name (``stage.greet.completed``); consumers should read ``data["stage"]`` instead of
taking the type apart, since stage names may have dots.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLEANUP_FAILED",
    "GUARD_RETRY_ATTEMPT",
    "GUARD_RETRY_EXHAUSTED",
    "GUARD_RETRY_RECOVERED",
    "GUARD_RETRY_SCHEDULED",
    "PIPELINE_CANCELLED",
    "PIPELINE_COMPLETED",
    "PIPELINE_FAILED",
    "PIPELINE_STARTED",
    "STAGE_CANCELLED",
    "STAGE_COMPLETED",
    "STAGE_FAILED",
    "STAGE_RETRYING",
    "STAGE_SKIPPED",
    "STAGE_STARTED",
    "STREAM_GAP",
    "stage_event",
]

PIPELINE_STARTED: Final = "pipeline.started"
PIPELINE_COMPLETED: Final = "pipeline.completed"
PIPELINE_FAILED: Final = "pipeline.failed"
PIPELINE_CANCELLED: Final = "pipeline.cancelled"

STAGE_STARTED: Final = "started"
STAGE_RETRYING: Final = "retrying"
STAGE_COMPLETED: Final = "completed"
STAGE_FAILED: Final = "failed"
STAGE_SKIPPED: Final = "skipped"
STAGE_CANCELLED: Final = "cancelled"

GUARD_RETRY_ATTEMPT: Final = "guard_retry.attempt"
GUARD_RETRY_SCHEDULED: Final = "guard_retry.scheduled"
GUARD_RETRY_EXHAUSTED: Final = "guard_retry.exhausted"
GUARD_RETRY_RECOVERED: Final = "guard_retry.recovered"

CLEANUP_FAILED: Final = "cleanup.failed"
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
