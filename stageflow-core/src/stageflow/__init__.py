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

if TYPE_CHECKING:
    from stageflow.context.identity import RunIdentity
    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.errors import PipelineCancelled, StageError, StageExecutionError, StageflowError
    from stageflow.events.sink import (
        LoggingEventSink,
        NoOpEventSink,
        clear_event_sink,
        get_event_sink,
        set_event_sink,
    )
    from stageflow.interceptors.base import BaseInterceptor, ErrorAction, InterceptorContext, InterceptorResult
    from stageflow.interceptors.defaults import get_default_interceptors
    from stageflow.interceptors.logging import LoggingInterceptor
    from stageflow.interceptors.timeout import TimeoutInterceptor
    from stageflow.pipeline.builder import Pipeline
    from stageflow.protocols import EventSink
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.failure import FailureMode
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.results import PipelineResults
    from stageflow.stages.context import PipelineContext, StageContext, create_stage_context, extract_service
    from stageflow.stages.inputs import StageInputs, create_stage_inputs
    from stageflow.stages.output import StageArtifact, StageEvent, StageOutput
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

_HOMES = {
    "context.identity": ("RunIdentity",),
    "context.snapshot": ("ContextSnapshot",),
    "errors": ("PipelineCancelled", "StageError", "StageExecutionError", "StageflowError"),
    "events.sink": ("LoggingEventSink", "NoOpEventSink", "clear_event_sink", "get_event_sink", "set_event_sink"),
    "interceptors.base": ("BaseInterceptor", "ErrorAction", "InterceptorContext", "InterceptorResult"),
    "interceptors.defaults": ("get_default_interceptors",),
    "interceptors.logging": ("LoggingInterceptor",),
    "interceptors.timeout": ("TimeoutInterceptor",),
    "pipeline.builder": ("Pipeline",),
    "protocols": ("EventSink",),
    "runtime.cancellation": ("CancellationToken",),
    "runtime.failure": ("FailureMode",),
    "runtime.graph": ("StageGraph",),
    "runtime.results": ("PipelineResults",),
    "stages.context": ("PipelineContext", "StageContext", "create_stage_context", "extract_service"),
    "stages.inputs": ("StageInputs", "create_stage_inputs"),
    "stages.output": ("StageArtifact", "StageEvent", "StageOutput"),
    "stages.result": ("StageResult",),
    "stages.retry": ("RetryPolicy",),
    "stages.spec": ("StageSpec",),
    "stages.stage": ("Stage", "StageKind", "StageStatus"),
    "stages.timer": ("PipelineTimer",),
    "stages.typed": ("StageDef", "stage", "use"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names} | {"UnifiedStageSpec": "stages.spec"}


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - reading metadata is slow and rarely wanted

        return version("stageflow-core")
    home = _HOME_OF.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module  # noqa: PLC0415 - keeps ``import stageflow`` free of imports

    value = getattr(import_module(f"{__name__}.{home}"), "StageSpec" if name == "UnifiedStageSpec" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
