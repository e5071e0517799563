"""Effects and the gate: one example for each row and sentence of ``docs/explanation/effects.md``.

What random graphs pin down as well is in ``test_effect_properties.py``. Everything here runs on a virtual clock: pauses
are in its seconds, and times can be compared exactly.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import pickle
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
from stageflow import (
    BaseInterceptor,
    CancellationToken,
    Effect,
    ErrorAction,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    RetryPolicy,
    StageContext,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    stage,
)
from stageflow.context import ArgumentTypeError
from stageflow.errors import (
    EffectGateClosed,
    EffectGateDeadlock,
    PipelineValidationError,
    RunTimeoutError,
    StageContractError,
)
from stageflow.executors import ThreadExecutor
from stageflow.interceptors.idempotency import IdempotencyInterceptor
from stageflow.interceptors.retry import RetryInterceptor
from stageflow.pipeline.lint import lint_pipeline
from stageflow.pipeline.subpipeline import SubpipelineSpawner
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.runtime.limits import ConcurrencyLimit, Overload
from stageflow.stages import Overflow, StreamEdge
from stageflow.stages.part import Part
from stageflow.testing import (
    EventRecorder,
    LeakWatch,
    Probe,
    cancel_everywhere,
    create_test_stage_context,
    run_virtual,
)

GUARD, TRANSFORM, WORK = StageKind.GUARD, StageKind.TRANSFORM, StageKind.WORK
EFFECTS = [Effect.IDEMPOTENT, Effect.REVERSIBLE, Effect.IRREVERSIBLE]
FAIL_FAST, CONTINUE, BEST_EFFORT = (
    FailureMode.FAIL_FAST,
    FailureMode.CONTINUE_ON_FAILURE,
    FailureMode.BEST_EFFORT,
)


@dataclass
class Receipt:
    receipt_id: str

    def to_dict(self):
        return {"undo": "it", "receipt_id": self.receipt_id}


def now() -> float:
    return asyncio.get_running_loop().time()


def after(seconds=0.0, how: Any = None):
    """Make a stage that takes so long, and then returns or raises that."""

    async def body(ctx):
        await asyncio.sleep(seconds)
        if isinstance(how, BaseException):
            raise type(how)(*how.args)  # a new one each time, since notes are added to it
        return how

    return body


async def hang(ctx):
    await asyncio.Event().wait()


class Does:
    """A stage that notes when it begins, and leaves a receipt if it should."""

    def __init__(self, seconds=0.0, *, receipt=False):
        self.seconds, self.receipt = seconds, receipt
        self.began: list[float] = []

    async def execute(self, ctx):
        self.began.append(now())
        await asyncio.sleep(self.seconds)
        if self.receipt:
            ctx.leave_receipt(Receipt("r"))


class Asks:
    """A stage that awaits ``ctx.gate()`` at some time and notes what comes of it, and when."""

    def __init__(self, seconds=0.0, *, then=0.0, catch=False):
        self.seconds, self.then, self.catch = seconds, then, catch
        self.got: list[tuple[float, str]] = []

    async def execute(self, ctx):
        await asyncio.sleep(self.seconds)
        try:
            await ctx.gate()
        except (EffectGateClosed, EffectGateDeadlock) as exc:
            self.got.append((now(), type(exc).__name__))
            if not self.catch:
                raise
        else:
            self.got.append((now(), "passed"))
        await asyncio.sleep(self.then)


class Runs:
    """A stage that runs another graph after some time and keeps what comes of it."""

    def __init__(self, graph, seconds=0.0, **options):
        self.graph, self.seconds, self.options = graph, seconds, options
        self.results: Any = None
        self.raised: BaseException | None = None

    async def execute(self, ctx):
        await asyncio.sleep(self.seconds)
        try:
            self.results = await self.graph.run(**self.options)
        except BaseException as exc:
            self.raised = exc
            raise


def gate(runner: Any = None, *dependencies, name="gate", **options):
    return StageSpec(
        name, after(1) if runner is None else runner, GUARD, dependencies, gates_effects=True, **options
    )


def act(runner: Any = None, *dependencies, name="act", effect=Effect.IDEMPOTENT, **options):
    return StageSpec(
        name, Does() if runner is None else runner, TRANSFORM, dependencies, effect=effect, **options
    )


def pure(name, runner: Any = None, *dependencies, **options):
    return StageSpec(name, Does() if runner is None else runner, TRANSFORM, dependencies, **options)


def execute(*specs, sink=None, mode=BEST_EFFORT, run=None, interceptors=(), **options):
    """Run stages on a virtual clock, and check that nothing is left behind."""

    async def main():
        graph = StageGraph(specs, list(interceptors), failure_mode=mode, **options)
        with LeakWatch() as watch:
            results = await graph.run(sink=sink, raise_errors=False, **(run or {}))
            assert not watch.found()
            return results

    return run_virtual(main(), patience=0.05)


def events(sink, type):
    return [event.data for event in sink if event.type == type]


def reason(sink, name="act"):
    (data,) = events(sink, f"stage.{name}.skipped")
    return data["reason"]


def payload(data, *keys):
    return {key: data[key] for key in keys}


# --- effects -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", StageKind)
def test_only_work_has_an_effect_by_default(kind):
    """... and its is the worst, for all ways to declare a stage."""
    expected = Effect.IRREVERSIBLE if kind is WORK else Effect.NONE
    assert StageSpec("a", hang, kind).effect is expected
    assert stage(kind=kind)(hang).spec().effect is expected
    (spec,) = Pipeline().with_stage("a", hang, kind).build().stage_specs
    assert spec.effect is expected


class FallsBackOnRetry(BaseInterceptor):
    name = "on error"

    async def on_error(self, stage_name, error, ctx):
        return ErrorAction.RETRY


POLICY = RetryPolicy(3, base_delay=1, jitter=False, retry_on=(ConnectionError, TimeoutError))
ERROR = ConnectionError("away")
WAYS = {
    "its policy": (after(0, ERROR), {"retry": POLICY}, []),
    "its time limit": (hang, {"retry": POLICY, "timeout": 5}, []),
    "an interceptor's policy": (after(0, ERROR), {}, [RetryInterceptor(max_attempts=3)]),
    "on_error": (after(0, ERROR), {}, [FallsBackOnRetry()]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "key", [{}, {"idempotency_key": None}, {"idempotency_key": "k"}], ids=["no", "none", "key"]
)
@pytest.mark.parametrize("effect", Effect)
def test_what_cannot_be_taken_back_is_not_repeated_without_a_key(effect, key, way, sink):
    runner, options, interceptors = WAYS[way]
    spec = act(runner, effect=effect, **options)
    results = execute(spec, sink=sink, interceptors=interceptors, run={"data": key})
    refused = effect is Effect.IRREVERSIBLE and not key.get("idempotency_key")
    assert results.error.attempts == (1 if refused else 3)
    told = events(sink, "stage.retry_refused")
    assert len(told) == refused
    notes = getattr(results.error.original, "__notes__", [])
    assert sum("irreversible" in note for note in notes) == refused
    if refused:
        assert payload(told[0], "stage", "attempt", "reason") == {
            "stage": "act",
            "attempt": 1,
            "reason": "irreversible_effect",
        }
        assert told[0]["error"]
        assert not events(sink, "stage.act.retrying")
        assert sink.types.index("stage.retry_refused") < sink.types.index("stage.act.failed")


@pytest.mark.parametrize("key", [{}, {"idempotency_key": "k"}], ids=["without", "with"])
def test_a_stage_that_asks_for_another_attempt_is_believed(key, sink):
    calls = []

    async def asks(ctx):
        calls.append(ctx.attempt)
        return StageOutput.retry("once more") if ctx.attempt < 3 else None

    execute(act(asks, effect=Effect.IRREVERSIBLE), sink=sink, run={"data": key})
    assert calls == [1, 2, 3]
    assert not events(sink, "stage.retry_refused")


def test_an_exception_after_it_asked_is_not_repeated(sink):
    calls = []

    async def asks(ctx):
        calls.append(ctx.attempt)
        if ctx.attempt == 1:
            return StageOutput.retry("once more")
        raise ConnectionError

    execute(act(asks, effect=Effect.IRREVERSIBLE, retry=POLICY), sink=sink)
    assert calls == [1, 2]
    assert [data["attempt"] for data in events(sink, "stage.retry_refused")] == [2]


@pytest.mark.parametrize(
    "options",
    [{}, {"retry": RetryPolicy(1)}, {"retry": RetryPolicy(3, retry_on=KeyError)}],
    ids=["no policy", "one attempt", "another exception"],
)
def test_nothing_is_refused_that_would_not_be_repeated(options, sink):
    results = execute(
        act(after(0, ConnectionError("away")), effect=Effect.IRREVERSIBLE, **options), sink=sink
    )
    assert results["act"].status == "fail"
    assert not getattr(results.error.original, "__notes__", [])
    assert not events(sink, "stage.retry_refused")


def test_a_guard_may_send_back_the_irreversible_effect_that_it_names():
    did, rejects = Does(), iter([StageOutput.fail("no"), None])

    async def check(ctx):
        return next(rejects)

    strategy = GuardRetryStrategy({"check": GuardRetryPolicy("act", 3)})
    specs = act(did, effect=Effect.IRREVERSIBLE), StageSpec("check", check, GUARD, ["act"])
    results = execute(*specs, guard_retry_strategy=strategy)
    assert results.error is None
    assert len(did.began) == 2


def test_a_guard_may_not_send_back_an_irreversible_effect_that_it_does_not_name():
    specs = [
        pure("write"),
        act(None, "write", effect=Effect.IRREVERSIBLE),
        StageSpec("check", hang, GUARD, ["write", "act"]),
    ]
    strategy = GuardRetryStrategy({"check": GuardRetryPolicy("write", 3)})
    with pytest.raises(PipelineValidationError, match="act") as caught:
        StageGraph(specs, [], guard_retry_strategy=strategy)
    assert [problem.code for problem in caught.value.problems] == ["SF-BUILD-GUARD-RETRY"]


# --- receipts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", Effect)
def test_only_a_reversible_effect_needs_a_receipt(effect):
    results = execute(act(effect=effect))
    if effect is Effect.REVERSIBLE:
        assert results["act"].status == "fail"
        assert type(results.error.original) is StageContractError
        assert results.error.original.code == "SF-RUN-STAGE-CONTRACT"
        assert "receipt" in str(results.error.original)
    else:
        assert results["act"].status == "ok"


def test_a_receipt_is_on_record_at_once(sink):
    """... with the stage and the attempt, whatever happens to the stage afterwards."""

    async def leaves(ctx):
        ctx.leave_receipt(Receipt(f"r{ctx.attempt}"))
        assert events(sink, "effect.receipt")[-1]["receipt"]["receipt_id"] == f"r{ctx.attempt}"
        await asyncio.sleep(1)
        raise ConnectionError

    execute(act(leaves, effect=Effect.REVERSIBLE, retry=RetryPolicy(2, base_delay=0)), sink=sink)
    told = [payload(data, "stage", "attempt", "receipt") for data in events(sink, "effect.receipt")]
    assert told == [
        {"stage": "act", "attempt": number, "receipt": {"undo": "it", "receipt_id": f"r{number}"}}
        for number in (1, 2)
    ]
    assert sink.types[-2:] == ["stage.act.failed", "pipeline.completed"]


def test_the_receipt_of_an_earlier_attempt_does_not_count():
    async def leaves(ctx):
        if ctx.attempt == 1:
            ctx.leave_receipt(Receipt("r"))
            return StageOutput.retry("once more")
        return None

    results = execute(act(leaves, effect=Effect.REVERSIBLE))
    assert type(results.error.original) is StageContractError
    assert results.error.attempts == 2


def test_a_missing_receipt_is_not_repeated():
    """The effect may have happened, and the stage is wrong: another attempt would not be better."""
    did = Does()
    execute(act(did, effect=Effect.REVERSIBLE, retry=POLICY))
    assert len(did.began) == 1


def test_what_is_no_receipt_is_refused():
    async def leaves(ctx):
        ctx.leave_receipt({"undo": "it"})

    results = execute(act(leaves, effect=Effect.REVERSIBLE))
    assert type(results.error.original) is ArgumentTypeError


def test_a_gate_needs_a_receipt_too():
    results = execute(gate(after(0), effect=Effect.REVERSIBLE), act())
    assert type(results.error.original) is StageContractError
    assert results["act"].data["reason"] == "gate_closed"


def test_a_replayed_effect_needs_no_new_receipt(sink):
    did = Does(receipt=True)

    async def main():
        spec = StageSpec("act", did, WORK, effect=Effect.REVERSIBLE)
        graph = StageGraph([spec], [IdempotencyInterceptor()])
        for _ in range(2):
            results = await graph.run(data={"idempotency_key": "k"}, sink=sink)
            assert results["act"].status == "ok"

    run_virtual(main())
    assert len(did.began) == 1
    assert len(events(sink, "effect.receipt")) == 1
    assert len(events(sink, "idempotency.replayed")) == 1


# --- what a gate comes to ----------------------------------------------------------------------------------------


def no(inputs):
    return False


def unknown(inputs):
    raise KeyError


def routed(label, *, chosen="x"):
    return [
        StageSpec("router", after(1, {"route": chosen}), StageKind.ROUTE),
        gate(None, "router", route=label),
    ]


FULL = ConcurrencyLimit(1, max_queued=0, on_overload=Overload.SKIP)
FULL_FAILS = ConcurrencyLimit(1, max_queued=0)
OPEN = {
    "ok": [gate()],
    "skip": [gate(after(1, StageOutput.skip("nothing to see")))],
    "its own when=": [gate(when=no)],
    "behind a stage that skipped itself": [pure("a", after(1, StageOutput.skip("no"))), gate(None, "a")],
    "a route that is taken": routed("x"),
}


class TwiceThenOk:
    def __init__(self):
        self.calls = 0

    async def execute(self, ctx):
        self.calls += 1
        await asyncio.sleep(1)
        return StageOutput.retry("again", retry_after=2) if self.calls < 3 else None


OPEN["retry, then ok"] = [gate(TwiceThenOk())]
CLOSED = {
    "fail": ([gate(after(1, StageOutput.fail("no")))], "no"),
    "raise": ([gate(after(1, ValueError("odd")))], "odd"),
    "cancelled error": ([gate(after(1, asyncio.CancelledError("odd")))], ""),
    "time limit": ([gate(hang, timeout=1)], "Stage timed out"),
    "no output": ([gate(after(1, 42))], ""),
    "when= raises": ([gate(when=unknown)], ""),
    "attempts used up": ([gate(after(1, StageOutput.retry("again")))], "again"),
    "dependency failed": ([pure("a", after(1, ERROR)), gate(None, "a")], "dependency_failed"),
    "dependency skipped": (
        [pure("a", after(1, StageOutput.skip("no"))), gate(None, "a", conditional=True)],
        "dependency_skipped",
    ),
    "branch not taken": ([pure("a", when=no), gate(None, "a")], "branch_not_taken"),
    "value missing": (
        [pure("a", after(1, StageOutput.skip("no"))), gate(None, "a", requires=["a"])],
        "value_missing",
    ),
    "route not taken": (routed("y"), "route_not_taken"),
    "no route": (routed("y", chosen=None), ""),
    "overloaded": ([pure("a", after(2), limit=FULL), gate(limit=FULL)], "overloaded"),
    "overloaded, fails": ([pure("a", after(2), limit=FULL_FAILS), gate(limit=FULL_FAILS)], ""),
}


@pytest.mark.parametrize("name", OPEN)
def test_a_gate_that_opens(name, sink):
    did = Does()
    results = execute(*OPEN[name], act(did), sink=sink)
    assert results["act"].status == "ok"
    (opened,) = events(sink, "effect.gate_opened")
    assert not events(sink, "effect.gate_closed")
    assert "gate" not in opened
    assert "reason" not in opened
    if did.began[0]:
        (held,) = events(sink, "effect.held")
        assert payload(held, "stage", "effect", "gates") == {
            "stage": "act",
            "effect": "idempotent",
            "gates": ("gate",),
        }
        sink.assert_order("effect.held", "effect.gate_opened", "stage.act.started")


def test_when_a_gate_opens():
    """Also one that is attempted several times: it is undecided until it has settled."""
    for specs, at in (([gate()], 1), ([gate(when=no)], 0), ([gate(TwiceThenOk())], 3 * 1 + 2 * 2)):
        did = Does()
        execute(*specs, act(did))
        assert did.began == [at]


@pytest.mark.parametrize("mode", [CONTINUE, BEST_EFFORT])
@pytest.mark.parametrize("name", CLOSED)
def test_a_gate_that_closes(name, mode, sink):
    specs, told = CLOSED[name]
    did, then = Does(), Does()
    results = execute(*specs, act(did), pure("then", then, "act"), sink=sink, mode=mode)
    assert not did.began
    assert not then.began
    for one in ("act", "then"):
        assert results[one].status == "skip"
        assert results[one].data == {"reason": "gate_closed"}
        assert reason(sink, one) == "gate_closed"
        assert not events(sink, f"stage.{one}.started")
    (closed,) = events(sink, "effect.gate_closed")
    assert not events(sink, "effect.gate_opened")
    assert closed["gate"] == "gate"
    assert told in closed["reason"]


@pytest.mark.parametrize("name", ["fail", "raise", "time limit", "attempts used up", "when= raises"])
def test_fail_fast_and_a_gate_that_fails(name, sink):
    """What was held is told as skipped; it does not settle."""
    late = Does()
    results = execute(
        *CLOSED[name][0],
        act(late),
        pure("then", None, "act"),
        pure("slow", after(9)),
        sink=sink,
        mode=FAIL_FAST,
    )
    assert list(results) == ["gate"]
    assert results.error.stage == "gate"
    assert not late.began
    assert reason(sink, "then") == "run_stopped"
    if events(sink, "effect.held"):
        assert reason(sink) == "gate_closed"
    assert sink.of("slow") in (["started", "cancelled"], ["skipped"])


@pytest.mark.parametrize("mode", FailureMode)
@pytest.mark.parametrize(
    "name", ["dependency skipped", "branch not taken", "value missing", "route not taken"]
)
def test_a_gate_that_is_closed_without_a_failure_ends_no_run(name, mode, sink):
    results = execute(*CLOSED[name][0], act(), pure("other", after(5)), sink=sink, mode=mode)
    assert results.error is None
    assert results["act"].data == {"reason": "gate_closed"}
    assert results["other"].status == "ok"
    assert sink.types[-1] == "pipeline.completed"


@pytest.mark.parametrize("mode", FailureMode)
def test_a_gate_that_cancels(mode, sink):
    results = execute(gate(after(1, StageOutput.cancel("enough"))), act(), sink=sink, mode=mode)
    assert list(results) == ["gate"]
    assert type(results.error) is PipelineCancelled
    assert results.error.stage == "gate"
    assert reason(sink) == "gate_closed"
    assert sink.types[-1] == "pipeline.cancelled"
    (closed,) = events(sink, "effect.gate_closed")
    assert payload(closed, "gate", "reason") == {"gate": "gate", "reason": "enough"}


@pytest.mark.parametrize("mode", FailureMode)
@pytest.mark.parametrize("way", ["token", "limit", "stage"])
def test_gates_that_are_undecided_when_the_run_ends(way, mode, sink):
    token, did = CancellationToken(), Does()

    async def main():
        cancel = StageOutput.cancel("enough") if way == "stage" else None
        specs = [gate(hang), act(did), pure("stop", after(2, cancel))]
        loop = asyncio.get_running_loop()
        if way == "token":
            loop.call_later(3, token.cancel)
        limit = 3 if way == "limit" else None
        graph = StageGraph(specs, [], failure_mode=mode)
        return await graph.run(sink=sink, cancel_token=token, timeout=limit, raise_errors=False), now()

    results, at = run_virtual(main())
    assert at == (2 if way == "stage" else 3)
    assert isinstance(results.error, RunTimeoutError if way == "limit" else PipelineCancelled)
    assert list(results) == ["stop"]
    assert reason(sink) == "run_stopped"
    assert not did.began
    assert not [type for type in sink.types if type.startswith("effect.gate")]


def test_undecided_when_another_stage_fails(sink):
    results = execute(gate(hang), act(), pure("bad", after(1, ERROR)), sink=sink, mode=FAIL_FAST)
    assert list(results) == ["bad"]
    assert reason(sink) == "run_stopped"


@pytest.mark.parametrize("first", ["a", "b"])
def test_one_closed_gate_closes_all_at_once(first, sink):
    """... whatever the others do, and however long they hang."""
    bad = after(1, StageOutput.fail("no"))
    specs = [gate(bad if one == first else after(100), name=one) for one in "ab"]
    ended = {}

    async def main():
        graph = StageGraph([*specs, act()], [], failure_mode=BEST_EFFORT)
        recorder = EventRecorder(on_event=lambda event: ended.setdefault(event.type, now()))
        await graph.run(sink=recorder)
        return recorder

    recorder = run_virtual(main())
    assert ended["stage.act.skipped"] == 1
    assert ended["pipeline.completed"] == 100
    (closed,) = events(recorder, "effect.gate_closed")
    assert payload(closed, "gate", "reason") == {"gate": first, "reason": "no"}


def test_all_gates_must_open(sink):
    did, other = Does(), Does()
    execute(gate(after(2), name="a"), gate(after(5), name="b"), act(did), pure("other", other), sink=sink)
    assert did.began == [5]
    assert other.began == [0]
    assert len(events(sink, "effect.gate_opened")) == 1
    assert events(sink, "effect.held")[0]["gates"] == ("a", "b")


def test_a_held_stage_names_the_gates_that_have_not_opened(sink):
    specs = [gate(after(2), name="a"), gate(after(5), name="b"), pure("first", after(3)), act(None, "first")]
    execute(*specs, sink=sink)
    assert events(sink, "effect.held")[0]["gates"] == ("b",)


def test_a_closed_gate_is_final(sink):
    """A stage that becomes ready later finds it closed."""
    execute(gate(after(1, ERROR)), pure("first", after(3)), act(None, "first"), sink=sink)
    assert reason(sink) == "gate_closed"
    assert not events(sink, "effect.held")


def test_the_first_rule_of_outcomes_knows_of_gates():
    specs = [
        gate(after(1, StageOutput.skip("no")), "a", conditional=True),
        pure("a", after(1, StageOutput.skip("no"))),
        act(),
        pure("b", None, "act"),
        pure("c", None, "b"),
        pure("join", None, "c", "free"),
        pure("free"),
        pure("careful", None, "act", conditional=True, when=no),
        pure("optional", None, "act", optional=["act"]),
    ]
    results = execute(*specs)
    for name in ("act", "b", "c", "join", "careful", "optional"):
        assert results[name].data == {"reason": "gate_closed"}, name
    assert results["free"].status == "ok"


def test_a_gates_own_effect_is_not_held():
    did = Does()
    execute(gate(did, name="a", effect=Effect.IRREVERSIBLE), gate(after(5), name="b"))
    assert did.began == [0]


def test_a_stage_that_is_not_gated_does_not_wait(sink):
    did = Does()
    execute(gate(after(1, ERROR)), act(did, gated=False), pure("then", after(), "act"), sink=sink)
    assert did.began == [0]
    assert sink.of("then") == ["started", "completed"]
    assert not events(sink, "effect.held")


def test_pure_stages_are_never_delayed():
    """... whatever they depend on, unless they depend on a held stage."""
    beside, behind, first = Does(), Does(), Does()
    specs = [gate(after(5)), act(), pure("a", beside), pure("b", first, "a"), pure("c", behind, "act")]
    execute(*specs)
    assert (beside.began, first.began, behind.began) == ([0], [0], [5])


def test_effects_in_a_pipeline_without_gates_do_not_wait(sink):
    did = Does()
    execute(act(did), sink=sink)
    assert did.began == [0]
    assert not [type for type in sink.types if type.startswith("effect.")]


# --- guards that send gates back ---------------------------------------------------------------------------------


class Rejects:
    """A guard that rejects so often, after so many seconds each time."""

    def __init__(self, times, seconds=1.0):
        self.left, self.seconds = times, seconds

    async def execute(self, ctx):
        await asyncio.sleep(self.seconds)
        self.left -= 1
        return StageOutput.fail(f"no {self.left}") if self.left >= 0 else None


def looped(*specs, rounds=3, sink=None):
    strategy = GuardRetryStrategy({"guard": GuardRetryPolicy("write", rounds, stagnation_limit=99)})
    return execute(*specs, sink=sink, guard_retry_strategy=strategy)


@pytest.mark.parametrize("rejects", range(4))
def test_a_gate_that_sends_back_is_undecided_meanwhile(rejects, sink):
    did = Does()
    guard = StageSpec("guard", Rejects(rejects), GUARD, ["write"], gates_effects=True)
    results = looped(pure("write"), guard, act(did), sink=sink)
    if rejects < 3:
        assert did.began == [rejects + 1]
        assert sink.types.count("effect.gate_opened") == 1
    else:
        assert results["act"].data == {"reason": "gate_closed"}
        assert events(sink, "effect.gate_closed")[0]["gate"] == "guard"
        assert not did.began


@pytest.mark.parametrize("rejects", range(3))
@pytest.mark.parametrize("which", ["write", "middle"])
def test_a_gate_that_is_sent_back_is_undecided_meanwhile(which, rejects, sink):
    did = Does()
    specs = [
        pure("write", after(0), gates_effects=which == "write"),
        pure("middle", after(0), "write", gates_effects=which == "middle"),
        StageSpec("guard", Rejects(rejects), GUARD, ["write", "middle"]),
    ]
    looped(*specs, act(did), sink=sink)
    assert did.began == [rejects + 1]
    assert sink.types.count("effect.gate_opened") == 1


def test_what_a_gate_says_in_a_round_that_is_sent_back_does_not_count(sink):
    """It is skipped, which would close it, in the first round, and passes in the second."""
    did, drafts = Does(), iter([StageOutput.skip("nothing yet"), None])

    async def write(ctx):
        return next(drafts)

    specs = [
        pure("write", write),
        pure("middle", after(1), "write", gates_effects=True, conditional=True),
        StageSpec("guard", Rejects(1), GUARD, ["write", "middle"]),
    ]
    results = looped(*specs, act(did), sink=sink)
    assert results.error is None
    assert did.began == [1 + 1 + 1]
    assert sink.types.count("effect.gate_opened") == 1
    assert not events(sink, "effect.gate_closed")


def test_a_gate_whose_guard_has_not_settled_is_named_as_not_opened(sink):
    specs = [
        pure("write", after(0), gates_effects=True),
        StageSpec("guard", Rejects(0, 5), GUARD, ["write"]),
        pure("first", after(2)),
        act(None, "first"),
    ]
    looped(*specs, sink=sink)
    assert events(sink, "effect.held")[0]["gates"] == ("write",)


def test_a_round_needs_a_receipt_of_its_own():
    """The effect happened again, so the receipt of the round before is not enough."""
    rounds = itertools.count()

    async def acts(ctx):
        if next(rounds) == 0:
            ctx.leave_receipt(Receipt("r"))

    specs = [
        act(acts, name="write", effect=Effect.REVERSIBLE),
        StageSpec("guard", Rejects(1), GUARD, ["write"]),
    ]
    results = looped(*specs)
    assert next(rounds) == 2
    assert type(results.error.original) is StageContractError


def test_a_held_stage_in_a_loop_waits_once(sink):
    did = Does()
    specs = [
        act(did, name="write"),
        StageSpec("guard", Rejects(2), GUARD, ["write"]),
        gate(after(5)),
    ]
    looped(*specs, sink=sink)
    assert did.began == [5, 6, 7]
    assert len(events(sink, "effect.held")) == 1


def test_a_held_stage_before_the_guard_of_a_gate_is_refused():
    """The gate is decided when its guard has settled, the guard waits for the effect, and that for the gate."""
    specs = [
        pure("write"),
        gate(None, "write"),
        act(),
        StageSpec("guard", Rejects(0), GUARD, ["write", "gate", "act"]),
    ]
    strategy = GuardRetryStrategy({"guard": GuardRetryPolicy("write", 3)})
    with pytest.raises(PipelineValidationError) as caught:
        StageGraph(specs, [], guard_retry_strategy=strategy)
    assert [problem.code for problem in caught.value.problems] == ["SF-BUILD-GATE"]


def test_the_guard_of_a_gate_may_not_wait_for_it():
    asks = Asks()
    specs = [pure("write"), gate(None, "write"), StageSpec("guard", asks, GUARD, ["write", "gate"])]
    results = looped(*specs, rounds=1)
    assert asks.got == [(1, "EffectGateDeadlock")]
    assert results["guard"].status == "fail"


# --- what a held stage does meanwhile ----------------------------------------------------------------------------


def test_who_would_not_run_does_not_wait(sink):
    """First the rules, then the gate."""
    at = {}
    specs = [
        gate(after(5)),
        act(name="condition", when=no),
        pure("skips", after(0, StageOutput.skip("no"))),
        act(None, "skips", name="skipped", conditional=True),
        act(None, "condition", name="branch"),
    ]

    async def main():
        recorder = EventRecorder(on_event=lambda event: at.setdefault(event.type, now()))
        await StageGraph(specs, []).run(sink=recorder)
        return recorder

    recorder = run_virtual(main())
    assert reason(recorder, "condition") == "condition_false"
    assert reason(recorder, "skipped") == "dependency_skipped"
    assert reason(recorder, "branch") == "branch_not_taken"
    assert {at[f"stage.{name}.skipped"] for name in ("condition", "skipped", "branch")} == {0}
    assert not events(recorder, "effect.held")


def test_a_condition_is_asked_once():
    """... before the wait, and not again after it."""
    asked = []
    execute(gate(after(5)), act(when=lambda inputs: not asked.append(1)))
    assert asked == [1]


def test_who_waits_holds_no_place():
    did = Does()
    execute(act(did), gate(after(5)), max_concurrency=1)
    assert did.began == [5]


def test_who_waits_holds_no_place_under_a_limit_of_its_own():
    """... nor in the line: an effect comes before a limit that has room for nobody who waits."""
    limit = ConcurrencyLimit(1, max_queued=0)
    results = execute(act(Does(), limit=limit), pure("other", after(3), limit=limit), gate(after(5)))
    assert results.error is None
    assert limit.active == 0


def test_a_held_stage_queues_after_the_gate():
    first, second = Does(4), Does(4)
    execute(act(first), act(second, name="second"), gate(after(5)), max_concurrency=1)
    assert sorted(first.began + second.began) == [5, 9]


def test_its_time_limit_begins_when_it_starts():
    did = Does(2)
    results = execute(act(did, timeout=3), gate(after(50)))
    assert results["act"].status == "ok"
    assert did.began == [50]


def test_its_time_limit_still_counts_then(sink):
    results = execute(act(hang, timeout=3), gate(after(50)), sink=sink)
    assert results["act"].status == "fail"


def test_further_attempts_do_not_wait_again(sink):
    calls = []

    async def asks(ctx):
        calls.append(now())
        return StageOutput.retry("again", retry_after=10) if len(calls) < 3 else None

    execute(act(asks), gate(after(5)), sink=sink)
    assert calls == [5, 15, 25]
    assert len(events(sink, "effect.held")) == 1


def test_the_wait_has_a_part(sink):
    results = execute(act(), gate(after(5)), pure("ask", Asks()), pure("free", after(1)), sink=sink)
    timeline = results.timeline
    assert timeline["act"].totals[Part.GATE] > 0
    assert [span.part for span in timeline["act"].spans if span.part is Part.GATE] == [Part.GATE]
    assert timeline["act"].spans[-1].part is Part.RUN
    assert timeline["ask"].totals[Part.GATE] > 0
    assert Part.GATE not in timeline["free"].totals
    assert Part.GATE not in timeline["gate"].totals
    (completed,) = events(sink, "stage.act.completed")
    assert completed["parts_ns"]["gate"] == timeline["act"].totals[Part.GATE]
    for one in timeline.values():
        assert sum(one.totals.values()) == one.total_ns


# --- effects inside a stage --------------------------------------------------------------------------------------


def test_asking_without_gates_returns_at_once():
    asks = Asks()
    execute(pure("ask", asks))
    assert asks.got == [(0, "passed")]


def test_asking_without_a_run_returns_at_once():
    run_virtual(create_test_stage_context().gate())


@pytest.mark.parametrize("when", [0, 1, 3], ids=["before", "just then", "after"])
@pytest.mark.parametrize(
    ("how", "got"), [(None, "passed"), (ERROR, "EffectGateClosed")], ids=["open", "closed"]
)
def test_asking_waits_until_the_gate_is_decided(how, got, when, sink):
    asks = Asks(when)
    results = execute(gate(after(1, how)), pure("ask", asks), pure("then", None, "ask"), sink=sink)
    assert asks.got == [(max(when, 1), got)]
    if how is None:
        assert results["ask"].status == "ok"
    else:
        assert results["ask"].data == {"reason": "gate_closed"}
        assert results["then"].data == {"reason": "gate_closed"}
        assert sink.of("ask") == ["started", "skipped"]
        assert reason(sink, "ask") == "gate_closed"
        assert sink.of("then") == ["skipped"]
    assert not events(sink, "effect.held")


def test_a_stage_may_catch_it():
    asks = Asks(catch=True)
    results = execute(gate(after(1, ERROR)), pure("ask", asks), pure("then", after(), "ask"))
    assert results["ask"].status == "ok"
    assert results["then"].status == "ok"


def test_what_it_raises_names_the_gate():
    raised = []

    async def asks(ctx):
        try:
            await ctx.gate()
        except EffectGateClosed as exc:
            raised.append(exc)

    execute(gate(after(1, StageOutput.fail("not allowed")), name="check"), pure("ask", asks))
    assert (raised[0].stage, raised[0].gate, raised[0].reason) == ("ask", "check", "not allowed")
    assert raised[0].code == "SF-RUN-GATE-CLOSED"
    assert "'check'" in str(raised[0])


@pytest.mark.parametrize("far", [False, True], ids=["directly", "through others"])
def test_a_stage_that_a_gate_waits_for_may_not_wait(far):
    asks, hung = Asks(2), [pure("b", after(), "ask")] if far else []
    results = execute(
        pure("ask", asks), *hung, gate(None, "b" if far else "ask"), gate(after(90), name="other"), act()
    )
    assert asks.got == [(2, "EffectGateDeadlock")]
    error = results.error.original
    assert type(error) is EffectGateDeadlock
    assert error.code == "SF-RUN-GATE-DEADLOCK"
    assert error.stage == "ask"
    assert "gate" in error.gates
    assert error.pipeline is None
    assert "gated=False" in error.fix
    assert results["act"].data == {"reason": "gate_closed"}


def test_a_stage_that_a_gate_waits_for_finds_a_closed_gate_closed():
    asks = Asks(2)
    results = execute(pure("ask", asks), gate(None, "ask"), gate(after(1, ERROR), name="other"))
    assert asks.got == [(2, "EffectGateClosed")]
    assert results["ask"].data == {"reason": "gate_closed"}


@pytest.mark.parametrize("how", [None, ERROR], ids=["open", "closed"])
@pytest.mark.parametrize("when", [0, 3])
def test_who_is_exempt_asks_in_vain(how, when):
    """A stage with gated=False, before a gate or not, and a gate get no answer but yes."""
    asks = [Asks(when) for _ in range(3)]
    execute(
        gate(after(1, how), name="decides"),
        pure("first", asks[0], gated=False),
        gate(asks[1], "first"),
        pure("free", asks[2], gated=False),
    )
    assert [one.got for one in asks] == [[(at, "passed")] for at in (when, when + when, when)]


@pytest.mark.parametrize("limited", ["run", "stage"])
def test_who_asks_holds_no_place(limited):
    limit = ConcurrencyLimit(1)
    options = {"limit": limit} if limited == "stage" else {}
    asks = Asks(then=4)
    specs = [pure("ask", asks, **options), gate(after(5), **options)]
    results = execute(*specs, max_concurrency=1 if limited == "run" else None)
    assert results.error is None
    assert asks.got == [(5, "passed")]
    assert limit.active == 0


def test_who_has_asked_takes_a_place_again():
    """... and does not go on beside whoever has it."""
    inside, most = [], []

    async def asks(ctx):
        await ctx.gate()
        inside.append(1)
        most.append(len(inside))
        await asyncio.sleep(4)
        inside.pop()

    async def works(ctx):
        inside.append(1)
        most.append(len(inside))
        await asyncio.sleep(2)
        inside.pop()

    execute(
        *(pure(f"ask{n}", asks) for n in range(3)),
        gate(after(5)),
        pure("late", works, "gate"),
        max_concurrency=1,
    )
    assert most == [1] * 4


@pytest.mark.parametrize(("then", "status"), [(2, "ok"), (4, "fail")])
def test_its_time_limit_does_not_run_while_it_asks(then, status):
    """What came before and what comes after still counts together."""
    results = execute(pure("ask", Asks(1, then=then), timeout=4), gate(after(50)))
    assert results["ask"].status == status


def test_what_one_attempt_has_waited_is_not_owed_to_the_next():
    ended = []

    async def asks(ctx):
        if ctx.attempt == 1:
            await ctx.gate()
            return StageOutput.retry("again")
        try:
            await asyncio.sleep(4)
        finally:
            ended.append(now())

    retry = RetryPolicy(2, base_delay=1, jitter=False, retry_on=ValueError)
    results = execute(pure("ask", asks, timeout=3, retry=retry), gate(after(50)))
    assert results["ask"].status == "fail"
    assert ended == [50 + 1 + 3]


def test_the_runs_limit_does(sink):
    results = execute(pure("ask", Asks()), gate(hang), sink=sink, run={"timeout": 9})
    assert type(results.error) is RunTimeoutError
    assert sink.of("ask") == ["started", "cancelled"]


def test_several_tasks_of_a_stage_ask():
    got = []

    async def tools(ctx):
        async def tool(seconds):
            await asyncio.sleep(seconds)
            await ctx.gate()
            got.append(now())

        async with asyncio.TaskGroup() as group:
            for seconds in (0, 2, 8):
                group.create_task(tool(seconds))

    results = execute(pure("agent", tools, timeout=4), gate(after(5)), max_concurrency=1)
    assert results["agent"].status == "ok"
    assert got == [5, 5, 8]


@pytest.mark.parametrize(
    ("how", "got"), [(None, "passed"), (ERROR, "EffectGateClosed")], ids=["open", "closed"]
)
def test_a_task_that_outlives_its_stage_asks(how, got):
    tool, tasks = Asks(catch=True), []

    async def careless(ctx):
        tasks.append(asyncio.create_task(tool.execute(ctx)))

    async def waits(ctx):
        await tasks[0]

    results = execute(
        pure("careless", careless), gate(after(5, how)), pure("wait", waits, "careless"), max_concurrency=2
    )
    assert tool.got == [(5, got)]
    assert results["wait"].status == "ok"


def test_a_task_that_outlives_its_stage_takes_no_place():
    """It stands in line for the place that its stage has lent, and has no use for it when it gets it."""
    limit, tasks = ConcurrencyLimit(1), []

    async def careless(ctx):
        tasks.append(asyncio.create_task(ctx.gate()))
        await asyncio.sleep(6)

    async def waits(ctx):
        await asyncio.wait(tasks)

    results = execute(
        pure("careless", careless, limit=limit),
        gate(after(5), limit=limit),
        pure("late", after(3), "gate", limit=limit),
        pure("last", after(3), "late", limit=limit),
        pure("wait", waits, "careless"),
    )
    assert [output.status for output in results.values()] == ["ok"] * 5
    assert (limit.active, limit.queued) == (0, 0)


def test_a_task_that_outlives_its_run_finds_an_undecided_gate_closed():
    """No effect happens after a run that never allowed it."""
    tool, tasks = Asks(catch=True), []

    async def careless(ctx):
        tasks.append(asyncio.create_task(tool.execute(ctx)))

    async def main():
        graph = StageGraph([pure("careless", careless), gate(hang)], [])
        with pytest.raises(RunTimeoutError):
            await graph.run(timeout=3)
        await tasks[0]

    run_virtual(main())
    assert tool.got == [(3, "EffectGateClosed")]


def test_asking_after_the_gate_has_closed_while_the_run_winds_up(sink):
    """A stage that does not catch it ends as skipped, also if it was asked to stop."""

    async def stubborn(ctx):
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            await ctx.gate()

    results = execute(gate(after(1, ERROR)), pure("ask", stubborn), sink=sink, mode=FAIL_FAST)
    assert results.error.stage == "gate"
    assert sink.of("ask") == ["started", "skipped"]
    assert reason(sink, "ask") == "gate_closed"


# --- runs inside of runs -----------------------------------------------------------------------------------------


def test_the_effects_of_a_run_wait_for_the_gates_above(sink):
    did, inner = Does(), EventRecorder()
    child = StageGraph([act(did)], [], name="child")
    execute(pure("runs", Runs(child, sink=inner)), gate(after(5)), sink=sink)
    assert did.began == [5]
    assert events(inner, "effect.held")[0]["gates"] == ("gate",)
    assert not [type for type in inner.types if type.startswith("effect.gate")]
    assert sink.types.count("effect.gate_opened") == 1


@pytest.mark.parametrize(("own", "above"), [(2, 5), (5, 2), (3, 3)])
def test_they_wait_for_both(own, above):
    did, asks, inner = Does(), Asks(), EventRecorder()
    child = StageGraph([gate(after(own), name="own"), act(did), pure("ask", asks)], [], name="child")
    execute(pure("runs", Runs(child, sink=inner)), gate(after(above)))
    assert did.began == [max(own, above)]
    assert asks.got == [(max(own, above), "passed")]
    assert inner.types.count("effect.gate_opened") == 1
    inner.assert_order("effect.gate_opened", "stage.act.started")


def test_the_gate_above_may_have_been_decided_before():
    did = Does()
    child = StageGraph([act(did)], [], name="child")
    execute(pure("runs", Runs(child, 9)), gate(after(5)))
    assert did.began == [9]


def test_a_closed_gate_above_closes_the_gate_below():
    """... at once, also if that one hangs or has let pass."""
    for own in (after(1), after(20)):
        did, asks, inner = Does(), Asks(catch=True), EventRecorder()
        child = StageGraph([gate(own, name="own"), act(did), pure("ask", asks)], [], name="child")
        runs = Runs(child, sink=inner)
        results = execute(pure("runs", runs), gate(after(5, StageOutput.fail("no"))))
        assert not did.began
        assert asks.got == [(5, "EffectGateClosed")]
        assert runs.results["act"].data == {"reason": "gate_closed"}
        assert results["runs"].status == "ok"
        (closed,) = events(inner, "effect.gate_closed")
        assert payload(closed, "gate", "reason") == {"gate": "gate", "reason": "no"}


def test_a_closed_gate_below_does_not_close_the_gate_above():
    did = Does()
    child = StageGraph([gate(after(0, ERROR), name="own"), act()], [], name="child", failure_mode=BEST_EFFORT)
    results = execute(pure("runs", Runs(child)), gate(), act(did))
    assert did.began == [1]
    assert results["runs"].status == "ok"


def levels(deepest, *, outer=(), middle=()):
    """Return the stages of a run with a run with a run of *deepest* in it."""
    lowest = StageGraph([deepest], [], name="lowest")
    child = StageGraph([pure("runs", Runs(lowest), gated="middle" not in outer), *middle], [], name="child")
    return pure("runs", Runs(child), gated="outer" not in outer)


@pytest.mark.parametrize(
    ("exempt", "began"),
    [((), 7), (("outer",), 4), (("middle",), 7), (("outer", "middle"), 0)],
    ids=["neither", "outer", "middle", "both"],
)
def test_two_levels_with_gates(exempt, began):
    """Each gate counts as it counts for the stage that started the run below."""
    did, asks = Does(), Asks()
    for deepest in (act(did), pure("ask", asks)):
        execute(levels(deepest, outer=exempt, middle=[gate(after(4), name="own")]), gate(after(7)))
    assert did.began == [began]
    assert asks.got == [(began, "passed")]


@pytest.mark.parametrize("own_gate", [2, 20])
def test_a_stage_that_is_exempt_below_still_waits_for_the_gates_above(own_gate):
    """gated=False leaves out the gates of the stage's own pipeline, and a gate is not held by these either."""
    did, asks, own = Does(), Asks(), Does()
    child = StageGraph(
        [
            gate(after(own_gate), name="own"),
            act(did, gated=False),
            pure("ask", asks, gated=False),
            gate(own, name="acts", effect=Effect.IDEMPOTENT),
        ],
        [],
        name="child",
    )
    execute(pure("runs", Runs(child)), gate(after(5)))
    assert did.began == [5]
    assert asks.got == [(5, "passed")]
    assert own.began == [5]


