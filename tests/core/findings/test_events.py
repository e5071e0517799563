"""Findings A1.15 and A1.16: what a run tells, and the sink with a queue."""

from __future__ import annotations

import asyncio

import pytest
from stageflow import (
    BackpressureAwareEventSink,
    CancellationToken,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    RetryPolicy,
    StageArtifact,
    StageEvent,
    StageKind,
    StageOutput,
    StageStatus,
    set_event_sink,
)
from stageflow.context import TruncationTracker
from stageflow.pipeline.subpipeline import SubpipelineSpawner
from stageflow.testing import (
    EventRecorder,
    FailingStage,
    HangingStage,
    ScriptedStage,
    leak_check,
    run_virtual,
)

K = StageKind.TRANSFORM


def nesting(child, spawner=None):
    """Return a pipeline whose only stage runs *child*."""

    async def nest(ctx):
        await (spawner or SubpipelineSpawner()).spawn("child", ctx, None, "nest", child)

    return Pipeline("parent").with_stage("nest", nest, K)


# --- A1.15 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [None, RuntimeError("no")], ids=["completed", "failed"])
def test_a1_15_what_is_told_of_a_child_reaches_the_sink_of_the_run(outcome):
    """The start and the end of a child are events of the run that it belongs to, and of no global sink."""
    everybody, mine = EventRecorder(), EventRecorder()
    child = Pipeline("child").with_stage("a", ScriptedStage(outcome), K)

    async def main():
        set_event_sink(everybody)
        await nesting(child).run(sink=mine)

    run_virtual(main())
    assert everybody.events == []
    end = f"pipeline.child_{'failed' if outcome else 'completed'}"
    mine.assert_order("stage.nest.started", "pipeline.spawned_child", "stage.a.started", end)
    for event in ("pipeline.spawned_child", end):
        assert mine.data(event)["parent_run_id"] == mine.runs[0]
    mine.assert_paired()


def test_a1_15_a_child_that_is_cancelled_has_an_end():
    """Whoever hears that a child started hears exactly once how it ended, also if its parent was cancelled."""
    events, token = EventRecorder(), CancellationToken()
    child = Pipeline("child").with_stage("hang", HangingStage(), K)

    async def main():
        asyncio.get_running_loop().call_later(1, token.cancel, "the user left")
        async with leak_check():
            with pytest.raises(PipelineCancelled):
                await nesting(child).run(sink=events, cancel_token=token)

    run_virtual(main())
    events.assert_emitted("pipeline.spawned_child", times=1)
    events.assert_emitted("pipeline.child_failed", times=1)
    events.assert_not_emitted("pipeline.child_completed")
    events.assert_paired(end="cancelled")
    assert len(events.runs) == 2


def test_a1_15_every_attempt_is_told():
    """The sink hears of every attempt to come, with its wait and the reason, and when there are no more."""
    events = EventRecorder()
    stage = FailingStage(ConnectionError("no route"), times=None)
    policy = RetryPolicy(3, base_delay=2, jitter=False)
    run_virtual(Pipeline().with_stage("fetch", stage, K, retry=policy).run(sink=events, raise_errors=False))
    scheduled = [event.data for event in events if event.type == "stage.retry_scheduled"]
    assert [(data["stage"], data["attempt"], data["delay_ms"]) for data in scheduled] == [
        ("fetch", 1, 2000),
        ("fetch", 2, 4000),
    ]
    assert {data["error"] for data in scheduled} == {"no route"}
    assert events.data("stage.retry_exhausted")["attempts"] == 3
    assert events.of("fetch") == ["started", "retrying", "retrying", "failed"]


def test_a1_15_a_truncation_reaches_a_sink_with_keyword_arguments():
    """What a ``TruncationTracker`` records arrives at a sink as the protocol has it."""
    events = EventRecorder()
    TruncationTracker(events).record_truncation(1000, 400, "tail", "document", "context_limit")
    assert events.data("context.truncation")["tokens_removed"] == 600


