"""``ClaimHold``: a claim on a key for as long as an ``async with`` block lasts, however it ends."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, final

from stageflow.interceptors.idempotency_store import ClaimStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import TracebackType
    from typing import Self

    from stageflow.interceptors.idempotency_store import CachedStageResult, IdempotencyStore

__all__ = ["ClaimHold"]

_logger = logging.getLogger("stageflow.idempotency")
_held: ContextVar[frozenset[str]] = ContextVar("stageflow_held_claims", default=frozenset())

GRACE = 5.0
"""How long a store may take, in seconds, to be told the outcome."""


@final
class ClaimHold:
    """Holds the claim on *key* during an ``async with`` block, or waits for whoever holds it.

    On entry either ``result`` is what the work has given before, or the claim is this block's. It is renewed while
    the block runs, and given up when the block ends without ``complete``: by returning, by an exception, by being
    cancelled at any await, or by being thrown away.

    Args:
        store: Where claims are kept.
        key: What is claimed.
        ttl_seconds: How long the claim outlasts a holder that died.

    ```python
    import asyncio

    from stageflow.interceptors.idempotency_claim import ClaimHold
    from stageflow.interceptors.idempotency_store import InMemoryIdempotencyStore


    async def main():
        store = InMemoryIdempotencyStore()
        async with ClaimHold(store, "order-7", ttl_seconds=60) as hold:
            print(hold.result, store.claims)
            #> None 1
        print(store.claims)
        #> 0


    asyncio.run(main())
    ```
    """

    __slots__ = ("_before", "_heartbeat", "_key", "_mine", "_owner", "_store", "_ttl", "result", "waited")

    def __init__(self, store: IdempotencyStore, key: str, *, ttl_seconds: float) -> None:
        from uuid import uuid4

        self._store = store
        self._key = key
        self._ttl = ttl_seconds
        self._owner = uuid4().hex
        self._mine = False
        self._before: frozenset[str] = frozenset()
        self._heartbeat: _Heartbeat | None = None
        self.result: CachedStageResult | None = None
        self.waited = False

    async def __aenter__(self) -> Self:
        while True:
            try:
                claim = await self._store.claim(self._key, self._owner, ttl_seconds=self._ttl)
            except GeneratorExit:
                self._drop()
                raise
            except BaseException:
                await self._release()  # the store may have granted it while the answer was on its way
                raise
            if claim.status is not ClaimStatus.HELD:
                break
            if self._key in _held.get():
                raise _within_itself()
            self.waited = True
            await self._store.wait(self._key)
            await asyncio.sleep(0)  # a store whose wait() returns at once must not keep the loop to itself
        if claim.status is ClaimStatus.DONE:
            self.result = claim.result
            return self
        self._mine = True
        self._before = _held.get()
        _held.set(self._before | {self._key})
        self._heartbeat = _Heartbeat(self._renew, self._ttl / 3)
        return self

    async def complete(self, entry: CachedStageResult, *, ttl_seconds: float) -> bool:
        """Put the result in place of the claim; False if it could not be kept.

        The work is done, so nothing that goes wrong here is an error of the stage: it is logged. A store that raises
        keeps the claim until it expires, so that duplicates do not start at once.
        """
        self._mine = False
        self._end_heartbeat()

        async def complete() -> bool:
            return await self._store.complete(self._key, self._owner, entry, ttl_seconds=ttl_seconds)

        try:
            kept: bool = await _to_the_end(complete)
        except Exception:
            _logger.exception(
                "The result of an idempotent stage could not be kept; a duplicate will run it again"
            )
            return False
        if not kept:
            _logger.warning(
                "The claim of an idempotent stage had expired before its result was there, and somebody else "
                "took over; raise claim_ttl_seconds or keep the event loop free"
            )
        return kept

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        heartbeat = self._end_heartbeat()
        if isinstance(error, GeneratorExit):  # the coroutine is thrown away: nothing can be waited for
            if self._mine:
                self._drop()
            return
        try:
            if self._mine:
                self._mine = False
                await self._release()
        finally:
            if heartbeat is not None:
                await heartbeat.ended()

    def _end_heartbeat(self) -> _Heartbeat | None:
        heartbeat = self._heartbeat
        if heartbeat is not None and not heartbeat.stopped:
            heartbeat.stop()
            _held.set(self._before)
        return heartbeat

    async def _renew(self) -> bool:
        return await self._store.renew(self._key, self._owner, ttl_seconds=self._ttl)

    async def _release(self) -> None:
        try:
            await _to_the_end(lambda: self._store.release(self._key, self._owner))
        except Exception:
            # What ended the block is the error to raise, and the claim expires by itself.
            _logger.warning("A claim could not be given up; it expires in %g s", self._ttl, exc_info=True)

    def _drop(self) -> None:
        """Give up the claim without an event loop: as far as the store gets without waiting."""
        step: Generator[Any, Any, None] = self._store.release(self._key, self._owner).__await__()
        try:
            next(step)
        except StopIteration:
            return
        except Exception:
            _logger.warning("A claim could not be given up; it expires in %g s", self._ttl, exc_info=True)
        step.close()


@final
class _Heartbeat:
    """Renews a claim every *period* seconds; costs one timer unless the work takes that long."""

    __slots__ = ("_loop", "_period", "_renew", "_task", "_timer", "stopped")

    def __init__(self, renew: Callable[[], Awaitable[bool]], period: float) -> None:
        self._renew = renew
        self._period = period
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(period, self._beat)
        self.stopped = False

    def _beat(self) -> None:
        self._task = self._loop.create_task(self._once())

    async def _once(self) -> None:
        try:
            kept = await self._renew()
        except Exception:
            _logger.warning("A claim could not be renewed; trying again", exc_info=True)
            kept = True
        if not kept:
            _logger.warning("A claim was lost while its holder was at work: it had expired")
        elif not self.stopped:
            self._timer = self._loop.call_later(self._period, self._beat)

    def stop(self) -> None:
        self.stopped = True
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Wait until nothing of it is alive, for as long as the grace lasts."""
        if self._task is not None:
            cancelled = await _outwait(self._task, GRACE)
            if cancelled is not None:
                raise cancelled