def test_a_gate_may_run_effects():
    """A gate is exempt, so what it runs is, too."""
    did = Does()
    child = StageGraph([act(did)], [], name="child")
    execute(gate(Runs(child)), act())
    assert did.began == [0]


@pytest.mark.parametrize("raise_errors", [True, False])
@pytest.mark.parametrize("mode", FailureMode)
def test_a_run_that_a_gate_waits_for_is_refused_if_it_has_effects(mode, raise_errors, sink):
    inner, did, beside = EventRecorder(), Does(), Does()
    child = StageGraph([act(did), pure("beside", beside)], [], name="child", failure_mode=mode)
    runs = Runs(child, 2, sink=inner, raise_errors=raise_errors)
    results = execute(pure("runs", runs), gate(None, "runs"), sink=sink)
    error = runs.raised if raise_errors else runs.results.error
    assert type(error) is EffectGateDeadlock
    assert (error.stage, error.gates, error.pipeline) == ("runs", ("gate",), "child")
    assert "'child'" in str(error)
    assert not error.results
    assert not did.began
    assert not beside.began
    assert not [type for type in inner.types if type.startswith("stage.")]
    assert results["runs"].status == ("fail" if raise_errors else "ok")


def test_without_effects_it_is_not_refused():
    """... but may not ask."""
    beside, asks = Does(), Asks(catch=True)
    child = StageGraph([pure("beside", beside), pure("ask", asks)], [], name="child")
    results = execute(pure("runs", Runs(child)), gate(None, "runs"))
    assert beside.began == [0]
    assert asks.got == [(0, "EffectGateDeadlock")]
    assert results.error is None


