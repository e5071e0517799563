"""ROUTE stages and ``route=``: which branch is taken (rules 2 and 5 of docs/explanation/outcomes.md)."""

from __future__ import annotations

import asyncio
from enum import Enum, StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow import (
    FailureMode,
    Pipeline,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    stage,
)
from stageflow.errors import PipelineValidationError, StageContractError

K, ROUTE = StageKind.WORK, StageKind.ROUTE


class Way(StrEnum):
    LEFT = "left"
    RIGHT = "right"


class Turn(Enum):
    LEFT = "left"


def returns(value):
    async def body(ctx):
        return value

    return body


def chooses(choice):
    return returns(StageOutput.ok(route=choice))


async def ok(ctx):
    return {"ran": ctx.stage_name}


def shape(results) -> dict[str, str]:
    return {
        name: "ok" if output.status == "ok" else output.data.get("reason", str(output.status))
        for name, output in results.items()
    }


def fork(router, left="left", right="right"):
    return (
        Pipeline()
        .with_stage("router", router, ROUTE)
        .with_stage("left", ok, K, ["router"], route=left)
        .with_stage("right", ok, K, ["router"], route=right)
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        ("left", {"left"}),
        ("right", {"right"}),
        ("nowhere", set()),
        ("", set()),
        (["left"], {"left"}),
        (["left", "right"], {"left", "right"}),
        (("right", "nowhere"), {"right"}),
        ({"left"}, {"left"}),
        (frozenset({"right"}), {"right"}),
        ([], set()),
        (Way.LEFT, {"left"}),
        ([Way.LEFT, Way.RIGHT], {"left", "right"}),
        ([1, None, "left"], {"left"}),
    ],
    ids=[
        "left",
        "right",
        "unknown",
        "empty",
        "list",
        "both",
        "tuple",
        "set",
        "frozenset",
        "no label",
        "enum",
        "enums",
        "mixed",
    ],
)
async def test_stages_run_whose_label_was_chosen(choice, taken, sink):
    results = await fork(chooses(choice)).run(sink=sink)
    for name in ("left", "right"):
        assert shape(results)[name] == ("ok" if name in taken else "route_not_taken")
        assert sink.of(name) == (["started", "completed"] if name in taken else ["skipped"])
        if name not in taken:
            assert sink.data(f"stage.{name}.skipped")["reason"] == "route_not_taken"
    assert results.error is None
    sink.assert_paired(stages=["router", "left", "right"], end="completed")


@pytest.mark.asyncio
async def test_a_stage_may_have_several_labels_and_a_typed_router_names_one():
    @stage(kind=ROUTE)
    async def router(ctx) -> str:
        return ctx.input_text

    @stage(after=[router], route=["a", "b"])
    async def ab() -> str:
        return "ab"

    @stage(after=[router], route="c")
    async def c() -> str:
        return "c"

    pipeline = Pipeline.from_stages(router, ab, c)
    for choice, expected in (("a", "ab"), ("b", "ab"), ("c", "c")):
        results = await pipeline.run(input_text=choice)
        assert results.value(expected) == expected
        assert [output.status for output in results.values()].count("skip") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "output",
    [
        None,
        {"other": 1},
        StageOutput.ok(route=None),
        StageOutput.ok(route=3),
        StageOutput.ok(route=Turn.LEFT),
        StageOutput.ok(route={"left": 1}),
        StageOutput.ok(route=b"left"),
        StageOutput.ok(route=True),
    ],
    ids=["nothing", "no route", "None", "int", "Enum", "dict", "bytes", "bool"],
)
async def test_a_router_that_names_no_route_fails_who_waits_for_it(output, sink):
    graph = fork(returns(output)).build(failure_mode=FailureMode.BEST_EFFORT)
    results = await graph.run(sink=sink)
    assert shape(results) == {"router": "ok", "left": "fail", "right": "fail"}
    assert isinstance(results.error.original, StageContractError)
    assert "router" in str(results.error)
    assert sink.of("left") == ["started", "failed"]
    sink.assert_paired(stages=["router", "left", "right"], end="completed")
    with pytest.raises(StageExecutionError):
        await fork(returns(output)).run()


