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
    from stageflow.context.identity import RunIdentity
    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.errors import PipelineCancelled, StageError, StageExecutionError, StageflowError
    from stageflow.events.sink import (
        FanOutEventSink,
        LoggingEventSink,
        NoOpEventSink,
        clear_event_sink,
        get_event_sink,
        set_event_sink,
    )
    from stageflow.interceptors.base import (
        BaseInterceptor,
        ErrorAction,
        InterceptorContext,
        InterceptorResult,
    )
    from stageflow.interceptors.defaults import get_default_interceptors
    from stageflow.interceptors.logging import LoggingInterceptor
    from stageflow.interceptors.timeout import TimeoutInterceptor
    from stageflow.pipeline.builder import Pipeline
    from stageflow.protocols import EventSink
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
    "BaseInterceptor",
    "CancellationToken",
    "ContextSnapshot",
    "ErrorAction",
    "EventSink",
    "FailureMode",
    "FanOutEventSink",
    "InterceptorContext",
    "InterceptorResult",
    "LoggingEventSink",
    "LoggingInterceptor",
    "NoOpEventSink",
    "Pipeline",
    "PipelineCancelled",
    "PipelineContext",
    "PipelineResults",
    "PipelineTimer",
    "RetryPolicy",
    "RunIdentity",
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
    "UnifiedStageSpec",
    "clear_event_sink",
    "create_stage_context",
    "create_stage_inputs",
    "extract_service",
    "get_default_interceptors",
    "get_event_sink",
    "set_event_sink",
    "stage",
    "use",
]

if not TYPE_CHECKING:
    _find, __dir__ = lazy_exports(
        __name__,
        {
            "app": ("Stageflow",),
            "context.identity": ("RunIdentity",),
            "context.snapshot": ("ContextSnapshot",),
            "errors": ("PipelineCancelled", "StageError", "StageExecutionError", "StageflowError"),
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
            "protocols": ("EventSink",),
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
