"""Where idempotent results and the claims on them are kept: the contract, and the store in memory.

A *claim* is a promise to do the work of one key, for a limited time. Of all who ask for the same key, one gets the
claim; the others wait until it is completed, given up or expired. The five methods need nothing of asyncio but that
they are awaited, so a store in another process can implement them with one statement each:

| method | SQL | Redis |
|---|---|---|
| ``claim`` | ``INSERT ... ON CONFLICT DO UPDATE ... WHERE expired``, then read the row | ``SET key owner NX PX ttl`` |
| ``renew``, ``complete``, ``release`` | ``UPDATE`` or ``DELETE ... WHERE owner = ?`` | a script, comparing owners |
| ``wait`` | sleep for a moment, or ``LISTEN`` | sleep for a moment, or subscribe |
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from enum import Enum, auto
from heapq import heapify, heappop, heappush
from time import monotonic, time
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, cast, final, runtime_checkable

from stageflow.context.checks import check_type, number_of, wrong_type
from stageflow.context.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from stageflow.stages.output import StageOutput

__all__ = [
    "CachedStageResult",
    "Claim",
    "ClaimStatus",
    "ClaimedResultStore",
    "IdempotencyStore",
    "InMemoryIdempotencyStore",
    "ResultStore",
]

_OWNER: Final = "InMemoryIdempotencyStore"


@final
class CachedStageResult(Record):
    """The output of a stage as it is kept for its duplicates.

    Args:
        result: The output, an OK one.
        params_hash: Of the parameters that it was made with; None if there were none.
        expires_at: When it is forgotten, in seconds since the epoch; None means that the store knows.

    ```python
    from stageflow import StageOutput
    from stageflow.interceptors import CachedStageResult

    print(CachedStageResult(StageOutput.ok(paid=True)).result.data)
    #> {'paid': True}
    ```
    """

    __slots__ = ("expires_at", "params_hash", "result")
    __match_args__ = ("result", "params_hash", "expires_at")
    result: StageOutput
    params_hash: str | None
    expires_at: float | None

    def __init__(
        self, result: StageOutput, params_hash: str | None = None, expires_at: float | None = None
    ) -> None:
        put = object.__setattr__
        put(self, "result", result)
        put(self, "params_hash", params_hash)
        put(self, "expires_at", expires_at)


class ClaimStatus(Enum):
    """What a store answers to a claim."""

    ACQUIRED = auto()
    """It is yours: do the work, then ``complete`` or ``release``."""
    HELD = auto()
    """Somebody else is at it: ``wait``, and ask again."""
    DONE = auto()
    """The work is done already; here is what it gave."""


@final
class Claim(Record):
    """A store's answer to a claim.

    Args:
        status: Whether the claim is yours.
        result: What the work gave, if it is done.
    """

    __slots__ = ("result", "status")
    __match_args__ = ("status", "result")
    ACQUIRED: ClassVar[Claim]
    HELD: ClassVar[Claim]
    status: ClaimStatus
    result: CachedStageResult | None

    def __init__(self, status: ClaimStatus, result: CachedStageResult | None = None) -> None:
        object.__setattr__(self, "status", status)
        object.__setattr__(self, "result", result)

    @classmethod
    def done(cls, result: CachedStageResult) -> Claim:
        """The work is done already, and *result* is what it gave."""
        return cls(ClaimStatus.DONE, result)


Claim.ACQUIRED = Claim(ClaimStatus.ACQUIRED)
Claim.HELD = Claim(ClaimStatus.HELD)


@runtime_checkable
class IdempotencyStore(Protocol):
    """Keeps one result, or the claim on it, for each key.

    An implementation must be atomic in each method: of two claims on a free key, one is acquired. An owner is made
    for one claim and used for no other. Exceptions fail the stage before it has started.

    ```python
    from stageflow.interceptors import IdempotencyStore, InMemoryIdempotencyStore

    print(isinstance(InMemoryIdempotencyStore(), IdempotencyStore))
    #> True
    ```
    """

    async def claim(self, key: str, owner: str, *, ttl_seconds: float) -> Claim:
        """Claim *key* for *owner*; an expired claim of somebody else counts for nothing.

        Who holds the claim already gets it again, with a new expiry.
        """
        ...

    async def renew(self, key: str, owner: str, *, ttl_seconds: float) -> bool:
        """Hold the claim for another while; False if it is not the owner's any more."""
        ...

    async def complete(self, key: str, owner: str, entry: CachedStageResult, *, ttl_seconds: float) -> bool:
        """Put the result in place of the claim; False, changing nothing, if somebody else has either by now."""
        ...

    async def release(self, key: str, owner: str) -> None:
        """Give up the claim; nothing happens if it is not the owner's. May be called twice."""
        ...

    async def wait(self, key: str) -> None:
        """Return when the claim on *key* has ended or expired, or a little later; returning early does no harm."""
        ...


