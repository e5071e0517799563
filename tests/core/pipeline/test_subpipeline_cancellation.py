"""Children end with their parent: cancelled from anywhere, at any moment."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import (
    CancellationToken,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    StageExecutionError,
    StageKind,
    StageOutput,
)
from stageflow.context import ArgumentTypeError
from stageflow.pipeline import subpipeline
from stageflow.pipeline.child_run import roster
from stageflow.pipeline.subpipeline import (
    ChildRunTracker,
    SpawnRefusedError,
    SubpipelineSpawner,
    get_child_tracker,
)
from stageflow.testing import EventRecorder, LeakWatch, leak_check

K = StageKind.WORK
CHILD_ENDS = {"pipeline.child_completed", "pipeline.child_failed"}


def one_stage(name, runner, **options):
    return Pipeline(name).with_stage(name, runner, K, **options)


def assert_paired(sink) -> None:
    started = [event.data["child_run_id"] for event in sink if event.type == "pipeline.spawned_child"]
    ended = [event.data["child_run_id"] for event in sink if event.type in CHILD_ENDS]
    assert sorted(started) == sorted(ended), sink.types
    assert len(set(started)) == len(started)


async def assert_nothing_is_kept(tracker: ChildRunTracker | None = None) -> None:
    metrics = await (tracker or get_child_tracker()).get_metrics()
    assert metrics["total_relationships"] == metrics["active_parents"] == metrics["active_children"] == 0
    assert not roster.get().running
    assert not roster.get()._below
    assert not any(roster.get()._owned.values())


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def nothing(ctx):
    return None


async def forever(ctx):
    await asyncio.Event().wait()


def nested(levels: int, innermost, *, spawner=None, wrapped=True):
    """Return a pipeline whose stage spawns one whose stage spawns one, down to *innermost*."""
    spawner = spawner or SubpipelineSpawner()

    def level(depth):
        what = level(depth + 1) if depth < levels else innermost

        async def stage(ctx):
            child = await spawner.spawn(f"level {depth + 1}", ctx, None, f"level {depth}", what)
            return child.to_dict() if isinstance(ctx, PipelineContext) else StageOutput.ok(child.to_dict())

        return one_stage(f"level {depth}", stage) if wrapped or not depth else stage

    return level(0)


# --- at every await ----------------------------------------------------------------------------------------


class Injector:
    """Does something at the n-th suspension of any Task that is created after it was installed."""

    def __init__(self, at: int, action) -> None:
        self.count = 0
        self._at = at
        self._action = action
        asyncio.get_running_loop().set_task_factory(self._make)

    def _make(self, loop, coro, **options):
        return asyncio.Task(Stepping(coro, self._suspends), loop=loop, **options)

    def _suspends(self) -> None:
        self.count += 1
        if self.count == self._at:
            self._action()


class Stepping(Coroutine):
    """A coroutine that tells when it suspends."""

    def __init__(self, coro, suspends) -> None:
        self._coro = coro
        self._suspends = suspends

    def send(self, value):
        waiting = self._coro.send(value)
        self._suspends()
        return waiting

    def throw(self, *args):
        waiting = self._coro.throw(*args)
        self._suspends()
        return waiting

    def close(self):
        self._coro.close()

    def __await__(self):
        return self._coro.__await__()


async def _steps(ctx):
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return {"steps": 2}


def _pipeline_two_deep(spawner):
    inner = one_stage("a", _steps).with_stage("b", _steps, K, ["a"])
    return nested(1, inner, spawner=spawner)


def _callables(spawner):
    return nested(1, _steps, spawner=spawner, wrapped=False)


def _parallel(spawner):
    async def parent(ctx):
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                what = one_stage("inner", _steps) if number else _steps
                group.create_task(spawner.spawn("inner", ctx, None, "parent", what))

    return one_stage("parent", parent)


@pytest.mark.parametrize("make", [_pipeline_two_deep, _callables, _parallel], ids=lambda make: make.__name__)
@pytest.mark.parametrize("action", ["the caller", "the token", "cancel_with_children"])
def test_the_parent_is_cancelled_at_every_await(make, action):
    async def at(point: int) -> int:
        sink, token, spawner = EventRecorder(), CancellationToken(), SubpipelineSpawner()
        graph, run_id = make(spawner).build(), uuid4()
        canceling: list[asyncio.Task] = []

        def act() -> None:
            if action == "the caller":
                run.cancel()
            elif action == "the token":
                token.cancel("by injection")
            else:
                canceling.append(asyncio.create_task(spawner.cancel_with_children(run_id)))

        injector = Injector(point, act)
        ctx = PipelineContext(pipeline_run_id=run_id, event_sink=sink)
        run = asyncio.create_task(graph.run(ctx, cancel_token=token, raise_errors=False))
        done, _ = await asyncio.wait([run], timeout=5)
        where = f"{action} at suspension {point}"
        assert done, f"{where}: the run hangs; {sink.types}"
        for task in canceling:
            await asyncio.wait_for(task, 5)
        assert asyncio.all_tasks() == {asyncio.current_task()}, where
        assert_paired(sink)
        await assert_nothing_is_kept()
        ends = [event.type for event in sink if event.data.get("pipeline_run_id") == str(run_id)]
        assert ends[0] == "pipeline.started"
        assert ends[-1] in {"pipeline.completed", "pipeline.cancelled"}, where
        if action == "the caller" and point:
            assert run.cancelled() or ends[-1] == "pipeline.completed", where
        return injector.count

    total = asyncio.run(at(0))
    assert total > 5
    print(f"{make.__name__}: {action} at each of {total} suspensions")
    for point in range(1, total + 1):
        asyncio.run(at(point))


@pytest.mark.parametrize("wrapped", [False, True], ids=["callable", "pipeline"])
def test_spawn_itself_is_cancelled_at_every_turn_of_the_loop(wrapped):
    async def at(turn: int) -> bool:
        sink = EventRecorder()
        ctx = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
        what = one_stage("inner", _steps) if wrapped else _steps
        spawning = asyncio.create_task(SubpipelineSpawner().spawn("inner", ctx, None, "plan", what))
        for _ in range(turn):
            await asyncio.sleep(0)
        ended = spawning.done()
        spawning.cancel()
        await asyncio.wait([spawning], timeout=5)
        assert spawning.cancelled() or ended
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert_paired(sink)
        await assert_nothing_is_kept()
        return ended

    turn = 0
    while not asyncio.run(at(turn)):
        turn += 1
    assert turn > 3


@pytest.mark.asyncio
@pytest.mark.parametrize("wrapped", [False, True], ids=["callable", "pipeline"])
async def test_spawn_does_not_end_before_a_child_that_takes_its_time(wrapped, sink):
    released, asked, done = asyncio.Event(), asyncio.Event(), []

    async def stubborn(ctx):
        try:
            await asyncio.Event().wait()
        finally:
            asked.set()
            await released.wait()
            done.append(True)

    what = one_stage("stubborn", stubborn) if wrapped else stubborn
    ctx = PipelineContext(event_sink=sink)
    async with leak_check():
        spawning = asyncio.create_task(SubpipelineSpawner().spawn("stubborn", ctx, None, "plan", what))
        await until(lambda: "pipeline.spawned_child" in sink.types)
        await asyncio.sleep(0.01)
        spawning.cancel()
        await asked.wait()
        for _ in range(5):
            spawning.cancel()  # again and again: the child is asked once, and not cut short
            await asyncio.sleep(0)
        assert not spawning.done()
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await spawning
    assert done == [True]
    assert_paired(sink)


@pytest.mark.asyncio
async def test_a_child_that_ends_well_all_the_same_has_ended_well(sink):
    async def stubborn(child):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"swallowed": True}

    ctx = PipelineContext(event_sink=sink)
    spawning = asyncio.create_task(SubpipelineSpawner().spawn("stubborn", ctx, None, "plan", stubborn))
    await until(lambda: roster.get().running)
    await asyncio.sleep(0)
    spawning.cancel("why not")
    with pytest.raises(asyncio.CancelledError) as caught:
        await spawning
    assert caught.value.args == ("why not",)
    assert sink.types[-1] == "pipeline.child_completed"


def test_the_callers_coroutine_may_be_closed():
    """Nothing can be awaited then, but the child is asked to stop, and its end is told."""
    sink = EventRecorder()

    async def main():
        ctx = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
        spawning = SubpipelineSpawner().spawn("any", ctx, None, "plan", forever)
        spawning.send(None)
        await asyncio.sleep(0)
        spawning.close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await assert_nothing_is_kept()

    asyncio.run(main())
    assert_paired(sink)


# --- with the parent ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["timeout", "token", "sibling", "outer"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["callables", "pipelines"])
async def test_children_and_grandchildren_end_with_the_parent(how, wrapped, sink):
    reached, token = asyncio.Event(), CancellationToken()

    async def innermost(ctx):
        reached.set()
        await asyncio.Event().wait()

    what = one_stage("innermost", innermost) if wrapped else innermost

    async def sibling(ctx):
        await reached.wait()
        if how == "sibling":
            raise ValueError("the sibling failed")

    pipeline = nested(2, what, wrapped=wrapped).with_stage("sibling", sibling, K)
    timeout = 0.05 if how == "timeout" else None
    async with leak_check():
        run = asyncio.create_task(pipeline.run(sink=sink, cancel_token=token, timeout=timeout))
        await reached.wait()
        if how == "token":
            token.cancel("the token")
        elif how == "outer":
            run.cancel()
        with pytest.raises((PipelineCancelled, StageExecutionError, asyncio.CancelledError)):
            await run
    assert_paired(sink)
    assert sink.types.count("pipeline.child_failed") == 3
    assert sink.types[-1] in {"pipeline.cancelled", "pipeline.failed"}
    await assert_nothing_is_kept()


@pytest.mark.asyncio
async def test_a_child_that_nobody_awaits_ends_with_the_run(sink):
    started, tasks = asyncio.Event(), []

    async def runner(child):
        started.set()
        await asyncio.Event().wait()

    async def parent(ctx):
        tasks.append(asyncio.create_task(SubpipelineSpawner().spawn("detached", ctx, None, "parent", runner)))
        await started.wait()

    with LeakWatch() as watch:
        results = await one_stage("parent", parent).run(sink=sink)
        assert watch.found(ignore=tasks) == []
    assert results.error is None
    assert_paired(sink)
    assert sink.types[-2:] == ["pipeline.child_failed", "pipeline.completed"]
    assert "its parent run has ended" in sink.data("pipeline.child_failed")["error_message"]
    assert not (await tasks[0]).success
    await assert_nothing_is_kept()


@pytest.mark.asyncio
@pytest.mark.parametrize("wrapped", [False, True], ids=["callable", "pipeline"])
@pytest.mark.parametrize("where", ["here", "another thread"])
async def test_a_context_that_is_marked_as_cancelled_ends_the_child(wrapped, where, sink):
    parent = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
    what = one_stage("inner", forever) if wrapped else forever
    spawner = SubpipelineSpawner()
    async with leak_check():
        spawning = asyncio.create_task(spawner.spawn("inner", parent, None, "plan", what))
        await until(lambda: roster.get().running)
        if where == "here":
            parent.mark_canceled()
        else:
            thread = threading.Thread(target=parent.mark_canceled)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0)
            thread.join()
        result = await asyncio.wait_for(spawning, 5)
    assert (result.success, result.error_code) == (False, "SF-RUN-CANCELLED")
    assert_paired(sink)
    assert parent._on_cancel == []
    with pytest.raises(SpawnRefusedError):
        await spawner.spawn("inner", parent, None, "plan", nothing)


@pytest.mark.asyncio
async def test_a_stage_that_swallows_the_cancellation_starts_nothing_more(sink):
    refused = []

    async def parent(ctx):
        spawner = SubpipelineSpawner()
        try:
            await spawner.spawn("first", ctx, None, "parent", forever)
        except asyncio.CancelledError:
            try:
                await spawner.spawn("second", ctx, None, "parent", nothing)
            except SpawnRefusedError as error:
                refused.append(error)
                raise

    token = CancellationToken()
    async with leak_check():
        run = asyncio.create_task(one_stage("parent", parent).run(sink=sink, cancel_token=token))
        await until(lambda: "pipeline.spawned_child" in sink.types)
        token.cancel("the user left")
        with pytest.raises(PipelineCancelled):
            await run
    (error,) = refused
    assert (error.pipeline_name, error.code) == ("second", "SF-RUN-SPAWN-REFUSED")
    assert "the user left" in error.reason
    assert sink.types[-2:] == ["stage.parent.cancelled", "pipeline.cancelled"]


@pytest.mark.asyncio
async def test_a_callable_that_swallows_the_cancellation_starts_nothing_more_either(sink):
    """Not even with a context that knows nothing of it; its own context says what is going on."""
    seen = []

    async def stubborn(child):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(child.is_canceled)
            return (await SubpipelineSpawner().spawn("more", PipelineContext(), None, "x", nothing)).to_dict()

    parent = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
    spawner = SubpipelineSpawner()
    spawning = asyncio.create_task(spawner.spawn("stubborn", parent, None, "plan", stubborn))
    await until(lambda: roster.get().running)
    await asyncio.sleep(0)
    await spawner.cancel_with_children(parent.pipeline_run_id, "enough")
    result = await spawning
    assert seen == [True]
    assert isinstance(result.exception, SpawnRefusedError)
    assert result.exception.reason == "enough"


@pytest.mark.asyncio
async def test_a_child_is_asked_in_its_own_thread():
    asked_in, parent = [], PipelineContext()

    async def runner(child):
        child.on_cancel(lambda: asked_in.append(threading.get_ident()))
        await asyncio.Event().wait()

    spawning = asyncio.create_task(SubpipelineSpawner().spawn("any", parent, None, "plan", runner))
    await until(lambda: roster.get().running)
    await asyncio.sleep(0)
    await asyncio.to_thread(parent.mark_canceled)
    assert not (await spawning).success
    assert asked_in == [threading.get_ident()]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has no eager tasks")
@pytest.mark.parametrize("end", ["at once", "later", "cancelled by itself"])
def test_eager_tasks_make_no_difference(end):
    sink = EventRecorder()

    async def runner(child):
        if end == "later":
            await asyncio.sleep(0)
        if end == "cancelled by itself":
            await SubpipelineSpawner().cancel_with_children(child.pipeline_run_id)
            await asyncio.sleep(0)
        return {}

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        parent = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
        result = await SubpipelineSpawner().spawn("any", parent, None, "plan", runner)
        assert result.success is (end != "cancelled by itself")
        await assert_nothing_is_kept()

    asyncio.run(main())
    assert_paired(sink)
    assert sink.types[0] == "pipeline.spawned_child"


# --- cancel_with_children ----------------------------------------------------------------------------------


def assert_told_from_below(sink, run_id, reason) -> None:
    told = [event.data for event in sink if event.type == "pipeline.canceled"]
    runs = [data["pipeline_run_id"] for data in told]
    assert [data["cascade_depth"] for data in told] == [3, 2, 1, 0]
    assert [data["parent_run_id"] for data in told] == [*runs[1:], None]
    assert runs[-1] == str(run_id)
    assert {data["reason"] for data in told} == {reason}


@pytest.mark.asyncio
@pytest.mark.parametrize("wrapped", [False, True], ids=["callables", "pipelines"])
@pytest.mark.parametrize("caller", ["outside", "sibling stage", "innermost"])
async def test_finding_a1_12_cancel_with_children_stops_them(wrapped, caller, sink):
    """And its grandchildren, and the run itself; and a later spawn is refused."""
    reached, run_id = asyncio.Event(), uuid4()
    spawner, stopped, canceled, tracked = SubpipelineSpawner(), [], [], []

    async def cancel():
        tracked.extend(await get_child_tracker().get_all_descendants(run_id))
        canceled.extend(await spawner.cancel_with_children(run_id, "the user left"))

    async def innermost(ctx):
        reached.set()
        try:
            if caller == "innermost":
                await cancel()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            stopped.append("innermost")

    async def sibling(ctx):
        await reached.wait()
        if caller == "sibling stage":
            await cancel()
        else:
            await asyncio.Event().wait()

    what = one_stage("innermost", innermost) if wrapped else innermost
    pipeline = nested(2, what, spawner=spawner, wrapped=wrapped).with_stage("sibling", sibling, K)
    ctx = PipelineContext(pipeline_run_id=run_id, event_sink=sink)
    async with leak_check():
        run = asyncio.create_task(pipeline.run(ctx))
        await reached.wait()
        await asyncio.sleep(0.01)
        if caller == "outside":
            await cancel()
            assert stopped == ["innermost"]  # it ends when they have ended
            assert sink.types.count("pipeline.child_failed") == 3
            assert len(canceled) == 4
            assert canceled[-1] == run_id
        with pytest.raises(PipelineCancelled) as caught:
            await run
    assert caught.value.reason == "the user left"
    assert stopped == ["innermost"]
    assert len(tracked) == 3
    assert all(spawner.is_canceled(one) for one in [run_id, *tracked])
    assert not spawner.is_canceled(uuid4())
    assert_told_from_below(sink, run_id, "the user left")
    assert_paired(sink)
    await assert_nothing_is_kept()
    with pytest.raises(SpawnRefusedError):
        await spawner.spawn("late", ctx, None, "plan", nothing)


@pytest.mark.asyncio
@pytest.mark.parametrize("wrapped", [False, True], ids=["callable", "pipeline"])
async def test_one_child_can_be_cancelled_and_the_parent_goes_on(wrapped, sink):
    spawner, settled = SubpipelineSpawner(), asyncio.Event()

    async def quick(ctx):
        settled.set()
        return StageOutput.ok(quick=True)

    what = one_stage("quick", quick).with_stage("slow", forever, K, ["quick"])

    async def callable_(child):
        settled.set()
        await asyncio.Event().wait()

    async def parent(ctx):
        spawning = asyncio.create_task(
            spawner.spawn("child", ctx, None, "parent", what if wrapped else callable_)
        )
        await settled.wait()
        (child_id,) = await get_child_tracker().get_children(ctx.pipeline_run_id)
        assert await spawner.cancel_with_children(child_id, "too slow") == [child_id]
        assert await spawner.cancel_with_children(child_id, "once more") == []
        child = await spawning
        again = await spawner.spawn("another", ctx, None, "parent", nothing)
        return StageOutput.ok(
            error=child.error, kept=sorted(getattr(child.exception, "results", {})), again=again.success
        )

    async with leak_check():
        results = await one_stage("parent", parent).run(sink=sink)
    data = results["parent"].data
    assert data["error"] == "Pipeline cancelled from outside: too slow"
    assert data["kept"] == (["quick"] if wrapped else [])
    assert data["again"]
    assert_paired(sink)


@pytest.mark.asyncio
async def test_a_child_may_wait_for_a_task_that_cancels_it():
    """Neither waits for the other's end: what a child has started is part of it."""
    spawner, canceled = SubpipelineSpawner(), []

    async def runner(child):
        canceling = asyncio.create_task(spawner.cancel_with_children(child.parent_run_id))
        try:
            await asyncio.Event().wait()
        finally:
            canceled.extend(await canceling)

    parent = PipelineContext(pipeline_run_id=uuid4())
    async with leak_check():
        result = await asyncio.wait_for(spawner.spawn("any", parent, None, "plan", runner), 5)
    assert canceled == [result.child_run_id, parent.pipeline_run_id]


