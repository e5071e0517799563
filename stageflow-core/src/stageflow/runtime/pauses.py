"""``Pauses``: when running stages wait for something that their time limits do not count."""

from __future__ import annotations

from typing import final

__all__ = ["Pauses"]


@final
class _Pause:
    """What is known of one stage's pauses, in seconds of the event loop's clock."""

    __slots__ = ("granted", "since", "total", "waiting")

    def __init__(self) -> None:
        self.waiting = 0  # how many of its Tasks pause
        self.since = 0.0  # when the first of those began to
        self.total = 0.0  # how long pauses that have ended took
        self.granted = 0.0  # of that, what its limit has been told

    def until(self, now: float) -> float:
        return self.total + (now - self.since if self.waiting else 0.0)


@final
class Pauses:
    """The pauses of one run's stages.

    A limit that is reached asks here how much of its time was none, and is set again for that. So a pause costs
    nothing but two readings of the clock.
    """

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[int, _Pause] = {}

    def begin(self, number: int, now: float) -> None:
        """One of a stage's Tasks pauses."""
        pause = self._of.setdefault(number, _Pause())
        if not pause.waiting:
            pause.since = now
        pause.waiting += 1

    def end(self, number: int, now: float) -> None:
        """One of them pauses no more."""
        pause = self._of[number]
        pause.total = pause.until(now)
        pause.since = now
        pause.waiting -= 1

    def owed(self, number: int, now: float) -> float:
        """Return how long a stage has paused since this was asked the last time, in seconds."""
        pause = self._of.get(number)
        if pause is None:
            return 0.0
        granted, pause.granted = pause.granted, pause.until(now)
        return pause.granted - granted

    def settle(self, number: int, now: float) -> None:
        """Another attempt begins: what has been is not owed to it."""
        self.owed(number, now)
