"""A lane: what one Task of a run does, which is to run one stage after another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic_ns
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.frozen import freeze_small
from stageflow.interceptors.base import attention
from stageflow.stages.context import context_of
from stageflow.stages.output import PLAIN, StageOutput, output_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from contextvars import Context

    from stageflow.runtime.interruption import Interruption
    from stageflow.runtime.scheduler import Scheduler

__all__ = ["TURN_NS", "run_lane"]

TURN_NS: Final = 500_000
"""How long stages that do not suspend may keep the event loop."""

_A_TURN: Final = object()
_NO_STAGE: tuple[Any, Any, Any, Any, int] = (None, None, None, None, 0)


async def run_lane(scheduler: Scheduler) -> None:
    """Run ready stages until none is left; ``scheduler`` has the picture.

    Whoever makes a Task of it sends it its first ``None`` before that: so it has begun, and hears of it when the Task
    is cancelled before its first step. A done callback would be the only other way.
    """
    gives_way = True  # what is thrown now is meant for the Task, and for no stage
    last = False
    ended: Any = _NO_STAGE
    try:
        try:
            await _turn()
        finally:
            scheduler.starting -= 1
        gives_way = False
        task: Any = asyncio.current_task()
        request: Any = task if hasattr(task, "_must_cancel") else _Request(task)
        while (what := _advance(scheduler, request, ended, last)) is not None:
            ended = _NO_STAGE
            if what.__class__ is tuple:
                stage, ctx, own, step, waiting, started_ns = what
                to_its_end = _to_its_end(own, step, waiting)
                what = waiting = None  # which need not be kept while the stage waits
                line = scheduler.suspended(task, stage, started_ns)
                value = await to_its_end
                interrupted = None
                if line.pop(task, None) is None or scheduler.stopping:
                    interrupted = scheduler.interruption_of(task)
                last = interrupted is not None or task.cancelling() > 0
                ended = stage, ctx, value, interrupted, started_ns
                value = None
            else:
                gives_way = True
                await (_turn() if what is _A_TURN else _in_slices(what, scheduler, last))
                gives_way = False
    except GeneratorExit:  # the event loop has gone
        raise
    except BaseException as exc:
        if gives_way and isinstance(exc, asyncio.CancelledError):
            # Somebody has cancelled the Task where no stage is to blame: others take over.
            scheduler.lane_ends()
            raise
        scheduler.outcomes.crash(exc)  # an error between stages is nobody's but ours: it ends the run
    scheduler.lane_ends()


def _advance(  # noqa: C901, PLR0911, PLR0912, PLR0915 - one loop: apart, every stage costs more calls
    scheduler: Scheduler,
    request: Any,
    ended: tuple[Any, Any, Any, Interruption | None, int],
    last: bool,  # noqa: FBT001 - by position: it is called for every stage that suspends
) -> Any:
    """Settle the stage that has *ended*, and run ready stages until there is something to wait for.

    Args:
        scheduler: Whose ready stages.
        request: The lane's Task, or what tells of it that somebody has asked it to stop.
        ended: A stage that had suspended, its context, what came of it, why it was interrupted, when it began.
        last: Whether the lane may take no other after it.

    Returns:
        A tuple: a stage that has suspended, with all that it takes to go on with it. ``_A_TURN``: others must have
        their turn. A generator: what the end of a stage has left to do, in slices. None: there is no more to do.
    """
    context, run, outcomes, stages, settled, ready_ns, began_ns, ended_ns, left, listening = (
        scheduler.for_lanes
    )
    ready, calls, generation = scheduler.ready, outcomes.calls, outcomes.generation
    now_ns = monotonic_ns()
    turn_ends_ns = now_ns + TURN_NS
    stage, ctx, came, interrupted, started_ns = ended
    value, error = (None, came.error) if came.__class__ is _Raised else (came, None)
    if stage is not None:
        number = stage.number
    elif last or request._must_cancel:  # noqa: SLF001
        return None
    else:
        number = 0
    while True:
        if stage is not None:
            form = PLAIN
            data: Any = value
            if data.__class__ is StageOutput:
                form = data.form
                if form.simple:
                    data = data.data
            if (
                outcomes.plain
                and data.__class__ is dict
                and error is None
                and not last
                and (frozen := freeze_small(data)) is not None
            ):
                # The short way out. ``leave`` comes to the same.
                began_ns[number] = started_ns
                ended_ns[number] = now_ns
                if form is PLAIN:
                    settled[number] = frozen
                else:
                    settled[number] = output_of(form, frozen, (now_ns - started_ns) / 1e6)
                for dependant in stage.dependants:
                    left[dependant] = waits = left[dependant] - 1
                    if not waits:
                        ready.append(dependant)
                        ready_ns[dependant] = now_ns
                if listening:
                    event = outcomes.completed.copy()
                    event["stage"] = stage.name
                    event["duration_ms"] = (now_ns - started_ns) / 1e6
                    event["ready_ns"] = ready_ns[number]
                    event["began_ns"] = started_ns
                    event["ended_ns"] = now_ns
                    outcomes.emitter.send(stage.completed, event, now_ns)
            else:
                rest = outcomes.leave(ctx, number, value, error, interrupted, started_ns, now_ns)
                if rest is not None and next(rest, _A_TURN) is None:
                    return rest  # it takes more than this
            if last or request._must_cancel:  # noqa: SLF001 - also true of a request that was taken back
                return None  # invariant 2
        ready = scheduler.ready
        if not ready:
            return None
        if now_ns > turn_ends_ns:
            return _A_TURN  # no other lane is needed: this one is on its way to whatever is ready
        number = ready.popleft()
        stage = stages[number]
        if outcomes.plain and stage.regular and attention.generation == generation:
            # The short way in. ``enter`` comes to the same.
            if listening:
                event = outcomes.started.copy()
                event["stage"] = stage.name
                event["kind"] = stage.kind
                outcomes.emitter.send(stage.started, event, monotonic_ns())
                if scheduler.stopping:  # by whoever heard of it
                    outcomes.keep_out(number)
                    return None
            ctx = context_of(run, stage.spec, 1)
        else:
            entered = outcomes.enter(number)
            if entered is None:
                stage = None
                now_ns = monotonic_ns()
                continue
            ctx = entered
            calls, generation = outcomes.calls, outcomes.generation
        own = context.copy()
        value = error = None
        started_ns = monotonic_ns()
        try:
            step = calls[number](ctx)
            waiting = own.run(step.send, None)
        except StopIteration as exc:
            value = exc.value
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the outcome of the stage
            error = exc
        else:
            return stage, ctx, own, step, waiting, started_ns
        now_ns = monotonic_ns()


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
def _turn() -> Generator[None, None, None]:
    """Let others have a turn of the event loop."""
    yield


async def _in_slices(rest: Generator[None, None, None], scheduler: Scheduler, last: bool) -> None:  # noqa: FBT001
    """Do what the end of a stage has left to do, and let others have a turn before every part of it."""
    while True:
        scheduler.grow()
        try:
            await _turn()
        except asyncio.CancelledError as exc:
            if not last:
                with suppress(StopIteration):
                    rest.throw(exc)  # then the stage that it belongs to has failed
                raise
            # It was meant for the stage, which has ended.
        if next(rest, _A_TURN) is not None:
            return


@final
class _Raised:
    """What a stage has raised, in the place of what it returns."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


@coroutine
def _to_its_end(
    own: Context, step: Coroutine[Any, Any, object], waiting: object
) -> Generator[Any, Any, object]:
    """Step a stage that has suspended, each time inside its own context variables.

    Returns:
        What it returned, or what it raised.
    """
    while True:
        thrown = None
        try:
            yield waiting
        except GeneratorExit:
            own.run(step.close)
            raise
        except BaseException as exc:  # noqa: BLE001 - the stage handles it
            thrown = exc
        waiting = None  # what it waited for need not be kept
        try:
            waiting = own.run(step.send, None) if thrown is None else own.run(step.throw, thrown)
        except StopIteration as end:
            thrown = None  # whose traceback holds this frame
            return end.value
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the outcome of the stage
            thrown = None
            return _Raised(exc)
