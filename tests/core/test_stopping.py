"""A run that is being stopped: nothing starts once more, whatever the stages that give way still wish for."""

from __future__ import annotations

import asyncio

import pytest
from stageflow import (
    BaseInterceptor,
    CancellationToken,
    ErrorAction,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    RetryPolicy,
    StageExecutionError,
    StageKind,
    StageOutput,
)
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.testing import leak_check

K, GUARD = StageKind.WORK, StageKind.GUARD
POLICY = RetryPolicy(5, base_delay=0, jitter=False)


class Reluctant:
    """Hangs until it is asked to stop, and then ends in another way."""

    def __init__(self, ending):
        self.ending = ending
        self.calls = 0

    async def execute(self, ctx):
        self.calls += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            if isinstance(self.ending, Exception):
                raise self.ending from None
            return self.ending


class AsksAgain(BaseInterceptor):
    name = "asks again"

    async def on_error(self, stage_name, error, ctx):
        return ErrorAction.RETRY if stage_name == "reluctant" else ErrorAction.FAIL


WISHES = {
    "an output": (StageOutput.retry("again"), []),
    "an error of the policy": (ConnectionError("again"), []),
    "an interceptor": (ValueError("again"), [AsksAgain()]),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("stop", ["token", "sibling"])
async def test_there_is_no_further_attempt(wish, stop, sink):
    """While a run is being stopped there are no further attempts (docs/explanation/outcomes.md); so the stage fails."""
    ending, interceptors = WISHES[wish]
    reluctant, token = Reluctant(ending), CancellationToken()

    async def stops(ctx):
        for _ in range(3):
            await asyncio.sleep(0)
        if stop == "sibling":
            raise LookupError("the cause")
        token.cancel("the cause")
        await asyncio.sleep(0)

    graph = (
        Pipeline()
        .with_stage("reluctant", reluctant, K, retry=POLICY)
        .with_stage("stops", stops, K)
        .build(interceptors=interceptors)
    )
    async with leak_check():
        with pytest.raises(StageExecutionError if stop == "sibling" else PipelineCancelled) as caught:
            await graph.run(sink=sink, cancel_token=token)
    assert "the cause" in str(caught.value)
    assert reluctant.calls == 1
    assert sink.of("reluctant") == ["started", "failed"]
    assert not [type for type in sink.types if "retry" in type]
    assert caught.value.results["reluctant"].status == "fail"


@pytest.mark.asyncio
async def test_a_guard_sends_nothing_back(sink):
    guard, token, written = Reluctant(StageOutput.fail("rejected")), CancellationToken(), []

    async def write(ctx):
        written.append(1)

    async def stops(ctx):
        for _ in range(3):
            await asyncio.sleep(0)
        token.cancel("the cause")

    graph = (
        Pipeline()
        .with_stage("write", write, K)
        .with_stage("guard", guard, GUARD, ["write"])
        .with_stage("stops", stops, K)
        .build(guard_retry_strategy=GuardRetryStrategy({"guard": GuardRetryPolicy("write", 5)}))
    )
    async with leak_check():
        with pytest.raises(PipelineCancelled) as caught:
            await graph.run(sink=sink, cancel_token=token)
    assert (len(written), guard.calls) == (1, 1)
    assert caught.value.results["guard"].status == "fail"
    assert not [type for type in sink.types if type.startswith("guard_retry.")]
    sink.assert_paired(stages=["write", "guard", "stops"], end="cancelled")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "ending", [StageOutput.ok(), StageOutput.skip("so"), None], ids=["ok", "skip", "nothing"]
)
async def test_who_ends_well_all_the_same_is_recorded_and_its_dependants_do_not_start(ending, sink):
    reluctant, token, started = Reluctant(ending), CancellationToken(), []

    async def after(ctx):
        started.append(ctx.stage_name)

    async def stops(ctx):
        for _ in range(3):
            await asyncio.sleep(0)
        token.cancel("the cause")

    graph = (
        Pipeline()
        .with_stage("reluctant", reluctant, K)
        .with_stage("after", after, K, ["reluctant"])
        .with_stage("stops", stops, K)
        .build(failure_mode=FailureMode.BEST_EFFORT)
    )
    async with leak_check():
        with pytest.raises(PipelineCancelled) as caught:
            await graph.run(sink=sink, cancel_token=token)
    assert caught.value.results["reluctant"].status == (
        "skip" if ending is not None and ending.status == "skip" else "ok"
    )
    assert started == []
    assert sink.data("stage.after.skipped")["reason"] == "run_stopped"
    sink.assert_paired(stages=["reluctant", "after", "stops"], end="cancelled")
