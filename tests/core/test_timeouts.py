"""Time limits: of a stage, of a run, and the ticks at which they meet something else."""

from __future__ import annotations

import asyncio

import pytest
from stageflow import (
    CancellationToken,
    Pipeline,
    PipelineCancelled,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    TimeoutInterceptor,
)
from stageflow.errors import RunTimeoutError, StageTimeoutError
from stageflow.testing import leak_check

K = StageKind.WORK


async def nothing(ctx):
    return None


async def forever(ctx):
    await asyncio.Event().wait()


@pytest.mark.asyncio
async def test_a_stage_over_its_limit_fails_and_takes_its_time_to_clean_up(sink):
    cleaned = []

    async def slow(ctx):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async with leak_check():
        with pytest.raises(StageExecutionError) as caught:
            await Pipeline().with_stage("slow", slow, K, timeout=0.01).run(sink=sink)
    error = caught.value.original
    assert isinstance(error, StageTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.stage, error.timeout) == ("slow", 0.01)
    assert caught.value.recoverable
    assert "10ms" in caught.value.results["slow"].error
    assert cleaned == [True]
    assert sink.data("stage.slow.failed")["error_type"] == "StageTimeoutError"
    sink.assert_paired(stages=["slow"], end="failed")


@pytest.mark.asyncio
@pytest.mark.parametrize("then", ["returns", "goes on", "raises"])
async def test_a_limit_that_a_stage_swallows_has_still_passed(then, sink):
    async def stubborn(ctx):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then == "raises":
                raise ValueError("instead") from None
        if then == "goes on":
            await asyncio.sleep(0)
        return {"ok": True}

    async with leak_check():
        results = (
            await Pipeline().with_stage("a", stubborn, K, timeout=0.01).run(sink=sink, raise_errors=False)
        )
    error = results.error.original
    assert isinstance(error, StageTimeoutError)
    assert isinstance(error.__cause__, ValueError) == (then == "raises")
    assert results["a"].status == "fail"
    sink.assert_paired(stages=["a"], end="failed")


@pytest.mark.asyncio
async def test_a_stage_that_swallowed_its_limit_can_still_be_stopped_with_the_run(sink):
    """One request was the stage's own; the end of the run is another one."""
    token, swallowed, released = CancellationToken(), asyncio.Event(), asyncio.Event()

    async def stubborn(ctx):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await released.wait()

    run = asyncio.create_task(
        Pipeline().with_stage("a", stubborn, K, timeout=0.01).run(sink=sink, cancel_token=token)
    )
    await swallowed.wait()
    token.cancel()
    done, _ = await asyncio.wait([run], timeout=2)
    released.set()
    await asyncio.wait([run])
    assert done, "the token does not reach a stage whose limit has passed"


@pytest.mark.asyncio
async def test_a_limit_never_hits_a_stage_that_has_ended():
    """Every stage of the chain is well within its limit; together they are over it."""

    async def step(ctx):
        await asyncio.sleep(0.003)

    specs = [StageSpec("s0", step, K, timeout=0.5)]
    specs += [StageSpec(f"s{n}", step, K, [f"s{n - 1}"], timeout=0.5) for n in range(1, 200)]
    results = await StageGraph(specs).run()
    assert {output.status for output in results.values()} == {"ok"}


@pytest.mark.asyncio
async def test_a_limit_that_fires_in_the_tick_of_completion_has_one_outcome(sink):
    """The result is there, the stage has not resumed, and the limit fires: exactly one of the two counts."""
    loop = asyncio.get_running_loop()
    outcomes = set()
    for offset in (-0.002, -0.001, -0.0005, 0.0, 0.0005, 0.001, 0.002):

        async def body(ctx, offset=offset):
            future = loop.create_future()
            loop.call_at(loop.time() + 0.01 + offset, future.set_result, None)
            await future
            return {"ok": True}

        own = type(sink)()
        results = await Pipeline().with_stage("a", body, K, timeout=0.01).run(sink=own, raise_errors=False)
        own.assert_paired(stages=["a"])
        status = results["a"].status
        assert own.of("a")[-1] == {"ok": "completed", "fail": "failed"}[status]
        assert (results.error is None) == (status == "ok")
        outcomes.add(str(status))
    assert outcomes == {"ok", "fail"} or len(outcomes) == 1


