"""The names of 0.9's ``stageflow.pipeline.cancellation``."""

from stageflow.runtime.cancellation import CancellationToken, CleanupRegistry
from stageflow.runtime.task_group import StructuredTaskGroup, cleanup_on_cancel, run_with_cleanup

__all__ = [
    "CancellationToken",
    "CleanupRegistry",
    "StructuredTaskGroup",
    "cleanup_on_cancel",
    "run_with_cleanup",
]
