"""Many deadlines on one timer of the event loop."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Generic, TypeVar, final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Deadlines"]

T = TypeVar("T")


@final
class Deadlines(Generic[T]):
    """Calls back for every item whose time has come, with a single timer armed at any moment.

    An event loop keeps a handle per timer until it fires, even a cancelled one; a run that arms a limit for each of
    thousands of stages would leave thousands behind. Here the entries that are no longer alive go as they surface,
    and all at once when they are the most.

    Args:
        loop: The event loop.
        expired: Called with an item whose time has come.
        alive: Says whether an item still matters.
    """

    __slots__ = ("_alive", "_expired", "_heap", "_loop", "_number", "_sweep_at", "_timer")

    _SWEEP_FROM = 64

    def __init__(
        self, loop: asyncio.AbstractEventLoop, expired: Callable[[T], None], alive: Callable[[T], bool]
    ) -> None:
        self._loop = loop
        self._expired = expired
        self._alive = alive
        self._heap: list[tuple[float, int, T]] = []
        self._number = 0
        self._sweep_at = self._SWEEP_FROM
        self._timer: asyncio.TimerHandle | None = None

    def add(self, when: float, item: T) -> None:
        """Call back with *item* at *when*, on the loop's clock."""
        self._number += 1  # keeps the heap from comparing items
        heap = self._heap
        heappush(heap, (when, self._number, item))
        if len(heap) > self._sweep_at:
            heap[:] = [entry for entry in heap if self._alive(entry[2])]
            heapify(heap)
            self._sweep_at = max(self._SWEEP_FROM, 2 * len(heap))
        if heap and (self._timer is None or heap[0][0] < self._timer.when()):
            self._arm()

    def close(self) -> None:
        """Forget everything."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0][0], self._fire)

    def _fire(self) -> None:
        self._timer = None
        heap, now = self._heap, self._loop.time()
        while heap and (heap[0][0] <= now or not self._alive(heap[0][2])):
            item = heappop(heap)[2]
            if self._alive(item):
                self._expired(item)
        if heap:
            self._arm()
