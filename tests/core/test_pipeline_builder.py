"""``Pipeline``: immutable, linear to build, and what its methods make of each other."""

from __future__ import annotations

import asyncio

import pytest
from stageflow import (
    ContextSnapshot,
    FailureMode,
    Pipeline,
    PipelineContext,
    RunIdentity,
    StageContext,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    stage,
)

K = StageKind.TRANSFORM


async def ok(ctx):
    return {"text": ctx.input_text}


def test_every_method_returns_a_new_pipeline():
    empty = Pipeline("p")
    one = empty.with_stage("a", ok, K)
    two = one.with_stage("b", ok, K, ["a"])
    other = one.with_stage("c", ok, K)
    assert [len(pipeline) for pipeline in (empty, one, two, other)] == [0, 1, 2, 2]
    assert [list(pipeline.stages) for pipeline in (one, two, other)] == [["a"], ["a", "b"], ["a", "c"]]
    assert two.name == "p"
    assert repr(two) == "<Pipeline 'p': 2 stages>"


def test_branches_off_any_older_pipeline_do_not_see_each_other():
    base = Pipeline()
    grown = [base]
    for number in range(5):
        grown.append(grown[-1].with_stage(f"s{number}", ok, K))
    for number, pipeline in enumerate(grown):
        branch = pipeline.with_stage("branch", ok, K).with_stage("twig", ok, K)
        assert list(branch.stages) == [*(f"s{n}" for n in range(number)), "branch", "twig"]
    assert [list(pipeline.stages) for pipeline in grown] == [[f"s{n}" for n in range(m)] for m in range(6)]


def test_the_stages_are_read_only():
    pipeline = Pipeline().with_stage("a", ok, K)
    with pytest.raises(TypeError):
        pipeline.stages["b"] = StageSpec("b", ok, K)
    with pytest.raises(AttributeError):
        pipeline.stages["a"].name = "b"
    assert isinstance(pipeline.specs, tuple)


def test_stages_to_begin_with():
    given = {"a": StageSpec("a", ok, K)}
    pipeline = Pipeline("p", given)
    given["b"] = StageSpec("b", ok, K)
    assert list(pipeline.stages) == ["a"]


def test_compose_takes_equal_stages_once_and_reports_different_ones():
    left = Pipeline("left").with_stage("a", ok, K).with_stage("b", ok, K, ["a"])
    right = Pipeline("right").with_stage("a", ok, K).with_stage("c", ok, K, ["a"])
    both = left.compose(right)
    assert (both.name, list(both.stages)) == ("left", ["a", "b", "c"])
    assert (len(left), len(right)) == (2, 2)
    both.build()
    clash = left.compose(Pipeline().with_stage("a", ok, StageKind.WORK))
    with pytest.raises(ValueError, match="called 'a'"):
        clash.build()


def test_a_lone_text_is_one_dependency():
    assert Pipeline().with_stage("b", ok, K, "alpha").stages["b"].dependencies == ("alpha",)


@pytest.mark.asyncio
async def test_every_kind_of_runner():
    class ByClass:
        async def execute(self, ctx):
            return {"by": "class"}

    class WithConfig:
        def __init__(self, text, *, times=1):
            self.text = text * times

        async def execute(self, ctx):
            return {"by": self.text}

    class Callable:
        async def __call__(self, ctx):
            return {"by": "callable"}

    async def function(ctx):
        return {"by": "function"}

    def future(ctx) -> asyncio.Future:
        done = asyncio.get_running_loop().create_future()
        done.set_result({"by": "future"})
        return done

    @stage
    async def typed() -> str:
        return "typed"

    class Resolver:
        def stage(self, name):
            assert name == "owner.stage"
            return WithConfig

        def executor(self, name):
            raise AssertionError(name)

    graph = (
        Pipeline()
        .with_stage("class", ByClass, K)
        .with_stage("config", WithConfig, K, config={"text": "x", "times": 3})
        .with_stage("instance", ByClass(), K)
        .with_stage("callable", Callable(), K)
        .with_stage("function", function, K)
        .with_stage("lambda", function, K)
        .with_stage("future", future, K)
        .with_stage("typed", typed, K)
        .with_stage("named", "owner.stage", K, config={"text": "resolved", "times": 2})
        .build(resolver=Resolver())
    )
    results = await graph.run()
    assert {name: output.data.get("by", output.value) for name, output in results.items()} == {
        "class": "class",
        "config": "xxx",
        "instance": "class",
        "callable": "callable",
        "function": "function",
        "lambda": "function",
        "future": "future",
        "typed": "typed",
        "named": "resolvedresolved",
    }


