"""Random graphs with random outcomes, compared with a small model of the rules.

The model is written from DESIGN section 4 and ``docs/explanation/outcomes.md``, not from the kernel. Where the order in
which ready stages happen to run decides what becomes of the others (a failure in FAIL_FAST, a stage that cancels), the
invariants are checked instead of equality.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow import (
    CancellationToken,
    FailureMode,
    PipelineCancelled,
    RetryPolicy,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# What `make test` does in seconds, `make test-deep` does a hundred times over.
EXAMPLES = 200 if settings().max_examples <= 100 else 20 * settings().max_examples


class Does(StrEnum):
    """What a stage does when it is started."""

    OK = "ok"
    SKIP = "skip"
    FAIL = "fail"
    RAISE = "raise"
    WRONG = "return something that is no output"
    CANCELLED_ERROR = "raise CancelledError"
    RETRY_THEN_OK = "retry, then ok"
    ERROR_THEN_OK = "connection error, then ok"
    RETRY_THEN_SKIP = "retry, then skip"
    EXHAUST = "retry until attempts are used up"
    CANCEL = "cancel the run"
    HANG = "hang until cancelled"
    HANG_THEN_OK = "hang until cancelled, swallow that, return ok"
    HANG_THEN_RAISE = "hang until cancelled, raise something else"
    CANCEL_ITSELF = "cancel its own Task, swallow that, return ok"


FAILING = {Does.FAIL, Does.RAISE, Does.WRONG, Does.CANCELLED_ERROR, Does.EXHAUST}
HANGING = {Does.HANG, Does.HANG_THEN_OK, Does.HANG_THEN_RAISE}
WEIGHTED = [Does.OK] * 12 + [one for one in Does for _ in range(1)]


@dataclass(frozen=True)
class Plan:
    """One stage of a random graph."""

    name: str
    dependencies: tuple[str, ...]
    does: Does
    suspensions: int
    conditional: bool
    when: str | None  # None, "yes", "no", "raises"


@st.composite
def plans(draw: st.DrawFn, *, most: int = 60) -> list[Plan]:
    count = draw(st.integers(1, most))
    calm = draw(st.booleans())  # else deep graphs hardly ever get anywhere
    menu = [one for one in WEIGHTED if one is not Does.CANCEL and one not in HANGING] if calm else WEIGHTED
    made: list[Plan] = []
    for number in range(count):
        known = [plan.name for plan in made]
        dependencies = draw(st.lists(st.sampled_from(known), max_size=4, unique=True)) if known else []
        made.append(
            Plan(
                f"s{number}",
                tuple(dependencies),
                draw(st.sampled_from(menu)),
                draw(st.sampled_from((0, 0, 0, 1, 2, 3))),
                draw(st.sampled_from((False, False, False, True))),
                draw(st.sampled_from((None,) * 6 + ("yes", "no", "raises" if not calm else "no"))),
            )
        )
    return draw(st.permutations(made)) if count <= 8 else made


# --- the model -------------------------------------------------------------------------------------------------


def expect(made: list[Plan]) -> dict[str, str]:
    """Say how each stage ends in a run that nothing stops: its status, the rule that kept it, or why it hangs.

    ``"ok" "skip" "fail" "cancel"`` are ends of stages that ran; ``"not: <rule>"`` of those that were kept;
    ``"hang"`` and ``"behind a hang"`` of those that never end by themselves.
    """
    by_name = {plan.name: plan for plan in made}
    end: dict[str, str] = {}
    for plan in ordered(made):
        name = plan.name
        end[name] = _end(plan, end)
    assert by_name.keys() == end.keys()
    return end


def ordered(made: list[Plan]) -> list[Plan]:
    return sorted(made, key=lambda plan: int(plan.name[1:]))  # every dependency has a smaller number


def _end(plan: Plan, end: Mapping[str, str]) -> str:
    before = [end[one] for one in plan.dependencies]
    if any(one in {"hang", "behind a hang", "cancel", "behind a cancel"} for one in before):
        return "behind a hang" if not any("cancel" in one for one in before) else "behind a cancel"
    if any(one in {"fail", "not: dependency_failed"} for one in before):
        return "not: dependency_failed"
    kept = [end[one].startswith("not: ") for one in plan.dependencies]
    if kept and all(kept):
        return "not: branch_not_taken"
    if plan.conditional and any(one == "skip" or one.startswith("not: ") for one in before):
        return "not: dependency_skipped"
    if plan.when == "no":
        return "not: condition_false"
    if plan.when == "raises" or plan.does in FAILING:
        return "fail"
    if plan.does in HANGING:
        return "hang"
    return {Does.SKIP: "skip", Does.RETRY_THEN_SKIP: "skip", Does.CANCEL: "cancel"}.get(plan.does, "ok")


# --- the same in the kernel -----------------------------------------------------------------------------------------


def body_of(plan: Plan, started: list[str]) -> Any:
    async def body(ctx: Any) -> Any:
        if ctx.attempt == 1:
            started.append(plan.name)
        for _ in range(plan.suspensions):
            await asyncio.sleep(0)
        return await do(plan, ctx)

    return body


async def do(plan: Plan, ctx: Any) -> Any:
    match plan.does:
        case Does.SKIP:
            return StageOutput.skip("own wish")
        case Does.FAIL:
            return StageOutput.fail("own wish")
        case Does.RAISE:
            raise ValueError(plan.name)
        case Does.WRONG:
            return 42
        case Does.CANCELLED_ERROR:
            raise asyncio.CancelledError
        case Does.RETRY_THEN_OK | Does.RETRY_THEN_SKIP if ctx.attempt < 3:
            return StageOutput.retry("again")
        case Does.RETRY_THEN_SKIP:
            return StageOutput.skip("own wish")
        case Does.ERROR_THEN_OK if ctx.attempt < 3:
            raise ConnectionError(plan.name)
        case Does.EXHAUST:
            return StageOutput.retry("for ever")
        case Does.CANCEL:
            return StageOutput.cancel(plan.name)
        case Does.HANG | Does.HANG_THEN_OK | Does.HANG_THEN_RAISE:
            await hang(plan)
        case Does.CANCEL_ITSELF:
            asyncio.current_task().cancel()
            if plan.suspensions:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
        case _:
            pass
    return {"name": plan.name}


async def hang(plan: Plan) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        if plan.does is Does.HANG_THEN_RAISE:
            raise ValueError(plan.name) from None
        if plan.does is Does.HANG:
            raise


def condition(plan: Plan) -> Any:
    def ask(inputs: Any) -> bool:
        assert set(inputs.prior_outputs) == set(plan.dependencies)
        if plan.when == "raises":
            raise KeyError(plan.name)
        return plan.when == "yes"

    return None if plan.when is None else ask


def graph_of(made: list[Plan], mode: FailureMode, started: list[str]) -> StageGraph:
    policy = RetryPolicy(3, base_delay=0, jitter=False)
    specs = [
        StageSpec(
            plan.name,
            body_of(plan, started),
            StageKind.WORK,
            plan.dependencies,
            plan.conditional,
            when=condition(plan),
            retry=policy,
        )
        for plan in made
    ]
    return StageGraph(specs, [], failure_mode=mode)


def turns_enough(made: list[Plan]) -> int:
    """Bound the turns of the event loop that all stages together may need one after another."""
    return 20 + sum(3 * (plan.suspensions + 4) for plan in made)


async def run(
    made: list[Plan], mode: FailureMode, sink: Any, stop_after: int | None
) -> tuple[Any, list[str]]:
    started: list[str] = []
    token = CancellationToken()
    task = asyncio.create_task(
        graph_of(made, mode, started).run(sink=sink, cancel_token=token, raise_errors=False)
    )
    turn = 0
    while not task.done() and (stop_after is None or turn < stop_after):
        await asyncio.sleep(0)
        turn += 1
    token.cancel("by the test")
    done, _ = await asyncio.wait([task], timeout=5)
    assert done, f"the run does not end: {sink.types[-5:]}"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return task.result(), started


def assert_invariants(made: list[Plan], results: Any, sink: Any, started: list[str]) -> None:
    """What holds however a run ends."""
    end = expect(made)
    sink.assert_sound(end)
    assert list(results) == [plan.name for plan in made if plan.name in results]
    positions: dict[str, int] = {}
    first: dict[str, int] = {}
    for at, (_, data) in enumerate(sink.events):
        if data.get("stage"):
            positions[data["stage"]] = at
            first.setdefault(data["stage"], at)
    for plan in made:
        words = sink.of(plan.name)
        assert (words[0] == "started") == (
            plan.name in started or (plan.when == "raises" and words[-1] == "failed")
        )
        if plan.name in results:
            assert all(one in results for one in plan.dependencies), (
                f"{plan.name} settled before its dependencies"
            )
            assert all(positions[one] < first[plan.name] for one in plan.dependencies)
            status = str(results[plan.name].status)
            stopped = {"hang": {"ok", "fail"}}.get(end[plan.name])
            reason = results[plan.name].data.get("reason")
            actual = f"not: {reason}" if words == ["skipped"] else status
            assert actual in stopped if stopped else actual == end[plan.name], plan
            assert (
                words[-1]
                == {"ok": "completed", "skip": "skipped", "fail": "failed", "cancel": "cancelled"}[status]
            )
        elif words == ["skipped"]:
            assert sink.data(f"stage.{plan.name}.skipped")["reason"] == "run_stopped"
        else:
            assert words[-1] == "cancelled"
    assert len(started) == len(set(started))
    if results.error is not None:
        assert results.error.results == results
        assert results.error.results is results


def assert_equal_to_model(made: list[Plan], mode: FailureMode, results: Any) -> None:
    """In a run whose end does not depend on luck, exactly the model's outcomes."""
    end = expect(made)
    does = {plan.name: plan.does for plan in made}
    expected = {}
    for name, how in end.items():
        if how == "hang":
            if does[name] is Does.HANG_THEN_OK:
                expected[name] = "ok"
            elif does[name] is Does.HANG_THEN_RAISE:
                expected[name] = "fail"
        elif how != "behind a hang":
            expected[name] = how
    actual = {
        name: f"not: {output.data['reason']}"
        if output.status == "skip" and output.data["reason"] != "own wish"
        else str(output.status)
        for name, output in results.items()
    }
    assert actual == expected
    if "hang" in end.values():
        assert isinstance(results.error, PipelineCancelled), results.error
        assert results.error.reason == "by the test"
    elif "fail" in end.values():
        assert isinstance(results.error, StageExecutionError)
        assert end[results.error.stage] == "fail"
    else:
        assert results.error is None


