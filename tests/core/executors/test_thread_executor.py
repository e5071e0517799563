"""``ThreadExecutor``: what threads promise beyond the contract of all executors."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextvars import ContextVar

import pytest
from stageflow import Pipeline, StageKind
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.events import clear_event_sink, get_event_sink, set_event_sink
from stageflow.executors import ThreadExecutor, WorkerStartError
from stageflow.stages.part import Part
from stageflow.testing import EventRecorder, leak_check

K = StageKind.TRANSFORM
mine: ContextVar[str] = ContextVar("mine", default="nobody's")


async def where(ctx):
    return {"thread": threading.current_thread().name, "loop": id(asyncio.get_running_loop())}


@pytest.mark.asyncio
async def test_every_thread_has_an_event_loop_of_its_own(make_ctx):
    async with ThreadExecutor(2, name="own") as executor:
        barrier = threading.Barrier(2)

        async def meet(ctx):
            barrier.wait()
            return await where(ctx)

        found = await asyncio.gather(*(executor.execute(meet, make_ctx()) for _ in range(2)))
        assert len({one["loop"] for one in found} | {id(asyncio.get_running_loop())}) == 3
        assert all(one["thread"].startswith("stageflow-own-") for one in found)
        again = [await executor.execute(where, make_ctx()) for _ in range(4)]
        assert {one["thread"] for one in again} <= {one["thread"] for one in found}


@pytest.mark.asyncio
async def test_context_variables_of_anybody_cross_over_and_stay_apart(make_ctx):
    async def change(ctx):
        seen = mine.get()
        mine.set("the body's")
        return seen

    mine.set("the caller's")
    async with ThreadExecutor(1) as executor:
        for _ in range(2):
            assert await executor.execute(change, make_ctx()) == "the caller's"
    assert mine.get() == "the caller's"


@pytest.mark.asyncio
async def test_no_more_bodies_run_than_there_are_threads(make_ctx):
    lock, active, most = threading.Lock(), 0, 0

    async def count(ctx):
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        await asyncio.sleep(0.001)
        with lock:
            active -= 1

    async with ThreadExecutor(3) as executor:
        await asyncio.gather(*(executor.execute(count, make_ctx()) for _ in range(30)))
    assert most == 3


@pytest.mark.asyncio
async def test_a_call_that_waits_and_is_cancelled_never_begins(make_ctx):
    go_on, began = threading.Event(), []

    async def block(ctx):
        began.append("block")
        go_on.wait()

    async def never(ctx):
        began.append("never")

    async with ThreadExecutor(1) as executor:
        first = asyncio.ensure_future(executor.execute(block, make_ctx()))
        second = asyncio.ensure_future(executor.execute(never, make_ctx()))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        await first
    assert began == ["block"]


@pytest.mark.asyncio
async def test_a_value_that_came_before_the_cancel_was_heard_is_dropped_and_an_error_is_not(make_ctx):
    go_on, entered = threading.Event(), threading.Event()

    async def block(ctx):
        entered.set()
        go_on.wait()
        if ctx.data["fails"]:
            raise ValueError("broken")
        return "a value"

    async with ThreadExecutor(1) as executor:
        for fails, error in ((False, asyncio.CancelledError), (True, ValueError)):
            go_on.clear()
            entered.clear()
            task = asyncio.ensure_future(executor.execute(block, make_ctx(fails=fails)))
            while not entered.is_set():
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(error):
                await task


@pytest.mark.asyncio
async def test_a_system_exit_beside_the_body_does_not_end_the_thread(make_ctx):
    async def beside(ctx):
        async def leave():
            raise SystemExit(4)

        async with asyncio.TaskGroup() as group:
            group.create_task(leave())

    async with ThreadExecutor(1) as executor:
        before = await executor.execute(where, make_ctx())
        with pytest.raises(SystemExit):
            await executor.execute(beside, make_ctx())
        assert await executor.execute(where, make_ctx()) == before


@pytest.mark.asyncio
async def test_runs_that_a_body_starts_tell_the_sinks_on_their_own_event_loop():
    home = threading.get_ident()
    heard = []
    sink = EventRecorder(lambda _: heard.append(threading.get_ident()))
    set_event_sink(sink)
    try:

        async def inner(ctx):
            return {}

        async def outer(ctx):
            get_event_sink().try_emit(type="direct", data={})
            ctx.event_sink.try_emit(type="own", data={})
            await Pipeline("inner").with_stage("b", inner, K).run()
            return {}

        async with ThreadExecutor(1) as executor:
            await Pipeline("outer").with_stage("a", outer, K, executor=executor).run()
    finally:
        clear_event_sink()
    assert set(heard) == {home}
    sink.assert_order("stage.a.started", "direct", "own", "stage.b.completed", "stage.a.completed")


@pytest.mark.asyncio
async def test_cleanup_callbacks_run_on_the_event_loop_that_they_were_made_on(sink):
    loops = {}

    async def body(ctx):
        loops["body"] = asyncio.get_running_loop()

        async def callback():
            loops["cleanup"] = asyncio.get_running_loop()

        ctx.register_cleanup(callback)
        await asyncio.to_thread(ctx.register_cleanup, callback, name="from a thread without a loop")
        return {}

    async with ThreadExecutor(1) as executor:
        await Pipeline().with_stage("a", body, K, executor=executor).run(sink=sink)
    assert loops["cleanup"] is loops["body"]
    assert "cleanup.failed" not in sink.types


@pytest.mark.asyncio
async def test_the_time_on_the_way_is_told():
    async with ThreadExecutor(1) as executor:
        results = await Pipeline().with_stage("a", where, K, executor=executor).run()
    stage = results.timeline["a"]
    assert stage.totals[Part.TRANSPORT] > 0
    assert sum(stage.totals.values()) == stage.ended_ns - stage.started_ns


@pytest.mark.asyncio
async def test_a_thread_that_cannot_start_is_named(make_ctx, monkeypatch):
    async with leak_check(), ThreadExecutor(1) as executor:
        with monkeypatch.context() as patch:

            def refused(self):
                raise RuntimeError("can't start new thread")

            patch.setattr(threading.Thread, "start", refused)
            with pytest.raises(WorkerStartError, match="can't start new thread"):
                await executor.execute(where, make_ctx())
        assert await executor.execute(where, make_ctx())


def test_one_that_nobody_closes_ends_its_threads_when_it_goes(make_ctx):
    executor = ThreadExecutor(2)
    before = set(threading.enumerate())
    asyncio.run(executor.execute(where, make_ctx()))
    assert set(threading.enumerate()) - before
    del executor
    gc.collect()
    assert not set(threading.enumerate()) - before


def test_a_program_ends_though_a_body_blocks_for_ever(program):
    source = """
import asyncio, threading
from stageflow import Pipeline, StageKind
from stageflow.executors import ThreadExecutor

executor = ThreadExecutor(2)
entered = threading.Event()

async def block(ctx):
    entered.set()
    threading.Event().wait()

async def main():
    graph = Pipeline().with_stage("a", block, StageKind.WORK, executor=executor).build()
    asyncio.ensure_future(graph.run())
    while not entered.is_set():
        await asyncio.sleep(0)

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
print("ends", flush=True)
"""
    one = program(source)
    assert one.line() == "ends"
    assert one.end()[0] == 0


def test_arguments_are_checked():
    with pytest.raises(ArgumentValueError):
        ThreadExecutor(0)
    with pytest.raises(ArgumentTypeError):
        ThreadExecutor(name=5)
