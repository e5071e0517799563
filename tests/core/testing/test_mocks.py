"""Stores and loggers that keep what they are told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

from stageflow import Pipeline, StageKind
from stageflow.protocols import PipelineRunLogger, ProviderCallLogger, RunStore
from stageflow.runtime.recording import Recording
from stageflow.testing import (
    FailingStage,
    RecordingProviderCallLogger,
    RecordingRunLogger,
    RecordingRunStore,
    ScriptedStage,
    create_test_snapshot,
    run_virtual,
)

if TYPE_CHECKING:
    import pytest

WORK = StageKind.WORK


def test_they_are_what_they_stand_for() -> None:
    assert isinstance(RecordingRunStore(), RunStore)
    assert isinstance(RecordingRunLogger(), PipelineRunLogger)
    assert isinstance(RecordingProviderCallLogger(), ProviderCallLogger)


def test_a_run_that_is_written_down() -> None:
    store, logger = RecordingRunStore(delay=1), RecordingRunLogger(delay=1)
    recording = Recording(run_store=store, run_logger=logger, timeout=60)
    snapshot = create_test_snapshot()
    run_id = snapshot.pipeline_run_id
    assert run_id is not None
    graph = Pipeline("chat").with_stage("a", ScriptedStage(), WORK).build(recording=recording)
    run_virtual(graph.run(snapshot))
    assert store.runs[run_id]["status"] == "completed"
    assert store.runs[run_id]["pipeline_name"] == "chat"
    assert logger.methods == ["log_run_started", "log_run_completed"]
    assert logger.calls[0].arguments["pipeline_run_id"] == run_id
    assert run_virtual(store.get_run(run_id)) is store.runs[run_id]
    assert run_virtual(store.get_run(UUID(int=1))) is None


def test_they_may_raise_and_no_run_minds(caplog: pytest.LogCaptureFixture) -> None:
    store, logger = RecordingRunStore(raises=OSError("disk full")), RecordingRunLogger(raises=OSError("no"))
    recording = Recording(run_store=store, run_logger=logger)
    graph = Pipeline().with_stage("a", FailingStage(), WORK).build(recording=recording)
    asyncio.run(graph.run(raise_errors=False))
    assert store.methods == ["create_run", "update_status", "update_status"]
    assert logger.methods == ["log_run_started", "log_run_failed"]
    assert store.runs == {}
    assert "disk full" in caplog.text


def test_provider_calls() -> None:
    logger = RecordingProviderCallLogger()

    async def chat(ctx: Any) -> None:
        async with ctx.provider_call("chat", "acme", "small") as call:
            assert len(logger.open) == 1
            call.metrics["tokens"] = 40

    recording = Recording(provider_call_logger=logger)
    asyncio.run(Pipeline().with_stage("chat", chat, WORK).build(recording=recording).run())
    start, end = logger.calls
    assert (start.arguments["operation"], start.arguments["provider"], start.arguments["model_id"]) == (
        "chat",
        "acme",
        "small",
    )
    assert end.arguments["tokens"] == 40
    assert logger.open == set()
