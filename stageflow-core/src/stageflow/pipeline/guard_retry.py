"""The names of 0.9's ``stageflow.pipeline.guard_retry``."""

from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy

__all__ = ["GuardRetryPolicy", "GuardRetryStrategy"]
