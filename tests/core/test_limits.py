"""Concurrency limits: of a stage, of a run, of a graph's runs; who waits, who is refused, and that no place is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from stageflow import (
    CancellationToken,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    PipelineResults,
    RetryPolicy,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    stage,
)
from stageflow.errors import OverloadError, RunTimeoutError
from stageflow.runtime.limits import Admission, ConcurrencyLimit, Overload
from stageflow.testing import EventRecorder

K = StageKind.WORK


def assert_free(*limits):
    """Nobody is in, and nobody waits."""
    assert [(limit.active, limit.queued) for limit in limits] == [(0, 0)] * len(limits)


async def settle():
    """Let everything happen that does not wait for time."""
    for _ in range(20):
        await asyncio.sleep(0)


class Gauge:
    """A stage that counts how many of it are at work, for as long as it is told."""

    def __init__(self, turns=3):
        self.turns = turns
        self.now = self.most = self.calls = 0
        self.order = []

    async def execute(self, ctx):
        self.now += 1
        self.calls += 1
        self.most = max(self.most, self.now)
        self.order.append(ctx.input_text or ctx.stage_name)
        try:
            for _ in range(self.turns):
                await asyncio.sleep(0)
        finally:
            self.now -= 1


class Held:
    """A stage that is at work until it is let go."""

    def __init__(self):
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.calls = 0

    async def execute(self, ctx):
        self.calls += 1
        self.started.set()
        await self.go.wait()


# --- the limit itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1])
def test_a_limit_lets_somebody_in(number):
    with pytest.raises(ValueError, match="max_active"):
        ConcurrencyLimit(number)
    with pytest.raises(ValueError, match="max_queued"):
        ConcurrencyLimit(1, max_queued=-1)
    with pytest.raises(ValueError, match="explode"):
        ConcurrencyLimit(1, on_overload="explode")


class Places(RuleBasedStateMachine):
    """Any sequence of calls, against a counter and a queue."""

    def __init__(self):
        super().__init__()
        self.limit = None
        self.granted: list[int] = []
        self.inside: set[int] = set()
        self.line: deque[int] = deque()
        self.callbacks = {}
        self.number = 0

    @rule(most=st.integers(1, 3), line=st.one_of(st.none(), st.integers(0, 3)))
    @precondition(lambda self: self.limit is None)
    def make(self, most, line):
        self.limit = ConcurrencyLimit(most, max_queued=line)
        self.most, self.longest = most, line

    @rule()
    @precondition(lambda self: self.limit is not None)
    def enter(self):
        number = self.number = self.number + 1
        self.callbacks[number] = lambda: self.granted.append(number)
        answer = self.limit.enter(self.callbacks[number])
        if len(self.inside) < self.most:
            assert answer is Admission.GRANTED
            self.inside.add(number)
        elif self.longest is None or len(self.line) < self.longest:
            assert answer is Admission.QUEUED
            self.line.append(number)
        else:
            assert answer is Admission.REFUSED
        assert self.granted == []  # the answer says it; the callback is for later

    @rule(data=st.data())
    @precondition(lambda self: self.inside)
    def leave(self, data):
        self.inside.remove(data.draw(st.sampled_from(sorted(self.inside))))
        self.limit.leave()
        if self.line:
            first = self.line.popleft()
            self.inside.add(first)
            assert self.granted == [first]
        else:
            assert self.granted == []
        self.granted.clear()

    @rule(data=st.data())
    @precondition(lambda self: self.callbacks)
    def withdraw(self, data):
        number = data.draw(st.sampled_from(sorted(self.callbacks)))
        waits = number in self.line
        assert self.limit.withdraw(self.callbacks[number]) is waits
        if waits:
            self.line.remove(number)

    @invariant()
    def counts(self):
        if self.limit is not None:
            assert (self.limit.active, self.limit.queued) == (len(self.inside), len(self.line))
            assert f"{len(self.inside)}/{self.most}" in repr(self.limit)


Places.TestCase.settings = settings(stateful_step_count=40)
TestPlaces = Places.TestCase


def test_a_place_is_never_handed_to_two_when_threads_come_and_go():
    limit = ConcurrencyLimit(3)
    guard, failed = threading.Lock(), []
    inside = most = 0

    def work():
        nonlocal inside, most
        for _ in range(200):
            mine = threading.Event()
            if limit.enter(mine.set) is not Admission.GRANTED and not mine.wait(10):
                failed.append("never let in")
                return
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1
            limit.leave()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert most <= 3
    assert_free(limit)


GONE = """
import asyncio
from stageflow import Pipeline, StageKind
from stageflow.runtime.limits import ConcurrencyLimit

