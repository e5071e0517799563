"""What a stage author touches: stages, outputs, inputs and contexts."""

from stageflow.stages.context import PipelineContext, StageContext, create_stage_context, extract_service
from stageflow.stages.inputs import StageInputs, UndeclaredDependencyError, create_stage_inputs
from stageflow.stages.output import StageArtifact, StageEvent, StageOutput
from stageflow.stages.result import StageResult
from stageflow.stages.retry import RetryPolicy
from stageflow.stages.spec import StageSpec
from stageflow.stages.stage import Stage, StageKind, StageStatus
from stageflow.stages.timer import PipelineTimer

__all__ = [
    "PipelineContext",
    "PipelineTimer",
    "RetryPolicy",
    "Stage",
    "StageArtifact",
    "StageContext",
    "StageEvent",
    "StageInputs",
    "StageKind",
    "StageOutput",
    "StageResult",
    "StageSpec",
    "StageStatus",
    "UndeclaredDependencyError",
    "create_stage_context",
    "create_stage_inputs",
    "extract_service",
]
