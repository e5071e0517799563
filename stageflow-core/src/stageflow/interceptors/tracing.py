"""Gives every attempt of every stage its place in a distributed trace."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast, final

from stageflow.interceptors.base import BaseInterceptor
from stageflow.observability.ambient import PendingSpan, StepsOfRun, current_trace, put_back

if TYPE_CHECKING:
    from collections import ChainMap
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from stageflow.interceptors.base import InterceptorContext
    from stageflow.stages.context import RunScope
    from stageflow.stages.output import StageOutput

__all__ = ["TracingInterceptor"]

_OF_THE_STEP: Final = {f"_tracing.{name}": name for name in ("trace_id", "span_id", "parent_span_id")}
_FACTS: Final = ("_tracing.span_name", "_tracing.span_start", *_OF_THE_STEP)


@final
class TracingInterceptor(BaseInterceptor):
    """Makes a ``TraceContext`` with a span id of its own current inside every attempt of every stage.

    The run belongs to the trace that is current where it was started; without one, it starts a trace whose id is made
    from the run's. Interceptors further in find ``_tracing.span_name``, ``span_start``, ``trace_id``, ``span_id`` and
    ``parent_span_id`` in ``ctx.data``, each attempt its own.

    The context is made when somebody asks for it: where nobody traces, an attempt pays for next to nothing.

    ```python
    import asyncio

    from stageflow import Pipeline, stage
    from stageflow.interceptors.tracing import TracingInterceptor
    from stageflow.observability import get_trace_id


    @stage
    async def where() -> str:
        return get_trace_id()


    graph = Pipeline.from_stages(where).build(interceptors=[TracingInterceptor()])
    results = asyncio.run(graph.run())
    print(results.value(where) == results.run_id.hex)
    #> True
    ```
    """

    name = "tracing"
    priority = 20

    def attach(
        self, run: RunScope, inner: Sequence[BaseInterceptor], outer: Sequence[BaseInterceptor]
    ) -> bool:
        """Take part where somebody further in may ask; elsewhere a step is made in the stage that asks."""
        if inner:
            return True
        around = current_trace.get()
        if isinstance(around, StepsOfRun):
            if around.run_id == run.snapshot.pipeline_run_id:
                return False  # asked before
            around = None
        current_trace.set(StepsOfRun(around, run.snapshot.pipeline_run_id))
        return False

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        """Run the attempt inside a step of the trace."""
        around = current_trace.get()
        if isinstance(around, StepsOfRun):
            around = around.around
        span = PendingSpan(around, ctx.pipeline_run_id)
        # Below what interceptors write, above what the caller gave.
        cast("ChainMap[str, Any]", ctx.data).maps.insert(1, cast("dict[str, Any]", _Facts(stage_name, span)))
        token = current_trace.set(span)
        try:
            return await call()
        finally:
            put_back(current_trace, token)


@final
class _Facts(Mapping[str, Any]):
    """What interceptors find about the step in ``ctx.data``; asking makes it."""

    __slots__ = ("_span", "_stage")

    def __init__(self, stage: str, span: PendingSpan) -> None:
        self._stage = stage
        self._span = span

    def __getitem__(self, key: str) -> Any:
        if key == "_tracing.span_name":
            return self._stage
        if key == "_tracing.span_start":
            return datetime.fromtimestamp(self._span.started_at, UTC)
        fact = _OF_THE_STEP[key]  # first: whoever asks for something else must not make the step
        return getattr(self._span.made(), fact)

    def __contains__(self, key: object) -> bool:
        return key in _FACTS

    def __iter__(self) -> Iterator[str]:
        return iter(_FACTS)

    def __len__(self) -> int:
        return len(_FACTS)
