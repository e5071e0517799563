"""Work with an idempotency key is done once."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import pytest
from stageflow import (
    BaseInterceptor,
    ErrorAction,
    InterceptorContext,
    InterceptorResult,
    Pipeline,
    PipelineContext,
    StageExecutionError,
    StageKind,
    StageOutput,
)
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import ReadOnlyDataError
from stageflow.interceptors import idempotency_claim
from stageflow.interceptors.idempotency import (
    REPLAYED,
    IdempotencyInterceptor,
    IdempotencyParamMismatch,
    params_hash,
    scoped_key,
)
from stageflow.interceptors.idempotency_claim import ClaimHold
from stageflow.interceptors.idempotency_store import (
    CachedStageResult,
    Claim,
    ClaimStatus,
    InMemoryIdempotencyStore,
)
from stageflow.interceptors.retry import RetryInterceptor
from stageflow.stages.output import StageArtifact, StageEvent
from stageflow.testing import EventRecorder, leak_check

WORK = StageKind.WORK
KEY = {"idempotency_key": "order-7"}


class Till:
    """A stage that counts how often it has done its work."""

    def __init__(self, *answers: Any) -> None:
        self.calls = 0
        self.done = 0
        self.answers = list(answers)

    async def execute(self, ctx: Any) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else StageOutput.ok(receipt=self.calls, lines=["a"])
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        self.done += 1
        return answer


def build(
    stage: Any,
    *interceptors: BaseInterceptor,
    name: str = "checkout",
    stage_name: str = "pay",
    kind: StageKind = WORK,
) -> Any:
    return Pipeline(name).with_stage(stage_name, stage, kind).build(interceptors=list(interceptors))


def idem(store: Any = None, **options: Any) -> IdempotencyInterceptor:
    return IdempotencyInterceptor(store=InMemoryIdempotencyStore() if store is None else store, **options)


def for_tenant(org: UUID | None, **data: Any) -> PipelineContext:
    return PipelineContext(org_id=org, data={**KEY, **data})


# --- what is done once --------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_duplicate_gets_the_first_result(sink):
    till = Till()
    graph = build(till, idem())
    first = await graph.run(data=KEY)
    second = await graph.run(data=KEY, sink=sink)
    assert till.calls == 1
    assert first["pay"].data == second["pay"].data
    assert sink.data(REPLAYED)["stage"] == "pay"
    assert sink.data(REPLAYED)["waited"] is False
    sink.assert_paired(stages=["pay"], end="completed")


@pytest.mark.asyncio
async def test_without_a_key_every_run_works():
    till = Till()
    graph = build(till, idem())
    await graph.run()
    await graph.run(data={"idempotency_key": None})
    assert till.calls == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [kind for kind in StageKind if kind not in {WORK, StageKind.ROUTE}])
async def test_only_work_is_idempotent(kind: StageKind):
    till = Till()
    store = InMemoryIdempotencyStore()
    graph = build(till, idem(store), kind=kind)
    await graph.run(data=KEY)
    await graph.run(data=KEY)
    assert (till.calls, len(store)) == (2, 0)


@pytest.mark.asyncio
async def test_what_is_shared_cannot_be_changed():
    till = Till()
    graph = build(till, idem())
    first, second = await asyncio.gather(graph.run(data=KEY), graph.run(data=KEY))
    with pytest.raises(ReadOnlyDataError):
        first["pay"].data["lines"].append("b")
    assert second["pay"].data["lines"] == ["a"]


@pytest.mark.asyncio
async def test_a_replay_keeps_artifacts_and_emits_no_event_again(sink):
    artifact = StageArtifact("receipt", "pdf")
    output = StageOutput(StageOutput.ok().status, {"a": 1}, [artifact], [StageEvent("order.placed", {})])
    graph = build(Till(output), idem())
    await graph.run(data=KEY)
    ctx = PipelineContext(data=dict(KEY), event_sink=sink)
    await graph.run(ctx)
    assert ctx.artifacts == [artifact]
    assert "order.placed" not in sink.types


@pytest.mark.asyncio
async def test_extractors():
    till = Till()
    graph = build(
        till,
        idem(
            key_extractor=lambda ctx: ctx.snapshot.input_text,
            params_extractor=lambda ctx: {"user": ctx.user_id},
        ),
    )
    for text in "aab":
        await graph.run(input_text=text)
    assert till.calls == 2
    with pytest.raises(StageExecutionError, match="other parameters"):
        await graph.run(PipelineContext(user_id=uuid4()), input_text="a")


@pytest.mark.asyncio
async def test_results_expire():
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    till = Till()
    graph = build(till, idem(InMemoryIdempotencyStore(clock=clock), ttl_seconds=100))
    await graph.run(data=KEY)
    clock.now = 99.0
    await graph.run(data=KEY)
    assert till.calls == 1
    clock.now = 100.0
    await graph.run(data=KEY)
    assert till.calls == 2


# --- whose it is --------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_finding_a1_02_no_result_for_another_tenant_stage_or_pipeline():
    store = InMemoryIdempotencyStore()
    till = Till()
    graph = build(till, idem(store))
    one, other = uuid4(), uuid4()
    for org in (one, other, None, one, other, None):
        await graph.run(for_tenant(org))
    assert till.calls == 3
    await build(till, idem(store), stage_name="refund").run(for_tenant(one))
    await build(till, idem(store), name="returns").run(for_tenant(one))
    assert till.calls == 5


@pytest.mark.asyncio
async def test_finding_a1_02_stages_of_one_run_do_not_share_a_result():
    first, second = Till(StageOutput.ok(who="first")), Till(StageOutput.ok(who="second"))
    pipeline = Pipeline("checkout").with_stage("a", first, WORK).with_stage("b", second, WORK, ["a"])
    graph = pipeline.build(interceptors=[idem()])
    for _ in range(2):
        results = await graph.run(data=KEY)
        assert [results[name].data["who"] for name in "ab"] == ["first", "second"]
    assert (first.calls, second.calls) == (1, 1)


@pytest.mark.asyncio
async def test_finding_a1_02_a_denial_is_not_kept_and_an_authorised_caller_is_served():
    class Door(BaseInterceptor):
        name = "door"
        priority = 10  # within the idempotency interceptor

        async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
            allowed = ctx.data.get("allowed")
            return None if allowed else InterceptorResult(stage_ran=False, error="denied")

    till = Till()
    store = InMemoryIdempotencyStore()
    graph = build(till, idem(store), Door())
    with pytest.raises(StageExecutionError, match="denied"):
        await graph.run(data=KEY)
    assert len(store) == 0
    results = await graph.run(data={**KEY, "allowed": True})
    assert results["pay"].data["receipt"] == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        StageOutput.fail("no"),
        StageOutput.skip("nothing to do"),
        StageOutput.cancel("stop"),
        StageOutput.retry("again"),
        ValueError("no"),
    ],
    ids=["fail", "skip", "cancel", "retry", "raise"],
)
async def test_finding_a1_02_only_ok_is_kept(answer: Any):
    till = Till(answer)
    store = InMemoryIdempotencyStore()
    graph = build(till, idem(store), RetryInterceptor(max_attempts=1))
    await graph.run(data=KEY, raise_errors=False)
    assert len(store) == 0
    assert (await graph.run(data=KEY))["pay"].data["receipt"] == 2


needs_body_output = pytest.mark.skipif(
    not hasattr(InterceptorContext, "body_output"),
    reason="the chain does not say yet what the stage itself did",
)


@needs_body_output
@pytest.mark.asyncio
async def test_finding_a1_02_a_fallback_is_not_kept():
    class Soft(BaseInterceptor):
        name = "soft"

        async def on_error(self, stage_name: str, error: Exception, ctx: InterceptorContext) -> ErrorAction:
            return ErrorAction.FALLBACK

        async def fallback(
            self, stage_name: str, error: Exception, ctx: InterceptorContext
        ) -> dict[str, Any]:
            return {"receipt": None}

    till = Till(ValueError("down"))
    store = InMemoryIdempotencyStore()
    graph = build(till, idem(store), Soft())
    assert (await graph.run(data=KEY))["pay"].data == {"receipt": None}
    assert len(store) == 0
    assert (await graph.run(data=KEY))["pay"].data["receipt"] == 2


@pytest.mark.asyncio
async def test_finding_a1_02_work_that_an_interceptor_rejects_is_not_kept():
    class Checking(BaseInterceptor):
        name = "checking"

        async def around(self, stage_name: str, call: Any, ctx: InterceptorContext) -> StageOutput:
            await call()
            return StageOutput.fail("implausible")

    store = InMemoryIdempotencyStore()
    with pytest.raises(StageExecutionError, match="implausible"):
        await build(Till(), idem(store), Checking()).run(data=KEY)
    assert len(store) == 0


@needs_body_output
@pytest.mark.asyncio
async def test_a_short_circuit_is_not_kept():
    class Cache(BaseInterceptor):
        name = "cache"

        async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
            return InterceptorResult(stage_ran=False, result={"cached": True})

    store = InMemoryIdempotencyStore()
    await build(Till(), idem(store), Cache()).run(data=KEY)
    assert len(store) == 0


@pytest.mark.asyncio
async def test_a_store_of_the_interceptors_own_is_shared_with_nobody():
    till = Till()
    for _ in range(2):
        await build(till, IdempotencyInterceptor()).run(data=KEY)
    assert till.calls == 2


# --- duplicates at the same time ----------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_fifty_concurrent_duplicates_are_one_execution(sink):
    till = Till()
    store = InMemoryIdempotencyStore()
    graph = build(till, idem(store))
    async with leak_check():
        runs = await asyncio.gather(*(graph.run(data=KEY, sink=sink) for _ in range(50)))
    assert till.calls == 1
    assert {run["pay"].data["receipt"] for run in runs} == {1}
    assert sink.types.count(REPLAYED) == 49
    assert (store.claims, len(store)) == (0, 1)


@pytest.mark.asyncio
async def test_finding_a2_bug_073_concurrent_duplicates_with_a_graph_built_per_request():
    till = Till()
    store = InMemoryIdempotencyStore()
    runs = await asyncio.gather(*(build(till, idem(store)).run(data=KEY) for _ in range(10)))
    assert till.calls == 1
    assert {run["pay"].data["receipt"] for run in runs} == {1}


@pytest.mark.asyncio
async def test_if_the_first_fails_one_waiter_takes_over():
    till = Till(ValueError("one"), StageOutput.fail("two"), StageOutput.skip("three"))
    store = InMemoryIdempotencyStore()
    graph = build(till, idem(store))
    runs = await asyncio.gather(*(graph.run(data=KEY, raise_errors=False) for _ in range(10)))
    assert till.calls == 4
    assert [run.error is None for run in runs].count(False) == 2
    assert [run["pay"].data.get("receipt") for run in runs].count(4) == 7
    assert store.claims == 0


@pytest.mark.asyncio
async def test_an_attempt_that_is_repeated_gives_way_and_shares_at_the_end():
    till = Till(ConnectionError("once"))
    graph = build(till, idem(), RetryInterceptor(max_attempts=3, base_delay_ms=1))
    runs = await asyncio.gather(*(graph.run(data=KEY) for _ in range(5)))
    assert till.done == 1
    assert {run["pay"].data["receipt"] for run in runs} == {2}


@pytest.mark.asyncio
async def test_finding_a1_07_a_cancelled_holder_frees_the_claim():
    started, go = asyncio.Event(), asyncio.Event()
    calls = 0

    async def slow(ctx: Any) -> StageOutput:
        nonlocal calls
        calls += 1
        started.set()
        await go.wait()
        return StageOutput.ok(calls=calls)

    store = InMemoryIdempotencyStore()
    graph = build(slow, idem(store))
    async with leak_check():
        holder = asyncio.create_task(graph.run(data=KEY))
        await started.wait()
        waiters = [asyncio.create_task(graph.run(data=KEY)) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert (store.claims, calls) == (1, 1)
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        waiters[0].cancel()  # a waiter too, at the very moment
        go.set()
        results = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert calls == 3, "the cancelled waiter had taken over; then another did"
    assert {run["pay"].data["calls"] for run in results[1:]} == {3}
    assert store.claims == 0


class Slow:
    """A store whose every method may be cancelled before and after it has done its work."""

    def __init__(self) -> None:
        self.inner = InMemoryIdempotencyStore()
        self.asked: list[str] = []

    async def _do(self, name: str, *args: Any, **options: Any) -> Any:
        self.asked.append(name)
        await asyncio.sleep(0)
        answer = await getattr(self.inner, name)(*args, **options)
        await asyncio.sleep(0)
        return answer

    async def claim(self, key: str, owner: str, *, ttl_seconds: float) -> Claim:
        return await self._do("claim", key, owner, ttl_seconds=ttl_seconds)

    async def renew(self, key: str, owner: str, *, ttl_seconds: float) -> bool:
        return await self._do("renew", key, owner, ttl_seconds=ttl_seconds)

    async def complete(self, key: str, owner: str, entry: CachedStageResult, *, ttl_seconds: float) -> bool:
        return await self._do("complete", key, owner, entry, ttl_seconds=ttl_seconds)

    async def release(self, key: str, owner: str) -> None:
        return await self._do("release", key, owner)

    async def wait(self, key: str) -> None:
        return await self._do("wait", key)


@pytest.mark.asyncio
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("answer", ["ok", "raise"])
@pytest.mark.parametrize("role", ["holder", "waiter"])
async def test_finding_a1_07_cancelled_at_every_await(role: str, answer: str, *, twice: bool):
    points = 0
    for point in range(1, 200):
        store = Slow()
        till = Till(*([ValueError("no")] if answer == "raise" else []))
        graph = build(till, idem(store))
        sink = EventRecorder()
        other = None
        async with leak_check():
            if role == "waiter":
                other = asyncio.create_task(graph.run(data=KEY, raise_errors=False))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            run = asyncio.create_task(graph.run(data=KEY, sink=sink, raise_errors=False))
            for _ in range(point):
                await asyncio.sleep(0)
            finished = run.done()
            run.cancel()
            if twice:
                await asyncio.sleep(0)
                run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            if other is not None:
                await other
        assert store.inner.claims == 0, point
        if sink.events:
            sink.assert_paired(stages=["pay"])
        done = till.done
        till.answers.clear()
        again = await graph.run(data=KEY)
        assert till.done == max(done, 1), f"point {point}: work that was done is not done again"
        assert again["pay"].data["receipt"] <= 3
        if finished:
            break
        points += 1
    assert points > 5


@pytest.mark.asyncio
@pytest.mark.parametrize("complete", [False, True], ids=["given up", "completed"])
async def test_finding_a1_07_a_hold_that_is_cancelled_at_every_await_again_and_again(*, complete: bool):
    for point in range(1, 60):
        store = Slow()
        came_far = False

        async def work(store: Slow) -> None:
            nonlocal came_far
            async with ClaimHold(store, "k", ttl_seconds=0.01) as hold:
                await asyncio.sleep(0.006)  # long enough for a renewal to be under way
                if complete:
                    came_far = True
                    await hold.complete(CachedStageResult(StageOutput.ok()), ttl_seconds=60)

        async with leak_check():
            task = asyncio.create_task(work(store))
            for _ in range(point):
                await asyncio.sleep(0.0005)
            finished = task.done()
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
        assert store.inner.claims == 0, point
        assert (await store.inner.get("k") is not None) is came_far, point
        if finished:
            break


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["complete", "release"])
@pytest.mark.parametrize("how", ["hangs", "raises"])
async def test_a_store_that_fails_after_the_cancellation(
    method: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(idempotency_claim, "GRACE", 0.02)
    reached = asyncio.Event()

    class Failing(Slow):
        async def _do(self, name: str, *args: Any, **options: Any) -> Any:
            if name == method:
                if reached.is_set() and how == "raises":
                    raise ConnectionError(name)
                reached.set()
                await asyncio.sleep(60)
            return await super()._do(name, *args, **options)

    async def work() -> None:
        async with ClaimHold(Failing(), "k", ttl_seconds=60) as hold:
            if method == "complete":
                await hold.complete(CachedStageResult(StageOutput.ok()), ttl_seconds=60)

    async with leak_check():
        task = asyncio.create_task(work())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ("did not answer" if how == "hangs" else "raised after") in caplog.text


@pytest.mark.asyncio
async def test_a_hold_that_is_thrown_away_while_it_asks_gives_up():
    store = Slow()
    asked = ClaimHold(store, "k", ttl_seconds=60).__aenter__()
    asked.send(None)
    asked.close()
    assert store.asked == ["claim", "release"]
    broken = ClaimHold(Broken("release"), "k", ttl_seconds=60).__aenter__()
    broken.send(None)
    broken.close()  # says so, and raises nothing


@pytest.mark.asyncio
async def test_a_stage_that_times_out_frees_the_claim():
    async def slow(ctx: Any) -> None:
        await asyncio.sleep(60)

    store = InMemoryIdempotencyStore()
    graph = Pipeline("checkout").with_stage("pay", slow, WORK, timeout=0.01).build(interceptors=[idem(store)])
    with pytest.raises(StageExecutionError):
        await graph.run(data=KEY)
    assert store.claims == 0


@pytest.mark.asyncio
async def test_a_holder_that_was_thrown_away_frees_the_claim():
    store = InMemoryIdempotencyStore()

    async def work() -> None:
        async with ClaimHold(store, "k", ttl_seconds=60):
            await asyncio.sleep(60)

    step = work()
    step.send(None)
    assert store.claims == 1
    step.close()
    gc.collect()
    assert store.claims == 0


@pytest.mark.asyncio
async def test_a_holder_that_died_lets_its_claim_expire():
    store = InMemoryIdempotencyStore()
    scope = scoped_key(org_id=None, pipeline="checkout", stage="pay", key="order-7")
    await store.claim(scope, "dead", ttl_seconds=0.02)
    till = Till()
    await build(till, idem(store)).run(data=KEY)
    assert till.calls == 1


@pytest.mark.asyncio
async def test_a_holder_that_lives_renews_its_claim():
    store = InMemoryIdempotencyStore()
    calls = 0

    async def slow(ctx: Any) -> StageOutput:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.6)
        return StageOutput.ok(calls=calls)

    graph = build(slow, idem(store, claim_ttl_seconds=0.3))
    runs = await asyncio.gather(*(graph.run(data=KEY) for _ in range(3)))
    assert calls == 1
    assert {run["pay"].data["calls"] for run in runs} == {1}


@pytest.mark.asyncio
async def test_a_claim_that_was_lost_is_said_and_keeps_nothing(caplog: pytest.LogCaptureFixture):
    store = InMemoryIdempotencyStore()
    async with ClaimHold(store, "k", ttl_seconds=0.03) as hold:
        await store.set(
            "k", CachedStageResult(StageOutput.ok(n=1)), ttl_seconds=60
        )  # somebody else was quicker
        while "lost" not in caplog.text:
            await asyncio.sleep(0.005)
        assert not await hold.complete(CachedStageResult(StageOutput.ok(n=2)), ttl_seconds=60)
    kept = await store.get("k")
    assert kept is not None
    assert kept.result.data == {"n": 1}
    assert "claim_ttl_seconds" in caplog.text


@pytest.mark.asyncio
async def test_a_run_that_waits_for_itself_is_refused():
    store = InMemoryIdempotencyStore()
    guard = idem(store)

    async def recursive(ctx: Any) -> Any:
        if ctx.input_text == "inner":
            return StageOutput.ok()
        await build(recursive, guard).run(data=KEY, input_text="inner")
        return StageOutput.ok()

    with pytest.raises(StageExecutionError, match="neither would ever end"):
        await build(recursive, guard).run(data=KEY)
    assert store.claims == 0


# --- stores that fail ---------------------------------------------------------------------------------------------


class Broken(Slow):
    def __init__(self, *methods: str) -> None:
        super().__init__()
        self.methods = methods

    async def _do(self, name: str, *args: Any, **options: Any) -> Any:
        if name in self.methods:
            raise ConnectionError(name)
        return await super()._do(name, *args, **options)


@pytest.mark.asyncio
async def test_a_store_that_cannot_claim_keeps_the_stage_from_starting():
    till = Till()
    with pytest.raises(StageExecutionError, match="claim"):
        await build(till, idem(Broken("claim", "release"))).run(data=KEY)
    assert till.calls == 0


@pytest.mark.asyncio
async def test_a_store_that_cannot_keep_the_result_does_not_undo_the_work(caplog: pytest.LogCaptureFixture):
    store = Broken("complete")
    till = Till()
    results = await build(till, idem(store)).run(data=KEY)
    assert results["pay"].data["receipt"] == 1
    assert store.inner.claims == 1, "no duplicate starts before the claim expires"
    assert "could not be kept" in caplog.text


@pytest.mark.asyncio
async def test_a_store_that_cannot_release_does_not_hide_the_error_of_the_stage(
    caplog: pytest.LogCaptureFixture,
):
    with pytest.raises(StageExecutionError, match="no"):
        await build(Till(ValueError("no")), idem(Broken("release"))).run(data=KEY)
    assert "could not be given up" in caplog.text


@pytest.mark.asyncio
async def test_a_store_that_cannot_renew_is_asked_again(caplog: pytest.LogCaptureFixture):
    store = Broken("renew")
    async with ClaimHold(store, "k", ttl_seconds=0.3):
        while caplog.text.count("could not be renewed") < 2:
            await asyncio.sleep(0.01)
    assert store.inner.claims == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
async def test_a_store_that_hangs_does_not_hold_up_a_cancelled_run_for_ever(
    *,
    again: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(idempotency_claim, "GRACE", 0.02)

    class Hanging(Slow):
        async def _do(self, name: str, *args: Any, **options: Any) -> Any:
            if name == "release":
                await asyncio.sleep(60)
            return await super()._do(name, *args, **options)

    started = asyncio.Event()

    async def slow(ctx: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    async with leak_check():
        run = asyncio.create_task(build(slow, idem(Hanging())).run(data=KEY))
        await started.wait()
        run.cancel()
        if again:
            await asyncio.sleep(0.005)
            run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await asyncio.sleep(0)
    assert "claim could not be given up" in caplog.text or "did not answer" in caplog.text


@pytest.mark.asyncio
async def test_a_store_whose_wait_returns_at_once_does_not_keep_the_loop_to_itself():
    class Eager(InMemoryIdempotencyStore.__mro__[1]):  # type: ignore[misc] # the class itself is final
        def __init__(self) -> None:
            self.inner = InMemoryIdempotencyStore()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def wait(self, key: str) -> None:
            return

    till = Till()
    graph = build(till, idem(Eager()))
    await asyncio.gather(*(graph.run(data=KEY) for _ in range(5)))
    assert till.calls == 1


# --- parameters and arguments -------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(("first", "second"), [({"a": 1}, {"a": 2}), (None, {"a": 1}), ({"a": 1}, None)])
async def test_other_parameters_are_refused(first: Any, second: Any):
    till = Till()
    graph = build(till, idem())
    await graph.run(data={**KEY, "idempotency_params": first})
    with pytest.raises(StageExecutionError) as raised:
        await graph.run(data={**KEY, "idempotency_params": second})
    error = raised.value.original
    assert isinstance(error, IdempotencyParamMismatch)
    assert (error.key, error.expected, error.actual) == ("order-7", params_hash(first), params_hash(second))
    assert (error.code, till.calls) == ("SF-RUN-IDEMPOTENCY-MISMATCH", 1)


@pytest.mark.asyncio
async def test_other_parameters_are_refused_to_concurrent_duplicates_too():
    till = Till()
    graph = build(till, idem())
    runs = await asyncio.gather(
        *(graph.run(data={**KEY, "idempotency_params": n}, raise_errors=False) for n in range(3))
    )
    assert [run.error is None for run in runs] == [True, False, False]
    assert till.calls == 1


@pytest.mark.asyncio
async def test_parameters_need_not_be_compared():
    till = Till()
    graph = build(till, idem(validate_params=False))
    for n in range(2):
        await graph.run(data={**KEY, "idempotency_params": {"n": n, "o": object()}})
    assert till.calls == 1


class Colour(Enum):
    RED = 1


def test_parameters_are_plain_data():
    when = datetime(2026, 1, 2, tzinfo=UTC)
    params = {
        "b": [1, 2.5, None, True],
        "a": {"when": when, "id": UUID(int=1), "sum": Decimal("1.10"), "c": Colour.RED},
    }
    assert params_hash(params) == params_hash(dict(reversed(params.items())))
    assert params_hash({"raw": b"a"}) != params_hash({"raw": b"b"})
    assert params_hash({"id": UUID(int=1)}) != params_hash({"id": str(UUID(int=1))})
    loop: list[Any] = []
    loop.append(loop)
    for bad in (object(), {"x": float("nan")}, {1: 2, "a": 3}, {"s": {1}}, loop):
        with pytest.raises(ArgumentTypeError, match="plain data"):
            params_hash(bad)


def test_scopes_cannot_be_forged():
    scopes = {
        scoped_key(org_id=org, pipeline=pipeline, stage=stage, key=key)
        for org in (None, "None", 'a", "b')
        for pipeline in ("a", "a.b")
        for stage in ("b", "b.c")
        for key in ("c", "x" * 1_000_000)
    }
    assert len(scopes) == 24
    assert {len(scope) for scope in scopes} == {64}


@pytest.mark.asyncio
@pytest.mark.parametrize("key", ["", 1.5, True, [], {}, b"x", object()], ids=lambda key: type(key).__name__)
async def test_a_key_that_is_none_is_refused(key: Any):
    till = Till()
    with pytest.raises(StageExecutionError) as raised:
        await build(till, idem()).run(data={"idempotency_key": key})
    assert isinstance(raised.value.original, (ArgumentTypeError, ArgumentValueError))
    assert till.calls == 0


@pytest.mark.asyncio
async def test_a_uuid_and_its_text_are_the_same_key():
    till = Till()
    graph = build(till, idem())
    key = uuid4()
    for one in (key, str(key)):
        await graph.run(data={"idempotency_key": one})
    assert till.calls == 1


@pytest.mark.parametrize(
    "options",
    [
        {"ttl_seconds": 0},
        {"ttl_seconds": -1},
        {"ttl_seconds": float("nan")},
        {"ttl_seconds": float("inf")},
        {"ttl_seconds": "1"},
        {"ttl_seconds": True},
        {"claim_ttl_seconds": 0},
        {"key_extractor": "x"},
        {"params_extractor": 1},
    ],
    ids=str,
)
def test_bad_arguments(options: dict[str, Any]):
    with pytest.raises((ArgumentTypeError, ArgumentValueError)):
        IdempotencyInterceptor(**options)


def test_claims_and_results_are_values():
    assert Claim(ClaimStatus.HELD) == Claim.HELD
    assert CachedStageResult(StageOutput.ok(), "h", 1.0).params_hash == "h"
    error = IdempotencyParamMismatch("k" * 1000, None, "b", stage="pay")
    assert len(error.what) < 200
    assert "pay" in error.where
