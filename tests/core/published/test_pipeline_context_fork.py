"""`PipelineContext` as callers of 0.9 used it: its events, its metadata, and forks for child runs."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from stageflow import (
    ContextSnapshot,
    NoOpEventSink,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    PipelineTimer,
    RunIdentity,
    StageContext,
    StageKind,
    StageOutput,
    create_stage_context,
    create_stage_inputs,
    extract_service,
    get_event_sink,
    set_event_sink,
)
from stageflow.context import OutputBag
from stageflow.events import clear_event_sink
from stageflow.testing import EventRecorder, run_virtual

RUN, REQUEST, SESSION, USER, ORG, TURN, CHILD, CORRELATION = (UUID(int=n) for n in range(1, 9))
IDS = {
    "pipeline_run_id": RUN,
    "request_id": REQUEST,
    "session_id": SESSION,
    "user_id": USER,
    "org_id": ORG,
    "interaction_id": TURN,
}


def context(**more: object) -> PipelineContext:
    more.setdefault("topology", "chat_fast")
    more.setdefault("execution_mode", "practice")
    more.setdefault("service", "chat")
    return PipelineContext(**IDS, **more)


# --- the context itself -------------------------------------------------------------------------------------


def test_it_takes_keywords_only_and_keeps_what_it_is_given():
    with pytest.raises(TypeError):
        PipelineContext(RUN)
    ctx = context(configuration={"model": "m1"}, data={"n": 1}, db="handle")
    assert {key: getattr(ctx, key) for key in IDS} == IDS
    assert (ctx.topology, ctx.execution_mode, ctx.service, ctx.db) == (
        "chat_fast",
        "practice",
        "chat",
        "handle",
    )
    assert (ctx.configuration, ctx.data, ctx.artifacts) == ({"model": "m1"}, {"n": 1}, [])
    assert (ctx.canceled, ctx.is_canceled, ctx.is_child_run) == (False, False, False)
    assert (ctx.parent_run_id, ctx.parent_stage_id, ctx.correlation_id) == (None, None, None)
    assert PipelineContext(**dict.fromkeys(IDS)).service == "pipeline"
    assert PipelineContext.now().utcoffset() == timedelta(0)


def test_ids_may_be_none():
    ctx = PipelineContext(
        pipeline_run_id=None, request_id=None, session_id=None, user_id=None, org_id=None, interaction_id=None
    )
    assert ctx.to_dict()["user_id"] is None


def test_its_sink_is_the_current_one_by_default():
    sink = EventRecorder()
    set_event_sink(sink)
    try:
        ctx = context()
        assert ctx.event_sink is sink
    finally:
        clear_event_sink()
    ctx.try_emit_event("app.hello", {"n": 1})
    assert sink.types == ["app.hello"]
    assert isinstance(get_event_sink(), NoOpEventSink)


def test_it_is_plain_data():
    ctx = context(data={"n": 1})
    assert ctx.to_dict() == {
        **{key: str(value) for key, value in IDS.items()},
        "topology": "chat_fast",
        "execution_mode": "practice",
        "service": "chat",
        "data": {"n": 1},
        "canceled": False,
        "artifacts_count": 0,
    }
    child = ctx.fork(CHILD, "plan", CORRELATION)
    more = child.to_dict()
    assert (more["pipeline_run_id"], more["parent_run_id"]) == (str(CHILD), str(RUN))
    assert (more["parent_stage_id"], more["correlation_id"]) == ("plan", str(CORRELATION))


def test_record_stage_event():
    sink = EventRecorder()
    ctx = context(event_sink=sink)
    ctx.record_stage_event(stage="writer", status="warmed", payload={"rows": 3})
    (event,) = sink.events
    assert event.type == "stage.writer.warmed"
    payload = dict(event.data)
    assert datetime.fromisoformat(payload.pop("timestamp")).utcoffset() == timedelta(0)
    assert {key: payload[key] for key in payload if key != "interaction_id"} == {
        "pipeline_run_id": str(RUN),
        "request_id": str(REQUEST),
        "session_id": str(SESSION),
        "user_id": str(USER),
        "org_id": str(ORG),
        "service": "chat",
        "stage": "writer",
        "status": "warmed",
        "topology": "chat_fast",
        "execution_mode": "practice",
        "rows": 3,
    }


def test_record_stage_event_lets_the_payload_win():
    sink = EventRecorder()
    context(event_sink=sink).record_stage_event(stage="a", status="done", payload={"service": "other"})
    assert sink.events[0].data["service"] == "other"


def test_try_emit_event_has_the_ids_and_lets_the_callers_keys_win():
    sink = EventRecorder()
    context(event_sink=sink).try_emit_event("app.saved", {"rows": 3, "service": "mine"})
    data = sink.data("app.saved")
    assert {key: data[key] for key in ("pipeline_run_id", "request_id", "execution_mode", "topology")} == {
        "pipeline_run_id": str(RUN),
        "request_id": str(REQUEST),
        "execution_mode": "practice",
        "topology": "chat_fast",
    }
    assert (data["rows"], data["service"]) == (3, "mine")


def test_a_sink_that_raises_breaks_no_caller():
    class Broken:
        async def emit(self, *, type, data):
            raise OSError("disk full")

        def try_emit(self, *, type, data):
            raise OSError("disk full")

    context(event_sink=Broken()).try_emit_event("app.saved", {})
    context(event_sink=Broken()).record_stage_event(stage="a", status="done")


def test_stage_metadata():
    ctx = context()
    assert ctx.get_stage_metadata("agent") is None
    ctx.set_stage_metadata("agent", {"tokens": 7})
    assert ctx.get_stage_metadata("agent") == {"tokens": 7}
    assert ctx.get_stage_metadata("writer") is None


@pytest.mark.parametrize(
    ("topology", "service"),
    [
        (None, None),
        ("chat_kernel", None),
        ("chat_fast", "chat"),
        ("a_b_c", "a_b"),
        ("chat", "chat"),
        ("_x", "_x"),
    ],
)
def test_extract_service(topology, service):
    assert extract_service(topology) == service


# --- fork ---------------------------------------------------------------------------------------------------


def test_a_fork_has_the_ids_of_its_parent_and_data_of_its_own():
    sink = EventRecorder()
    parent = context(
        event_sink=sink, db="handle", configuration={"model": "m1"}, data={"tone": "calm", "tags": ["a"]}
    )
    child = parent.fork(child_run_id=CHILD, parent_stage_id="plan", correlation_id=CORRELATION)
    assert child.pipeline_run_id == CHILD
    assert {key: getattr(child, key) for key in IDS if key != "pipeline_run_id"} == {
        key: value for key, value in IDS.items() if key != "pipeline_run_id"
    }
    assert (child.parent_run_id, child.parent_stage_id, child.correlation_id) == (RUN, "plan", CORRELATION)
    assert (child.service, child.db, child.event_sink) == ("chat", "handle", sink)
    assert (child.topology, child.execution_mode) == ("chat_fast", "practice")
    assert (child.data, child.artifacts, child.canceled) == ({}, [], False)
    assert child.is_child_run
    assert not parent.is_child_run
    child.data["mine"] = 1
    child.configuration["model"] = "m2"
    assert parent.data == {"tone": "calm", "tags": ["a"]}
    assert parent.configuration == {"model": "m1"}


def test_a_fork_may_have_another_topology_and_mode():
    child = context().fork(CHILD, "plan", None, topology="search_deep", execution_mode="production")
    assert (child.topology, child.execution_mode) == ("search_deep", "production")


def test_a_fork_reads_its_parents_data_and_cannot_change_it():
    # Findings A1.14: nested values were shared, and a child could change them.
    parent = context(data={"tone": "calm", "tags": ["a"], "nested": {"n": 1}})
    child = parent.fork(CHILD, "plan", None)
    assert child.get_parent_data("tone") == "calm"
    assert child.get_parent_data("missing") is None
    assert child.get_parent_data("missing", "default") == "default"
    with pytest.raises(TypeError):
        child.get_parent_data("tags").append("b")
    with pytest.raises(TypeError):
        child.get_parent_data("nested")["n"] = 2
    parent.data["tags"].append("later")
    assert child.get_parent_data("tags") == ["a"]  # as it was at the fork
    assert parent.data["nested"] == {"n": 1}
    assert context().get_parent_data("tone", "no parent") == "no parent"


def test_what_a_fork_inherits_is_said():
    parent = context(data={"tone": "calm", "secret": 1})
    assert parent.fork(CHILD, "plan", None, inherit_data=True).data == {"tone": "calm", "secret": 1}
    child = parent.fork(CHILD, "plan", None, inherit_data=["tone"], data_overrides={"limit": 3})
    assert child.data == {"tone": "calm", "limit": 3}


def test_a_fork_is_cancelled_with_its_parent_and_not_the_other_way_round():
    parent = context()
    child = parent.fork(CHILD, "plan", None)
    other = parent.fork(uuid4(), "plan", None)
    child.mark_canceled()
    assert (parent.is_canceled, child.is_canceled, other.is_canceled) == (False, True, False)
    parent.mark_canceled()
    assert (parent.is_canceled, other.is_canceled) == (True, True)


def test_a_program_that_forks_by_hand():
    """A parent pipeline whose stage runs a child pipeline with a forked context, as 0.9 programs did."""
    sink = EventRecorder()

    class LookUp:
        name = "look_up"
        kind = StageKind.ENRICH

        async def execute(self, ctx: StageContext) -> StageOutput:
            return StageOutput.ok(found=f"{ctx.input_text} in a book", mode=ctx.execution_mode)

    child_graph = Pipeline("searching").with_stage("look_up", LookUp, StageKind.ENRICH).build()

    class Plan:
        name = "plan"
        kind = StageKind.AGENT

        async def execute(self, ctx: StageContext) -> StageOutput:
            parent = ctx.as_pipeline_context(data={"tone": "calm"}, service="planner")
            assert isinstance(parent, PipelineContext)
            assert (parent.service, parent.data, parent.pipeline_run_id) == ("planner", {"tone": "calm"}, RUN)
            child = parent.fork(CHILD, ctx.stage_name, CORRELATION, execution_mode="dry", input_text="whales")
            results = await child_graph.run(child)
            return StageOutput.ok(results["look_up"].data, run_id=str(results.run_id))

    graph = Pipeline("planning").with_stage("plan", Plan, StageKind.AGENT).build()
    results = run_virtual(graph.run(context(event_sink=sink)))
    assert results["plan"].data == {"found": "whales in a book", "mode": "dry", "run_id": str(CHILD)}
    assert [(event.data["pipeline"], event.type) for event in sink.events] == [
        ("planning", "pipeline.started"),
        ("planning", "stage.plan.started"),
        ("searching", "pipeline.started"),
        ("searching", "stage.look_up.started"),
        ("searching", "stage.look_up.completed"),
        ("searching", "pipeline.completed"),
        ("planning", "stage.plan.completed"),
        ("planning", "pipeline.completed"),
    ]
    assert [
        event.data["pipeline_run_id"] for event in sink.events if event.data["pipeline"] == "searching"
    ] == [str(CHILD)] * 4
    sink.assert_paired()


def test_marking_the_parent_stops_a_run_of_the_fork():
    async def program():
        parent = context()
        child = parent.fork(CHILD, "plan", None)

        async def waits(ctx):
            await asyncio.sleep(3600)

        asyncio.get_running_loop().call_later(1, parent.mark_canceled)
        with pytest.raises(PipelineCancelled):
            await Pipeline().with_stage("waits", waits, StageKind.WORK).build().run(child)
        return asyncio.get_running_loop().time()

    assert run_virtual(program()) == pytest.approx(1, abs=0.1)


# --- contexts of stages -------------------------------------------------------------------------------------


def test_derive_for_stage():
    async def program():
        bag = OutputBag()
        await bag.write("profile", StageOutput.ok(name="Ada"))
        await bag.write("router", StageOutput.ok(route="fast"))
        return bag

    bag = run_virtual(program())
    sink = EventRecorder()
    snapshot = ContextSnapshot(input_text="hi")
    ctx = context(event_sink=sink).derive_for_stage(
        "agent", snapshot, bag, declared_deps=["profile", "router"], ports={"llm": "model"}
    )
    assert isinstance(ctx, StageContext)
    assert (ctx.stage_name, ctx.snapshot.input_text) == ("agent", "hi")
    assert ctx.inputs.get_from("profile", "name") == "Ada"
    assert ctx.inputs.get("route") == "fast"
    assert ctx.inputs.ports == {"llm": "model"}
    ctx.try_emit_event("app.hello")
    assert sink.types == ["app.hello"]


def stage_context(sink: object = None) -> StageContext:
    snapshot = ContextSnapshot(
        run_id=RunIdentity(**IDS), input_text="hi", topology="chat_fast", execution_mode="practice"
    )
    return create_stage_context(
        snapshot=snapshot,
        inputs=create_stage_inputs(snapshot),
        stage_name="agent",
        timer=PipelineTimer(),
        event_sink=sink,
    )


def test_a_stage_context_is_frozen_plain_data_and_emits():
    sink = EventRecorder()
    ctx = stage_context(sink)
    with pytest.raises((AttributeError, TypeError)):
        ctx.stage_name = "other"
    data = ctx.to_dict()
    assert (data["stage_name"], data["input_text"], data["user_id"]) == ("agent", "hi", str(USER))
    assert datetime.fromisoformat(data["started_at"]) == ctx.started_at
    ctx.try_emit_event("app.saved", {"rows": 3, "request_id": "mine"})
    emitted = sink.data("app.saved")
    assert (emitted["pipeline_run_id"], emitted["execution_mode"], emitted["rows"]) == (
        str(RUN),
        "practice",
        3,
    )
    assert emitted["request_id"] == "mine"


def test_record_stage_event_of_a_stage_context():
    sink = EventRecorder()
    stage_context(sink).record_stage_event("writer", "warmed", rows=3)
    (event,) = sink.events
    assert event.type == "stage.warmed"
    assert (event.data["stage"], event.data["status"], event.data["stage_name"], event.data["rows"]) == (
        "writer",
        "warmed",
        "agent",
        3,
    )


def test_a_stage_context_without_a_sink_emits_nothing_and_breaks_nothing(caplog):
    # Findings A1.30: with DEBUG logging on, 0.9 raised KeyError for a key like "name".
    caplog.set_level("DEBUG")
    stage_context().try_emit_event("app.saved", {"name": "Ada", "message": "hi", "args": (1,)})


def test_a_stage_context_gives_a_pipeline_context():
    sink = EventRecorder()
    parent = stage_context(sink).as_pipeline_context()
    assert {key: getattr(parent, key) for key in IDS} == IDS
    assert (parent.topology, parent.execution_mode, parent.service) == ("chat_fast", "practice", "pipeline")
    assert (parent.data, parent.configuration, parent.db) == ({}, {}, None)
    data, configuration = {"n": 1}, {"m": 2}
    parent = stage_context(sink).as_pipeline_context(
        data=data, configuration=configuration, service="s", db="d"
    )
    assert (parent.data, parent.configuration, parent.service, parent.db) == ({"n": 1}, {"m": 2}, "s", "d")
    parent.data["n"] = 2
    parent.configuration["m"] = 3
    assert (data, configuration) == ({"n": 1}, {"m": 2})  # copies
    assert StageContext.now().utcoffset() == timedelta(0)


def test_the_timer():
    timer = PipelineTimer()
    assert timer.started_at.utcoffset() == timedelta(0)
    assert timer.elapsed_ms() >= 0
    assert timer.now_ms() >= timer.pipeline_start_ms
    assert abs(timer.pipeline_start_ms / 1000 - timer.started_at.timestamp()) < 1
