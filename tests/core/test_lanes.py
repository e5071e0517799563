"""Lanes where they are at their most fragile: odd event loops, large outputs, and what they keep."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import weakref
from collections import UserDict

import pytest
from stageflow import BaseInterceptor, CancellationToken, ErrorAction, Pipeline, StageKind
from stageflow.observability import get_trace_id
from stageflow.testing import leak_check

K = StageKind.WORK


def fan(stage, size):
    pipeline = Pipeline()
    for number in range(size):
        pipeline = pipeline.with_stage(f"s{number}", stage, K)
    return pipeline.build(interceptors=[])


@pytest.mark.asyncio
@pytest.mark.parametrize("fails_at", [1, 2, 3, 7])
async def test_a_loop_that_refuses_a_task_ends_the_run(fails_at):
    loop, made = asyncio.get_running_loop(), 0

    def factory(loop, coro, **options):
        nonlocal made
        made += 1
        if made == fails_at:
            raise MemoryError("no Task")
        return asyncio.Task(coro, loop=loop, **options)

    async def stage(ctx):
        await asyncio.sleep(0.001)

    async with leak_check():
        run = asyncio.ensure_future(fan(stage, 12).run())
        loop.set_task_factory(factory)
        try:
            with pytest.raises(MemoryError):
                await run
        finally:
            loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager Tasks came with Python 3.12")
@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
async def test_eager_tasks(size):
    async def stage(ctx):
        await asyncio.sleep(0.001)
        return {"number": 1}

    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        assert len(await fan(stage, size).run()) == size
    finally:
        loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="get_context() came with Python 3.12")
@pytest.mark.asyncio
async def test_every_lane_has_a_context_of_its_own():
    """So that a stage may run the loop from within, as notebooks do, while others wait."""
    contexts = []

    async def stage(ctx):
        contexts.append(asyncio.current_task().get_context())
        await asyncio.sleep(0)

    await fan(stage, 3).run()
    assert len({id(context) for context in contexts}) == 3


@pytest.mark.asyncio
async def test_sinks_and_predicates_see_the_trace_of_the_run():
    class Sink:
        def __init__(self):
            self.seen = {}

        async def emit(self, *, type, data):
            raise AssertionError

        def try_emit(self, *, type, data):
            self.seen[type] = get_trace_id()

    async def stage(ctx):
        return {"trace": get_trace_id()}

    asked = []
    pipeline = Pipeline().with_stage("a", stage, K)
    pipeline = pipeline.with_stage("b", stage, K, ["a"], when=lambda _: asked.append(get_trace_id()) or True)
    sink = Sink()
    results = await pipeline.run(sink=sink)
    trace = results["a"].data["trace"]
    assert trace is not None
    assert {sink.seen[f"stage.{name}.{word}"] for name in "ab" for word in ("started", "completed")} == {
        trace
    }
    assert asked == [trace]


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [{"n": 1}, {"n": [1]}, {"n": [1] * 1000}], ids=["flat", "small", "large"])
async def test_others_get_their_turns_whatever_stages_return(value):
    async def busy(ctx):
        end = time.monotonic_ns() + 1_000_000
        while time.monotonic_ns() < end:
            pass
        return value

    pipeline, before = Pipeline(), []
    for number in range(50):
        pipeline, before = pipeline.with_stage(f"s{number}", busy, K, before), [f"s{number}"]
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    await pipeline.build(interceptors=[]).run()
    counting.cancel()
    assert turns >= 50


@pytest.mark.asyncio
@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("size", [1, 60_000])
async def test_a_stage_that_stops_its_own_run_has_done_what_it_did(suspends, size):
    token = CancellationToken()

    async def stage(ctx):
        if suspends:
            await asyncio.sleep(0)
        token.cancel("enough")
        return {"items": [[number] for number in range(size)]}

    graph = Pipeline().with_stage("s", stage, K).build(interceptors=[])
    results = await graph.run(cancel_token=token, raise_errors=False)
    assert len(results["s"].data["items"]) == size


@pytest.mark.asyncio
async def test_a_lane_keeps_nothing_that_its_stages_have_let_go():
    class Thing:
        pass

    class Returned(UserDict):
        pass

    alive = {}
    returned = []

    async def first(ctx):
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.001, future.set_result, Thing())
        thing = weakref.ref(await future)
        del future
        await asyncio.sleep(0.001)
        gc.collect()
        alive["what a stage has awaited"] = thing() is not None
        value = Returned(n=[1])
        returned.append(weakref.ref(value))
        return value

    async def second(ctx):
        await asyncio.sleep(0.001)
        gc.collect()
        alive["what the stage before has returned"] = returned[0]() is not None

    pipeline = Pipeline().with_stage("first", first, K).with_stage("second", second, K, ["first"])
    await pipeline.build(interceptors=[]).run()
    assert alive == {"what a stage has awaited": False, "what the stage before has returned": False}


@pytest.mark.asyncio
async def test_interceptors_that_are_only_alike_need_no_hooks_of_later_versions():
    class Alike:
        name, priority, fail_closed = "alike", 5, True

        async def before(self, stage_name, ctx):
            return None

        async def after(self, stage_name, result, ctx):
            return None

        async def on_error(self, stage_name, error, ctx):
            return ErrorAction.FAIL

        async def fallback(self, stage_name, error, ctx):
            return None

        async def around(self, stage_name, call, ctx):
            return await call()

        def stage_timeout(self, stage):
            return None

        def stage_retry(self, stage):
            return None

    class Reads(BaseInterceptor):
        name = "reads"

        async def before(self, stage_name, ctx):
            ctx.data.get("x")

    async def stage(ctx):
        return {"n": 1}

    graph = Pipeline().with_stage("s", stage, K).build(interceptors=[Alike(), Reads()])
    assert (await graph.run())["s"].data == {"n": 1}
