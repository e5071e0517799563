"""Findings A1.2, A1.7, A1.9 and A1.29, and BUG-073 of A2: idempotency keys and circuit breakers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from uuid import UUID

import pytest
from stageflow import (
    BaseInterceptor,
    CircuitBreakerInterceptor,
    CircuitBreakerOpenError,
    ContextSnapshot,
    IdempotencyInterceptor,
    InterceptorResult,
    Pipeline,
    RunIdentity,
    StageKind,
    StageStatus,
)
from stageflow.interceptors.idempotency_store import InMemoryIdempotencyStore
from stageflow.observability import LocalCircuitBreaker
from stageflow.observability.breaker import CircuitState
from stageflow.testing import FailingStage, ScriptedStage, SlowStage, leak_check, run_virtual

K = StageKind.WORK
ORDER = {"idempotency_key": "order-7"}


def checkout(*stages, name="checkout", interceptors):
    pipeline = Pipeline(name)
    for stage in stages:
        pipeline = pipeline.with_stage(stage.name, stage, K)
    return pipeline.build(interceptors=interceptors)


# --- A1.2 ----------------------------------------------------------------------------------------------------


def test_a1_02_a_kept_result_is_served_to_no_other_tenant():
    """The same idempotency key of two tenants, or of a tenant and of nobody, is two keys."""
    stage = ScriptedStage(lambda ctx: {"tenant": ctx.snapshot.org_id}, name="charge")
    graph = checkout(stage, interceptors=[IdempotencyInterceptor()])

    async def served(tenant):
        results = await graph.run(ContextSnapshot(RunIdentity(org_id=tenant)), data=ORDER)
        return results["charge"].data["tenant"]

    async def main():
        return [await served(tenant) for tenant in tenants]

    tenants = [UUID(int=1), UUID(int=2), None, UUID(int=1), UUID(int=2), None]
    assert run_virtual(main()) == tenants
    assert len(stage.calls) == 3  # and within a tenant it was done once


def test_a1_02_a_kept_result_is_served_to_no_other_stage():
    """The key of a run counts for each of its stages apart."""
    stages = [ScriptedStage({"by": name}, name=name) for name in ("charge", "ship")]
    graph = checkout(*stages, interceptors=[IdempotencyInterceptor()])

    async def main():
        return [await graph.run(data=ORDER) for _ in range(2)]

    for results in run_virtual(main()):
        assert {name: output.data["by"] for name, output in results.items()} == {
            "charge": "charge",
            "ship": "ship",
        }
    assert [len(stage.calls) for stage in stages] == [1, 1]


def test_a1_02_a_kept_result_is_served_to_no_other_pipeline():
    """Stages of one name in two pipelines do not share their results, even if they share the store."""
    shared = [IdempotencyInterceptor()]
    orders = checkout(ScriptedStage({"of": "orders"}, name="charge"), name="orders", interceptors=shared)
    refunds = checkout(ScriptedStage({"of": "refunds"}, name="charge"), name="refunds", interceptors=shared)

    async def main():
        return [(await graph.run(data=ORDER))["charge"].data["of"] for graph in (orders, refunds)]

    assert run_virtual(main()) == ["orders", "refunds"]


def test_a1_02_a_denial_is_not_kept():
    """Who is denied leaves nothing behind under the key for somebody who is not."""

    class AdminsOnly(BaseInterceptor):
        name = "admins_only"
        priority = 5  # inside of the idempotency interceptor

        async def before(self, stage_name, ctx):
            if ctx.data["role"] != "admin":
                return InterceptorResult(stage_ran=False, error="admins only")
            return None

    stage = ScriptedStage({"charged": True}, name="charge")
    graph = checkout(stage, interceptors=[IdempotencyInterceptor(), AdminsOnly()])

    async def main():
        return [
            (await graph.run(data={**ORDER, "role": role}, raise_errors=False))["charge"].status
            for role in ("guest", "admin")
        ]

    assert run_virtual(main()) == [StageStatus.FAIL, StageStatus.OK]
    assert len(stage.calls) == 1


# --- A1.7 ----------------------------------------------------------------------------------------------------


def test_a1_07_a_cancelled_holder_frees_its_key():
    """If the one that does the work is cancelled, the duplicate that waits takes over at once."""

    async def main():
        loop = asyncio.get_running_loop()
        store = InMemoryIdempotencyStore(clock=loop.time)
        stage = ScriptedStage("hang", {"charged": True}, name="charge")
        graph = checkout(stage, interceptors=[IdempotencyInterceptor(store=store)])
        async with leak_check():
            holder = asyncio.create_task(graph.run(data=ORDER))
            duplicate = asyncio.create_task(graph.run(data=ORDER))
            await asyncio.sleep(1)
            holder.cancel()
            results = await duplicate
            assert loop.time() == 1
            with pytest.raises(asyncio.CancelledError):
                await holder
        assert results["charge"].data == {"charged": True}
        assert stage.ends == ["cancelled", "returned"]
        assert store.claims == 0

    run_virtual(main())


def test_a1_07_nothing_is_kept_of_keys_whose_time_is_over():
    """Claims of failed work are given up, those of dead holders expire, and so do results: the table shrinks."""

    async def main():
        loop = asyncio.get_running_loop()
        store = InMemoryIdempotencyStore(clock=loop.time)
        stage = FailingStage("no", times=20, name="charge")
        graph = checkout(stage, interceptors=[IdempotencyInterceptor(store=store, ttl_seconds=100)])

        async def run_all():
            for number in range(20):
                await graph.run(data={"idempotency_key": number}, raise_errors=False)

        await run_all()
        assert len(store) == 0
        await run_all()
        assert len(store) == 20
        await store.claim("of a process that died", "it", ttl_seconds=60)
        await asyncio.sleep(61)
        assert (len(store), store.claims) == (20, 0)
        await asyncio.sleep(40)
        assert len(store) == 0

    run_virtual(main())


# --- A1.9 ----------------------------------------------------------------------------------------------------


class Outage:
    """Runs of a graph whose only stage is under a circuit breaker, on the virtual clock."""

    def __init__(self, stage, threshold):
        self.stage = stage
        self.breaker = LocalCircuitBreaker(threshold, 30, clock=asyncio.get_running_loop().time)
        self.graph = checkout(stage, interceptors=[CircuitBreakerInterceptor(breaker=self.breaker)])

    @property
    def state(self):
        return self.breaker.state(self.stage.name, "stage")

    async def run(self):
        """Return how a run went: "ok", "failed", or "rejected" by the breaker."""
        results = await self.graph.run(raise_errors=False)
        if results.error is None:
            return "ok"
        return "rejected" if isinstance(results.error.original, CircuitBreakerOpenError) else "failed"


def test_a1_09_a_rejected_call_does_not_close_the_circuit():
    """A call that the open circuit rejects is no success: the next one is rejected, too, and no stage is called."""

    async def main():
        outage = Outage(FailingStage("down", times=None, name="chat"), threshold=2)
        assert [await outage.run() for _ in range(6)] == ["failed"] * 2 + ["rejected"] * 4
        assert outage.state is CircuitState.OPEN
        assert len(outage.stage.calls) == 2

    run_virtual(main())


def test_a1_09_a_failure_counts_once():
    """It takes as many failures as the threshold says to open the circuit, whether they are raised or returned."""

    async def main():
        outage = Outage(FailingStage("down", times=None, name="chat"), threshold=4)
        for _ in range(3):
            await outage.run()
            assert outage.state is CircuitState.CLOSED
        await outage.run()
        assert outage.state is CircuitState.OPEN

    run_virtual(main())


def test_a1_09_half_open_lets_one_call_try():
    """After its time one call may try while the others are rejected, and what becomes of it decides."""

    async def main():
        stage = ScriptedStage(RuntimeError("down"), name="chat")
        outage = Outage(stage, threshold=1)
        await outage.run()
        await asyncio.sleep(30)
        stage.outcomes = (None, SlowStage(1).execute)
        runs = await asyncio.gather(*(outage.run() for _ in range(5)))
        assert sorted(runs) == ["ok"] + ["rejected"] * 4
        assert len(stage.calls) == 2
        assert outage.state is CircuitState.CLOSED
        assert await outage.run() == "ok"

    run_virtual(main())


# --- A1.29 ---------------------------------------------------------------------------------------------------


def test_a1_29_no_task_of_the_kernel_is_lost_to_the_garbage_collector():
    """A Task that the kernel starts on the side is held until it ends: here the one that renews a claim."""

    class SlowToRenew:
        """A store whose ``renew`` waits for something that nobody else holds."""

        def __init__(self):
            self.inner = InMemoryIdempotencyStore(clock=asyncio.get_running_loop().time)
            self.claim, self.complete = self.inner.claim, self.inner.complete
            self.release, self.wait = self.inner.release, self.inner.wait
            self.renewed = 0
            self.waiting = None

        async def renew(self, key, owner, *, ttl_seconds):
            answer = asyncio.get_running_loop().create_future()
            self.waiting = weakref.ref(answer)
            await answer
            self.renewed += 1
            return await self.inner.renew(key, owner, ttl_seconds=ttl_seconds)

    async def main():
        store = SlowToRenew()

        async def work(ctx):
            await asyncio.sleep(5)
            gc.collect()
            answer = store.waiting()
            assert answer is not None, "the Task was collected while it waited"
            answer.set_result(None)
            await asyncio.sleep(0)

        graph = (
            Pipeline()
            .with_stage("charge", work, K)
            .build(interceptors=[IdempotencyInterceptor(store=store, claim_ttl_seconds=12)])
        )
        await graph.run(data=ORDER)
        assert store.renewed == 1

    run_virtual(main())


# --- A2 ------------------------------------------------------------------------------------------------------


def test_a2_bug_073_duplicates_collapse_though_each_request_builds_its_graph():
    """Concurrent duplicates are done once if their graphs share the store, built for each request or not."""

    async def main():
        stage, store = SlowStage(1, {"charged": True}, name="charge"), InMemoryIdempotencyStore()
        runs = [
            checkout(stage, interceptors=[IdempotencyInterceptor(store=store)]).run(data=ORDER)
            for _ in range(10)
        ]
        assert [results["charge"].data for results in await asyncio.gather(*runs)] == [{"charged": True}] * 10
        assert len(stage.calls) == 1

    run_virtual(main())


def test_a2_bug_073_duplicates_collapse_in_a_pipeline_as_it_is():
    """A pipeline that is just run does the work of a key once, for all its concurrent duplicates."""

    async def main():
        stage = SlowStage(1, {"charged": True})
        pipeline = Pipeline("checkout").with_stage("charge", stage, K)
        runs = [pipeline.run(data=ORDER) for _ in range(10)]
        assert [results["charge"].data for results in await asyncio.gather(*runs)] == [{"charged": True}] * 10
        assert len(stage.calls) == 1

    run_virtual(main())