async def _to_the_end(operation: Callable[[], Awaitable[Any]]) -> Any:
    """Await an operation that may be asked twice; whoever cancels meanwhile waits until it is through.

    Raises:
        TimeoutError: It took longer than the grace: a store that hangs must not hold up the end of a run.
    """
    try:
        async with asyncio.timeout(GRACE):
            return await operation()
    except asyncio.CancelledError:
        # Nobody knows how far it came, so it is asked again, out of the reach of further cancellations.
        task = asyncio.ensure_future(operation())
        await _outwait(task, GRACE)
        if not task.done():
            _logger.warning("A store did not answer within %g s after its stage was cancelled", GRACE)
            task.cancel()
            await _outwait(task, GRACE)
        elif not task.cancelled() and task.exception() is not None:
            _logger.warning("A store raised after its stage was cancelled", exc_info=task.exception())
        raise


async def _outwait(task: asyncio.Future[Any], seconds: float) -> asyncio.CancelledError | None:
    """Wait until *task* is done, but not for ever; returns the cancellation that came meanwhile, if one did."""
    cancelled: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not task.done() and (left := end - loop.time()) > 0:
        try:
            await asyncio.wait([task], timeout=left)
        except asyncio.CancelledError as exc:
            cancelled = exc
    return cancelled


def _within_itself() -> Exception:
    from stageflow.context.checks import ArgumentValueError

    return ArgumentValueError(
        "IdempotencyInterceptor",
        "idempotency_key",
        "is held by the stage that this run was started from, which waits for this one: neither would ever end",
        fix="Give the inner run an idempotency key of its own, or none",
    )
