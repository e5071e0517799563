"""What a stage author touches: stages, outputs, inputs and contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.stages.context import StageContext, create_stage_context
    from stageflow.stages.inputs import StageInputs, UndeclaredDependencyError, create_stage_inputs
    from stageflow.stages.output import StageArtifact, StageEvent, StageOutput
    from stageflow.stages.pipeline_context import PipelineContext, extract_service
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

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "context": ("StageContext", "create_stage_context"),
            "pipeline_context": ("PipelineContext", "extract_service"),
            "inputs": ("StageInputs", "UndeclaredDependencyError", "create_stage_inputs"),
            "output": ("StageArtifact", "StageEvent", "StageOutput"),
            "result": ("StageResult",),
            "retry": ("RetryPolicy",),
            "spec": ("StageSpec",),
            "stage": ("Stage", "StageKind", "StageStatus"),
            "timer": ("PipelineTimer",),
        },
    )
