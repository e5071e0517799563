"""``Lane``: what one Task of a run does, which is to run one stage after another.

It is written as the coroutine of that Task and not as an ``async def``: so it steps the coroutines of stages by hand,
each inside its own context variables, and hears of it when somebody cancels the Task before its first step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, cast, final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context
    from types import FrameType

    from stageflow.runtime.attempt import Attempt
    from stageflow.runtime.scheduler import Scheduler
    from stageflow.stages.context import StageContext

__all__ = ["TURN_NS", "Lane"]

TURN_NS: Final = 500_000
"""How long stages that do not suspend may keep the event loop."""

_OVER: Final = object()


@final
class Lane(Coroutine[Any, Any, None]):
    """Takes ready stages and steps each one's coroutine until none is left; see ``scheduler`` for the picture.

    Args:
        scheduler: Whose ready stages.
    """

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_ctx",
        "_number",
        "_own",
        "_rest",
        "_scheduler",
        "_spent",
        "_started_ns",
        "_step",
        "_task",
        "_turn_ns",
    )

    _ctx: StageContext
    _number: int
    _own: Context
    _started_ns: int

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._task: asyncio.Task[None] | None = None
        self._step: Coroutine[Any, Any, object] | None = None  # of the stage that is suspended
        self._attempt: Attempt | None = None
        self._rest: Generator[None, None, None] | None = None  # what its end takes several turns for
        self._spent = False  # the Task was asked to stop
        self._turn_ns = 0

    def send(self, value: object) -> Any:
        """Go on; returns what to wait for."""
        step = self._step
        if step is None:
            return self._guarded(self._resume)
        try:
            return self._own.run(step.send, value)
        except StopIteration as end:
            value, error = end.value, None
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the outcome of the stage
            value, error = None, exc
        return self._guarded(self._ended, value, error)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """Let the stage that is suspended handle an exception; returns what to wait for."""
        thrown: BaseException = kind if value is None else value
        step = self._step
        if step is None:
            return self._refuse(thrown)
        try:
            return self._own.run(step.throw, thrown)
        except StopIteration as end:
            result, error = end.value, None
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the outcome of the stage
            result, error = None, exc
        return self._guarded(self._ended, result, error)

    def close(self) -> None:
        """Close the coroutine of the stage that is suspended; the event loop has gone."""
        if self._step is not None:
            step, self._step = self._step, None
            self._own.run(step.close)

    def __await__(self) -> Generator[Any, Any, None]:
        """Refuse, since only a Task may step a lane.

        Raises:
            TypeError: Always.
        """
        msg = "a lane is made into a Task, and never awaited"
        raise TypeError(msg)

    @property
    def cr_frame(self) -> FrameType | None:
        """The frame of the stage that is suspended, for ``Task.get_stack`` and the like."""
        return getattr(self._step, "cr_frame", None)

    @property
    def cr_await(self) -> Any:
        """What the stage that is suspended waits for."""
        return getattr(self._step, "cr_await", None)

    def __del__(self) -> None:
        # A Task that nobody will ever resume is thrown away; what its stage does then is done in its own context.
        if self._step is not None:
            self.close()

    def _guarded(self, go_on: Callable[..., Any], *args: object) -> Any:
        """Go on between stages, where an error is nobody's but ours: it ends the run."""
        try:
            waiting = go_on(*args)
        except BaseException as exc:  # noqa: BLE001 - the run raises it, in the Task of its caller
            self._scheduler.outcomes.crash(exc)
            waiting = _OVER
        if waiting is _OVER:
            task, self._task = self._task, None  # a Task keeps its coroutine
            if task is not None:
                self._scheduler.lane_ends(task)
            raise StopIteration
        return waiting

    def _resume(self) -> Any:
        """Begin, or go on after a turn of the event loop."""
        if self._task is None:
            self._task = asyncio.current_task()
            self._scheduler.lane_begins()
        self._turn_ns = monotonic_ns()
        return self._next() if self._rest is None else self._slice(self._rest)

    def _refuse(self, error: BaseException) -> Any:
        """Somebody has cancelled the Task where no stage is to blame: the lane ends, others take over."""
        if self._task is None:
            self._scheduler.lane_lost()
            raise error
        (rest, self._rest), (task, self._task) = (self._rest, None), (self._task, None)
        if rest is not None:
            with suppress(StopIteration):
                rest.throw(error)  # then the stage that it belongs to has failed
        self._scheduler.lane_ends(task)
        raise error

    def _next(self) -> Any:
        """Run ready stages, one after another, until one suspends, none is left, or others must have a turn."""
        scheduler, task = self._scheduler, cast("asyncio.Task[None]", self._task)
        outcomes, context = scheduler.outcomes, scheduler.context
        while scheduler.ready:
            number = scheduler.ready.popleft()
            ctx = outcomes.enter(number)
            if ctx is None:
                now_ns = monotonic_ns()
            else:
                own = context.copy()
                value: object = None
                error: BaseException | None = None
                started_ns = monotonic_ns()
                try:
                    step = outcomes.calls[number](ctx)
                    waiting = own.run(step.send, None)
                except StopIteration as end:
                    value = end.value
                except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the outcome of the stage
                    error = exc
                else:
                    self._own, self._step, self._ctx, self._number = own, step, ctx, number
                    self._started_ns = started_ns
                    self._attempt = scheduler.suspended(number, started_ns, task)
                    return waiting
                now_ns = monotonic_ns()
                rest = outcomes.leave(ctx, number, value, error, None, now_ns - started_ns)
                if rest is not None:
                    return self._slice(rest)
                if getattr(task, "_must_cancel", False):
                    return _OVER  # invariant 2
            if now_ns - self._turn_ns > TURN_NS:
                return None  # no other lane is needed: this one is on its way to whatever is ready
        return _OVER

    def _ended(self, value: object, error: BaseException | None) -> Any:
        """A stage that had suspended has ended."""
        attempt = cast("Attempt", self._attempt)
        self._step = self._attempt = None
        self._turn_ns = now_ns = monotonic_ns()  # it suspended, so the loop has had its turn
        self._scheduler.ended(attempt)
        rest = self._scheduler.outcomes.leave(
            self._ctx, self._number, value, error, attempt, now_ns - self._started_ns
        )
        self._spent = attempt.interrupted is not None
        return self._settled() if rest is None else self._slice(rest)

    def _slice(self, rest: Generator[None, None, None]) -> Any:
        """Do a part of what the end of a stage has left to do, and let others have a turn."""
        self._rest = rest
        try:
            next(rest)
        except StopIteration:
            self._rest = None
            return self._settled()
        self._scheduler.grow()
        return None

    def _settled(self) -> Any:
        """Go on after a stage that took more than one step, unless somebody has asked to stop meanwhile."""
        # On Python before 3.13 a request stays pending in the Task even if the stage took it back.
        task = cast("asyncio.Task[None]", self._task)
        if self._spent or task.cancelling() or getattr(task, "_must_cancel", False):
            return _OVER  # invariant 2
        return self._next()
