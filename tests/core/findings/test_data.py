"""Findings A1.14, A1.17, A1.25 and A1.30: the data that runs, stages and children are given."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import pytest
from stageflow import (
    ContextSnapshot,
    LoggingEventSink,
    Pipeline,
    PipelineContext,
    PipelineTimer,
    StageExecutionError,
    StageKind,
    StageOutput,
    thaw,
)
from stageflow.errors import ReadOnlyDataError
from stageflow.interceptors.hardening import DataChangedError, ImmutabilityInterceptor
from stageflow.pipeline.subpipeline import MaxDepthExceededError, SubpipelineSpawner
from stageflow.testing import ScriptedStage, create_test_context, run_virtual

K = StageKind.WORK


# --- A1.14 ---------------------------------------------------------------------------------------------------


def test_a1_14_a_child_works_on_what_it_is_given():
    """A child gets the input that its parent says, the tenant, and of the parent's data what is named."""
    seen = {}

    async def look(ctx):
        seen.update(input=ctx.input_text, metadata=thaw(ctx.snapshot.metadata), user=ctx.snapshot.user_id)
        seen.update(data=dict(ctx.scope.data), mode=ctx.execution_mode)

    child = Pipeline("child").with_stage("look", look, K)

    async def nest(ctx):
        result = await SubpipelineSpawner().spawn(
            "child",
            ctx,
            None,
            "nest",
            lambda context: child.run(context, metadata={"page": 2}),
            input_text="summarise",
            inherit_data=["tone"],
            data_overrides={"depth": "deep"},
        )
        assert result.success, result.error

    parent = PipelineContext(
        data={"tone": "calm", "secret": 1},
        execution_mode="practice",
        input_text="the parent's",
        user_id=create_test_context().snapshot.user_id,
    )
    run_virtual(Pipeline("parent").with_stage("nest", nest, K).run(parent))
    assert seen == {
        "input": "summarise",
        "metadata": {"page": 2},
        "user": parent.user_id,
        "data": {"tone": "calm", "depth": "deep"},
        "mode": "practice",
    }


def test_a1_14_a_child_cannot_change_the_data_of_its_parent():
    """What a child inherits is a copy, all the way down, and what it reads of its parent is read-only."""
    parent = PipelineContext(data={"cart": {"items": ["tea"]}}, configuration={"models": ["small"]})
    child = parent.fork(parent_stage_id="plan", inherit_data=True)
    child.data["cart"]["items"].append("milk")
    child.configuration["models"].append("large")
    with pytest.raises(ReadOnlyDataError):
        child.get_parent_data("cart")["items"].append("milk")
    assert parent.data == {"cart": {"items": ["tea"]}}
    assert parent.configuration == {"models": ["small"]}
    parent.data["cart"]["items"].append("sugar")
    assert child.get_parent_data("cart") == {"items": ["tea"]}


# --- A1.17 ---------------------------------------------------------------------------------------------------


def test_a1_17_nobody_changes_what_others_read():
    """What a stage has handed over is read-only for its dependants, and no longer the list that it was made of."""
    made = ["tea"]

    async def load(ctx):
        return {"items": made, "nested": {"items": [made]}}

    async def meddle(ctx):
        items = ctx.inputs.require_from("load", "items")
        with pytest.raises(ReadOnlyDataError):
            items.append("milk")
        with pytest.raises(ReadOnlyDataError):
            ctx.inputs.require_from("load", "nested")["items"][0].clear()
        made.append("sugar")
        return {"mine": [*items, "milk"]}

    reader = ScriptedStage()
    results = run_virtual(
        Pipeline()
        .with_stage("load", load, K)
        .with_stage("meddle", meddle, K, ["load"])
        .with_stage("read", reader, K, ["load", "meddle"])
        .run()
    )
    expected = {"items": ["tea"], "nested": {"items": [["tea"]]}}
    assert reader.calls[0].inputs["load"].data == results["load"].data == expected
    assert results["meddle"].data == {"mine": ["tea", "milk"]}


def test_a1_17_the_input_of_a_run_is_read_only():
    """The metadata and the extensions of a snapshot are frozen, and no longer the caller's own dicts."""
    metadata, extensions = {"tags": ["a"]}, {"plan": {"name": "pro"}}
    snapshot = ContextSnapshot(metadata=metadata, extensions=extensions)
    for change in (
        lambda: snapshot.metadata.update(more=1),
        lambda: snapshot.metadata["tags"].append("b"),
        snapshot.extensions["plan"].clear,
    ):
        with pytest.raises(ReadOnlyDataError):
            change()
    metadata["tags"].append("b")
    extensions["plan"].clear()
    assert (snapshot.metadata, snapshot.extensions) == ({"tags": ["a"]}, {"plan": {"name": "pro"}})


