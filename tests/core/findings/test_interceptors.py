"""Findings A1.1, A1.3, A1.5 and A1.26: what wraps a stage."""

from __future__ import annotations

import asyncio
import logging

import pytest
from stageflow import (
    BaseInterceptor,
    ContextSnapshot,
    FailureMode,
    InterceptorResult,
    Pipeline,
    PipelineContext,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    StageStatus,
    TracingInterceptor,
)
from stageflow.errors import ReadOnlyDataError, StageTimeoutError
from stageflow.pipeline.builders import PipelineBuilder
from stageflow.pipeline.subpipeline import SubpipelineSpawner
from stageflow.testing import (
    EventRecorder,
    HangingStage,
    ScriptedStage,
    SlowStage,
    create_test_context,
    run_virtual,
)

K = StageKind.WORK


# --- A1.1 ----------------------------------------------------------------------------------------------------


class Doorkeeper(BaseInterceptor):
    """Refuses one stage and answers for another."""

    name = "doorkeeper"
    priority = 1

    async def before(self, stage_name, ctx):
        if stage_name == "charge":
            return InterceptorResult(stage_ran=False, error="not yours")
        if stage_name == "price":
            return InterceptorResult(stage_ran=False, result={"cents": 990})
        return None


def test_a1_01_a_refused_stage_fails_and_blocks_its_dependants():
    """A short-circuit with an error fails the stage, so its dependants do not run; one with a value is an OK."""
    charge, receipt, price, offer = (ScriptedStage() for _ in range(4))
    graph = (
        Pipeline()
        .with_stage("charge", charge, K)
        .with_stage("receipt", receipt, K, ["charge"])
        .with_stage("price", price, K)
        .with_stage("offer", offer, K, ["price"])
        .build(interceptors=[Doorkeeper()], failure_mode=FailureMode.CONTINUE_ON_FAILURE)
    )
    events = EventRecorder()
    with pytest.raises(StageExecutionError) as raised:
        run_virtual(graph.run(sink=events))
    results = raised.value.results
    assert raised.value.stage == "charge"
    assert (results["charge"].status, results["charge"].error) == (StageStatus.FAIL, "not yours")
    assert results["receipt"].status is StageStatus.SKIP
    assert (charge.calls, receipt.calls, price.calls) == ([], [], [])
    assert events.of("charge") == ["started", "failed"]
    assert events.of("receipt") == ["skipped"]
    assert results["price"].status is StageStatus.OK
    assert offer.calls[0].inputs["price"].data == {"cents": 990}


# --- A1.3 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["before", "after", "around"])
def test_a1_03_an_interceptor_that_crashes_lets_nobody_through(hook):
    """An exception in a hook fails the stage, unless the interceptor says that it only watches."""

    class Crashing(BaseInterceptor):
        name = "crashing"

    class Watching(Crashing):
        name = "watching"
        fail_closed = False

    async def crash(self, *_):
        raise RuntimeError("the directory of users does not answer")

    setattr(Crashing, hook, crash)
    stage, dependant = ScriptedStage(), ScriptedStage()
    pipeline = Pipeline().with_stage("secret", stage, K).with_stage("next", dependant, K, ["secret"])
    with pytest.raises(StageExecutionError) as raised:
        run_virtual(pipeline.build(interceptors=[Crashing()]).run())
    assert str(raised.value.original) == "the directory of users does not answer"
    assert raised.value.results["secret"].status is StageStatus.FAIL
    assert dependant.calls == []
    if hook != "after":
        assert stage.calls == []
    assert set(run_virtual(pipeline.build(interceptors=[Watching()]).run())) == {"secret", "next"}


# --- A1.5 ----------------------------------------------------------------------------------------------------


class Counting(BaseInterceptor):
    """Knows which stages it has wrapped."""

    name = "counting"

    def __init__(self):
        self.wrapped: list[str] = []

    async def before(self, stage_name, ctx):
        self.wrapped.append(stage_name)


def test_a1_05_every_way_in_runs_the_same_chain():
    """There is one executor: whoever starts the graph, and with what, every stage runs inside the chain."""
    chain = Counting()
    pipeline = Pipeline().with_stage("a", ScriptedStage(), K)
    graph = pipeline.build(interceptors=[chain])

    async def stream():
        return [event.type async for event in graph.stream()]

    async def nest(ctx):
        child = await SubpipelineSpawner().spawn("child", ctx, None, "nest", graph)
        assert child.success

    ways = {
        "nothing": graph.run,
        "PipelineContext": lambda: graph.run(PipelineContext()),
        "ContextSnapshot": lambda: graph.run(ContextSnapshot()),
        "StageContext": lambda: graph.run(create_test_context()),
        "stream": stream,
        "child": lambda: Pipeline().with_stage("nest", nest, K).run(),
        "StageGraph": StageGraph([StageSpec("a", ScriptedStage())], [chain]).run,
        "PipelineBuilder": PipelineBuilder().with_stage("a", ScriptedStage()).build(interceptors=[chain]).run,
    }
    seen = {}
    for way, start in ways.items():
        chain.wrapped.clear()
        run_virtual(start())
        seen[way] = list(chain.wrapped)
    assert seen == {way: ["a"] for way in ways}


