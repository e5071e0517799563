"""Event sinks as 0.9 documented them: a list, an SQLite table, the log, the queue; and wide events."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from contextlib import closing
from uuid import UUID

import pytest
from stageflow import (
    EventSink,
    LoggingEventSink,
    NoOpEventSink,
    Pipeline,
    PipelineContext,
    StageContext,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageResult,
    StageSpec,
    clear_event_sink,
    get_event_sink,
    set_event_sink,
)
from stageflow.events import BackpressureAwareEventSink, WideEventEmitter, wait_for_event_sink_tasks
from stageflow.testing import (
    EventRecorder,
    ScriptedStage,
    create_test_pipeline_context,
    leak_check,
    run_virtual,
)

RUN, REQUEST, SESSION, USER, ORG, TURN = (UUID(int=n) for n in range(1, 7))


class ListSink:
    """The sink of every tutorial."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict]] = []

    async def emit(self, *, type: str, data: dict | None) -> None:
        self.events.append((type, data or {}))

    def try_emit(self, *, type: str, data: dict | None) -> None:
        self.events.append((type, data or {}))


class SQLiteSink:
    """What a backend writes down for its support desk."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS events"
            " (id INTEGER PRIMARY KEY, run TEXT, sequence INTEGER, type TEXT, payload TEXT)"
        )

    async def emit(self, *, type: str, data: dict | None) -> None:
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict | None) -> None:
        data = data or {}
        with self.connection:
            self.connection.execute(
                "INSERT INTO events (run, sequence, type, payload) VALUES (?, ?, ?, ?)",
                (data.get("pipeline_run_id"), data.get("sequence"), type, json.dumps(data)),
            )

    def close(self) -> None:
        self.connection.close()


class Draft:
    name = "draft"
    kind = StageKind.AGENT

    async def execute(self, ctx: StageContext) -> StageOutput:
        ctx.try_emit_event("draft.token", {"text": "Dear"})
        await asyncio.sleep(0.1)
        ctx.try_emit_event("draft.token", {"text": "Ada"})
        return StageOutput.ok(text="Dear Ada")


class Check:
    name = "check"
    kind = StageKind.GUARD

    async def execute(self, ctx: StageContext) -> StageOutput:
        if "Ada" not in ctx.inputs.require_from("draft", "text"):
            return StageOutput.fail("who is it for?")
        ctx.record_stage_event("check", "passed", rules=3)
        return StageOutput.skip("nothing to correct")


def letter() -> Pipeline:
    return (
        Pipeline("letter")
        .with_stage("draft", Draft, StageKind.AGENT)
        .with_stage("check", Check, StageKind.GUARD, dependencies=("draft",))
    )


TYPES = [
    "pipeline.started",
    "stage.draft.started",
    "draft.token",
    "draft.token",
    "stage.draft.completed",
    "stage.check.started",
    "stage.passed",
    "stage.check.skipped",
    "pipeline.completed",
]


def context(**more: object) -> PipelineContext:
    return PipelineContext(
        pipeline_run_id=RUN,
        request_id=REQUEST,
        session_id=SESSION,
        user_id=USER,
        org_id=ORG,
        interaction_id=TURN,
        topology="letter_fast",
        execution_mode="practice",
        service="letters",
        **more,
    )


# --- sinks of one's own -------------------------------------------------------------------------------------


def test_sinks_of_0_9_are_sinks():
    assert isinstance(ListSink(), EventSink)
    assert isinstance(NoOpEventSink(), EventSink)
    assert isinstance(LoggingEventSink(), EventSink)
    assert not isinstance(object(), EventSink)


def test_a_list_has_every_event_in_order():
    sink = ListSink()
    run_virtual(letter().build().run(context(event_sink=sink)))
    assert [type for type, _ in sink.events] == TYPES
    assert [data["sequence"] for _, data in sink.events] == list(range(1, len(TYPES) + 1))
    stamps = [data["monotonic_ns"] for _, data in sink.events]
    assert stamps == sorted(stamps)
    for _, data in sink.events:
        assert {
            key: data[key]
            for key in (
                "pipeline_run_id",
                "request_id",
                "session_id",
                "user_id",
                "org_id",
                "service",
                "pipeline",
            )
        } == {
            "pipeline_run_id": str(RUN),
            "request_id": str(REQUEST),
            "session_id": str(SESSION),
            "user_id": str(USER),
            "org_id": str(ORG),
            "service": "letters",
            "pipeline": "letter",
        }
    tokens = [data["text"] for type, data in sink.events if type == "draft.token"]
    assert tokens == ["Dear", "Ada"]
    passed = dict(sink.events[6][1])
    assert (passed["stage"], passed["status"], passed["stage_name"], passed["rules"]) == (
        "check",
        "passed",
        "check",
        3,
    )


def test_a_database_has_every_event_and_can_be_asked(tmp_path):
    path = str(tmp_path / "events.sqlite")
    sink = SQLiteSink(path)
    other = UUID(int=99)
    try:

        async def program():
            graph = letter().build()
            await asyncio.gather(
                graph.run(context(event_sink=sink)),
                graph.run(create_test_pipeline_context(pipeline_run_id=other, event_sink=sink)),
            )

        run_virtual(program())
    finally:
        sink.close()
    with closing(sqlite3.connect(path)) as connection:
        for run in (RUN, other):
            rows = connection.execute(
                "SELECT sequence, type FROM events WHERE run = ? ORDER BY sequence", (str(run),)
            ).fetchall()
            assert rows == list(enumerate(TYPES, start=1))
        (count,) = connection.execute("SELECT COUNT(*) FROM events").fetchone()
        assert count == 2 * len(TYPES)
        (payload,) = connection.execute(
            "SELECT payload FROM events WHERE type = 'stage.check.skipped' AND run = ?", (str(RUN),)
        ).fetchone()
    assert json.loads(payload)["reason"] == "nothing to correct"


def test_a_closed_database_breaks_no_run(tmp_path, caplog):
    sink = SQLiteSink(str(tmp_path / "events.sqlite"))
    sink.close()
    results = run_virtual(letter().build().run(context(event_sink=sink)))
    assert results["draft"].data == {"text": "Dear Ada"}
    assert any("ProgrammingError" in record.getMessage() or record.exc_info for record in caplog.records)


def test_a_failure_is_in_the_events():
    sink = ListSink()
    pipeline = (
        Pipeline("letter")
        .with_stage("draft", ScriptedStage({"text": "Dear all"}), StageKind.AGENT)
        .with_stage("check", Check, StageKind.GUARD, dependencies=("draft",))
        .with_stage("send", ScriptedStage(), StageKind.WORK, dependencies=("check",))
    )
    with pytest.raises(StageExecutionError):
        run_virtual(pipeline.build().run(context(event_sink=sink)))
    assert [type for type, _ in sink.events] == [
        "pipeline.started",
        "stage.draft.started",
        "stage.draft.completed",
        "stage.check.started",
        "stage.check.failed",
        "stage.send.skipped",
        "pipeline.failed",
    ]
    assert sink.events[4][1]["error"] == "who is it for?"
    end = sink.events[-1][1]
    assert (end["failed_stage"], end["code"]) == ("check", "SF-RUN-STAGE-FAILED")
    assert "who is it for?" in end["error"]


# --- the current sink ---------------------------------------------------------------------------------------


def test_the_current_sink_is_never_none_and_is_used_where_nothing_else_is_said():
    assert isinstance(get_event_sink(), NoOpEventSink)
    sink = ListSink()

    async def program():
        set_event_sink(sink)
        assert get_event_sink() is sink
        await letter().build().run(context())
        clear_event_sink()
        assert isinstance(get_event_sink(), NoOpEventSink)
        await letter().build().run(context())

    run_virtual(program())
    assert [type for type, _ in sink.events] == TYPES


def test_tasks_have_their_own_current_sink():
    one, other = ListSink(), ListSink()

    async def handler(sink: ListSink) -> None:
        set_event_sink(sink)
        await asyncio.sleep(0)
        await letter().build().run(context())

    async def program():
        await asyncio.gather(handler(one), handler(other))
        assert isinstance(get_event_sink(), NoOpEventSink)

    run_virtual(program())
    assert [type for type, _ in one.events] == TYPES
    assert [type for type, _ in other.events] == TYPES


def test_the_log_as_a_sink(caplog):
    caplog.set_level(logging.INFO, logger="stageflow.events")
    run_virtual(letter().build().run(context(event_sink=LoggingEventSink())))
    records = [record for record in caplog.records if record.name == "stageflow.events"]
    assert [record.getMessage() for record in records] == [f"Event: {type}" for type in TYPES]
    assert {record.levelno for record in records} == {logging.INFO}
    assert [record.event_type for record in records] == TYPES
    assert records[0].event_data["pipeline_run_id"] == str(RUN)


def test_the_log_at_another_level(caplog):
    caplog.set_level(logging.DEBUG, logger="stageflow.events")
    LoggingEventSink(level=logging.DEBUG).try_emit(type="app.hello", data={"n": 1})
    asyncio.run(LoggingEventSink(level=logging.WARNING).emit(type="app.bye", data=None))
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.DEBUG, "Event: app.hello"),
        (logging.WARNING, "Event: app.bye"),
    ]


# --- the queue between a run and a slow sink ----------------------------------------------------------------


class SlowSink(ListSink):
    async def emit(self, *, type: str, data: dict | None) -> None:
        await asyncio.sleep(1)
        await super().emit(type=type, data=data)


def test_a_slow_sink_behind_a_queue_slows_no_run():
    slow = SlowSink()

    async def program():
        async with leak_check():
            sink = BackpressureAwareEventSink(slow, max_queue_size=100)
            await sink.start()
            assert sink.is_running
            begin = asyncio.get_running_loop().time()
            await letter().build().run(context(event_sink=sink))
            took = asyncio.get_running_loop().time() - begin
            await sink.stop(drain=True, timeout=60)
            assert not sink.is_running
            return took, sink

    took, sink = run_virtual(program())
    assert took < 1  # the run itself waits 0.1 s
    assert [type for type, _ in slow.events] == TYPES
    # Findings A1.16: `stop` lost the event in flight in 0.9.
    assert (sink.metrics.emitted, sink.metrics.dropped, sink.queue_size) == (len(TYPES), 0, 0)
    assert sink.drop_rate == 0


def test_overload_drops_and_counts_exactly():
    slow = SlowSink()
    dropped: list[str] = []

    async def program():
        sink = BackpressureAwareEventSink(
            downstream=slow, max_queue_size=2, on_drop=lambda type, data: dropped.append(type)
        )
        answers = [sink.try_emit(type=f"e{n}", data={"n": n}) for n in range(5)]
        await sink.stop(drain=True, timeout=60)
        return answers, sink

    answers, sink = run_virtual(program())
    assert answers == [True, True, False, False, False]
    assert [type for type, _ in slow.events] == ["e0", "e1"]
    assert dropped == ["e2", "e3", "e4"]
    metrics = sink.metrics
    assert (metrics.emitted, metrics.dropped, metrics.queue_full_count) == (2, 3, 3)
    assert metrics.last_emit_time is not None
    assert metrics.last_drop_time is not None
    assert sink.drop_rate == pytest.approx(60)


def test_emit_waits_for_room():
    slow = SlowSink()

    async def program():
        sink = BackpressureAwareEventSink(slow, max_queue_size=1)
        for n in range(4):
            await sink.emit(type=f"e{n}", data={})
        await sink.stop(timeout=60)
        return sink.metrics

    metrics = run_virtual(program())
    assert [type for type, _ in slow.events] == ["e0", "e1", "e2", "e3"]
    assert metrics.dropped == 0


def test_try_emit_without_a_loop_does_not_raise():
    # Findings A1.16: RuntimeError in 0.9, and what came before `start` was dropped.
    downstream = ListSink()
    sink = BackpressureAwareEventSink(downstream)
    assert sink.try_emit(type="early", data={}) is True

    async def program():
        await sink.start()
        await sink.stop()

    asyncio.run(program())
    assert [type for type, _ in downstream.events] == ["early"]


def test_a_downstream_that_fails_breaks_neither_the_sink_nor_stop():
    class Flaky(ListSink):
        async def emit(self, *, type, data):
            if type == "e1":
                raise OSError("disk full")
            await super().emit(type=type, data=data)

    flaky = Flaky()

    async def program():
        async with leak_check():
            sink = BackpressureAwareEventSink(flaky)
            for n in range(3):
                sink.try_emit(type=f"e{n}", data={})
            await sink.stop()
            return sink.metrics

    metrics = run_virtual(program())
    assert [type for type, _ in flaky.events] == ["e0", "e2"]
    assert (metrics.emitted, metrics.failed) == (3, 1)


def test_wait_for_event_sink_tasks():
    slow = SlowSink()

    async def program():
        set_event_sink(BackpressureAwareEventSink(slow))
        await letter().build().run(context())
        await wait_for_event_sink_tasks()
        seen = [type for type, _ in slow.events]
        await get_event_sink().stop()
        return seen

    assert run_virtual(program()) == TYPES


# --- wide events --------------------------------------------------------------------------------------------


def test_wide_events_of_a_graph_of_specs():
    sink = EventRecorder()
    graph = StageGraph(
        specs=[
            StageSpec(name="draft", runner=Draft),
            StageSpec(name="check", runner=Check, dependencies=("draft",)),
        ],
        emit_stage_wide_events=True,
        emit_pipeline_wide_event=True,
    )
    run_virtual(graph.run(context(event_sink=sink)))
    wide = [event for event in sink.events if event.type == "stage.wide"]
    assert [event.data["stage"] for event in wide] == ["draft", "check"]
    draft = wide[0].data
    for key, value in {
        "pipeline_run_id": str(RUN),
        "request_id": str(REQUEST),
        "session_id": str(SESSION),
        "user_id": str(USER),
        "org_id": str(ORG),
        "topology": "letter_fast",
        "execution_mode": "practice",
        "service": "letters",
        "stage": "draft",
        "status": "completed",
        "error": None,
        "data_keys": ["text"],
    }.items():
        assert draft[key] == value, key
    assert draft["duration_ms"] >= 0
    assert draft["started_at"] <= draft["ended_at"]
    pipeline = sink.data("pipeline.wide")
    assert (pipeline["status"], pipeline["service"], pipeline["topology"]) == (
        "completed",
        "letters",
        "letter_fast",
    )
    assert pipeline["duration_ms"] >= 0
    assert [detail["stage"] for detail in pipeline["stage_details"]] == ["draft", "check"]
    assert sum(pipeline["stage_counts"].values()) == 2


def test_the_wide_event_of_a_run_that_fails():
    # Behaviour 0.9: not emitted when the run raised. Findings A1.15: every run has its events.
    sink = EventRecorder()
    graph = (
        Pipeline("letter")
        .with_stage("draft", ScriptedStage(ValueError("no")), StageKind.AGENT)
        .build(emit_stage_wide_events=True, emit_pipeline_wide_event=True)
    )
    with pytest.raises(StageExecutionError):
        run_virtual(graph.run(context(event_sink=sink)))
    assert sink.data("stage.wide")["status"] == "failed"
    assert sink.data("pipeline.wide")["status"] == "failed"


def test_wide_events_are_opt_in_and_may_have_other_names():
    sink = EventRecorder()
    run_virtual(letter().build().run(context(event_sink=sink)))
    assert not [type for type in sink.types if type.endswith(".wide")]
    sink.clear()
    emitter = WideEventEmitter(stage_event_type="letters.stage", pipeline_event_type="letters.run")
    graph = letter().build(
        wide_event_emitter=emitter, emit_stage_wide_events=True, emit_pipeline_wide_event=True
    )
    run_virtual(graph.run(context(event_sink=sink)))
    assert [type for type in sink.types if type.startswith("letters.")] == [
        "letters.stage",
        "letters.stage",
        "letters.run",
    ]


def test_wide_events_by_hand():
    sink = EventRecorder()
    ctx = context(event_sink=sink)
    now = PipelineContext.now()
    result = StageResult(
        name="draft", status="completed", started_at=now, ended_at=now, data={"b": 1, "a": 2}
    )
    emitter = WideEventEmitter()
    emitter.emit_stage_event(ctx=ctx, result=result, extra={"model": "m1"})
    emitter.emit_pipeline_event(
        ctx=ctx,
        stage_results={"draft": result},
        pipeline_name="letter",
        status="completed",
        duration_ms=12.5,
        started_at=now,
        extra={"cost": 3},
    )
    assert sink.types == ["stage.wide", "pipeline.wide"]
    stage = sink.data("stage.wide")
    assert (stage["stage"], stage["data_keys"], stage["extra"]) == ("draft", ["a", "b"], {"model": "m1"})
    run = sink.data("pipeline.wide")
    assert (run["pipeline_name"], run["status"], run["duration_ms"]) == ("letter", "completed", 12.5)
    assert run["stage_counts"] == {"completed": 1}
    assert run["extra"] == {"cost": 3}
    payload = WideEventEmitter.build_stage_payload(ctx=ctx, result=result)
    assert payload["user_id"] == str(USER)
    assert (
        WideEventEmitter.build_pipeline_payload(ctx=ctx, stage_results={})["pipeline_name"] == "letter_fast"
    )