def test_with_gated_false_on_the_stage_that_starts_it_it_is_not_refused():
    did, asks = Does(), Asks()
    child = StageGraph([act(did), pure("ask", asks)], [], name="child")
    results = execute(pure("runs", Runs(child), gated=False), gate(None, "runs"))
    assert did.began == [0]
    assert asks.got == [(0, "passed")]
    assert results.error is None


def test_it_is_refused_from_far_above():
    did = Does()
    runs = levels(act(did))
    results = execute(runs, gate(None, "runs"))
    error = runs.runner.raised
    assert type(error) is StageExecutionError
    assert type(error.original) is EffectGateDeadlock
    assert error.original.stage == "runs"
    assert not did.began
    assert results["gate"].data == {"reason": "dependency_failed"}


def test_a_gate_that_is_closed_already_refuses_nothing():
    """It is no deadlock any more: the effects are skipped."""
    did = Does()
    child = StageGraph([act(did), pure("beside", after())], [], name="child")
    runs = Runs(child, 2)
    execute(pure("runs", runs), gate(None, "runs"), gate(after(1, ERROR), name="other"))
    assert runs.results["act"].data == {"reason": "gate_closed"}
    assert runs.results["beside"].status == "ok"


def test_effects_below_hold_no_place_above():
    """A stage that runs another graph waits for what that waits for: the gate must get its place."""
    did = Does()
    child = StageGraph([act(did)], [], name="child")
    results = execute(pure("runs", Runs(child)), gate(after(5)), max_concurrency=1)
    assert results.error is None
    assert did.began == [5]


