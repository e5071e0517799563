"""The contract of idempotency stores: in memory, over a store of 0.9, and in a database file that processes share."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from stageflow import StageOutput
from stageflow.context import ArgumentTypeError
from stageflow.errors import ConfigurationError
from stageflow.interceptors.idempotency import IdempotencyInterceptor
from stageflow.interceptors.idempotency_claim import ClaimHold
from stageflow.interceptors.idempotency_store import (
    CachedStageResult,
    Claim,
    ClaimedResultStore,
    ClaimStatus,
    IdempotencyStore,
    InMemoryIdempotencyStore,
    ResultStore,
)

if TYPE_CHECKING:
    from pathlib import Path

ACQUIRED, HELD, DONE = ClaimStatus.ACQUIRED, ClaimStatus.HELD, ClaimStatus.DONE


def entry(n: int = 1) -> CachedStageResult:
    return CachedStageResult(StageOutput.ok(n=n))


class Results:
    """A store as 0.9 had them."""

    def __init__(self) -> None:
        self.kept: dict[str, CachedStageResult] = {}

    async def get(self, key: str) -> CachedStageResult | None:
        await asyncio.sleep(0)
        return self.kept.get(key)

    async def set(self, key: str, entry: CachedStageResult, *, ttl_seconds: float) -> None:
        await asyncio.sleep(0)
        self.kept[key] = entry

    async def delete(self, key: str) -> None:
        self.kept.pop(key, None)


class SQLiteStore:
    """What a store over SQL looks like; several of them on one file are as several processes."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS claim (key TEXT PRIMARY KEY, owner TEXT, result BLOB, expires REAL)"
        )

    def close(self) -> None:
        self._db.close()

    async def claim(self, key: str, owner: str, *, ttl_seconds: float) -> Claim:
        now = time.time()
        row = self._db.execute(
            "INSERT INTO claim VALUES (?, ?, NULL, ?) ON CONFLICT (key) DO UPDATE SET "
            "owner = CASE WHEN expires <= ? THEN excluded.owner ELSE owner END, "
            "result = CASE WHEN expires <= ? THEN NULL ELSE result END, "
            "expires = CASE WHEN expires <= ? OR (owner = excluded.owner AND result IS NULL) "
            "THEN excluded.expires ELSE expires END RETURNING owner, result",
            (key, owner, now + ttl_seconds, now, now, now),
        ).fetchone()
        if row[1] is not None:
            return Claim.done(pickle.loads(row[1]))
        return Claim.ACQUIRED if row[0] == owner else Claim.HELD

    async def renew(self, key: str, owner: str, *, ttl_seconds: float) -> bool:
        done = self._db.execute(
            "UPDATE claim SET expires = ? WHERE key = ? AND owner = ? AND result IS NULL AND expires > ?",
            (time.time() + ttl_seconds, key, owner, time.time()),
        )
        return done.rowcount == 1

    async def complete(self, key: str, owner: str, entry: CachedStageResult, *, ttl_seconds: float) -> bool:
        done = self._db.execute(
            "UPDATE claim SET result = ?, expires = ? WHERE key = ? AND owner = ?",
            (pickle.dumps(entry), time.time() + ttl_seconds, key, owner),
        )
        return done.rowcount == 1

    async def release(self, key: str, owner: str) -> None:
        self._db.execute("DELETE FROM claim WHERE key = ? AND owner = ? AND result IS NULL", (key, owner))

    async def wait(self, key: str) -> None:
        await asyncio.sleep(0.005)


