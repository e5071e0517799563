"""`PipelineBuilder`, `FluentPipelineBuilder`, the builder helpers and `PipelineRegistry`, as 0.9 documented them."""

from __future__ import annotations

import pytest
import stageflow
from stageflow import Pipeline, StageContext, StageGraph, StageKind, StageOutput, StageStatus
from stageflow.errors import CycleDetectedError, PipelineValidationError
from stageflow.pipeline.builder_helpers import (
    FluentPipelineBuilder,
    with_conditional_branch,
    with_fan_out_fan_in,
    with_linear_chain,
    with_parallel_stages,
)
from stageflow.pipeline.builders import PipelineBuilder, PipelineSpec
from stageflow.pipeline.registry import PipelineRegistry, pipeline_registry
from stageflow.testing import EventRecorder, create_test_pipeline_context, run_virtual


class Add:
    """Adds up what its dependencies left, and one."""

    name = "add"
    kind = StageKind.TRANSFORM

    def __init__(self, amount: int = 1) -> None:
        self.amount = amount

    async def execute(self, ctx: StageContext) -> StageOutput:
        found = [ctx.inputs.get_from(name, "n", default=0) for name in sorted(ctx.inputs.declared_deps)]
        return StageOutput.ok(n=sum(found) + self.amount)


def factory(index: int) -> tuple[str, type[Add]]:
    return f"step_{index}", Add


def run(graph: StageGraph, **more: object):
    return run_virtual(graph.run(create_test_pipeline_context(**more)))


def numbers(results) -> dict[str, int]:
    return {name: output.data.get("n") for name, output in results.items()}


# --- PipelineBuilder ----------------------------------------------------------------------------------------


def test_a_builder_checks_at_every_step_and_its_graphs_run():
    # Findings A1.23: in 0.9 its graphs failed on every stage, as the runner was called without a context.
    builder = (
        PipelineBuilder(name="sums")
        .with_stage("first", Add)
        .with_stage("second", Add, dependencies=("first",), args={"amount": 10})
        .with_stage(
            "third",
            Add(100),
            dependencies=("first", "second"),
            inputs=("n",),
            outputs=("n",),
            conditional=False,
        )
    )
    assert builder.name == "sums"
    assert builder.stage_names() == ["first", "second", "third"]
    assert builder.has_stage("second")
    assert not builder.has_stage("nobody")
    spec = builder.get_stage("third")
    assert (spec.name, set(spec.dependencies), set(spec.inputs), set(spec.outputs)) == (
        "third",
        {"first", "second"},
        {"n"},
        {"n"},
    )
    assert builder.get_stage("nobody") is None
    graph = builder.build()
    assert isinstance(graph, StageGraph)
    assert numbers(run(graph)) == {"first": 1, "second": 11, "third": 112}


def test_a_builder_is_immutable():
    empty = PipelineBuilder()
    one = empty.with_stage("first", Add)
    assert empty.stage_names() == []
    assert one.stage_names() == ["first"]


def test_a_builder_refuses_a_missing_dependency_at_once():
    with pytest.raises(PipelineValidationError) as caught:
        PipelineBuilder().with_stage("first", Add).with_stage("second", Add, dependencies=("frist",))
    assert "frist" in str(caught.value)
    assert "'first'" in str(caught.value)
    assert "second" in caught.value.stages


def test_a_builder_finds_a_cycle():
    with pytest.raises(CycleDetectedError) as caught:
        PipelineBuilder(
            stages={
                "a": PipelineSpec(name="a", runner=Add, dependencies=("b",)),
                "b": PipelineSpec(name="b", runner=Add, dependencies=("a",)),
            }
        )
    assert caught.value.cycle_path[0] == caught.value.cycle_path[-1]
    assert set(caught.value.cycle_path) == {"a", "b"}


def test_an_empty_builder_does_not_build():
    with pytest.raises(PipelineValidationError):
        PipelineBuilder().build()


@pytest.mark.parametrize(
    "make",
    [
        lambda: PipelineSpec(name="", runner=Add),
        lambda: PipelineSpec(name="   ", runner=Add),
        lambda: PipelineSpec(name="a", runner=Add, dependencies=("a",)),
    ],
    ids=["empty", "blank", "self-dependency"],
)
def test_a_spec_says_what_is_wrong_with_it(make):
    with pytest.raises(ValueError, match=r"(?i)stage") as caught:
        make()
    assert caught.value.code.startswith("SF-BUILD")


