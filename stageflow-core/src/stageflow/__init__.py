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
    from stageflow.context.frozen import thaw
    from stageflow.context.identity import RunIdentity
    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.errors import (
        CircuitBreakerOpenError,
        PipelineCancelled,
        StageError,
        StageExecutionError,
        StageflowError,
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
    from stageflow.observability.error_summary import summarize_pipeline_error
    from stageflow.pipeline.builder import Pipeline
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
    from stageflow.runtime.results import PipelineResults
    from stageflow.stages.context import StageContext, create_stage_context
    from stageflow.stages.inputs import StageInputs, create_stage_inputs
    from stageflow.stages.output import StageArtifact, StageEvent, StageOutput
    from stageflow.stages.pipeline_context import PipelineContext, extract_service
    from stageflow.stages.result import StageResult
    from stageflow.stages.retry import RetryPolicy
    from stageflow.stages.spec import StageSpec
    from stageflow.stages.spec import StageSpec as UnifiedStageSpec
    from stageflow.stages.stage import Stage, StageKind, StageStatus
    from stageflow.stages.timer import PipelineTimer
    from stageflow.stages.typed import StageDef, stage, use

__all__ = [
    "BackpressureAwareEventSink",
    "BaseInterceptor",
    "CancellationToken",
    "ChildTrackerMetricsInterceptor",
    "CircuitBreaker",
    "CircuitBreakerInterceptor",
    "CircuitBreakerOpenError",
    "ConfigProvider",
    "ContextSnapshot",
    "CorrelationIds",
    "ErrorAction",
    "EventSink",
    "ExtensionHelper",
    "ExtensionRegistry",
    "FailureMode",
    "FanOutEventSink",
    "IdempotencyInterceptor",
    "InterceptorContext",
    "InterceptorResult",
    "LoggingEventSink",
    "LoggingInterceptor",
    "MetricsInterceptor",
    "NoOpEventSink",
    "Pipeline",
    "PipelineCancelled",
    "PipelineContext",
    "PipelineResults",
    "PipelineRunLogger",
    "PipelineTimer",
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
    "StageResult",
    "StageSpec",
    "StageStatus",
    "Stageflow",
    "StageflowError",
    "TimeoutInterceptor",
    "TracingInterceptor",
    "TypedExtension",
    "UnifiedStageSpec",
    "clear_event_sink",
    "create_stage_context",
    "create_stage_inputs",
    "extract_service",
    "get_circuit_breaker",
    "get_default_interceptors",
    "get_event_sink",
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
            "context.frozen": ("thaw",),
            "events.backpressure": ("BackpressureAwareEventSink",),
            "extensions": ("ExtensionHelper", "ExtensionRegistry", "TypedExtension"),
            "observability.error_summary": ("summarize_pipeline_error",),
            "observability.correlation": ("CorrelationIds",),
            "observability.breaker": ("get_circuit_breaker",),
            "interceptors.idempotency": ("IdempotencyInterceptor",),
            "interceptors.retry": ("RetryInterceptor",),
            "interceptors.tracing": ("TracingInterceptor",),
            "interceptors.metrics": ("ChildTrackerMetricsInterceptor", "MetricsInterceptor"),
            "interceptors.circuit_breaker": ("CircuitBreakerInterceptor",),
            "app": ("Stageflow",),
            "context.identity": ("RunIdentity",),
            "context.snapshot": ("ContextSnapshot",),
            "errors": (
                "CircuitBreakerOpenError",
                "PipelineCancelled",
                "StageError",
                "StageExecutionError",
                "StageflowError",
            ),
            "events.sink": (
                "FanOutEventSink",
                "LoggingEventSink",
                "NoOpEventSink",
                "clear_event_sink",
                "get_event_sink",
                "set_event_sink",
            ),
            "interceptors.base": (
                "BaseInterceptor",
                "ErrorAction",
                "InterceptorContext",
                "InterceptorResult",
            ),
            "interceptors.defaults": ("get_default_interceptors",),
            "interceptors.logging": ("LoggingInterceptor",),
            "interceptors.timeout": ("TimeoutInterceptor",),
            "pipeline.builder": ("Pipeline",),
            "protocols": (
                "CircuitBreaker",
                "ConfigProvider",
                "PipelineRunLogger",
                "ProviderCallLogger",
                "RunStore",
                "EventSink",
            ),
            "runtime.cancellation": ("CancellationToken",),
            "runtime.failure": ("FailureMode",),
            "runtime.graph": ("StageGraph",),
            "runtime.results": ("PipelineResults",),
            "stages.context": ("StageContext", "create_stage_context"),
            "stages.pipeline_context": ("PipelineContext", "extract_service"),
            "stages.inputs": ("StageInputs", "create_stage_inputs"),
            "stages.output": ("StageArtifact", "StageEvent", "StageOutput"),
            "stages.result": ("StageResult",),
            "stages.retry": ("RetryPolicy",),
            "stages.spec": ("StageSpec",),
            "stages.stage": ("Stage", "StageKind", "StageStatus"),
            "stages.timer": ("PipelineTimer",),
            "stages.typed": ("StageDef", "stage", "use"),
        },
        UnifiedStageSpec="StageSpec",
    )

    def __getattr__(name: str) -> object:
        """Look up a public name, or the version, which is read from the installed metadata."""
        if name == "__version__":
            from importlib.metadata import version

            return version("stageflow-core")
        return _find(name)
