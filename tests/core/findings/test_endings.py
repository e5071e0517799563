"""Findings A1.4, A1.6, A1.8, A1.10, A1.12 and A1.27: how stages end, and what that means for the others."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from stageflow import (
    CancellationToken,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    RetryInterceptor,
    RetryPolicy,
    StageExecutionError,
    StageKind,
    StageOutput,
    StageStatus,
)
from stageflow.errors import StageTimeoutError
from stageflow.pipeline.dag import UnifiedPipelineCancelled, UnifiedStageExecutionError
from stageflow.pipeline.subpipeline import SpawnRefusedError, SubpipelineSpawner
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.testing import (
    EventRecorder,
    FailingStage,
    HangingStage,
    ScriptedStage,
    delayed,
    leak_check,
    run_virtual,
)

K = StageKind.TRANSFORM


class SlowToStop:
    """A stage that works for an hour, and takes its time to clean up when it is asked to stop."""

    def __init__(self):
        self.clean = False

    async def execute(self, ctx):
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(5)
            self.clean = True


# --- A1.4 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [StageOutput.fail("no"), RuntimeError("no")], ids=["returns", "raises"])
def test_a1_04_a_failed_run_leaves_no_stage_running(outcome):
    """When a stage fails, its siblings are asked to stop and awaited before the call raises."""

    async def main():
        sibling = SlowToStop()
        pipeline = (
            Pipeline()
            .with_stage("sibling", sibling, K)
            .with_stage("failing", ScriptedStage(delayed(1, outcome)), K)
        )
        async with leak_check():
            with pytest.raises(StageExecutionError, match="no"):
                await pipeline.run()
            assert sibling.clean
            assert asyncio.get_running_loop().time() == 6

    run_virtual(main())


@pytest.mark.parametrize("way", ["time-out", "cancel"])
def test_a1_04_a_caller_that_leaves_leaves_no_stage_running(way):
    """A time-out around the call, or the end of the caller's Task, ends every stage before the call does."""

    async def main():
        stages = [SlowToStop(), SlowToStop()]
        pipeline = Pipeline().with_stage("a", stages[0], K).with_stage("b", stages[1], K)
        events = EventRecorder()
        async with leak_check():
            if way == "time-out":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):
                        await pipeline.run(sink=events)
            else:
                caller = asyncio.create_task(pipeline.run(sink=events))
                await asyncio.sleep(1)
                caller.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await caller
            assert [stage.clean for stage in stages] == [True, True]
        events.assert_paired(stages=["a", "b"], end="cancelled")

    run_virtual(main())


# --- A1.6 ----------------------------------------------------------------------------------------------------


def test_a1_06_a_stage_that_asks_for_another_attempt_gets_it():
    """RETRY is no success: it leads to another attempt, and to a failure when there are no more."""
    later, work, after = StageOutput.retry("later"), ScriptedStage(), ScriptedStage()
    work.outcomes = (later, later, later, later, {"attempts": 5})
    pipeline = (
        Pipeline()
        .with_stage("work", work, K, retry=RetryPolicy(5, base_delay=1, jitter=False))
        .with_stage("after", after, K, ["work"])
    )
    events = EventRecorder()
    results = run_virtual(pipeline.run(sink=events))
    assert results["work"].data == {"attempts": 5}
    assert [call.attempt for call in work.calls] == [1, 2, 3, 4, 5]
    assert [call.started for call in work.calls] == [0, 1, 3, 7, 15]
    assert events.of("work") == ["started", *["retrying"] * 4, "completed"]
    assert len(after.calls) == 1

    never, after = ScriptedStage(later), ScriptedStage()
    pipeline = Pipeline().with_stage("never", never, K).with_stage("after", after, K, ["never"])
    with pytest.raises(StageExecutionError, match="later") as raised:
        run_virtual(pipeline.run())
    assert raised.value.results["never"].status is StageStatus.FAIL
    assert (raised.value.attempts, len(never.calls), after.calls) == (3, 3, [])


def test_a1_06_a_retry_interceptor_allows_as_many_attempts_as_it_says():
    """``max_attempts=5`` means five calls, with a growing wait before each but the first."""
    stage = FailingStage(ConnectionError("no route"), times=4, then={"text": "hi"})
    chain = [RetryInterceptor(max_attempts=5, base_delay_ms=1000, jitter_strategy="none")]
    results = run_virtual(Pipeline().with_stage("fetch", stage, K).build(interceptors=chain).run())
    assert results["fetch"].data == {"text": "hi"}
    assert [call.started for call in stage.calls] == [0, 1, 3, 7, 15]


