"""Events of a run: their names, order, numbers and pairs; sinks that misbehave (finding A1.15)."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from datetime import datetime
from textwrap import dedent
from uuid import uuid4

import pytest
from stageflow import (
    EventSink,
    LoggingEventSink,
    NoOpEventSink,
    Pipeline,
    PipelineContext,
    StageKind,
    StageOutput,
    clear_event_sink,
    get_event_sink,
    set_event_sink,
)
from stageflow.observability import TraceContext
from stageflow.testing import EventRecorder

K = StageKind.WORK


async def ok(ctx):
    return {"ran": True}


async def skips(ctx):
    return StageOutput.skip("why")


PIPELINE = (
    Pipeline("three steps")
    .with_stage("a", ok, K)
    .with_stage("b", skips, StageKind.GUARD, ["a"])
    .with_stage("c", ok, K, ["b"], when=lambda _: False)
)


@pytest.mark.asyncio
async def test_the_events_of_a_run(sink):
    results = await PIPELINE.run(sink=sink)
    assert sink.types == [
        "pipeline.started",
        "stage.a.started",
        "stage.a.completed",
        "stage.b.started",
        "stage.b.skipped",
        "stage.c.skipped",
        "pipeline.completed",
    ]
    sink.assert_paired(stages="abc", end="completed")
    for event in sink:
        type, data = event.type, event.data
        assert data["pipeline_run_id"] == str(results.run_id)
        assert data["pipeline"] == "three steps"
        assert datetime.fromisoformat(data["timestamp"]).utcoffset().total_seconds() == 0
        if type.startswith("stage."):
            assert type == f"stage.{data['stage']}.{data['status']}"
    assert sink.data("stage.b.started")["kind"] == "guard"
    assert sink.data("stage.b.skipped")["reason"] == "why"
    assert sink.data("stage.c.skipped")["reason"] == "condition_false"
    assert sink.data("pipeline.completed")["stage_counts"] == {"ok": 1, "skip": 2}


@pytest.mark.asyncio
async def test_every_event_carries_the_ids_of_the_run(sink):
    ids = {name: uuid4() for name in ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")}
    context = PipelineContext(**ids, topology="chat_fast", execution_mode="practice", service="chat")
    await PIPELINE.run(context, sink=sink)
    for event in sink:
        data = event.data
        assert {name: data[name] for name in ids} == {name: str(value) for name, value in ids.items()}
        assert (data["topology"], data["execution_mode"], data["service"]) == (
            "chat_fast",
            "practice",
            "chat",
        )


@pytest.mark.asyncio
async def test_stages_emit_on_the_runs_own_emitter_in_order(sink):
    async def speaks(ctx):
        ctx.try_emit_event("my.event", {"n": 1, "pipeline_run_id": "mine", "sequence": 99})
        ctx.try_emit_event("my.other")
        ctx.record_stage_event("elsewhere", "progress", percent=50)

    await Pipeline().with_stage("a", speaks, K).run(sink=sink)
    assert sink.types[1:5] == ["stage.a.started", "my.event", "my.other", "stage.progress"]
    assert sink.data("my.event")["stage"] == "a"
    assert sink.data("my.event")["pipeline_run_id"] == "mine"  # the caller's keys win
    assert sink.data("my.event")["sequence"] == 3  # but for the run's numbers
    progress = sink.data("stage.progress")
    assert (progress["stage"], progress["status"], progress["stage_name"], progress["percent"]) == (
        "elsewhere",
        "progress",
        "a",
        50,
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("data", ["text", 5, [1], object(), {1: 2}], ids=lambda one: type(one).__name__)
async def test_to_emit_never_raises(data, sink):
    async def speaks(ctx):
        ctx.try_emit_event("my.event", data)
        ctx.as_pipeline_context().try_emit_event("my.event", data)
        return {"went on": True}

    results = await Pipeline().with_stage("a", speaks, K).run(sink=sink, raise_errors=False)
    assert results.error is None


# --- who listens --------------------------------------------------------------------------------------------------


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.asyncio
async def test_every_event_carries_the_id_of_the_trace_that_the_run_was_started_in(sink):
    with TraceContext(TRACE, "b7ad6b7169203331").activate():
        await PIPELINE.run(sink=sink)
        streamed = [event async for event in PIPELINE.stream()]
    assert {event.data["trace_id"] for event in [*sink, *streamed]} == {TRACE}


@pytest.mark.asyncio
async def test_every_event_carries_the_id_of_opentelemetrys_current_trace(sink):
    trace = pytest.importorskip("opentelemetry.trace")
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(int(TRACE, 16), 7, is_remote=False))):
        await PIPELINE.run(sink=sink)
        with TraceContext("1" * 32, "2" * 16).activate():
            own = EventRecorder()
            await PIPELINE.run(sink=own)
    assert {event.data["trace_id"] for event in sink} == {TRACE}
    assert {event.data["trace_id"] for event in own} == {"1" * 32}


@pytest.mark.asyncio
async def test_without_a_trace_no_event_says_anything_of_one(sink):
    with TraceContext().activate():
        await PIPELINE.run(sink=sink)
    assert not [event for event in sink if "trace_id" in event.data]


def test_a_run_imports_no_telemetry_library_to_ask_for_its_trace():
    program = """
        import asyncio, sys
        from stageflow import Pipeline, StageKind
        from stageflow.testing import EventRecorder, ScriptedStage

        pipeline = Pipeline().with_stage("a", ScriptedStage(), StageKind.WORK)
        asyncio.run(pipeline.run(sink=EventRecorder()))
        print(*(name for name in sys.modules if name.startswith("opentelemetry")))
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True, timeout=15
    )
    assert done.stdout.strip() == ""