@pytest.mark.asyncio
async def test_a_class_is_instantiated_for_every_attempt_and_an_instance_is_used_as_it_is():
    made = []

    class Counted:
        def __init__(self):
            made.append(self)

        async def execute(self, ctx):
            return StageOutput.retry("again", retry_after=0.001) if ctx.attempt == 1 else None

    from stageflow import RetryPolicy

    policy = RetryPolicy(2, base_delay=0)
    graph = Pipeline().with_stage("a", Counted, K, retry=policy).build()
    await graph.run()
    await graph.run()
    assert len(made) == 4
    instance = Counted()
    await Pipeline().with_stage("a", instance, K, retry=policy).run()
    assert len(made) == 5


@pytest.mark.asyncio
async def test_what_a_caller_does_with_a_config_after_the_build_does_not_matter():
    class WithConfig:
        def __init__(self, **config):
            self.config = config

        async def execute(self, ctx):
            return self.config

    config = {"a": 1}
    graph = Pipeline().with_stage("a", WithConfig, K, config=config).build()
    config["b"] = 2
    assert (await graph.run())["a"].data == {"a": 1}


def test_specs_without_a_config_do_not_share_a_mutable_one():
    one, other = StageSpec("a", ok, K), StageSpec("b", ok, K)
    try:
        one.config["x"] = 1
    except TypeError:
        return
    try:
        assert dict(other.config) == {}
    finally:
        one.config.pop("x")


@pytest.mark.asyncio
async def test_run_builds_once_and_keeps_the_graph(monkeypatch):
    pipeline = Pipeline().with_stage("a", ok, K)
    built = []
    original = Pipeline.build
    monkeypatch.setattr(Pipeline, "build", lambda self, **kw: built.append(True) or original(self, **kw))
    await pipeline.run()
    await pipeline.run()
    async for _ in pipeline.stream():
        pass
    assert built == [True]
    await pipeline.with_stage("b", ok, K).run()
    assert built == [True, True]


@pytest.mark.asyncio
async def test_whatever_a_run_may_be_started_with():
    from uuid import uuid4

    run_id = uuid4()
    snapshot = ContextSnapshot(RunIdentity(pipeline_run_id=run_id), input_text="hi")
    seen = []

    async def look(ctx):
        seen.append((ctx.input_text, ctx.pipeline_run_id))
        contexts.append(ctx)

    contexts: list[StageContext] = []
    graph = Pipeline().with_stage("a", look, K).build()
    await graph.run(snapshot)
    await graph.run(PipelineContext(pipeline_run_id=run_id, input_text="hi"))
    await graph.run(PipelineContext.from_snapshot(snapshot))
    await graph.run(contexts[0])
    await graph.run(snapshot, input_text="other")
    assert seen == [("hi", run_id)] * 4 + [("other", run_id)]
    results = await graph.run(PipelineContext(input_text="x"))
    assert results.run_id is not None
    assert seen[-1] == ("x", results.run_id)
    assert snapshot.input_text == "hi"


@pytest.mark.asyncio
async def test_metadata_joins_what_is_there():
    seen = []

    async def look(ctx):
        seen.append(dict(ctx.snapshot.metadata))

    snapshot = ContextSnapshot(metadata={"a": 1, "b": 1})
    await Pipeline().with_stage("a", look, K).run(snapshot, metadata={"b": 2})
    assert seen == [{"a": 1, "b": 2}]
    assert dict(snapshot.metadata) == {"a": 1, "b": 1}


def test_a_graph_says_what_it_is():
    graph = (
        Pipeline("p").with_stage("a", ok, K).build(failure_mode=FailureMode.BEST_EFFORT, cleanup_timeout=3)
    )
    assert isinstance(graph, StageGraph)
    assert repr(graph) == "<StageGraph 'p': 1 stages>"
    assert [spec.name for spec in graph.stage_specs] == ["a"]
    assert (graph.failure_mode, graph.cleanup_timeout) == (FailureMode.BEST_EFFORT, 3)


def test_building_is_linear_in_the_number_of_stages():
    """Counted, not timed: every `with_stage` on the newest pipeline appends to the one list they share."""
    pipeline = Pipeline()
    lists = set()
    for number in range(1000):
        pipeline = pipeline.with_stage(f"s{number}", ok, K)
        lists.add(id(pipeline._specs))
    assert len(lists) == 1


@pytest.mark.asyncio
async def test_an_executor_of_ones_own():
    class Counting:
        name = "counting"

        def __init__(self):
            self.calls = 0

        async def execute(self, body, ctx):
            self.calls += 1
            return await body(ctx)

    executor = Counting()
    results = (
        await Pipeline()
        .with_stage("a", ok, K, executor=executor)
        .with_stage("b", ok, K, executor="inline")
        .run()
    )
    assert executor.calls == 1
    assert len(results) == 2