@pytest.mark.parametrize("outcome", ["hang", TimeoutError("too slow")], ids=["limit", "raised"])
def test_a1_06_a_time_out_is_attempted_again(outcome):
    """Each attempt has the whole time limit, and one that is over it is repeated as one that raised TimeoutError."""
    stage = ScriptedStage(outcome, outcome, {"text": "hi"})
    policy = RetryPolicy(3, base_delay=1, jitter=False)
    results = run_virtual(Pipeline().with_stage("fetch", stage, K, timeout=10, retry=policy).run())
    assert results["fetch"].data == {"text": "hi"}
    assert stage.ends == ["cancelled" if outcome == "hang" else "raised"] * 2 + ["returned"]

    stage = ScriptedStage(outcome)
    with pytest.raises(StageExecutionError) as raised:
        run_virtual(Pipeline().with_stage("fetch", stage, K, timeout=10, retry=policy).run())
    assert isinstance(raised.value.original, StageTimeoutError if outcome == "hang" else TimeoutError)
    assert (raised.value.attempts, len(stage.calls)) == (3, 3)


# --- A1.8 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [StageOutput.fail("no"), RuntimeError("no")], ids=["returns", "raises"])
@pytest.mark.parametrize("mode", list(FailureMode))
def test_a1_08_no_dependant_of_a_failed_stage_runs(mode, outcome):
    """In every failure mode, what depends on a failure, directly or not, does not start."""
    child, grandchild, mixed = ScriptedStage(), ScriptedStage(), ScriptedStage()
    graph = (
        Pipeline()
        .with_stage("fine", ScriptedStage(), K)
        .with_stage("failing", ScriptedStage(outcome), K)
        .with_stage("child", child, K, ["failing"])
        .with_stage("grandchild", grandchild, K, ["child"])
        .with_stage("mixed", mixed, K, ["fine", "grandchild"])
        .build(failure_mode=mode)
    )
    events = EventRecorder()
    results = run_virtual(graph.run(sink=events, raise_errors=False))
    assert (child.calls, grandchild.calls, mixed.calls) == ([], [], [])
    assert isinstance(results.error, StageExecutionError)
    assert results["failing"].status is StageStatus.FAIL
    for name in ("child", "grandchild", "mixed"):
        assert events.of(name) == ["skipped"]
        if mode is not FailureMode.FAIL_FAST:
            assert results[name].data["reason"] == "dependency_failed"


# --- A1.10 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(FailureMode))
def test_a1_10_an_error_carries_what_was_done(mode):
    """What had settled is in ``error.results``, of independent branches too, whichever graph and failure mode."""
    graph = (
        Pipeline()
        .with_stage("first", ScriptedStage({"n": 1}), K)
        .with_stage("branch", ScriptedStage({"n": 2}), K)
        .with_stage("failing", FailingStage(ValueError("no"), times=None), K, ["first", "branch"])
        .build(failure_mode=mode)
    )
    results = run_virtual(graph.run(raise_errors=False))
    assert {name: output.status.value for name, output in results.items()} == {
        "first": "ok",
        "branch": "ok",
        "failing": "fail",
    }
    assert results.error.results is results
    if mode is FailureMode.BEST_EFFORT:
        return
    with pytest.raises(StageExecutionError) as raised:
        run_virtual(graph.run())
    assert isinstance(raised.value.original, ValueError)
    assert [raised.value.results[name].data["n"] for name in ("first", "branch")] == [1, 2]


def test_a1_10_a_cancelled_run_carries_what_was_done():
    """``PipelineCancelled`` has the results, too, with those of the stage that cancelled the run."""
    pipeline = (
        Pipeline()
        .with_stage("first", ScriptedStage({"n": 1}), K)
        .with_stage("enough", ScriptedStage(StageOutput.cancel("enough")), K, ["first"])
    )
    with pytest.raises(PipelineCancelled) as raised:
        run_virtual(pipeline.run())
    assert (raised.value.stage, raised.value.reason) == ("enough", "enough")
    assert raised.value.results["first"].data == {"n": 1}
    assert raised.value.results["enough"].status is StageStatus.CANCEL


