"""Gives every attempt of every stage its place in a distributed trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from stageflow.interceptors.base import BaseInterceptor
from stageflow.observability.trace import TraceContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stageflow.interceptors.base import InterceptorContext
    from stageflow.stages.output import StageOutput

__all__ = ["TracingInterceptor"]


@final
class TracingInterceptor(BaseInterceptor):
    """Makes a ``TraceContext`` with a span id of its own current inside every attempt of every stage.

    The run belongs to the trace that is current where it was started; without one, it starts a trace whose id is made
    from the run's. Interceptors further in find ``_tracing.span_name``, ``span_start``, ``trace_id``, ``span_id`` and
    ``parent_span_id`` in ``ctx.data``, each attempt its own.

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

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        """Run the attempt inside a step of the trace."""
        run_id = ctx.pipeline_run_id
        parent = TraceContext.capture()
        if parent.trace_id is None and run_id is not None:
            parent = TraceContext.of_run(run_id, parent)
        span = parent.child(pipeline_run_id=run_id)
        ctx.data.update(
            {
                "_tracing.span_name": stage_name,
                "_tracing.span_start": span.created_at,
                "_tracing.trace_id": span.trace_id,
                "_tracing.span_id": span.span_id,
                "_tracing.parent_span_id": span.parent_span_id,
            }
        )
        with span.activate():
            return await call()