@settings(max_examples=EXAMPLES)
@given(made=plans(), mode=st.sampled_from(FailureMode), data=st.data())
@pytest.mark.timeout(3600 if EXAMPLES > 200 else 60)
def test_random_graphs(new_sink, made: list[Plan], mode: FailureMode, data: st.DataObject):
    end = expect(made)
    by_luck = "cancel" in end.values() or (mode is FailureMode.FAIL_FAST and "fail" in end.values())
    sink = new_sink()
    results, started = asyncio.run(run(made, mode, sink, turns_enough(made)))
    assert_invariants(made, results, sink, started)
    if not by_luck:
        assert_equal_to_model(made, mode, results)
    elif "hang" not in end.values() or not isinstance(results.error, PipelineCancelled):
        assert results.error is not None
        assert end[results.error.stage] in {"fail", "cancel"}


@settings(max_examples=EXAMPLES)
@given(made=plans(most=20), mode=st.sampled_from(FailureMode), turn=st.integers(0, 40))
@pytest.mark.timeout(3600 if EXAMPLES > 200 else 60)
def test_random_graphs_that_are_cancelled_at_a_random_turn(
    new_sink, made: list[Plan], mode: FailureMode, turn: int
):
    sink = new_sink()
    results, started = asyncio.run(run(made, mode, sink, turn))
    assert_invariants(made, results, sink, started)


