"""What EventRecorder records, and what its assertions refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stageflow import EventSink, Pipeline, RetryPolicy, StageKind, StageOutput
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.testing import EventRecorder, FailingStage, ScriptedStage, run_virtual

WORK = StageKind.TRANSFORM


def recorded(*types: str, run: str = "r") -> EventRecorder:
    """Return a recorder with events of one run, numbered; ``stage.x.retrying:2`` is one of round 2."""
    events = EventRecorder()
    for number, text in enumerate(types, 1):
        type, _, turn = text.partition(":")
        data: dict[str, Any] = {"sequence": number, "monotonic_ns": number, "pipeline_run_id": run}
        if type.startswith("stage."):
            data["stage"] = type.split(".", 1)[1].rpartition(".")[0]
        if turn:
            data["round"] = int(turn)
        events.try_emit(type=type, data=data)
    return events


def whole(*types: str) -> EventRecorder:
    return recorded("pipeline.started", *types, "pipeline.completed")


def test_it_is_a_sink_and_keeps_copies() -> None:
    events = EventRecorder()
    assert isinstance(events, EventSink)
    data = {"n": 1}
    asyncio.run(events.emit(type="a", data=data))
    events.try_emit(type="b", data=None)
    data["n"] = 2
    assert events.types == ["a", "b"]
    assert events.data("a") == {"n": 1}
    assert len(events) == 2
    assert [event.type for event in events] == ["a", "b"]
    events.clear()
    assert not events.events


def test_a_real_run_is_paired_and_ordered() -> None:
    seen = []
    events = EventRecorder(on_event=lambda event: seen.append(event.type))
    pipeline = (
        Pipeline()
        .with_stage("a.b", FailingStage(ConnectionError()), WORK, retry=RetryPolicy())
        .with_stage("c", ScriptedStage(StageOutput.skip("no")), WORK, ["a.b"])
        .with_stage("d", ScriptedStage(), WORK, ["c"], conditional=True)
    )
    run_virtual(pipeline.run(sink=events))
    events.assert_paired(stages=["a.b", "c", "d"], end="completed")
    events.assert_order("pipeline.started", "stage.a.b.retrying", "stage.c.started", "pipeline.completed")
    assert events.assert_emitted("stage.*.skipped", stage="d").data["reason"] == "dependency_skipped"
    events.assert_not_emitted("stage.*.failed")
    assert events.of("a.b") == ["started", "retrying", "completed"]
    assert events.of("b") == []
    assert seen == events.types
    assert len(events.runs) == 1


def test_runs_are_told_apart() -> None:
    events = EventRecorder()
    pipeline = Pipeline().with_stage("a", ScriptedStage(), WORK)

    async def both() -> None:
        await asyncio.gather(pipeline.run(sink=events), pipeline.run(sink=events))

    asyncio.run(both())
    assert len(events.runs) == 2
    events.assert_paired(stages=["a"], end="completed")


def test_events_of_contexts_outside_of_a_run_do_not_count() -> None:
    events = whole()
    events.try_emit(type="pipeline.canceled", data={"pipeline_run_id": "r"})
    events.assert_paired()


def test_a_guard_that_sends_back_gives_a_stage_an_end_for_each_round() -> None:
    events = EventRecorder()
    strategy = GuardRetryStrategy({"check": GuardRetryPolicy("write")})
    pipeline = (
        Pipeline()
        .with_stage("write", ScriptedStage({"n": 1}, {"n": 2}), WORK)
        .with_stage("check", ScriptedStage(StageOutput.fail("no"), {}), StageKind.GUARD, ["write"])
    )
    asyncio.run(pipeline.build(guard_retry_strategy=strategy).run(sink=events))
    events.assert_paired(stages=["write", "check"])
    assert events.of("write") == ["started", "completed", "retrying", "completed"]


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        (EventRecorder(), "No run has emitted anything"),
        (recorded("stage.a.started", "stage.a.completed", "pipeline.completed"), "A run starts once"),
        (recorded("pipeline.started", "pipeline.started", "pipeline.completed"), "it came 2 times"),
        (recorded("pipeline.started"), "exactly one terminal event, not none"),
        (recorded("pipeline.started", "pipeline.failed", "pipeline.cancelled"), "exactly one terminal event"),
        (recorded("pipeline.started", "pipeline.completed", "late"), "'late' came after the run had ended"),
        (whole("stage.a.started"), "Stage 'a' has no terminal event: started"),
        (whole("stage.a.started", "stage.a.started", "stage.a.completed"), "Stage 'a' started twice"),
        (whole("stage.a.started", "stage.a.completed", "stage.a.failed"), "more than one terminal event"),
        (whole("stage.a.completed"), "Stage 'a' has 'completed', but never started"),
        (whole("stage.a.skipped", "stage.a.started"), "Stage 'a' started twice"),
        (whole("stage.a.retrying", "stage.a.completed"), "is attempted again, but was not running"),
        (
            whole("stage.a.started", "stage.a.completed", "stage.a.retrying", "stage.a.completed"),
            "is attempted again, but was not running",
        ),
        (
            whole("stage.a.started", "stage.a.completed", "stage.a.retrying:2"),
            "Stage 'a' has no terminal event",
        ),
    ],
)
def test_what_is_not_paired_is_refused_with_the_timeline(events: EventRecorder, problem: str) -> None:
    with pytest.raises(AssertionError) as caught:
        events.assert_paired()
    assert problem in str(caught.value)
    assert "\nThe timeline:\n" in str(caught.value)
    assert all(type in str(caught.value) for type in events.types)


def test_what_is_asked_for_on_top() -> None:
    with pytest.raises(AssertionError, match="Nothing was told of stage 'b'"):
        whole("stage.a.skipped").assert_paired(stages=["a", "b"])
    with pytest.raises(AssertionError, match=r"ended with 'pipeline.completed', not with 'pipeline.failed'"):
        whole().assert_paired(end="failed")


def test_gaps_and_times_that_go_back() -> None:
    events = whole("stage.a.skipped")
    del events.events[1]
    with pytest.raises(AssertionError, match=r"not numbered 1 to 2: \[1, 3\]"):
        events.assert_paired()
    back = EventRecorder()
    for number, (type, stamp) in enumerate((("pipeline.started", 2), ("pipeline.completed", 1)), 1):
        back.try_emit(type=type, data={"sequence": number, "monotonic_ns": stamp})
    with pytest.raises(AssertionError, match="go back"):
        back.assert_paired()


def test_order() -> None:
    events = whole("stage.a.started", "stage.a.completed", "stage.b.started")
    events.assert_order()
    events.assert_order("stage.a.completed", "stage.b.started")
    events.assert_order("stage.*.started", "stage.*.started")
    with pytest.raises(AssertionError, match=r"'stage.a.started' did not come after .*, but before it"):
        events.assert_order("stage.b.started", "stage.a.started")
    with pytest.raises(AssertionError, match="'nothing' did not come\n"):
        events.assert_order("nothing")


def test_emitted_and_not() -> None:
    events = whole("stage.[x].skipped")
    assert events.assert_emitted("stage.[x].skipped", times=1).stage == "[x]"
    events.assert_emitted("stage.[*].skipped")
    with pytest.raises(AssertionError, match="was not emitted"):
        events.assert_emitted("stage.[x].skipped", stage="y")
    with pytest.raises(AssertionError, match="was emitted 1 times, not 2"):
        events.assert_emitted("pipeline.started", times=2)
    with pytest.raises(AssertionError, match="use assert_not_emitted"):
        events.assert_emitted("nothing", times=0)
    events.assert_not_emitted("nothing")
    with pytest.raises(AssertionError, match="was emitted 2 times, and should not have been"):
        events.assert_not_emitted("pipeline.*")
    with pytest.raises(AssertionError, match="There are 0 events"):
        events.data("nothing")


def test_the_timeline_tells_what_matters() -> None:
    events = recorded("pipeline.started")
    events.try_emit(type="stage.a.failed", data={"error": "x" * 100, "attempt": 2, "reason": ""})
    first, second = events.timeline().splitlines()
    assert first.split() == ["1", "0.00ms", "pipeline.started"]
    assert second.split() == ["-", "stage.a.failed", f"error={'x' * 60}...", "attempt=2"]
    assert EventRecorder().timeline() == "  (no events)"
    assert repr(events) == "<EventRecorder 2 events of 2 runs>"
