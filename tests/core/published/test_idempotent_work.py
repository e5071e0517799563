"""`IdempotencyInterceptor` around WORK stages, as 0.9 documented it: a shop that must not charge twice."""

from __future__ import annotations

import asyncio
import gc
import warnings
from uuid import UUID

import pytest
from stageflow import (
    BaseInterceptor,
    IdempotencyInterceptor,
    InterceptorResult,
    Pipeline,
    PipelineContext,
    StageContext,
    StageExecutionError,
    StageflowError,
    StageGraph,
    StageKind,
    StageOutput,
)
from stageflow.pipeline.idempotency import (
    CachedStageResult,
    IdempotencyParamMismatch,
    InMemoryIdempotencyStore,
)
from stageflow.testing import EventRecorder, leak_check, run_virtual

ACME, GLOBEX = UUID(int=0xA), UUID(int=0xB)


class Shop:
    """Charges a card, and then prints a receipt."""

    def __init__(self, *interceptors: BaseInterceptor, seconds: float = 1.0) -> None:
        self.charged: list[str] = []
        self.receipts: list[str] = []
        self.seconds = seconds
        self.fail_next = 0
        self.graph: StageGraph = (
            Pipeline("checkout")
            .with_stage("price", self.price, StageKind.ENRICH)
            .with_stage("charge", self.charge, StageKind.WORK, dependencies=("price",))
            .with_stage("receipt", self.receipt, StageKind.WORK, dependencies=("charge",))
            .build(interceptors=list(interceptors))
        )
        self.priced = 0

    async def price(self, ctx: StageContext) -> StageOutput:
        self.priced += 1
        return StageOutput.ok(cents=700)

    async def charge(self, ctx: StageContext) -> StageOutput:
        await asyncio.sleep(self.seconds)
        if self.fail_next:
            self.fail_next -= 1
            return StageOutput.fail("card declined")
        self.charged.append(f"charge {len(self.charged) + 1}")
        return StageOutput.ok(payment=self.charged[-1], cents=ctx.inputs.require_from("price", "cents"))

    async def receipt(self, ctx: StageContext) -> StageOutput:
        self.receipts.append(ctx.inputs.require_from("charge", "payment"))
        return StageOutput.ok(number=len(self.receipts))


def order(
    key: object = "order-7", params: object = None, org: UUID = ACME, **more: object
) -> PipelineContext:
    data: dict[str, object] = {} if key is None else {"idempotency_key": key}
    if params is not None:
        data["idempotency_params"] = params
    return PipelineContext(org_id=org, data=data, **more)


def test_a_duplicate_gets_the_first_result_and_nothing_happens_twice():
    shop = Shop(IdempotencyInterceptor(ttl_seconds=3600))
    sink = EventRecorder()

    async def program():
        first = await shop.graph.run(order())
        return first, await shop.graph.run(order(event_sink=sink))

    first, second = run_virtual(program())
    assert first["charge"].data == second["charge"].data == {"payment": "charge 1", "cents": 700}
    assert second["receipt"].data == {"number": 1}
    assert (shop.charged, shop.receipts) == (["charge 1"], ["charge 1"])
    assert shop.priced == 2  # only WORK stages
    sink.assert_paired(stages=["price", "charge", "receipt"], end="completed")
    assert sum(type == "idempotency.replayed" for type in sink.types) == 2


def test_stages_of_one_run_do_not_share_a_key():
    # Findings A1.2: 0.9 served the charge's result to the receipt.
    shop = Shop(IdempotencyInterceptor())
    results = run_virtual(shop.graph.run(order()))
    assert results["charge"].data == {"payment": "charge 1", "cents": 700}
    assert results["receipt"].data == {"number": 1}


def test_tenants_do_not_share_a_key():
    # Findings A1.2.
    shop = Shop(IdempotencyInterceptor())

    async def program():
        return [await shop.graph.run(order(org=org)) for org in (ACME, GLOBEX, ACME)]

    runs = run_virtual(program())
    assert [results["charge"].data["payment"] for results in runs] == ["charge 1", "charge 2", "charge 1"]


