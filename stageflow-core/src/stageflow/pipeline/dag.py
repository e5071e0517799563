"""The names of 0.9's ``stageflow.pipeline.dag``."""

from stageflow.errors import PipelineCancelled as UnifiedPipelineCancelled
from stageflow.errors import StageError, StageExecutionError
from stageflow.errors import StageExecutionError as UnifiedStageExecutionError
from stageflow.runtime.graph import StageGraph
from stageflow.runtime.graph import StageGraph as UnifiedStageGraph
from stageflow.stages.spec import StageSpec
from stageflow.stages.spec import StageSpec as UnifiedStageSpec

__all__ = [
    "StageError",
    "StageExecutionError",
    "StageGraph",
    "StageSpec",
    "UnifiedPipelineCancelled",
    "UnifiedStageExecutionError",
    "UnifiedStageGraph",
    "UnifiedStageSpec",
]
