"""Tasks and cleanup that end with the block they belong to, for code within a stage or outside of any run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, final

from stageflow.context.checks import number_of, wrong_type
from stageflow.errors import LogicError, PipelineCancelled
from stageflow.runtime.cancellation import CleanupRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from types import TracebackType
    from typing import Self

    Cleanup = Callable[[], Awaitable[None]]

__all__ = ["StructuredTaskGroup", "cleanup_on_cancel", "run_with_cleanup"]

T = TypeVar("T")

_logger = logging.getLogger("stageflow.runtime")
_USUAL = 10.0


@final
class StructuredTaskGroup:
    """A group of Tasks with cleanup: the ``async with`` block ends when all of them have, and the cleanup has run.

    It is an ``asyncio.TaskGroup`` otherwise: if one Task fails, or the block does, the others are cancelled and
    awaited, and an ``ExceptionGroup`` is raised. The cleanup runs however it ends, the last registered first, also if
    the one who waits is cancelled meanwhile; what goes wrong in it is logged.

    Args:
        cleanup_timeout: The limit for all cleanup callbacks together, in seconds.

    Raises:
        ArgumentTypeError: The limit is no number.
        ArgumentValueError: It is not positive.

    ```python
    import asyncio

    from stageflow.pipeline.cancellation import StructuredTaskGroup


    async def close():
        print("closed")


    async def main():
        async with StructuredTaskGroup() as group:
            group.register_cleanup(close)
            group.create_task(asyncio.sleep(60))
            answer = group.create_task(asyncio.sleep(0, "answered"))
            print(await answer)
            group.cancel()


    asyncio.run(main())
    #> answered
    #> closed
    ```
    """

    __slots__ = ("_cleanup", "_group", "_tasks", "_timeout")

    def __init__(self, *, cleanup_timeout: float = 10.0) -> None:
        self._timeout = _limit("StructuredTaskGroup", cleanup_timeout)
        self._cleanup = CleanupRegistry()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._group: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if self._group is not None:
            msg = "A StructuredTaskGroup was entered a second time"
            raise LogicError(msg, fix="Make one for every block")
        self._group = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._group is None or isinstance(error, GeneratorExit):
            self.cancel()  # the coroutine is being closed: nothing can be awaited any more
            return
        failure: BaseException | None = None
        try:
            await self._group.__aexit__(kind, error, trace)
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001 - raised when the cleanup has run
            failure = exc
        cancelled = await _clean_up(self._cleanup, self._timeout)
        if cancelled is not None:
            raise cancelled from failure
        if failure is not None:
            raise failure

    def create_task(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a Task.

        Raises:
            LogicError: The block has not been entered, has been left, or ends because something failed.
        """
        try:
            task = (self._group or asyncio.TaskGroup()).create_task(work, name=name)
        except RuntimeError as exc:
            work.close()  # or it would warn that nobody awaited it
            msg = f"A StructuredTaskGroup that is not open was given work: {exc}"
            fix = "Start Tasks inside of the async with block, while nothing in it has failed"
            raise LogicError(msg, fix=fix) from exc
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def register_cleanup(self, callback: Cleanup, *, name: str | None = None) -> None:
        """Call *callback* when the block ends; *name* is for the log."""
        self._cleanup.register(_callback("StructuredTaskGroup.register_cleanup", callback), name=name)

    def cancel(self) -> None:
        """Cancel the Tasks that are under way. The block itself goes on, and may start others."""
        for task in tuple(self._tasks):
            task.cancel()


@asynccontextmanager
async def cleanup_on_cancel(callback: Cleanup, *, name: str | None = None) -> AsyncGenerator[None]:
    """Call *callback* if the ``async with`` block is cancelled, and only then; the cancellation goes on afterwards.

    The cleanup has ten seconds, and is not cut short if the one who waits is cancelled again. What goes wrong in it is
    logged.

    Args:
        callback: What to call.
        name: What to call it in the log.

    Raises:
        ArgumentTypeError: *callback* is no callable.

    ```python
    import asyncio

    from stageflow.pipeline.cancellation import cleanup_on_cancel


    async def roll_back():
        print("rolled back")


    async def transfer():
        async with cleanup_on_cancel(roll_back):
            await asyncio.sleep(60)


    async def main():
        try:
            await asyncio.wait_for(transfer(), 0.01)
        except TimeoutError:
            print("timed out")


    asyncio.run(main())
    #> rolled back
    #> timed out
    ```
    """
    registry = CleanupRegistry()
    registry.register(_callback("cleanup_on_cancel", callback), name=name)
    try:
        yield
    except (asyncio.CancelledError, PipelineCancelled):
        await _clean_up(registry, _USUAL)
        raise


async def run_with_cleanup(work: Awaitable[T], callback: Cleanup, *, cleanup_timeout: float = 5.0) -> T:
    """Await *work*, and call *callback* when it has ended, however it ended.

    The cleanup is not cut short if the one who waits is cancelled meanwhile. What goes wrong in it is logged.

    Args:
        work: A coroutine, or something else to await.
        callback: What to call.
        cleanup_timeout: Its limit, in seconds.

    Returns:
        What came out of *work*.

    Raises:
        ArgumentTypeError: *work* is nothing to await, *callback* no callable, or the limit no number.
        ArgumentValueError: The limit is not positive.

    ```python
    import asyncio

    from stageflow.pipeline.cancellation import run_with_cleanup


    async def close():
        print("closed")


    print(asyncio.run(run_with_cleanup(asyncio.sleep(0, "done"), close)))
    #> closed
    #> done
    ```
    """
    owner, registry = "run_with_cleanup", CleanupRegistry()
    if not hasattr(work, "__await__"):
        raise wrong_type(owner, "work", "something to await", work)
    try:
        registry.register(_callback(owner, callback))
        limit = _limit(owner, cleanup_timeout)
    except Exception:
        if isinstance(work, Coroutine):
            work.close()  # or it would warn that nobody awaited it
        raise
    try:
        result = await work
    except GeneratorExit:  # the coroutine is being closed: nothing can be awaited any more
        raise
    except BaseException as exc:
        cancelled = await _clean_up(registry, limit)
        if cancelled is not None:
            raise cancelled from exc
        raise
    cancelled = await _clean_up(registry, limit)
    if cancelled is not None:
        raise cancelled
    return result


async def _clean_up(registry: CleanupRegistry, limit: float) -> asyncio.CancelledError | None:
    """Run the callbacks to the end; returns the cancellation that came meanwhile, if one did."""
    cancelled: asyncio.CancelledError | None = None
    while registry.pending_count:
        # More than once if somebody cancels every Task there is, and so this one before it has begun.
        task = asyncio.ensure_future(registry.run_all(timeout=limit))
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = exc
        if not task.cancelled():
            for name, error in task.result()[1]:
                _logger.warning("The cleanup %r failed", name, exc_info=error)
    return cancelled


def _callback(owner: str, callback: Cleanup) -> Cleanup:
    if not callable(callback):
        raise wrong_type(owner, "callback", "an async callable without arguments", callback)
    return callback


def _limit(owner: str, seconds: object) -> float:
    expects, problem = "a number of seconds", "must be positive and finite"
    return number_of(owner, "cleanup_timeout", seconds, expects=expects, problem=problem, positive=True)
