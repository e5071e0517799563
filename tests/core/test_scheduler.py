"""The scheduler: what starts when, on which Task, and what a misbehaving stage can do to the others."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from typing import Self

import pytest
from stageflow import Pipeline, StageGraph, StageKind, StageOutput, StageSpec
from stageflow.testing import EventRecorder

K = StageKind.TRANSFORM


async def nothing(ctx):
    return None


def chain(length: int, runner=nothing, **first) -> StageGraph:
    specs = [StageSpec("s0", runner, K, **first)]
    specs += [StageSpec(f"s{n}", runner, K, [f"s{n - 1}"]) for n in range(1, length)]
    return StageGraph(specs, [])


@pytest.mark.asyncio
async def test_a_stage_starts_when_its_last_dependency_has_settled_and_not_later():
    """`slow` still runs when `late` starts; only `late` can let it go on."""
    go_on = asyncio.Event()

    async def slow(ctx):
        await go_on.wait()

    async def quick(ctx):
        await asyncio.sleep(0)

    async def late(ctx):
        go_on.set()

    pipeline = (
        Pipeline()
        .with_stage("slow", slow, K)
        .with_stage("quick", quick, K)
        .with_stage("late", late, K, ["quick"])
    )
    results = await pipeline.run()
    assert list(results) == ["slow", "quick", "late"]


@pytest.mark.asyncio
async def test_all_stages_that_are_ready_run_at_the_same_time():
    """Each waits until every other has started."""
    count = 100
    barrier = asyncio.Barrier(count)

    async def meet(ctx):
        await barrier.wait()

    graph = StageGraph([StageSpec(f"s{n}", meet, K) for n in range(count)])
    assert len(await graph.run()) == count


@pytest.mark.asyncio
async def test_a_dependant_never_starts_before_all_its_dependencies_have_ended():
    log: list[str] = []

    def stage_that_logs(name: str, turns: int):
        async def run(ctx):
            log.append(f"+{name}")
            for _ in range(turns):
                await asyncio.sleep(0)
            log.append(f"-{name}")

        return run

    graph = StageGraph(
        [
            StageSpec("a", stage_that_logs("a", 0), K),
            StageSpec("b", stage_that_logs("b", 3), K, ["a"]),
            StageSpec("c", stage_that_logs("c", 1), K, ["a"]),
            StageSpec("d", stage_that_logs("d", 0), K, ["b", "c"]),
        ]
    )
    await graph.run()
    assert log[:2] == ["+a", "-a"]
    assert log[-2:] == ["+d", "-d"]
    assert log.index("-b") < log.index("+d") > log.index("-c")


@pytest.mark.asyncio
async def test_declaration_order_is_no_order_of_running():
    """A pipeline may list a stage before the ones it depends on."""
    graph = StageGraph([StageSpec("last", nothing, K, ["first"]), StageSpec("first", nothing, K)])
    assert list(await graph.run()) == ["last", "first"]


@pytest.mark.asyncio
async def test_a_chain_of_20000_stages_needs_no_recursion():
    length = 20_000
    assert length > sys.getrecursionlimit()
    assert len(await chain(length).run()) == length


@pytest.mark.asyncio
async def test_a_chain_of_suspending_stages_needs_no_recursion():
    async def suspend(ctx):
        await asyncio.sleep(0)

    assert len(await chain(5_000, suspend).run()) == 5_000


@pytest.mark.asyncio
async def test_a_fan_of_10000_suspending_stages():
    async def suspend(ctx):
        await asyncio.sleep(0)

    specs = [StageSpec(f"s{n}", suspend, K) for n in range(10_000)]
    specs.append(StageSpec("join", nothing, K, [spec.name for spec in specs]))
    assert len(await StageGraph(specs, []).run()) == 10_001


class Ticker:
    """Counts how often the event loop gives others a turn."""

    def __init__(self) -> None:
        self.ticks = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _tick(self) -> None:
        while True:
            self.ticks += 1
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_others_get_turns_while_50000_inline_stages_run():
    graph = chain(50_000)
    async with Ticker() as ticker:
        before = ticker.ticks
        await graph.run()
        assert ticker.ticks - before > 20


@pytest.mark.asyncio
async def test_others_get_turns_while_50000_stages_are_skipped():
    """Skipping is work too: a branch that is not taken may be long."""
    graph = chain(50_000, when=lambda _: False)
    async with Ticker() as ticker:
        before = ticker.ticks
        results = await graph.run()
        assert ticker.ticks - before > 10
    assert {output.status for output in results.values()} == {"skip"}


@pytest.mark.asyncio
async def test_others_get_turns_while_a_very_large_output_is_frozen():
    """DESIGN: very large values are frozen in slices that yield to the loop."""
    at_return = at_completion = -1

    async with Ticker() as ticker:

        async def produce(ctx):
            nonlocal at_return
            value = {"rows": [{"cells": [n]} for n in range(100_000)]}
            at_return = ticker.ticks
            return value

        def hook(event):
            nonlocal at_completion
            if event.type == "stage.produce.completed":
                at_completion = ticker.ticks

        await Pipeline().with_stage("produce", produce, K).run(sink=EventRecorder(hook))
    assert at_completion > at_return


@pytest.mark.asyncio
async def test_stage_code_never_runs_in_the_callers_task():
    tasks = []

    async def inline(ctx):
        tasks.append(asyncio.current_task())

    await Pipeline().with_stage("inline", inline, K).run()
    assert tasks != [asyncio.current_task()]


@pytest.mark.asyncio
async def test_the_task_that_begins_a_stage_is_the_one_that_ends_it():
    seen: dict[str, set] = {}

    async def look(ctx):
        for _ in range(4):
            seen.setdefault(ctx.stage_name, set()).add(asyncio.current_task())
            await asyncio.sleep(0)

    graph = StageGraph([StageSpec(f"s{n}", look, K, [f"s{n - 4}"] if n >= 4 else ()) for n in range(20)])
    await graph.run()
    assert {len(tasks) for tasks in seen.values()} == {1}


@pytest.mark.asyncio
async def test_timeouts_and_task_groups_inside_stages_mean_what_they_always_mean():
    async def timed(ctx):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        return {"ok": True}

    async def grouped(ctx):
        async def broken():
            await asyncio.sleep(0)
            raise ValueError("child")

        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(broken())
                group.create_task(asyncio.Event().wait())
        return {"ok": True}

    async def waited(ctx):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        return {"ok": True}

    pipeline = Pipeline()
    for name, runner in (("timed", timed), ("grouped", grouped), ("waited", waited)):
        pipeline = pipeline.with_stage(name, runner, K).with_stage(f"after_{name}", nothing, K, [name])
    results = await pipeline.run()
    assert {output.status for output in results.values()} == {"ok"}


# --- a stage that cancels its own Task harms nobody else ---------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("swallow", [False, True], ids=["never suspends", "swallows the request"])
async def test_dependants_of_a_stage_that_cancelled_its_own_task_start_at_once(swallow):
    """They must not wait for whatever else happens to run: `other` ends only when the dependant has run."""
    go_on = asyncio.Event()

    async def other(ctx):
        await go_on.wait()

    async def odd(ctx):
        asyncio.current_task().cancel()
        if swallow:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return {"ok": True}

    async def dependant(ctx):
        go_on.set()

    pipeline = (
        Pipeline()
        .with_stage("other", other, K)
        .with_stage("odd", odd, K)
        .with_stage("dependant", dependant, K, ["odd"])
    )
    results = await asyncio.wait_for(pipeline.run(), 5)
    assert {output.status for output in results.values()} == {"ok"}


@pytest.mark.asyncio
async def test_a_request_that_a_stage_took_back_does_not_hit_the_next_stage():
    """On 3.11 and 3.12, uncancel() lowers the count but leaves the request itself pending in the Task."""

    async def odd(ctx):
        task = asyncio.current_task()
        task.cancel()
        task.uncancel()

    async def innocent(ctx):
        await asyncio.sleep(0)
        return {"ok": True}

    results = await Pipeline().with_stage("odd", odd, K).with_stage("innocent", innocent, K, ["odd"]).run()
    assert results["innocent"].data == {"ok": True}


@pytest.mark.asyncio
async def test_a_stage_that_is_cancelled_by_its_own_doing_fails_and_does_not_cancel_the_run(sink):
    from stageflow import StageExecutionError

    async def odd(ctx):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(StageExecutionError) as caught:
        await Pipeline().with_stage("odd", odd, K).run(sink=sink)
    assert isinstance(caught.value.original, asyncio.CancelledError)
    assert asyncio.current_task().cancelling() == 0
    sink.assert_paired(stages=["odd"], end="failed")


@pytest.mark.asyncio
async def test_a_stage_that_awaits_a_cancelled_task_fails_and_does_not_cancel_the_run():
    async def odd(ctx):
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    results = await Pipeline().with_stage("odd", odd, K).run(raise_errors=False)
    assert results["odd"].status == "fail"


@pytest.mark.asyncio
async def test_own_tasks_of_a_stage_are_its_own_business():
    async def spawn(ctx):
        async def child():
            await asyncio.sleep(0)
            return asyncio.current_task()

        own = asyncio.current_task()
        child_task = asyncio.create_task(child())
        assert await child_task is child_task
        assert asyncio.current_task() is own
        return {"ok": True}

    assert (await Pipeline().with_stage("spawn", spawn, K).run())["spawn"].data == {"ok": True}


@pytest.mark.asyncio
@pytest.mark.parametrize("skipped_by", ["a time-out", "a request of its own"])
async def test_the_skips_downstream_of_a_failure_are_told_at_once(skipped_by):
    """`other` ends only when the skip of `dependant` is known."""
    go_on = asyncio.Event()
    sink = EventRecorder(lambda event: go_on.set() if event.type == "stage.dependant.skipped" else None)

    async def other(ctx):
        await go_on.wait()

    async def odd(ctx):
        if skipped_by != "a time-out":
            asyncio.current_task().cancel()
        await asyncio.Event().wait()

    graph = (
        Pipeline()
        .with_stage("other", other, K)
        .with_stage("odd", odd, K, timeout=0.01)
        .with_stage("dependant", nothing, K, ["odd"])
        .build(failure_mode="continue_on_failure")
    )
    results = await asyncio.wait_for(graph.run(sink=sink, raise_errors=False), 5)
    assert results["other"].status == "ok"
    sink.assert_paired(stages=["other", "odd", "dependant"], end="failed")


# --- nothing stays behind ----------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_run_that_has_ended_leaves_no_timer_and_no_reference_in_the_event_loop():
    """The default limit of a stage is 30 s; what a run made must not be kept alive for that long."""

    class Big:
        pass

    kept = None

    async def produce(ctx):
        nonlocal kept
        big = Big()
        kept = weakref.ref(big)
        await asyncio.sleep(0)
        return {"big": big}

    pipeline = Pipeline().with_stage("produce", produce, K)
    await pipeline.run()
    import gc

    await asyncio.sleep(0)
    gc.collect()
    assert [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()] == []
    assert kept() is None


@pytest.mark.asyncio
async def test_hundred_runs_of_one_graph_at_once_share_nothing():
    async def remember(ctx):
        await asyncio.sleep(0)
        return {"text": ctx.input_text}

    async def repeat(ctx):
        await asyncio.sleep(0)
        return {"text": ctx.inputs.require_from("remember", "text") * 2, "run": str(ctx.pipeline_run_id)}

    async def maybe(ctx):
        if ctx.input_text.endswith("7"):
            return StageOutput.fail("seven")
        return None

    graph = (
        Pipeline()
        .with_stage("remember", remember, K)
        .with_stage("repeat", repeat, K, ["remember"])
        .with_stage("maybe", maybe, K)
        .build(failure_mode="best_effort")
    )
    sinks = [EventRecorder() for _ in range(100)]
    everything = await asyncio.gather(
        *(graph.run(input_text=str(n), sink=sink) for n, sink in enumerate(sinks))
    )
    for n, (results, sink) in enumerate(zip(everything, sinks, strict=True)):
        assert results["repeat"].data["text"] == str(n) * 2
        assert results["repeat"].data["run"] == str(results.run_id)
        assert (results.error is not None) == str(n).endswith("7")
        sink.assert_paired(stages=["remember", "repeat", "maybe"], end="completed")
        assert sink.data("pipeline.started")["pipeline_run_id"] == str(results.run_id)
    assert len({results.run_id for results in everything}) == 100


@pytest.mark.asyncio
async def test_a_stage_may_run_another_pipeline():
    inner_sink, outer_sink = EventRecorder(), EventRecorder()

    async def inner_stage(ctx):
        await asyncio.sleep(0)
        return {"text": ctx.input_text.upper()}

    inner = Pipeline("inner").with_stage("a", inner_stage, K).with_stage("b", nothing, K, ["a"])

    async def outer_stage(ctx):
        own = asyncio.current_task()
        results = await inner.run(input_text="child", sink=inner_sink)
        assert asyncio.current_task() is own
        return {"text": results["a"].data["text"]}

    pipeline = Pipeline("outer").with_stage("x", outer_stage, K).with_stage("y", outer_stage, K, ["x"])
    results = await pipeline.run(input_text="parent", sink=outer_sink)
    assert results["x"].data == results["y"].data == {"text": "CHILD"}
    outer_sink.assert_paired(stages=["x", "y"], end="completed")
    assert len(inner_sink.types) == 12


@pytest.mark.asyncio
async def test_deeply_nested_runs():
    async def nested(depth: int):
        async def body(ctx):
            return {"depth": 0 if depth == 0 else (await nested(depth - 1))["s"].data["depth"] + 1}

        return await Pipeline().with_stage("s", body, K).run()

    assert (await nested(20))["s"].data == {"depth": 20}
