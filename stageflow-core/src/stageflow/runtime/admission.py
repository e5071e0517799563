"""Who may start under the limits: the stages of a run, and the runs of a graph."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, final

from stageflow.errors import OverloadError
from stageflow.runtime.limits import Admission, ConcurrencyLimit, Overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from stageflow.runtime.compilation import CompiledStage
    from stageflow.runtime.scheduler import Scheduler

__all__ = ["StagePlaces", "wait_for_place"]


@final
class StagePlaces:
    """The places that the stages of one run hold, and wait for.

    Args:
        scheduler: Keeps the run going while a stage waits, and takes it up again.
        max_concurrency: How many stages of the run may run at once.
    """

    __slots__ = ("_held", "_lent", "_queued", "_run_limit", "_running", "_scheduler", "_taking", "_waiting")

    def __init__(self, scheduler: Scheduler, max_concurrency: int | None) -> None:
        self._scheduler = scheduler
        self._run_limit = None if max_concurrency is None else ConcurrencyLimit(max_concurrency)
        self._held: dict[int, list[ConcurrencyLimit]] = {}  # or being collected
        self._running: set[int] = set()  # stages that have all their places
        self._queued: dict[int, tuple[ConcurrencyLimit, Callable[[], bool]]] = {}
        self._lent: dict[int, list[ConcurrencyLimit]] = {}  # of running stages that wait for something else
        self._waiting: dict[int, int] = {}  # how many of their Tasks do
        # Of those, the ones that stand in line for what they have lent; done when they do no more:
        self._taking: dict[int, asyncio.Future[None]] = {}

    def __contains__(self, number: int) -> bool:
        """Say whether the stage has begun to collect its places."""
        return number in self._held

    def admit(self, stage: CompiledStage) -> bool:
        """Take the places of a stage; False if it has to wait, and then it becomes ready again by itself.

        Every stage asks for its own place first and for the run's second, so no two can wait for each other.

        Raises:
            OverloadError: The line is full; ``skips_overload`` says whether the stage is skipped instead of failed.
        """
        held = self._held.setdefault(stage.number, [])
        for limit in (stage.limit, self._run_limit):
            if limit is None or any(limit is one for one in held):
                continue
            granted = partial(self._granted, asyncio.get_running_loop(), stage.number, limit)
            admission = limit.enter(granted)
            if admission is Admission.GRANTED:
                held.append(limit)
            elif admission is Admission.QUEUED:
                self._queued[stage.number] = limit, granted
                self._scheduler.park(stage.number)
                return False
            else:
                self.vacate(stage.number)
                where = f"stage {stage.name!r}"
                raise OverloadError(where, active=limit.max_active, queued=limit.queued)
        self._running.add(stage.number)
        return True

    def skips_overload(self, stage: CompiledStage) -> bool:
        """Say whether a stage that finds the line full is skipped instead of failed."""
        return stage.limit is not None and stage.limit.on_overload is Overload.SKIP

    def vacate(self, number: int) -> None:
        """Give back what a stage holds."""
        self._running.discard(number)
        self._lent.pop(number, None)
        self._waiting.pop(number, None)
        for limit in self._held.pop(number, ()):
            limit.leave()

    def lend(self, number: int) -> None:
        """Give back what a running stage holds while one of its Tasks waits for something else than its work.

        What the others do meanwhile, nobody knows: they may wait for that one. So the stage holds nothing before the
        last of them waits no more.
        """
        self._waiting[number] = self._waiting.get(number, 0) + 1
        if number in self._running:
            limits, self._held[number] = self._held[number], []
            self._lent[number] = [
                *limits,
                *self._lent.get(number, ()),
            ]  # in the order in which they are asked for
            for limit in limits:
                limit.leave()

    def waits_no_more(self, number: int) -> None:
        """One of the Tasks of a stage has ended its wait; to be called as often as ``lend``."""
        self._waiting[number] = max(self._waiting.get(number, 0) - 1, 0)

    async def take_back(self, number: int) -> None:
        """Wait until a stage that goes on with its work has its places again, or has to end.

        It comes before those that have none yet.
        """
        while (line := self._taking.get(number)) is not None:  # another of its Tasks stands in line for all
            if line.done():
                return
            await asyncio.wait([line])
        if not self._wants(number):
            return
        line = self._taking[number] = asyncio.get_running_loop().create_future()
        try:
            while self._wants(number):
                limit = self._lent[number][0]
                if not await wait_for_place(limit, "", line, front=True):
                    return
                if self._wants(number) and self._lent[number][0] is limit:
                    self._held[number].append(self._lent[number].pop(0))
                else:  # it has ended meanwhile, or waits again
                    limit.leave()
        finally:
            del self._taking[number]
            if not line.done():
                line.set_result(None)

    def leave_lines(self) -> None:
        """Let stages that have to end stand in line no more for what they have lent.

        Not even Tasks of theirs do that have been cancelled before, and will not be cancelled again.
        """
        for number, line in self._taking.items():
            if not line.done() and self._scheduler.has_to_end(number):
                line.set_result(None)

    def _wants(self, number: int) -> bool:
        """Say whether a stage lacks places that it has lent."""
        return number in self._running and not self._waiting.get(number) and bool(self._lent.get(number))

    def leave_queues(self) -> None:
        """Wait for no more places, and give back those of stages that have not started."""
        queued, self._queued = self._queued, {}
        for limit, granted in queued.values():
            limit.withdraw(granted)  # if it is too late, _take gives the place back
        for number in [number for number in self._held if number not in self._running]:
            self.vacate(number)

    def _granted(self, loop: asyncio.AbstractEventLoop, number: int, limit: ConcurrencyLimit) -> bool:
        """A place is free; called by whoever left it, on whichever thread."""
        return _call(loop, partial(self._take, number, limit))

    def _take(self, number: int, limit: ConcurrencyLimit) -> None:
        self._queued.pop(number, None)
        if self._scheduler.stopping:
            limit.leave()
        else:
            self._held[number].append(limit)
            self._scheduler.unpark(number)


async def wait_for_place(
    limit: ConcurrencyLimit, what: str, given_up: asyncio.Future[None] | None = None, *, front: bool = False
) -> bool:
    """Wait for a place; whoever was let in must ``limit.leave()``.

    Args:
        limit: The limit.
        what: Who wants in, for the error.
        given_up: Done when there is no use for a place any more.
        front: Whether to wait at the front of the line, which is never too full for that.

    Returns:
        Whether there is a place.

    Raises:
        OverloadError: The line is full.
    """
    loop = asyncio.get_running_loop()
    place: asyncio.Future[None] = loop.create_future()
    if given_up is None:
        given_up = loop.create_future()

    def take() -> None:
        if place.done():  # nobody waits any more
            limit.leave()
        else:
            place.set_result(None)

    def granted() -> bool:
        return _call(loop, take)

    admission = limit.enter(granted, front=front)
    if admission is Admission.REFUSED:
        raise OverloadError(what, active=limit.max_active, queued=limit.queued)
    if admission is Admission.GRANTED:
        return True
    taken = False
    try:
        await asyncio.wait([place, given_up], return_when=asyncio.FIRST_COMPLETED)
        taken = place.done() and not given_up.done()
    finally:
        if not taken:
            granted_late = place.done()
            place.cancel()
            if not limit.withdraw(granted) and granted_late:
                limit.leave()  # it was granted in the moment in which we gave up
    return taken


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> bool:
    """Go on on the loop of whoever waits; False if that loop is closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True
