"""`PipelineRunner`, `ObservableEventSink`, `run_simple_pipeline`, `setup_logging`: how 0.9 ran a pipeline by hand."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from datetime import datetime
from uuid import UUID

import pytest
from stageflow import (
    ContextSnapshot,
    NoOpEventSink,
    Pipeline,
    RunIdentity,
    StageContext,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    get_event_sink,
    set_event_sink,
)
from stageflow.runner import (
    JsonLogFormatter,
    ObservableEventSink,
    PipelineRunner,
    RunResult,
    run_simple_pipeline,
    setup_logging,
)
from stageflow.testing import EventRecorder, FailingStage, ScriptedStage, run_virtual


class Echo:
    name = "echo"
    kind = StageKind.TRANSFORM

    async def execute(self, ctx: StageContext) -> StageOutput:
        return StageOutput.ok(
            text=ctx.snapshot.input_text,
            mode=ctx.execution_mode,
            user=str(ctx.snapshot.user_id),
            tone=ctx.snapshot.metadata.get("tone"),
        )


def echo() -> Pipeline:
    return Pipeline("echoing").with_stage("echo", Echo, StageKind.TRANSFORM)


RUN, USER = UUID(int=1), UUID(int=2)


def test_a_runner_runs_and_prints_nothing(capsys):
    # The migration page: in 0.9 it printed by default, and left its sink set.
    runner = PipelineRunner()
    result = run_virtual(
        runner.run(echo(), input_text="hi", execution_mode="practice", pipeline_run_id=RUN, user_id=USER)
    )
    assert isinstance(result, RunResult)
    assert (result.success, result.error, result.error_type) == (True, None, None)
    assert (result.cancelled, result.cancel_reason) == (False, None)
    assert result.pipeline_run_id == RUN
    assert result.duration_ms >= 0
    assert set(result.stages) == {"echo"}
    assert result.stages["echo"]["status"] == "ok"
    assert result.stages["echo"]["data"] == {
        "text": "hi",
        "mode": "practice",
        "user": str(USER),
        "tone": None,
    }
    assert [event["type"] for event in result.events] == [
        "pipeline.started",
        "stage.echo.started",
        "stage.echo.completed",
        "pipeline.completed",
    ]
    assert capsys.readouterr() == ("", "")
    assert isinstance(get_event_sink(), NoOpEventSink)


@pytest.mark.parametrize("form", ["pipeline", "graph"])
def test_a_runner_takes_pipelines_and_graphs(form):
    runnable = echo() if form == "pipeline" else echo().build()
    result = run_virtual(PipelineRunner(verbose=False).run(runnable, input_text="hi"))
    assert result.stages["echo"]["data"]["text"] == "hi"
    graph = StageGraph([StageSpec(name="echo", runner=Echo)])
    assert run_virtual(PipelineRunner().run(graph, input_text="ho")).stages["echo"]["data"]["text"] == "ho"


def test_a_runner_takes_a_snapshot():
    snapshot = ContextSnapshot(
        run_id=RunIdentity(pipeline_run_id=RUN, user_id=USER),
        input_text="from the snapshot",
        execution_mode="dry",
    )
    result = run_virtual(PipelineRunner().run(echo(), snapshot=snapshot))
    data = result.stages["echo"]["data"]
    assert (data["text"], data["mode"], data["user"]) == ("from the snapshot", "dry", str(USER))
    assert result.pipeline_run_id == RUN


def test_a_run_that_fails_is_a_result_with_the_partial_results():
    # Findings A1.10: `stages` was empty after a failure in 0.9.
    pipeline = echo().with_stage(
        "boom", FailingStage(ValueError("boom")), StageKind.WORK, dependencies=("echo",)
    )
    result = run_virtual(PipelineRunner().run(pipeline, input_text="hi"))
    assert result.success is False
    assert "boom" in result.error
    assert result.error_type is not None
    assert result.cancelled is False
    assert result.stages["echo"]["status"] == "ok"
    assert result.stages["boom"]["status"] == "fail"
    assert result.events[-1]["type"] == "pipeline.failed"


def test_a_run_that_is_cancelled_went_well_and_says_so():
    pipeline = Pipeline().with_stage("quits", ScriptedStage(StageOutput.cancel("enough")), StageKind.GUARD)
    result = run_virtual(PipelineRunner().run(pipeline))
    assert (result.success, result.cancelled, result.cancel_reason) == (True, True, "enough")
    assert result.stages["quits"]["status"] == "cancel"


def test_a_pipeline_that_does_not_build_is_a_result_too():
    pipeline = Pipeline().with_stage("a", Echo, StageKind.TRANSFORM, dependencies=("nobody",))
    result = run_virtual(PipelineRunner().run(pipeline))
    assert result.success is False
    assert "does not build" in result.error
    assert "nobody" in str(result.exception)
    assert result.error_type == "PipelineValidationError"
    assert (result.stages, result.pipeline_run_id) == ({}, None)


def test_a_verbose_runner_writes_lines(capsys):
    run_virtual(PipelineRunner(verbose=True, colorize=False).run(echo(), input_text="hi"))
    out = capsys.readouterr().out
    assert "stage.echo.started" in out
    assert "stage.echo.completed" in out
    assert "\x1b[" not in out
    stream = io.StringIO()
    run_virtual(PipelineRunner(verbose=True, stream=stream).run(echo(), input_text="hi"))
    assert "stage.echo.completed" in stream.getvalue()
    assert capsys.readouterr().out == ""


def test_a_runner_need_not_keep_events():
    result = run_virtual(PipelineRunner(capture_events=False).run(echo()))
    assert result.success
    assert result.events == []


def test_the_current_sink_hears_of_the_runs_too():
    sink = EventRecorder()

    async def program():
        set_event_sink(sink)
        await PipelineRunner().run(echo())
        assert get_event_sink() is sink

    run_virtual(program())
    sink.assert_paired(stages=["echo"], end="completed")


def test_two_runs_of_one_runner_at_once_do_not_mix():
    async def program():
        runner = PipelineRunner()
        return await asyncio.gather(*(runner.run(echo(), input_text=f"t{n}") for n in range(5)))

    results = run_virtual(program())
    assert [result.stages["echo"]["data"]["text"] for result in results] == [f"t{n}" for n in range(5)]
    assert {len(result.events) for result in results} == {4}
    assert len({result.pipeline_run_id for result in results}) == 5


def test_run_simple_pipeline_takes_metadata():
    # Findings A1.23: TypeError in 0.9.
    result = run_virtual(
        run_simple_pipeline(
            echo(), "hi", execution_mode="dry", metadata={"tone": "calm"}, verbose=False, colorize=False
        )
    )
    assert result.success
    assert result.stages["echo"]["data"] == {"text": "hi", "mode": "dry", "user": "None", "tone": "calm"}


def test_run_simple_pipeline_practises_by_default():
    result = run_virtual(run_simple_pipeline(echo(), "hi"))
    assert result.stages["echo"]["data"]["mode"] == "practice"


def test_the_runner_practises_by_default_as_0_9_did():
    result = run_virtual(PipelineRunner().run(echo(), input_text="hi"))
    assert result.stages["echo"]["data"]["mode"] == "practice"


def test_an_observable_sink():
    sink = ObservableEventSink()
    run_virtual(echo().build().run(input_text="hi", sink=sink))
    assert [event["type"] for event in sink.events] == [
        "pipeline.started",
        "stage.echo.started",
        "stage.echo.completed",
        "pipeline.completed",
    ]
    for event in sink.events:
        assert set(event) == {"type", "data", "timestamp", "elapsed_ms"}
        assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
        assert event["elapsed_ms"] >= 0
    assert [event["elapsed_ms"] for event in sink.events] == sorted(
        event["elapsed_ms"] for event in sink.events
    )
    sink.clear()
    assert sink.events == []


def test_an_observable_sink_by_hand():
    stream = io.StringIO()
    sink = ObservableEventSink(verbose=True, colorize=False, capture=False, stream=stream)
    sink.try_emit(type="app.hello", data={"n": 1})
    asyncio.run(sink.emit(type="app.bye", data=None))
    assert sink.events == []
    assert [
        line for line in stream.getvalue().splitlines() if "app." in line
    ] == stream.getvalue().splitlines()
    assert len(stream.getvalue().splitlines()) == 2


# --- logging ------------------------------------------------------------------------------------------------


def test_setup_logging_replaces_its_own_handler_only():
    # The migration page: in 0.9 it removed the handlers of others.
    logger = logging.getLogger("app.of.this.test")
    others = logging.NullHandler()
    logger.addHandler(others)
    first, second = io.StringIO(), io.StringIO()
    try:
        setup_logging(logging.INFO, stream=first, logger=logger.name)
        logger.info("one")
        handler = setup_logging("DEBUG", json_format=True, stream=second, logger=logger.name)
        logger.debug("two", extra={"stage": "echo"})
        assert logger.handlers == [others, handler]
    finally:
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
    assert "one" in first.getvalue()
    assert "two" not in first.getvalue()
    line = json.loads(second.getvalue())
    assert (line["message"], line["stage"], line["level"]) == ("two", "echo", "DEBUG")
    assert line["logger"] == "app.of.this.test"


def test_the_json_formatter_writes_one_line_whatever_it_gets():
    record = logging.LogRecord("app", logging.WARNING, __file__, 1, "hello %s", ("Ada",), None)
    record.odd = object()
    text = JsonLogFormatter().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "hello Ada"