@pytest.mark.asyncio
async def test_whoever_cancels_waits_also_if_another_was_quicker(sink):
    released, ended = asyncio.Event(), []
    parent = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)

    async def slow_to_go(child):
        try:
            await asyncio.Event().wait()
        finally:
            await released.wait()
            ended.append(True)

    spawner = SubpipelineSpawner()
    spawning = asyncio.create_task(spawner.spawn("slow", parent, None, "plan", slow_to_go))
    await until(lambda: roster.get().running)
    await asyncio.sleep(0)
    first, second = (
        asyncio.create_task(spawner.cancel_with_children(parent.pipeline_run_id)) for _ in range(2)
    )
    await asyncio.sleep(0.01)
    assert not first.done()
    assert not second.done()
    released.set()
    assert len(await first) == 2
    assert await second == []
    assert ended == [True]
    assert not (await spawning).success


@pytest.mark.asyncio
async def test_a_run_without_children_is_refused_its_next_and_ends_as_cancelled(sink):
    spawner = SubpipelineSpawner()

    async def parent(ctx):
        await spawner.cancel_with_children(ctx.pipeline_run_id, "before it began")
        await spawner.spawn("late", ctx, None, "parent", nothing)

    with pytest.raises(PipelineCancelled) as caught:
        await one_stage("parent", parent).run(sink=sink)
    assert caught.value.reason == "before it began"
    assert "pipeline.spawned_child" not in sink.types
    assert sink.types[-1] == "pipeline.cancelled"