def test_builders_compose():
    left = PipelineBuilder("left").with_stage("first", Add)
    right = PipelineBuilder("right").with_stage("first", Add).with_stage("last", Add, dependencies=("first",))
    both = left.compose(right)
    assert both.name == "left+right"
    assert numbers(run(both.build())) == {"first": 1, "last": 2}
    with pytest.raises(PipelineValidationError):
        left.compose(PipelineBuilder("other").with_stage("first", Add, args={"amount": 2}))


def test_a_builder_builds_graphs_with_wide_events():
    sink = EventRecorder()
    graph = (
        PipelineBuilder("sums")
        .with_stage("first", Add)
        .build(emit_stage_wide_events=True, emit_pipeline_wide_event=True)
    )
    run(graph, event_sink=sink)
    assert sink.types == [
        "pipeline.started",
        "stage.first.started",
        "stage.wide",
        "stage.first.completed",
        "pipeline.wide",
        "pipeline.completed",
    ]


# --- helpers, on both kinds of builder ----------------------------------------------------------------------


@pytest.fixture(params=[Pipeline, PipelineBuilder])
def new(request):
    return request.param


def test_a_linear_chain(new):
    builder = with_linear_chain(
        new("chain").with_stage("first", Add, **kind(new)), 3, factory, first_depends_on="first"
    )
    assert numbers(run(builder.build())) == {"first": 1, "step_0": 2, "step_1": 3, "step_2": 4}


def test_a_linear_chain_of_its_own(new):
    assert numbers(run(with_linear_chain(new("chain"), 2, factory).build())) == {"step_0": 1, "step_1": 2}


def test_parallel_stages(new):
    builder = with_parallel_stages(
        new("side").with_stage("first", Add, **kind(new)), 3, factory, depends_on=("first",)
    )
    assert numbers(run(builder.build())) == {"first": 1, "step_0": 2, "step_1": 2, "step_2": 2}


def test_fan_out_and_in(new):
    builder = with_fan_out_fan_in(new("fan"), ("out", Add), 3, factory, ("in", Add))
    assert numbers(run(builder.build())) == {"out": 1, "step_0": 2, "step_1": 2, "step_2": 2, "in": 7}


def test_a_fan_behind_another_stage(new):
    builder = with_fan_out_fan_in(
        new("fan").with_stage("first", Add, **kind(new)),
        ("out", Add),
        2,
        factory,
        ("in", Add),
        fan_out_depends_on=("first",),
    )
    assert numbers(run(builder.build())) == {"first": 1, "out": 2, "step_0": 3, "step_1": 3, "in": 7}


class Router:
    name = "router"
    kind = StageKind.ROUTE

    async def execute(self, ctx: StageContext) -> StageOutput:
        return StageOutput.ok(route=ctx.snapshot.input_text)


@pytest.mark.parametrize("chosen", ["left", "right"])
def test_a_conditional_branch_takes_the_chosen_one(new, chosen):
    # Findings A1.19: in 0.9 the router's output selected nothing.
    builder = with_conditional_branch(
        new("branch"), ("router", Router), [("left", Add), ("right", Add)], ("merge", Add)
    )
    sink = EventRecorder()
    results = run(builder.build(), input_text=chosen, event_sink=sink)
    other = {"left": "right", "right": "left"}[chosen]
    assert results[chosen].data == {"n": 1}
    assert results[other].status is StageStatus.SKIP
    assert results["merge"].data == {"n": 2}
    assert sink.of(other) == ["skipped"]
    assert sink.data(f"stage.{other}.skipped")["reason"] == "route_not_taken"


def test_a_conditional_branch_with_labels_and_no_merge(new):
    builder = with_conditional_branch(
        new("branch").with_stage("first", Add, **kind(new)),
        ("router", Router),
        {"small": ("left", Add), "large": ("right", Add)},
        router_depends_on="first",
    )
    results = run(builder.build(), input_text="large")
    assert results["right"].status is StageStatus.OK
    assert results["left"].status is StageStatus.SKIP