def test_a1_10_there_is_one_error_for_a_failed_stage():
    """Whoever catches an error of 0.9's other graph catches the same class."""
    assert UnifiedStageExecutionError is StageExecutionError
    assert UnifiedPipelineCancelled is PipelineCancelled


# --- A1.12 ---------------------------------------------------------------------------------------------------


def test_a1_12_a_token_stops_a_run_at_once():
    """A token stops stages that would never end by themselves, at once and with its reason."""

    async def main():
        loop, token, stage = asyncio.get_running_loop(), CancellationToken(), HangingStage()
        loop.call_later(1, token.cancel, "the user left")
        async with leak_check():
            with pytest.raises(PipelineCancelled) as raised:
                await Pipeline().with_stage("hang", stage, K).build(interceptors=[]).run(cancel_token=token)
            assert loop.time() == 1
        assert (raised.value.stage, raised.value.reason) == ("<external>", "the user left")
        assert stage.ends == ["cancelled"]

    run_virtual(main())


def test_a1_12_a_cancelled_context_stops_its_run_at_once():
    """``ctx.mark_canceled()`` stops what runs with that context, and what would be started with it."""

    async def main():
        loop, context, stage = asyncio.get_running_loop(), PipelineContext(), HangingStage()
        graph = Pipeline().with_stage("hang", stage, K).build(interceptors=[])
        loop.call_later(1, context.mark_canceled)
        async with leak_check():
            for _ in range(2):
                with pytest.raises(PipelineCancelled):
                    await graph.run(context)
                assert loop.time() == 1
        assert stage.ends == ["cancelled"]

    run_virtual(main())


def test_a1_12_cancel_with_children_stops_the_children_and_refuses_new_ones():
    """It ends the run and the runs below it, and whoever wants to start another child afterwards is refused."""
    spawner, grandchild, refused = SubpipelineSpawner(), HangingStage(), []
    inner = Pipeline("inner").with_stage("hang", grandchild, K)

    async def nest(ctx):
        try:
            return (await spawner.spawn("inner", ctx, None, "nest", inner)).to_dict()
        finally:
            try:
                await spawner.spawn("late", ctx, None, "nest", inner)
            except SpawnRefusedError as error:
                refused.append(error.reason)

    outer = Pipeline("outer").with_stage("nest", nest, K)

    async def main():
        parent = PipelineContext(pipeline_run_id=uuid4())
        async with leak_check():
            child = asyncio.create_task(spawner.spawn("outer", parent, None, "plan", outer))
            await asyncio.sleep(1)
            stopped = await spawner.cancel_with_children(parent.pipeline_run_id, "the user left")
            assert asyncio.get_running_loop().time() == 1
            result = await child
        assert len(stopped) == 3
        assert not result.success
        assert grandchild.ends == ["cancelled"]
        with pytest.raises(SpawnRefusedError, match="the user left"):
            await spawner.spawn("outer", parent, None, "plan", outer)

    run_virtual(main())
    assert refused == ["the user left"]
    assert len(grandchild.calls) == 1


# --- A1.27 ---------------------------------------------------------------------------------------------------


def test_a1_27_nobody_reads_what_a_guard_has_rejected():
    """The other dependants of a guarded stage wait for the guard, and read what it has let pass."""
    write = ScriptedStage(*({"draft": number} for number in (1, 2, 3)))
    check = ScriptedStage(
        lambda ctx: StageOutput.ok() if ctx.inputs.get_from("write", "draft") == 3 else StageOutput.fail("no")
    )
    publish, archive = ScriptedStage(), ScriptedStage()
    strategy = GuardRetryStrategy({"check": GuardRetryPolicy("write", max_attempts=3)})
    graph = (
        Pipeline()
        .with_stage("write", write, StageKind.AGENT)
        .with_stage("publish", publish, K, ["write"])
        .with_stage("check", check, StageKind.GUARD, ["write"])
        .with_stage("archive", archive, K, ["publish"])
        .build(guard_retry_strategy=strategy)
    )
    results = run_virtual(graph.run())
    assert len(write.calls) == len(check.calls) == 3
    assert [call.inputs["write"].data["draft"] for call in publish.calls] == [3]
    assert len(archive.calls) == 1
    assert results["write"].data == {"draft": 3}