@pytest.mark.asyncio
async def test_descendants_of_a_cancelled_run_are_refused_too():
    spawner, top = SubpipelineSpawner(), PipelineContext(pipeline_run_id=uuid4())
    await spawner.cancel_with_children(top.pipeline_run_id)
    below = top.fork(uuid4()).fork(uuid4())
    with pytest.raises(SpawnRefusedError):
        await spawner.spawn("late", below, None, "plan", nothing)


@pytest.mark.asyncio
async def test_contexts_that_are_given_are_marked_as_in_0_9(sink):
    parent = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
    child = parent.fork(uuid4())
    tracker = ChildRunTracker()
    await tracker.register_child(parent.pipeline_run_id, child.pipeline_run_id)
    spawner = SubpipelineSpawner(child_tracker=tracker)
    contexts = {one.pipeline_run_id: one for one in (parent, child)}
    canceled = await spawner.cancel_with_children(parent.pipeline_run_id, contexts=contexts)
    assert canceled == [child.pipeline_run_id, parent.pipeline_run_id]
    assert parent.canceled
    assert child.canceled
    assert [(event.type, event.data["pipeline_run_id"], event.data["reason"]) for event in sink] == [
        ("pipeline.canceled", str(one), "user_requested") for one in canceled
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("emits", [True, False])
async def test_a_running_child_is_told_of_once_though_its_context_is_given(emits, sink):
    contexts = {}

    async def runner(child):
        contexts[child.pipeline_run_id] = child
        await asyncio.Event().wait()

    parent = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
    spawner = SubpipelineSpawner(emit_events=emits)
    spawning = asyncio.create_task(spawner.spawn("any", parent, None, "plan", runner))
    await until(lambda: contexts)
    await spawner.cancel_with_children(parent.pipeline_run_id, contexts=contexts)
    assert not (await spawning).success
    assert sink.types.count("pipeline.canceled") == (2 if emits else 0)


@pytest.mark.asyncio
async def test_spawners_with_other_trackers_are_found(sink):
    """What runs on the loop is known whoever started it; a tracker only watches."""
    reached, tracker, run_id = asyncio.Event(), ChildRunTracker(), uuid4()
    mine, theirs = SubpipelineSpawner(child_tracker=tracker), SubpipelineSpawner()

    async def innermost(child):
        reached.set()
        await asyncio.Event().wait()

    async def middle(child):
        await theirs.spawn("innermost", child, None, "middle", innermost)

    parent = PipelineContext(pipeline_run_id=run_id, event_sink=sink)
    async with leak_check():
        spawning = asyncio.create_task(mine.spawn("middle", parent, None, "plan", middle))
        await reached.wait()
        assert len(await mine.cancel_with_children(run_id)) == 3
        assert not (await spawning).success
    assert_paired(sink)
    await assert_nothing_is_kept(tracker)
    await assert_nothing_is_kept()


@pytest.mark.asyncio
async def test_what_was_cancelled_is_not_remembered_for_ever(monkeypatch):
    monkeypatch.setattr(subpipeline, "_REMEMBERED", 10)
    spawner = SubpipelineSpawner()
    for number in range(100):
        assert await spawner.cancel_with_children(UUID(int=number)) == [UUID(int=number)]
    assert len(spawner._canceled) == 10
    assert spawner.is_canceled(UUID(int=99))
    assert not spawner.is_canceled(UUID(int=0))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "options", [{"run_id": "7"}, {"run_id": None}, {"reason": None}, {"contexts": [1]}], ids=str
)
async def test_cancel_refuses_what_makes_no_sense(options):
    with pytest.raises(ArgumentTypeError):
        await SubpipelineSpawner().cancel_with_children(**{"run_id": uuid4(), **options})


