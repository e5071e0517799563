"""Many time limits on one timer of the event loop."""

from __future__ import annotations

from itertools import chain
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, TypeVar, final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

__all__ = ["Deadlines"]

T = TypeVar("T")


@final
class Deadlines(Generic[T]):
    """Calls back for every item that is over its limit, with a single timer armed at any moment.

    Items under the same limit are over it in the order in which they began. So they stand in a line for each limit, of
    which there are few: to add one and to take one out costs what a dict costs. An event loop, for comparison, keeps a
    handle per timer until it fires, even a cancelled one.

    Args:
        loop: The event loop, whose clock it is.
        expired: Called with an item that is over its limit, after it has been taken out.
    """

    __slots__ = ("_expired", "_lines", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[T], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._lines: dict[float, dict[T, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T, limit: float, began: float) -> dict[T, float]:
        """Call back with *item* when it is over *limit*.

        Args:
            item: The item.
            limit: How long it has, in seconds.
            began: When it began, on the loop's clock; not before others under the same limit.

        Returns:
            The line that it stands in. To take it out of that is the way to say that it has ended.
        """
        line = self._lines.get(limit)
        if line is None:
            line = self._lines[limit] = {}
        if not line:  # whoever stands behind another is over the limit later
            self._arm(began + limit)
        line[item] = began
        return line

    def __iter__(self) -> Iterator[T]:
        """Iterate over those that have not ended, and are not over their limits."""
        return chain.from_iterable(self._lines.values())

    def close(self) -> None:
        """Call back no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now, earliest = self._loop.time(), inf
        over: list[tuple[float, T, dict[T, float]]] = []
        for limit, line in self._lines.items():
            for item, began in line.items():
                if began + limit > now:
                    earliest = min(earliest, began + limit)
                    break
                over.append((began + limit, item, line))
        # A limit that comes once, as one that has been extended does, leaves no line behind.
        self._lines = {limit: line for limit, line in self._lines.items() if line}
        if earliest < inf:
            self._arm(earliest)
        for _, item, line in sorted(over, key=itemgetter(0)):
            if line.pop(item, None) is not None:  # else it has ended through one that was called back before
                self._expired(item)