@runtime_checkable
class ResultStore(Protocol):
    """The contract of 0.9: results without claims. ``ClaimedResultStore`` makes an ``IdempotencyStore`` of it."""

    async def get(self, key: str) -> CachedStageResult | None:
        """Return the result under *key* that has not expired."""
        ...

    async def set(self, key: str, entry: CachedStageResult, *, ttl_seconds: float) -> None:
        """Keep a result."""
        ...

    async def delete(self, key: str) -> None:
        """Forget a result."""
        ...


@final
class _Slot:
    """What the store in memory knows of one key: who works on it, or what it gave."""

    __slots__ = ("deadline", "owner", "result", "waiters")

    def __init__(self, owner: str, deadline: float) -> None:
        self.owner = owner
        self.deadline = deadline
        self.result: CachedStageResult | None = None
        self.waiters: dict[asyncio.Future[None], None] = {}


@final
class InMemoryIdempotencyStore:
    """Keeps results and claims in this process, for any number of graphs, event loops and threads.

    What has expired is removed whenever the store is used, so it is never larger than what still counts.

    Args:
        clock: The clock by which things expire, in seconds.

    ```python
    import asyncio

    from stageflow import StageOutput
    from stageflow.interceptors.idempotency_store import CachedStageResult, InMemoryIdempotencyStore


    async def main():
        store = InMemoryIdempotencyStore()
        print((await store.claim("order-7", "me", ttl_seconds=60)).status)
        #> ClaimStatus.ACQUIRED
        print((await store.claim("order-7", "you", ttl_seconds=60)).status)
        #> ClaimStatus.HELD
        await store.complete("order-7", "me", CachedStageResult(StageOutput.ok(paid=True)), ttl_seconds=3600)
        print((await store.claim("order-7", "you", ttl_seconds=60)).result.result.data)
        #> {'paid': True}


    asyncio.run(main())
    ```
    """

    __slots__ = ("__weakref__", "_clock", "_counter", "_heap", "_lock", "_slots")

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # held for a few dictionary operations, never while awaiting
        self._slots: dict[str, _Slot] = {}
        self._heap: list[
            tuple[float, int, str]
        ] = []  # every deadline; those that no slot has any more are stale
        self._counter = 0

    @property
    def claims(self) -> int:
        """How many claims are held."""
        with self._lock:
            self._sweep()
            return sum(slot.result is None for slot in self._slots.values())

    def __len__(self) -> int:
        """Return how many results and claims are kept."""
        with self._lock:
            self._sweep()
            return len(self._slots)

    async def claim(self, key: str, owner: str, *, ttl_seconds: float) -> Claim:
        """Claim *key* for *owner*."""
        check_type(_OWNER, "key", key, str, "a str")
        _check_ttl(ttl_seconds)
        with self._lock:
            now = self._sweep()
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot(owner, 0.0)
            elif slot.result is not None:
                return Claim.done(slot.result)
            elif slot.owner != owner:
                return Claim.HELD
            self._expire_at(key, slot, now + ttl_seconds)
            return Claim.ACQUIRED

    async def renew(self, key: str, owner: str, *, ttl_seconds: float) -> bool:
        """Hold the claim for another while."""
        check_type(_OWNER, "key", key, str, "a str")
        _check_ttl(ttl_seconds)
        with self._lock:
            now = self._sweep()
            slot = self._held(key, owner)
            if slot is not None:
                self._expire_at(key, slot, now + ttl_seconds)
            return slot is not None

    async def complete(self, key: str, owner: str, entry: CachedStageResult, *, ttl_seconds: float) -> bool:
        """Put the result in place of the claim; also if the claim has expired and nobody has come since."""
        check_type(_OWNER, "key", key, str, "a str")
        _check_ttl(ttl_seconds)
        with self._lock:
            now = self._sweep()
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot(owner, 0.0)
            elif slot.owner != owner:
                return False
            slot.result = entry
            self._expire_at(key, slot, now + ttl_seconds)
            _wake(slot)
            return True

    async def release(self, key: str, owner: str) -> None:
        """Give up the claim."""
        check_type(_OWNER, "key", key, str, "a str")
        with self._lock:
            self._sweep()
            if self._held(key, owner) is not None:
                self._drop(key)

    async def wait(self, key: str) -> None:
        """Return when the claim on *key* has ended or expired."""
        check_type(_OWNER, "key", key, str, "a str")
        loop = asyncio.get_running_loop()
        with self._lock:
            now = self._sweep()
            slot = self._slots.get(key)
            if slot is None or slot.result is not None:
                return
            future = loop.create_future()
            slot.waiters[future] = None
            left = slot.deadline - now
        timer = loop.call_later(left, _settle, future)
        try:
            await future
        finally:
            timer.cancel()
            with self._lock:
                slot.waiters.pop(future, None)

    async def get(self, key: str) -> CachedStageResult | None:
        """Return the result under *key*."""
        check_type(_OWNER, "key", key, str, "a str")
        with self._lock:
            self._sweep()
            slot = self._slots.get(key)
            return None if slot is None else slot.result

    async def set(self, key: str, entry: CachedStageResult, *, ttl_seconds: float) -> None:
        """Keep a result, in place of whatever is there."""
        check_type(_OWNER, "key", key, str, "a str")
        _check_ttl(ttl_seconds)
        with self._lock:
            now = self._sweep()
            if key in self._slots:
                self._drop(key)
            slot = self._slots[key] = _Slot("", 0.0)
            slot.result = entry
            self._expire_at(key, slot, now + ttl_seconds)

    async def delete(self, key: str) -> None:
        """Forget a result. A claim stays: somebody is at work on it."""
        check_type(_OWNER, "key", key, str, "a str")
        with self._lock:
            self._sweep()
            slot = self._slots.get(key)
            if slot is not None and slot.result is not None:
                self._drop(key)

    # --- the lock is held in all that follows -----------------------------------------------------------

    def _held(self, key: str, owner: str) -> _Slot | None:
        slot = self._slots.get(key)
        return slot if slot is not None and slot.result is None and slot.owner == owner else None

    def _drop(self, key: str) -> None:
        _wake(self._slots.pop(key))
        if not self._slots:
            self._heap.clear()

    def _expire_at(self, key: str, slot: _Slot, deadline: float) -> None:
        slot.deadline = deadline
        self._counter += 1
        heappush(self._heap, (deadline, self._counter, key))
        if len(self._heap) > 2 * len(self._slots) + 64:
            self._heap = [
                (one.deadline, number, key) for number, (key, one) in enumerate(self._slots.items())
            ]
            heapify(self._heap)

    def _sweep(self) -> float:
        """Remove what has expired, and return the time."""
        now, heap = self._clock(), self._heap
        while heap and heap[0][0] <= now:
            deadline, _, key = heappop(heap)
            slot = self._slots.get(key)
            if slot is not None and slot.deadline == deadline:
                self._drop(key)
        return now