def test_asking_below_holds_no_place_above():
    asks = Asks()
    child = StageGraph([pure("ask", asks)], [], name="child")
    results = execute(pure("runs", Runs(child)), gate(after(5)), max_concurrency=1)
    assert results.error is None
    assert asks.got == [(5, "passed")]


def test_the_stage_above_takes_its_place_again_when_the_run_below_has_ended():
    """Until then it holds none: whoever comes next works meanwhile."""
    spans = {}

    async def runs(ctx):
        await child.run()
        began = now()
        await asyncio.sleep(1)
        spans["runs"] = began, now()

    async def works(ctx):
        began = now()
        await asyncio.sleep(10)
        spans["works"] = began, now()

    child = StageGraph([act(after(4))], [], name="child")
    results = execute(pure("runs", runs), gate(after(5)), pure("works", works, "gate"), max_concurrency=1)
    assert results.error is None
    assert spans == {"works": (5, 15), "runs": (15, 16)}


def test_the_run_below_has_ended_before_the_stage_above_waits_for_its_place():
    """Its limit does not hit it any more when all in it is done: the effect has happened."""
    at = {}
    inner = EventRecorder(on_event=lambda event: at.setdefault(event.type, now()))
    child = StageGraph([act(after(4))], [], name="child")
    runs = Runs(child, sink=inner, timeout=12)
    results = execute(pure("runs", runs), gate(after(5)), pure("works", after(10), "gate"), max_concurrency=1)
    assert runs.raised is None
    assert results.error is None
    assert at["pipeline.completed"] == 9


