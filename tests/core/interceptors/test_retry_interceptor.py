"""The retry interceptor declares; the executor attempts again, with events, time-outs and bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import Pipeline, RetryPolicy, StageExecutionError, StageKind, StageOutput, StageStatus
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import RateLimitError, ServiceUnavailableError
from stageflow.events import vocabulary
from stageflow.interceptors.retry import BackoffStrategy, JitterStrategy, RetryInterceptor
from stageflow.stages.retry import DEFAULT_RETRY, TRANSIENT_ERRORS

K = StageKind.TRANSFORM


def retrying(attempts: int = 5, **options: Any) -> RetryInterceptor:
    return RetryInterceptor(attempts, base_delay_ms=0, **options)


class Flaky:
    """Answers with what it is given, one answer per attempt, and then with OK."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def execute(self, ctx: Any) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else StageOutput.ok(attempt=ctx.attempt)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        return answer


def build(stage: Any, *interceptors: Any, **options: Any) -> Any:
    return Pipeline().with_stage("a", stage, K, **options).build(interceptors=list(interceptors))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [StageOutput.retry("later"), TimeoutError("slow"), ConnectionError("down"), OSError("disk")],
    ids=["RETRY", "TimeoutError", "ConnectionError", "OSError"],
)
async def test_finding_a1_06_five_attempts_are_five_calls(answer: Any, sink: Any):
    stage = Flaky(*[answer] * 4)
    results = await build(stage, retrying()).run(sink=sink)
    assert (stage.calls, results["a"].data["attempt"]) == (5, 5)
    assert sink.of("a") == ["started", *["retrying"] * 4, "completed"]


@pytest.mark.asyncio
async def test_finding_a1_06_time_outs_are_retried_each_with_its_own_limit():
    stage = Flaky(60.0, 60.0)
    results = await build(stage, retrying(), timeout=0.01).run()
    assert (stage.calls, results["a"].data["attempt"]) == (3, 3)


@pytest.mark.asyncio
async def test_finding_a1_06_an_exhausted_retry_is_a_failure(sink: Any):
    stage = Flaky(*[StageOutput.retry("later")] * 9)
    with pytest.raises(StageExecutionError) as raised:
        await build(stage, retrying(3)).run(sink=sink)
    assert (stage.calls, raised.value.attempts) == (3, 3)
    sink.assert_paired(stages=["a"], end="failed")


@pytest.mark.asyncio
async def test_other_exceptions_are_final():
    stage = Flaky(ValueError("no"))
    with pytest.raises(StageExecutionError):
        await build(stage, retrying()).run()
    assert stage.calls == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "error", [RateLimitError("slow down"), ServiceUnavailableError("down")], ids=lambda e: e.code
)
async def test_transient_errors_are_retried(error: Exception):
    stage = Flaky(error)
    await build(stage, retrying()).run()
    assert stage.calls == 2


@pytest.mark.asyncio
async def test_an_exception_that_says_so_is_retried():
    class Busy(Exception):  # noqa: N818
        retryable = True

    stage = Flaky(Busy())
    await build(stage, retrying()).run()
    assert stage.calls == 2


@pytest.mark.asyncio
async def test_only_the_given_exceptions_are_retried():
    stage = Flaky(KeyError("k"), ConnectionError("down"))
    with pytest.raises(StageExecutionError) as raised:
        await build(stage, retrying(retryable_errors=[KeyError])).run()
    assert (stage.calls, type(raised.value.original)) == (2, ConnectionError)


@pytest.mark.asyncio
async def test_failed_outputs_are_retried_where_that_is_asked_for():
    stage = Flaky(StageOutput.fail("no"))
    await build(stage, retrying(retry_on_status=("retry", "failed"))).run()
    assert stage.calls == 2


@pytest.mark.asyncio
async def test_a_retry_that_is_not_asked_for_is_a_failure():
    stage = Flaky(StageOutput.retry("no"))
    with pytest.raises(StageExecutionError):
        await build(stage, retrying(retry_on_status=())).run()
    assert stage.calls == 1


@pytest.mark.asyncio
async def test_a_stages_own_policy_wins():
    stage = Flaky(*[ConnectionError("down")] * 9)
    with pytest.raises(StageExecutionError):
        await build(stage, retrying(9), retry=RetryPolicy(2, base_delay=0)).run()
    assert stage.calls == 2


needs_events = pytest.mark.skipif(
    not hasattr(vocabulary, "RETRY_SCHEDULED"), reason="the run does not emit the events of 0.9 yet"
)


@needs_events
@pytest.mark.asyncio
async def test_finding_a1_15_the_retry_events_of_0_9_reach_the_runs_sink(sink: Any):
    stage = Flaky(*[ConnectionError("down")] * 9)
    interceptor = RetryInterceptor(3, base_delay_ms=1, backoff_strategy="linear", jitter_strategy="none")
    with pytest.raises(StageExecutionError):
        await build(stage, interceptor).run(sink=sink)
    scheduled = [event.data for event in sink if event.type == "stage.retry_scheduled"]
    assert [
        (one["stage"], one["attempt"], one["delay_ms"], one["backoff_strategy"]) for one in scheduled
    ] == [
        ("a", 1, 1.0, "linear"),
        ("a", 2, 2.0, "linear"),
    ]
    assert "down" in scheduled[0]["error"]
    exhausted = sink.data("stage.retry_exhausted")
    assert (exhausted["stage"], exhausted["attempts"]) == ("a", 3)
    assert "down" in exhausted["error"]
    sink.assert_paired(stages=["a"], end="failed")


