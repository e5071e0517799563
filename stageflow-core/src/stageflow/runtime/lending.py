"""``Lending``: a running stage that waits for something else than its work lends its places meanwhile."""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, final

from stageflow.runtime.stamps import Note
from stageflow.stages.part import Part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stageflow.runtime.admission import StagePlaces
    from stageflow.runtime.scheduler import Scheduler
    from stageflow.runtime.stamps import Stamps

__all__ = ["Lending"]


@final
class Lending:
    """The places that the waiting stages of one run have lent.

    Args:
        scheduler: Knows who has been asked to stop.
        stamps: Gets the waits.
        places: The run's places, if there are limits.
    """

    __slots__ = ("_places", "_scheduler", "_stamps")

    def __init__(self, scheduler: Scheduler, stamps: Stamps, places: StagePlaces | None) -> None:
        self._scheduler = scheduler
        self._stamps = stamps
        self._places = places

    def lend(self, number: int) -> None:
        """Lend the places of a stage that waits for a run that it has started."""
        if self._places is not None:
            self._places.lend(number)

    async def take_back(self, number: int) -> None:
        """Wait until a stage has its places again.

        Raises:
            asyncio.CancelledError: The Task was cancelled meanwhile. If that was not the end of the stage, but a time
                limit of its own, say, it has its places all the same.
        """
        if self._places is None:
            return
        self._places.waits_no_more(number)
        cancelled: asyncio.CancelledError | None = None
        while not self._scheduler.has_to_end(number):  # who has to end had better not stand in a line
            try:
                await self._places.take_back(number)
            except asyncio.CancelledError as exc:
                cancelled = exc
            else:
                break
        if cancelled is not None:
            raise cancelled

    def wait(self, number: int, part: Part) -> Callable[[], Awaitable[None]]:
        """Lend the places of a stage that is about to wait.

        Args:
            number: The stage.
            part: What it waits for.

        Returns:
            What it has to await before it goes on, however its wait has ended: until it has its places again.
        """
        began_ns = monotonic_ns()
        self.lend(number)

        async def resume() -> None:
            now_ns = monotonic_ns()
            self._stamps.note(number, Note(part, began_ns, now_ns, 1))
            await self.take_back(number)
            self._stamps.note(number, Note(Part.QUEUE, now_ns, monotonic_ns(), 1))

        return resume