def test_a1_17_the_immutability_interceptor_finds_what_changed():
    """Objects with attributes are shared; in tests, the interceptor fails the stage that has changed one."""

    class Cart:
        def __init__(self):
            self.items = ["tea"]

    async def add(ctx):
        ctx.inputs.require_from("load", "cart").items.append("milk")

    pipeline = (
        Pipeline()
        .with_stage("load", ScriptedStage(lambda ctx: {"cart": Cart()}), K)
        .with_stage("look", ScriptedStage(), K, ["load"])
        .with_stage("add", add, K, ["load", "look"])
    )
    with pytest.raises(StageExecutionError) as raised:
        run_virtual(pipeline.build(interceptors=[ImmutabilityInterceptor()]).run())
    assert raised.value.stage == "add"
    assert isinstance(raised.value.original, DataChangedError)


# --- A1.25 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["contexts without ids", "runs"])
def test_a1_25_depth_travels_in_the_context(way):
    """A fresh spawner begins no count of its own: a pipeline that starts itself ends at the depth limit."""
    refused, levels = [], []

    async def descend(ctx):
        levels.append(ctx.depth)
        if len(levels) > 20:
            return  # that it ends is not the merit of this test
        runner = descend if way == "contexts without ids" else pipeline
        try:
            await SubpipelineSpawner().spawn("down", ctx, None, "descend", runner)
        except MaxDepthExceededError as error:
            refused.append((error.current_depth, error.max_depth))

    pipeline = Pipeline("down").with_stage("descend", descend, K)
    run_virtual(descend(PipelineContext()) if way == "contexts without ids" else pipeline.run())
    assert refused == [(5, 5)]
    assert levels == [0, 1, 2, 3, 4, 5]


# --- A1.30 ---------------------------------------------------------------------------------------------------


def test_a1_30_event_data_may_have_any_key(caplog):
    """Keys that log records have themselves, such as "name", reach a logging sink, and nothing raises without one."""
    data = {"name": "Ada", "msg": "hi", "args": 1, "levelname": "loud"}
    with caplog.at_level(logging.DEBUG):
        create_test_context(event_sink=None).try_emit_event("said", data)
        context = create_test_context(event_sink=LoggingEventSink(level=logging.DEBUG))
        context.try_emit_event("said", data)

        async def say(ctx):
            ctx.try_emit_event("said", data)

        run_virtual(Pipeline().with_stage("say", say, K).run(sink=LoggingEventSink(level=logging.DEBUG)))
    said = [record for record in caplog.records if record.getMessage() == "Event: said"]
    assert len(said) == 2
    assert all(record.event_data.items() >= data.items() for record in said)


def test_a1_30_a_clock_that_is_set_back_changes_no_duration(monkeypatch):
    """Durations are measured on the monotonic clock, whatever happens to the wall clock meanwhile."""
    timer = PipelineTimer()
    before = timer.now_ms()
    monkeypatch.setattr("stageflow.stages.timer.time_ns", lambda: 0)
    assert timer.elapsed_ms() >= 0
    assert timer.now_ms() >= before
    results = run_virtual(Pipeline().with_stage("a", ScriptedStage(), K).run())
    assert results.duration_ms >= results["a"].duration_ms >= 0


def test_a1_30_ok_takes_a_mapping_and_keywords():
    """``StageOutput.ok({...}, key=value)`` hands over both."""
    assert StageOutput.ok({"text": "hi"}, length=2, version="1").data == {"text": "hi", "length": 2}
    assert StageOutput.ok({"text": "hi"}).data == {"text": "hi"}
    assert StageOutput.ok(length=2).data == {"length": 2}


@dataclass(frozen=True)
class Plan:
    """The extensions of an application that whoever stores its snapshots does not know."""

    name: str


def test_a1_30_unknown_extensions_survive_being_stored():
    """Who reads a snapshot without knowing the class of its extensions keeps them, and gives them on as they were."""
    stored = json.loads(json.dumps(ContextSnapshot(extensions=Plan("pro")).to_dict()))
    read = ContextSnapshot.from_dict(stored)
    assert read.extensions == {"name": "pro"}
    assert read.to_dict() == stored
    known = ContextSnapshot.from_dict(read.to_dict(), {"Plan": Plan})
    assert known.extensions == Plan("pro")
