"""Random pipelines of typed functions that are made at run time, compared with a model of values and skips.

The model is written from docs/explanation/outcomes.md and the docstrings of ``stage`` and ``use``, not from the kernel.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from stageflow import FailureMode, Pipeline, RetryPolicy, StageContext, StageKind, StageOutput, stage, use
from stageflow.errors import MissingInputError, PipelineValidationError
from stageflow.testing import EventRecorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from stageflow import StageDef


@dataclass(frozen=True)
class Point:
    x: int
    label: str = "p"


class Model(BaseModel):
    total: int
    parts: list[int] = []


class Does(StrEnum):
    VALUE = "return a value"
    DATA = "return an output with the value as data"
    SKIP = "skip"
    FAIL = "fail"
    RAISE = "raise"
    RETRY = "retry, then return a value"
    WRONG = "return a value of another type"


MAKE: dict[Any, Callable[[int], Any]] = {
    int: lambda number: number,
    str: lambda number: f"text {number}",
    bool: lambda number: number % 2 == 0,
    list[int]: lambda number: [number, number + 1],
    dict[str, int]: lambda number: {"n": number},
    tuple[int, str]: lambda number: (number, "t"),
    Point: lambda number: Point(number, f"l{number}"),
    Model: lambda number: Model(total=number, parts=[number]),
    int | None: lambda number: None if number % 3 == 0 else number,
}
KINDS = list(MAKE)
WEIGHTED = [Does.VALUE] * 8 + list(Does)
DEFAULT = -1


@dataclass(frozen=True)
class Uses:
    """One parameter: which stage's value, and whether there is a default."""

    name: str
    default: bool


@dataclass(frozen=True)
class Plan:
    name: str
    kind: int  # of the value, as an index
    does: Does
    uses: tuple[Uses, ...]
    after: tuple[str, ...]
    wants_context: bool
    conditional: bool
    when: bool | None
    suspends: bool


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    made: list[Plan] = []
    for number in range(draw(st.integers(1, 14))):
        known = [plan.name for plan in made]
        names = draw(st.lists(st.sampled_from(known), max_size=3, unique=True)) if known else []
        after = draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else []
        made.append(
            Plan(
                f"s{number}",
                draw(st.integers(0, len(KINDS) - 1)),
                draw(st.sampled_from(WEIGHTED)),
                tuple(Uses(name, draw(st.booleans())) for name in names),
                tuple(after),
                draw(st.booleans()),
                draw(st.sampled_from((False, False, False, True))),
                draw(st.sampled_from((None, None, None, None, True, False))),
                draw(st.booleans()),
            )
        )
    return made


# --- the model -------------------------------------------------------------------------------------------------


def expect(made: list[Plan]) -> tuple[dict[str, str], dict[str, int]]:
    """Say how each stage ends, and which number its value is made of: its own, and those of what it uses."""
    end: dict[str, str] = {}
    number: dict[str, int] = {}
    for index, plan in enumerate(made):
        end[plan.name] = _end(plan, end)
        if end[plan.name] == "ok":
            used = (number.get(one.name, DEFAULT) for one in plan.uses)
            number[plan.name] = index + 1 + sum(used)
    return end, number


def _end(plan: Plan, end: dict[str, str]) -> str:
    dependencies = [*(one.name for one in plan.uses), *plan.after]
    before = {name: end[name] for name in dependencies}
    if any(one in {"fail", "not: dependency_failed"} for one in before.values()):
        return "not: dependency_failed"
    defaulted = {one.name for one in plan.uses if one.default}
    counted = [how for name, how in before.items() if name not in defaulted]
    if counted and all(how.startswith("not: ") for how in counted):
        return "not: branch_not_taken"
    if plan.conditional and any(how != "ok" for how in before.values()):
        return "not: dependency_skipped"
    if any(end[one.name] != "ok" for one in plan.uses if not one.default):
        return "not: value_missing"
    if plan.when is False:
        return "not: condition_false"
    return {Does.SKIP: "skip", Does.FAIL: "fail", Does.RAISE: "fail", Does.WRONG: "fail"}.get(plan.does, "ok")


# --- the same in the kernel --------------------------------------------------------------------------------------


def data_of(value: Any) -> dict[str, Any]:
    """Return a value in the form in which other stages, events and stores see it."""
    if isinstance(value, Point):
        return {"x": value.x, "label": value.label}
    if isinstance(value, Model):
        return value.model_dump()
    return value if isinstance(value, dict) else {"value": value}


