"""`SubpipelineSpawner.spawn` as 0.9 documented it: a parent pipeline whose stage starts children."""

from __future__ import annotations

import asyncio
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from stageflow import (
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    StageContext,
    StageExecutionError,
    StageKind,
    StageOutput,
    StageStatus,
    get_event_sink,
    set_event_sink,
)
from stageflow.events import clear_event_sink
from stageflow.pipeline.subpipeline import (
    DEFAULT_MAX_SUBPIPELINE_DEPTH,
    ChildRunTracker,
    MaxDepthExceededError,
    PipelineCanceledEvent,
    PipelineChildCompletedEvent,
    PipelineChildFailedEvent,
    PipelineSpawnedChildEvent,
    SubpipelineResult,
    SubpipelineSpawner,
    clear_child_tracker,
    clear_subpipeline_spawner,
    get_child_tracker,
    get_subpipeline_spawner,
    set_child_tracker,
    set_subpipeline_spawner,
)
from stageflow.testing import EventRecorder, leak_check, run_virtual

RUN, REQUEST, SESSION, USER, ORG, TURN, CORRELATION = (UUID(int=n) for n in range(1, 8))


def parent_context(sink: object = None, **more: object) -> PipelineContext:
    if sink is not None:
        more["event_sink"] = sink
    return PipelineContext(
        pipeline_run_id=RUN,
        request_id=REQUEST,
        session_id=SESSION,
        user_id=USER,
        org_id=ORG,
        interaction_id=TURN,
        topology="agent_deep",
        execution_mode="practice",
        service="agent",
        **more,
    )


class Search:
    name = "search"
    kind = StageKind.ENRICH

    async def execute(self, ctx: StageContext) -> StageOutput:
        await asyncio.sleep(1)
        return StageOutput.ok(
            hits=[f"{ctx.input_text} in a book"], mode=ctx.execution_mode, user=ctx.snapshot.user_id
        )


class Rank:
    name = "rank"
    kind = StageKind.TRANSFORM

    async def execute(self, ctx: StageContext) -> StageOutput:
        return StageOutput.ok(best=ctx.inputs.require_from("search", "hits")[0])


def searching() -> Pipeline:
    return (
        Pipeline("searching")
        .with_stage("search", Search, StageKind.ENRICH)
        .with_stage("rank", Rank, StageKind.TRANSFORM, dependencies=("search",))
    )


def research(spawner: SubpipelineSpawner, runner: object, **more: object) -> Pipeline:
    """Return a parent pipeline: a stage that spawns a child, and one that goes on with what the child left."""

    class Delegate:
        name = "delegate"
        kind = StageKind.AGENT

        async def execute(self, ctx: StageContext) -> StageOutput:
            result = await spawner.spawn(
                pipeline_name="searching",
                ctx=ctx,
                correlation_id=CORRELATION,
                parent_stage_id="delegate",
                runner=runner,
                **more,
            )
            if not result.success:
                return StageOutput.fail(f"the child failed: {result.error}")
            return StageOutput.ok(result.data, child=result.child_run_id)

    class Answer:
        name = "answer"
        kind = StageKind.TRANSFORM

        async def execute(self, ctx: StageContext) -> StageOutput:
            return StageOutput.ok(text=ctx.inputs.get_output("delegate").data["rank"]["best"])

    return (
        Pipeline("research")
        .with_stage("delegate", Delegate, StageKind.AGENT)
        .with_stage("answer", Answer, StageKind.TRANSFORM, dependencies=("delegate",))
    )


# --- a parent and its child ---------------------------------------------------------------------------------


