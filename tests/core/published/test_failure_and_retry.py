"""Continue-on-failure, retry, circuit breaker and guard retry, as 0.9 documented them."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from stageflow import (
    BaseInterceptor,
    CircuitBreakerInterceptor,
    CircuitBreakerOpenError,
    Pipeline,
    RetryInterceptor,
    StageContext,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageStatus,
)
from stageflow.observability import LocalCircuitBreaker
from stageflow.pipeline.failure_tolerance import (
    BackpressureConfig,
    BackpressureMonitor,
    ConditionalDependency,
    FailureCollector,
    FailureMode,
)
from stageflow.pipeline.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.pipeline.retry import (
    BackoffStrategy,
    JitterStrategy,
    RateLimitError,
    ServiceUnavailableError,
    TransientError,
)
from stageflow.testing import (
    EventRecorder,
    FailingStage,
    ScriptedStage,
    SlowStage,
    create_test_pipeline_context,
    run_virtual,
)

WORK, AGENT, GUARD, ENRICH = StageKind.WORK, StageKind.AGENT, StageKind.GUARD, StageKind.ENRICH


def run(graph: StageGraph, sink: EventRecorder | None = None, **more: object):
    return run_virtual(graph.run(create_test_pipeline_context(event_sink=sink), **more))


# --- continue on failure ------------------------------------------------------------------------------------


def report() -> Pipeline:
    """Return a report of three sources, of which one is down; the totals need all, the letter only two."""
    return (
        Pipeline("report")
        .with_stage("sales", ScriptedStage({"n": 1}), ENRICH)
        .with_stage("weather", FailingStage(ConnectionError("weather is down"), times=None), ENRICH)
        .with_stage("stock", SlowStage(5, {"n": 2}), ENRICH)
        .with_stage("letter", ScriptedStage({"sent": True}), WORK, dependencies=("sales", "stock"))
        .with_stage("totals", ScriptedStage({"n": 3}), WORK, dependencies=("sales", "weather"))
        .with_stage("archive", ScriptedStage({"kept": True}), WORK, dependencies=("totals",))
    )


STAGES = ["sales", "weather", "stock", "letter", "totals", "archive"]


def test_continue_on_failure_runs_what_is_not_downstream_and_then_raises():
    # Findings A1.22: a library that no executor used; now an option of `build`.
    sink = EventRecorder()
    graph = report().build(failure_mode=FailureMode.CONTINUE_ON_FAILURE)
    with pytest.raises(StageExecutionError) as caught:
        run(graph, sink)
    assert caught.value.stage == "weather"
    assert isinstance(caught.value.original, ConnectionError)
    statuses = {name: output.status.value for name, output in caught.value.results.items()}
    assert statuses == {
        "sales": "ok",
        "weather": "fail",
        "stock": "ok",
        "letter": "ok",
        "totals": "skip",
        "archive": "skip",
    }
    sink.assert_paired(stages=STAGES, end="failed")
    sink.assert_order(
        "stage.weather.failed", "stage.stock.completed", "stage.letter.completed", "pipeline.failed"
    )
    for name in ("totals", "archive"):
        assert sink.of(name) == ["skipped"]
        assert sink.data(f"stage.{name}.skipped")["reason"] == "dependency_failed"


def test_best_effort_returns_the_results_and_the_error():
    sink = EventRecorder()
    results = run(report().build(failure_mode=FailureMode.BEST_EFFORT), sink)
    assert results["letter"].data == {"sent": True}
    assert results["weather"].status is StageStatus.FAIL
    assert isinstance(results.error, StageExecutionError)
    assert results.error.stage == "weather"
    sink.assert_paired(stages=STAGES, end="completed")
    end = sink.data("pipeline.completed")
    assert end["failed_stage"] == "weather"
    assert dict(end["stage_counts"]) == {"ok": 3, "fail": 1, "skip": 2}


def test_fail_fast_is_the_default():
    sink = EventRecorder()
    with pytest.raises(StageExecutionError) as caught:
        run(report().build(), sink)
    assert "letter" not in caught.value.results
    assert sink.of("letter") == ["skipped"]
    assert sink.of("stock") in (["started", "cancelled"], ["skipped"])
    sink.assert_paired(stages=STAGES, end="failed")


def test_the_results_without_an_exception():
    results = run(report().build(), raise_errors=False)
    assert results.error is not None
    assert results.error.stage == "weather"


def test_a_failure_collector_by_hand():
    collector = FailureCollector(FailureMode.CONTINUE_ON_FAILURE)
    collector.record_completion("sales")
    collector.record_failure("weather", ConnectionError("down"))
    assert collector.should_continue("letter", ["sales"]) is True
    assert collector.should_continue("totals", ["sales", "weather"]) is False
    assert collector.should_continue("archive", ["totals"]) is False
    summary = collector.get_summary()
    assert "weather" in str(summary)
    assert collector.has_failures
    strict = FailureCollector(FailureMode.FAIL_FAST)
    strict.record_failure("weather", "down")
    assert strict.should_continue("letter", ["sales"]) is False


def test_the_modes_are_text():
    assert {mode.value for mode in FailureMode} == {"fail_fast", "continue_on_failure", "best_effort"}


# --- conditional dependencies -------------------------------------------------------------------------------


@pytest.mark.parametrize(("score", "runs"), [(0.9, True), (0, False), (None, False)])
def test_a_conditional_dependency_is_given_as_when(score, runs):
    # The migration page: it had no effect in 0.9.
    condition = ConditionalDependency(stage="router", predicate="router:score")
    escalate = ScriptedStage({"escalated": True})
    pipeline = (
        Pipeline()
        .with_stage("router", ScriptedStage({} if score is None else {"score": score}), StageKind.ROUTE)
        .with_stage("escalate", escalate, WORK, dependencies=("router",), when=condition)
    )
    results = run(pipeline.build())
    assert (results["escalate"].status is StageStatus.OK) is runs
    assert len(escalate.calls) == int(runs)


def test_a_condition_that_raises_fails_the_stage():
    # The migration page: errors counted as true in 0.9.
    condition = ConditionalDependency(stage="router", predicate=lambda data: data["no such key"])
    pipeline = (
        Pipeline()
        .with_stage("router", ScriptedStage({"score": 1}), StageKind.ROUTE)
        .with_stage("escalate", ScriptedStage(), WORK, dependencies=("router",), when=condition)
    )
    with pytest.raises(StageExecutionError) as caught:
        run(pipeline.build())
    assert caught.value.stage == "escalate"


def test_a_conditional_dependency_by_hand():
    condition = ConditionalDependency("router", "router:score", skip_on_false=True)
    assert condition.evaluate({"router": StageOutput.ok(score=1)}) is True
    assert condition.evaluate({"router": StageOutput.ok(score=0)}) is False
    assert condition.evaluate({}) is False


# --- bounds -------------------------------------------------------------------------------------------------


def test_a_backpressure_monitor_bounds_what_runs_at_once():
    monitor = BackpressureMonitor(BackpressureConfig(max_active_stages=2))
    most = 0

    async def work() -> None:
        nonlocal most
        await monitor.acquire()
        try:
            most = max(most, monitor.active)
            await asyncio.sleep(1)
        finally:
            await monitor.release()

    async def program():
        await asyncio.gather(*(work() for _ in range(6)))
        return asyncio.get_running_loop().time()

    assert run_virtual(program()) == pytest.approx(3, abs=0.1)
    assert most == 2
    assert (monitor.active, monitor.queued) == (0, 0)


def test_its_limit_bounds_the_stages_of_a_run():
    monitor = BackpressureMonitor(BackpressureConfig(max_active_stages=2))
    active: list[str] = []
    most: list[int] = []

    async def body(ctx: StageContext) -> None:
        active.append(ctx.stage_name)
        most.append(len(active))
        await asyncio.sleep(1)
        active.remove(ctx.stage_name)

    pipeline = Pipeline()
    for n in range(6):
        pipeline = pipeline.with_stage(f"s{n}", body, WORK, limit=monitor.limit)
    run(pipeline.build())
    assert max(most) == 2


# --- retry --------------------------------------------------------------------------------------------------


def retrying(**options: object) -> RetryInterceptor:
    options.setdefault("base_delay_ms", 100)
    options.setdefault("jitter_strategy", JitterStrategy.NONE)
    return RetryInterceptor(**options)


def fetch(stage: object, *interceptors: BaseInterceptor) -> StageGraph:
    return Pipeline("fetching").with_stage("fetch", stage, ENRICH).build(interceptors=list(interceptors))


def test_a_connection_error_is_tried_again():
    # Findings A1.6: max_attempts=5 gave two calls, and the events were lost.
    sink = EventRecorder()
    stage = FailingStage(ConnectionError("no route"), times=4, then={"text": "at last"})
    results = run(fetch(stage, retrying(max_attempts=5)), sink)
    assert results["fetch"].data == {"text": "at last"}
    assert stage.ends == ["raised"] * 4 + ["returned"]
    sink.assert_paired(stages=["fetch"], end="completed")
    assert sink.types[:2] == ["pipeline.started", "stage.fetch.started"]
    assert sink.types[-2:] == ["stage.fetch.completed", "pipeline.completed"]
    pairs = zip(sink.types[2:-2:2], sink.types[3:-2:2], strict=True)
    assert [set(pair) for pair in pairs] == [{"stage.retry_scheduled", "stage.fetch.retrying"}] * 4
    scheduled = [event.data for event in sink.events if event.type == "stage.retry_scheduled"]
    assert [(data["stage"], data["attempt"], data["delay_ms"]) for data in scheduled] == [
        ("fetch", 1, 100),
        ("fetch", 2, 200),
        ("fetch", 3, 400),
        ("fetch", 4, 800),
    ]
    assert {data["backoff_strategy"] for data in scheduled} == {"exponential"}
    assert all("no route" in data["error"] for data in scheduled)
    starts = [call.started for call in stage.calls]
    waits = [later - earlier for earlier, later in pairwise(starts)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.05)


def test_attempts_are_used_up():
    sink = EventRecorder()
    stage = FailingStage(ConnectionError("no route"), times=None)
    with pytest.raises(StageExecutionError) as caught:
        run(fetch(stage, retrying(max_attempts=3)), sink)
    assert len(stage.calls) == 3
    assert caught.value.attempts == 3
    assert isinstance(caught.value.original, ConnectionError)
    exhausted = sink.data("stage.retry_exhausted")
    assert (exhausted["stage"], exhausted["attempts"]) == ("fetch", 3)
    assert "no route" in exhausted["error"]
    sink.assert_order("stage.retry_exhausted", "stage.fetch.failed", "pipeline.failed")


def test_an_output_that_asks_for_it_is_tried_again():
    # Findings A1.6: StageOutput.retry was a success.
    stage = ScriptedStage(StageOutput.retry("busy"), StageOutput.retry("busy"), {"n": 1})
    results = run(fetch(stage, retrying()))
    assert results["fetch"].data == {"n": 1}
    assert [call.attempt for call in stage.calls] == [1, 2, 3]


def test_an_output_that_asks_too_often_fails():
    stage = ScriptedStage(StageOutput.retry("busy"))
    with pytest.raises(StageExecutionError) as caught:
        run(fetch(stage, retrying(max_attempts=2)))
    assert len(stage.calls) == 2
    assert caught.value.results["fetch"].status is StageStatus.FAIL
    assert "busy" in caught.value.results["fetch"].error


def test_a_failed_output_is_tried_again_only_if_it_is_said():
    once = ScriptedStage(StageOutput.fail("no"), {"n": 1})
    with pytest.raises(StageExecutionError):
        run(fetch(once, retrying()))
    assert len(once.calls) == 1
    again = ScriptedStage(StageOutput.fail("no"), {"n": 1})
    results = run(fetch(again, retrying(retry_on_status=("retry", "failed"))))
    assert results["fetch"].data == {"n": 1}


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no")], ids=type)
def test_other_errors_are_not_tried_again(error):
    stage = FailingStage(error, times=1)
    with pytest.raises(StageExecutionError):
        run(fetch(stage, retrying()))
    assert len(stage.calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("slow"),
        OSError("disk"),
        TransientError("soon"),
        ServiceUnavailableError("down"),
        RateLimitError("429"),
    ],
    ids=type,
)
def test_errors_that_pass_are_tried_again(error):
    stage = FailingStage(error, times=1, then={"n": 1})
    assert run(fetch(stage, retrying()))["fetch"].data == {"n": 1}


def test_a_rate_limit_says_how_long_to_wait():
    error = RateLimitError("429", retry_after=7)
    assert (error.retry_after, error.retryable) == (7, True)
    stage = FailingStage(error, times=1, then={"n": 1})
    run(fetch(stage, retrying()))
    assert stage.calls[1].started - stage.calls[0].started >= 7


def test_errors_of_ones_own_choice():
    class Odd(Exception):  # noqa: N818 - as applications name them
        pass

    stage = FailingStage(Odd("odd"), times=1, then={"n": 1})
    assert run(fetch(stage, retrying(retryable_errors=(Odd,))))["fetch"].data == {"n": 1}
    other = FailingStage(ConnectionError("no"), times=1, then={"n": 1})
    with pytest.raises(StageExecutionError):
        run(fetch(other, retrying(retryable_errors=(Odd,))))


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (BackoffStrategy.EXPONENTIAL, [100, 200, 400, 500]),
        (BackoffStrategy.LINEAR, [100, 200, 300, 400]),
        (BackoffStrategy.CONSTANT, [100, 100, 100, 100]),
    ],
)
def test_backoff(backoff, delays):
    sink = EventRecorder()
    stage = FailingStage(ConnectionError("no"), times=4)
    run(fetch(stage, retrying(max_attempts=5, max_delay_ms=500, backoff_strategy=backoff)), sink)
    assert [
        event.data["delay_ms"] for event in sink.events if event.type == "stage.retry_scheduled"
    ] == pytest.approx(delays)


@pytest.mark.parametrize(
    ("jitter", "low", "high"),
    [
        (JitterStrategy.NONE, 100, 100),
        (JitterStrategy.FULL, 0, 100),
        (JitterStrategy.EQUAL, 50, 100),
        (JitterStrategy.DECORRELATED, 100, 300),
    ],
)
def test_jitter(jitter, low, high):
    for _ in range(20):
        sink = EventRecorder()
        run(fetch(FailingStage(ConnectionError("no"), times=1), retrying(jitter_strategy=jitter)), sink)
        assert low <= sink.data("stage.retry_scheduled")["delay_ms"] <= high


# --- circuit breaker ----------------------------------------------------------------------------------------


def test_five_failures_open_the_circuit_and_one_probe_closes_it():
    # Findings A1.9: a rejected call closed it again, a failure counted twice, half-open let everybody through.
    clock = [0.0]
    breaker = CircuitBreakerInterceptor(breaker=LocalCircuitBreaker(5, 30.0, clock=lambda: clock[0]))
    stage = FailingStage(ConnectionError("down"), times=5, then={"n": 1})
    graph = fetch(stage, breaker)

    async def attempt() -> str:
        try:
            await graph.run(create_test_pipeline_context())
        except StageExecutionError as error:
            return type(error.original).__name__
        return "ok"

    async def program():
        outcomes = [await attempt() for _ in range(8)]
        assert len(stage.calls) == 5
        clock[0] = 29.0
        outcomes.append(await attempt())
        clock[0] = 31.0
        outcomes += [await attempt(), await attempt()]
        return outcomes

    assert run_virtual(program()) == [
        *["ConnectionError"] * 5,
        *["CircuitBreakerOpenError"] * 4,
        "ok",
        "ok",
    ]
    assert len(stage.calls) == 7


def test_while_half_open_only_one_may_try():
    clock = [0.0]
    breaker = CircuitBreakerInterceptor(breaker=LocalCircuitBreaker(1, 30.0, clock=lambda: clock[0]))
    calls: list[str] = []

    async def slow(ctx: StageContext):
        calls.append("call")
        await asyncio.sleep(1)
        if len(calls) == 1:
            raise ConnectionError("down")

    graph = fetch(slow, breaker)

    async def program():
        with pytest.raises(StageExecutionError):
            await graph.run(create_test_pipeline_context())
        clock[0] = 31.0
        ends = await asyncio.gather(
            *(graph.run(create_test_pipeline_context()) for _ in range(5)), return_exceptions=True
        )
        return [getattr(end, "original", None) for end in ends]

    ends = run_virtual(program())
    assert sum(end is None for end in ends) == 1
    assert sum(isinstance(end, CircuitBreakerOpenError) for end in ends) == 4
    assert len(calls) == 2


def test_a_rejected_stage_says_so_in_its_events():
    sink = EventRecorder()
    graph = fetch(
        FailingStage(ConnectionError("down"), times=None), CircuitBreakerInterceptor(failure_threshold=1)
    )
    for _ in range(2):
        sink.clear()
        with pytest.raises(StageExecutionError) as caught:
            run(graph, sink)
    assert isinstance(caught.value.original, CircuitBreakerOpenError)
    assert caught.value.original.operation == "fetch"
    assert sink.data("stage.fetch.failed")["error_type"] == "CircuitBreakerOpenError"
    sink.assert_paired(stages=["fetch"], end="failed")


def test_the_circuit_belongs_to_the_graph():
    failing = FailingStage(ConnectionError("down"), times=None)
    one = fetch(failing, CircuitBreakerInterceptor(failure_threshold=1))
    other = fetch(ScriptedStage({"n": 1}), CircuitBreakerInterceptor(failure_threshold=1))
    for _ in range(2):
        with pytest.raises(StageExecutionError):
            run(one)
    assert run(other)["fetch"].data == {"n": 1}


# --- guard retry --------------------------------------------------------------------------------------------


def drafting(
    drafts: list[str], published: list[str], **policy: object
) -> tuple[Pipeline, GuardRetryStrategy]:
    remaining = iter(drafts)

    class Draft:
        name = "draft"
        kind = AGENT

        async def execute(self, ctx: StageContext) -> StageOutput:
            return StageOutput.ok(text=next(remaining))

    class LengthGuard:
        name = "guard"
        kind = GUARD

        async def execute(self, ctx: StageContext) -> StageOutput:
            text = ctx.inputs.require_from("draft", "text")
            return StageOutput.fail("too long") if len(text) > 5 else StageOutput.ok(text=text)

    class Publish:
        name = "publish"
        kind = WORK

        async def execute(self, ctx: StageContext) -> StageOutput:
            published.append(ctx.inputs.require_from("draft", "text"))
            return StageOutput.ok()

    pipeline = (
        Pipeline("drafting")
        .with_stage("draft", Draft, AGENT)
        .with_stage("guard", LengthGuard, GUARD, dependencies=("draft",))
        .with_stage("publish", Publish, WORK, dependencies=("draft",))
    )
    return pipeline, GuardRetryStrategy({"guard": GuardRetryPolicy(retry_stage="draft", **policy)})


def test_a_guard_sends_the_draft_back_until_it_is_right():
    # Findings A1.27: other dependants of the draft kept the rejected one.
    sink = EventRecorder()
    published: list[str] = []
    pipeline, strategy = drafting(["much too long", "still too long", "short"], published, max_attempts=3)
    results = run(pipeline.build(guard_retry_strategy=strategy), sink)
    assert results["guard"].data == {"text": "short"}
    assert results["draft"].data == {"text": "short"}
    assert published == ["short"]
    assert [type for type in sink.types if type.startswith("guard_retry.")] == [
        "guard_retry.attempt",
        "guard_retry.scheduled",
        "guard_retry.attempt",
        "guard_retry.scheduled",
        "guard_retry.recovered",
    ]
    assert sink.data("guard_retry.recovered")["stage"] == "guard"
    assert sink.of("publish") == ["started", "completed"]
    assert sink.types[-1] == "pipeline.completed"


@pytest.mark.parametrize(
    ("drafts", "policy", "reason", "rounds"),
    [
        (
            ["too long 1", "too long 2", "too long 3"],
            {"max_attempts": 2, "stagnation_limit": 9},
            "max_attempts",
            2,
        ),
        (["too long x"] * 9, {"max_attempts": 9, "stagnation_limit": 2}, "stagnation", 2),
    ],
)
def test_a_guard_gives_up(drafts, policy, reason, rounds):
    sink = EventRecorder()
    published: list[str] = []
    pipeline, strategy = drafting(drafts, published, **policy)
    with pytest.raises(StageExecutionError) as caught:
        run(pipeline.build(guard_retry_strategy=strategy), sink)
    assert caught.value.stage == "guard"
    assert "too long" in str(caught.value.original)
    assert published == []
    exhausted = sink.data("guard_retry.exhausted")
    assert (exhausted["reason"], exhausted["stage"], exhausted["retry_stage"]) == (reason, "guard", "draft")
    assert sum(type == "guard_retry.attempt" for type in sink.types) == rounds


def test_a_guard_gives_up_after_its_time():
    class Slow:
        name = "draft"
        kind = AGENT
        calls = 0

        async def execute(self, ctx: StageContext) -> StageOutput:
            Slow.calls += 1
            await asyncio.sleep(4)
            return StageOutput.ok(n=Slow.calls)

    pipeline = (
        Pipeline()
        .with_stage("draft", Slow, AGENT)
        .with_stage("guard", ScriptedStage(StageOutput.fail("no")), GUARD, dependencies=("draft",))
    )
    strategy = GuardRetryStrategy(
        {"guard": GuardRetryPolicy(retry_stage="draft", max_attempts=100, timeout_seconds=10)}
    )
    sink = EventRecorder()
    with pytest.raises(StageExecutionError):
        run(pipeline.build(guard_retry_strategy=strategy), sink)
    assert sink.data("guard_retry.exhausted")["reason"] == "timeout"
    assert 2 <= Slow.calls <= 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_attempts": 0},
        {"stagnation_limit": 0},
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
    ],
    ids=str,
)
def test_a_policy_checks_its_limits(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        GuardRetryPolicy(retry_stage="draft", **arguments)


@pytest.mark.parametrize(
    ("guard", "target"),
    [("nobody", "draft"), ("draft", "guard"), ("guard", "nobody"), ("guard", "guard"), ("guard", "publish")],
)
def test_a_strategy_is_checked_at_build(guard, target):
    pipeline, _ = drafting(["x"], [])
    with pytest.raises(ValueError, match=guard) as caught:
        pipeline.build(guard_retry_strategy=GuardRetryStrategy({guard: GuardRetryPolicy(retry_stage=target)}))
    assert "SF-BUILD-GUARD-RETRY" in [problem.code for problem in caught.value.problems]