def test_a_spawned_child_waits_as_well():
    did, spawner = Does(), SubpipelineSpawner()
    child = Pipeline("child").with_stage("act", did, WORK)

    async def plan(ctx):
        spawned = await spawner.spawn("child", ctx, None, ctx.stage_name, child)
        assert spawned.success

    results = execute(pure("plan", plan), gate(after(5)))
    assert results.error is None
    assert did.began == [5]


def test_a_run_that_a_task_of_a_stage_starts_waits_as_well():
    did = Does()
    child = StageGraph([act(did)], [], name="child")

    async def spawns(ctx):
        await asyncio.create_task(child.run())

    execute(pure("spawns", spawns), gate(after(5)))
    assert did.began == [5]


def test_a_run_beside_the_other_does_not_wait():
    """Only those below do, not whoever shares a loop with it."""
    did = Does()

    async def main():
        one = StageGraph([gate(after(5)), act()], [])
        other = StageGraph([act(did)], [])
        await asyncio.gather(one.run(), other.run())

    run_virtual(main())
    assert did.began == [0]


@pytest.mark.parametrize("exempt", [False, True])
def test_runs_below_that_have_ended_leave_nothing_with_the_gate_above(exempt):
    """Neither do they themselves stay, nor those of their stages that asked, or were held, when they ended."""
    gone: list[weakref.ref[Any]] = []
    left: list[int] = []

    def futures():
        gc.collect()
        return sum(issubclass(type(one), asyncio.Future) for one in gc.get_objects())  # some lie about theirs

    class Stays:
        async def execute(self, ctx):
            await ctx.gate()
            await asyncio.sleep(99)

    async def many(ctx):
        for number in range(20):
            if number == 1:  # the first may have made what is there for all
                there = futures()
            stays = Stays()
            gone.append(weakref.ref(stays))
            specs = [
                gate(stays, name="own"),
                act(stays, gated=not exempt),
                pure("ask", stays, gated=not exempt),
            ]
            child = StageGraph(specs, [], name="child")
            del stays, specs
            with pytest.raises(RunTimeoutError):
                await child.run(timeout=1 + number % 3)
            del child
        left.extend([futures() - there, sum(one() is not None for one in gone)])

    results = execute(pure("many", many), gate(after(500)))
    assert results.error is None
    assert left == [0, 0]