def function_of(
    plan: Plan, index: int, known: dict[str, StageDef[Any]], kinds: dict[str, Any], received: dict[str, Any]
) -> StageDef[Any]:
    """Make an async function with a signature of its own, as if it had been written so."""
    annotation = KINDS[plan.kind]

    async def body(*arguments: Any, **values: Any) -> Any:
        ctx = arguments[0] if arguments else values.pop("ctx", None)
        attempt = 1 if ctx is None else ctx.attempt
        received[plan.name] = dict(values)
        if plan.suspends:
            await asyncio.sleep(0)
        given = zip(plan.uses, values.values(), strict=True)
        total = index + 1 + sum(DEFAULT if value == "default" else seen[one.name] for one, value in given)
        seen[plan.name] = total
        match plan.does:
            case Does.SKIP:
                return StageOutput.skip("own wish")
            case Does.FAIL:
                return StageOutput.fail("own wish")
            case Does.RAISE:
                raise ValueError(plan.name)
            case Does.RETRY if attempt < 2 and ctx is not None:
                return StageOutput.retry("again")
            case Does.WRONG:
                return object()
            case Does.DATA:
                return StageOutput.ok(data_of(MAKE[annotation](total)))
            case _:
                return MAKE[annotation](total)

    seen: dict[str, int] = received.setdefault("", {})
    parameters = [
        inspect.Parameter(
            f"v{at}",
            inspect.Parameter.KEYWORD_ONLY,
            default=use(known[one.name], default="default") if one.default else use(known[one.name]),
        )
        for at, one in enumerate(plan.uses)
    ]
    annotations: dict[str, Any] = {
        f"v{at}": kinds[one.name] | str if one.default else kinds[one.name]
        for at, one in enumerate(plan.uses)
    }
    if plan.wants_context:
        parameters.insert(0, inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD))
        annotations["ctx"] = StageContext
    body.__signature__ = inspect.Signature(parameters)
    body.__annotations__ = {**annotations, "return": annotation}
    body.__name__ = plan.name
    when = None if plan.when is None else lambda inputs: plan.when
    return stage(
        kind=StageKind.TRANSFORM,
        when=when,
        conditional=plan.conditional,
        after=plan.after,
        retry=RetryPolicy(2, base_delay=0, jitter=False),
    )(body)


def pipeline_of(made: list[Plan], received: dict[str, Any]) -> tuple[Pipeline, dict[str, StageDef[Any]]]:
    known: dict[str, StageDef[Any]] = {}
    kinds = {plan.name: KINDS[plan.kind] for plan in made}
    for index, plan in enumerate(made):
        known[plan.name] = function_of(plan, index, known, kinds, received)
    return Pipeline.from_stages(*known.values()), known


@settings(max_examples=settings().max_examples * 5)
@given(made=plans())
@pytest.mark.timeout(600)
def test_random_typed_pipelines(made: list[Plan]):
    received: dict[str, Any] = {}
    pipeline, known = pipeline_of(made, received)
    sink = EventRecorder()
    graph = pipeline.build(failure_mode=FailureMode.BEST_EFFORT)
    results = asyncio.run(graph.run(sink=sink))
    end, number = expect(made)
    sink.assert_paired(stages=end, end="completed")
    actual = {
        name: f"not: {output.data['reason']}" if sink.of(name) == ["skipped"] else str(output.status)
        for name, output in results.items()
    }
    assert actual == end
    for plan in made:
        if end[plan.name] != "ok":
            with pytest.raises(MissingInputError):
                results.value(known[plan.name])
            continue
        value = results.value(known[plan.name])
        expected = MAKE[KINDS[plan.kind]](number[plan.name])
        assert value == expected
        assert type(value) is type(expected) or isinstance(value, type(expected))
        for at, one in enumerate(plan.uses):
            got = received[plan.name][f"v{at}"]
            if end[one.name] == "ok":
                assert got == results.value(known[one.name])
            else:
                assert one.default
                assert got == "default"
    assert (results.error is not None) == ("fail" in end.values())


@settings(max_examples=settings().max_examples * 2)
@given(made=plans(), data=st.data())
def test_one_wrong_annotation_anywhere_is_found_at_build(made: list[Plan], data: st.DataObject):
    """Swap the annotation of one parameter for a class that nobody returns."""
    received: dict[str, Any] = {}
    pipeline, known = pipeline_of(made, received)
    using = [plan for plan in made if plan.uses]
    if not using:
        pipeline.build()
        return

    class Nobodys:
        pass

    plan = data.draw(st.sampled_from(using))
    at = data.draw(st.integers(0, len(plan.uses) - 1))
    known[plan.name].hints()[f"v{at}"] = Nobodys
    with pytest.raises(PipelineValidationError) as caught:
        pipeline.build()
    assert {problem.code for problem in caught.value.problems} == {"SF-BUILD-TYPE"}
    assert {problem.stages[0] for problem in caught.value.problems} == {plan.name}
