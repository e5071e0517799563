"""What holds once a run has ended, and that it ends even with parties who refuse to."""

from __future__ import annotations

import asyncio
import logging

import pytest
from stageflow import Pipeline, StageKind, StageOutput
from stageflow.pipeline.subpipeline import SpawnRefusedError, SubpipelineSpawner
from stageflow.runtime.cancellation import CleanupRegistry
from stageflow.runtime.recording import Recording

K = StageKind.WORK


async def stubborn(until: asyncio.Event) -> None:
    """Swallow every cancellation until somebody lets go."""
    while not until.is_set():
        try:
            await until.wait()
        except asyncio.CancelledError:
            continue


async def drain(until: asyncio.Event) -> None:
    until.set()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait([task])


async def child(ctx):
    return {"ran": True}


async def outliving(work):
    """Run a pipeline whose stage leaves a Task behind, which does *work* once the run has ended."""
    left: list[asyncio.Task[object]] = []
    over = asyncio.Event()

    async def leaves(ctx):
        async def later():
            await over.wait()
            return await work(ctx)

        left.append(asyncio.create_task(later()))
        return StageOutput.ok()

    await Pipeline().with_stage("leaves", leaves, K).run()
    over.set()
    return await left[0]


@pytest.mark.asyncio
async def test_a_task_that_outlives_its_run_cannot_spawn_children_of_it():
    async def spawn(ctx):
        return await SubpipelineSpawner().spawn("late", ctx.as_pipeline_context(), None, "leaves", child)

    with pytest.raises(SpawnRefusedError, match="the run has ended"):
        await outliving(spawn)


@pytest.mark.asyncio
async def test_the_context_of_a_run_that_has_ended_says_so():
    async def ask(ctx):
        return ctx.is_cancelled

    assert await outliving(ask)


@pytest.mark.asyncio
async def test_a_task_that_outlives_its_run_may_run_pipelines_of_its_own():
    seen = []

    async def look(ctx):
        seen.append((ctx.depth, ctx.is_cancelled))

    async def run(ctx):
        return await Pipeline().with_stage("look", look, K).run()

    results = await outliving(run)
    assert results["look"].status == "ok"
    assert seen == [(0, False)]


@pytest.mark.asyncio
async def test_a_cleanup_that_ignores_its_cancellation_is_given_up_and_named():
    until, order = asyncio.Event(), []

    async def polite():
        order.append("polite")

    async def rude():
        await stubborn(until)

    registry = CleanupRegistry()
    registry.register(polite, name="polite")
    registry.register(rude, name="rude")
    done, failed = await registry.run_all(timeout=0.02)
    assert (done, order) == (["polite"], ["polite"])
    [(name, error)] = failed
    assert name == "rude"
    assert "ignores that it was cancelled" in str(error)
    await drain(until)


@pytest.mark.asyncio
async def test_a_run_does_not_hang_with_such_a_cleanup(caplog):
    until = asyncio.Event()

    async def registers(ctx):
        ctx.register_cleanup(lambda: stubborn(until), name="rude")

    graph = Pipeline().with_stage("registers", registers, K).build(cleanup_timeout=0.02)
    results = await graph.run()
    assert results["registers"].status == "ok"
    assert "'rude'" in caplog.text
    await drain(until)


@pytest.mark.asyncio
async def test_a_run_does_not_hang_with_a_store_that_ignores_its_cancellation(caplog):
    until = asyncio.Event()

    class Stubborn:
        async def create_run(self, run_id, **more):
            await stubborn(until)

        async def update_status(self, run_id, status, **more):
            await stubborn(until)

        async def get_run(self, run_id):
            return None

    graph = (
        Pipeline()
        .with_stage("child", child, K)
        .build(recording=Recording(run_store=Stubborn(), timeout=0.02))
    )
    with caplog.at_level(logging.ERROR, "stageflow"):
        results = await graph.run()
    assert results["child"].data == {"ran": True}
    assert "left running" in caplog.text
    await drain(until)


@pytest.mark.asyncio
async def test_a_stream_in_async_with_has_ended_its_run_when_the_block_has():
    ended = []

    async def hangs(ctx):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def read():
        async with Pipeline().with_stage("hangs", hangs, K).stream() as stream:
            async for event in stream:
                if event.stage == "hangs":
                    await asyncio.Event().wait()  # cancelled here, in the body of the loop

    reader = asyncio.create_task(read())
    for _ in range(10):
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert ended == [True]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_stream_that_was_closed_unread_starts_no_run():
    async with Pipeline().with_stage("child", child, K).stream() as stream:
        pass
    with pytest.raises(RuntimeError, match="can be read once"):
        await anext(aiter(stream))


@pytest.mark.asyncio
async def test_a_stream_read_to_its_end_in_async_with_keeps_its_results():
    async with Pipeline().with_stage("child", child, K).stream() as stream:
        types = [event.type async for event in stream]
    assert types[-1] == "pipeline.completed"
    assert stream.results["child"].data == {"ran": True}