def test_a_pipeline_that_delegates():
    sink = EventRecorder()
    graph = research(
        SubpipelineSpawner(), searching(), input_text="whales", topology="search_fast", execution_mode="dry"
    ).build()
    results = run_virtual(graph.run(parent_context(sink)))
    child = results["delegate"].data["child"]
    assert results["delegate"].data == {
        "search": {"hits": ["whales in a book"], "mode": "dry", "user": USER},
        "rank": {"best": "whales in a book"},
        "child": child,
    }
    assert results["answer"].data == {"text": "whales in a book"}
    assert isinstance(child, UUID)
    assert child != RUN

    # Findings A1.15: all of them in the run's own sink; 0.9 sent the spawner's to the global one.
    assert [(event.data["pipeline_run_id"], event.type) for event in sink.events] == [
        (str(RUN), "pipeline.started"),
        (str(RUN), "stage.delegate.started"),
        (str(RUN), "pipeline.spawned_child"),
        (str(child), "pipeline.started"),
        (str(child), "stage.search.started"),
        (str(child), "stage.search.completed"),
        (str(child), "stage.rank.started"),
        (str(child), "stage.rank.completed"),
        (str(child), "pipeline.completed"),
        (str(RUN), "pipeline.child_completed"),
        (str(RUN), "stage.delegate.completed"),
        (str(RUN), "stage.answer.started"),
        (str(RUN), "stage.answer.completed"),
        (str(RUN), "pipeline.completed"),
    ]
    sink.assert_paired()
    spawned = sink.data("pipeline.spawned_child")
    assert {
        key: spawned[key]
        for key in ("parent_run_id", "child_run_id", "parent_stage_id", "pipeline_name", "correlation_id")
    } == {
        "parent_run_id": str(RUN),
        "child_run_id": str(child),
        "parent_stage_id": "delegate",
        "pipeline_name": "searching",
        "correlation_id": str(CORRELATION),
    }
    assert datetime.fromisoformat(spawned["timestamp"])
    completed = sink.data("pipeline.child_completed")
    assert (completed["parent_run_id"], completed["child_run_id"]) == (str(RUN), str(child))
    assert completed["pipeline_name"] == "searching"
    assert completed["duration_ms"] >= 0
    child_events = [event.data for event in sink.events if event.data["pipeline_run_id"] == str(child)]
    assert {(data["topology"], data["execution_mode"], data["user_id"]) for data in child_events} == {
        ("search_fast", "dry", str(USER))
    }


def test_a_child_as_0_9_wrote_it_a_function_of_the_childs_context():
    sink = EventRecorder()
    seen: dict[str, object] = {}
    graph = searching().build()

    async def runner(child: PipelineContext) -> dict[str, object]:
        seen["context"] = child
        seen["parent data"] = child.get_parent_data("tone")
        results = await graph.run(child, input_text="sharks")
        return {name: dict(output.data) for name, output in results.items()}

    async def program() -> SubpipelineResult:
        return await SubpipelineSpawner().spawn(
            "searching", parent_context(sink, data={"tone": "calm"}), CORRELATION, "delegate", runner
        )

    result = run_virtual(program())
    assert result.success
    assert result.data["rank"] == {"best": "sharks in a book"}
    assert result.error is None
    assert result.duration_ms >= 0
    child = seen["context"]
    assert isinstance(child, PipelineContext)
    assert (child.pipeline_run_id, child.parent_run_id) == (result.child_run_id, RUN)
    assert (child.parent_stage_id, child.correlation_id) == ("delegate", CORRELATION)
    assert child.is_child_run
    assert (child.user_id, child.org_id, child.session_id, child.request_id) == (USER, ORG, SESSION, REQUEST)
    assert seen["parent data"] == "calm"
    assert sink.types[0] == "pipeline.spawned_child"
    assert sink.types[-1] == "pipeline.child_completed"
    plain = result.to_dict()
    assert plain["success"] is True
    assert plain["child_run_id"] == str(result.child_run_id)
    assert "error" not in plain


@pytest.mark.parametrize(
    ("returned", "data"),
    [({"n": 1}, {"n": 1}), (7, {"result": 7}), ("text", {"result": "text"}), (["a"], {"result": ["a"]})],
)
def test_what_a_runner_returns(returned, data):
    async def runner(child):
        return returned

    async def program():
        return await SubpipelineSpawner().spawn("x", parent_context(), None, "s", runner)

    result = run_virtual(program())
    assert (result.success, result.data) == (True, data)


