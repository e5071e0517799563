"""Spawning: what a child gets, what its parent gets, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import pickle
from contextvars import ContextVar
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from stageflow import (
    ContextSnapshot,
    NoOpEventSink,
    Pipeline,
    PipelineContext,
    RunIdentity,
    StageContext,
    StageExecutionError,
    StageInputs,
    StageKind,
    StageOutput,
    clear_event_sink,
    set_event_sink,
)
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import PipelineCancelled, RateLimitError, ReadOnlyDataError, RunTimeoutError
from stageflow.observability import TraceContext, set_correlation_id
from stageflow.pipeline.child_run import roster
from stageflow.pipeline.subpipeline import (
    DEFAULT_MAX_SUBPIPELINE_DEPTH,
    MaxDepthExceededError,
    SubpipelineResult,
    SubpipelineSpawner,
    clear_subpipeline_spawner,
    get_child_tracker,
    get_subpipeline_spawner,
    set_subpipeline_spawner,
)
from stageflow.stages.timer import PipelineTimer
from stageflow.testing import EventRecorder, leak_check

K = StageKind.WORK
CHILD_ENDS = {"pipeline.child_completed", "pipeline.child_failed"}


def one_stage(name, runner, **options):
    return Pipeline(name).with_stage(name, runner, K, **options)


def assert_paired(sink) -> None:
    """Every start of a child has one end, and that comes later."""
    started = [event.data["child_run_id"] for event in sink if event.type == "pipeline.spawned_child"]
    ended = [event.data["child_run_id"] for event in sink if event.type in CHILD_ENDS]
    assert sorted(started) == sorted(ended)
    assert len(set(started)) == len(started)
    for child in started:
        types = [event.type for event in sink if event.data.get("child_run_id") == child]
        assert types[0] == "pipeline.spawned_child"


async def assert_nothing_is_kept() -> None:
    metrics = await get_child_tracker().get_metrics()
    assert metrics["total_relationships"] == metrics["active_parents"] == metrics["active_children"] == 0
    assert not roster.get().running
    assert not roster.get()._below
    assert not any(roster.get()._owned.values())


async def nothing(ctx):
    return None


# --- what a parent gets ------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "data"),
    [
        ({"a": 1}, {"a": 1}),
        ({}, {}),
        ("text", {"result": "text"}),
        (None, {"result": None}),
        ([1], {"result": [1]}),
    ],
    ids=repr,
)
async def test_a_callable_gives_the_data(given, data):
    async def runner(child):
        await asyncio.sleep(0)
        return given

    result = await SubpipelineSpawner().spawn("any", PipelineContext(), None, "plan", runner)
    assert (result.success, result.data, result.error, result.error_code) == (True, data, None, None)
    assert result.duration_ms > 0
    await assert_nothing_is_kept()


async def double(ctx):
    return StageOutput.ok(text=ctx.input_text * 2)


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["pipeline", "graph", "callable", "callable that returns the results"])
async def test_every_kind_of_runner_runs_with_the_child_context(how):
    pipeline = one_stage("double", double)
    graph = pipeline.build()

    async def runner(child):
        return {name: output.data for name, output in (await graph.run(child)).items()}

    runners = {"pipeline": pipeline, "graph": graph, "callable": runner}
    result = await SubpipelineSpawner().spawn(
        "double", PipelineContext(), None, "plan", runners.get(how, graph.run), input_text="ab"
    )
    assert result.data == {"double": {"text": "abab"}}


@pytest.mark.asyncio
async def test_a_failed_child_is_a_result_with_the_error_in_it(sink):
    async def broken(ctx):
        raise ValueError("no such date")

    pipeline = one_stage("fine", nothing).with_stage("broken", broken, K, ["fine"])
    ctx = PipelineContext(event_sink=sink)
    result = await SubpipelineSpawner().spawn("child", ctx, None, "plan", pipeline)
    assert not result.success
    assert result.data is None
    assert "no such date" in result.error
    assert result.error_code == "SF-RUN-STAGE-FAILED"
    assert isinstance(result.exception, StageExecutionError)
    assert set(result.exception.results) == {"fine", "broken"}
    event = sink.data("pipeline.child_failed")
    assert (event["error_message"], event["error_code"]) == (result.error, result.error_code)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), None),
        (RateLimitError("slow down", 2.0), "SF-RUN-RATE-LIMIT"),
        (StageExecutionError("a", RateLimitError("slow down")), "SF-RUN-RATE-LIMIT"),
        (StageExecutionError("a", ValueError("x")), "SF-RUN-STAGE-FAILED"),
        (PipelineCancelled("a", "enough"), "SF-RUN-CANCELLED"),
        (RunTimeoutError(3), "SF-RUN-TIMEOUT"),
        (ExceptionGroup("two", [ValueError(), KeyError()]), None),
        (StopIteration(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_the_code_of_an_error_is_in_the_result(error, code):
    async def runner(child):
        await asyncio.sleep(0)
        raise error

    def plain(child):  # raises before there is anything to await
        raise error

    for one in (plain,) if isinstance(error, StopIteration) else (runner, plain):
        result = await SubpipelineSpawner().spawn("any", PipelineContext(), None, "plan", one)
        assert (result.success, result.error_code) == (False, code)
        assert result.exception is error
        assert result.error


@pytest.mark.asyncio
async def test_a_runner_that_is_not_async_fails_with_a_typed_error():
    result = await SubpipelineSpawner().spawn("any", PipelineContext(), None, "plan", lambda child: {"a": 1})
    assert result.error_code == "SF-RUN-ARGUMENT-TYPE"
    assert "must give something to await, not dict" in result.error


def test_a_result_is_read_only_plain_and_pickles():
    run_id = UUID(int=7)
    result = SubpipelineResult(True, run_id, {"a": 1}, duration_ms=2.0)
    assert result.to_dict() == {
        "success": True,
        "child_run_id": str(run_id),
        "duration_ms": 2.0,
        "data": {"a": 1},
    }
    assert SubpipelineResult(True, run_id).to_dict() == {
        "success": True,
        "child_run_id": str(run_id),
        "duration_ms": 0.0,
    }
    failed = SubpipelineResult.failed(run_id, RateLimitError("slow down"), 1.0)
    assert failed.to_dict()["error_code"] == "SF-RUN-RATE-LIMIT"
    assert pickle.loads(pickle.dumps(failed)) == failed
    with pytest.raises(ReadOnlyDataError):
        result.success = False


# --- what a child gets -------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_finding_a1_14_a_child_gets_what_it_is_given():
    """Its input is said in the call; data is inherited by name or as a whole, and never shared."""
    seen = []

    async def runner(child):
        seen.append(child)
        child.data.setdefault("list", []).append("child")

    parent = PipelineContext(
        pipeline_run_id=uuid4(),
        data={"list": ["parent"], "secret": 1},
        topology="chat_fast",
        input_text="outer",
    )
    spawner = SubpipelineSpawner()
    await spawner.spawn("a", parent, None, "plan", runner)
    await spawner.spawn("b", parent, None, "plan", runner, inherit_data=True, input_text="inner")
    await spawner.spawn(
        "c", parent, None, "plan", runner, inherit_data=["list"], data_overrides={"more": 2}, topology="x_y"
    )
    nothing_given, everything, by_name = seen
    assert (nothing_given.input_text, nothing_given.data) == (None, {"list": ["child"]})
    assert (everything.input_text, everything.data) == ("inner", {"list": ["parent", "child"], "secret": 1})
    assert by_name.data == {"list": ["parent", "child"], "more": 2}
    assert [child.topology for child in seen] == ["chat_fast", "chat_fast", "x_y"]
    assert parent.data == {"list": ["parent"], "secret": 1}
    assert nothing_given.get_parent_data("secret") == 1
    with pytest.raises(ReadOnlyDataError):
        nothing_given.get_parent_data("list").append("child")


@pytest.mark.asyncio
async def test_finding_a1_14_a_child_pipelines_stages_see_the_input():
    async def look(ctx):
        return StageOutput.ok(text=ctx.input_text, inherited=ctx.data)

    async def parent(ctx):
        child = await SubpipelineSpawner().spawn(
            "look", ctx, None, "parent", one_stage("look", look), input_text="inner", inherit_data=["tone"]
        )
        return StageOutput.ok(child.data["look"])

    ctx = PipelineContext(data={"tone": "calm", "secret": 1})
    results = await one_stage("parent", parent).run(ctx, input_text="outer")
    assert results["parent"].data == {"text": "inner", "inherited": {"tone": "calm"}}


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["stage context", "pipeline context"])
async def test_tenant_ids_trace_and_settings_travel(kind, sink):
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen = {}

    async def grandchild(ctx):
        trace = TraceContext.capture()
        seen["grandchild"] = (ctx.snapshot.run_id, trace.trace_id, variable.get())

    async def child(ctx):
        await SubpipelineSpawner().spawn(
            "grandchild", ctx, None, "child", one_stage("grandchild", grandchild)
        )

    async def look(child):
        seen["context"] = child
        return await one_stage("child", child_stage).run(child)

    child_stage = child
    given = PipelineContext(
        request_id=uuid4(),
        session_id=uuid4(),
        user_id=uuid4(),
        org_id=uuid4(),
        interaction_id=uuid4(),
        execution_mode="practice",
        service="chat",
        db=object(),
        configuration={"model": {"name": "small"}},
        correlation_id=uuid4(),
        event_sink=sink,
    )

    async def parent(ctx):
        variable.set("set by the parent stage")
        seen["run_id"] = ctx.pipeline_run_id
        await SubpipelineSpawner().spawn(
            "child", ctx if kind == "stage context" else given, None, "parent", look
        )

    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with TraceContext.from_headers(headers).activate():
        await one_stage("parent", parent).run(given)
    ids, trace_id, value = seen["grandchild"]
    for name in ("request_id", "session_id", "user_id", "org_id", "interaction_id"):
        assert getattr(ids, name) == getattr(given, name)
    assert (trace_id, value) == ("0af7651916cd43dd8448eb211c80319c", "set by the parent stage")
    context = seen["context"]
    assert (context.service, context.db, context.execution_mode) == ("chat", given.db, "practice")
    assert context.configuration == given.configuration
    assert context.configuration["model"] is not given.configuration["model"]
    assert (context.correlation_id, context.parent_stage_id) == (given.correlation_id, "parent")
    assert (context.parent_run_id, context.depth, context.event_sink) == (seen["run_id"], 1, sink)
    assert given in list(context.lineage())  # cancelled with it
    assert_paired(sink)


@pytest.mark.asyncio
async def test_what_a_child_sets_in_context_variables_stays_there():
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def runner(child):
        variable.set("set by the child")

    await SubpipelineSpawner().spawn("any", PipelineContext(), None, "plan", runner)
    assert variable.get() == "unset"


@pytest.mark.asyncio
async def test_a_stage_context_made_by_hand_will_do(sink):
    run_id = uuid4()
    snapshot = ContextSnapshot(RunIdentity(pipeline_run_id=run_id, org_id=UUID(int=3)))
    ctx = StageContext(snapshot, StageInputs(snapshot), "plan", PipelineTimer(), sink)
    seen = []

    async def runner(child):
        seen.append(child)

    result = await SubpipelineSpawner().spawn("any", ctx, None, "plan", runner)
    (child,) = seen
    assert (child.parent_run_id, child.org_id, child.depth) == (run_id, UUID(int=3), 1)
    assert sink.data("pipeline.spawned_child")["child_run_id"] == str(result.child_run_id)
    assert_paired(sink)


# --- what is told ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_finding_a1_15_events_go_to_the_sink_of_the_context_and_not_to_the_current_one():
    theirs, current = EventRecorder(), EventRecorder()
    correlation_id = uuid4()
    parent = PipelineContext(pipeline_run_id=uuid4(), event_sink=theirs)
    set_event_sink(current)
    try:
        result = await SubpipelineSpawner().spawn("any", parent, correlation_id, "plan", nothing)
    finally:
        clear_event_sink()
    assert theirs.types == ["pipeline.spawned_child", "pipeline.child_completed"]
    assert current.types == []
    ids = {"parent_run_id": str(parent.pipeline_run_id), "child_run_id": str(result.child_run_id)}
    started, ended = (event.data for event in theirs)
    assert {name: started[name] for name in ids} == {name: ended[name] for name in ids} == ids
    assert (started["parent_stage_id"], started["pipeline_name"]) == ("plan", "any")
    assert started["correlation_id"] == str(correlation_id)
    assert ended["duration_ms"] == result.duration_ms
    assert datetime.fromisoformat(started["timestamp"]) <= datetime.fromisoformat(ended["timestamp"])
    json.dumps([started, ended])


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["spawned", "run by the stage itself"])
async def test_every_event_of_a_child_names_the_run_above_it_and_what_ties_it_to_others(how, sink):
    correlation_id = uuid4()
    leaf = one_stage("leaf", nothing)

    async def descends(ctx):
        if how == "spawned":
            await SubpipelineSpawner().spawn("leaf", ctx, None, ctx.stage_name, leaf)
        else:
            await leaf.run(sink=sink)

    middle = one_stage("middle", descends)

    async def begins(ctx):
        if how == "spawned":
            await SubpipelineSpawner().spawn("middle", ctx, None, ctx.stage_name, middle)
        else:
            await middle.run(sink=sink)

    await one_stage("root", begins).run(PipelineContext(correlation_id=correlation_id), sink=sink)
    own = [event for event in sink if event.type not in {"pipeline.spawned_child", *CHILD_ENDS}]
    root, child, grandchild = sink.runs
    assert {(event.data["pipeline_run_id"], event.data.get("parent_run_id")) for event in own} == {
        (root, None),
        (child, root),
        (grandchild, child),
    }
    assert {event.data["correlation_id"] for event in sink} == {str(correlation_id)}


@pytest.mark.asyncio
async def test_the_events_of_a_callables_context_name_the_run_above_it_too(sink):
    parent = PipelineContext(pipeline_run_id=uuid4(), correlation_id=uuid4(), event_sink=sink)

    async def tells(child):
        child.try_emit_event("own", {"n": 1})

    await SubpipelineSpawner().spawn("any", parent, None, "plan", tells)
    told = sink.data("own")
    assert told["parent_run_id"] == str(parent.pipeline_run_id)
    assert told["correlation_id"] == str(parent.correlation_id)
    parent.try_emit_event("above")
    assert "parent_run_id" not in sink.data("above")


@pytest.mark.asyncio
async def test_a_run_that_nothing_is_above_and_that_nothing_ties_to_others_says_nothing_of_it(sink):
    await one_stage("alone", nothing).run(sink=sink)
    assert not {key for event in sink for key in event.data} & {"parent_run_id", "correlation_id"}


@pytest.mark.asyncio
@pytest.mark.parametrize("wrapped", [False, True], ids=["callable", "pipeline"])
async def test_a_child_is_tied_to_others_by_the_current_correlation_id_if_nothing_else_does(wrapped, sink):
    seen, current = [], uuid4()

    async def parent(ctx):
        set_correlation_id(current)
        await SubpipelineSpawner().spawn("child", ctx, None, ctx.stage_name, what)

    async def callable_(child):
        seen.append(child.correlation_id)

    what = one_stage("inner", nothing) if wrapped else callable_
    await one_stage("parent", parent).run(sink=sink)
    assert sink.data("pipeline.spawned_child")["correlation_id"] == str(current)
    assert seen == ([] if wrapped else [current])


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["stage context", "pipeline context", "derived context"])
async def test_finding_a1_15_in_a_run_events_have_their_place_in_its_sequence(kind):
    given = PipelineContext(event_sink=NoOpEventSink())

    async def parent(ctx):
        one = {"stage context": ctx, "pipeline context": given}.get(kind) or ctx.as_pipeline_context()
        await SubpipelineSpawner().spawn("any", one, None, "parent", one_stage("inner", nothing))

    events = [event async for event in one_stage("parent", parent).stream(given)]
    assert [event.type for event in events] == [
        "pipeline.started",
        "stage.parent.started",
        "pipeline.spawned_child",
        "pipeline.child_completed",
        "stage.parent.completed",
        "pipeline.completed",
    ]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert {event.data["pipeline_run_id"] for event in events} == {events[2].data["parent_run_id"]}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "end",
    [ValueError, asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, BaseException],
)
@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("wrapped", [False, True], ids=["callable", "pipeline"])
async def test_finding_a1_15_start_and_end_always_pair(end, suspends, wrapped, sink):
    async def runner(child):
        if suspends:
            await asyncio.sleep(0)
        raise end

    what = one_stage("inner", runner) if wrapped else runner
    ctx = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
    async with leak_check():
        spawning = SubpipelineSpawner().spawn("any", ctx, None, "plan", what)
        fatal = (
            {KeyboardInterrupt, SystemExit}
            if wrapped
            else {KeyboardInterrupt, SystemExit, GeneratorExit, BaseException}
        )
        if end in fatal:
            with pytest.raises(end):
                await spawning
        else:
            assert not (await spawning).success
    assert_paired(sink)
    assert sink.types[-1] == "pipeline.child_failed"
    await assert_nothing_is_kept()


@pytest.mark.asyncio
async def test_what_nobody_may_handle_ends_the_parent_run_too(sink):
    async def inner(ctx):
        raise KeyboardInterrupt

    async def parent(ctx):
        await SubpipelineSpawner().spawn("inner", ctx, None, "parent", one_stage("inner", inner))

    async with leak_check():
        with pytest.raises(KeyboardInterrupt):
            await one_stage("parent", parent).run(sink=sink)
    assert_paired(sink)
    assert sink.types[-1] == "pipeline.failed"


@pytest.mark.asyncio
async def test_a_sink_that_ends_the_process_leaves_nothing():
    def hook(event):
        if event.type == "pipeline.spawned_child":
            raise KeyboardInterrupt

    ctx = PipelineContext(pipeline_run_id=uuid4(), event_sink=EventRecorder(hook))
    async with leak_check():
        with pytest.raises(KeyboardInterrupt):
            await SubpipelineSpawner().spawn("any", ctx, None, "plan", nothing)
    assert_paired(ctx.event_sink)
    await assert_nothing_is_kept()


@pytest.mark.asyncio
async def test_a_sink_that_raises_breaks_nothing():
    def hook(event):
        raise ValueError("broken sink")

    ctx = PipelineContext(event_sink=EventRecorder(hook))
    assert (await SubpipelineSpawner().spawn("any", ctx, None, "plan", nothing)).success


@pytest.mark.asyncio
async def test_events_can_be_left_out(sink):
    ctx = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
    spawner = SubpipelineSpawner(emit_events=False)
    await spawner.spawn("any", ctx, None, "plan", nothing)
    await spawner.cancel_with_children(ctx.pipeline_run_id, contexts={ctx.pipeline_run_id: ctx})
    assert sink.types == []


# --- depth -------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("hidden", ["", "fresh context", "pipeline context"])
async def test_finding_a1_25_depth_travels_in_the_context(hidden, sink):
    """A fresh spawner at every level, and a context that says nothing, begin no count of their own."""
    depths = []

    async def recurse(ctx):
        depths.append(ctx.depth)
        spawner = SubpipelineSpawner()
        one = {"fresh context": PipelineContext(), "pipeline context": ctx.as_pipeline_context()}.get(
            hidden, ctx
        )
        child = await spawner.spawn("recurse", one, None, "recurse", pipeline)
        if not child.success:
            raise child.exception

    pipeline = one_stage("recurse", recurse)
    async with leak_check():
        with pytest.raises(StageExecutionError) as caught:
            await pipeline.run(sink=sink)
    assert depths == list(range(DEFAULT_MAX_SUBPIPELINE_DEPTH + 1))
    error = caught.value
    while isinstance(error, StageExecutionError):
        error = error.original
    assert isinstance(error, MaxDepthExceededError)
    assert (error.current_depth, error.max_depth, error.code) == (5, 5, "SF-RUN-DEPTH")
    assert pickle.loads(pickle.dumps(error)).max_depth == 5
    assert_paired(sink)


@pytest.mark.asyncio
@pytest.mark.parametrize("fresh", [False, True], ids=["child context", "fresh context"])
async def test_finding_a1_25_callables_recurse_no_deeper_either(fresh):
    calls = []

    async def recurse(child):
        calls.append(child.depth)
        ctx = PipelineContext() if fresh else child
        return (await SubpipelineSpawner(max_depth=3).spawn("again", ctx, None, "x", recurse)).to_dict()

    result = await SubpipelineSpawner(max_depth=3).spawn("again", PipelineContext(), None, "x", recurse)
    assert calls == [1, 2, 3]
    assert "SF-RUN-DEPTH" in json.dumps(result.to_dict())


@pytest.mark.asyncio
async def test_runs_that_were_started_without_a_spawner_count(sink):
    depths = []

    async def innermost(ctx):
        with pytest.raises(MaxDepthExceededError) as caught:
            await SubpipelineSpawner(max_depth=2).spawn("any", ctx, None, "innermost", nothing)
        depths.append((ctx.depth, caught.value.current_depth))

    async def middle(ctx):
        await one_stage("innermost", innermost).run()

    async def outer(ctx):
        await one_stage("middle", middle).run()

    await one_stage("outer", outer).run(sink=sink)
    assert depths == [(2, 2)]


@pytest.mark.asyncio
async def test_finding_a1_25_a_context_alone_knows_its_depth():
    deep = PipelineContext().fork().fork()
    with pytest.raises(MaxDepthExceededError):
        await SubpipelineSpawner(max_depth=2).spawn("any", deep, None, "plan", nothing)

    async def look(ctx):
        return StageOutput.ok(depths=[ctx.depth, ctx.as_pipeline_context().depth])

    results = await one_stage("look", look).run(deep)
    assert results["look"].data["depths"] == [2, 2]


@pytest.mark.asyncio
async def test_a_limit_of_nothing_allows_nothing(sink):
    ctx = PipelineContext(event_sink=sink)
    with pytest.raises(MaxDepthExceededError):
        await SubpipelineSpawner(max_depth=0).spawn("any", ctx, None, "plan", nothing)
    assert sink.types == []


# --- many, and time ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_fifty_children_at_once(sink):
    together = asyncio.Barrier(50)

    async def inner(ctx):
        await together.wait()
        return StageOutput.ok(number=int(ctx.input_text))

    pipeline = one_stage("inner", inner)
    spawner = SubpipelineSpawner()

    async def parent(ctx):
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    spawner.spawn("inner", ctx, None, "parent", pipeline, input_text=str(number))
                )
                for number in range(50)
            ]
        return StageOutput.ok(numbers=[task.result().data["inner"]["number"] for task in tasks])

    async with leak_check():
        results = await one_stage("parent", parent).run(sink=sink)
        assert results["parent"].data["numbers"] == list(range(50))
        assert_paired(sink)
        metrics = await get_child_tracker().get_metrics()
    assert (metrics["max_concurrent_children"], metrics["registration_count"]) == (50, 50)
    await assert_nothing_is_kept()


@pytest.mark.asyncio
async def test_finding_a1_11_runs_that_share_a_spawner_do_not_mix():
    spawner = SubpipelineSpawner()
    both = asyncio.Barrier(2)

    async def inner(child):
        await both.wait()
        return {"for": child.org_id.int}

    async def parent(ctx):
        return StageOutput.ok((await spawner.spawn("inner", ctx, None, "parent", inner)).data)

    graph = one_stage("parent", parent).build()
    sinks = [EventRecorder(), EventRecorder()]
    runs = [
        graph.run(PipelineContext(org_id=UUID(int=number), event_sink=sink))
        for number, sink in enumerate(sinks, 1)
    ]
    results = await asyncio.gather(*runs)
    assert [one["parent"].data["for"] for one in results] == [1, 2]
    for number, sink in enumerate(sinks, 1):
        assert {event.data["org_id"] for event in sink} == {str(UUID(int=number))}
        sink.assert_paired(stages=["parent"], end="completed")
        assert_paired(sink)


@pytest.mark.asyncio
@pytest.mark.parametrize("wrapped", [False, True], ids=["callable", "pipeline"])
async def test_the_parents_deadline_is_the_childs(wrapped, sink):
    async def inner(ctx):
        await asyncio.sleep(60)

    async def parent(ctx):
        what = one_stage("inner", inner) if wrapped else inner
        await SubpipelineSpawner().spawn("inner", ctx, None, "parent", what)

    async with leak_check():
        with pytest.raises(RunTimeoutError):
            await one_stage("parent", parent).run(sink=sink, timeout=0.02)
    assert_paired(sink)
    assert sink.types[-2:] == ["stage.parent.cancelled", "pipeline.cancelled"]
    await assert_nothing_is_kept()


@pytest.mark.asyncio
async def test_a_child_run_ends_by_the_deadline_of_its_parent():
    seen = []

    async def inner(ctx):
        seen.append(ctx.scope.deadline)

    async def parent(ctx):
        seen.append(ctx.scope.deadline)
        await SubpipelineSpawner().spawn("inner", ctx, None, "parent", one_stage("inner", inner))

    await one_stage("parent", parent).run(timeout=3600)
    assert seen[0] == seen[1] is not None


@pytest.mark.asyncio
async def test_a_stage_time_limit_ends_the_child(sink):
    async def parent(ctx):
        await SubpipelineSpawner().spawn("inner", ctx, None, "parent", lambda child: asyncio.sleep(60))

    async with leak_check():
        with pytest.raises(StageExecutionError) as caught:
            await one_stage("parent", parent, timeout=0.02).run(sink=sink)
    assert caught.value.original.code == "SF-RUN-STAGE-TIMEOUT"
    assert_paired(sink)


# --- bad input ---------------------------------------------------------------------------------------------

GOOD = {
    "pipeline_name": "any",
    "ctx": PipelineContext(),
    "correlation_id": None,
    "parent_stage_id": "plan",
    "runner": nothing,
}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("pipeline_name", ""),
        ("pipeline_name", None),
        ("ctx", None),
        ("ctx", ContextSnapshot()),
        ("correlation_id", "7"),
        ("parent_stage_id", ""),
        ("parent_stage_id", 7),
        ("runner", None),
        ("runner", "any"),
        ("input_text", b"x"),
        ("inherit_data", "tone"),
        ("inherit_data", [1]),
        ("inherit_data", 7),
        ("data_overrides", [1]),
    ],
)
async def test_spawn_refuses_what_makes_no_sense(argument, value):
    async with leak_check():
        with pytest.raises((ArgumentTypeError, ArgumentValueError)) as caught:
            await SubpipelineSpawner().spawn(**{**GOOD, argument: value})
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    "options",
    [
        {"max_depth": -1},
        {"max_depth": 1.5},
        {"max_depth": float("nan")},
        {"max_depth": True},
        {"child_tracker": "x"},
        {"emit_events": None},
    ],
    ids=str,
)
def test_a_spawner_refuses_what_makes_no_sense(options):
    with pytest.raises((ArgumentTypeError, ArgumentValueError)):
        SubpipelineSpawner(**options)


@pytest.mark.asyncio
async def test_names_may_be_long_and_have_any_characters(sink):
    name = "größe.Ä b" + "x" * 1_000_000
    ctx = PipelineContext(event_sink=sink)
    assert (await SubpipelineSpawner().spawn(name, ctx, None, "ä.b", nothing, input_text=name)).success
    assert sink.data("pipeline.spawned_child")["pipeline_name"] == name


# --- the current spawner -----------------------------------------------------------------------------------


def test_the_current_spawner_is_of_the_loop_and_leaks_nowhere():
    async def current():
        assert get_subpipeline_spawner() is get_subpipeline_spawner()
        return get_subpipeline_spawner()

    async def own():
        mine = SubpipelineSpawner(max_depth=1)
        set_subpipeline_spawner(mine)
        inner = await asyncio.create_task(current())
        assert inner is get_subpipeline_spawner() is mine
        clear_subpipeline_spawner()
        return get_subpipeline_spawner()

    first, second, third = asyncio.run(current()), asyncio.run(current()), asyncio.run(own())
    assert len({id(first), id(second), id(third)}) == 3
    assert third.max_depth == DEFAULT_MAX_SUBPIPELINE_DEPTH


def test_outside_of_a_loop_what_is_current_is_taken_along():
    async def current():
        return get_subpipeline_spawner()

    try:
        mine = get_subpipeline_spawner()
        assert asyncio.run(current()) is mine
    finally:
        clear_subpipeline_spawner()
    assert get_subpipeline_spawner() is not mine
    clear_subpipeline_spawner()


def test_only_a_spawner_can_be_current():
    with pytest.raises(ArgumentTypeError):
        set_subpipeline_spawner("x")
