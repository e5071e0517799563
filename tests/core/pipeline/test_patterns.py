"""Chains, fans and branches, on a ``Pipeline`` and on a ``PipelineBuilder``."""

from __future__ import annotations

import asyncio

import pytest
from stageflow import Pipeline, StageKind, StageOutput
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.pipeline.builders import PipelineBuilder
from stageflow.pipeline.patterns import (
    with_conditional_branch,
    with_fan_out_fan_in,
    with_linear_chain,
    with_parallel_stages,
)

BUILDERS = [Pipeline, PipelineBuilder]


async def work(ctx):
    return {"by": ctx.stage_name}


def named(number):
    return f"s{number}", work


def router(*labels):
    async def route(ctx):
        return StageOutput.ok(route=labels[0] if len(labels) == 1 else list(labels))

    return "router", route


def dependencies(builder):
    return {name: tuple(spec.dependencies) for name, spec in builder.stages.items()}


def statuses(builder):
    results = asyncio.run(builder.build().run())
    return {name: output.status.value for name, output in results.items()}


@pytest.mark.parametrize("builder", BUILDERS)
def test_linear_chain(builder):
    start = builder("p").with_stage("a", work, kind=StageKind.WORK)
    chain = with_linear_chain(start, 3, named, first_depends_on=["a"])
    assert isinstance(chain, builder)
    assert dependencies(chain) == {"a": (), "s0": ("a",), "s1": ("s0",), "s2": ("s1",)}
    assert len(start.stages) == 1
    assert set(statuses(chain).values()) == {"ok"}


@pytest.mark.parametrize("builder", BUILDERS)
def test_parallel_stages(builder):
    start = builder("p").with_stage("a", work, kind=StageKind.WORK)
    assert dependencies(with_parallel_stages(start, 2, named, depends_on="a")) == {
        "a": (),
        "s0": ("a",),
        "s1": ("a",),
    }
    assert dependencies(with_parallel_stages(builder(), 1, named)) == {"s0": ()}


@pytest.mark.parametrize("builder", BUILDERS)
def test_fan_out_fan_in(builder):
    start = builder("p").with_stage("a", work, kind=StageKind.WORK)
    fan = with_fan_out_fan_in(start, ("out", work), 2, named, ("in", work), fan_out_depends_on=["a"])
    assert dependencies(fan) == {
        "a": (),
        "out": ("a",),
        "s0": ("out",),
        "s1": ("out",),
        "in": ("s0", "s1"),
    }
    assert set(statuses(fan).values()) == {"ok"}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize(
    ("chosen", "ran"),
    [(["a"], {"left"}), (["b"], {"right"}), (["a", "b"], {"left", "right"}), (["c"], set())],
    ids=["one", "other", "both", "neither"],
)
def test_finding_a1_19_the_router_selects(builder, chosen, ran):
    branches = {"a": ("left", work), "b": ("right", work)}
    pipeline = with_conditional_branch(builder("p"), router(*chosen), branches, ("merge", work))
    found = statuses(pipeline)
    assert {name for name in ("left", "right") if found[name] == "ok"} == ran
    assert found["merge"] == ("ok" if ran else "skip")
    assert found["router"] == "ok"


@pytest.mark.parametrize("builder", BUILDERS)
def test_branches_without_labels_are_chosen_by_name(builder):
    start = builder("p").with_stage("first", work, kind=StageKind.WORK)
    branches = [("left", work), ("right", work)]
    pipeline = with_conditional_branch(start, router("right"), branches, router_depends_on="first")
    assert dependencies(pipeline)["router"] == ("first",)
    assert statuses(pipeline) == {"first": "ok", "router": "ok", "left": "skip", "right": "ok"}


@pytest.mark.parametrize("label", ["a:b", "router:x", "router:router:x", ":", "café", "a.b"])
@pytest.mark.parametrize("name", ["router", "ns:router", "a"])
def test_labels_and_routers_may_have_any_name(label, name):
    _, route = router(label)
    pipeline = with_conditional_branch(
        Pipeline(), (name, route), {label: ("yes", work), "other": ("no", work)}
    )
    assert statuses(pipeline) == {name: "ok", "yes": "ok", "no": "skip"}


def test_kinds_are_read_off_the_runners_and_a_router_is_a_router():
    class Check:
        kind = StageKind.GUARD

        async def execute(self, ctx):
            return {}

    pipeline = with_parallel_stages(Pipeline(), 1, lambda number: ("check", Check))
    pipeline = with_conditional_branch(pipeline, ("r", Check), [("w", work)])
    assert [spec.kind for spec in pipeline.specs] == [StageKind.GUARD, StageKind.ROUTE, StageKind.TRANSFORM]


@pytest.mark.parametrize("pattern", [with_linear_chain, with_parallel_stages])
@pytest.mark.parametrize(
    ("count", "factory", "error"),
    [
        (0, named, ArgumentValueError),
        (-1, named, ArgumentValueError),
        (1.5, named, ArgumentTypeError),
        (True, named, ArgumentTypeError),
        (1, None, ArgumentTypeError),
        (1, lambda number: "ab", ArgumentTypeError),
        (1, lambda number: ("a", work, 3), ArgumentTypeError),
        (1, lambda number: (number, work), ArgumentTypeError),
        (1, lambda number: None, ArgumentTypeError),
    ],
    ids=["zero", "negative", "float", "bool", "no-factory", "text", "triple", "number", "none"],
)
def test_bad_counts_and_factories(pattern, count, factory, error):
    with pytest.raises(error) as caught:
        pattern(Pipeline(), count, factory)
    assert caught.value.owner == pattern.__name__


def test_bad_fans_and_branches():
    with pytest.raises(ArgumentTypeError):
        with_fan_out_fan_in(Pipeline(), "out", 1, named, ("in", work))
    with pytest.raises(ArgumentTypeError):
        with_conditional_branch(Pipeline(), "router", [("a", work)])
    with pytest.raises(ArgumentTypeError):
        with_conditional_branch(Pipeline(), router("a"), {"a": work})
    for nothing in ({}, []):
        with pytest.raises(ArgumentValueError):
            with_conditional_branch(Pipeline(), router("a"), nothing)
