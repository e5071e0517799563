"""What interceptors put around a stage for whoever asks: its place in a trace, and a circuit breaker.

Apart from the modules of both, so that a stage in which nobody asks pays for neither.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.observability.trace import TraceContext
    from stageflow.protocols import CircuitBreaker

__all__ = ["StepsOfRun", "Traced", "current_trace", "lent_breaker", "put_back", "settle_step"]

T = TypeVar("T")


class Traced(Protocol):
    """What a step needs to know of the run it belongs to."""

    @property
    def snapshot(self) -> ContextSnapshot:
        """What the run was started with."""
        ...


@final
class StepsOfRun:
    """Stands for the steps of all stages of a run: one is made for a stage when somebody in it asks.

    Two Tasks of a stage that ask before the stage itself does get two.

    Args:
        around: What the run was started in, if that was a trace.
        run: The run.

    ```python
    from types import SimpleNamespace
    from uuid import UUID

    from stageflow.observability import get_trace_id
    from stageflow.observability.ambient import StepsOfRun, current_trace

    run = SimpleNamespace(snapshot=SimpleNamespace(pipeline_run_id=UUID(int=7)))
    token = current_trace.set(StepsOfRun(None, run))
    print(get_trace_id())
    #> 00000000000000000000000000000007
    current_trace.reset(token)
    ```
    """

    __slots__ = ("around", "run")

    def __init__(self, around: TraceContext | None, run: Traced) -> None:
        self.around = around
        self.run = run

    def made(self) -> TraceContext:
        """Make a step, and keep it in the context variables of the stage that asks, which are its own."""
        from stageflow.observability.trace import make_step

        step = make_step(self)
        current_trace.set(step)
        return step


def settle_step() -> None:
    """Make the step of the stage that is about to start a run, so that it stays the one around that run."""
    current = current_trace.get()
    if isinstance(current, StepsOfRun):
        current.made()


current_trace: ContextVar[TraceContext | StepsOfRun | None] = ContextVar(
    "stageflow_trace_context", default=None
)
"""Where in a trace the code is that runs right now."""

lent_breaker: ContextVar[Callable[[], CircuitBreaker] | None] = ContextVar(
    "stageflow_lent_circuit_breaker", default=None
)
"""Gives the breaker of the graph that the code runs in."""


def put_back(variable: ContextVar[T], token: Token[T]) -> None:
    """Undo what was put around a stage.

    ```python
    from stageflow.observability import LocalCircuitBreaker, get_circuit_breaker
    from stageflow.observability.ambient import lent_breaker, put_back

    token = lent_breaker.set(LocalCircuitBreaker)
    print(type(get_circuit_breaker()).__name__)
    #> LocalCircuitBreaker
    put_back(lent_breaker, token)
    print(type(get_circuit_breaker()).__name__)
    #> NoOpCircuitBreaker
    ```
    """
    try:  # noqa: SIM105 - after every attempt, and suppress() costs more than the rest
        variable.reset(token)
    except ValueError:
        # A coroutine that is closed unfinished ends in somebody else's context, where nothing is to be undone.
        pass
