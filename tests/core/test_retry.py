"""Another attempt: who asks for it, how often, after which wait, and what is seen of it (finding A1.6)."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
from stageflow.testing import EventRecorder, leak_check

K = StageKind.TRANSFORM
QUICK = {"base_delay": 0, "jitter": False}


async def nothing(ctx):
    return None


class Scripted:
    """Ends its attempts as the script says; the last line is repeated."""

    def __init__(self, *script, turns: int = 0) -> None:
        self.script = script
        self.turns = turns
        self.attempts: list[int] = []

    async def execute(self, ctx):
        self.attempts.append(ctx.attempt)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        line = self.script[min(ctx.attempt, len(self.script)) - 1]
        if isinstance(line, BaseException):
            raise line
        return line


OK = StageOutput.ok(done=True)
AGAIN = StageOutput.retry("not yet")


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", [0, 2], ids=["inline", "suspended"])
@pytest.mark.parametrize(
    "line", [AGAIN, ConnectionError("down"), TimeoutError("slow"), OSError("gone")], ids=repr
)
async def test_five_attempts_are_five_attempts(line, turns, sink):
    stage = Scripted(line, line, line, line, OK, turns=turns)
    pipeline = (
        Pipeline().with_stage("a", stage, K, retry=RetryPolicy(5, **QUICK)).with_stage("b", nothing, K, ["a"])
    )
    results = await pipeline.run(sink=sink)
    assert stage.attempts == [1, 2, 3, 4, 5]
    assert results["a"].data == {"done": True}
    assert sink.of("a") == ["started", *["retrying"] * 4, "completed"]
    assert sink.of("b") == ["started", "completed"]
    retries = [event.data for event in sink if event.type == "stage.a.retrying"]
    assert [data["attempt"] for data in retries] == [2, 3, 4, 5]
    assert sink.data("stage.a.completed")["attempt"] == 5
    sink.assert_paired(stages=["a", "b"], end="completed")


@pytest.mark.asyncio
@pytest.mark.parametrize("line", [AGAIN, ConnectionError("down")], ids=repr)
async def test_exhausted_is_a_failure(line, sink):
    stage = Scripted(line)
    pipeline = (
        Pipeline().with_stage("a", stage, K, retry=RetryPolicy(3, **QUICK)).with_stage("b", nothing, K, ["a"])
    )
    with pytest.raises(StageExecutionError) as caught:
        await pipeline.run(sink=sink)
    assert stage.attempts == [1, 2, 3]
    assert (caught.value.attempts, caught.value.recoverable) == (3, True)
    assert caught.value.results["a"].status == "fail"
    assert "after 3 attempts" in str(caught.value)
    assert sink.of("a") == ["started", "retrying", "retrying", "failed"]
    assert sink.of("b") == ["skipped"]
    sink.assert_paired(stages=["a", "b"], end="failed")


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", [FailureMode.CONTINUE_ON_FAILURE, FailureMode.BEST_EFFORT])
async def test_exhausted_blocks_dependants_in_the_other_modes_too(mode, sink):
    graph = (
        Pipeline()
        .with_stage("a", Scripted(AGAIN), K, retry=RetryPolicy(2, **QUICK))
        .with_stage("b", nothing, K, ["a"])
        .with_stage("c", nothing, K)
        .build(failure_mode=mode)
    )
    results = await graph.run(raise_errors=False, sink=sink)
    assert {name: str(output.status) for name, output in results.items()} == {
        "a": "fail",
        "b": "skip",
        "c": "ok",
    }


@pytest.mark.asyncio
async def test_without_a_policy_a_stage_that_asks_gets_three_attempts_and_exceptions_are_final(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    asking, raising = Scripted(AGAIN), Scripted(ConnectionError("down"))
    await Pipeline().with_stage("a", asking, K).run(raise_errors=False)
    await Pipeline().with_stage("a", raising, K).run(raise_errors=False)
    assert asking.attempts == [1, 2, 3]
    assert raising.attempts == [1]


@pytest.mark.asyncio
async def test_other_exceptions_are_final():
    stage = Scripted(ValueError("wrong"))
    await Pipeline().with_stage("a", stage, K, retry=RetryPolicy(5, **QUICK)).run(raise_errors=False)
    assert stage.attempts == [1]
    stage = Scripted(KeyError("known"), OK)
    await Pipeline().with_stage("a", stage, K, retry=RetryPolicy(5, retry_on=(KeyError,), **QUICK)).run()
    assert stage.attempts == [1, 2]


@pytest.mark.asyncio
async def test_a_policy_of_one_attempt_never_repeats():
    stage = Scripted(AGAIN)
    results = await Pipeline().with_stage("a", stage, K, retry=RetryPolicy(1)).run(raise_errors=False)
    assert stage.attempts == [1]
    assert results["a"].status == "fail"


@pytest.mark.asyncio
async def test_an_attempt_that_times_out_is_attempted_again(sink):
    tries = []

    async def slow_once(ctx):
        tries.append(ctx.attempt)
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return {"ok": True}

    pipeline = Pipeline().with_stage("a", slow_once, K, timeout=0.01, retry=RetryPolicy(2, **QUICK))
    results = await pipeline.run(sink=sink)
    assert tries == [1, 2]
    assert results["a"].data == {"ok": True}
    assert sink.of("a") == ["started", "retrying", "completed"]


@pytest.mark.asyncio
async def test_every_attempt_has_a_time_limit_of_its_own(sink):
    """Two attempts of three quarters of the limit each are within it."""
    loop = asyncio.get_running_loop()
    cut_off = []

    async def body(ctx):
        try:
            await asyncio.wait([loop.create_future()], timeout=0.15)
        except asyncio.CancelledError:
            cut_off.append(ctx.attempt)
            raise
        return AGAIN if ctx.attempt < 3 else OK

    pipeline = Pipeline().with_stage("a", body, K, timeout=0.4, retry=RetryPolicy(3, **QUICK))
    await pipeline.run(sink=sink)
    assert cut_off == []


@pytest.mark.asyncio
async def test_siblings_and_what_depends_on_them_go_on_during_a_wait():
    """The stage is only attempted again once everything else has run: its wait stops nobody."""
    others_done = asyncio.Event()

    async def flaky(ctx):
        if ctx.attempt == 1:
            return StageOutput.retry("again", retry_after=0.01)
        await others_done.wait()
        return None

    async def last(ctx):
        others_done.set()

    pipeline = (
        Pipeline()
        .with_stage("flaky", flaky, K)
        .with_stage("other", nothing, K)
        .with_stage("last", last, K, ["other"])
    )
    await asyncio.wait_for(pipeline.run(), 5)


@pytest.mark.asyncio
async def test_an_interceptor_may_ask_for_another_attempt(sink):
    class Again(BaseInterceptor):
        async def on_error(self, stage_name, error, ctx):
            return ErrorAction.RETRY if ctx.attempt < 3 else ErrorAction.FAIL

    stage = Scripted(ValueError("no"), ValueError("no"), OK)
    graph = (
        Pipeline()
        .with_stage("a", stage, K, retry=RetryPolicy(5, **QUICK, retry_on=()))
        .build(interceptors=[Again()])
    )
    await graph.run(sink=sink)
    assert stage.attempts == [1, 2, 3]
    stage = Scripted(ValueError("no"))
    graph = Pipeline().with_stage("a", stage, K, retry=RetryPolicy(9, **QUICK)).build(interceptors=[Again()])
    results = await graph.run(raise_errors=False)
    assert stage.attempts == [1, 2, 3]
    assert isinstance(results.error.original, ValueError)


@pytest.mark.asyncio
async def test_interceptors_may_declare_the_policy_and_the_stages_own_wins():
    class Declares(BaseInterceptor):
        def stage_retry(self, stage):
            return RetryPolicy(4, **QUICK)

    stage, own = Scripted(AGAIN), Scripted(AGAIN)
    graph = (
        Pipeline()
        .with_stage("a", stage, K)
        .with_stage("b", own, K, retry=RetryPolicy(2, **QUICK))
        .build(interceptors=[Declares()], failure_mode="best_effort")
    )
    await graph.run()
    assert stage.attempts == [1, 2, 3, 4]
    assert own.attempts == [1, 2]


@pytest.mark.asyncio
async def test_the_wait_is_never_shorter_than_the_stage_asked_for(sink):
    stage = Scripted(StageOutput.retry("busy", retry_after=0.02), OK)
    await Pipeline().with_stage("a", stage, K, retry=RetryPolicy(2, **QUICK)).run(sink=sink)
    assert sink.data("stage.a.retrying")["delay_ms"] == 20


@pytest.mark.asyncio
async def test_each_attempt_reads_the_same_inputs_and_writes_to_nobody(sink):
    seen = []

    async def source(ctx):
        return {"n": 1}

    async def flaky(ctx):
        seen.append((ctx.attempt, ctx.inputs.get_from("source", "n")))
        return AGAIN if ctx.attempt < 3 else OK

    pipeline = (
        Pipeline()
        .with_stage("source", source, K)
        .with_stage("flaky", flaky, K, ["source"], retry=RetryPolicy(3, **QUICK))
    )
    await pipeline.run()
    assert seen == [(1, 1), (2, 1), (3, 1)]


# --- a run that ends while a stage waits for its next attempt ---------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("ending", ["token", "failure", "run time limit", "caller"])
async def test_a_run_does_not_wait_for_an_attempt_that_will_never_come(ending, sink):
    token = CancellationToken()
    waiting = Scripted(StageOutput.retry("later", retry_after=3600))

    async def trigger(ctx):
        await asyncio.sleep(0)
        if ending == "token":
            token.cancel()
        elif ending == "failure":
            raise ValueError("no")
        await asyncio.sleep(0.01 if ending == "caller" else 60)
        run.cancel()
        await asyncio.sleep(60)

    pipeline = Pipeline().with_stage("waiting", waiting, K).with_stage("trigger", trigger, K)
    limit = 0.02 if ending == "run time limit" else None
    async with leak_check():
        run = asyncio.create_task(pipeline.run(sink=sink, cancel_token=token, timeout=limit))
        done, _ = await asyncio.wait([run], timeout=5)
    assert done
    assert run.cancelled() == (ending == "caller")
    assert waiting.attempts == [1]
    assert sink.of("waiting") == ["started", "retrying", "cancelled"]
    sink.assert_paired(stages=["waiting", "trigger"], end="failed" if ending == "failure" else "cancelled")
    if not run.cancelled():
        assert "waiting" not in run.exception().results


@pytest.mark.asyncio
async def test_a_run_that_is_stopped_between_the_wait_and_the_attempt():
    """The wait is over, the attempt has not begun: the stage still ends with exactly one event."""
    token, loop = CancellationToken(), asyncio.get_running_loop()
    stage = Scripted(AGAIN)

    def hook(event):
        if event.type == "stage.a.retrying":
            loop.call_soon(loop.call_soon, token.cancel)

    sink = EventRecorder(hook)
    pipeline = Pipeline().with_stage("a", stage, K, retry=RetryPolicy(5, **QUICK))
    with pytest.raises(PipelineCancelled):
        await pipeline.run(sink=sink, cancel_token=token)
    sink.assert_paired(stages=["a"], end="cancelled")


@pytest.mark.asyncio
async def test_a_run_that_is_stopped_by_whoever_hears_of_the_retry():
    """No attempt follows, and nobody waits for it."""
    token = CancellationToken()
    stage = Scripted(StageOutput.retry("later", retry_after=0.2), OK)
    sink = EventRecorder(lambda event: token.cancel() if event.type == "stage.a.retrying" else None)
    with pytest.raises(PipelineCancelled):
        await Pipeline().with_stage("a", stage, K).run(sink=sink, cancel_token=token)
    assert stage.attempts == [1]
    sink.assert_paired(stages=["a"], end="cancelled")


# --- the policy ------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 500),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_waits_stay_within_their_bounds(attempt, base, most, retry_after):
    policy = RetryPolicy(base_delay=base, max_delay=most)
    bound = RetryPolicy(base_delay=base, max_delay=most, jitter=False).delay(attempt)
    assert bound == min(most, base * 2.0 ** min(attempt - 1, 64))
    assert 0 <= policy.delay(attempt) <= bound
    assert retry_after <= policy.delay(attempt, retry_after) <= max(bound, retry_after)


def test_jitter_is_full_and_random():
    policy = RetryPolicy(base_delay=1, max_delay=1)
    waits = [policy.delay(1) for _ in range(1000)]
    assert len(set(waits)) > 900
    assert min(waits) < 0.1
    assert max(waits) > 0.9
