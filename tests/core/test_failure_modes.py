"""What a failed stage means for the others, and for the caller, in each of the three modes."""

from __future__ import annotations

import asyncio

import pytest
from stageflow import (
    CancellationToken,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    StageExecutionError,
    StageKind,
    StageOutput,
)
from stageflow.errors import RunTimeoutError
from stageflow.testing import leak_check

K = StageKind.WORK
GOING_ON = [FailureMode.CONTINUE_ON_FAILURE, FailureMode.BEST_EFFORT]


async def nothing(ctx):
    return None


async def fails(ctx):
    return StageOutput.fail("no", {"half": "done"})


async def raises(ctx):
    raise ValueError("no")


async def later(ctx):
    for _ in range(3):
        await asyncio.sleep(0)


async def forever(ctx):
    await asyncio.Event().wait()


def statuses(results) -> dict[str, str]:
    return {name: str(output.status) for name, output in results.items()}


def two_branches(broken) -> Pipeline:
    return (
        Pipeline()
        .with_stage("broken", broken, K)
        .with_stage("below", nothing, K, ["broken"])
        .with_stage("far below", nothing, K, ["below", "sound"])
        .with_stage("sound", later, K)
        .with_stage("after sound", later, K, ["sound"])
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("broken", [fails, raises])
async def test_fail_fast(broken, sink):
    with pytest.raises(StageExecutionError) as caught:
        await two_branches(broken).run(sink=sink)
    error = caught.value
    assert (error.stage, error.recoverable, error.attempts) == ("broken", False, 1)
    assert error.results["broken"].status == "fail"
    assert error.results.error is error
    assert error.__cause__ is error.original
    assert "after sound" not in error.results
    sink.assert_paired(stages=["broken", "below", "far below", "sound", "after sound"], end="failed")
    assert sink.data("pipeline.failed")["failed_stage"] == "broken"


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", GOING_ON)
@pytest.mark.parametrize("broken", [fails, raises])
async def test_everything_that_is_not_downstream_of_the_failure_runs(mode, broken, sink):
    graph = two_branches(broken).build(failure_mode=mode)
    results = await graph.run(sink=sink, raise_errors=False)
    assert statuses(results) == {
        "broken": "fail",
        "below": "skip",
        "far below": "skip",
        "sound": "ok",
        "after sound": "ok",
    }
    assert results["far below"].data["reason"] == "dependency_failed"
    assert isinstance(results.error, StageExecutionError)
    sink.assert_paired(stages=results, end="completed" if mode is FailureMode.BEST_EFFORT else "failed")


@pytest.mark.asyncio
async def test_continue_raises_at_the_end_and_best_effort_returns():
    with pytest.raises(StageExecutionError) as caught:
        await two_branches(fails).build(failure_mode=FailureMode.CONTINUE_ON_FAILURE).run()
    assert len(caught.value.results) == 5
    results = await two_branches(fails).build(failure_mode=FailureMode.BEST_EFFORT).run()
    assert results.error.stage == "broken"


@pytest.mark.asyncio
async def test_the_first_failure_is_the_one_raised_and_later_ones_are_noted():
    async def second(ctx):
        await asyncio.sleep(0)
        raise OSError("second")

    graph = (
        Pipeline()
        .with_stage("first", raises, K)
        .with_stage("second", second, K)
        .build(failure_mode=FailureMode.CONTINUE_ON_FAILURE)
    )
    with pytest.raises(StageExecutionError) as caught:
        await graph.run()
    assert caught.value.stage == "first"
    assert any("'second'" in note for note in caught.value.__notes__)


@pytest.mark.asyncio
async def test_a_failed_stage_keeps_what_it_handed_over():
    results = await Pipeline().with_stage("a", fails, K).run(raise_errors=False)
    assert results["a"].data == {"half": "done"}
    assert results["a"].error == "no"


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", list(FailureMode))
async def test_a_wrong_return_value_is_a_failure(mode, sink):
    async def wrong(ctx):
        return 42

    results = (
        await Pipeline().with_stage("a", wrong, K).build(failure_mode=mode).run(raise_errors=False, sink=sink)
    )
    assert results["a"].status == "fail"
    assert "int" in results["a"].error
    sink.assert_paired(stages=["a"])


# --- a run that is ended from outside after something has failed in it ---------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", GOING_ON)
@pytest.mark.parametrize("cause", ["token", "run time limit", "a stage"])
async def test_a_cancellation_is_told_even_if_a_stage_had_failed_before(mode, cause, sink):
    """Else a run in BEST_EFFORT that was cancelled half-way would look like one that is complete."""
    token = CancellationToken()

    async def trigger(ctx):
        await asyncio.sleep(0)
        if cause == "a stage":
            return StageOutput.cancel("enough")
        if cause == "token":
            token.cancel("enough")
        await asyncio.Event().wait()
        return None

    graph = (
        Pipeline()
        .with_stage("broken", raises, K)
        .with_stage("trigger", trigger, K)
        .with_stage("never", nothing, K, ["trigger"])
        .build(failure_mode=mode)
    )
    async with leak_check():
        with pytest.raises(PipelineCancelled) as caught:
            await graph.run(
                sink=sink, cancel_token=token, timeout=0.02 if cause == "run time limit" else None
            )
    assert isinstance(caught.value, RunTimeoutError) == (cause == "run time limit")
    assert caught.value.results["broken"].status == "fail"
    assert "never" not in caught.value.results
    sink.assert_paired(stages=["broken", "trigger", "never"], end="cancelled")


@pytest.mark.asyncio
async def test_a_broken_predicate_fails_its_stage(sink):
    def broken(inputs):
        raise KeyError("nope")

    pipeline = Pipeline().with_stage("a", nothing, K, when=broken).with_stage("b", nothing, K, ["a"])
    results = await pipeline.run(raise_errors=False, sink=sink)
    assert isinstance(results.error.original, KeyError)
    assert any("'a'" in note for note in results.error.original.__notes__)
    sink.assert_paired(stages=["a", "b"], end="failed")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_a_predicate_that_raises_what_is_no_exception_still_ends_in_order(error, sink):
    """No stage may get lost without a result and an event."""

    def broken(inputs):
        raise error

    async def main():
        pipeline = Pipeline().with_stage("a", nothing, K, when=broken).with_stage("b", nothing, K, ["a"])
        return await pipeline.run(raise_errors=False, sink=sink)

    try:
        results = asyncio.run(main())
    except (KeyboardInterrupt, SystemExit):
        assert error in {KeyboardInterrupt, SystemExit}
    else:
        assert results.error is not None
    sink.assert_paired(stages=["a", "b"])


@pytest.mark.asyncio
async def test_modes_may_be_given_by_name():
    assert (
        Pipeline().with_stage("a", nothing, K).build(failure_mode="best_effort").failure_mode
        is FailureMode.BEST_EFFORT
    )
