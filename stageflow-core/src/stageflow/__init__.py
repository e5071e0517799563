"""Stageflow: observable, composable, async DAG pipelines of stages.

```python
import asyncio

from stageflow import Pipeline, StageContext, stage, use


@stage
async def greet(ctx: StageContext) -> str:
    return f"Hello, {ctx.input_text}"


@stage
async def shout(greeting: str = use(greet)) -> str:
    return greeting.upper()


results = asyncio.run(Pipeline.from_stages(greet, shout).run(input_text="Ada"))
print(results.value(shout))
#> HELLO, ADA
```

Names are imported when they are first used: ``import stageflow`` alone costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.app import Stageflow
    from stageflow.context.bags import ContextBag, OutputBag
    from stageflow.context.conversation import Conversation, Message
    from stageflow.context.frozen import thaw
    from stageflow.context.identity import RunIdentity
    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.errors import (
        CircuitBreakerOpenError,
        CycleDetectedError,
        PipelineCancelled,
        PipelineValidationError,
        StageError,
        StageExecutionError,
        StageflowError,
        UndeclaredDependencyError,
    )
    from stageflow.events.backpressure import BackpressureAwareEventSink
    from stageflow.events.sink import (
        FanOutEventSink,
        LoggingEventSink,
        NoOpEventSink,
        clear_event_sink,
        get_event_sink,
        set_event_sink,
    )
    from stageflow.events.wide import WideEventEmitter
    from stageflow.extensions import ExtensionHelper, ExtensionRegistry, TypedExtension
    from stageflow.interceptors.base import (
        BaseInterceptor,
        ErrorAction,
        InterceptorContext,
        InterceptorResult,
    )
    from stageflow.interceptors.circuit_breaker import CircuitBreakerInterceptor
    from stageflow.interceptors.defaults import get_default_interceptors
    from stageflow.interceptors.idempotency import IdempotencyInterceptor
    from stageflow.interceptors.logging import LoggingInterceptor
    from stageflow.interceptors.metrics import ChildTrackerMetricsInterceptor, MetricsInterceptor
    from stageflow.interceptors.retry import RetryInterceptor
    from stageflow.interceptors.timeout import TimeoutInterceptor
    from stageflow.interceptors.tracing import TracingInterceptor
    from stageflow.observability.breaker import get_circuit_breaker
    from stageflow.observability.correlation import CorrelationIds
    from stageflow.observability.error_summary import (
        error_summary_to_stages_patch,
        error_summary_to_string,
        summarize_pipeline_error,
    )
    from stageflow.pipeline.builder import Pipeline
    from stageflow.pipeline.builders import PipelineBuilder
    from stageflow.pipeline.child_errors import MaxDepthExceededError
    from stageflow.pipeline.child_result import SubpipelineResult
    from stageflow.pipeline.child_tracker import ChildRunTracker, get_child_tracker
    from stageflow.pipeline.lint import (
        DependencyIssue,
        DependencyLintResult,
        IssueSeverity,
        lint_pipeline,
        lint_pipeline_file,
    )
    from stageflow.pipeline.registry import PipelineRegistry, pipeline_registry
    from stageflow.pipeline.subpipeline import SubpipelineSpawner, get_subpipeline_spawner
    from stageflow.protocols import (
        CircuitBreaker,
        ConfigProvider,
        EventSink,
        PipelineRunLogger,
        ProviderCallLogger,
        RunStore,
    )
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.failure import FailureMode
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.one_stage import run_with_interceptors
    from stageflow.runtime.results import PipelineResults
    from stageflow.stages.context import StageContext, create_stage_context
    from stageflow.stages.effect import Effect
    from stageflow.stages.inputs import StageInputs, create_stage_inputs
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
    from stageflow.stages.result import StageResult
    from stageflow.stages.retry import RetryPolicy
    from stageflow.stages.spec import StageSpec
    from stageflow.stages.spec import StageSpec as UnifiedStageSpec
    from stageflow.stages.stage import Stage, StageKind, StageStatus
    from stageflow.stages.timer import PipelineTimer
    from stageflow.stages.typed import StageDef, stage, use
    from stageflow.testing.factories import (
        create_test_context,
        create_test_pipeline_context,
        create_test_snapshot,
        create_test_stage_context,
    )

__all__ = [
    "AudioPorts",
    "BackpressureAwareEventSink",
    "BaseInterceptor",
    "CancellationToken",
    "ChildRunTracker",
    "ChildTrackerMetricsInterceptor",
    "CircuitBreaker",
    "CircuitBreakerInterceptor",
    "CircuitBreakerOpenError",
    "ConfigProvider",
    "ContextBag",
    "ContextSnapshot",
    "Conversation",
    "CorePorts",
    "CorrelationIds",
    "CycleDetectedError",
    "DependencyIssue",
    "DependencyLintResult",
    "Effect",
    "ErrorAction",
    "EventSink",
    "ExtensionHelper",
    "ExtensionRegistry",
    "FailureMode",
    "FanOutEventSink",
    "IdempotencyInterceptor",
    "InterceptorContext",
    "InterceptorResult",
    "IssueSeverity",
    "LLMPorts",
    "LoggingEventSink",
    "LoggingInterceptor",
    "MaxDepthExceededError",
    "Message",
    "MetricsInterceptor",
    "NoOpEventSink",
    "OutputBag",
    "Pipeline",
    "PipelineBuilder",
    "PipelineCancelled",
    "PipelineContext",
    "PipelineRegistry",
    "PipelineResults",
    "PipelineRunLogger",
    "PipelineTimer",
    "PipelineValidationError",
    "ProviderCallLogger",
    "RetryInterceptor",
    "RetryPolicy",
    "RunIdentity",
    "RunStore",
    "Stage",
    "StageArtifact",
    "StageContext",
    "StageDef",
    "StageError",
    "StageEvent",
    "StageExecutionError",
    "StageGraph",
    "StageInputs",
    "StageKind",
    "StageOutput",
    "StagePorts",
    "StageResult",
    "StageSpec",
    "StageStatus",
    "Stageflow",
    "StageflowError",
    "SubpipelineResult",
    "SubpipelineSpawner",
    "TimeoutInterceptor",
    "TracingInterceptor",
    "TypedExtension",
    "UndeclaredDependencyError",
    "UnifiedStageSpec",
    "WideEventEmitter",
    "clear_event_sink",
    "create_audio_ports",
    "create_core_ports",
    "create_llm_ports",
    "create_stage_context",
    "create_stage_inputs",
    "create_stage_ports",
    "create_test_context",
    "create_test_pipeline_context",
    "create_test_snapshot",
    "create_test_stage_context",
    "error_summary_to_stages_patch",
    "error_summary_to_string",
    "extract_service",
    "get_child_tracker",
    "get_circuit_breaker",
    "get_default_interceptors",
    "get_event_sink",
    "get_subpipeline_spawner",
    "lint_pipeline",
    "lint_pipeline_file",
    "pipeline_registry",
    "run_with_interceptors",
    "set_event_sink",
    "stage",
    "summarize_pipeline_error",
    "thaw",
    "use",
]

if not TYPE_CHECKING:
    _find, __dir__ = lazy_exports(
        __name__,
        {
            "app": ("Stageflow",),
            "context.bags": ("ContextBag", "OutputBag"),
            "context.conversation": ("Conversation", "Message"),
            "context.frozen": ("thaw",),
            "context.identity": ("RunIdentity",),
            "context.snapshot": ("ContextSnapshot",),
            "errors": (
                "CircuitBreakerOpenError",
                "CycleDetectedError",
                "PipelineCancelled",
                "PipelineValidationError",
                "StageError",
                "StageExecutionError",
                "StageflowError",
                "UndeclaredDependencyError",
            ),
            "events.backpressure": ("BackpressureAwareEventSink",),
            "events.sink": (
                "FanOutEventSink",
                "LoggingEventSink",
                "NoOpEventSink",
                "clear_event_sink",
                "get_event_sink",
                "set_event_sink",
            ),
            "events.wide": ("WideEventEmitter",),
            "extensions": ("ExtensionHelper", "ExtensionRegistry", "TypedExtension"),
            "interceptors.base": (
                "BaseInterceptor",
                "ErrorAction",
                "InterceptorContext",
                "InterceptorResult",
            ),
            "interceptors.circuit_breaker": ("CircuitBreakerInterceptor",),
            "interceptors.defaults": ("get_default_interceptors",),
            "interceptors.idempotency": ("IdempotencyInterceptor",),
            "interceptors.logging": ("LoggingInterceptor",),
            "interceptors.metrics": ("ChildTrackerMetricsInterceptor", "MetricsInterceptor"),
            "interceptors.retry": ("RetryInterceptor",),
            "interceptors.timeout": ("TimeoutInterceptor",),
            "interceptors.tracing": ("TracingInterceptor",),
            "observability.breaker": ("get_circuit_breaker",),
            "observability.correlation": ("CorrelationIds",),
            "observability.error_summary": (
                "error_summary_to_stages_patch",
                "error_summary_to_string",
                "summarize_pipeline_error",
            ),
            "pipeline.builder": ("Pipeline",),
            "pipeline.builders": ("PipelineBuilder",),
            "pipeline.child_errors": ("MaxDepthExceededError",),
            "pipeline.child_result": ("SubpipelineResult",),
            "pipeline.child_tracker": ("ChildRunTracker", "get_child_tracker"),
            "pipeline.lint": (
                "DependencyIssue",
                "DependencyLintResult",
                "IssueSeverity",
                "lint_pipeline",
                "lint_pipeline_file",
            ),
            "pipeline.registry": ("PipelineRegistry", "pipeline_registry"),
            "pipeline.subpipeline": ("SubpipelineSpawner", "get_subpipeline_spawner"),
            "protocols": (
                "CircuitBreaker",
                "ConfigProvider",
                "EventSink",
                "PipelineRunLogger",
                "ProviderCallLogger",
                "RunStore",
            ),
            "runtime.cancellation": ("CancellationToken",),
            "runtime.failure": ("FailureMode",),
            "runtime.graph": ("StageGraph",),
            "runtime.one_stage": ("run_with_interceptors",),
            "runtime.results": ("PipelineResults",),
            "stages.context": ("StageContext", "create_stage_context"),
            "stages.effect": ("Effect",),
            "stages.inputs": ("StageInputs", "create_stage_inputs"),
            "stages.output": ("StageArtifact", "StageEvent", "StageOutput"),
            "stages.pipeline_context": ("PipelineContext", "extract_service"),
            "stages.ports": (
                "AudioPorts",
                "CorePorts",
                "LLMPorts",
                "StagePorts",
                "create_audio_ports",
                "create_core_ports",
                "create_llm_ports",
                "create_stage_ports",
            ),
            "stages.result": ("StageResult",),
            "stages.retry": ("RetryPolicy",),
            "stages.spec": ("StageSpec",),
            "stages.stage": ("Stage", "StageKind", "StageStatus"),
            "stages.timer": ("PipelineTimer",),
            "stages.typed": ("StageDef", "stage", "use"),
            "testing.factories": (
                "create_test_context",
                "create_test_pipeline_context",
                "create_test_snapshot",
                "create_test_stage_context",
            ),
        },
        UnifiedStageSpec="StageSpec",
    )

    def __getattr__(name: str) -> object:
        """Look up a public name, or the version, which is read from the installed metadata."""
        if name == "__version__":
            from importlib.metadata import version

            return version("stageflow-core")
        return _find(name)