def test_the_events_go_to_the_current_sink_where_the_context_has_none():
    sink = EventRecorder()

    async def runner(child):
        return {}

    async def program():
        set_event_sink(sink)
        try:
            await SubpipelineSpawner().spawn("x", parent_context(), None, "s", runner)
            await SubpipelineSpawner(emit_events=False).spawn("x", parent_context(), None, "s", runner)
        finally:
            clear_event_sink()

    run_virtual(program())
    assert sink.types == ["pipeline.spawned_child", "pipeline.child_completed"]
    assert get_event_sink() is not sink


# --- children that do not end well --------------------------------------------------------------------------


def test_a_child_that_fails_is_a_result_and_the_parent_decides():
    class Broken:
        name = "search"
        kind = StageKind.ENRICH

        async def execute(self, ctx):
            raise ConnectionError("the index is down")

    sink = EventRecorder()
    broken = Pipeline("searching").with_stage("search", Broken, StageKind.ENRICH)
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(research(SubpipelineSpawner(), broken).build().run(parent_context(sink)))
    assert caught.value.stage == "delegate"
    assert "the index is down" in caught.value.results["delegate"].error
    failed = sink.data("pipeline.child_failed")
    assert "the index is down" in failed["error_message"]
    assert failed["pipeline_name"] == "searching"
    assert failed["parent_run_id"] == str(RUN)
    assert "pipeline.child_completed" not in sink.types
    sink.assert_paired()
    assert sink.of("answer") == ["skipped"]


def test_a_child_that_cancels_itself():
    async def quits(ctx):
        return StageOutput.cancel("nothing to search")

    sink = EventRecorder()
    child = Pipeline("searching").with_stage("search", quits, StageKind.ENRICH)

    async def program():
        return await SubpipelineSpawner().spawn("searching", parent_context(sink), None, "delegate", child)

    result = run_virtual(program())
    assert result.success is False
    assert "nothing to search" in result.error
    assert isinstance(result.exception, PipelineCancelled)
    assert sink.types == [
        "pipeline.spawned_child",
        "pipeline.started",
        "stage.search.started",
        "stage.search.cancelled",
        "pipeline.cancelled",
        "pipeline.child_failed",
    ]


def test_a_child_is_cancelled_with_its_parent_and_has_its_terminal_event():
    # Findings A1.15: a child whose Task was cancelled had no terminal event in 0.9.
    sink = EventRecorder()

    async def program():
        async with leak_check():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await (
                        research(SubpipelineSpawner(), searching(), input_text="x")
                        .build()
                        .run(parent_context(sink))
                    )
            return await get_child_tracker().get_metrics()

    metrics = run_virtual(program())
    assert metrics["active_children"] == 0
    assert [type for type in sink.types if type.startswith("pipeline.")] == [
        "pipeline.started",
        "pipeline.spawned_child",
        "pipeline.started",
        "pipeline.cancelled",
        "pipeline.child_failed",
        "pipeline.cancelled",
    ]
    sink.assert_paired()


# --- cancelling from elsewhere ------------------------------------------------------------------------------


def test_cancel_with_children_stops_what_runs():
    # Findings A1.12: in 0.9 it stopped no task.
    sink = EventRecorder()
    spawner = SubpipelineSpawner()

    async def program():
        context = parent_context(sink)
        run = asyncio.ensure_future(research(spawner, searching(), input_text="whales").build().run(context))
        await asyncio.sleep(0.5)
        (child,) = await get_child_tracker().get_children(RUN)
        canceled = await spawner.cancel_with_children(RUN, reason="the user left")
        with pytest.raises(PipelineCancelled) as caught:
            await run
        assert asyncio.get_running_loop().time() < 1
        return child, canceled, caught.value

    child, canceled, error = run_virtual(program())
    assert canceled == [child, RUN]  # children first
    assert error.reason == "the user left"
    assert spawner.is_canceled(RUN)
    assert spawner.is_canceled(child)
    assert not spawner.is_canceled(uuid4())
    told = [event.data for event in sink.events if event.type == "pipeline.canceled"]
    assert [(data["pipeline_run_id"], data["parent_run_id"], data["cascade_depth"]) for data in told] == [
        (str(child), str(RUN), 1),
        (str(RUN), None, 0),
    ]
    assert {data["reason"] for data in told} == {"the user left"}
    sink.assert_paired()


