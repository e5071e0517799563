"""``PipelineBuilder`` checks every step, and its graphs run (finding A1.23)."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys

import pytest
from stageflow import Pipeline, StageGraph, StageKind, StageOutput, StageStatus
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import CycleDetectedError, PipelineValidationError
from stageflow.pipeline.builders import PipelineBuilder, PipelineSpec, kind_of
from stageflow.pipeline.fluent import FluentPipelineBuilder


async def work(ctx):
    return {"by": ctx.stage_name}


class Greet:
    name = "greet"
    kind = StageKind.ENRICH

    def __init__(self, greeting="Hello"):
        self.greeting = greeting

    async def execute(self, ctx):
        return StageOutput.ok(text=f"{self.greeting}, {ctx.input_text}")


def codes(error: PipelineValidationError) -> list[str]:
    return [problem.code for problem in error.problems]


# --- PipelineSpec ---------------------------------------------------------------------------------------------------


def test_spec_is_frozen_and_equal_by_value():
    spec = PipelineSpec("greet", Greet, ["a"], ["x"], ("y",), True, {"greeting": "Hi"})
    assert spec == PipelineSpec("greet", Greet, ("a",), ("x",), ["y"], True, {"greeting": "Hi"})
    assert spec != PipelineSpec("greet", Greet)
    assert hash(spec) == hash(copy.copy(spec))
    assert pickle.loads(pickle.dumps(spec)) == spec
    with pytest.raises(AttributeError):
        spec.name = "other"
    assert (spec.dependencies, spec.inputs, spec.outputs) == (("a",), ("x",), ("y",))


def test_a_lone_text_is_one_dependency():
    assert PipelineSpec("b", work, "abc").dependencies == ("abc",)


@pytest.mark.parametrize("name", ["", " ", "\n", None, 7])
def test_blank_names_are_refused(name):
    with pytest.raises(ValueError, match="not a name") as caught:
        PipelineSpec(name, work)
    assert codes(caught.value) == ["SF-BUILD-NAME"]


def test_self_dependencies_are_refused():
    with pytest.raises(ValueError, match="depends on itself") as caught:
        PipelineSpec("a", work, ["a"])
    assert codes(caught.value) == ["SF-BUILD-SELF-DEPENDENCY"]


@pytest.mark.parametrize("bad", [7, [None], [["a"]], {"a": 1}])
def test_dependencies_are_texts(bad):
    with pytest.raises(ArgumentTypeError):
        PipelineSpec("a", work, bad)
    with pytest.raises(ArgumentTypeError):
        PipelineSpec("a", work, args=[("x", 1)])


def test_the_kind_is_read_off_the_runner():
    assert PipelineSpec("a", Greet).stage_spec().kind is StageKind.ENRICH
    assert kind_of(Greet()) is StageKind.ENRICH
    assert kind_of(work) is StageKind.TRANSFORM


# --- with_stage -----------------------------------------------------------------------------------------------------


def test_finding_a1_23_a_builders_graph_runs():
    builder = (
        PipelineBuilder("p")
        .with_stage("greet", Greet, args={"greeting": "Hi"})
        .with_stage("again", Greet(), dependencies=["greet"])
        .with_stage("work", work, dependencies=["greet", "again"], inputs=["text"], outputs=["by"])
    )
    graph = builder.build()
    assert isinstance(graph, StageGraph)
    assert graph.name == "p"
    results = asyncio.run(graph.run(input_text="Ada"))
    assert results["greet"].data["text"] == "Hi, Ada"
    assert results["work"].data == {"by": "work"}


def test_builders_are_immutable_and_branches_do_not_see_each_other():
    base = PipelineBuilder().with_stage("a", work)
    one = base.with_stage("b", work, ["a"])
    two = base.with_stage("c", work, ["a"])
    three = base.with_stage("b", work)
    assert [[*builder.stages] for builder in (base, one, two, three)] == [
        ["a"],
        ["a", "b"],
        ["a", "c"],
        ["a", "b"],
    ]
    assert one.get_stage("b") != three.get_stage("b")
    assert not base.has_stage("b")
    assert base.get_stage("b") is None
    assert len(base) == 1
    assert repr(one) == "<PipelineBuilder 'pipeline': 2 stages>"
    with pytest.raises(TypeError):
        one.stages["x"] = None


def test_finding_a1_13_every_step_is_checked():
    builder = PipelineBuilder("p").with_stage("greet", work)
    with pytest.raises(PipelineValidationError) as caught:
        builder.with_stage("shout", work, ["gret", "greet", "nobody"])
    assert codes(caught.value) == ["SF-BUILD-UNKNOWN-DEPENDENCY"] * 2
    assert caught.value.problems[0].fix == "Did you mean 'greet'?"
    assert caught.value.problems[1].fix == "Add 'nobody' first, then 'shout'"
    assert caught.value.pipeline == "p"
    with pytest.raises(PipelineValidationError) as caught:
        builder.with_stage("greet", Greet)
    assert codes(caught.value) == ["SF-BUILD-DUPLICATE"]
    with pytest.raises(PipelineValidationError) as caught:
        builder.with_stage("x", 7)
    assert codes(caught.value) == ["SF-BUILD-RUNNER"]
    with pytest.raises(PipelineValidationError) as caught:
        builder.with_stage("x", Greet, args={"gretting": "Hi"})
    assert codes(caught.value) == ["SF-BUILD-CONFIG"]
    with pytest.raises(PipelineValidationError) as caught:
        builder.with_stage("x", work, ["greet"], route="left")
    assert codes(caught.value) == ["SF-BUILD-ROUTE"]
    assert len(builder) == 1


def test_all_that_is_wrong_with_a_step_is_said_at_once():
    with pytest.raises(PipelineValidationError) as caught:
        PipelineBuilder().with_stage("x", work, ["nobody"], timeout=-1)
    assert set(codes(caught.value)) == {"SF-BUILD-TIMEOUT", "SF-BUILD-UNKNOWN-DEPENDENCY"}


def test_options_reach_the_pipeline():
    builder = PipelineBuilder().with_stage("a", work, kind=StageKind.GUARD, timeout=3, when=bool, limit=2)
    (spec,) = builder.pipeline().specs
    assert (spec.kind, spec.timeout, spec.when, spec.limit) == (StageKind.GUARD, 3, bool, 2)
    with pytest.raises(TypeError):
        PipelineBuilder().with_stage("a", work, nonsense=1)


def test_conditional_reaches_the_run():
    async def skip(ctx):
        return StageOutput.skip("nothing to do")

    builder = PipelineBuilder().with_stage("a", skip).with_stage("b", work, ["a"], conditional=True)
    assert asyncio.run(builder.build().run())["b"].status is StageStatus.SKIP


# --- stages to begin with -------------------------------------------------------------------------------------------


def test_stages_to_begin_with_come_in_any_order():
    specs = [PipelineSpec("c", work, ["b"]), PipelineSpec("a", work), PipelineSpec("b", work, ["a"])]
    builder = PipelineBuilder("p", {spec.name: spec for spec in specs})
    assert [*builder.stages] == ["c", "a", "b"]
    assert builder.stage_names() == ["a", "b", "c"]
    assert builder.with_stage("d", work, ["c"]).stage_names() == ["a", "b", "c", "d"]
    assert asyncio.run(builder.build().run())["c"].status is StageStatus.OK


def test_stages_to_begin_with_are_checked():
    specs = {"a": PipelineSpec("a", work, ["b"]), "b": PipelineSpec("b", work, ["a"])}
    with pytest.raises(CycleDetectedError) as caught:
        PipelineBuilder("p", specs)
    assert caught.value.cycle_path == ("a", "b", "a")
    with pytest.raises(PipelineValidationError, match="'x'"):
        PipelineBuilder("p", {"a": PipelineSpec("a", work, ["x"])})
    with pytest.raises(ArgumentValueError):
        PipelineBuilder("p", {"b": PipelineSpec("a", work)})
    with pytest.raises(ArgumentTypeError):
        PipelineBuilder("p", {"a": work})
    with pytest.raises(ArgumentTypeError):
        PipelineBuilder("p", [PipelineSpec("a", work)])
    with pytest.raises(ArgumentValueError):
        PipelineBuilder("")


# --- compose, build -------------------------------------------------------------------------------------------------


def test_compose_joins_and_names():
    a = PipelineBuilder("a").with_stage("x", work).with_stage("y", work, ["x"])
    b = PipelineBuilder("b").with_stage("x", work).with_stage("z", work, ["x"])
    both = a.compose(b)
    assert both.name == "a+b"
    assert [*both.stages] == ["x", "y", "z"]
    assert asyncio.run(both.build().run())["z"].status is StageStatus.OK
    assert [*both.with_stage("end", work, ["y", "z"]).stages] == ["x", "y", "z", "end"]
    assert [[*one.stages] for one in (a, b)] == [["x", "y"], ["x", "z"]]


def test_compose_refuses_different_stages_of_one_name_all_at_once():
    a = PipelineBuilder("a").with_stage("x", work).with_stage("y", work)
    b = PipelineBuilder("b").with_stage("x", Greet).with_stage("y", work, timeout=3)
    with pytest.raises(PipelineValidationError) as caught:
        a.compose(b)
    assert codes(caught.value) == ["SF-BUILD-DUPLICATE"] * 2
    assert caught.value.stages == ("x", "y")
    assert caught.value.pipeline == "a+b"
    with pytest.raises(ArgumentTypeError):
        a.compose(Pipeline())


def test_an_empty_builder_does_not_build():
    with pytest.raises(PipelineValidationError) as caught:
        PipelineBuilder().build()
    assert codes(caught.value) == ["SF-BUILD-EMPTY"]


def test_build_options_reach_the_graph(sink):
    graph = (
        PipelineBuilder()
        .with_stage("a", work)
        .build(emit_stage_wide_events=True, emit_pipeline_wide_event=True, interceptors=[], max_concurrency=3)
    )
    assert graph.max_concurrency == 3
    asyncio.run(graph.run(sink=sink))
    assert [type for type in sink.types if type.endswith(".wide")] == ["stage.wide", "pipeline.wide"]


def test_a_wide_event_emitter_is_used(sink):
    from stageflow.events.wide import WideEventEmitter

    emitter = WideEventEmitter("my.stage")
    builder = PipelineBuilder().with_stage("a", work)
    graph = builder.build(emit_stage_wide_events=True, wide_event_emitter=emitter)
    asyncio.run(graph.run(sink=sink))
    assert "my.stage" in sink.types


def test_finding_a1_28_building_step_by_step_is_linear():
    def steps(count: int) -> int:
        # Counted, not timed: how many specs are looked at while one more stage is added.
        builder = PipelineBuilder()
        for number in range(count):
            builder = builder.with_stage(f"s{number}", work, [f"s{number - 1}"] if number else ())
        calls = 0

        def count_calls(frame, event, arg):
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count_calls)
        try:
            grown = builder.with_stage("last", work, [f"s{count - 1}"])
        finally:
            sys.setprofile(None)
        assert grown._entries is builder._entries  # shared, not copied
        return calls

    assert steps(1000) == steps(10)


def test_a_long_chain_builds():
    builder = PipelineBuilder()
    for number in range(3000):
        builder = builder.with_stage(f"s{number}", work, [f"s{number - 1}"] if number else ())
    assert len(builder.build().stages) == 3000
    assert builder.stage_names()[-1] == "s2999"


# --- fluent ---------------------------------------------------------------------------------------------------------


def named(prefix):
    return lambda number: (f"{prefix}{number}", work)


def test_fluent_remembers_what_came_last():
    fluent = (
        FluentPipelineBuilder("f")
        .stage("a", work)
        .linear_chain(2, named("c"))
        .parallel(2, named("p"))
        .stage("join", work)
        .fan_out_fan_in(("out", work), 2, named("m"), ("in", work))
        .stage("aside", work, depends_on=())
        .stage("end", work, depends_on=["in", "aside"], timeout=3)
    )
    stages = fluent.builder.stages
    assert {name: spec.dependencies for name, spec in stages.items()} == {
        "a": (),
        "c0": ("a",),
        "c1": ("c0",),
        "p0": ("c1",),
        "p1": ("c1",),
        "join": ("p0", "p1"),
        "out": ("join",),
        "m0": ("out",),
        "m1": ("out",),
        "in": ("m0", "m1"),
        "aside": (),
        "end": ("in", "aside"),
    }
    graph = fluent.build(max_concurrency=2)
    results = asyncio.run(graph.run())
    assert all(output.status is StageStatus.OK for output in results.values())
    assert graph.max_concurrency == 2
    assert repr(fluent) == "<FluentPipelineBuilder 'f': 12 stages>"


def test_fluent_reports_a_wrong_step_and_stays_as_it_was():
    fluent = FluentPipelineBuilder().stage("a", work)
    with pytest.raises(PipelineValidationError):
        fluent.stage("b", work, depends_on="x")
    assert fluent.stage("b", work).builder.get_stage("b").dependencies == ("a",)
