"""What a stage author touches: stages, outputs, inputs and contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.stages.chunking import chunk_spans, chunk_text
    from stageflow.stages.context import StageContext, create_stage_context
    from stageflow.stages.effect import Effect
    from stageflow.stages.experiment import ABRouter, ab_route
    from stageflow.stages.inputs import StageInputs, UndeclaredDependencyError, create_stage_inputs
    from stageflow.stages.output import StageArtifact, StageEvent, StageOutput
    from stageflow.stages.pipeline_context import PipelineContext, extract_service
    from stageflow.stages.ports import (
        AudioPorts,
        CorePorts,
        LLMPorts,
        StagePorts,
        create_audio_ports,
        create_core_ports,
        create_llm_ports,
        create_stage_ports,
    )
    from stageflow.stages.provider_call import ProviderCall
    from stageflow.stages.result import StageResult
    from stageflow.stages.retry import BackoffStrategy, JitterStrategy, RetryPolicy
    from stageflow.stages.spec import StageSpec
    from stageflow.stages.stage import Stage, StageKind, StageStatus
    from stageflow.stages.stream_edge import Overflow, StreamEdge, StreamGap, StreamRestart
    from stageflow.stages.timer import PipelineTimer
    from stageflow.stages.typed import StageDef, use

__all__ = [
    "ABRouter",
    "AudioPorts",
    "BackoffStrategy",
    "CorePorts",
    "Effect",
    "JitterStrategy",
    "LLMPorts",
    "Overflow",
    "PipelineContext",
    "PipelineTimer",
    "ProviderCall",
    "RetryPolicy",
    "Stage",
    "StageArtifact",
    "StageContext",
    "StageDef",
    "StageEvent",
    "StageInputs",
    "StageKind",
    "StageOutput",
    "StagePorts",
    "StageResult",
    "StageSpec",
    "StageStatus",
    "StreamEdge",
    "StreamGap",
    "StreamRestart",
    "UndeclaredDependencyError",
    "ab_route",
    "chunk_spans",
    "chunk_text",
    "create_audio_ports",
    "create_core_ports",
    "create_llm_ports",
    "create_stage_context",
    "create_stage_inputs",
    "create_stage_ports",
    "extract_service",
    "use",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "chunking": ("chunk_spans", "chunk_text"),
            "context": ("StageContext", "create_stage_context"),
            "effect": ("Effect",),
            "experiment": ("ABRouter", "ab_route"),
            "inputs": ("StageInputs", "UndeclaredDependencyError", "create_stage_inputs"),
            "output": ("StageArtifact", "StageEvent", "StageOutput"),
            "pipeline_context": ("PipelineContext", "extract_service"),
            "ports": (
                "AudioPorts",
                "CorePorts",
                "LLMPorts",
                "StagePorts",
                "create_audio_ports",
                "create_core_ports",
                "create_llm_ports",
                "create_stage_ports",
            ),
            "provider_call": ("ProviderCall",),
            "result": ("StageResult",),
            "retry": ("BackoffStrategy", "JitterStrategy", "RetryPolicy"),
            "spec": ("StageSpec",),
            "stage": ("Stage", "StageKind", "StageStatus"),
            "stream_edge": ("Overflow", "StreamEdge", "StreamGap", "StreamRestart"),
            "timer": ("PipelineTimer",),
            "typed": ("StageDef", "use"),
        },
    )
