"""Guard retry: a guard that fails sends back what it guards, and nobody sees what it has rejected."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow import (
    CancellationToken,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    RetryPolicy,
    StageExecutionError,
    StageKind,
    StageOutput,
)
from stageflow.errors import PipelineValidationError, StageflowError
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.testing import EventRecorder, leak_check, run_virtual

K, GUARD = StageKind.TRANSFORM, StageKind.GUARD


class Writer:
    """Writes draft 1, draft 2, ... and keeps count."""

    def __init__(self, drafts=None):
        self.drafts = drafts
        self.calls = 0

    async def execute(self, ctx):
        self.calls += 1
        await asyncio.sleep(0)
        return {"draft": self.calls if self.drafts is None else self.drafts[self.calls - 1]}


class Guard:
    """Rejects the first drafts."""

    def __init__(self, rejects, of="write", how="fail"):
        self.rejects = rejects
        self.of = of
        self.how = how
        self.seen = []

    async def execute(self, ctx):
        self.seen.append(ctx.inputs.get_from(self.of, "draft"))
        if len(self.seen) <= self.rejects:
            if self.how == "raise":
                raise ValueError("rejected")
            return StageOutput.fail("rejected", {"draft": self.seen[-1]})
        return {"passed": self.seen[-1]}


class Reader:
    """Depends on what is guarded, not on the guard."""

    def __init__(self, of="write"):
        self.of = of
        self.seen = []

    async def execute(self, ctx):
        self.seen.append(ctx.inputs.get_from(self.of, "draft"))
        return {"read": self.seen[-1]}


def guarded(writer, guard, *readers):
    pipeline = Pipeline().with_stage("write", writer, K).with_stage("guard", guard, GUARD, ["write"])
    for number, reader in enumerate(readers):
        pipeline = pipeline.with_stage(f"reader{number}", reader, K, ["write"])
    return pipeline


def build(pipeline, mode=FailureMode.FAIL_FAST, **policies):
    return pipeline.build(guard_retry_strategy=GuardRetryStrategy(policies), failure_mode=mode)


def told(sink, word):
    return [event.data for event in sink if event.type == f"guard_retry.{word}"]


# --- rounds ------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("rejects", range(4))
async def test_a_guard_that_passes_in_time(rejects, sink):
    writer, guard, reader = Writer(), Guard(rejects), Reader()
    graph = build(guarded(writer, guard, reader), guard=GuardRetryPolicy("write", 4, stagnation_limit=9))
    results = await graph.run(sink=sink)
    rounds = rejects + 1
    assert writer.calls == rounds
    assert guard.seen == list(range(1, rounds + 1))
    assert reader.seen == [rounds]
    assert results["write"].data == {"draft": rounds}
    assert results["guard"].data == {"passed": rounds}
    assert results["reader0"].data == {"read": rounds}
    assert results.error is None
    assert [data["attempt"] for data in told(sink, "attempt")] == list(range(1, rounds))
    assert [data["attempt"] for data in told(sink, "scheduled")] == list(range(1, rounds))
    assert told(sink, "exhausted") == []
    assert [data["attempts"] for data in told(sink, "recovered")] == [rounds] * (rejects > 0)
    for data in (*told(sink, "attempt"), *told(sink, "scheduled")):
        assert (data["stage"], data["retry_stage"], data["max_attempts"]) == ("guard", "write", 4)
    retrying = [event.data for event in sink if event.type == "stage.write.retrying"]
    assert [data["round"] for data in retrying] == list(range(2, rounds + 1))
    assert sink.types[-1] == "pipeline.completed"


@pytest.mark.asyncio
@pytest.mark.parametrize("rejects", range(3))
async def test_each_stage_of_a_loop_ends_once_a_round(rejects, sink):
    """The first round is announced by ``started``, each further one by ``retrying``; each has one end."""
    graph = build(
        guarded(Writer(), Guard(rejects), Reader()), guard=GuardRetryPolicy("write", 9, stagnation_limit=9)
    )
    await graph.run(sink=sink)
    steps = [type.rpartition(".")[2] for type in sink.types if type.startswith("stage.write.")]
    assert steps == ["started", "completed"] + ["retrying", "completed"] * rejects
    steps = [type.rpartition(".")[2] for type in sink.types if type.startswith("stage.guard.")]
    assert steps == ["started"] + ["retrying"] * rejects + ["completed"]
    steps = [type.rpartition(".")[2] for type in sink.types if type.startswith("stage.reader0.")]
    assert steps == ["started", "completed"]


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["raises", "asks"])
@pytest.mark.parametrize("failures", range(4))
async def test_a_guard_uses_up_its_own_attempts_before_it_sends_back(how, failures, sink):
    """A guard whose service is away for a moment has not rejected anything."""
    calls = 0

    async def check(ctx):
        nonlocal calls
        calls += 1
        if calls <= failures and how == "raises":
            raise ConnectionError("away")
        return StageOutput.retry("away") if calls <= failures else None

    writer = Writer()
    pipeline = (
        Pipeline()
        .with_stage("write", writer, K)
        .with_stage("guard", check, GUARD, ["write"], retry=RetryPolicy(2, base_delay=0, jitter=False))
    )
    await build(pipeline, guard=GuardRetryPolicy("write", 9, stagnation_limit=9)).run(sink=sink)
    assert calls == failures + 1
    assert writer.calls == 1 + failures // 2  # two attempts are a round
    assert len(told(sink, "scheduled")) == failures // 2


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", FailureMode)
@pytest.mark.parametrize("most", [1, 2, 3])
async def test_a_guard_that_never_passes_fails_in_the_end(mode, most, sink):
    writer, guard, reader = Writer(), Guard(99), Reader()
    graph = build(
        guarded(writer, guard, reader), mode, guard=GuardRetryPolicy("write", most, stagnation_limit=9)
    )
    results = await graph.run(sink=sink, raise_errors=False)
    assert writer.calls == most
    assert guard.seen == list(range(1, most + 1))
    assert reader.seen == []
    assert results["guard"].status == "fail"
    assert results["guard"].error == "rejected"
    assert isinstance(results.error, StageExecutionError)
    assert results.error.stage == "guard"
    if mode is FailureMode.FAIL_FAST:
        assert "reader0" not in results
    else:
        assert results["reader0"].data["reason"] == "dependency_failed"
    (exhausted,) = told(sink, "exhausted")
    assert (exhausted["reason"], exhausted["attempt"]) == ("max_attempts", most)
    assert len(told(sink, "attempt")) == most
    assert len(told(sink, "scheduled")) == most - 1
    assert told(sink, "recovered") == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("drafts", "limit", "fields", "rounds"),
    [
        ([1, 1, 1, 1, 1, 1], 2, None, 2),
        ([1, 1, 1, 1, 1, 1], 3, None, 3),
        ([1, 2, 2, 3, 3, 3, 4], 3, None, 6),
        ([1, 2, 3, 4, 4, 9], 2, None, 5),
        ([1, 2, 1, 2, 1, 2], 2, None, None),
        ([1, 2, 3, 4, 5, 6], 2, ["other"], 2),
        ([1, 2, 3, 4, 5, 6], 2, ["draft"], None),
        ([[1], [1], [2], [2], [2], [2]], 2, None, 2),
    ],
    ids=["at once", "third", "later", "in between", "to and fro", "other field", "same field", "lists"],
)
async def test_a_stage_that_brings_nothing_new_is_given_up(drafts, limit, fields, rounds, sink):
    writer = Writer(drafts)
    policy = GuardRetryPolicy("write", len(drafts), stagnation_limit=limit, hash_fields=fields)
    results = await build(guarded(writer, Guard(99)), guard=policy).run(sink=sink, raise_errors=False)
    assert results["guard"].status == "fail"
    (exhausted,) = told(sink, "exhausted")
    if rounds is None:
        assert (exhausted["reason"], writer.calls) == ("max_attempts", len(drafts))
    else:
        assert (exhausted["reason"], writer.calls) == ("stagnation", rounds)


@pytest.mark.asyncio
async def test_a_new_draft_is_no_stagnation_whatever_the_limit(sink):
    writer = Writer()
    policy = GuardRetryPolicy("write", 4, stagnation_limit=1)
    results = await build(guarded(writer, Guard(3)), guard=policy).run(sink=sink, raise_errors=False)
    assert told(sink, "exhausted") == []
    assert results["guard"].data == {"passed": 4}


def test_no_round_starts_after_its_time(sink):
    class Slow(Guard):
        async def execute(self, ctx):
            await asyncio.sleep(4)
            return await super().execute(ctx)

    writer = Writer()
    policy = GuardRetryPolicy("write", 99, stagnation_limit=99, timeout_seconds=10)
    results = run_virtual(build(guarded(writer, Slow(99)), guard=policy).run(sink=sink, raise_errors=False))
    assert results["guard"].status == "fail"
    (exhausted,) = told(sink, "exhausted")
    assert exhausted["reason"] == "timeout"
    assert writer.calls == 4  # rejected at 4, 8, 12 and 16 s, and 12 s lie between the first and the last


@pytest.mark.asyncio
async def test_runs_count_their_rounds_apart():
    """Also two at once, and one after another."""

    class Both:
        async def write(self, ctx):
            await asyncio.sleep(0)
            calls[ctx.input_text] += 1
            return {"draft": calls[ctx.input_text]}

        async def guard(self, ctx):
            await asyncio.sleep(0)
            draft = ctx.inputs.get_from("write", "draft")
            return StageOutput.fail("so") if draft < 3 else {"passed": draft}

    calls: Counter[str] = Counter()
    graph = build(guarded(Both().write, Both().guard), guard=GuardRetryPolicy("write", 3, stagnation_limit=9))
    for _ in range(2):
        all_results = await asyncio.gather(*(graph.run(input_text=text) for text in "abcd"))
        assert [results["guard"].data for results in all_results] == [{"passed": 3}] * 4
        assert calls == dict.fromkeys("abcd", 3)
        calls.clear()


# --- what is rejected ---------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["fail", "raise"])
async def test_a_guard_that_raises_has_rejected_too(how):
    """DESIGN: "FAIL or an exception" are one outcome; so is "a guard that fails"."""
    writer, guard = Writer(), Guard(1, how=how)
    results = await build(guarded(writer, guard), guard=GuardRetryPolicy("write")).run(raise_errors=False)
    assert results["guard"].data == {"passed": 2}
    assert writer.calls == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "output",
    [StageOutput.skip("no opinion"), StageOutput.cancel("stop"), StageOutput.ok()],
    ids=["skip", "cancel", "ok"],
)
async def test_only_a_failure_sends_back(output):
    async def guard(ctx):
        return output

    writer, reader = Writer(), Reader()
    graph = build(guarded(writer, guard, reader), guard=GuardRetryPolicy("write"))
    results = await graph.run(raise_errors=False)
    assert writer.calls == 1
    assert results["guard"].status == output.status
    assert reader.seen == ([] if output.status == "cancel" else [1])


@pytest.mark.asyncio
async def test_a_guard_that_is_not_started_holds_nobody():
    writer, reader = Writer(), Reader()
    pipeline = (
        Pipeline()
        .with_stage("write", writer, K)
        .with_stage("guard", Guard(99), GUARD, ["write"], when=lambda _: False)
        .with_stage("reader", reader, K, ["write"])
    )
    results = await build(pipeline, guard=GuardRetryPolicy("write")).run()
    assert results["guard"].data["reason"] == "condition_false"
    assert results["reader"].status == "ok"
    assert reader.seen == [1]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["fail", "skip", "raise"])
async def test_a_stage_that_was_sent_back_may_end_otherwise(kind, sink):
    class Tired(Writer):
        async def execute(self, ctx):
            if self.calls == 1:
                if kind == "raise":
                    raise ValueError
                return StageOutput.fail("tired") if kind == "fail" else StageOutput.skip("tired")
            return await super().execute(ctx)

    guard, reader = Guard(1), Reader()
    graph = build(guarded(Tired(), guard, reader), FailureMode.BEST_EFFORT, guard=GuardRetryPolicy("write"))
    results = await graph.run(sink=sink)
    if kind == "skip":
        assert results["write"].status == "skip"
        assert results["guard"].data == {"passed": None}
        assert reader.seen == [None]
    else:
        assert results["write"].status == "fail"
        assert results["guard"].data["reason"] == results["reader0"].data["reason"] == "dependency_failed"
        assert results.error.stage == "write"
        assert reader.seen == []
    assert sink.types[-1] == "pipeline.completed"


# --- who sees what ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_dependants_outside_the_loop_see_only_what_has_passed(sink):
    writer, guard, readers = Writer(), Guard(3), [Reader() for _ in range(3)]
    after = Reader("reader0")

    async def after_guard(ctx):
        return {"seen": ctx.inputs.get_from("write", "draft")}

    pipeline = (
        guarded(writer, guard, *readers)
        .with_stage("after", after, K, ["reader0"])
        .with_stage("last", after_guard, K, ["write", "guard"])
    )
    results = await build(pipeline, guard=GuardRetryPolicy("write", 5, stagnation_limit=9)).run(sink=sink)
    assert [reader.seen for reader in readers] == [[4]] * 3
    assert len(after.seen) == 1
    assert results["last"].data == {"seen": 4}
    order = [event.stage for event in sink if event.type.endswith((".started", ".completed")) and event.stage]
    last_guard = len(order) - 1 - order[::-1].index("guard")
    assert all(order.index(f"reader{number}") > last_guard for number in range(3))


@pytest.mark.asyncio
async def test_paths_with_several_stages_run_again_as_a_whole(sink):
    """From write over two ways to the guard: everything between runs again, nothing beside it does."""
    calls: Counter[str] = Counter()

    async def step(ctx):
        calls[ctx.stage_name] += 1
        for _ in range(calls[ctx.stage_name] % 3):
            await asyncio.sleep(0)
        return {"draft": max(ctx.inputs.get_from(name, "draft", 0) for name in ctx.inputs.declared_deps)}

    async def outside(ctx):
        calls[ctx.stage_name] += 1
        return {"draft": 0}

    writer, guard, reader = Writer(), Guard(2, of="join"), Reader("left")
    pipeline = (
        Pipeline()
        .with_stage("before", outside, K)
        .with_stage("write", writer, K, ["before"])
        .with_stage("left", step, K, ["write"])
        .with_stage("right", step, K, ["write"])
        .with_stage("right2", step, K, ["right", "side"])
        .with_stage("side", outside, K)
        .with_stage("join", step, K, ["left", "right2"])
        .with_stage("guard", guard, GUARD, ["join", "write"])
        .with_stage("reads left", reader, K, ["left"])
        .with_stage("after", step, K, ["guard", "join"])
    )
    results = await build(pipeline, guard=GuardRetryPolicy("write", 3, stagnation_limit=9)).run(sink=sink)
    assert writer.calls == 3
    assert calls == {"before": 1, "side": 1, "left": 3, "right": 3, "right2": 3, "join": 3, "after": 1}
    assert guard.seen == [1, 2, 3]
    assert reader.seen == [3]
    assert results["after"].data == {"draft": 3}
    assert results.error is None


@pytest.mark.asyncio
async def test_a_stage_inside_the_loop_may_be_skipped_in_one_round_and_run_in_the_next():
    writer, guard = Writer(), Guard(1)

    async def polish(ctx):
        return {"polished": ctx.inputs.get_from("write", "draft")}

    async def looks(ctx):
        output = ctx.inputs.get_output("polish")
        guard.seen.append(str(output.status))
        return StageOutput.fail("rough") if output.status == "skip" else {"passed": output.data["polished"]}

    pipeline = (
        Pipeline()
        .with_stage("write", writer, K)
        .with_stage("polish", polish, K, ["write"], when=lambda inputs: inputs.get("draft") > 1)
        .with_stage("guard", looks, GUARD, ["write", "polish"])
    )
    results = await build(pipeline, guard=GuardRetryPolicy("write")).run()
    assert guard.seen == ["skip", "ok"]
    assert results["polish"].data == {"polished": 2}
    assert results["guard"].data == {"passed": 2}


@pytest.mark.asyncio
async def test_attempts_within_a_round_are_counted_anew(sink):
    attempts = []

    async def flaky(ctx):
        attempts.append(ctx.attempt)
        return StageOutput.retry("again") if ctx.attempt < 3 else {"draft": len(attempts)}

    pipeline = (
        Pipeline()
        .with_stage("write", flaky, K, retry=RetryPolicy(3, base_delay=0, jitter=False))
        .with_stage("guard", Guard(1), GUARD, ["write"])
    )
    results = await build(pipeline, guard=GuardRetryPolicy("write")).run(sink=sink)
    assert attempts == [1, 2, 3, 1, 2, 3]
    assert results["guard"].data == {"passed": 6}


# --- two guards ---------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_two_guards_one_behind_the_other_may_both_send_back():
    writer, first, second, reader = Writer(), Guard(1), Guard(2), Reader()
    pipeline = guarded(writer, first, reader).with_stage("second", second, GUARD, ["write", "guard"])
    policy = GuardRetryPolicy("write", 9, stagnation_limit=9)
    results = await build(pipeline, guard=policy, second=policy).run()
    assert first.seen == [1, 2, 3, 4]  # rejects draft 1
    assert second.seen == [2, 3, 4]  # rejects drafts 2 and 3
    assert reader.seen == [4]
    assert results["second"].data == {"passed": 4}


@pytest.mark.asyncio
async def test_two_guards_of_different_stages():
    writer, other, first, second = Writer(), Writer(), Guard(1), Guard(2, of="other")
    reader, both = Reader(), Reader("other")
    pipeline = (
        guarded(writer, first, reader)
        .with_stage("other", other, K)
        .with_stage("second", second, GUARD, ["other"])
        .with_stage("both", both, K, ["write", "other"])
    )
    policy = GuardRetryPolicy("write", 9, stagnation_limit=9)
    await build(pipeline, guard=policy, second=GuardRetryPolicy("other", 9, stagnation_limit=9)).run()
    assert (writer.calls, other.calls) == (2, 3)
    assert (reader.seen, both.seen) == ([2], [3])


@pytest.mark.asyncio
async def test_a_loop_behind_a_loop():
    """What the first guard has let through is not written again when the second sends back the stage behind it."""
    writer, first = Writer(), Guard(1)
    editor, second = Writer(), Guard(2, of="edit")
    reader = Reader("edit")
    pipeline = (
        guarded(writer, first)
        .with_stage("edit", editor, K, ["write"])
        .with_stage("second", second, GUARD, ["edit"])
        .with_stage("reader", reader, K, ["edit"])
    )
    policies = {
        "guard": GuardRetryPolicy("write", 9, stagnation_limit=9),
        "second": GuardRetryPolicy("edit", 9, stagnation_limit=9),
    }
    await build(pipeline, **policies).run()
    assert (writer.calls, editor.calls) == (2, 3)
    assert reader.seen == [3]


def problems_of(pipeline, **policies):
    with pytest.raises(PipelineValidationError) as caught:
        build(pipeline, **policies)
    return caught.value.problems


def test_guards_that_would_hold_each_other_are_refused_at_build():
    pipeline = guarded(Writer(), Guard(1)).with_stage("other", Guard(1), GUARD, ["write"])
    (problem,) = problems_of(pipeline, guard=GuardRetryPolicy("write"), other=GuardRetryPolicy("write"))
    assert problem.code == "SF-BUILD-GUARD-RETRY"
    assert set(problem.stages) == {"guard", "other"}
    build(pipeline, guard=GuardRetryPolicy("write"))  # one of them alone is fine


def test_a_longer_circle_of_waiting_is_refused_too():
    """The reader waits for the guard, the second guard for the reader, and the guard for the second guard."""
    pipeline = (
        guarded(Writer(), Guard(1))
        .with_stage("read", Reader(), K, ["write"])
        .with_stage("second", Guard(1), GUARD, ["read", "write"])
    )
    (problem,) = problems_of(pipeline, guard=GuardRetryPolicy("write"), second=GuardRetryPolicy("write"))
    assert problem.code == "SF-BUILD-GUARD-RETRY"
    assert set(problem.stages) >= {"guard", "read", "second"}


@pytest.mark.parametrize(
    ("guard", "target", "says"),
    [
        ("nobody", "write", "not in the pipeline"),
        ("reader0", "write", "kind is transform"),
        ("guard", "nobody", "not in the pipeline"),
        ("guard", "guard", "itself"),
        ("guard", "reader0", "does not depend"),
    ],
    ids=["no such guard", "no guard", "no such target", "itself", "no dependency"],
)
def test_what_does_not_fit_the_stages_is_refused_at_build(guard, target, says):
    pipeline = guarded(Writer(), Guard(1), Reader())
    (problem,) = problems_of(pipeline, **{guard: GuardRetryPolicy(target)})
    assert problem.code == "SF-BUILD-GUARD-RETRY"
    assert says in problem.message
    assert problem.fix


def test_all_that_does_not_fit_is_reported_at_once():
    pipeline = guarded(Writer(), Guard(1), Reader()).with_stage("x", Reader(), K, ["nobody"])
    codes = {
        (problem.code, problem.stages[0])
        for problem in problems_of(pipeline, a=GuardRetryPolicy("write"), reader0=GuardRetryPolicy("write"))
    }
    assert codes == {
        ("SF-BUILD-GUARD-RETRY", "a"),
        ("SF-BUILD-GUARD-RETRY", "reader0"),
        ("SF-BUILD-UNKNOWN-DEPENDENCY", "x"),
    }


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"stagnation_limit": 0},
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
        {"timeout_seconds": float("nan")},
    ],
    ids=lambda options: " ".join(f"{key} {value}" for key, value in options.items()),
)
def test_a_policy_makes_sense(options):
    """The error type is the one of 0.9; the code is what every error of ours has (issue 3, bad input)."""
    with pytest.raises(ValueError, match="must be") as caught:
        GuardRetryPolicy("write", **options)
    assert isinstance(caught.value, StageflowError)


# --- the end of a run in the middle -------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["write", "between", "guard"])
async def test_a_run_that_is_stopped_in_a_later_round(where, sink):
    token = CancellationToken()
    rounds: Counter[str] = Counter()
    readers = Reader()

    async def body(ctx):
        rounds[ctx.stage_name] += 1
        if ctx.stage_name == where and rounds[where] == 2:
            token.cancel("enough")
            await asyncio.sleep(60)
        if ctx.stage_name == "guard":
            return StageOutput.fail("rejected")
        return {"draft": rounds[ctx.stage_name]}

    pipeline = (
        Pipeline()
        .with_stage("write", body, K)
        .with_stage("between", body, K, ["write"])
        .with_stage("guard", body, GUARD, ["write", "between"])
        .with_stage("reader", readers, K, ["write"])
    )
    graph = build(pipeline, guard=GuardRetryPolicy("write", 9, stagnation_limit=9))
    async with leak_check():
        with pytest.raises(PipelineCancelled) as caught:
            await graph.run(sink=sink, cancel_token=token)
    assert readers.seen == []
    assert sink.of(where)[-1] == "cancelled"
    assert sink.of("reader") == ["skipped"]
    assert sink.types[-1] == "pipeline.cancelled"
    # What a rejected round left is not among the results.
    settled = {"write": [], "between": ["write"], "guard": ["write", "between"]}[where]
    assert sorted(caught.value.results) == sorted(settled)
    for stage in settled[:2]:
        assert caught.value.results[stage].data == {"draft": 2}


@pytest.mark.parametrize("stop", ["token", "caller"])
def test_a_cancellation_at_every_turn_leaves_nothing_and_shows_nobody_a_rejected_draft(stop):
    async def once(turn):
        token, sink = CancellationToken(), EventRecorder()
        writer, reader = Writer(), Reader()
        graph = build(
            guarded(writer, Guard(2), reader), guard=GuardRetryPolicy("write", 9, stagnation_limit=9)
        )
        run = asyncio.create_task(graph.run(sink=sink, cancel_token=token, raise_errors=False))
        turns = 0
        while not run.done() and turns < turn:
            await asyncio.sleep(0)
            turns += 1
        token.cancel() if stop == "token" else run.cancel()
        await asyncio.wait([run], timeout=5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert reader.seen in ([], [3])
        if sink.events:
            assert sink.types[-1] in {"pipeline.completed", "pipeline.cancelled"}
            assert sum(type.startswith("pipeline.") for type in sink.types) == 2
        return turns

    turn = 0
    while asyncio.run(once(turn)) == turn:
        turn += 1
    assert turn > 6


# --- against a model ----------------------------------------------------------------------------------------------


@settings(max_examples=settings().max_examples * 4)
@given(
    drafts=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    rejects=st.integers(0, 8),
    most=st.integers(1, 8),
    stagnation=st.integers(2, 4),
    between=st.integers(0, 3),
    suspensions=st.integers(0, 2),
)
def test_rounds_against_a_model(drafts, rejects, most, stagnation, between, suspensions):
    rounds, reason = 0, None
    while True:
        rounds += 1
        if rounds > rejects:
            break
        alike = next((n for n in range(1, rounds) if drafts[rounds - 1 - n] != drafts[rounds - 1]), rounds)
        if rounds >= most:
            reason = "max_attempts"
        elif alike >= stagnation:
            reason = "stagnation"
        if reason:
            break

    writer, guard, reader = Writer(drafts), Guard(rejects), Reader()

    async def step(ctx):
        for _ in range(suspensions):
            await asyncio.sleep(0)

    pipeline = Pipeline().with_stage("write", writer, K)
    names = ["write"]
    for number in range(between):
        pipeline = pipeline.with_stage(f"step{number}", step, K, [names[-1]])
        names.append(f"step{number}")
    pipeline = pipeline.with_stage("guard", guard, GUARD, dict.fromkeys(["write", names[-1]]))
    pipeline = pipeline.with_stage("reader", reader, K, ["write"])
    policy = GuardRetryPolicy("write", most, stagnation_limit=stagnation)
    sink = EventRecorder()
    results = asyncio.run(build(pipeline, FailureMode.BEST_EFFORT, guard=policy).run(sink=sink))
    assert writer.calls == rounds
    assert guard.seen == drafts[:rounds]
    assert [data["reason"] for data in told(sink, "exhausted")] == ([reason] if reason else [])
    assert results["guard"].status == ("fail" if reason else "ok")
    assert reader.seen == ([] if reason else [drafts[rounds - 1]])