# --- any tree, any outcome, any moment ---------------------------------------------------------------------

outcome = st.sampled_from(["ok", "raise", "hang", "cancel itself", "swallow"])
trees = st.recursive(
    st.tuples(outcome, st.just([]), st.booleans()),
    lambda below: st.tuples(outcome, st.lists(below, max_size=3), st.booleans()),
    max_leaves=8,
)


@given(tree=trees, turns=st.integers(0, 30), action=st.sampled_from(["the caller", "children", "one child"]))
def test_whatever_happens_everything_ends_and_is_told(tree, turns, action):
    sink = EventRecorder()
    spawner = SubpipelineSpawner(max_depth=10)

    def runner_of(node):
        end, below, wrapped = node

        async def run(ctx):
            await asyncio.sleep(0)
            async with asyncio.TaskGroup() as group:
                for child in below:
                    group.create_task(spawner.spawn("child", ctx, None, "any", runner_of(child)))
            if end == "raise":
                raise ValueError("no")
            if end == "cancel itself":
                raise asyncio.CancelledError
            if end == "hang":
                await asyncio.Event().wait()
            if end == "swallow":
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    await asyncio.sleep(0)

        return one_stage("any", run) if wrapped else run

    async def main():
        parent = PipelineContext(pipeline_run_id=uuid4(), event_sink=sink)
        spawning = asyncio.create_task(spawner.spawn("top", parent, None, "plan", runner_of(tree)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if action == "the caller":
            spawning.cancel()
        elif action == "children":
            await asyncio.wait_for(spawner.cancel_with_children(parent.pipeline_run_id), 5)
        else:
            for run_id in list(roster.get().running)[-1:]:
                await asyncio.wait_for(spawner.cancel_with_children(run_id), 5)
            await asyncio.sleep(0)
            spawning.cancel()
        await asyncio.wait([spawning], timeout=5)
        assert spawning.done()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await assert_nothing_is_kept()
        if not spawning.cancelled():
            spawning.exception()

    asyncio.run(main())
    assert_paired(sink)
    runs = {event.data["pipeline_run_id"] for event in sink if event.type == "pipeline.started"}
    for run_id in runs:
        types = [event.type for event in sink if event.data["pipeline_run_id"] == run_id and event.sequence]
        assert (
            sum(type_ in {"pipeline.completed", "pipeline.failed", "pipeline.cancelled"} for type_ in types)
            == 1
        )
        assert types[-1] in {"pipeline.completed", "pipeline.failed", "pipeline.cancelled"}