@pytest.mark.asyncio
async def test_what_is_behind_a_route_is_skipped_and_a_join_runs():
    async def joins(ctx):
        return {"from": [name for name in ("l2", "r2") if ctx.inputs.get_output(name).status == "ok"]}

    pipeline = (
        fork(chooses("left"))
        .with_stage("l2", ok, K, ["left"])
        .with_stage("r2", ok, K, ["right"])
        .with_stage("join", joins, K, ["l2", "r2"])
        .with_stage("both", ok, K, ["r2", "router"])
    )
    results = await pipeline.run()
    assert shape(results) == {
        "router": "ok",
        "left": "ok",
        "right": "route_not_taken",
        "l2": "ok",
        "r2": "branch_not_taken",
        "join": "ok",
        "both": "ok",  # the router ran
    }
    assert results["join"].data == {"from": ["l2"]}


@pytest.mark.asyncio
async def test_a_join_of_nothing_is_skipped():
    results = await fork(chooses("elsewhere")).with_stage("join", ok, K, ["left", "right"]).run()
    assert shape(results)["join"] == "branch_not_taken"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("router", "when", "expected"),
    [
        (returns(StageOutput.skip("no idea")), None, "route_not_taken"),
        (returns(StageOutput.fail("broken")), None, "dependency_failed"),
        (chooses("left"), lambda _: False, "branch_not_taken"),
    ],
    ids=["skips", "fails", "is not started"],
)
async def test_a_router_that_chose_nothing(router, when, expected):
    graph = (
        Pipeline()
        .with_stage("router", router, ROUTE, when=when)
        .with_stage("left", ok, K, ["router"], route="left")
        .build(failure_mode=FailureMode.BEST_EFFORT)
    )
    assert shape(await graph.run())["left"] == expected


@pytest.mark.asyncio
async def test_a_condition_is_asked_only_on_the_route_that_was_taken():
    asked = []

    def when(inputs):
        asked.append(inputs.stage_name)
        return inputs.get_from("router", "route") == "right"

    pipeline = Pipeline().with_stage("router", chooses("left"), ROUTE)
    for name in ("left", "right"):
        pipeline = pipeline.with_stage(name, ok, K, ["router"], route=name, when=when)
    assert shape(await pipeline.run()) == {
        "router": "ok",
        "left": "condition_false",
        "right": "route_not_taken",
    }
    assert asked == ["left"]


@pytest.mark.asyncio
async def test_with_two_routers_the_label_says_whose_it_is():
    async def chooses_a(ctx):
        return StageOutput.ok(route="x")

    async def chooses_b(ctx):
        return StageOutput.ok(route="y")

    pipeline = Pipeline().with_stage("a", chooses_a, ROUTE).with_stage("b", chooses_b, ROUTE)
    for name, route in {
        "a is x": "a:x",
        "a is y": "a:y",
        "b is y": "b:y",
        "b is x or y": ["b:x", "b:y"],
    }.items():
        pipeline = pipeline.with_stage(name, ok, K, ["a", "b"], route=route)
    assert shape(await pipeline.run()) == {
        "a": "ok",
        "b": "ok",
        "a is x": "ok",
        "a is y": "route_not_taken",
        "b is y": "ok",
        "b is x or y": "ok",
    }


@pytest.mark.asyncio
async def test_with_one_router_its_name_may_be_left_out_and_labels_may_have_colons():
    results = await fork(chooses("http:post"), left="router:http:post", right="http:post").run()
    assert shape(results) == {"router": "ok", "left": "ok", "right": "ok"}


@pytest.mark.asyncio
async def test_a_router_behind_a_router():
    pipeline = (
        fork(chooses("left"))
        .with_stage("second", chooses("up"), ROUTE, ["left"])
        .with_stage("up", ok, K, ["second"], route="up")
        .with_stage("down", ok, K, ["second"], route="down")
        .with_stage("other", chooses("up"), ROUTE, ["right"])
        .with_stage("other up", ok, K, ["other"], route="up")
    )
    assert shape(await pipeline.run()) == {
        "router": "ok",
        "left": "ok",
        "right": "route_not_taken",
        "second": "ok",
        "up": "ok",
        "down": "route_not_taken",
        "other": "branch_not_taken",
        "other up": "branch_not_taken",
    }