def test_cancel_with_children_marks_the_contexts_it_is_given():
    async def program():
        spawner = SubpipelineSpawner()
        context = parent_context()
        assert await spawner.cancel_with_children(RUN, contexts={RUN: context}) == [RUN]
        return spawner, context

    spawner, context = run_virtual(program())
    assert context.is_canceled
    assert spawner.is_canceled(RUN)


def test_a_run_that_was_cancelled_starts_no_more_children():
    # Findings A1.12: in 0.9 a later spawn succeeded.
    ran: list[str] = []

    async def runner(child):
        ran.append("ran")

    async def program():
        spawner = SubpipelineSpawner()
        await spawner.cancel_with_children(RUN)
        with pytest.raises(PipelineCancelled) as caught:
            await spawner.spawn("x", parent_context(), None, "s", runner)
        return caught.value

    assert run_virtual(program()).code == "SF-RUN-SPAWN-REFUSED"
    assert ran == []


# --- depth --------------------------------------------------------------------------------------------------


def test_depth_has_a_limit_that_travels_with_the_context():
    # Findings A1.25: a fresh spawner, or a run without an id, began a new count in 0.9.
    reached: list[int] = []

    async def runner(child: PipelineContext) -> dict[str, object]:
        reached.append(child.depth)
        child.pipeline_run_id = None
        result = await SubpipelineSpawner().spawn("deeper", child, None, "s", runner)
        if result.exception is not None:
            raise result.exception
        return {}

    async def program():
        return await SubpipelineSpawner().spawn("deep", parent_context(), None, "s", runner)

    result = run_virtual(program())
    error = result.exception
    assert (result.success, result.error_code) == (False, "SF-RUN-DEPTH")
    assert isinstance(error, MaxDepthExceededError)
    assert DEFAULT_MAX_SUBPIPELINE_DEPTH == 5
    assert reached == [1, 2, 3, 4, 5]
    assert (error.current_depth, error.max_depth) == (5, 5)
    assert error.code == "SF-RUN-DEPTH"


def test_a_spawner_may_allow_less():
    async def runner(child):
        return {}

    async def program():
        assert (await SubpipelineSpawner(max_depth=1).spawn("x", parent_context(), None, "s", runner)).success
        with pytest.raises(MaxDepthExceededError) as caught:
            await SubpipelineSpawner(max_depth=0).spawn("x", parent_context(), None, "s", runner)
        return caught.value

    error = run_virtual(program())
    assert (error.current_depth, error.max_depth, error.parent_run_id) == (0, 0, RUN)


# --- who runs below whom ------------------------------------------------------------------------------------


def test_a_tracker_of_ones_own_is_told_of_children():
    tracker = ChildRunTracker()
    seen: dict[str, object] = {}

    async def runner(child: PipelineContext):
        seen["children"] = await tracker.get_children(RUN)
        seen["parent"] = await tracker.get_parent(child.pipeline_run_id)
        seen["root"] = await tracker.get_root_run(child.pipeline_run_id)
        seen["descendants"] = await tracker.get_all_descendants(RUN)
        seen["child"] = child.pipeline_run_id

    async def program():
        spawner = SubpipelineSpawner(child_tracker=tracker)
        await spawner.spawn("x", parent_context(), None, "s", runner)
        return await tracker.get_children(RUN), await tracker.get_metrics()

    after, metrics = run_virtual(program())
    child = seen["child"]
    assert seen == {
        "children": {child},
        "parent": RUN,
        "root": RUN,
        "descendants": {child},
        "child": child,
    }
    assert after == set()
    assert (metrics["registration_count"], metrics["unregistration_count"]) == (1, 1)
    assert (metrics["active_children"], metrics["active_parents"], metrics["total_relationships"]) == (
        0,
        0,
        0,
    )
    assert metrics["max_concurrent_children"] == 1


