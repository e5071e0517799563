"""``ConcurrencyLimit``: how much may run at once, how much may wait, and what happens beyond."""

from __future__ import annotations

import threading
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, final

from stageflow.context.checks import check_count, wrong_value

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Admission", "ConcurrencyLimit", "Overload"]


class Overload(StrEnum):
    """What happens to work that finds the waiting line full.

    Attributes:
        FAIL: It fails with ``OverloadError``, which is worth another attempt later.
        SKIP: It is skipped, with the reason ``overloaded``.

    ```python
    from stageflow.runtime.limits import ConcurrencyLimit, Overload

    limit = ConcurrencyLimit(2, max_queued=10, on_overload=Overload.SKIP)
    print(limit.on_overload)
    #> skip
    ```
    """

    FAIL = "fail"
    SKIP = "skip"


class Admission(StrEnum):
    """What a limit says to somebody who wants to start."""

    GRANTED = "granted"
    QUEUED = "queued"
    REFUSED = "refused"


@final
class ConcurrencyLimit:
    """A bound on how much runs at once. First come, first served; a place is handed on, never grabbed.

    A limit that is given to a stage belongs to the built graph, so all runs of the graph share it. The same object
    given to several stages is one limit for all of them.

    Args:
        max_active: How many may run at once.
        max_queued: How many may wait; None means any number.
        on_overload: What happens beyond that.

    Raises:
        ArgumentTypeError: A number is no int.
        ArgumentValueError: ``max_active`` is below 1, ``max_queued`` below 0, or ``on_overload`` is none; also a
            ``ValueError``.

    ```python
    from stageflow.runtime.limits import ConcurrencyLimit

    limit = ConcurrencyLimit(1, max_queued=0)
    print(limit.enter(print), limit.enter(print))
    #> granted refused
    ```
    """

    __slots__ = ("_lock", "_waiting", "active", "max_active", "max_queued", "on_overload")

    def __init__(
        self, max_active: int, *, max_queued: int | None = None, on_overload: Overload = Overload.FAIL
    ) -> None:
        check_count("ConcurrencyLimit", "max_active", max_active, least=1)
        if max_queued is not None:
            check_count("ConcurrencyLimit", "max_queued", max_queued)
        if on_overload not in list(Overload):
            raise wrong_value("ConcurrencyLimit", "on_overload", "is no Overload", on_overload)
        self.max_active = max_active
        self.max_queued = max_queued
        self.on_overload = Overload(on_overload)
        self.active = 0
        self._waiting: deque[Callable[[], bool | None]] = deque()
        self._lock = threading.Lock()  # runs of one graph may be on the event loops of several threads

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, granted: Callable[[], bool | None], *, front: bool = False) -> Admission:
        """Ask for a place.

        Args:
            front: Whether to wait, if need be, before all others, and also in a full line: for those who had a place
                and have lent it.
            granted: After QUEUED, called when there is a place, on whichever thread gave it back. It returns False
                if nobody is there to take the place any more; then the next in line is asked.
        """
        with self._lock:
            if self.active < self.max_active:
                self.active += 1
                return Admission.GRANTED
            if front:
                self._waiting.appendleft(granted)
                return Admission.QUEUED
            if self.max_queued is not None and len(self._waiting) >= self.max_queued:
                return Admission.REFUSED
            self._waiting.append(granted)
            return Admission.QUEUED

    def leave(self) -> None:
        """Give a place back: to whoever waits longest, or to nobody."""
        while True:
            with self._lock:
                if not self._waiting:
                    self.active -= 1
                    return
                granted = self._waiting.popleft()
            if granted() is not False:
                return

    def withdraw(self, granted: Callable[[], bool | None]) -> bool:
        """Wait no longer; False if the place has been granted meanwhile and must be given back."""
        with self._lock:
            try:
                self._waiting.remove(granted)
            except ValueError:
                return False
            return True

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.active}/{self.max_active}, {self.queued} waiting>"