@pytest.fixture(params=["memory", "results", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        yield InMemoryIdempotencyStore()
    elif request.param == "results":
        yield ClaimedResultStore(Results())
    else:
        made = SQLiteStore(tmp_path / "claims.db")
        yield made
        made.close()


# --- the contract -------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_one_of_two_gets_the_claim(store: IdempotencyStore):
    assert isinstance(store, IdempotencyStore)
    assert (await store.claim("k", "a", ttl_seconds=60)).status is ACQUIRED
    assert (await store.claim("k", "a", ttl_seconds=60)).status is ACQUIRED, "asking again loses nothing"
    assert (await store.claim("k", "b", ttl_seconds=60)).status is HELD
    assert (await store.claim("other", "b", ttl_seconds=60)).status is ACQUIRED


@pytest.mark.asyncio
async def test_a_completed_claim_gives_its_result_to_everybody(store: IdempotencyStore):
    await store.claim("k", "a", ttl_seconds=60)
    assert await store.complete("k", "a", entry(7), ttl_seconds=60)
    for owner in "ab":
        claim = await store.claim("k", owner, ttl_seconds=60)
        assert (claim.status, claim.result) == (DONE, entry(7))
    await store.release("k", "a")
    assert (await store.claim("k", "b", ttl_seconds=60)).status is DONE, "release() is not for results"


@pytest.mark.asyncio
async def test_only_the_owner_renews_completes_and_releases(store: IdempotencyStore):
    await store.claim("k", "a", ttl_seconds=60)
    assert not await store.renew("k", "b", ttl_seconds=60)
    assert not await store.complete("k", "b", entry(), ttl_seconds=60)
    await store.release("k", "b")
    assert (await store.claim("k", "c", ttl_seconds=60)).status is HELD
    assert await store.renew("k", "a", ttl_seconds=60)
    await store.release("k", "a")
    await store.release("k", "a")
    assert (await store.claim("k", "c", ttl_seconds=60)).status is ACQUIRED


@pytest.mark.asyncio
async def test_an_expired_claim_is_free_and_its_owner_comes_too_late(store: IdempotencyStore):
    await store.claim("k", "dead", ttl_seconds=0.2)
    assert (await store.claim("k", "b", ttl_seconds=60)).status is HELD
    while (await store.claim("k", "b", ttl_seconds=60)).status is HELD:
        await store.wait("k")
    assert not await store.renew("k", "dead", ttl_seconds=60)
    assert not await store.complete("k", "dead", entry(), ttl_seconds=60)
    await store.release("k", "dead")
    assert await store.renew("k", "b", ttl_seconds=60)


@pytest.mark.asyncio
async def test_a_waiter_is_woken_by_the_end_of_the_claim(store: IdempotencyStore):
    for end in ("release", "complete"):
        await store.claim(end, "a", ttl_seconds=60)
        waiters = [asyncio.create_task(store.wait(end)) for _ in range(3)]
        await asyncio.sleep(0)
        if end == "release":
            await store.release(end, "a")
        else:
            await store.complete(end, "a", entry(), ttl_seconds=60)
        await asyncio.gather(*waiters)
        await store.wait("free")  # nothing to wait for


def test_two_stores_on_one_file_are_one(tmp_path: Path):
    """The protocol is enough for another process: here, threads with an event loop and a connection each."""
    ran: list[int] = []
    results: list[Any] = []

    def process(number: int) -> None:
        store = SQLiteStore(tmp_path / "claims.db")

        async def work() -> None:
            async with ClaimHold(store, "k", ttl_seconds=60) as hold:
                if hold.result is None:
                    ran.append(number)
                    await asyncio.sleep(0.05)
                    await hold.complete(entry(number), ttl_seconds=60)
                else:
                    results.append(hold.result)

        asyncio.run(work())
        store.close()

    SQLiteStore(tmp_path / "claims.db").close()
    threads = [threading.Thread(target=process, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 1
    assert results == [entry(ran[0])] * 3


# --- in memory ----------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def now(step: Any) -> Any:
    """Return what a coroutine returns that never suspends."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    step.close()
    msg = "it suspended"
    raise AssertionError(msg)


class StoreMachine(RuleBasedStateMachine):
    """The store against a dictionary: key -> (owner, result or None, deadline)."""

    keys = Bundle("keys")
    owners = st.sampled_from("abc")
    ttls = st.integers(1, 20)

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = InMemoryIdempotencyStore(clock=self.clock)
        self.model: dict[str, tuple[str, CachedStageResult | None, float]] = {}

    @rule(target=keys, key=st.sampled_from("xyz"))
    def key(self, key: str) -> str:
        return key

    @rule(seconds=st.integers(0, 15))
    def later(self, seconds: int) -> None:
        self.clock.now += seconds
        self.model = {key: one for key, one in self.model.items() if one[2] > self.clock.now}

    @rule(key=keys, owner=owners, ttl=ttls)
    def claim(self, key: str, owner: str, ttl: int) -> None:
        claim = now(self.store.claim(key, owner, ttl_seconds=ttl))
        held = self.model.get(key)
        if held is not None and held[1] is not None:
            assert claim == Claim.done(held[1])
        elif held is None or held[0] == owner:
            assert claim.status is ACQUIRED
            self.model[key] = (owner, None, self.clock.now + ttl)
        else:
            assert claim.status is HELD

    @rule(key=keys, owner=owners, ttl=ttls)
    def renew(self, key: str, owner: str, ttl: int) -> None:
        mine = key in self.model and self.model[key][:2] == (owner, None)
        assert now(self.store.renew(key, owner, ttl_seconds=ttl)) is mine
        if mine:
            self.model[key] = (owner, None, self.clock.now + ttl)

    @rule(key=keys, owner=owners, ttl=ttls, n=st.integers(0, 9))
    def complete(self, key: str, owner: str, ttl: int, n: int) -> None:
        may = key not in self.model or self.model[key][0] == owner
        assert now(self.store.complete(key, owner, entry(n), ttl_seconds=ttl)) is may
        if may:
            self.model[key] = (owner, entry(n), self.clock.now + ttl)

    @rule(key=keys, owner=owners)
    def release(self, key: str, owner: str) -> None:
        now(self.store.release(key, owner))
        if self.model.get(key, ("", None, 0))[:2] == (owner, None):
            del self.model[key]

    @rule(key=keys, ttl=ttls)
    def put(self, key: str, ttl: int) -> None:
        now(self.store.set(key, entry(), ttl_seconds=ttl))
        self.model[key] = ("", entry(), self.clock.now + ttl)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        now(self.store.delete(key))
        if key in self.model and self.model[key][1] is not None:
            del self.model[key]

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert now(self.store.get(key)) == self.model.get(key, ("", None, 0))[1]

    @invariant()
    def holds_what_counts_and_no_more(self) -> None:
        assert len(self.store) == len(self.model)
        assert self.store.claims == sum(result is None for _, result, _ in self.model.values())
        assert len(self.store._heap) <= 2 * len(self.model) + 65


TestStore = StoreMachine.TestCase


@pytest.mark.asyncio
async def test_the_table_shrinks():
    clock = Clock()
    store = InMemoryIdempotencyStore(clock=clock)
    for number in range(1000):
        await store.claim(f"k{number}", "a", ttl_seconds=60)
    assert store.claims == 1000
    for number in range(0, 1000, 2):
        await store.release(f"k{number}", "a")
    for number in range(1, 1000, 2):
        await store.complete(f"k{number}", "a", entry(), ttl_seconds=100)
    assert (store.claims, len(store)) == (0, 500)
    assert len(store._heap) <= 2 * 500 + 64
    clock.now = 100
    assert len(store) == 0
    assert not store._heap


@pytest.mark.asyncio
async def test_waiters_leave_nothing_behind():
    store = InMemoryIdempotencyStore()
    await store.claim("k", "a", ttl_seconds=60)
    waiters = [asyncio.create_task(store.wait("k")) for _ in range(5)]
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert not store._slots["k"].waiters


def test_waiters_in_other_event_loops_are_woken():
    store = InMemoryIdempotencyStore()
    now(store.claim("k", "a", ttl_seconds=60))
    waiting = threading.Barrier(2)

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(waiting.wait)
        await store.wait("k")

    thread = threading.Thread(target=asyncio.run, args=(wait(),))
    thread.start()
    waiting.wait()
    now(store.release("k", "a"))
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_waiters_of_a_closed_loop_do_no_harm():
    store = InMemoryIdempotencyStore()
    now(store.claim("k", "a", ttl_seconds=60))
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    store._slots["k"].waiters[future] = None
    loop.close()
    now(store.release("k", "a"))
    assert store.claims == 0


# --- stores of 0.9 ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_interceptors_that_share_a_store_of_0_9_share_its_claims():
    results = Results()
    assert isinstance(results, ResultStore)
    first, second = IdempotencyInterceptor(store=results), IdempotencyInterceptor(store=results)
    assert first.store is second.store


@pytest.mark.asyncio
async def test_a_store_of_0_9_that_forgets_nothing_is_read_with_the_clock():
    clock = Clock()
    results = Results()
    results.kept["k"] = CachedStageResult(StageOutput.ok(), None, 10.0)
    store = ClaimedResultStore(results, clock=clock)
    assert (await store.claim("k", "a", ttl_seconds=60)).status is DONE
    clock.now = 10.0
    assert (await store.claim("k", "a", ttl_seconds=60)).status is ACQUIRED


def test_what_is_no_store_is_refused():
    with pytest.raises(ArgumentTypeError, match="IdempotencyStore"):
        IdempotencyInterceptor(store={})  # type: ignore[arg-type]


def test_a_store_of_0_9_that_takes_no_attribute_asks_to_be_wrapped():
    class Slotted(Results):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            if name.startswith("_"):
                raise AttributeError(name)
            super().__setattr__(name, value)

    store = Slotted()
    with pytest.raises(ConfigurationError, match="ClaimedResultStore"):
        IdempotencyInterceptor(store=store)
    assert IdempotencyInterceptor(store=ClaimedResultStore(store)).store