def kind(new: type) -> dict[str, object]:
    """Return what `Pipeline.with_stage` requires and `PipelineBuilder.with_stage` reads off the runner."""
    return {"kind": StageKind.TRANSFORM} if new is Pipeline else {}


# --- the fluent one -----------------------------------------------------------------------------------------


def test_the_fluent_builder_remembers_the_last_stage():
    # Findings A1.23: in 0.9 its graphs failed on every stage.
    fluent = FluentPipelineBuilder("fluent")
    graph = (
        fluent.stage("first", Add)
        .linear_chain(2, lambda index: (f"chain_{index}", Add))
        .parallel(2, lambda index: (f"side_{index}", Add))
        .stage("join", Add)
        .fan_out_fan_in(("out", Add), 2, lambda index: (f"fan_{index}", Add), ("in", Add))
        .stage("apart", Add, depends_on=("first",))
        .build()
    )
    assert numbers(run(graph)) == {
        "first": 1,
        "chain_0": 2,
        "chain_1": 3,
        "side_0": 4,
        "side_1": 4,
        "join": 9,
        "out": 10,
        "fan_0": 11,
        "fan_1": 11,
        "in": 23,
        "apart": 2,
    }
    assert isinstance(fluent.builder, PipelineBuilder)
    assert fluent.builder.has_stage("apart")
    assert fluent.builder.name == "fluent"


def test_the_fluent_builder_has_conditional_stages():
    class Skips:
        name = "skips"
        kind = StageKind.ENRICH

        async def execute(self, ctx):
            return StageOutput.skip("nothing")

    graph = (
        FluentPipelineBuilder("fluent").stage("skips", Skips).stage("after", Add, conditional=True).build()
    )
    results = run(graph)
    assert results["after"].status is StageStatus.SKIP


# --- the registry -------------------------------------------------------------------------------------------


def test_a_registry():
    registry = PipelineRegistry()
    chat = Pipeline("chat").with_stage("add", Add, StageKind.TRANSFORM)
    voice = Pipeline("voice").with_stage("add", Add, StageKind.TRANSFORM)
    registry.register("chat", chat)
    registry.register("voice", voice)
    assert registry.get("chat") is chat
    assert "chat" in registry
    assert "nothing" not in registry
    assert list(registry.list()) == ["chat", "voice"]
    results = run_virtual(registry.get("voice").build().run(create_test_pipeline_context()))
    assert numbers(results) == {"add": 1}


def test_an_unknown_name_lists_those_that_there_are():
    registry = PipelineRegistry()
    registry.register("chat", Pipeline("chat"))
    registry.register("voice", Pipeline("voice"))
    with pytest.raises(KeyError) as caught:
        registry.get("chatt")
    assert "chatt" in str(caught.value)
    assert "'chat'" in str(caught.value)
    assert "voice" in str(caught.value)
    assert caught.value.code == "SF-CONFIG-PIPELINE-NOT-FOUND"


def test_another_pipeline_under_a_taken_name_is_refused():
    # The migration page: in 0.9 it replaced silently.
    registry = PipelineRegistry()
    first, second = Pipeline("one"), Pipeline("two")
    registry.register("chat", first)
    registry.register("chat", first)
    with pytest.raises(ValueError, match="chat") as caught:
        registry.register("chat", second)
    assert caught.value.code == "SF-CONFIG-PIPELINE-TAKEN"
    assert registry.get("chat") is first
    registry.register("chat", second, replace=True)
    assert registry.get("chat") is second


def test_register_all_is_called_once_when_somebody_asks():
    calls: list[str] = []

    class Application(PipelineRegistry):
        def _register_all(self) -> None:
            calls.append("registered")
            self.register("chat", Pipeline("chat"))

    registry = Application()
    assert calls == []
    assert "chat" in registry
    assert registry.get("chat").name == "chat"
    assert list(registry.list()) == ["chat"]
    assert calls == ["registered"]


def test_the_registry_of_the_process():
    assert isinstance(pipeline_registry, PipelineRegistry)
    assert stageflow.pipeline_registry is pipeline_registry
    assert stageflow.PipelineRegistry is PipelineRegistry
