"""The scheduler: drives the ready stages of one run on as few Tasks as will do.

```
            ready ──────────────► lane ──(the stage suspends)──► event loop
              ▲                    │ ▲                              │
              │                    │ └────────(it resumes)──────────┘
       dependants that            ends
       have become ready           │
              └──── Outcomes.leave ◄┘
```

A *lane* is a Task that takes stages off the ready queue and steps each one's coroutine by hand. While stages do not
suspend, one lane does them all. When one suspends, its lane stays with it until it ends, and before giving way to
the event loop it starts other lanes for what is still ready: at most two, which double again if their stages suspend
too. So the Task that begins a stage is the Task that ends it: ``asyncio.current_task()``, ``asyncio.timeout`` and
``Task.cancel`` mean what they always mean.

Invariants:

1. A stage runs in its own copy of the run's context variables, on every step.
2. A lane that asked its stage to stop, or was asked itself, takes no further stage: the request could still be pending.
3. ``idle`` becomes true only when no lane is left and no stage waits for another attempt or for a place.
4. While a stage is ready, a lane is on its way to it: whoever leaves the queue behind sees to that.
5. After ``stop``, no stage starts, and every suspended one has been asked to stop.
6. Inline stages never keep the event loop for more than ``TURN_NS`` plus one stage.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto
from time import monotonic_ns
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextvars import Context

    from stageflow.runtime.compilation import CompiledStage
    from stageflow.runtime.deadlines import Deadlines
    from stageflow.runtime.outcomes import Outcomes

__all__ = ["Attempt", "Interruption", "Scheduler"]


class Interruption(Enum):
    """Why a stage was asked to stop."""

    STOPPED = auto()
    TIMED_OUT = auto()


@final
class Attempt:
    """An attempt that has suspended; one that never does needs no more than its context.

    Attributes:
        stage: The stage.
        timeout: Its limit, in seconds.
        started_ns: When it began, on the monotonic clock.
        task: The Task that drives it.
        interrupted: Why it was asked to stop, if it was.
    """

    __slots__ = ("interrupted", "stage", "started_ns", "task", "timeout")

    def __init__(
        self, stage: CompiledStage, started_ns: int, timeout: float | None, task: asyncio.Task[None]
    ) -> None:
        self.stage = stage
        self.started_ns = started_ns
        self.timeout = timeout
        self.task = task
        self.interrupted: Interruption | None = None


TURN_NS: Final = 1_000_000
_LANES_AT_ONCE: Final = 2


@final
class Scheduler:
    """Drives one run; see the module for how.

    Args:
        outcomes: Says what an attempt is and what its end means.
        context: The context variables that every stage gets a copy of.
    """

    __slots__ = (
        "_backoffs",
        "_deadlines",
        "_lanes",
        "_loop",
        "_outcomes",
        "_parked",
        "_starting",
        "_suspended",
        "_waiter",
        "context",
        "ready",
        "stopping",
    )

    def __init__(self, outcomes: Outcomes, context: Context) -> None:
        self._outcomes = outcomes
        self.context = context
        self._loop = asyncio.get_running_loop()
        self._lanes: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[None]] = set()  # lanes that have been created and not begun
        self._suspended: dict[Attempt, None] = {}  # in the order of suspension
        self._backoffs: dict[int, asyncio.TimerHandle] = {}
        self._parked: set[int] = set()  # stages that wait for a place under a limit
        self._deadlines: Deadlines[Attempt] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.ready: deque[int] = deque()
        self.stopping = False

    @property
    def idle(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self._lanes and not self._backoffs and not self._parked

    async def wait(self) -> None:
        """Wait until idle. May be cancelled, and called again after that."""
        while not self.idle:
            self._waiter = self._loop.create_future()
            await self._waiter

    def grow(self) -> None:
        """Open lanes for ready stages that no lane is on its way to."""
        missing = len(self.ready) - len(self._starting)
        for _ in range(min(missing, _LANES_AT_ONCE)):
            # Created inside the run's context, so that what a lane does between stages sees nothing of theirs.
            task = self.context.run(self._loop.create_task, self._lane())
            self._lanes.add(task)
            self._starting.add(task)
            task.add_done_callback(self._lane_ended)

    def stop(self) -> None:
        """Start nothing more, and ask everything that is suspended to stop."""
        if self.stopping:
            return
        self.stopping = True
        self.ready.clear()
        self._parked.clear()
        self.close()
        for attempt in tuple(self._suspended):
            self._interrupt(attempt, Interruption.STOPPED)
        self._wake()

    def close(self) -> None:
        """Disarm every timer."""
        for timer in self._backoffs.values():
            timer.cancel()
        self._backoffs.clear()
        if self._deadlines is not None:
            self._deadlines.close()

    def again(self, number: int, delay: float) -> None:
        """Make a stage ready again after *delay* seconds; it holds no lane meanwhile."""
        if not self.stopping:
            self._backoffs[number] = self._loop.call_later(delay, self._backed_off, number)

    def _backed_off(self, number: int) -> None:
        del self._backoffs[number]
        self.ready.append(number)
        self.grow()

    def park(self, number: int) -> None:
        """Keep the run going for a stage that waits for a place under a limit; it holds no lane meanwhile."""
        if not self.stopping:
            self._parked.add(number)

    def unpark(self, number: int) -> None:
        """Make a parked stage ready again."""
        self._parked.discard(number)
        self.ready.append(number)
        self.grow()

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        self._lanes.discard(task)
        self._starting.discard(task)  # if somebody cancelled it before its first step
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outcomes.crash(error)
        self.grow()
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done() and self.idle:
            waiter.set_result(None)

    def _interrupt(self, attempt: Attempt, why: Interruption) -> None:
        """Ask a stage to stop: once for its time limit, and once for the end of the run."""
        if attempt.interrupted is not why:
            # A stage that is over its limit stays so, whatever else is asked of it.
            if attempt.interrupted is None:
                attempt.interrupted = why
            attempt.task.cancel()

    def _suspend(self, stage: CompiledStage, started_ns: int, task: asyncio.Task[None]) -> Attempt:
        """A stage is about to suspend for the first time: its lane stays with it, others take over the rest."""
        attempt = Attempt(stage, started_ns, self._outcomes.limit_of(stage), task)
        self._suspended[attempt] = None
        if self.stopping:  # the stage itself stopped the run while it ran inline
            self._interrupt(attempt, Interruption.STOPPED)
            return attempt
        if attempt.timeout is not None:
            if self._deadlines is None:
                from stageflow.runtime import deadlines

                self._deadlines = deadlines.Deadlines(
                    self._loop, self._time_out, self._suspended.__contains__
                )
            spent = (monotonic_ns() - started_ns) / 1e9
            self._deadlines.add(self._loop.time() + attempt.timeout - spent, attempt)
        self.grow()
        return attempt

    def _time_out(self, attempt: Attempt) -> None:
        self._interrupt(attempt, Interruption.TIMED_OUT)

    async def _lane(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._starting.discard(task)
            await self._drive(task)

    @coroutine
    def _drive(self, task: asyncio.Task[None]) -> Generator[Any, Any, None]:  # noqa: C901, PLR0912, PLR0915 - one hot loop
        """Run ready stages, one after another, until none is left or this lane may not be used again."""
        outcomes, ready, context = self._outcomes, self.ready, self.context
        now_ns = turn_ns = monotonic_ns()
        while ready:
            number = ready.popleft()
            ctx = outcomes.enter(number)
            if ctx is None:
                now_ns = monotonic_ns()
            else:
                own = context.copy()
                value: object = None
                error: BaseException | None = None
                attempt: Attempt | None = None
                closing = False
                started_ns = monotonic_ns()
                try:
                    step = outcomes.calls[number](ctx)
                    waiting = own.run(step.send, None)
                    attempt = self._suspend(outcomes.stages[number], started_ns, task)
                    while True:
                        try:
                            sent = yield waiting
                        except GeneratorExit:
                            closing = True
                            own.run(step.close)
                            raise
                        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the stage's to handle
                            waiting = own.run(step.throw, exc)
                        else:
                            waiting = own.run(step.send, sent)
                except StopIteration as end:
                    value = end.value
                except BaseException as exc:
                    if closing:
                        raise
                    error = exc
                now_ns = monotonic_ns()
                if attempt is not None:
                    del self._suspended[attempt]
                    turn_ns = now_ns  # it suspended, so the loop has had its turn
                rest = outcomes.leave(ctx, number, value, error, attempt, now_ns - started_ns)
                if rest is not None:
                    self.grow()
                    yield from rest
                # On Python before 3.13 a request stays pending in the Task even if the stage took it back.
                if getattr(task, "_must_cancel", False) or (attempt is not None and self._spent(attempt)):
                    break  # invariant 2
            if now_ns - turn_ns > TURN_NS:
                self.grow()
                yield
                turn_ns = monotonic_ns()
        self.grow()  # invariant 4

    @staticmethod
    def _spent(attempt: Attempt) -> bool:
        """Say whether a stage was asked to stop, so that its lane may have a request left that is nobody else's."""
        return attempt.interrupted is not None or bool(attempt.task.cancelling())
