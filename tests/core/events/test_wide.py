"""Wide events: everything about a stage, or a run, at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from stageflow import (
    BaseInterceptor,
    ContextSnapshot,
    InterceptorContext,
    Pipeline,
    PipelineContext,
    RunIdentity,
    StageKind,
    StageOutput,
    StageResult,
)
from stageflow.events.wide import WideEventEmitter

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
IDS = ["pipeline_run_id", "request_id", "session_id", "user_id", "org_id"]
WHO = [*IDS, "topology", "execution_mode", "service"]


def result(name: str = "greet", status: str = "completed", **options: Any) -> StageResult:
    return StageResult(name, status, NOW, NOW + timedelta(milliseconds=250), **options)


def context(sink: Any = None) -> PipelineContext:
    ids = {name: uuid4() for name in IDS}
    return PipelineContext(
        **ids, topology="chat_fast", execution_mode="test", service="chat", event_sink=sink
    )


def test_the_payload_of_a_stage():
    ctx = context()
    payload = WideEventEmitter.build_stage_payload(ctx=ctx, result=result(data={"b": 1, "a": 2}))
    assert list(payload) == [
        *WHO,
        "stage",
        "status",
        "started_at",
        "ended_at",
        "duration_ms",
        "error",
        "data_keys",
    ]
    assert [payload[name] for name in IDS] == [str(getattr(ctx, name)) for name in IDS]
    assert payload["data_keys"] == ["a", "b"]
    assert payload["duration_ms"] == 250
    assert payload["started_at"] == "2026-01-02T03:04:05+00:00"


def test_the_payload_of_a_run():
    results = {
        "a": result("a"),
        "b": StageOutput.ok(),
        "c": StageOutput.skip("no"),
        "d": result("d", "failed", error="broken"),
    }
    payload = WideEventEmitter.build_pipeline_payload(
        ctx=context(), stage_results=results, duration_ms=12.5, started_at=NOW, extra={"build": 7}
    )
    assert list(payload) == [
        *WHO,
        "pipeline_name",
        "status",
        "started_at",
        "duration_ms",
        "stage_counts",
        "stage_details",
        "extra",
    ]
    assert (payload["pipeline_name"], payload["status"], payload["duration_ms"]) == (
        "chat_fast",
        "failed",
        12.5,
    )
    assert payload["stage_counts"] == {"completed": 2, "skipped": 1, "failed": 1}
    assert payload["stage_details"][3] == {
        "stage": "d",
        "status": "failed",
        "duration_ms": 250,
        "error": "broken",
    }
    assert payload["extra"] == {"build": 7}


def test_defaults():
    empty = WideEventEmitter.build_pipeline_payload(ctx=PipelineContext(), stage_results={}, started_at=NOW)
    assert (empty["pipeline_name"], empty["status"], empty["service"]) == (
        "pipeline",
        "completed",
        "pipeline",
    )
    assert empty["duration_ms"] > 0
    assert empty["pipeline_run_id"] is None
    assert "extra" not in empty
    named = WideEventEmitter.build_pipeline_payload(
        ctx=PipelineContext(), stage_results={}, pipeline_name="greeting", status="cancelled"
    )
    assert (named["pipeline_name"], named["status"], named["duration_ms"]) == ("greeting", "cancelled", None)


def test_events_go_to_the_contexts_sink(sink: Any):
    emitter = WideEventEmitter(stage_event_type="my.stage")
    ctx = context(sink)
    emitter.emit_stage_event(ctx=ctx, result=result(), extra={"k": 1})
    emitter.emit_pipeline_event(ctx=ctx, stage_results={"greet": result()}, pipeline_name="p")
    assert sink.types == ["my.stage", "pipeline.wide"]
    assert sink.events[0].data["extra"] == {"k": 1}
    assert sink.events[1].data["stage_counts"] == {"completed": 1}


@pytest.mark.asyncio
async def test_in_a_run_they_are_events_of_the_run(sink: Any):
    class Wide(BaseInterceptor):
        name = "wide"
        fail_closed = False

        async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
            WideEventEmitter().emit_stage_event(ctx=ctx, result=result)

    async def greet(ctx: Any) -> dict[str, str]:
        return {"text": "hi"}

    snapshot = ContextSnapshot(RunIdentity(user_id=uuid4()), topology="chat_fast")
    graph = Pipeline("greeting").with_stage("greet", greet, StageKind.TRANSFORM).build(interceptors=[Wide()])
    await graph.run(snapshot, sink=sink)
    wide = sink.data("stage.wide")
    assert (wide["stage"], wide["data_keys"], wide["topology"]) == ("greet", ["text"], "chat_fast")
    assert wide["user_id"] == str(snapshot.user_id)
    assert wide["sequence"] > 1
    sink.assert_paired(stages=["greet"], end="completed")
