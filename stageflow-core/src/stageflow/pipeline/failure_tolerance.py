"""The names of 0.9's ``stageflow.pipeline.failure_tolerance``."""

from stageflow.pipeline.backpressure import BackpressureConfig, BackpressureMonitor
from stageflow.pipeline.conditions import ConditionalDependency
from stageflow.pipeline.failures import FailureCollector
from stageflow.runtime.failure import FailureMode

__all__ = [
    "BackpressureConfig",
    "BackpressureMonitor",
    "ConditionalDependency",
    "FailureCollector",
    "FailureMode",
]
