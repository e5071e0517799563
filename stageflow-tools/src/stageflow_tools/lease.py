"""A lease that is renewed for as long as its holder is at work, and operations that a cancellation does not tear."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

__all__ = ["kept_alive", "outwait", "to_the_end"]

T = TypeVar("T")

_logger = logging.getLogger("stageflow.tools")


@asynccontextmanager
async def kept_alive(renew: Callable[[], Awaitable[object]], lease_seconds: float) -> AsyncGenerator[None]:
    """Renew a lease three times within its length, until the block ends.

    A renewal that fails is logged and tried again: what the holder does goes on, and whether the lease still counts is
    decided when the outcome is written down.

    Args:
        renew: Renews it.
        lease_seconds: How long it lasts.
    """

    async def beat() -> None:
        while True:
            await asyncio.sleep(lease_seconds / 3)
            try:
                await renew()
            except Exception:
                _logger.warning("A lease could not be renewed; trying again", exc_info=True)

    task = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        task.cancel()
        cancelled = await outwait(task)
        with suppress(asyncio.CancelledError):
            task.result()
        if cancelled is not None:
            raise cancelled


async def to_the_end(operation: Coroutine[Any, Any, T]) -> T:
    """Await an operation that must not be left half done; whoever cancels meanwhile waits until it is through.

    Args:
        operation: What is to come to its end.

    Raises:
        Exception: Whatever it raises.
    """
    task = asyncio.ensure_future(operation)
    cancelled = await outwait(task)
    if cancelled is None:
        return task.result()
    if not task.cancelled() and task.exception() is not None:
        _logger.warning("An operation failed after its caller was cancelled", exc_info=task.exception())
    raise cancelled


async def outwait(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until *task* is done; returns the cancellation that came meanwhile, if one did."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as exc:
            cancelled = exc
    return cancelled