def test_other_keys_and_no_key_run_again():
    shop = Shop(IdempotencyInterceptor())

    async def program():
        for key in ("a", "b", None, None, 7, "7"):
            await shop.graph.run(order(key))

    run_virtual(program())
    assert len(shop.charged) == 5  # a key is its text, so 7 and "7" are one


def test_concurrent_duplicates_collapse_to_one():
    shop = Shop(IdempotencyInterceptor())

    async def program():
        async with leak_check():
            return await asyncio.gather(*(shop.graph.run(order()) for _ in range(10)))

    runs = run_virtual(program())
    assert shop.charged == ["charge 1"]
    assert {results["charge"].data["payment"] for results in runs} == {"charge 1"}


def test_graphs_with_one_store_collapse_their_duplicates():
    # Findings A2 BUG-073: still real in 0.9.1 when the graph was built per request.
    store = InMemoryIdempotencyStore()
    shops = [Shop(IdempotencyInterceptor(store=store)) for _ in range(5)]

    async def program():
        await asyncio.gather(*(shop.graph.run(order()) for shop in shops))

    run_virtual(program())
    assert sum(len(shop.charged) for shop in shops) == 1
    assert store.claims == 0


def test_other_parameters_under_the_same_key_are_an_error():
    shop = Shop(IdempotencyInterceptor())

    async def program():
        await shop.graph.run(order(params={"cents": 700, "currency": "EUR"}))
        await shop.graph.run(
            order(params={"currency": "EUR", "cents": 700})
        )  # the order of keys is no matter
        with pytest.raises(StageExecutionError) as caught:
            await shop.graph.run(order(params={"cents": 9, "currency": "EUR"}))
        return caught.value

    error = run_virtual(program())
    mismatch = error.original
    assert error.stage == "charge"
    assert isinstance(mismatch, IdempotencyParamMismatch)
    assert mismatch.key == "order-7"
    assert mismatch.expected != mismatch.actual
    assert shop.charged == ["charge 1"]


def test_parameters_may_be_of_no_matter():
    shop = Shop(IdempotencyInterceptor(validate_params=False))

    async def program():
        await shop.graph.run(order(params={"cents": 700}))
        await shop.graph.run(order(params={"cents": 9}))

    run_virtual(program())
    assert shop.charged == ["charge 1"]


def test_a_failure_is_not_kept():
    shop = Shop(IdempotencyInterceptor())
    shop.fail_next = 1

    async def program():
        with pytest.raises(StageExecutionError):
            await shop.graph.run(order())
        return await shop.graph.run(order())

    assert run_virtual(program())["charge"].data["payment"] == "charge 1"


def test_a_denial_is_not_kept():
    # Findings A1.2: in 0.9 a denial was cached, and served to who was allowed.
    class Allow(BaseInterceptor):
        name = "allow"
        priority = 1

        async def before(self, stage_name, ctx):
            if stage_name == "charge" and not ctx.data.get("allowed"):
                return InterceptorResult(stage_ran=False, error="not allowed")
            return None

    shop = Shop(Allow(), IdempotencyInterceptor())

    async def program():
        with pytest.raises(StageExecutionError):
            await shop.graph.run(order())
        context = order()
        context.data["allowed"] = True
        results = await shop.graph.run(context)
        with pytest.raises(StageExecutionError):  # and a result is not served to who is not allowed
            await shop.graph.run(order())
        return results

    assert run_virtual(program())["charge"].data["payment"] == "charge 1"
    assert shop.charged == ["charge 1"]


def test_a_cancelled_holder_frees_the_claim():
    # Findings A1.7: in 0.9 every later call with that key waited for ever.
    store = InMemoryIdempotencyStore()
    shop = Shop(IdempotencyInterceptor(store=store), seconds=60)

    async def program():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await shop.graph.run(order())
        assert store.claims == 0
        shop.seconds = 1
        async with asyncio.timeout(20):
            return await shop.graph.run(order())

    assert run_virtual(program())["charge"].data["payment"] == "charge 1"