@pytest.mark.asyncio
async def test_a_run_below_on_another_event_loop_waits_as_well():
    """... and is woken there, as a stage that is held and as one that asks."""
    did, told, decided = [], set(), []
    inner = EventRecorder(on_event=lambda event: told.add(event.type))

    async def acts(ctx):
        did.append(bool(decided))

    async def asks(ctx):
        told.add("asks")
        await ctx.gate()
        did.append(bool(decided))

    async def check(ctx):
        while not {"effect.held", "asks"} <= told:
            await asyncio.sleep(0.001)
        decided.append(True)

    child = StageGraph([act(acts), pure("ask", asks)], [], name="child")

    async def runs(ctx):
        await asyncio.to_thread(lambda: asyncio.run(child.run(sink=inner, timeout=10)))

    results = await StageGraph([pure("runs", runs), gate(check)], []).run()
    assert results["runs"].status == "ok"
    assert did == [True, True]


# --- what is refused at build time -------------------------------------------------------------------------------


def problems_of(*specs, **options):
    with pytest.raises(PipelineValidationError) as caught:
        StageGraph(specs, [], **options)
    return caught.value.problems


def test_every_effect_that_a_gate_waits_for_is_refused():
    specs = [
        act(name="one"),
        pure("far", None, "one"),
        act(name="two", effect=Effect.IRREVERSIBLE),
        act(name="exempt", gated=False),
        act(name="beside"),
        gate(None, "far", "two", "exempt"),
    ]
    problems = problems_of(*specs)
    assert [problem.code for problem in problems] == ["SF-BUILD-GATE"] * 2
    assert [tuple(problem.stages) for problem in problems] == [("one", "far", "gate"), ("two", "gate")]
    assert "one -> far -> gate" in problems[0].message
    assert "'two' (irreversible)" in problems[1].message
    assert all("gated=False" in problem.fix for problem in problems)


