"""``PipelineRunner`` says what became of a run, prints only when told to, and leaves the global sink alone."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from uuid import UUID

import pytest
from stageflow import (
    CancellationToken,
    ContextSnapshot,
    NoOpEventSink,
    Pipeline,
    RunIdentity,
    StageExecutionError,
    StageKind,
    StageOutput,
    clear_event_sink,
    get_event_sink,
    set_event_sink,
)
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import PipelineValidationError, RunTimeoutError
from stageflow.pipeline.builders import PipelineBuilder
from stageflow.runner import (
    JsonLogFormatter,
    ObservableEventSink,
    PipelineRunner,
    RunResult,
    run_simple_pipeline,
    setup_logging,
)

W = StageKind.WORK


async def ok(ctx):
    return {"text": ctx.input_text, "items": [1, 2]}


async def bad(ctx):
    raise ValueError("no")


async def cancel(ctx):
    return StageOutput.cancel("enough")


async def hang(ctx):
    await asyncio.sleep(60)


def chain(*runners):
    pipeline = Pipeline("p")
    for number, runner in enumerate(runners):
        pipeline = pipeline.with_stage(f"s{number}", runner, W, [f"s{number - 1}"] if number else ())
    return pipeline


def run(pipeline, runner=None, **options) -> RunResult:
    return asyncio.run((runner or PipelineRunner()).run(pipeline, **options))


def test_a_run_that_ends_well():
    result = run(chain(ok, ok), input_text="hi")
    assert (result.success, result.cancelled, result.error, result.exception) == (True, False, None, None)
    assert list(result.stages) == ["s0", "s1"]
    assert result.stages["s0"]["data"] == {"text": "hi", "items": [1, 2]}
    assert type(result.stages["s0"]["data"]["items"]) is list
    assert (result.stages["s0"]["status"], result.stages["s0"]["error"]) == ("ok", None)
    assert result.stages["s0"]["duration_ms"] >= 0
    assert result.duration_ms > 0
    assert isinstance(result.pipeline_run_id, UUID)
    assert result.results["s1"].data["text"] == "hi"
    assert [event["type"] for event in result.events][:2] == ["pipeline.started", "stage.s0.started"]
    assert {*result.events[0]} == {"type", "data", "timestamp", "elapsed_ms"}
    elapsed = [event["elapsed_ms"] for event in result.events]
    assert elapsed == sorted(elapsed)
    assert elapsed[0] == 0


def test_finding_a1_10_a_failed_run_keeps_what_it_had():
    result = run(chain(ok, bad, ok))
    assert (result.success, result.cancelled, result.error_type) == (False, False, "StageExecutionError")
    assert result.error == "Stage 's1' failed: ValueError: no"
    assert {name: stage["status"] for name, stage in result.stages.items()} == {"s0": "ok", "s1": "fail"}
    assert isinstance(result.exception, StageExecutionError)


def test_a_cancelled_run_ended_as_somebody_wanted():
    result = run(chain(ok, cancel, ok))
    assert (result.success, result.cancelled, result.cancel_reason) == (True, True, "enough")
    assert (result.error, result.error_type) == (None, None)
    assert list(result.stages) == ["s0", "s1"]
    token = CancellationToken()
    token.cancel("outside")
    assert run(chain(hang), cancel_token=token).cancel_reason == "outside"


def test_a_run_over_its_limit_failed():
    result = run(chain(hang), timeout=0.01)
    assert (result.success, result.cancelled, result.error_type) == (False, True, "RunTimeoutError")
    assert isinstance(result.exception, RunTimeoutError)


def test_a_pipeline_that_does_not_build():
    result = run(Pipeline("p"))
    assert (result.success, result.stages, result.results, result.pipeline_run_id) == (False, {}, None, None)
    assert result.error_type == "PipelineValidationError"
    assert isinstance(result.exception, PipelineValidationError)


def test_the_callers_own_cancellation_is_the_callers():
    async def main():
        task = asyncio.create_task(PipelineRunner().run(chain(hang)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_graphs_and_builders_run_too():
    assert run(chain(ok).build()).success
    assert run(PipelineBuilder().with_stage("a", ok)).success
    for wrong in (None, ok, "p"):
        with pytest.raises(ArgumentTypeError):
            run(wrong)


async def seen(ctx):
    snapshot = ctx.snapshot
    return {
        "mode": snapshot.execution_mode,
        "metadata": snapshot.metadata,
        "text": snapshot.input_text,
        "user": str(snapshot.user_id),
        "org": str(snapshot.org_id),
    }


def test_what_a_run_starts_with():
    one, two = UUID(int=1), UUID(int=2)
    data = run(chain(seen), input_text="hi", user_id=one, org_id=str(two)).stages["s0"]["data"]
    assert data == {"mode": "practice", "metadata": {}, "text": "hi", "user": str(one), "org": str(two)}
    snapshot = ContextSnapshot(
        RunIdentity(user_id=one), input_text="old", execution_mode="exam", metadata={"a": 1}
    )
    data = run(chain(seen), snapshot=snapshot, org_id=two, metadata={"b": 2}).stages["s0"]["data"]
    assert data == {
        "mode": "exam",
        "metadata": {"a": 1, "b": 2},
        "text": "old",
        "user": str(one),
        "org": str(two),
    }
    data = run(chain(seen), snapshot=snapshot, input_text="new", execution_mode="x").stages["s0"]["data"]
    assert (data["mode"], data["text"]) == ("x", "new")
    assert run(chain(seen), pipeline_run_id=one).pipeline_run_id == one
    with pytest.raises(ArgumentValueError):
        run(chain(seen), user_id="ada")
    with pytest.raises(ArgumentTypeError, match="usr_id"):
        run(chain(seen), usr_id=one)


def test_finding_a1_23_run_simple_pipeline_takes_metadata():
    result = asyncio.run(run_simple_pipeline(chain(seen), "hi", metadata={"tone": "calm"}))
    assert result.stages["s0"]["data"]["metadata"] == {"tone": "calm"}
    assert result.stages["s0"]["data"]["mode"] == "practice"
    result = asyncio.run(run_simple_pipeline(chain(seen), "hi", execution_mode="exam"))
    assert result.stages["s0"]["data"]["mode"] == "exam"


def test_nothing_is_printed_unless_verbose(capsys):
    run(chain(ok, bad))
    assert capsys.readouterr() == ("", "")
    asyncio.run(run_simple_pipeline(chain(ok), "hi", verbose=True))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" ms  pipeline.started")
    assert lines[4].startswith("Pipeline completed after ")
    assert lines[5] == "  s0: ok"
    assert "\x1b" not in "".join(lines)


def test_the_summary_says_why():
    for pipeline, words in ((chain(bad), "failed"), (chain(cancel), "cancelled"), (Pipeline(), "failed")):
        stream = io.StringIO()
        run(pipeline, PipelineRunner(verbose=True, stream=stream))
        assert f"Pipeline {words} after " in stream.getvalue()
        assert ": " in stream.getvalue().rsplit("Pipeline", 1)[1]


def test_lines_are_coloured_on_a_terminal_only():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    coloured, plain = Terminal(), Terminal()
    run(chain(ok), PipelineRunner(verbose=True, stream=coloured))
    run(chain(ok), PipelineRunner(verbose=True, stream=plain, colorize=False))
    assert "\x1b[32m" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_a_stream_that_breaks_does_not_break_the_run(caplog):
    class Broken(io.StringIO):
        def write(self, text):
            raise OSError("closed")

    sink = ObservableEventSink(verbose=True, stream=Broken())
    asyncio.run(chain(ok).run(sink=sink))
    assert len(sink.events) == 4


def test_the_global_sink_is_left_alone_and_hears_of_the_run(sink):
    run(chain(ok))
    assert isinstance(get_event_sink(), NoOpEventSink)

    async def main():
        set_event_sink(sink)
        try:
            await PipelineRunner().run(chain(ok))
            assert get_event_sink() is sink
        finally:
            clear_event_sink()

    asyncio.run(main())
    sink.assert_paired(stages=["s0"], end="completed")


def test_a_sink_of_ones_own_hears_too(sink):
    result = run(chain(ok), PipelineRunner(capture_events=False), sink=sink)
    assert result.events == []
    sink.assert_paired(stages=["s0"], end="completed")


def test_without_listeners_no_event_is_made(monkeypatch):
    from stageflow.events.emitter import RunEmitter

    listening = []
    original = RunEmitter.__init__
    monkeypatch.setattr(
        RunEmitter, "__init__", lambda self, *args: original(self, *args) or listening.append(self.listening)
    )
    run(chain(ok), PipelineRunner(capture_events=False))
    run(chain(ok))
    assert listening == [True], "an emitter was made for nobody"


def test_runs_at_once_keep_their_events_apart():
    async def main():
        runner = PipelineRunner()
        return await asyncio.gather(*(runner.run(chain(ok, ok)) for _ in range(5)))

    for result in asyncio.run(main()):
        assert {event["data"]["pipeline_run_id"] for event in result.events} == {str(result.pipeline_run_id)}


# --- the sink by itself ---------------------------------------------------------------------------------------------


def test_the_sink_forgets():
    async def main():
        sink = ObservableEventSink()
        await sink.emit(type="x", data={"a": 1})
        sink.try_emit(type="y")
        assert [event["data"] for event in sink.events] == [{"a": 1}, {}]
        sink.clear()
        sink.try_emit(type="z")
        assert [event["elapsed_ms"] for event in sink.events] == [0]

    asyncio.run(main())


# --- logging --------------------------------------------------------------------------------------------------------


@pytest.fixture
def logger():
    logger = logging.getLogger("stageflow.tests.runner")
    logger.propagate = False
    yield logger
    for handler in [
        one for one in logger.handlers if type(one) in (logging.NullHandler, logging.StreamHandler)
    ]:
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_logging_is_set_up_once_and_leaves_others_handlers(logger):
    theirs = logging.NullHandler()
    logger.addHandler(theirs)
    before = [*logger.handlers]  # pytest's own among them
    first, second = io.StringIO(), io.StringIO()
    setup_logging("debug", stream=first, logger=logger.name)
    handler = setup_logging(logging.INFO, stream=second, json_format=True, logger=logger.name)
    assert logger.handlers == [*before, handler]
    logger.debug("hidden")
    logger.info("hello %s", "Ada", extra={"stage": "greet"})
    assert first.getvalue() == ""
    line = json.loads(second.getvalue())
    assert (
        line.items()
        >= {"level": "INFO", "message": "hello Ada", "stage": "greet", "logger": logger.name}.items()
    )


def test_lines_for_people(logger):
    stream = io.StringIO()
    setup_logging(stream=stream, logger=logger.name)
    logger.warning("hello")
    assert stream.getvalue().endswith(f"WARNING  {logger.name}: hello\n")


def test_an_unknown_level_is_refused_before_anything_is_changed(logger):
    before = [*logger.handlers]
    with pytest.raises(ArgumentValueError):
        setup_logging("loud", logger=logger.name)
    assert logger.handlers == before


def test_json_lines_never_raise():
    class Awkward:
        def __str__(self):
            raise RuntimeError

    circle = []
    circle.append(circle)
    for extra in ({"x": Awkward()}, {"x": circle}, {"x": {1, 2}}, {"x": {(1, 2): 3}}, {"x": float("nan")}):
        record = logging.makeLogRecord({"msg": "hi", "level": "theirs", **extra})
        assert json.loads(JsonLogFormatter().format(record))["message"] == "hi"
    broken = logging.makeLogRecord({"msg": "%d", "args": ("x",)})
    assert json.loads(JsonLogFormatter().format(broken))["message"] == "%d"
    try:
        raise ValueError("bad")
    except ValueError:
        import sys

        record = logging.makeLogRecord({"msg": "hi", "exc_info": sys.exc_info()})
    assert "ValueError: bad" in json.loads(JsonLogFormatter().format(record))["exception"]
