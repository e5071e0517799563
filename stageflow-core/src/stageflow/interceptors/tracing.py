"""Gives every attempt of every stage its place in a distributed trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.interceptors.base import BaseInterceptor
from stageflow.observability.ambient import StepsOfRun, current_trace
from stageflow.stages.result import wall_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stageflow.observability.trace import TraceContext
    from stageflow.stages.context import RunScope, StageContext

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

    def attach(self, run: RunScope, outer: Sequence[BaseInterceptor]) -> bool:
        """Prepare the trace of the run: a step is made in the stage that asks for it."""
        around = current_trace.get()
        if isinstance(around, StepsOfRun):
            if around.run is run:
                return False  # asked before
            around = None
        current_trace.set(StepsOfRun(around, run))
        return False

    def facts(self, stage: StageContext, started_ns: int) -> Mapping[str, Any]:
        """Return the step of the attempt, which is made when one of its ids is looked at."""
        return _Facts(stage.stage_name, started_ns)


@final
class _Facts(Mapping[str, Any]):
    """What interceptors find about the step in ``ctx.data``; asking makes it."""

    __slots__ = ("_stage", "_started_ns", "_step")

    def __init__(self, stage: str, started_ns: int) -> None:
        self._stage = stage
        self._started_ns = started_ns
        self._step: TraceContext | None = None

    def __getitem__(self, key: str) -> Any:
        if key == "_tracing.span_name":
            return self._stage
        if key == "_tracing.span_start":
            return wall_time(self._started_ns)
        fact = _OF_THE_STEP[key]  # first: whoever asks for something else must not make the step
        if self._step is None:
            current = current_trace.get()
            self._step = current.made() if isinstance(current, StepsOfRun) else current
        return getattr(self._step, fact)

    def __contains__(self, key: object) -> bool:
        return key in _FACTS

    def __iter__(self) -> Iterator[str]:
        return iter(_FACTS)

    def __len__(self) -> int:
        return len(_FACTS)