def test_a_tracker_by_hand():
    tracker = ChildRunTracker()
    root, a, b, aa = (uuid4() for _ in range(4))

    async def program():
        await tracker.register_child(root, a)
        await tracker.register_child(root, b)
        await tracker.register_child(a, aa)
        assert await tracker.get_children(root) == {a, b}
        assert await tracker.get_all_descendants(root) == {a, b, aa}
        assert await tracker.get_root_run(aa) == root
        assert await tracker.get_root_run(root) == root
        assert await tracker.get_parent(root) is None
        await tracker.unregister_child(root, b)
        assert await tracker.get_children(root) == {a}
        metrics = await tracker.get_metrics()
        assert set(metrics) >= {
            "registration_count",
            "unregistration_count",
            "lookup_count",
            "tree_traversal_count",
            "cleanup_count",
            "max_concurrent_children",
            "max_depth_seen",
            "active_parents",
            "active_children",
            "total_relationships",
        }
        assert (metrics["registration_count"], metrics["unregistration_count"]) == (3, 1)
        await tracker.cleanup_run(a)
        assert await tracker.get_parent(a) is None
        assert await tracker.get_parent(aa) is None
        await tracker.reset_metrics()
        return await tracker.get_metrics()

    metrics = run_virtual(program())
    assert (metrics["registration_count"], metrics["cleanup_count"]) == (0, 0)


def test_the_current_tracker_and_spawner():
    async def program():
        assert get_child_tracker() is get_child_tracker()
        assert get_subpipeline_spawner() is get_subpipeline_spawner()
        tracker, spawner = ChildRunTracker(), SubpipelineSpawner()
        set_child_tracker(tracker)
        set_subpipeline_spawner(spawner)
        assert get_child_tracker() is tracker
        assert get_subpipeline_spawner() is spawner
        clear_child_tracker()
        clear_subpipeline_spawner()
        assert get_child_tracker() is not tracker
        assert get_subpipeline_spawner() is not spawner

    run_virtual(program())


# --- events as values ---------------------------------------------------------------------------------------


def test_the_events_are_frozen_and_plain_data():
    parent, child = uuid4(), uuid4()
    spawned = PipelineSpawnedChildEvent(
        parent_run_id=parent,
        child_run_id=child,
        parent_stage_id="s",
        pipeline_name="p",
        correlation_id=CORRELATION,
    )
    completed = PipelineChildCompletedEvent(
        parent_run_id=parent, child_run_id=child, pipeline_name="p", duration_ms=1.5
    )
    failed = PipelineChildFailedEvent(
        parent_run_id=parent, child_run_id=child, pipeline_name="p", duration_ms=1.5, error_message="no"
    )
    canceled = PipelineCanceledEvent(
        pipeline_run_id=child, parent_run_id=parent, reason="user_requested", cascade_depth=1
    )
    for event in (spawned, completed, failed, canceled):
        assert datetime.fromisoformat(event.to_dict()["timestamp"]).tzinfo is not None
        with pytest.raises((AttributeError, TypeError)):
            event.timestamp = "now"
    assert spawned.to_dict()["correlation_id"] == str(CORRELATION)
    assert completed.to_dict()["duration_ms"] == 1.5
    assert failed.to_dict()["error_message"] == "no"
    assert canceled.to_dict()["cascade_depth"] == 1
    assert canceled.to_dict()["pipeline_run_id"] == str(child)


def test_a_result_is_plain_data():
    child = uuid4()
    assert SubpipelineResult(success=False, child_run_id=child, error="no", duration_ms=2.0).to_dict() == {
        "success": False,
        "child_run_id": str(child),
        "error": "no",
        "duration_ms": 2.0,
    }


def test_children_side_by_side_do_not_mix():
    spawner = SubpipelineSpawner()

    class Fan:
        name = "fan"
        kind = StageKind.AGENT

        async def execute(self, ctx: StageContext) -> StageOutput:
            results = await asyncio.gather(
                *(
                    spawner.spawn("searching", ctx, None, "fan", searching(), input_text=f"q{n}")
                    for n in range(10)
                )
            )
            return StageOutput.ok(best=[result.data["rank"]["best"] for result in results])

    results = run_virtual(Pipeline().with_stage("fan", Fan, StageKind.AGENT).build().run(parent_context()))
    assert results["fan"].status is StageStatus.OK
    assert results["fan"].data["best"] == [f"q{n} in a book" for n in range(10)]