@pytest.mark.asyncio
async def test_the_current_sink_is_used_when_none_is_given():
    current, given = EventRecorder(), EventRecorder()
    assert isinstance(get_event_sink(), NoOpEventSink)
    set_event_sink(current)
    try:
        assert get_event_sink() is current
        await PIPELINE.run(sink=given)
        assert current.events == []
        await PIPELINE.run()
        assert len(current.events) == len(given.events) == 7
    finally:
        clear_event_sink()
    assert isinstance(get_event_sink(), NoOpEventSink)


@pytest.mark.asyncio
async def test_a_sink_that_is_empty_is_still_a_sink():
    """A recorder may well be a list, and an empty list is false."""

    class ListSink(list):
        async def emit(self, *, type, data):
            self.append(type)

        def try_emit(self, *, type, data):
            self.append(type)

    sink = ListSink()
    set_event_sink(sink)
    try:
        assert get_event_sink() is sink
        await PIPELINE.run()
    finally:
        clear_event_sink()
    assert len(sink) == 7


@pytest.mark.asyncio
async def test_the_sink_of_the_context_is_used_when_none_is_given():
    own, given = EventRecorder(), EventRecorder()
    await PIPELINE.run(PipelineContext(event_sink=own))
    await PIPELINE.run(PipelineContext(event_sink=own), sink=given)
    assert len(own.events) == len(given.events) == 7


@pytest.mark.asyncio
async def test_the_current_sink_belongs_to_the_context_variables():
    mine = EventRecorder()

    async def elsewhere():
        set_event_sink(mine)
        await PIPELINE.run()

    await asyncio.create_task(elsewhere())
    assert isinstance(get_event_sink(), NoOpEventSink)
    assert len(mine.events) == 7


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit, RecursionError])
@pytest.mark.parametrize(
    "where",
    [
        "pipeline.started",
        "stage.a.started",
        "stage.a.completed",
        "stage.b.skipped",
        "pipeline.completed",
        "all",
    ],
)
async def test_a_sink_that_raises_breaks_nothing_and_is_reported_once(error, where, caplog):
    def hook(event):
        if where in ("all", event.type):
            raise error("broken sink")

    sink = EventRecorder(hook)
    results = await PIPELINE.run(sink=sink)
    assert len(results) == 3
    assert results.error is None
    sink.assert_paired(stages="abc", end="completed")
    assert len([record for record in caplog.records if record.name == "stageflow.events"]) == 1


@pytest.mark.asyncio
async def test_a_sink_that_changes_an_event_changes_it_for_nobody_else():
    class Clears:
        async def emit(self, *, type, data):
            data.clear()

        def try_emit(self, *, type, data):
            data.clear()

    seen = [event async for event in PIPELINE.stream(sink=Clears())]
    assert [event.sequence for event in seen] == list(range(1, 8))


@pytest.mark.asyncio
async def test_without_a_listener_no_event_is_built(monkeypatch):
    monkeypatch.setattr("stageflow.events.emitter.monotonic_ns", lambda: pytest.fail("an event was built"))
    await PIPELINE.run()
    await PIPELINE.run(sink=NoOpEventSink())


@pytest.mark.asyncio
async def test_the_logging_sink(caplog):
    """Finding A1.30: an event key `name` at DEBUG was a KeyError."""
    caplog.set_level(logging.DEBUG, "stageflow.events")
    sink = LoggingEventSink(level=logging.DEBUG)
    sink.try_emit(type="my.event", data={"name": "x", "message": "y", "args": 1})
    await sink.emit(type="my.other", data=None)
    assert [record.getMessage() for record in caplog.records] == ["Event: my.event", "Event: my.other"]
    assert caplog.records[0].event_data == {"name": "x", "message": "y", "args": 1}
    assert caplog.records[0].event_type == "my.event"


@pytest.mark.asyncio
async def test_stage_names_with_dots_are_read_from_the_data(sink):
    await Pipeline().with_stage("llm.answer.completed", ok, K).run(sink=sink)
    assert {event.data["stage"] for event in sink if event.type.startswith("stage.")} == {
        "llm.answer.completed"
    }


def test_sinks_are_recognised():
    assert isinstance(NoOpEventSink(), EventSink)
    assert isinstance(LoggingEventSink(), EventSink)
    assert not isinstance(object(), EventSink)


@pytest.mark.asyncio
async def test_nothing_is_emitted_after_the_end(sink):
    kept = []

    async def leaks(ctx):
        kept.append(ctx)

    await Pipeline().with_stage("a", leaks, K).run(sink=sink)
    kept[0].try_emit_event("too.late")
    sink.assert_paired(stages=["a"], end="completed")
