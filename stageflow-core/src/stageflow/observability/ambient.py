"""What interceptors put around a stage for whoever asks: its place in a trace, and a circuit breaker.

Apart from the modules of both, so that a stage in which nobody asks pays for neither.
"""

from __future__ import annotations

from contextvars import ContextVar
from threading import Lock
from time import time
from typing import TYPE_CHECKING, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from uuid import UUID

    from stageflow.observability.trace import TraceContext
    from stageflow.protocols import CircuitBreaker

__all__ = ["PendingSpan", "StepsOfRun", "current_trace", "lent_breaker", "put_back", "settle_step"]

T = TypeVar("T")


@final
class PendingSpan:
    """A step of a trace that nobody has asked for yet; it is made when somebody does, and then stays the same.

    Args:
        around: What it is a step of, if there was a trace when it began.
        run_id: The run that it belongs to.

    ```python
    from uuid import UUID

    from stageflow.observability import get_trace_id
    from stageflow.observability.ambient import PendingSpan, current_trace

    token = current_trace.set(PendingSpan(None, UUID(int=7)))
    print(get_trace_id())
    #> 00000000000000000000000000000007
    current_trace.reset(token)
    ```
    """

    __slots__ = ("_made", "around", "run_id", "started_at")

    def __init__(self, around: TraceContext | PendingSpan | None, run_id: UUID | None) -> None:
        self.around = around
        self.run_id = run_id
        self.started_at = time()
        self._made: TraceContext | None = None

    def made(self) -> TraceContext:
        """Return the step."""
        if self._made is None:
            from stageflow.observability.trace import make_span

            made = make_span(self)
            with _lock:  # threads of one stage must not see two different steps
                self._made = self._made or made
        return self._made


@final
class StepsOfRun:
    """Stands for the steps of all stages of a run in which nobody traces: a stage that asks makes its own.

    Args:
        around: Where the run was started.
        run_id: The run.
    """

    __slots__ = ("around", "run_id")

    def __init__(self, around: TraceContext | PendingSpan | None, run_id: UUID | None) -> None:
        self.around = around
        self.run_id = run_id

    def made(self) -> TraceContext:
        """Return a step, and keep it in the context variables of the stage that asks, which are its own."""
        span = PendingSpan(self.around, self.run_id)
        current_trace.set(span)
        return span.made()


def settle_step() -> None:
    """Make the step of the stage that is about to start a run, so that it stays the one around that run."""
    current = current_trace.get()
    if isinstance(current, StepsOfRun):
        current.made()


_lock = Lock()
current_trace: ContextVar[TraceContext | PendingSpan | StepsOfRun | None] = ContextVar(
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