def test_a_gate_may_depend_on_a_gate_with_an_effect():
    StageGraph([gate(name="first", effect=Effect.IRREVERSIBLE), gate(None, "first")], [])


def test_a_held_stage_before_the_guard_that_holds_a_dependency_of_a_gate_is_refused():
    """The gate reads what the guard guards, so it waits for the guard, which waits for the effect."""
    specs = [
        pure("write"),
        act(),
        StageSpec("guard", Rejects(0), GUARD, ["write", "act"]),
        gate(None, "write"),
    ]
    strategy = GuardRetryStrategy({"guard": GuardRetryPolicy("write", 3)})
    problems = problems_of(*specs, guard_retry_strategy=strategy)
    assert [problem.code for problem in problems] == ["SF-BUILD-GATE"]
    assert "act" in problems[0].stages


@pytest.mark.parametrize("overflow", Overflow)
def test_a_held_reader_of_a_stage_that_a_gate_waits_for(overflow):
    """Over an edge that blocks, the producer could not end."""
    coalesce = (lambda older, newer: newer) if overflow is Overflow.COALESCE else None
    edge = StreamEdge("model", overflow=overflow, coalesce=coalesce)
    specs = [pure("model"), gate(None, "model"), act(streams=[edge])]
    if overflow is Overflow.BLOCK:
        assert [problem.code for problem in problems_of(*specs)] == ["SF-BUILD-GATE"]
    else:
        StageGraph(specs, [])