async def nothing(ctx):
    pass

async def settle():
    for _ in range(5):
        await asyncio.sleep(0)

limit = ConcurrencyLimit(1)
limit.enter(print)
graph = Pipeline().with_stage("a", nothing, StageKind.WORK, limit=limit).build()
loop = asyncio.new_event_loop()
tasks = [loop.create_task(graph.run()) for _ in range(1500)]
loop.run_until_complete(settle())
queued = limit.queued
for task in asyncio.all_tasks(loop):
    task._log_destroy_pending = False
loop.close()
limit.leave()
print(queued, limit.active, limit.queued)
"""


def test_a_place_that_was_kept_for_a_closed_event_loop_goes_on_to_the_next():
    """However many are gone, the place ends up free. In a process of its own, which a RecursionError may damage."""
    done = subprocess.run([sys.executable, "-c", GONE], capture_output=True, encoding="utf-8", check=False)
    assert done.stdout == "1500 0 0\n", done.stderr[-500:]


# --- the limit of a stage ------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_the_limit_of_a_stage_counts_over_all_runs_of_the_graph(limit):
    gauge = Gauge()
    graph = Pipeline().with_stage("a", gauge, K, limit=limit).build()
    names = [f"run {number}" for number in range(20)]
    await asyncio.gather(*(graph.run(input_text=name) for name in names))
    assert gauge.most == limit
    assert gauge.order == names  # first come, first served


@pytest.mark.asyncio
async def test_a_number_is_a_limit_of_each_stage_and_one_object_is_one_limit_of_all_its_stages():
    def build(limit, gauge):
        pipeline = Pipeline()
        for number in range(6):
            pipeline = pipeline.with_stage(f"s{number}", gauge, K, limit=limit)
        return pipeline.build()

    apart, together, decorated = Gauge(), Gauge(), Gauge()
    shared = ConcurrencyLimit(2)
    await build(1, apart).run()
    await asyncio.gather(build(shared, together).run(), build(shared, together).run())
    assert apart.most == 6
    assert together.most == 2
    assert together.calls == 12
    assert_free(shared)

    @stage(limit=1)
    async def one(ctx) -> None:
        await decorated.execute(ctx)

    graph = Pipeline.from_stages(one).build()
    await asyncio.gather(graph.run(), graph.run(), graph.run())
    assert decorated.most == 1


@pytest.mark.asyncio
async def test_a_stage_that_waits_keeps_nobody_else_from_running():
    held, other = Held(), Gauge()
    limit = ConcurrencyLimit(1)
    graph = (
        Pipeline()
        .with_stage("held", held, K, limit=limit)
        .with_stage("waits", Gauge(), K, limit=limit)
        .with_stage("other", other, K)
        .with_stage("after", other, K, ["other"])
        .build()
    )
    run = asyncio.create_task(graph.run())
    await settle()
    assert other.calls == 2
    assert (limit.active, limit.queued) == (1, 1)
    held.go.set()
    results = await run
    assert [str(output.status) for output in results.values()] == ["ok"] * 4
    assert_free(limit)


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", FailureMode)
async def test_who_finds_the_line_full_fails(mode, sink):
    limit = ConcurrencyLimit(1, max_queued=0)
    held = Held()
    graph = (
        Pipeline()
        .with_stage("a", held, K, limit=limit)
        .with_stage("b", Gauge(), K, ["a"])
        .build(failure_mode=mode)
    )
    first = asyncio.create_task(graph.run())
    await held.started.wait()
    results = await graph.run(sink=sink, raise_errors=False)
    assert results["a"].status == "fail"
    assert isinstance(results.error, StageExecutionError)
    assert isinstance(results.error.original, OverloadError)
    assert "stage 'a'" in str(results.error.original)
    assert sink.of("a") == ["started", "failed"]
    sink.assert_paired(stages="ab", end="completed" if mode is FailureMode.BEST_EFFORT else "failed")
    held.go.set()
    await first
    assert held.calls == 1
    assert_free(limit)


@pytest.mark.asyncio
async def test_or_is_skipped_and_takes_its_branch_along(sink):
    limit = ConcurrencyLimit(1, max_queued=0, on_overload=Overload.SKIP)
    held, gauge = Held(), Gauge()
    graph = (
        Pipeline()
        .with_stage("a", held, K, limit=limit)
        .with_stage("b", gauge, K, ["a"])
        .with_stage("c", gauge, K, ["a"], conditional=True)
        .build()
    )
    first = asyncio.create_task(graph.run())
    await held.started.wait()
    results = await graph.run(sink=sink)
    assert results["a"].data["reason"] == "overloaded"
    assert results["c"].status == "skip"
    assert sink.of("a") == ["skipped"]
    assert sink.data("stage.a.skipped")["reason"] == "overloaded"
    sink.assert_paired(stages="abc", end="completed")
    held.go.set()
    await first
    assert_free(limit)


def test_an_overload_is_worth_another_attempt_later():
    error = OverloadError("stage 'a'", active=1, queued=0)
    assert error.retryable
    assert (error.active, error.queued) == (1, 0)


@pytest.mark.asyncio
async def test_as_many_wait_as_may():
    limit = ConcurrencyLimit(2, max_queued=3)
    held = Held()
    graph = Pipeline().with_stage("a", held, K, limit=limit).build()
    runs = [asyncio.create_task(graph.run(raise_errors=False)) for _ in range(8)]
    await settle()
    assert (limit.active, limit.queued) == (2, 3)
    assert sum(run.done() for run in runs) == 3
    held.go.set()
    statuses = [str((await run)["a"].status) for run in runs]
    assert statuses == ["ok"] * 5 + ["fail"] * 3
    assert_free(limit)


@pytest.mark.asyncio
async def test_a_stage_between_two_attempts_holds_no_place():
    limit = ConcurrencyLimit(1)
    first_failed = asyncio.Event()

    async def flaky(ctx):
        if ctx.input_text == "flaky" and ctx.attempt == 1:
            first_failed.set()
            return StageOutput.retry("again", retry_after=0.05)
        return {"attempt": ctx.attempt}

    graph = Pipeline().with_stage("a", flaky, K, limit=limit, retry=RetryPolicy(2, base_delay=0)).build()
    waiting = asyncio.create_task(graph.run(input_text="flaky"))
    await first_failed.wait()
    await asyncio.sleep(0)
    assert_free(limit)
    assert (await graph.run(input_text="other"))["a"].data == {"attempt": 1}
    assert not waiting.done()
    assert (await waiting)["a"].data == {"attempt": 2}
    assert_free(limit)


@pytest.mark.asyncio
@pytest.mark.parametrize("overload", Overload)
async def test_another_attempt_that_finds_the_line_full(overload, sink):
    """It has been announced already; and it ends once, like any stage."""
    limit = ConcurrencyLimit(1, max_queued=0, on_overload=overload)
    held = Held()

    async def flaky(ctx):
        return StageOutput.retry("again", retry_after=0.02)

    one = StageGraph([StageSpec("a", flaky, K, limit=limit, retry=RetryPolicy(3, base_delay=0))])
    other = StageGraph([StageSpec("b", held, K, limit=limit)])
    run = asyncio.create_task(one.run(sink=sink, raise_errors=False))
    await asyncio.sleep(0)
    while limit.active:
        await asyncio.sleep(0)
    second = asyncio.create_task(other.run())
    await held.started.wait()
    results = await run
    held.go.set()
    await second
    assert results["a"].status == ("fail" if overload is Overload.FAIL else "skip")
    assert sink.of("a") == ["started", "retrying", "failed" if overload is Overload.FAIL else "skipped"]
    sink.assert_paired(stages="a")
    assert_free(limit)


# --- the limit of a run --------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("most", [1, 2, 7])
async def test_the_limit_of_a_run_counts_its_stages_and_no_other_runs(most):
    gauge = Gauge()
    pipeline = Pipeline()
    for number in range(12):
        pipeline = pipeline.with_stage(f"s{number}", gauge, K)
    graph = pipeline.build(max_concurrency=most)
    await graph.run()
    assert gauge.most == most
    gauge.most = 0
    await asyncio.gather(graph.run(), graph.run())
    assert gauge.most == 2 * most


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "ending", ["fail", "raise", "cancel", "skip", "time out", "wrong output", "when raises"]
)
async def test_every_ending_gives_its_places_back(ending, sink):
    limit = ConcurrencyLimit(1)

    async def does(ctx):
        await asyncio.sleep(0)
        if ending == "raise":
            raise ValueError
        if ending == "time out":
            await asyncio.sleep(60)
        if ending == "wrong output":
            return 42
        return {"fail": StageOutput.fail, "cancel": StageOutput.cancel, "skip": StageOutput.skip}[ending](
            "so"
        )

    def when(_):
        if ending == "when raises":
            raise KeyError
        return True

    gauge = Gauge()
    graph = (
        Pipeline()
        .with_stage("does", does, K, limit=limit, timeout=0.01, when=when)
        .with_stage("waits", gauge, K, limit=limit)
        .build(failure_mode=FailureMode.BEST_EFFORT, max_concurrency=1)
    )
    await graph.run(sink=sink, raise_errors=False)
    assert gauge.calls == (ending != "cancel")
    assert_free(limit)
    sink.assert_paired(stages=["does", "waits"])


# --- the limit of a graph's runs -----------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_limit_of_runs():
    gauge = Gauge()
    graph = Pipeline().with_stage("a", gauge, K).with_stage("b", gauge, K, ["a"]).build(max_runs=2)
    names = [f"run {number}" for number in range(9)]
    await asyncio.gather(*(graph.run(input_text=name) for name in names))
    assert gauge.most == 2
    assert list(dict.fromkeys(gauge.order)) == names
    shared = ConcurrencyLimit(1)
    both = Gauge()
    graphs = [Pipeline().with_stage("a", both, K).build(max_runs=shared) for _ in range(2)]
    await asyncio.gather(*(graph.run() for graph in graphs * 3))
    assert (both.most, both.calls) == (1, 6)
    assert_free(shared)


@pytest.mark.asyncio
async def test_a_run_that_is_refused_starts_nothing(sink):
    limit = ConcurrencyLimit(1, max_queued=1)
    held = Held()
    graph = Pipeline("popular").with_stage("a", held, K).build(max_runs=limit)
    runs = [asyncio.create_task(graph.run()) for _ in range(2)]
    await held.started.wait()
    with pytest.raises(OverloadError, match="popular") as caught:
        await graph.run(sink=sink)
    assert (caught.value.active, caught.value.queued) == (1, 1)
    assert sink.events == []
    held.go.set()
    await asyncio.gather(*runs)
    assert held.calls == 2
    assert_free(limit)


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", FailureMode)
@pytest.mark.parametrize("how", ["run", "run that raises", "stream", "stream that raises"])
async def test_a_run_that_is_refused_is_a_result_like_others(how, mode, sink):
    limit = ConcurrencyLimit(1, max_queued=0)
    held = Held()
    graph = Pipeline("popular").with_stage("a", held, K).build(max_runs=limit, failure_mode=mode)
    first = asyncio.create_task(graph.run())
    await held.started.wait()
    raises = how.endswith("raises")
    if how.startswith("run"):
        running = graph.run(sink=sink, raise_errors=raises)
    else:
        stream = graph.stream(sink=sink, raise_errors=raises)

        async def read():
            assert [event.type async for event in stream] == []
            return stream.results

        running = read()
    if raises:
        with pytest.raises(OverloadError) as caught:
            await running
        error, results = caught.value, caught.value.results
    else:
        results = await running
        error = results.error
        assert error.results is results
    assert isinstance(error, OverloadError)
    assert isinstance(results, PipelineResults)
    assert (dict(results), results.error, results.pipeline) == ({}, error, "popular")
    assert results.run_id is not None
    assert sink.events == []
    held.go.set()
    await first
    assert_free(limit)


@pytest.mark.asyncio
async def test_a_stage_that_runs_what_needs_its_own_place_waits_until_its_time_is_over():
    """A limit knows places and not who holds them: the run below waits for the one above, which waits for it."""
    limit = ConcurrencyLimit(1)
    inner = Pipeline("inner").with_stage("embed", Gauge(), K, limit=limit)

    async def outer(ctx):
        await inner.run()

    pipeline = Pipeline("outer").with_stage("outer", outer, K, limit=limit)
    with pytest.raises(RunTimeoutError):
        await pipeline.run(timeout=0.02)
    assert_free(limit)


@pytest.mark.asyncio
@pytest.mark.parametrize("ending", ["fails", "raises out", "cancelled", "times out"])
async def test_every_end_of_a_run_gives_its_place_back(ending):
    limit = ConcurrencyLimit(1)

    async def does(ctx):
        if ending == "fails":
            raise ValueError
        if ending == "raises out":
            raise SystemExit
        await asyncio.Event().wait()

    graph = Pipeline().with_stage("a", does, K).build(max_runs=limit)

    async def call():
        try:
            await graph.run(timeout=0.01 if ending == "times out" else None)
        except SystemExit as error:  # the event loop would let it through
            return error

    run = asyncio.create_task(call())
    await settle()
    if ending == "cancelled":
        run.cancel()
    await asyncio.wait([run])
    expected = {
        "fails": StageExecutionError,
        "cancelled": asyncio.CancelledError,
        "times out": RunTimeoutError,
    }
    if ending == "raises out":
        assert isinstance(run.result(), SystemExit)
    else:
        with pytest.raises(expected[ending]):
            run.result()
    assert_free(limit)


@pytest.mark.asyncio
async def test_a_caller_that_is_cancelled_while_its_run_waits_leaves_the_line(sink):
    limit = ConcurrencyLimit(1)
    held = Held()
    graph = Pipeline().with_stage("a", held, K).build(max_runs=limit)
    first = asyncio.create_task(graph.run())
    await held.started.wait()
    second, third = asyncio.create_task(graph.run(sink=sink)), asyncio.create_task(graph.run())
    await settle()
    assert limit.queued == 2
    second.cancel()
    await asyncio.wait([second])
    assert second.cancelled()
    assert limit.queued == 1
    assert sink.events == []
    held.go.set()
    await asyncio.gather(first, third)
    assert held.calls == 2
    assert_free(limit)


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", range(6))
async def test_a_caller_that_is_cancelled_when_its_run_is_let_in_gives_the_place_on(turns):
    limit = ConcurrencyLimit(1)
    held = Held()
    graph = Pipeline().with_stage("a", held, K).build(max_runs=limit)
    first = asyncio.create_task(graph.run())
    await held.started.wait()
    second, third = asyncio.create_task(graph.run()), asyncio.create_task(graph.run())
    await settle()
    held.go.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([first, second, third], timeout=5)
    assert third.done()
    assert third.exception() is None
    assert_free(limit)


@pytest.mark.asyncio
@pytest.mark.parametrize("ending", ["timeout", "token", "parent's timeout"])
async def test_a_run_that_waits_for_its_place_can_end_early_too(ending):
    """DESIGN section 4: token, deadline and outer cancel all take one way, and a deadline is inherited."""
    limit = ConcurrencyLimit(1)
    held, token = Held(), CancellationToken()
    graph = Pipeline().with_stage("a", held, K).build(max_runs=limit)
    first = asyncio.create_task(graph.run())
    await held.started.wait()
    if ending == "parent's timeout":

        async def nested(ctx):
            await graph.run()

        waiting = asyncio.create_task(Pipeline().with_stage("nested", nested, K).run(timeout=0.02))
    else:
        waiting = asyncio.create_task(
            graph.run(timeout=0.02 if ending == "timeout" else None, cancel_token=token)
        )
    await settle()
    assert limit.queued == 1
    if ending == "token":
        token.cancel("changed my mind")
    await asyncio.wait([waiting], timeout=1)
    ended = waiting.done()
    queued = limit.queued
    held.go.set()
    await asyncio.wait([waiting, first], timeout=5)
    assert ended, "the run waits for its place whatever its own limit and its token say"
    assert queued == 0
    assert isinstance(waiting.exception(), PipelineCancelled if ending == "token" else RunTimeoutError)
    assert held.calls == 1
    assert_free(limit)


# --- no place is lost ----------------------------------------------------------------------------------------


async def run_and_stop(graph, limits, stop, turn):
    """Two runs compete; one is stopped after some turns of the event loop. Return how many turns there were."""
    token = CancellationToken()
    other = asyncio.create_task(graph.run(raise_errors=False))
    stopped = asyncio.create_task(graph.run(raise_errors=False, cancel_token=token))
    third = asyncio.create_task(graph.run(raise_errors=False))
    turns = 0
    while not stopped.done() and turns < turn:
        await asyncio.sleep(0)
        turns += 1
    if stop == "token":
        token.cancel()
    else:
        stopped.cancel()
    _done, pending = await asyncio.wait([other, stopped, third], timeout=1)
    for task in pending:
        task.cancel()
    assert not pending, (
        f"stopped in turn {turn}: a place was lost, and {len(pending)} runs wait for it: {limits}"
    )
    assert other.result().error is third.result().error is None
    assert_free(*limits)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return turns


@pytest.mark.parametrize("stop", ["token", "caller"])
@pytest.mark.parametrize("shape", ["chain", "beside each other", "two limits", "retry"])
def test_whenever_a_run_is_stopped_its_places_go_on(stop, shape):
    """A cancellation at every turn of the event loop."""
    limit, second = ConcurrencyLimit(1), ConcurrencyLimit(1)

    async def body(ctx):
        for _ in range(2):
            await asyncio.sleep(0)
        return StageOutput.retry("again") if shape == "retry" and ctx.attempt < 2 else None

    policy = RetryPolicy(2, base_delay=0, jitter=False)
    specs = {
        "chain": [StageSpec("a", body, K, limit=limit), StageSpec("b", body, K, ["a"], limit=second)],
        "beside each other": [StageSpec(name, body, K, limit=limit) for name in "abc"],
        "two limits": [StageSpec(name, body, K, limit=limit if name < "c" else second) for name in "abcd"],
        "retry": [StageSpec(name, body, K, limit=limit, retry=policy) for name in "ab"],
    }[shape]
    graph = StageGraph(specs, [], max_concurrency=1 if shape == "two limits" else None)
    turn = 0
    while asyncio.run(run_and_stop(graph, (limit, second), stop, turn)) == turn:
        turn += 1
    assert turn > 10


@settings(max_examples=settings().max_examples * 2)
@given(
    stages=st.lists(
        st.tuples(
            st.lists(st.integers(0, 7), max_size=2),  # how far back its dependencies are
            st.sampled_from([None, 0, 1, 2]),  # which limit it has
            st.integers(0, 3),  # how often it suspends
            st.sampled_from(["ok", "ok", "ok", "fail", "retry"]),
        ),
        min_size=1,
        max_size=10,
    ),
    most=st.sampled_from([None, 1, 2]),
    runs=st.integers(1, 4),
    max_runs=st.sampled_from([None, 1, 2]),
    stop=st.one_of(st.none(), st.integers(0, 30)),
)
def test_limits_are_kept_and_nothing_waits_for_ever(stages, most, runs, max_runs, stop):
    limits = [ConcurrencyLimit(1), ConcurrencyLimit(2), ConcurrencyLimit(1)]
    of_runs = None if max_runs is None else ConcurrencyLimit(max_runs)
    inside = [0, 0, 0]

    def body_of(number, suspensions, does):
        async def body(ctx):
            if number is not None:
                inside[number] += 1
                assert inside[number] <= limits[number].max_active
            try:
                for _ in range(suspensions):
                    await asyncio.sleep(0)
            finally:
                if number is not None:
                    inside[number] -= 1
            if does == "retry" and ctx.attempt == 1:
                return StageOutput.retry("again")
            return StageOutput.fail("so") if does == "fail" else None

        return body

    specs = [
        StageSpec(
            f"s{index}",
            body_of(number, suspensions, does),
            K,
            {f"s{index - 1 - back}" for back in backs if back < index},
            limit=None if number is None else limits[number],
            retry=RetryPolicy(2, base_delay=0, jitter=False),
        )
        for index, (backs, number, suspensions, does) in enumerate(stages)
    ]
    graph = StageGraph(
        specs, [], failure_mode=FailureMode.BEST_EFFORT, max_concurrency=most, max_runs=of_runs
    )

    async def main():
        token = CancellationToken()
        sinks = [EventRecorder() for _ in range(runs)]
        tasks = [
            asyncio.create_task(
                graph.run(sink=sink, cancel_token=token if one == 0 else None, raise_errors=False)
            )
            for one, sink in enumerate(sinks)
        ]
        if stop is not None:
            for _ in range(stop):
                await asyncio.sleep(0)
            token.cancel()
        _, pending = await asyncio.wait(tasks, timeout=5)
        assert not pending
        for task, sink in zip(tasks, sinks, strict=True):
            task.result()
            sink.assert_paired(stages=[spec.name for spec in specs])

    asyncio.run(main())
    assert_free(*limits, *([] if of_runs is None else [of_runs]))


def test_two_event_loops_in_two_threads_share_a_limit():
    limit, of_runs = ConcurrencyLimit(2), ConcurrencyLimit(3)
    guard = threading.Lock()
    inside = most = calls = 0
    errors = []

    async def body(ctx):
        nonlocal inside, most, calls
        with guard:
            inside += 1
            calls += 1
            most = max(most, inside)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            with guard:
                inside -= 1

    graph = StageGraph([StageSpec(name, body, K, limit=limit) for name in "ab"], [], max_runs=of_runs)

    async def many():
        async with asyncio.timeout(10):
            await asyncio.gather(*(graph.run() for _ in range(60)))

    def thread():
        try:
            asyncio.run(many())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=thread) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    assert calls == 240
    assert 1 <= most <= 2
    assert_free(limit, of_runs)
