"""The names of 0.9's ``stageflow.core``."""

from stageflow.stages.context import StageContext, create_stage_context
from stageflow.stages.output import StageArtifact, StageEvent, StageOutput
from stageflow.stages.stage import Stage, StageKind, StageStatus
from stageflow.stages.timer import PipelineTimer

__all__ = [
    "PipelineTimer",
    "Stage",
    "StageArtifact",
    "StageContext",
    "StageEvent",
    "StageKind",
    "StageOutput",
    "StageStatus",
    "create_stage_context",
]
