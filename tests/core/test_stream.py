"""``pipeline.stream()``: a run as a stream of events."""

from __future__ import annotations

import asyncio
import gc

import pytest
from stageflow import (
    CancellationToken,
    Pipeline,
    PipelineCancelled,
    StageExecutionError,
    StageflowError,
    StageKind,
    StageOutput,
)
from stageflow.testing import leak_check

K = StageKind.WORK


async def ok(ctx):
    return {"ran": True}


async def fails(ctx):
    return StageOutput.fail("no")


async def forever(ctx):
    await asyncio.Event().wait()


async def turns(condition) -> None:
    for _ in range(50):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


@pytest.mark.asyncio
async def test_the_events_of_a_run_as_they_happen(sink):
    stream = (
        Pipeline("p").with_stage("a", ok, K).with_stage("b", ok, K, ["a"]).stream(input_text="x", sink=sink)
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == sink.types
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.stage for event in events] == [None, "a", "a", "b", "b", None]
    assert stream.results["b"].data == {"ran": True}


@pytest.mark.asyncio
async def test_events_come_while_the_run_goes_on():
    go_on = asyncio.Event()

    async def waits(ctx):
        await go_on.wait()

    seen = []
    async for event in Pipeline().with_stage("a", ok, K).with_stage("waits", waits, K, ["a"]).stream():
        seen.append(event.type)
        if event.type == "stage.waits.started":
            go_on.set()
    assert seen[-1] == "pipeline.completed"


@pytest.mark.asyncio
async def test_results_are_there_at_the_end_and_not_before():
    stream = Pipeline().with_stage("a", ok, K).stream()
    with pytest.raises(RuntimeError, match="not ended"):
        _ = stream.results
    async for _ in stream:
        with pytest.raises(RuntimeError, match="not ended"):
            _ = stream.results
    assert set(stream.results) == {"a"}


@pytest.mark.asyncio
async def test_a_stream_can_be_read_once():
    stream = Pipeline().with_stage("a", ok, K).stream()
    assert len([event async for event in stream]) == 4
    with pytest.raises(RuntimeError, match="once"):
        async for _ in stream:
            pass


@pytest.mark.asyncio
async def test_a_failure_is_raised_after_the_last_event():
    seen = []
    stream = Pipeline().with_stage("a", fails, K).stream()
    with pytest.raises(StageExecutionError):
        async for event in stream:
            seen.append(event.type)  # noqa: PERF401 - the loop ends by an exception, and what came before counts
    assert seen[-1] == "pipeline.failed"
    assert stream.results["a"].status == "fail"


@pytest.mark.asyncio
async def test_or_is_only_kept_in_the_results():
    stream = Pipeline().with_stage("a", fails, K).stream(raise_errors=False)
    async for _ in stream:
        pass
    assert isinstance(stream.results.error, StageExecutionError)


@pytest.mark.asyncio
async def test_a_token_and_a_time_limit_end_it():
    token = CancellationToken()
    with pytest.raises(PipelineCancelled):
        async for event in Pipeline().with_stage("a", forever, K).stream(cancel_token=token):
            if event.type == "stage.a.started":
                token.cancel()
    with pytest.raises(TimeoutError):
        async for _ in Pipeline().with_stage("a", forever, K).stream(timeout=0.01):
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["break", "error"])
async def test_a_reader_that_leaves_ends_the_run(how, sink):
    stream = Pipeline().with_stage("a", forever, K).stream(sink=sink)
    try:
        async for event in stream:
            if event.type == "stage.a.started":
                if how == "break":
                    break
                raise ValueError("reader")
    except ValueError:
        pass
    gc.collect()
    await turns(lambda: not asyncio.all_tasks() - {asyncio.current_task()})
    sink.assert_paired(stages=["a"], end="cancelled")


@pytest.mark.asyncio
async def test_closing_the_iterator_waits_for_the_end_of_the_run(sink):
    cleaned = []

    async def slow_to_stop(ctx):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    iterator = Pipeline().with_stage("a", slow_to_stop, K).stream(sink=sink).__aiter__()
    async with leak_check():
        assert (await anext(iterator)).type == "pipeline.started"
        assert (await anext(iterator)).type == "stage.a.started"
        await iterator.aclose()
    assert cleaned == [True]
    sink.assert_paired(stages=["a"], end="cancelled")


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [1, 3])
async def test_a_reader_that_is_cancelled_leaves_only_when_the_run_has_ended(times, sink):
    cleaning, released = asyncio.Event(), asyncio.Event()

    async def slow_to_stop(ctx):
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await released.wait()

    async def read():
        async for _ in Pipeline().with_stage("a", slow_to_stop, K).stream(sink=sink):
            pass

    async with leak_check():
        reader = asyncio.create_task(read())
        await turns(lambda: sink.of("a"))
        reader.cancel()
        await cleaning.wait()
        for _ in range(times - 1):
            reader.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not reader.done(), "the reader left while the run was alive"
        released.set()
        await asyncio.wait([reader])
    assert reader.cancelled()
    sink.assert_paired(stages=["a"], end="cancelled")


@pytest.mark.asyncio
async def test_a_slow_reader_loses_the_oldest_events_and_is_told_exactly_how_many():
    pipeline = Pipeline()
    for n in range(50):
        pipeline = pipeline.with_stage(f"s{n}", ok, K, [f"s{n - 1}"] if n else ())
    total = 2 + 2 * 50
    seen, lost = [], 0
    async for event in pipeline.stream(buffer=1):  # a stage emits two before anybody gets a turn
        if event.type == "stream.gap":
            lost += event.data["lost"]
            assert event.sequence == 0
        else:
            seen.append(event.sequence)
    assert len(seen) + lost == total
    assert lost > 0
    assert seen == sorted(seen)
    assert seen[-1] == total


@pytest.mark.asyncio
async def test_a_stream_that_is_never_read_runs_nothing():
    ran = []

    async def body(ctx):
        ran.append(True)

    async with leak_check():
        Pipeline().with_stage("a", body, K).stream()
        await asyncio.sleep(0)
    assert ran == []


@pytest.mark.parametrize("buffer", [0, -1, "x", None, 1.5])
def test_a_buffer_has_room_for_something(buffer):
    with pytest.raises(StageflowError):
        Pipeline().with_stage("a", ok, K).stream(buffer=buffer)


@pytest.mark.asyncio
@pytest.mark.parametrize("raised", [StageExecutionError, asyncio.CancelledError])
async def test_no_exception_is_left_unretrieved(raised):
    """Warnings are errors here: an exception that nobody fetched would fail this test."""
    stream = Pipeline().with_stage("a", fails, K).stream()
    iterator = stream.__aiter__()
    await anext(iterator)
    await iterator.aclose()
    del iterator, stream
    gc.collect()
