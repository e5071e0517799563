"""``Lane``: what one Task of a run does, which is to run one stage after another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic_ns
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, cast, final

from stageflow.context.frozen import freeze_flat
from stageflow.interceptors.base import attention
from stageflow.stages.context import context_of
from stageflow.stages.output import PLAIN, StageOutput, ok_output

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from contextvars import Context

    from stageflow.runtime.interruption import Interruption
    from stageflow.runtime.scheduler import Scheduler
    from stageflow.stages.context import StageContext

__all__ = ["TURN_NS", "Lane"]

TURN_NS: Final = 500_000
"""How long stages that do not suspend may keep the event loop."""


@final
class Lane:
    """Takes ready stages and steps each one's coroutine until none is left; see ``scheduler`` for the picture.

    Args:
        scheduler: Whose ready stages.

    Attributes:
        task: The Task that it is the work of, once that has begun.
        line: Where the scheduler keeps it while its stage is suspended.
        interrupted: Why its stage was asked to stop, if it was; a lane takes no further stage after that.
    """

    __slots__ = ("_scheduler", "gives_way", "interrupted", "line", "task")

    line: dict[Lane, float]
    task: asyncio.Task[None]

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.gives_way = False  # what is thrown now is meant for the Task, and for no stage
        self.interrupted: Interruption | None = None

    def work(self) -> Coroutine[Any, Any, None]:
        """Return the work to be done in a Task of its own.

        It has begun already, and waits for that Task: so it hears of it when the Task is cancelled before its first
        step, for which a done callback would be the only other way.
        """
        work = self._work()
        work.send(None)
        return work

    async def _work(self) -> None:  # noqa: C901, PLR0912, PLR0915 - one loop; apart, every stage costs more calls
        scheduler = self._scheduler
        outcomes, context = scheduler.outcomes, scheduler.context
        stages, outputs, left = outcomes.stages, outcomes.progress.outputs, outcomes.progress.left
        run, emitter, listening = outcomes.run, outcomes.emitter, outcomes.listening
        try:
            try:
                await _turn(self)
            finally:
                scheduler.lane_begins()
            self.task = task = cast("asyncio.Task[None]", asyncio.current_task())
            request: Any = task if hasattr(task, "_must_cancel") else _Request(task)
            last = False
            turn_ns = now_ns = monotonic_ns()
            while ready := scheduler.ready:
                if now_ns - turn_ns > TURN_NS:
                    # No other lane is needed: this one is on its way to whatever is ready.
                    await _turn(self)
                    turn_ns = now_ns = monotonic_ns()
                    continue
                number = ready.popleft()
                stage = stages[number]
                ctx: StageContext | None
                if (
                    outcomes.plain
                    and stage.regular
                    and not listening
                    and attention.generation == outcomes.generation
                ):
                    ctx = context_of(run, stage.spec, 1)
                else:
                    ctx = outcomes.enter(number)
                    if ctx is None:
                        now_ns = monotonic_ns()
                        continue
                own = context.copy()
                value: Any = None
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
                    scheduler.suspended(self, number, started_ns)
                    value, error = await _to_its_end(own, step, waiting)
                    del self.line[self]
                    turn_ns = monotonic_ns()  # it suspended, so the loop has had its turn
                    last = self.interrupted is not None or task.cancelling() > 0
                now_ns = monotonic_ns()
                if outcomes.plain and error is None and not last:
                    # The short way of the most frequent end. ``leave`` comes to the same.
                    data: Any = value
                    if value.__class__ is StageOutput and value.form is PLAIN:
                        data = value.data
                    if data.__class__ is dict and (frozen := freeze_flat(data)) is not None:
                        duration_ms = (now_ns - started_ns) / 1e6
                        outputs[number] = ok_output(frozen, duration_ms)
                        for dependant in stage.dependants:
                            left[dependant] = waits = left[dependant] - 1
                            if not waits:
                                ready.append(dependant)
                        if listening:
                            event = outcomes.completed.copy()
                            event["stage"] = stage.name
                            event["duration_ms"] = duration_ms
                            emitter.send(stage.completed, event)
                        if request._must_cancel:  # noqa: SLF001 - also true of a request that was taken back
                            break  # invariant 2
                        continue
                rest = outcomes.leave(ctx, number, value, error, self.interrupted, now_ns - started_ns)
                if rest is not None:
                    await self._give_way_during(rest)
                    turn_ns = monotonic_ns()
                if last or request._must_cancel:  # noqa: SLF001
                    break
        except GeneratorExit:  # the event loop has gone
            raise
        except BaseException as exc:
            if self.gives_way:  # somebody has cancelled the Task where no stage is to blame: others take over
                scheduler.lane_ends()
                raise
            outcomes.crash(exc)  # an error between stages is nobody's but ours: it ends the run
        scheduler.lane_ends()

    async def _give_way_during(self, rest: Generator[None, None, None]) -> None:
        """Do what the end of a stage has left to do, and let others have a turn after every part of it."""
        for _ in rest:
            self._scheduler.grow()
            try:
                await _turn(self)
            except asyncio.CancelledError as exc:
                with suppress(StopIteration):
                    rest.throw(exc)  # then the stage that it belongs to has failed
                raise


@final
class _Request:
    """Tells of a Task of another make than asyncio's own whether somebody has asked it to stop."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    @property
    def _must_cancel(self) -> bool:
        return self._task.cancelling() > 0


@coroutine
def _turn(lane: Lane) -> Generator[None, None, None]:
    """Let others have a turn of the event loop."""
    lane.gives_way = True
    yield
    lane.gives_way = False


@coroutine
def _to_its_end(
    own: Context, step: Coroutine[Any, Any, object], waiting: object
) -> Generator[Any, Any, tuple[object, BaseException | None]]:
    """Step a stage that has suspended, each time inside its own context variables.

    Returns:
        What it returned, and what it raised.
    """
    while True:
        go_on: Any = step.send
        sent: Any = None
        try:
            sent = yield waiting
        except GeneratorExit:
            own.run(step.close)
            raise
        except BaseException as exc:  # noqa: BLE001 - the stage handles it
            go_on, sent = step.throw, exc
        try:
            waiting = own.run(go_on, sent)
        except StopIteration as end:
            return end.value, None
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the outcome of the stage
            return None, exc
