"""`graph.run(ctx)` with every context of 0.9, `StageGraph` of `StageSpec`s, and the errors of both old executors."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from stageflow import (
    ContextSnapshot,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    PipelineTimer,
    RunIdentity,
    StageArtifact,
    StageContext,
    StageError,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    StageStatus,
    UnifiedStageSpec,
    create_stage_context,
    create_stage_inputs,
)
from stageflow.errors import CycleDetectedError, PipelineValidationError
from stageflow.pipeline.dag import UnifiedStageGraph
from stageflow.testing import EventRecorder, leak_check, run_virtual

RUN, REQUEST, SESSION, USER, ORG, TURN = (UUID(int=n) for n in range(1, 7))
IDS = {
    "pipeline_run_id": RUN,
    "request_id": REQUEST,
    "session_id": SESSION,
    "user_id": USER,
    "org_id": ORG,
    "interaction_id": TURN,
}


class WhoAmI:
    """Hands over all that a stage of 0.9 could know of its run."""

    name = "who_am_i"
    kind = StageKind.TRANSFORM

    async def execute(self, ctx: StageContext) -> StageOutput:
        return StageOutput.ok(
            stage=ctx.stage_name,
            input_text=ctx.snapshot.input_text,
            ids={name: getattr(ctx.snapshot, name) for name in IDS},
            own_ids=(ctx.pipeline_run_id, ctx.request_id),
            execution_mode=ctx.execution_mode,
            topology=ctx.snapshot.topology,
            started_at=ctx.started_at,
            elapsed=ctx.timer.elapsed_ms(),
        )


def pipeline_context(sink: object = None) -> PipelineContext:
    more = {} if sink is None else {"event_sink": sink}
    return PipelineContext(
        **IDS, topology="chat_fast", execution_mode="practice", service="chat", input_text="hi", **more
    )


def snapshot(sink: object = None) -> ContextSnapshot:
    return ContextSnapshot(
        run_id=RunIdentity(**IDS), input_text="hi", topology="chat_fast", execution_mode="practice"
    )


def stage_context(sink: object = None) -> StageContext:
    snap = snapshot()
    return StageContext(
        snapshot=snap,
        inputs=create_stage_inputs(snap),
        stage_name="__root__",
        timer=PipelineTimer(),
        event_sink=sink,
    )


def made_stage_context(sink: object = None) -> StageContext:
    snap = snapshot()
    return create_stage_context(
        snapshot=snap,
        inputs=create_stage_inputs(snapshot=snap),
        stage_name="pipeline",
        timer=PipelineTimer(),
        event_sink=sink,
    )


def unified_graph() -> UnifiedStageGraph:
    return UnifiedStageGraph([UnifiedStageSpec("who_am_i", WhoAmI, StageKind.TRANSFORM)])


def legacy_graph() -> StageGraph:
    return StageGraph(specs=[StageSpec(name="who_am_i", runner=WhoAmI)])


def built_graph() -> StageGraph:
    return Pipeline().with_stage("who_am_i", WhoAmI, StageKind.TRANSFORM).build()


# Findings B.1: 0.9 had two graphs, each of which refused the other's context; now all take all.
@pytest.mark.parametrize("graph", [unified_graph, legacy_graph, built_graph])
@pytest.mark.parametrize("context", [pipeline_context, snapshot, stage_context, made_stage_context])
def test_every_graph_takes_every_context(graph, context):
    results = run_virtual(graph().run(context()))
    assert list(results) == ["who_am_i"]
    data = results["who_am_i"].data
    assert results["who_am_i"].status is StageStatus.OK
    assert data["stage"] == "who_am_i"
    assert data["input_text"] == "hi"
    assert data["ids"] == IDS
    assert data["own_ids"] == (RUN, REQUEST)
    assert (data["execution_mode"], data["topology"]) == ("practice", "chat_fast")
    assert data["started_at"].utcoffset().total_seconds() == 0
    assert data["elapsed"] >= 0
    assert results.run_id == RUN


@pytest.mark.parametrize("context", [pipeline_context, stage_context, made_stage_context])
def test_events_go_to_the_sink_of_the_context(context):
    sink = EventRecorder()
    run_virtual(built_graph().run(context(sink)))
    assert sink.types == [
        "pipeline.started",
        "stage.who_am_i.started",
        "stage.who_am_i.completed",
        "pipeline.completed",
    ]
    for event in sink.events:
        assert {key: event.data[key] for key in IDS if key in event.data} == {
            key: str(value) for key, value in IDS.items() if key in event.data
        }
        assert (event.data["topology"], event.data["execution_mode"]) == ("chat_fast", "practice")
    assert [event.data["sequence"] for event in sink.events] == [1, 2, 3, 4]


def test_the_old_names_are_names_of_the_new_thing():
    assert UnifiedStageGraph is StageGraph
    assert UnifiedStageSpec is StageSpec
    assert isinstance(built_graph(), StageGraph)
    assert [spec.name for spec in built_graph().stage_specs] == ["who_am_i"]


# --- a graph of specs ---------------------------------------------------------------------------------------


class Fetch:
    name = "fetch"
    kind = StageKind.ENRICH

    async def execute(self, ctx):
        await asyncio.sleep(1)
        return StageOutput.ok(words=["a", "b", "c"])


class Count:
    name = "count"
    kind = StageKind.TRANSFORM

    async def execute(self, ctx):
        return StageOutput.ok(n=len(ctx.inputs.require_from("fetch", "words")))


class Store:
    name = "store"
    kind = StageKind.WORK

    async def execute(self, ctx):
        output = StageOutput.ok(stored=ctx.inputs.get("n"))
        return StageOutput(
            status=output.status, data=output.data, artifacts=[StageArtifact(type="row", payload={"id": 7})]
        )


def test_a_graph_of_specs_in_any_order():
    graph = StageGraph(
        specs=[
            StageSpec(name="store", runner=Store, dependencies=("count",)),
            StageSpec(name="count", runner=Count, dependencies=("fetch",)),
            StageSpec(name="fetch", runner=Fetch),
        ]
    )
    sink = EventRecorder()
    context = pipeline_context(sink)
    results = run_virtual(graph.run(context))
    assert {name: dict(output.data) for name, output in results.items()} == {
        "store": {"stored": 3},
        "count": {"n": 3},
        "fetch": {"words": ["a", "b", "c"]},
    }
    assert list(results) == ["store", "count", "fetch"]  # as declared
    assert sink.types == [
        "pipeline.started",
        "stage.fetch.started",
        "stage.fetch.completed",
        "stage.count.started",
        "stage.count.completed",
        "stage.store.started",
        "stage.store.completed",
        "pipeline.completed",
    ]
    # Findings A1.15: artifacts reach the context that the caller holds; 0.9 forwarded them nowhere.
    assert [(artifact.type, artifact.payload) for artifact in context.artifacts] == [("row", {"id": 7})]
    assert context.to_dict()["artifacts_count"] == 1


def test_a_conditional_spec():
    class NoProfile:
        name = "profile"
        kind = StageKind.ENRICH

        async def execute(self, ctx):
            return StageOutput.skip("no_profile")

    ran = []

    class Personalise:
        name = "personalise"
        kind = StageKind.TRANSFORM

        async def execute(self, ctx):
            ran.append(ctx.stage_name)

    # Findings A1.19: `conditional` looks at whether a dependency was skipped, in every graph.
    sink = EventRecorder()
    graph = StageGraph(
        [
            StageSpec(name="profile", runner=NoProfile),
            StageSpec(name="personalise", runner=Personalise, dependencies=("profile",), conditional=True),
        ]
    )
    results = run_virtual(graph.run(pipeline_context(sink)))
    assert ran == []
    assert results["personalise"].status is StageStatus.SKIP
    assert sink.types == [
        "pipeline.started",
        "stage.profile.started",
        "stage.profile.skipped",
        "stage.personalise.skipped",
        "pipeline.completed",
    ]
    skipped = sink.data("stage.personalise.skipped")
    assert {key: skipped[key] for key in ("stage", "reason", "pipeline_run_id", "request_id")} == {
        "stage": "personalise",
        "reason": "dependency_skipped",
        "pipeline_run_id": str(RUN),
        "request_id": str(REQUEST),
    }


# --- what is wrong is found at build, not "deadlocked" half-way ---------------------------------------------


def test_a_missing_dependency_is_found_before_anything_runs():
    # Findings A1.13: 0.9 ran what it could, and then said "Deadlocked stage graph".
    with pytest.raises(PipelineValidationError) as caught:
        StageGraph([StageSpec(name="fetch", runner=Fetch), StageSpec("count", Count, dependencies=("fech",))])
    assert [problem.code for problem in caught.value.problems] == ["SF-BUILD-UNKNOWN-DEPENDENCY"]
    assert "fech" in str(caught.value)
    assert "'fetch'" in str(caught.value)  # the fix


def test_a_cycle_is_found_before_anything_runs():
    with pytest.raises(CycleDetectedError) as caught:
        (
            Pipeline()
            .with_stage("a", Fetch, StageKind.WORK, dependencies=("c",))
            .with_stage("b", Fetch, StageKind.WORK, dependencies=("a",))
            .with_stage("c", Fetch, StageKind.WORK, dependencies=("b",))
            .build()
        )
    assert isinstance(caught.value, PipelineValidationError)
    path = list(caught.value.cycle_path)
    assert path[0] == path[-1]
    assert sorted(path[:-1]) == ["a", "b", "c"]
    assert "Pipeline contains a cycle" in str(caught.value)


def test_everything_wrong_is_reported_at_once():
    pipeline = (
        Pipeline("broken")
        .with_stage("a", Fetch, StageKind.WORK, dependencies=("nobody",))
        .with_stage("a", Count, StageKind.WORK)
        .with_stage("b", Store, StageKind.WORK, dependencies=("b",))
    )
    with pytest.raises(ValueError, match="broken") as caught:
        pipeline.build()
    assert {problem.code for problem in caught.value.problems} == {
        "SF-BUILD-UNKNOWN-DEPENDENCY",
        "SF-BUILD-DUPLICATE",
        "SF-BUILD-SELF-DEPENDENCY",
    }


@pytest.mark.parametrize("build", [Pipeline("nothing").build, lambda: StageGraph([])])
def test_an_empty_pipeline_does_not_build(build):
    with pytest.raises(ValueError, match=r"stage") as caught:
        build()
    assert caught.value.code in {"SF-BUILD-EMPTY", "SF-BUILD-INVALID"}
    assert [problem.code for problem in caught.value.problems] == ["SF-BUILD-EMPTY"]


# --- failures and cancellation ------------------------------------------------------------------------------


class Boom:
    name = "boom"
    kind = StageKind.WORK

    async def execute(self, ctx):
        raise ValueError("boom")


class Slow:
    name = "slow"
    kind = StageKind.WORK
    stopped: list[str] = []  # noqa: RUF012 - one list for the test to look at

    async def execute(self, ctx):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.stopped.append(ctx.stage_name)
            raise


def test_a_failure_stops_siblings_and_dependants():
    # Findings A1.4 and A1.8: siblings are cancelled and awaited, dependants do not run.
    sink = EventRecorder()
    Slow.stopped.clear()
    graph = StageGraph(
        [
            StageSpec(name="boom", runner=Boom),
            StageSpec(name="slow", runner=Slow),
            StageSpec(name="after", runner=Count, dependencies=("boom",)),
        ]
    )

    async def program():
        async with leak_check():
            with pytest.raises(StageExecutionError) as caught:
                await graph.run(pipeline_context(sink))
            return caught.value

    error = run_virtual(program())
    assert isinstance(error, StageError)
    assert error.stage == "boom"
    assert isinstance(error.original, ValueError)
    assert str(error.original) == "boom"
    assert set(error.results) == {"boom"}
    assert error.run_id == RUN
    sink.assert_paired(stages=["boom", "slow", "after"], end="failed")
    assert sink.of("boom") == ["started", "failed"]
    assert sink.of("slow") in (["started", "cancelled"], ["skipped"])
    assert Slow.stopped == (["slow"] if "started" in sink.of("slow") else [])
    assert sink.of("after") == ["skipped"]


def test_an_outer_time_out_leaves_nothing_running():
    # Findings A1.4: in 0.9 the stages went on after `wait_for` had given up.
    Slow.stopped.clear()
    sink = EventRecorder()

    async def program():
        async with leak_check():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(
                    StageGraph([StageSpec(name="slow", runner=Slow)]).run(pipeline_context(sink)), timeout=5
                )
            return list(Slow.stopped)

    assert run_virtual(program()) == ["slow"]
    sink.assert_paired(stages=["slow"], end="cancelled")
    assert sink.of("slow") == ["started", "cancelled"]


def test_mark_canceled_stops_the_run_at_once():
    # Findings A1.12: 0.9 looked at the flag only when some stage ended, and returned normally.
    Slow.stopped.clear()
    sink = EventRecorder()

    async def program():
        context = pipeline_context(sink)
        asyncio.get_running_loop().call_later(1, context.mark_canceled)
        with pytest.raises(PipelineCancelled) as caught:
            await StageGraph([StageSpec(name="slow", runner=Slow)]).run(context)
        assert context.is_canceled
        assert context.canceled
        return caught.value, asyncio.get_running_loop().time()

    error, when = run_virtual(program())
    assert (error.stage, dict(error.results)) == ("<external>", {})
    assert when == pytest.approx(1, abs=0.1)
    assert Slow.stopped == ["slow"]
    assert sink.types[-1] == "pipeline.cancelled"


def test_results_are_a_mapping_of_outputs():
    results = run_virtual(built_graph().run(snapshot()))
    assert len(results) == 1
    assert "who_am_i" in results
    assert "nobody" not in results
    assert results.get("nobody") is None
    assert dict(results)["who_am_i"] is results["who_am_i"]
    with pytest.raises(KeyError) as caught:
        results["who_am_it"]
    assert "who_am_it" in str(caught.value)
    with pytest.raises(TypeError):
        results["who_am_i"] = StageOutput.ok()


def test_errors_are_text_as_before_and_more():
    error = StageError("agent", ValueError("no model"))
    assert (error.stage, str(error.original)) == ("agent", "no model")
    assert "agent" in str(error)
    assert "no model" in str(error)
    full = StageExecutionError("agent", ValueError("no model"), recoverable=True)
    assert full.recoverable is True
    assert isinstance(full, StageError)
    assert dict(full.results) == {}


def test_pipelines_are_immutable_and_compose():
    base = Pipeline("base").with_stage("fetch", Fetch, StageKind.ENRICH)
    more = base.with_stage("count", Count, StageKind.TRANSFORM, dependencies=("fetch",))
    other = Pipeline("other").with_stage("who", WhoAmI, StageKind.TRANSFORM)
    both = more.compose(other)
    assert list(base.stages) == ["fetch"]
    assert list(more.stages) == ["fetch", "count"]
    assert list(both.stages) == ["fetch", "count", "who"]
    assert (both.name, other.name) == ("base", "other")
    results = run_virtual(both.build().run(snapshot()))
    assert list(results) == ["fetch", "count", "who"]
    assert results["count"].data == {"n": 3}