def _check_ttl(value: object) -> None:
    """Refuse what is no time; a negative one expires at once."""
    problem = "must be finite"
    number_of(_OWNER, "ttl_seconds", value, expects="a number of seconds", problem=problem)


def _wake(slot: _Slot) -> None:
    """Wake whoever waits for the slot, each in their own event loop."""
    if not slot.waiters:
        return
    waiters, slot.waiters = slot.waiters, {}
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    for future in waiters:
        loop = future.get_loop()
        if loop is here:
            _settle(future)
            continue
        with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
            loop.call_soon_threadsafe(_settle, future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@final
class ClaimedResultStore:
    """Adds claims, kept in this process, to a store that only keeps results, as those written for 0.9 do.

    Duplicates within the process collapse; two processes that share the results may both do the work. A store that
    implements ``IdempotencyStore`` itself does better.

    Args:
        results: The store; share one ``ClaimedResultStore`` of it, not several.
        clock: The wall clock, for results with an ``expires_at``.

    ```python
    import asyncio

    from stageflow.interceptors.idempotency_store import ClaimedResultStore


    class Results(dict):
        async def get(self, key):
            return dict.get(self, key)

        async def set(self, key, entry, *, ttl_seconds):
            self[key] = entry

        async def delete(self, key):
            self.pop(key, None)


    store = ClaimedResultStore(Results())
    print(asyncio.run(store.claim("order-7", "me", ttl_seconds=60)).status)
    #> ClaimStatus.ACQUIRED
    ```
    """

    __slots__ = ("_claims", "_clock", "results")

    def __init__(self, results: ResultStore, *, clock: Callable[[], float] = time) -> None:
        self.results = results
        self._claims = InMemoryIdempotencyStore()
        self._clock = clock

    async def claim(self, key: str, owner: str, *, ttl_seconds: float) -> Claim:
        """Claim *key* for *owner*."""
        claim = await self._claims.claim(key, owner, ttl_seconds=ttl_seconds)
        if claim.status is not ClaimStatus.ACQUIRED:
            return claim
        entry = await self.results.get(key)  # what was completed before this claim is visible by now
        if entry is None or (entry.expires_at is not None and entry.expires_at <= self._clock()):
            return claim
        await self._claims.release(key, owner)
        return Claim.done(entry)

    async def renew(self, key: str, owner: str, *, ttl_seconds: float) -> bool:
        """Hold the claim for another while."""
        return await self._claims.renew(key, owner, ttl_seconds=ttl_seconds)

    async def complete(self, key: str, owner: str, entry: CachedStageResult, *, ttl_seconds: float) -> bool:
        """Keep the result, then end the claim."""
        if (await self._claims.claim(key, owner, ttl_seconds=ttl_seconds)).status is ClaimStatus.HELD:
            return False
        await self.results.set(
            key, entry, ttl_seconds=ttl_seconds
        )  # if it raises, the claim stays until it expires
        await self._claims.release(key, owner)
        return True

    async def release(self, key: str, owner: str) -> None:
        """Give up the claim."""
        await self._claims.release(key, owner)

    async def wait(self, key: str) -> None:
        """Return when the claim on *key* has ended or expired."""
        await self._claims.wait(key)


def as_idempotency_store(store: object) -> IdempotencyStore:
    """Return *store* itself, or with claims added if it only keeps results: always the same for the same store.

    Raises:
        ArgumentTypeError: It is neither.
    """
    # Asked for by name: isinstance() does not see what a proxy looks up, from Python 3.12 on.
    if _has(store, "claim", "renew", "complete", "release", "wait"):
        return cast("IdempotencyStore", store)
    if not _has(store, "get", "set", "delete"):
        raise wrong_type("IdempotencyInterceptor", "store", "an IdempotencyStore", store)
    # The claims belong to the store: graphs that share it must share them, or duplicates would not meet.
    claimed = getattr(store, _CLAIMED, None)
    if not isinstance(claimed, ClaimedResultStore):
        claimed = ClaimedResultStore(cast("ResultStore", store))
        try:
            setattr(store, _CLAIMED, claimed)
        except AttributeError as exc:
            from stageflow.errors import ConfigurationError

            what = f"{type(store).__name__} keeps results without claims, and none can be added to it"
            fix = "Make one ClaimedResultStore(store) and pass that to every interceptor that shares it"
            raise ConfigurationError(what, fix=fix) from exc
    return claimed


def _has(store: object, *methods: str) -> bool:
    return all(callable(getattr(store, method, None)) for method in methods) and not isinstance(store, type)


_CLAIMED = "_stageflow_claims"
