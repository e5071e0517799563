"""The names of 0.9's ``stageflow.pipeline.cancellation``."""

from stageflow.runtime.cancellation import CancellationToken, CleanupRegistry

__all__ = ["CancellationToken", "CleanupRegistry"]