@pytest.mark.asyncio
async def test_the_shortest_limit_that_interceptors_declare_counts_and_the_stages_own_wins():
    graph = (
        Pipeline()
        .with_stage("a", nothing, K)
        .with_stage("b", nothing, K, timeout=3600)
        .build(interceptors=[TimeoutInterceptor(2000), TimeoutInterceptor(1000), TimeoutInterceptor(0)])
    )
    assert graph.stage("a").timeout == 1
    assert graph.stage("b").timeout == 3600


@pytest.mark.asyncio
async def test_the_runs_data_may_set_the_limit_of_every_stage():
    pipeline = Pipeline().with_stage("a", forever, K, timeout=3600)
    results = await pipeline.run(data={"_timeout_ms": 10}, raise_errors=False)
    assert isinstance(results.error.original, StageTimeoutError)


@pytest.mark.asyncio
async def test_no_interceptors_means_no_limit():
    assert Pipeline().with_stage("a", nothing, K).build(interceptors=[]).stage("a").timeout is None
    assert Pipeline().with_stage("a", nothing, K).build().stage("a").timeout == 30


@pytest.mark.asyncio
async def test_the_runs_limit_is_kept_by_inline_stages_too(sink):
    """A chain that never suspends still gives the limit its turn."""

    class Endless:
        async def execute(self, ctx):
            deadline = asyncio.get_running_loop().time() + 0.002
            while asyncio.get_running_loop().time() < deadline:
                pass

    specs = [StageSpec("s0", Endless(), K)]
    async with leak_check():
        specs += [StageSpec(f"s{n}", Endless(), K, [f"s{n - 1}"]) for n in range(1, 2000)]
        with pytest.raises(RunTimeoutError) as caught:
            await StageGraph(specs).run(timeout=0.05, sink=sink)
    assert 0 < len(caught.value.results) < 2000


@pytest.mark.asyncio
async def test_a_run_within_its_limit_is_not_touched():
    results = await Pipeline().with_stage("a", nothing, K).run(timeout=3600)
    assert results.error is None
    await asyncio.sleep(0)
    assert [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()] == []


@pytest.mark.asyncio
async def test_a_stages_time_out_goes_on_in_the_other_modes(sink):
    graph = (
        Pipeline()
        .with_stage("slow", forever, K, timeout=0.01)
        .with_stage("other", nothing, K)
        .with_stage("after", nothing, K, ["slow"])
        .build(failure_mode="best_effort")
    )
    results = await graph.run(sink=sink)
    assert {name: str(output.status) for name, output in results.items()} == {
        "slow": "fail",
        "other": "ok",
        "after": "skip",
    }
    sink.assert_paired(stages=["slow", "other", "after"], end="completed")


@pytest.mark.asyncio
async def test_the_run_time_limit_wins_over_a_later_stage_time_limit():
    with pytest.raises(PipelineCancelled) as caught:
        await Pipeline().with_stage("a", forever, K, timeout=3600).run(timeout=0.01)
    assert isinstance(caught.value, RunTimeoutError)
    assert caught.value.timeout == pytest.approx(0.01)


@pytest.mark.asyncio
async def test_many_limits_share_one_timer():
    loop = asyncio.get_running_loop()
    seen = []

    async def look(ctx):
        await asyncio.sleep(0)
        seen.append(len([handle for handle in loop._scheduled if not handle.cancelled()]))

    graph = StageGraph([StageSpec(f"s{n}", look, K, timeout=100 + n) for n in range(500)])
    await graph.run()
    assert max(seen) <= 1


@pytest.mark.asyncio
async def test_an_earlier_limit_after_a_later_one(sink):
    """The timer is moved forward for it."""

    async def skipper(ctx):
        return StageOutput.ok()

    graph = (
        Pipeline()
        .with_stage("patient", forever, K, timeout=3600)
        .with_stage("gate", skipper, K)
        .with_stage("quick", forever, K, ["gate"], timeout=0.01)
        .build()
    )
    results = await graph.run(raise_errors=False, sink=sink)
    assert results.error.stage == "quick"
    assert sink.of("patient") == ["started", "cancelled"]
