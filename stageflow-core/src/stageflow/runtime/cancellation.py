"""Asking a run to stop, and cleaning up when it has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, final

from stageflow.context.checks import check_type, number_of, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["CancellationToken", "CleanupRegistry"]

_logger = logging.getLogger("stageflow.runtime")


@final
class CancellationToken:
    """Cancels every run that it was given to, from any thread.

    ```python
    import asyncio

    from stageflow import Pipeline, PipelineCancelled, StageKind
    from stageflow.runtime.cancellation import CancellationToken

    token = CancellationToken()


    async def impatient(ctx):
        token.cancel("changed my mind")
        await asyncio.sleep(60)


    try:
        pipeline = Pipeline().with_stage("impatient", impatient, StageKind.WORK)
        asyncio.run(pipeline.run(cancel_token=token))
    except PipelineCancelled as cancelled:
        print(cancelled.reason)
        #> changed my mind
    ```
    """

    __slots__ = ("_callbacks", "_reason")

    def __init__(self) -> None:
        self._reason: str | None = None
        self._callbacks: list[Callable[[str], None]] = []

    def cancel(self, reason: str = "Cancellation requested") -> None:
        """Cancel. The first reason stays."""
        if self._reason is None:
            self._reason = reason
            for callback in tuple(self._callbacks):
                self._call(callback, reason)

    @property
    def is_cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._reason is not None

    @property
    def reason(self) -> str | None:
        """Why, or None while nobody cancelled."""
        return self._reason

    def on_cancel(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call *callback* with the reason on ``cancel``, at once if that was; what is returned undoes that."""
        check_type("CancellationToken.on_cancel", "callback", callback, Callable, "a callable")
        self._callbacks.append(callback)
        if self._reason is not None:
            self._call(callback, self._reason)
        return lambda: self._callbacks.remove(callback)

    @staticmethod
    def _call(callback: Callable[[str], None], reason: str) -> None:
        """One listener that raises must not keep the others from hearing."""
        try:
            callback(reason)
        except Exception:
            _logger.exception("A listener of a cancellation token raised: %r", callback)


@final
class CleanupRegistry:
    """Callbacks to run when something ends: the last registered first, each with a share of a time limit.

    ```python
    import asyncio

    from stageflow.pipeline.cancellation import CleanupRegistry


    async def close():
        print("closed")


    async def main():
        registry = CleanupRegistry()
        registry.register(close)
        print(await registry.run_all(timeout=1))


    asyncio.run(main())
    #> closed
    #> (['close'], [])
    ```
    """

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    def register(self, callback: Callable[[], Awaitable[None]], *, name: str | None = None) -> None:
        """Add a callback; *name* is for reports."""
        check_type("CleanupRegistry.register", "callback", callback, Callable, "an async callable")
        called = name or str(getattr(callback, "__name__", None) or shown(callback))
        self._callbacks.append((called, callback))

    def unregister(self, callback: Callable[[], Awaitable[None]]) -> bool:
        """Remove a callback, and say whether it was there."""
        for index, (_, known) in enumerate(self._callbacks):
            if known is callback:
                del self._callbacks[index]
                return True
        return False

    @property
    def pending_count(self) -> int:
        """How many callbacks wait."""
        return len(self._callbacks)

    async def run_all(self, *, timeout: float = 10.0) -> tuple[list[str], list[tuple[str, BaseException]]]:  # noqa: ASYNC109 - a share of it goes to each callback
        """Run every callback, also when others fail.

        A callback that is over its share is cancelled. One that ignores even that is given up after another share,
        and left running: nothing can stop it, and whoever waits must not hang with it.

        Args:
            timeout: The limit for all of them, in seconds; each gets an equal share.

        Returns:
            The names of those that ran through, and the others with their errors.

        Raises:
            ArgumentTypeError, ArgumentValueError: *timeout* is no number.
        """
        owner, expects, problem = "CleanupRegistry.run_all", "a number of seconds", "is no number"
        limit = number_of(owner, "timeout", timeout, expects=expects, problem=problem, infinite=True)
        done: list[str] = []
        failed: list[tuple[str, BaseException]] = []
        share = max(limit / max(len(self._callbacks), 1), 0.01)
        while self._callbacks:
            name, callback = self._callbacks.pop()
            error = await _run_within(share, callback)
            if error is None:
                done.append(name)
            else:
                failed.append((name, error))
        return done, failed


async def _run_within(limit: float, callback: Callable[[], Awaitable[None]]) -> BaseException | None:
    """Run a callback in a Task of its own, and return its error, if there is one."""

    async def call() -> None:
        await callback()

    task = asyncio.ensure_future(call())
    task.add_done_callback(
        lambda ended: ended.cancelled() or ended.exception()
    )  # also if nobody waits any more
    try:
        _, late = await asyncio.wait([task], timeout=limit)
        overdue = bool(late)
    finally:  # also when the one who waits is cancelled
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=limit)
    if not task.done():
        return TimeoutError(
            f"It took longer than {limit:g} s, ignores that it was cancelled, and is left running"
        )
    error = None if task.cancelled() else task.exception()
    if error is None and overdue:
        return TimeoutError(f"It took longer than {limit:g} s")
    return asyncio.CancelledError() if task.cancelled() else error