def test_lint_lists_what_the_gates_do_not_hold():
    specs = [act(name="early", gated=False), pure("calm", gated=False), act(), gate(None, "early")]
    told = [issue for issue in lint_pipeline(StageGraph(specs, [])).issues if issue.code == "SF-LINT-UNGATED"]
    assert [issue.stage_name for issue in told] == ["early"]
    without = StageGraph([spec for spec in specs if not spec.gates_effects], [])
    assert "SF-LINT-UNGATED" not in {issue.code for issue in lint_pipeline(without).issues}


# --- the errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        EffectGateClosed("act", gate="check", reason="no"),
        EffectGateDeadlock("act", ["a", "b"]),
        EffectGateDeadlock("act", ["a"], pipeline="child"),
    ],
    ids=["closed", "deadlock", "deadlock of a run"],
)
def test_errors_pickle(error):
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert {key: value for key, value in vars(again).items() if key != "__notes__"} == {
        key: value for key, value in vars(error).items() if key != "__notes__"
    }


# --- a cancel at every await -------------------------------------------------------------------------------------


def watched(decided, effects):
    """Return stages of which one opens a gate, and one acts, which notes if that was too early."""

    async def check(ctx):
        await asyncio.sleep(3)
        decided.append(1)

    async def acts(ctx):
        if not decided:
            effects.append("too early")
        decided.clear()
        await asyncio.sleep(1)

    return check, acts


def sweep(build, *, again=False):
    def make(probe: Probe):
        early: list[str] = []
        specs, options = build(*watched([], early))
        probe.expect_none("effects before the gate", lambda: len(early))
        return StageGraph(specs, [], **options).run(sink=probe.events)

    report = cancel_everywhere(make, name="effects", again=again)
    assert report.delivered > 5


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("most", [None, 1])
def test_a_held_stage_is_cancelled_anywhere(most, again):
    limit = ConcurrencyLimit(1)

    def build(check, acts):
        return [gate(check), act(acts), pure("other", after(2))], {"max_concurrency": most}

    sweep(build, again=again)
    assert limit.active == 0


@pytest.mark.parametrize("again", [False, True])
def test_a_stage_that_asks_is_cancelled_anywhere(again):
    limits = []

    def build(check, acts):
        limits.append(ConcurrencyLimit(1))

        async def asks(ctx):
            await asyncio.sleep(1)
            await ctx.gate()
            await acts(ctx)

        specs = [
            pure("ask", asks, limit=limits[-1], timeout=3),
            gate(check, limit=limits[-1]),
            pure("late", after(2), "gate", limit=limits[-1]),
        ]
        return specs, {}

    sweep(build, again=again)
    assert [limit.active for limit in limits] == [0] * len(limits)
    assert [limit.queued for limit in limits] == [0] * len(limits)


def test_tasks_of_a_stage_that_ask_are_cancelled_anywhere():
    limits = []

    def build(check, acts):
        limits.append(ConcurrencyLimit(2))

        async def asks(ctx):
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.gate())
                group.create_task(ctx.gate())
                group.create_task(asyncio.sleep(2))
            await acts(ctx)

        return [pure("ask", asks, limit=limits[-1]), gate(check, limit=limits[-1])], {}

    sweep(build)
    assert [limit.active for limit in limits] == [0] * len(limits)


def test_a_run_below_that_waits_is_cancelled_anywhere():
    def build(check, acts):
        async def asks(ctx):
            await ctx.gate()

        child = StageGraph([act(acts), gate(after(1), name="own"), pure("ask", asks)], [], name="child")
        return [pure("runs", Runs(child)), gate(check)], {}

    sweep(build)


@pytest.mark.asyncio
async def test_a_stage_in_a_thread_asks():
    """Its Task is on another event loop than the gate."""
    got, decided = [], []

    async def check(ctx):
        while not got:
            await asyncio.sleep(0)
        decided.append(True)

    async def asks(ctx):
        got.append("asks")
        await ctx.gate()
        got.append(bool(decided))

    async with ThreadExecutor() as executor:
        graph = StageGraph([pure("ask", asks, executor=executor), gate(check)], [])
        results = await graph.run()
    assert results["ask"].status == "ok"
    assert got == ["asks", True]


def test_a_typed_stage_asks(sink):
    """The way in which most will write it."""

    @stage(kind=GUARD, gates_effects=True)
    async def check(ctx: StageContext) -> bool:
        await asyncio.sleep(2)
        return True

    @stage(kind=WORK)
    async def send(ctx: StageContext) -> float:
        return now()

    @stage(gated=False, effect=Effect.IDEMPOTENT)
    async def note(ctx: StageContext) -> float:
        return now()

    results = run_virtual(Pipeline.from_stages(check, send, note).run(sink=sink))
    assert results.value(send) == 2
    assert results.value(note) == 0
