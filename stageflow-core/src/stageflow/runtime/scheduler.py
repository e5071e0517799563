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
``Task.cancel`` mean what they always mean. ``interruption`` says why a stage is asked to stop, and ``deadlines`` when.

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
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.runtime.interruption import Interruption
from stageflow.runtime.lane import run_lane

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from contextvars import Context

    from stageflow.runtime.compilation import CompiledStage
    from stageflow.runtime.deadlines import Deadlines
    from stageflow.runtime.outcomes import Outcomes

__all__ = ["Scheduler"]

_LANES_AT_ONCE: Final = 2
_NEGLIGIBLE_NS: Final = 1_000_000
_NOBODY: Final[dict[int, Any]] = {}


@final
class _Nothing(deque[int]):
    """The ready stages of a run that is ending: there are none, whatever becomes ready."""

    def append(self, number: int, /) -> None:
        """Forget it."""

    def extend(self, numbers: Iterable[int], /) -> None:
        """Forget them."""


@final
class Scheduler:
    """Keeps the lanes of one run; see the module for how.

    Args:
        outcomes: Says how an attempt begins and what its end means.
        context: The context variables that every stage gets a copy of.
        name: What the Tasks are called. One that asyncio makes up takes a while to format.
    """

    __slots__ = (
        "_backoffs",
        "_deadlines",
        "_extended",
        "_interrupted",
        "_lanes",
        "_lanes_by_stage",
        "_loop",
        "_makes_tasks",
        "_name",
        "_parked",
        "_suspended",
        "_waiter",
        "context",
        "for_lanes",
        "outcomes",
        "ready",
        "starting",
        "stopping",
    )

    def __init__(self, outcomes: Outcomes, context: Context, name: str) -> None:
        self.outcomes = outcomes
        self.context = context
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._lanes = 0  # that have been created and not ended
        self.starting = 0  # of those, the ones whose Tasks have not taken their first step
        # Tasks whose stage has suspended, and is under no limit, or over it:
        self._suspended: dict[asyncio.Task[None], float] = {}
        self._deadlines: Deadlines[asyncio.Task[None]] | None = None  # of the others
        self._lanes_by_stage: dict[int, asyncio.Task[None]] = _NOBODY  # in runs with gates or streams
        # The stages that those run which may pause, and where their Tasks stand once their limits have been extended:
        self._extended: (
            dict[asyncio.Task[None], tuple[int, dict[asyncio.Task[None], float] | None]] | None
        ) = None
        self._interrupted: dict[asyncio.Task[None], Interruption] = {}  # of both, why they were asked to stop
        self._backoffs: dict[int, asyncio.TimerHandle] = {}
        self._parked: dict[int, None] = {}  # stages that wait for a place under a limit
        self._waiter: asyncio.Future[None] | None = None
        self.ready: deque[int] = deque()
        self.stopping = False
        self._makes_tasks = self._loop.get_task_factory() is None
        progress = outcomes.progress
        stamps = progress.stamps
        self.for_lanes = (
            context,
            outcomes.run,
            outcomes,
            outcomes.stages,
            progress.settled,
            stamps.ready_ns,
            stamps.began_ns,
            stamps.ended_ns,
            progress.left,
            outcomes.listening,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self._lanes and not self._backoffs and not self._parked

    def next_idle(self) -> asyncio.Future[None]:
        """Return what to await until nothing is left to wait for; a new one each time, so that it may be cancelled."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def grow(self) -> None:
        """Open lanes for ready stages that no lane is on its way to."""
        missing = len(self.ready) - self.starting
        for _ in range(min(missing, _LANES_AT_ONCE)):
            lane = run_lane(self)
            lane.send(None)
            self.starting += 1
            self._lanes += 1
            # In a context of its own: what a lane does between stages sees nothing of theirs.
            context = self.context.copy()
            if self._makes_tasks:
                try:
                    self._loop.create_task(lane, name=self._name, context=context)
                except BaseException:
                    self._lane_fails(lane)
                    raise
            else:
                # A Task factory need not know of names or contexts, and may begin the Task at once.
                self._loop.call_soon(self._open, lane, context=context)

    def _open(self, lane: Coroutine[Any, Any, None]) -> None:
        try:
            self._loop.create_task(lane)
        except BaseException as exc:  # noqa: BLE001 - the run raises it, in the Task of its caller
            self._lane_fails(lane)
            self.outcomes.crash(exc)
            self._wake()

    def _lane_fails(self, lane: Coroutine[Any, Any, None]) -> None:
        """There is no Task for a lane."""
        lane.close()  # it takes back that it is starting
        self._lanes -= 1

    def lane_ends(self) -> None:
        """A lane takes no further step."""
        self._lanes -= 1
        if self.ready:
            self.grow()  # invariant 4
        if not self._lanes:
            self._wake()

    def stop(self) -> None:
        """Start nothing more, and ask everything that is suspended to stop."""
        if self.stopping:
            return
        self.stopping = True
        self.ready = _Nothing()
        self._parked.clear()
        self.close()
        for task in [*self._suspended, *(self._deadlines or ())]:
            self._interrupt(task, Interruption.STOPPED)
        self.outcomes.leave_lines()
        self._wake()

    def close(self) -> None:
        """Disarm every timer."""
        for timer in self._backoffs.values():
            timer.cancel()
        self._backoffs.clear()
        if self._deadlines is not None:
            self._deadlines.close()

    def release(self) -> None:
        """The run has ended: let go of what refers to it."""
        del self.context, self.for_lanes

    def again(self, number: int, delay: float) -> None:
        """Make a stage ready again after *delay* seconds; it holds no lane meanwhile."""
        if not self.stopping:
            self._backoffs[number] = self._loop.call_later(delay, self._backed_off, number)

    def _backed_off(self, number: int) -> None:
        del self._backoffs[number]
        self.outcomes.backed_off(number)
        self.ready.append(number)
        self.grow()

    def park(self, number: int) -> None:
        """Keep the run going for a stage that waits for a place under a limit; it holds no lane meanwhile."""
        if not self.stopping:
            self._parked[number] = None

    def unpark(self, number: int) -> None:
        """Make a parked stage ready again."""
        self._parked.pop(number, None)
        self.ready.append(number)
        self.grow()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and self.idle and not waiter.done():
            waiter.set_result(None)

    def _interrupt(self, task: asyncio.Task[None], why: Interruption) -> None:
        """Ask a stage to stop: once for its time limit, and once for the end of the run."""
        # A stage that is over its limit stays so, whatever else is asked of it.
        if self._interrupted.setdefault(task, why) is why or why is Interruption.STOPPED:
            task.cancel()

    def interruption_of(self, task: asyncio.Task[None]) -> Interruption | None:
        """Forget a stage that has ended; return why it was asked to stop, if it was."""
        self._suspended.pop(task, None)
        if self._extended is not None and task in self._extended:
            _, line = self._extended.pop(task)
            if line is not None:
                line.pop(task, None)
        return self._interrupted.pop(task, None)

    def has_to_end(self, number: int) -> bool:
        """Say whether a stage that has suspended in a run with gates or streams, or the run, was asked to stop."""
        return self.stopping or self._lanes_by_stage.get(number) in self._interrupted

    def suspended(
        self, task: asyncio.Task[None], stage: CompiledStage, started_ns: int
    ) -> dict[asyncio.Task[None], float]:
        """A stage is about to suspend for the first time: its lane stays with it, others take over the rest.

        Returns:
            Where its Task is kept until it is interrupted. Who ends takes itself out.
        """
        line = self._suspended
        if self.outcomes.lends:
            if self._lanes_by_stage is _NOBODY:
                self._lanes_by_stage = {}
            self._lanes_by_stage[stage.number] = task
        limit = stage.timeout if self.outcomes.limit_ms is None else self.outcomes.limit_of(stage)
        if limit is None or self.stopping:
            line[task] = 0.0
            if self.stopping:  # the stage itself stopped the run while it ran inline
                self._interrupt(task, Interruption.STOPPED)
                return line
        else:
            if self._deadlines is None:
                from stageflow.runtime import deadlines

                self._deadlines = deadlines.Deadlines(self._loop, self._time_out)
            began = self._loop.time()
            spent_ns = monotonic_ns() - started_ns
            if spent_ns > _NEGLIGIBLE_NS:
                began -= spent_ns / 1e9
            line = self._deadlines.add(task, limit, began)
            if self.outcomes.pauses is not None:
                if self._extended is None:
                    self._extended = {}
                self._extended[task] = stage.number, None
        if len(self.ready) > self.starting:
            self.grow()
        return line

    def _time_out(self, task: asyncio.Task[None]) -> None:
        pauses, deadlines, extended = self.outcomes.pauses, self._deadlines, self._extended
        if pauses is not None and deadlines is not None and extended is not None and task in extended:
            number, _ = extended[task]
            now = self._loop.time()
            owed = pauses.owed(number, now)
            if owed > 0:
                extended[task] = number, deadlines.add(task, owed, now)
                return
        self._suspended[task] = 0.0  # it may still be asked to stop with the run
        self._interrupt(task, Interruption.TIMED_OUT)
        self.outcomes.leave_lines()