@settings(max_examples=EXAMPLES)
@given(made=plans(most=30))
@pytest.mark.timeout(3600 if EXAMPLES > 200 else 60)
def test_a_run_is_repeatable(new_sink, made: list[Plan]):
    """Two runs of one graph, at once and after each other, do not see each other."""
    calm = [
        Plan(
            p.name,
            p.dependencies,
            Does.OK if p.does in HANGING or p.does is Does.CANCEL else p.does,
            p.suspensions,
            p.conditional,
            p.when,
        )
        for p in made
    ]
    graph = graph_of(calm, FailureMode.BEST_EFFORT, [])

    async def main() -> list[Any]:
        first = await graph.run(raise_errors=False)
        return [first, *await asyncio.gather(*(graph.run(raise_errors=False) for _ in range(3)))]

    shapes = [
        {name: (output.status, output.data) for name, output in results.items()}
        for results in asyncio.run(main())
    ]
    assert all(shape == shapes[0] for shape in shapes)
    assert len(shapes[0]) == len(calm)


# --- the model itself ------------------------------------------------------------------------------------------------


def plan(
    name: str, *dependencies: str, does: Does = Does.OK, conditional: bool = False, when: str | None = None
) -> Plan:
    return Plan(name, dependencies, does, 0, conditional, when)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            [plan("s0", does=Does.SKIP), plan("s1", "s0"), plan("s2", "s0", conditional=True)],
            "skip ok not: dependency_skipped",
        ),
        (
            [plan("s0", when="no"), plan("s1", "s0"), plan("s2", "s1")],
            "not: condition_false not: branch_not_taken not: branch_not_taken",
        ),
        (
            [plan("s0", when="no"), plan("s1", when="yes"), plan("s2", "s0", "s1")],
            "not: condition_false ok ok",
        ),
        (
            [plan("s0", does=Does.FAIL), plan("s1", "s0"), plan("s2", "s1")],
            "fail not: dependency_failed not: dependency_failed",
        ),
        ([plan("s0", does=Does.HANG), plan("s1", "s0")], "hang behind a hang"),
        ([plan("s0", when="raises"), plan("s1")], "fail ok"),
    ],
    ids=["skip", "branch", "join", "failure", "hang", "condition"],
)
def test_the_model(made, expected):
    assert " ".join(expect(made).values()) == expected