@pytest.mark.asyncio
async def test_who_waits_for_a_router_without_a_route_of_its_own_runs_in_any_case():
    results = await fork(chooses("elsewhere")).with_stage("always", ok, K, ["router"]).run()
    assert shape(results)["always"] == "ok"


@pytest.mark.parametrize("route", [[], (), None], ids=["list", "tuple", "none"])
def test_no_label_is_no_route(route):
    spec = StageSpec("a", ok, K) if route is None else StageSpec("a", ok, K, route=route)
    assert spec.route == ()
    StageGraph([spec])


def build_error(pipeline):
    with pytest.raises(PipelineValidationError) as caught:
        pipeline.build()
    return [(problem.code, problem.stages) for problem in caught.value.problems], str(caught.value)


@pytest.mark.parametrize(
    "dependencies", [[], ["work"], ["behind"]], ids=["none", "no router", "not directly"]
)
def test_a_route_without_a_router_is_an_error_at_build(dependencies):
    pipeline = (
        Pipeline()
        .with_stage("router", ok, ROUTE)
        .with_stage("work", ok, K)
        .with_stage("behind", ok, K, ["router"])
        .with_stage("a", ok, K, dependencies, route="x")
    )
    problems, text = build_error(pipeline)
    assert problems == [("SF-BUILD-ROUTE", ("a",))]
    assert "depends on no ROUTE stage" in text


@pytest.mark.parametrize(
    "route",
    ["x", ["one:x", "y"], ["one:x", "two:y"], "three:x"],
    ids=["bare", "one of two", "both", "unknown"],
)
def test_a_route_of_more_than_one_router_is_an_error_at_build(route):
    pipeline = (
        Pipeline()
        .with_stage("one", ok, ROUTE)
        .with_stage("two", ok, ROUTE)
        .with_stage("a", ok, K, ["one", "two"], route=route)
    )
    problems, text = build_error(pipeline)
    assert problems == [("SF-BUILD-ROUTE", ("a",))]
    assert "one" in text


@pytest.mark.parametrize(
    "route", [3, [None], [b"x"], {"x": 1}.values()], ids=["int", "none", "bytes", "numbers"]
)
def test_labels_are_texts(route):
    with pytest.raises((PipelineValidationError, TypeError)) as caught:
        Pipeline().with_stage("r", ok, ROUTE).with_stage("a", ok, K, ["r"], route=route).build()
    assert getattr(caught.value, "code", "").startswith("SF-"), caught.value


# --- random trees of routers -------------------------------------------------------------------------------------


@settings(max_examples=settings().max_examples * 4)
@given(
    stages=st.lists(
        st.tuples(
            st.booleans(),  # whether it is a router
            st.lists(st.integers(0, 5), max_size=3),  # how far back its dependencies are
            st.sampled_from(["x", "y", ["x", "y"], "z"]),  # what it chooses if it is one
            st.sampled_from([None, None, "x", "y"]),  # the label that its first router has to choose
        ),
        min_size=1,
        max_size=12,
    )
)
def test_random_routes(stages):
    specs: list[StageSpec] = []
    expected: dict[str, str] = {}
    chosen: dict[str, object] = {}
    for index, (is_router, backs, choice, label) in enumerate(stages):
        name = f"s{index}"
        dependencies = list(dict.fromkeys(f"s{index - 1 - back}" for back in backs if back < index))
        router = next((one for one in dependencies if one in chosen), None)
        wanted = label if router is not None else None
        specs.append(
            StageSpec(
                name,
                chooses(choice) if is_router else ok,
                ROUTE if is_router else K,
                dependencies,
                route=() if wanted is None else f"{router}:{wanted}",
            )
        )
        if dependencies and all(expected[one] != "ok" for one in dependencies):
            expected[name] = "branch_not_taken"
        elif wanted is not None and (expected[router] != "ok" or wanted not in chosen[router]):
            expected[name] = "route_not_taken"
        else:
            expected[name] = "ok"
        if is_router:
            chosen[name] = choice
    results = asyncio.run(StageGraph(specs, []).run())
    assert shape(results) == expected