@needs_events
@pytest.mark.asyncio
async def test_a_failure_that_is_not_retried_exhausts_nothing(sink: Any):
    with pytest.raises(StageExecutionError):
        await build(Flaky(ValueError("no")), retrying()).run(sink=sink)
    assert "stage.retry_exhausted" not in sink.types


# --- waits --------------------------------------------------------------------------------------------------------

delays = st.floats(0, 1e6)
policies = st.builds(
    RetryPolicy,
    st.integers(1, 10),
    base_delay=delays,
    max_delay=delays,
    jitter=st.sampled_from(JitterStrategy),
    backoff=st.sampled_from(BackoffStrategy),
)


@given(policies, st.integers(1, 10_000))
def test_every_wait_is_within_its_bounds(policy: RetryPolicy, attempt: int):
    bound = policy.bound(attempt)
    assert 0 <= bound <= policy.max_delay
    wait = policy.delay(attempt)
    if policy.jitter is JitterStrategy.NONE:
        assert wait == bound
    elif policy.jitter is JitterStrategy.FULL:
        assert 0 <= wait <= bound
    elif policy.jitter is JitterStrategy.EQUAL:
        assert bound / 2 <= wait <= bound
    else:
        first = min(policy.base_delay, policy.max_delay)
        assert first <= wait <= min(policy.max_delay, first * 3.0 ** min(attempt, 64) * (1 + 1e-9))


@given(policies, st.integers(1, 200))
def test_bounds_never_shrink(policy: RetryPolicy, attempt: int):
    assert policy.bound(attempt) <= policy.bound(attempt + 1)


@given(policies, st.integers(1, 100), st.floats(0, 1e7))
def test_no_wait_is_shorter_than_what_was_asked_for(policy: RetryPolicy, attempt: int, retry_after: float):
    assert policy.delay(attempt, retry_after) >= retry_after


def test_how_bounds_grow():
    def bounds(backoff: str) -> list[float]:
        policy = RetryPolicy(base_delay=1, max_delay=5, backoff=backoff)
        return [policy.bound(attempt) for attempt in range(1, 6)]

    assert bounds("exponential") == [1, 2, 4, 5, 5]
    assert bounds("linear") == [1, 2, 3, 4, 5]
    assert bounds("constant") == [1, 1, 1, 1, 1]


def test_defaults_are_those_of_0_9():
    interceptor = RetryInterceptor()
    policy = interceptor.policy
    assert (interceptor.name, interceptor.priority) == ("retry", 15)
    assert (policy.max_attempts, policy.base_delay, policy.max_delay) == (3, 1.0, 30.0)
    assert (policy.backoff, policy.jitter) == (BackoffStrategy.EXPONENTIAL, JitterStrategy.FULL)
    assert policy.retry_on is TRANSIENT_ERRORS
    assert policy.wants_status(StageStatus.RETRY)
    assert not policy.wants_status(StageStatus.FAIL)
    assert not policy.wants_status(StageStatus.OK)


def test_the_default_of_stages_without_a_policy_retries_no_exception():
    assert not any(DEFAULT_RETRY.wants(error) for error in (OSError(), RateLimitError("x"), ValueError()))
    assert DEFAULT_RETRY.wants_status(StageStatus.RETRY)


def test_booleans_still_say_how_to_wait():
    assert RetryPolicy(jitter=False).jitter is JitterStrategy.NONE
    assert RetryPolicy(jitter=True).jitter is JitterStrategy.FULL


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"max_attempts": True},
        {"base_delay_ms": -1},
        {"base_delay_ms": float("nan")},
        {"base_delay_ms": "1"},
        {"base_delay_ms": True},
        {"max_delay_ms": float("inf")},
        {"backoff_strategy": "slow"},
        {"jitter_strategy": 7},
        {"retryable_errors": [1]},
        {"retryable_errors": "OSError"},
        {"retryable_errors": 3},
        {"retryable_errors": KeyboardInterrupt},
        {"retry_on_status": ("completed",)},
    ],
    ids=str,
)
def test_bad_arguments(options: dict[str, Any]):
    with pytest.raises((ArgumentTypeError, ArgumentValueError)):
        RetryInterceptor(**options)


def test_lone_values_are_taken_for_one():
    policy = RetryPolicy(retry_on=KeyError, retry_on_status="failed")  # type: ignore[arg-type]
    assert policy.retry_on == (KeyError,)
    assert policy.retry_on_status == {"failed"}
    with pytest.raises(ArgumentTypeError):
        RetryPolicy(base_delay="1")  # type: ignore[arg-type]