def test_one_who_waits_takes_over_when_the_holder_is_cancelled():
    shop = Shop(IdempotencyInterceptor(), seconds=10)

    async def program():
        holder = asyncio.create_task(shop.graph.run(order()))
        await asyncio.sleep(1)
        waiter = asyncio.create_task(shop.graph.run(order()))
        await asyncio.sleep(1)
        holder.cancel()
        results = await waiter
        assert holder.cancelled()
        return results

    assert run_virtual(program())["charge"].data["payment"] == "charge 1"
    assert shop.charged == ["charge 1"]


def test_a_result_is_forgotten_after_its_time():
    async def program():
        clock = asyncio.get_running_loop().time
        shop = Shop(
            IdempotencyInterceptor(store=InMemoryIdempotencyStore(clock=clock), ttl_seconds=60), seconds=0
        )
        await shop.graph.run(order())
        await asyncio.sleep(59)
        await shop.graph.run(order())
        assert len(shop.charged) == 1
        await asyncio.sleep(2)
        await shop.graph.run(order())
        return shop.charged

    assert run_virtual(program()) == ["charge 1", "charge 2"]


def test_keys_and_parameters_from_elsewhere():
    shop = Shop(
        IdempotencyInterceptor(
            key_extractor=lambda ctx: ctx.data.get("order"), params_extractor=lambda ctx: ctx.data.get("cart")
        )
    )

    async def program():
        for data in ({"order": 1, "cart": ["a"]}, {"order": 1, "cart": ["a"]}, {"order": 2, "cart": ["a"]}):
            await shop.graph.run(PipelineContext(org_id=ACME, data=data))
        with pytest.raises(StageExecutionError) as caught:
            await shop.graph.run(PipelineContext(org_id=ACME, data={"order": 1, "cart": ["b"]}))
        return caught.value.original

    assert isinstance(run_virtual(program()), IdempotencyParamMismatch)
    assert len(shop.charged) == 2


def test_an_async_key_extractor_is_awaited_or_refused():
    """It must not be taken for a key: every coroutine is another one, so nothing would be a duplicate."""

    async def extract(ctx: object) -> str:
        return "order-7"

    async def program() -> list[str]:
        shop = Shop(IdempotencyInterceptor(key_extractor=extract))
        for _ in range(2):
            await shop.graph.run(order(None))
        return shop.charged

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that nobody has awaited it
        try:
            charged = run_virtual(program())
        except StageflowError:
            charged = ["refused"]
        gc.collect()
    assert len(charged) == 1


class StoreOf09:
    """A store as 0.9 defined it: `get`, `set` with a time to live, `delete`."""

    def __init__(self) -> None:
        self.entries: dict[str, CachedStageResult] = {}
        self.ttls: list[float] = []

    async def get(self, key: str) -> CachedStageResult | None:
        return self.entries.get(key)

    async def set(self, key: str, entry: CachedStageResult, *, ttl_seconds: float) -> None:
        self.entries[key] = entry
        self.ttls.append(ttl_seconds)

    async def delete(self, key: str) -> None:
        self.entries.pop(key, None)


def test_a_store_of_0_9_still_works():
    store = StoreOf09()
    shop = Shop(IdempotencyInterceptor(store=store, ttl_seconds=120))

    async def program():
        await asyncio.gather(*(shop.graph.run(order()) for _ in range(5)))
        await shop.graph.run(order())

    run_virtual(program())
    assert shop.charged == ["charge 1"]
    assert store.ttls == [120, 120]  # the charge and the receipt
    assert {type(entry) for entry in store.entries.values()} == {CachedStageResult}


def test_the_published_store_by_hand():
    async def program():
        store = InMemoryIdempotencyStore()
        entry = CachedStageResult(result=StageOutput.ok(n=1), params_hash="abc", expires_at=None)
        assert await store.get("k") is None
        await store.set("k", entry, ttl_seconds=60)
        found = await store.get("k")
        assert found is not None
        assert (dict(found.result.data), found.params_hash) == ({"n": 1}, "abc")
        await store.delete("k")
        assert await store.get("k") is None

    run_virtual(program())