def test_a1_05_a_pipeline_as_it_is_has_a_time_limit_a_log_and_events(caplog):
    """A pipeline that is just run has the default interceptors: a stage that hangs ends after thirty seconds."""
    events = EventRecorder()
    pipeline = Pipeline().with_stage("hang", HangingStage(), K)
    with caplog.at_level(logging.INFO, "stage_interceptor"), pytest.raises(StageExecutionError) as raised:
        run_virtual(pipeline.run(sink=events))
    assert isinstance(raised.value.original, StageTimeoutError)
    assert raised.value.original.timeout == 30
    assert "Stage starting: hang" in caplog.messages
    events.assert_paired(stages=["hang"], end="failed")
    assert events.of("hang") == ["started", "failed"]


# --- A1.26 ---------------------------------------------------------------------------------------------------


def test_a1_26_interceptors_of_parallel_stages_do_not_overwrite_each_other():
    """What an interceptor writes into ``ctx.data`` belongs to one attempt of one stage, and not to the caller."""
    seen, spans = {}, {}

    class Scratch(BaseInterceptor):
        name = "scratch"

        async def before(self, stage_name, ctx):
            ctx.data["stage"] = stage_name

        async def after(self, stage_name, result, ctx):
            seen[stage_name] = ctx.data["stage"]
            spans[stage_name] = ctx.data["_tracing.span_name"], ctx.data["_tracing.span_id"]

    pipeline = Pipeline()
    for name, seconds in (("a", 3), ("b", 2), ("c", 1)):
        pipeline = pipeline.with_stage(name, SlowStage(seconds), K)
    given = PipelineContext(data={"tone": "calm"})
    run_virtual(pipeline.build(interceptors=[TracingInterceptor(), Scratch()]).run(given))
    assert seen == {"a": "a", "b": "b", "c": "c"}
    assert {stage: span for stage, (span, _) in spans.items()} == seen
    assert len({span_id for _, span_id in spans.values()}) == 3
    assert given.data == {"tone": "calm"}


def test_a1_26_what_the_caller_gave_is_read_only_all_the_way_down():
    """No interceptor changes what is inside the caller's data under the hands of others."""

    class Appends(BaseInterceptor):
        name = "appends"

        async def before(self, stage_name, ctx):
            ctx.data["tags"].append(stage_name)

    given = {"tags": []}
    graph = Pipeline().with_stage("a", SlowStage(1), K).build(interceptors=[Appends()])
    results = run_virtual(graph.run(data=given, raise_errors=False))
    assert isinstance(results.error.original, ReadOnlyDataError)
    assert given == {"tags": []}


def test_a1_26_a_time_limit_is_the_stages_own():
    """A stage's limit ends that stage and no other, and a run needs none."""
    slow = SlowStage(3600)
    graph = (
        Pipeline()
        .with_stage("short", HangingStage(), K, timeout=1)
        .with_stage("slow", slow, K)
        .build(interceptors=[], failure_mode=FailureMode.BEST_EFFORT)
    )
    results = run_virtual(graph.run())
    assert isinstance(results.error.original, StageTimeoutError)
    assert (results["short"].status, results["slow"].status) == (StageStatus.FAIL, StageStatus.OK)
    assert slow.calls[0].ended == 3600


@pytest.mark.parametrize(
    "build",
    [
        lambda chain: Pipeline().with_stage("a", SlowStage(60), K).build(interceptors=chain),
        lambda chain: StageGraph([StageSpec("a", SlowStage(60))], chain),
    ],
    ids=["Pipeline", "StageGraph"],
)
def test_a1_26_no_interceptors_are_not_the_defaults(build):
    """An empty list means none, and None means the defaults, of which one ends a stage after thirty seconds."""

    async def status(chain):
        return (await build(chain).run(raise_errors=False))["a"].status

    assert build([]).interceptors == ()
    assert run_virtual(status([])) is StageStatus.OK
    assert build(None).interceptors != ()
    assert run_virtual(status(None)) is StageStatus.FAIL


# --- A1.2: the half that is about interceptors -----------------------------------------------------------------


def test_a1_02_after_runs_only_for_interceptors_that_were_entered():
    """Behind a short-circuit no hook runs: an interceptor that was not entered is not left either."""
    left = []

    class Leaving(BaseInterceptor):
        async def before(self, stage_name, ctx):
            await asyncio.sleep(0)

        async def after(self, stage_name, result, ctx):
            left.append((self.name, result.status))

    outer, inner = Leaving(), Leaving()
    outer.name, outer.priority = "outer", 0
    inner.name, inner.priority = "inner", 2
    pipeline = Pipeline().with_stage("charge", ScriptedStage(StageOutput.ok()), K)
    results = run_virtual(pipeline.build(interceptors=[inner, Doorkeeper(), outer]).run(raise_errors=False))
    assert results["charge"].status is StageStatus.FAIL
    assert left == [("outer", "failed")]