@pytest.mark.parametrize("status", [StageStatus.OK, StageStatus.SKIP, StageStatus.FAIL])
def test_a1_15_what_comes_with_an_output_is_forwarded(status):
    """The events of an output are emitted by the run, and its artifacts are given to the caller's context."""
    events, context = EventRecorder(), PipelineContext()
    artifact = StageArtifact("image", "cat.png")
    output = StageOutput(status, {}, [artifact], [StageEvent("drawn", {"pixels": 9})], "no")
    run_virtual(
        Pipeline()
        .with_stage("draw", ScriptedStage(output), K)
        .build()
        .run(context, sink=events, raise_errors=False)
    )
    assert context.artifacts == [artifact]
    told = events.data("drawn")
    assert (told["pixels"], told["stage"], told["pipeline_run_id"]) == (9, "draw", events.runs[0])


@pytest.mark.parametrize(
    ("outcome", "end"),
    [(None, "completed"), (RuntimeError("no"), "failed"), (StageOutput.cancel("enough"), "cancelled")],
    ids=["completed", "failed", "cancelled"],
)
def test_a1_15_a_run_tells_its_start_and_its_end(outcome, end):
    """Every run has one first and one last event, and every stage of it an end."""
    events = EventRecorder()
    pipeline = (
        Pipeline()
        .with_stage("a", ScriptedStage(), K)
        .with_stage("b", ScriptedStage(outcome), K, ["a"])
        .with_stage("c", ScriptedStage(), K, ["b"])
    )
    run_virtual(pipeline.run(sink=events, raise_errors=False))
    events.assert_paired(stages=["a", "b", "c"], end=end)


# --- A1.16 ---------------------------------------------------------------------------------------------------


class Downstream:
    """Takes a second for every event, and may raise instead of keeping it."""

    def __init__(self, error=None):
        self.kept: list[str] = []
        self.error = error

    async def emit(self, *, type, data):
        await asyncio.sleep(1)
        if self.error is not None:
            raise self.error
        self.kept.append(type)

    def try_emit(self, *, type, data):
        raise NotImplementedError


def test_a1_16_stopping_a_sink_loses_no_event():
    """``stop()`` delivers the event that is under way and those that wait, and then the worker is gone."""

    async def main():
        downstream = Downstream()
        async with leak_check():
            sink = BackpressureAwareEventSink(downstream)
            for type in ("a", "b", "c"):
                assert sink.try_emit(type=type, data={})
            await asyncio.sleep(0.5)
            await sink.stop(timeout=60)
        assert downstream.kept == ["a", "b", "c"]
        assert (sink.metrics.emitted, sink.metrics.dropped, sink.queue_size) == (3, 0, 0)
        assert not sink.is_running

    run_virtual(main())


def test_a1_16_a_sink_outlives_a_downstream_that_raises():
    """A downstream that raises breaks neither the worker nor ``stop()``, and its failures are counted."""

    async def main():
        downstream = Downstream(OSError("disk full"))
        async with leak_check():
            sink = BackpressureAwareEventSink(downstream)
            for type in ("a", "b"):
                sink.try_emit(type=type, data={})
            await asyncio.sleep(5)
            downstream.error = None
            assert sink.try_emit(type="c", data={})
            await sink.stop(timeout=60)
        assert downstream.kept == ["c"]
        assert (sink.metrics.emitted, sink.metrics.failed, sink.metrics.dropped) == (3, 2, 0)

    run_virtual(main())


def test_a1_16_a_sink_takes_events_where_no_event_loop_runs():
    """``try_emit`` never raises: what comes before there is a loop waits, and is delivered once there is one."""
    downstream = Downstream()
    sink = BackpressureAwareEventSink(downstream, max_queue_size=2)
    assert [sink.try_emit(type=type, data={}) for type in ("a", "b", "c")] == [True, True, False]

    async def main():
        async with leak_check():
            await sink.start()
            await sink.stop(timeout=60)

    run_virtual(main())
    assert downstream.kept == ["a", "b"]
    assert (sink.metrics.emitted, sink.metrics.dropped) == (2, 1)
