"""A cancel at every await point of pipelines that between them use all that waits. Run with -s for the counts."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from stageflow import Pipeline, RetryPolicy, StageKind, StageOutput
from stageflow.executors import run_in_thread
from stageflow.interceptors.idempotency import IdempotencyInterceptor
from stageflow.interceptors.idempotency_store import InMemoryIdempotencyStore
from stageflow.pipeline.child_run import roster
from stageflow.pipeline.subpipeline import SubpipelineSpawner
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.runtime.limits import ConcurrencyLimit
from stageflow.runtime.recording import Recording
from stageflow.testing import (
    FailingStage,
    Probe,
    RecordingRunLogger,
    RecordingRunStore,
    ScriptedStage,
    SlowStage,
    cancel_everywhere,
    delayed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from stageflow.testing.sweep import Target

K = StageKind


def retry(probe: Probe) -> Coroutine[Any, Any, object]:
    """Two stages that are attempted again, side by side, and one behind them."""
    policy = RetryPolicy(4, base_delay=0.2, max_delay=5)
    slow = ScriptedStage(
        delayed(60), TimeoutError("no answer"), delayed(1, StageOutput.retry("busy")), {"n": 1}
    )
    pipeline = (
        Pipeline("retry")
        .with_stage("flaky", FailingStage(ConnectionError("no route"), times=2), K.ENRICH, retry=policy)
        .with_stage("slow", slow, K.ENRICH, retry=policy, timeout=10)
        .with_stage("use", SlowStage(1), K.TRANSFORM, ["flaky", "slow"])
    )
    return pipeline.build().run(sink=probe.events, timeout=600)


def idempotency(probe: Probe) -> Coroutine[Any, Any, object]:
    """Two runs with one key: the one works and renews its claim, the other waits for it."""
    store = InMemoryIdempotencyStore(clock=asyncio.get_running_loop().time)
    probe.expect_none("claims", lambda: store.claims)
    graph = (
        Pipeline("checkout")
        .with_stage("price", SlowStage(1), K.ENRICH)
        .with_stage("charge", SlowStage(20, {"receipt": 7}), K.WORK, ["price"])
        .build(interceptors=[IdempotencyInterceptor(store=store, claim_ttl_seconds=9)])
    )

    async def both() -> None:
        order = {"idempotency_key": "order-7"}
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(graph.run(data=order, sink=probe.events))

    return both()


def subpipeline(probe: Probe) -> Coroutine[Any, Any, object]:
    """A stage that runs a pipeline whose stage runs another one, beside a stage that runs two at once."""
    leaf = (
        Pipeline("leaf")
        .with_stage(
            "fetch", FailingStage(ConnectionError("no"), times=1), K.ENRICH, retry=RetryPolicy(base_delay=1)
        )
        .with_stage("read", SlowStage(1), K.TRANSFORM, ["fetch"])
    )

    async def descend(ctx: Any) -> None:
        await leaf.run(input_text="below", sink=probe.events)

    middle = Pipeline("middle").with_stage("descend", descend, K.WORK)

    async def clean() -> None:
        await asyncio.sleep(0.1)

    async def nest(ctx: Any) -> None:
        ctx.register_cleanup(clean, name="close it")
        await middle.run(input_text="below", sink=probe.events, timeout=60)

    async def spread(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(leaf.run(sink=probe.events))

    pipeline = (
        Pipeline("root")
        .with_stage("nest", nest, K.WORK)
        .with_stage("spread", spread, K.WORK)
        .with_stage("join", ScriptedStage(), K.TRANSFORM, ["nest", "spread"])
    )
    return pipeline.run(sink=probe.events)


def spawner(probe: Probe) -> Coroutine[Any, Any, object]:
    """A stage that spawns a pipeline whose stage spawns a function, beside one that spawns two, one of which fails."""
    spawner, running = SubpipelineSpawner(), roster.get().running

    def untold() -> int:
        told = [event for event in probe.events if event.type.startswith("pipeline.child_")]
        ends = [event.data["child_run_id"] for event in told]
        starts = [
            event.data["child_run_id"] for event in probe.events if event.type == "pipeline.spawned_child"
        ]
        return len(set(starts) ^ set(ends)) + len(ends) - len(set(ends))

    probe.expect_none("running children", lambda: len(running))
    probe.expect_none("children without exactly one end", untold)

    async def nap(child: Any) -> None:
        await asyncio.sleep(2)

    async def descend(ctx: Any) -> None:
        await spawner.spawn("nap", ctx, None, ctx.stage_name, nap)

    leaf = Pipeline("leaf").with_stage("slow", SlowStage(1), K.ENRICH)
    leaf = leaf.with_stage("descend", descend, K.WORK, ["slow"])
    broken = Pipeline("broken").with_stage("fails", FailingStage(ValueError("no")), K.WORK)

    async def spawn(ctx: Any) -> None:
        await spawner.spawn("leaf", ctx, None, ctx.stage_name, leaf)

    async def spread(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for runner in (broken, nap):
                group.create_task(spawner.spawn("half", ctx, None, ctx.stage_name, runner))

    pipeline = Pipeline("root").with_stage("spawn", spawn, K.WORK).with_stage("spread", spread, K.WORK)
    return pipeline.with_stage("join", SlowStage(1), K.TRANSFORM, ["spawn", "spread"]).run(sink=probe.events)


def route(probe: Probe) -> Coroutine[Any, Any, object]:
    """A router, two branches of which one is taken, a condition, and a join."""
    pipeline = (
        Pipeline("route")
        .with_stage("router", SlowStage(1, {"route": "long"}), K.ROUTE)
        .with_stage("short", SlowStage(1), K.WORK, ["router"], route="short")
        .with_stage("long", SlowStage(2), K.WORK, ["router"], route="long")
        .with_stage("extra", SlowStage(1), K.WORK, ["router"], when=lambda inputs: False)
        .with_stage("join", SlowStage(1), K.TRANSFORM, ["short", "long", "extra"])
    )
    return pipeline.run(sink=probe.events)


def limits(probe: Probe) -> Coroutine[Any, Any, object]:
    """Runs that wait for a place, with stages that wait for two."""
    runs, stages = ConcurrencyLimit(1), ConcurrencyLimit(1)
    probe.expect_none("places of runs", lambda: runs.active + runs.queued)
    probe.expect_none("places of stages", lambda: stages.active + stages.queued)
    pipeline = Pipeline("limits")
    for name in "abc":
        pipeline = pipeline.with_stage(name, SlowStage(1), K.WORK, limit=stages)
    graph = pipeline.with_stage("d", SlowStage(1), K.WORK).build(max_concurrency=2, max_runs=runs)

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(graph.run(sink=probe.events))

    return both()


def guard_retry(probe: Probe) -> Coroutine[Any, Any, object]:
    """A guard that sends two stages back, twice, and one that waits until it is content."""
    drafts = [delayed(1, {"draft": number}) for number in range(3)]
    strategy = GuardRetryStrategy({"check": GuardRetryPolicy("write", max_attempts=3)})
    no = delayed(1, StageOutput.fail("not yet"))
    pipeline = (
        Pipeline("guard")
        .with_stage("write", ScriptedStage(*drafts), K.AGENT)
        .with_stage("polish", SlowStage(1), K.TRANSFORM, ["write"])
        .with_stage("check", ScriptedStage(no, no, {}), K.GUARD, ["write", "polish"])
        .with_stage("publish", SlowStage(1), K.WORK, ["write"])
    )
    return pipeline.build(guard_retry_strategy=strategy).run(sink=probe.events)


def recorded(probe: Probe) -> Coroutine[Any, Any, object]:
    """A run that is written down in a store and a logger that take their time."""
    recording = Recording(run_store=RecordingRunStore(delay=0.5), run_logger=RecordingRunLogger(delay=0.5))
    pipeline = Pipeline("recorded").with_stage("a", SlowStage(1), K.WORK)
    return pipeline.build(recording=recording).run(sink=probe.events)


def stream(probe: Probe) -> Coroutine[Any, Any, object]:
    """A reader of a stream, who takes a while over each event."""
    pipeline = (
        Pipeline("stream").with_stage("a", SlowStage(1), K.WORK).with_stage("b", SlowStage(1), K.WORK, ["a"])
    )

    async def read() -> None:
        # Without aclosing, Python itself leaves the iterator to the garbage collector when the loop's body raises.
        async with aclosing(aiter(pipeline.stream(sink=probe.events))) as events:
            async for _ in events:
                await asyncio.sleep(0.3)

    return read()


def cleanup(probe: Probe) -> Coroutine[Any, Any, object]:
    """Cleanup callbacks that take their time, hang, or raise when they are stopped."""

    async def raising() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise RuntimeError("not now") from None

    async def opening(ctx: Any) -> None:
        ctx.register_cleanup(lambda: asyncio.sleep(1), name="quick")
        ctx.register_cleanup(asyncio.Event().wait, name="hangs")
        ctx.register_cleanup(raising)
        await asyncio.sleep(1)

    pipeline = Pipeline("cleanup").with_stage("a", opening, K.WORK).with_stage("b", SlowStage(5), K.WORK)
    return pipeline.build(cleanup_timeout=3).run(sink=probe.events)


def unruly(probe: Probe) -> Coroutine[Any, Any, object]:
    """Stages that swallow cancels, cancel their own Task, start Tasks and work in a thread; and one behind them."""

    async def swallows(ctx: Any) -> dict[str, int]:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(2)
        return {"n": 1}

    async def cancels_itself(ctx: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        await asyncio.sleep(1)

    async def winds_up() -> None:
        try:
            await asyncio.sleep(3)
        finally:
            await asyncio.sleep(0.1)

    async def starts_tasks(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(winds_up())
            group.create_task(winds_up())

    async def in_a_thread(ctx: Any) -> None:
        await run_in_thread(time.sleep, 0.001)

    pipeline = Pipeline("unruly")
    for body in (swallows, cancels_itself, starts_tasks, in_a_thread):
        pipeline = pipeline.with_stage(body.__name__, body, K.WORK)
    last = pipeline.with_stage("last", SlowStage(1), K.WORK, [spec.name for spec in pipeline.specs])
    return last.run(sink=probe.events)


REPRESENTATIVE = [
    retry,
    idempotency,
    subpipeline,
    spawner,
    route,
    limits,
    guard_retry,
    recorded,
    stream,
    cleanup,
    unruly,
]
TARGETS: Mapping[str, tuple[Target, ...]] = {"once": ("caller", "task", "all"), "twice": ("caller",)}


def cases() -> list[Any]:
    return [
        pytest.param(make, mode, id=f"{make.__name__}-{mode}") for make in REPRESENTATIVE for mode in TARGETS
    ]


@pytest.mark.parametrize(("make", "mode"), cases())
def test_a_cancel_at_every_await_point_leaves_nothing(make: Callable[[Probe], Any], mode: str) -> None:
    report = cancel_everywhere(make, again=mode == "twice", targets=TARGETS[mode])
    assert report.runs >= len(report.points)
    # On a busy machine lanes give way where they did not before, and a run may go another way each time.
    assert len(report.missed) <= report.runs // 4, report.missed


@pytest.mark.parametrize("make", REPRESENTATIVE, ids=lambda make: make.__name__)
def test_the_run_waits_in_its_caller_in_stages_and_for_timers(make: Callable[[Probe], Any]) -> None:
    report = cancel_everywhere(make, targets=())
    assert report.failures == []
    assert report.count("caller") >= 1
    assert report.count("clock") >= 1
    assert len(report.points) > report.count("caller") + report.count("clock")


def test_a_recorded_run_leaves_nothing_when_its_caller_is_cancelled() -> None:
    cancel_everywhere(recorded, targets=("caller",))


def test_a_guard_retry_leaves_no_task_and_no_timer() -> None:
    report = cancel_everywhere(guard_retry, raise_failures=False)
    problems = [problem for failure in report.failures for problem in failure.problems]
    assert [problem for problem in problems if "more than one terminal event" not in problem] == []
