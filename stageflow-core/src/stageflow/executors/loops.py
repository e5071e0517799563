"""``await_on``: await something on another event loop, which runs in another thread."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import copy_context
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from stageflow.errors import RunStateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["Visit", "await_on", "to_its_end"]

T = TypeVar("T")

_UNSET: Any = object()


async def await_on(loop: asyncio.AbstractEventLoop, make: Callable[[], Awaitable[T]]) -> T:
    """Call *make* on *loop*, in a Task that sees the caller's context variables, and await what it returns there.

    Args:
        loop: An event loop that runs in another thread, or the one of the caller.
        make: Makes what is awaited.

    Raises:
        RunStateError: The loop is closed.
        Exception: Whatever is raised there.

    ```python
    import asyncio
    import threading

    from stageflow.executors.loops import await_on


    async def where():
        return threading.current_thread().name


    async def main():
        other = asyncio.new_event_loop()
        thread = threading.Thread(target=other.run_forever, name="other")
        thread.start()
        print(await await_on(other, where))
        other.call_soon_threadsafe(other.stop)
        thread.join()
        other.close()


    asyncio.run(main())
    #> other
    ```
    """
    if loop is asyncio.get_running_loop():
        return await make()
    return await Visit(loop, make).result()


@final
class Visit(Generic[T]):
    """One stay on another loop.

    Each cancellation of the caller is passed on to the Task over there, and the caller waits for its end. If that Task
    has not begun, it never does. A value that was there before the Task heard of the cancellation is dropped; an error
    is not.

    Args:
        loop: The other loop.
        make: Makes what is awaited there.
        ended: Called over there when it has ended, or will never begin.

    Attributes:
        began_ns: When it began, on the monotonic clock; None before.
        ended_ns: When it ended.
    """

    __slots__ = (
        "_away",
        "_context",
        "_ended",
        "_error",
        "_given_up",
        "_home",
        "_lock",
        "_make",
        "_over",
        "_task",
        "_unheard",
        "_value",
        "_waiter",
        "began_ns",
        "ended_ns",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Awaitable[T]],
        ended: Callable[[], object] | None = None,
    ) -> None:
        self._away = loop
        self._home = asyncio.get_running_loop()
        self._context = copy_context()
        self._make = make
        self._ended = ended
        self._lock = threading.Lock()
        self._given_up = False
        self._unheard = 0  # cancellations that the Task has not heard of
        self._task: asyncio.Task[None] | None = None
        self._value: T = _UNSET
        self._error: BaseException | None = None
        self._over = False
        self._waiter: asyncio.Future[None] | None = None
        self.began_ns: int | None = None
        self.ended_ns = 0

    async def result(self) -> T:
        """Go there, and return what came of it."""
        try:
            self._away.call_soon_threadsafe(self._begin)
        except RuntimeError as exc:
            msg = "The event loop on which something is to be awaited is closed"
            raise RunStateError(msg, fix="Use a stage's context only until its run has ended") from exc
        cancelled: asyncio.CancelledError | None = None
        while not self._over:
            self._waiter = self._home.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as exc:
                cancelled = exc
                if self._give_up():
                    raise
            except GeneratorExit:  # this loop has gone, and nobody can wait any more
                self._give_up()
                raise
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # whose traceback holds this frame
        if cancelled is not None and self._unheard:
            raise cancelled
        return self._value

    def _give_up(self) -> bool:
        """Ask for the end; True if it has not begun, and so never will."""
        with self._lock:
            if self.began_ns is None:
                self._given_up = True
                return True
            self._unheard += 1
        with suppress(RuntimeError):  # closed: it has ended
            self._away.call_soon_threadsafe(self._cancel)
        return False

    def _arrive(self) -> None:
        self._over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- over there -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._lock:
            if not self._given_up:
                self.began_ns = monotonic_ns()
        if self.began_ns is None:
            if self._ended is not None:
                self._ended()
            return
        self._task = self._away.create_task(self._run(), context=self._context)
        self._task.add_done_callback(self._done)

    def _cancel(self) -> None:
        if self._task is not None and self._task.cancel():
            with self._lock:
                self._unheard -= 1

    async def _run(self) -> None:
        try:
            self._value = await self._make()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the caller's
            self._error = exc
        self.ended_ns = monotonic_ns()

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step
            self._error = asyncio.CancelledError()
            self.ended_ns = monotonic_ns()
        if self._ended is not None:
            self._ended()
        with suppress(RuntimeError):  # the loop of the caller is closed
            self._home.call_soon_threadsafe(self._arrive)


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await *work* in a Task of its own to its end, also if the caller is cancelled meanwhile.

    Raises:
        asyncio.CancelledError: The caller was cancelled; the work has been done.

    ```python
    import asyncio

    from stageflow.executors.loops import to_its_end


    async def close():
        await asyncio.sleep(0.01)
        print("closed")


    async def main():
        task = asyncio.create_task(to_its_end(close()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        print(task.cancelled())


    asyncio.run(main())
    #> closed
    #> True
    ```
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # it is nobody's any more, and asyncio would complain
        raise cancelled
    return task.result()
