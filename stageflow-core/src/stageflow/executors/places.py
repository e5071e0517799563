"""Who may use a worker, and who waits for one."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Generic, TypeVar, final

__all__ = ["Places"]

W = TypeVar("W")


@final
class Places(Generic[W]):
    """A number of places, each with a worker in it or none yet. First come, first served; a place is handed on.

    The event loops of several threads may share it.

    Args:
        count: How many there are.

    ```python
    import asyncio

    from stageflow.executors.places import Places


    async def main():
        places = Places[str](1)
        print(await places.take())
        places.give_back("worker")
        print(await places.take())


    asyncio.run(main())
    #> None
    #> worker
    ```
    """

    __slots__ = ("_empty", "_idle", "_lock", "_own", "_waiting", "count")

    def __init__(self, count: int) -> None:
        self.count = count
        self._empty = count
        self._idle: list[W] = []
        self._waiting: deque[_Waiter[W]] = deque()
        self._own: dict[W, deque[_Waiter[W]]] = {}  # who waits for that very worker
        self._lock = threading.Lock()

    @property
    def workers(self) -> tuple[W, ...]:
        """Every worker that there is, at rest or not."""
        with self._lock:
            return tuple(self._own)

    async def take(self) -> W | None:
        """Wait for a place. The worker in it is the caller's until it is given back; None: the caller makes one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()  # the one that rested for the shortest time: its caches are warm
            if self._empty:
                self._empty -= 1
                return None
            waiter = _Waiter[W](asyncio.get_running_loop())
            self._waiting.append(waiter)
        return await self._granted(waiter, self._waiting)

    async def take_own(self, worker: W) -> W | None:
        """Wait for one worker and no other; None if it is no more."""
        with self._lock:
            if worker in self._idle:
                self._idle.remove(worker)
                return worker
            if worker not in self._own:
                return None
            waiter = _Waiter[W](asyncio.get_running_loop())
            self._own[worker].append(waiter)
        return await self._granted(waiter, self._own[worker])

    async def _granted(self, waiter: _Waiter[W], line: deque[_Waiter[W]]) -> W | None:
        try:
            await waiter.future
        except BaseException:
            with self._lock:
                waiting = waiter in line
                if waiting:
                    line.remove(waiter)
            if not waiting and not waiter.gone:  # it has been handed a place that it does not want any more
                self.give_back(waiter.worker)
            raise
        return waiter.worker

    def enrol(self, worker: W) -> None:
        """Note a new worker, which its maker has."""
        with self._lock:
            self._own[worker] = deque()

    def forget(self, worker: W) -> None:
        """Note that a worker is no more; whoever waits for that one does not any longer. Its place stays taken."""
        with self._lock:
            for waiter in self._own.pop(worker, ()):
                waiter.gone = True
                waiter.wake(None)

    def give_back(self, worker: W | None) -> None:
        """Give a place back, with a worker in it or with none."""
        while (waiter := self._next(worker)) is not None:
            if waiter.wake(worker):
                return

    def _next(self, worker: W | None) -> _Waiter[W] | None:
        """Return who gets the place; with nobody there, it is free."""
        with self._lock:
            if worker is not None and self._own.get(worker):
                return self._own[worker].popleft()
            if self._waiting:
                return self._waiting.popleft()
            if worker is None:
                self._empty += 1
            else:
                self._idle.append(worker)
            return None


@final
class _Waiter(Generic[W]):
    """Somebody who waits, on whichever event loop."""

    __slots__ = ("_loop", "future", "gone", "worker")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[None] = loop.create_future()
        self.worker: W | None = None
        self.gone = False

    def wake(self, worker: W | None) -> bool:
        """Hand over the place; False if the event loop is closed, on which nobody waits any more."""
        self.worker = worker
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            return False
        return True

    def _set(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
