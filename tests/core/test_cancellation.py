"""Cancelling a run: from anywhere, at any moment, always by the same way out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import coroutine

import pytest
from stageflow import (
    CancellationToken,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    RetryPolicy,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
)
from stageflow.testing import EventRecorder, leak_check

K = StageKind.TRANSFORM


async def nothing(ctx):
    return None


async def forever(ctx):
    await asyncio.Event().wait()


# --- where the wish to stop comes from -----------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_caller_is_cancelled_when_only_cleanup_is_left(sink):
    cleaning, cleaned = asyncio.Event(), []

    async def stage(ctx):
        async def clean():
            cleaning.set()
            await asyncio.sleep(0.01)
            cleaned.append(ctx.stage_name)

        ctx.register_cleanup(clean)

    run = asyncio.ensure_future(Pipeline().with_stage("s", stage, K).run(sink=sink))
    await cleaning.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert cleaned == ["s"]
    last = sink.events[-1]
    assert (last.type, last.data["cancelled_by"], last.data["stage_counts"]) == (
        "pipeline.cancelled",
        PipelineCancelled.EXTERNAL,
        {"ok": 1},
    )


@pytest.mark.asyncio
async def test_a_stage_cancels_the_run(sink):
    async def quits(ctx):
        return StageOutput.cancel("enough", {"so_far": 3})

    pipeline = Pipeline().with_stage("quits", quits, K).with_stage("after", nothing, K, ["quits"])
    with pytest.raises(PipelineCancelled) as caught:
        await pipeline.run(sink=sink)
    assert (caught.value.stage, caught.value.reason) == ("quits", "enough")
    assert caught.value.results["quits"].data == {"cancel_reason": "enough", "so_far": 3}
    assert caught.value.results.error is caught.value
    assert sink.types == [
        "pipeline.started",
        "stage.quits.started",
        "stage.quits.cancelled",
        "stage.after.skipped",
        "pipeline.cancelled",
    ]
    assert sink.data("pipeline.cancelled")["reason"] == "enough"


@pytest.mark.asyncio
async def test_a_token_that_is_cancelled_before_the_start_starts_nothing(sink):
    token = CancellationToken()
    async with leak_check():
        token.cancel("too late")
        ran = []

        async def body(ctx):
            ran.append(True)

        with pytest.raises(PipelineCancelled) as caught:
            await Pipeline().with_stage("a", body, K).run(sink=sink, cancel_token=token)
    assert ran == []
    assert dict(caught.value.results) == {}
    assert (caught.value.stage, caught.value.reason) == ("<external>", "too late")
    assert sink.types == ["pipeline.started", "stage.a.skipped", "pipeline.cancelled"]


@pytest.mark.asyncio
@pytest.mark.parametrize("suspends", ["before", "after", "before and after", "never"])
async def test_a_token_that_is_cancelled_from_within_a_stage(suspends, sink):
    token = CancellationToken()
    reached_end = []

    async def body(ctx):
        if "before" in suspends:
            await asyncio.sleep(0)
        token.cancel("from within")
        assert ctx.is_cancelled
        if "after" in suspends:
            await asyncio.sleep(0)
        reached_end.append(True)
        return {"ok": True}

    pipeline = Pipeline().with_stage("a", body, K).with_stage("b", nothing, K, ["a"])
    async with leak_check():
        with pytest.raises(PipelineCancelled) as caught:
            await pipeline.run(sink=sink, cancel_token=token)
    # A stage that no longer awaits cannot be stopped: it ends as it likes, and its output is kept.
    assert bool(reached_end) == ("after" not in suspends)
    assert set(caught.value.results) == ({"a"} if reached_end else set())
    sink.assert_paired(stages=["a", "b"], end="cancelled")
    assert sink.of("b") == ["skipped"]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["token", "context"])
async def test_cancelled_from_another_thread(kind, sink):
    token, context = CancellationToken(), PipelineContext()
    running = threading.Event()

    async def body(ctx):
        running.set()
        await asyncio.Event().wait()

    def other_thread():
        running.wait(10)
        token.cancel("from a thread") if kind == "token" else context.mark_canceled()

    thread = threading.Thread(target=other_thread)
    async with leak_check():
        thread.start()
        with pytest.raises(PipelineCancelled) as caught:
            await Pipeline().with_stage("a", body, K).run(context, sink=sink, cancel_token=token)
    thread.join()
    assert caught.value.stage == PipelineCancelled.EXTERNAL
    sink.assert_paired(stages=["a"], end="cancelled")


@pytest.mark.asyncio
async def test_a_context_that_was_marked_before(sink):
    context = PipelineContext()
    context.mark_canceled()
    with pytest.raises(PipelineCancelled):
        await Pipeline().with_stage("a", nothing, K).run(context, sink=sink)
    assert sink.of("a") == ["skipped"]


@pytest.mark.asyncio
async def test_one_token_cancels_all_its_runs_and_forgets_those_that_have_ended():
    token = CancellationToken()
    pipeline = Pipeline().with_stage("a", forever, K)
    runs = [asyncio.create_task(pipeline.run(cancel_token=token)) for _ in range(3)]
    await Pipeline().with_stage("a", nothing, K).run(cancel_token=token)
    assert len(token._callbacks) == 3
    token.cancel("all of you")
    for run in runs:
        with pytest.raises(PipelineCancelled, match="all of you"):
            await run
    assert token._callbacks == []


def test_the_first_reason_stays():
    token = CancellationToken()
    assert (token.is_cancelled, token.reason) == (False, None)
    heard = []
    undo = token.on_cancel(heard.append)
    undo()
    token.on_cancel(heard.append)
    token.cancel("first")
    token.cancel("second")
    token.on_cancel(heard.append)
    assert (token.is_cancelled, token.reason) == (True, "first")
    assert heard == ["first", "first"]


@pytest.mark.asyncio
async def test_a_listener_that_raises_does_not_keep_the_run_from_being_cancelled():
    token = CancellationToken()

    def broken(reason):
        raise ValueError("listener")

    token.on_cancel(broken)
    run = asyncio.create_task(Pipeline().with_stage("a", forever, K).run(cancel_token=token))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with contextlib.suppress(ValueError):
        token.cancel("stop")
    done, _ = await asyncio.wait([run], timeout=2)
    if not done:
        run.cancel()
        await asyncio.wait([run])
    assert done, "the run never heard of the cancellation"
    assert isinstance(run.exception(), PipelineCancelled)


# --- what a stage sees ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_long_work_that_never_awaits_can_look(sink):
    token = CancellationToken()

    async def body(ctx):
        ctx.raise_if_cancelled()
        token.cancel("stop")
        ctx.raise_if_cancelled()

    with pytest.raises(PipelineCancelled) as caught:
        await Pipeline().with_stage("a", body, K).run(sink=sink, cancel_token=token)
    assert caught.value.reason == "stop"
    assert dict(caught.value.results) == {}
    assert sink.of("a") == ["started", "cancelled"]


@pytest.mark.asyncio
async def test_a_checkpoint_lets_others_run_and_stops_a_cancelled_stage(sink):
    turns = []

    async def busy(ctx):
        while True:
            turns.append(True)
            await ctx.cancellation_checkpoint()

    async def fails(ctx):
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(StageExecutionError):
        await Pipeline().with_stage("busy", busy, K).with_stage("fails", fails, K).run(sink=sink)
    assert sink.of("busy") == ["started", "cancelled"]
    assert turns


@pytest.mark.asyncio
async def test_a_run_whose_stage_saw_the_token_first_is_cancelled_not_completed(sink):
    """The token is set in another thread, and a stage notices before the event loop hears of it."""
    token, loop_may_hear = CancellationToken(), threading.Event()
    token.on_cancel(lambda _: loop_may_hear.wait(10))  # comes before the run's own listener

    async def body(ctx):
        thread = threading.Thread(target=token.cancel, args=("from a thread",))
        thread.start()
        while not ctx.is_cancelled:
            pass
        ctx.raise_if_cancelled()

    pipeline = Pipeline().with_stage("a", body, K).with_stage("b", nothing, K, ["a"])
    try:
        results = await pipeline.run(sink=sink, cancel_token=token, raise_errors=False)
    finally:
        loop_may_hear.set()
    assert isinstance(results.error, PipelineCancelled)
    sink.assert_paired(stages=["a", "b"], end="cancelled")


# --- nothing starts after a stop -------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("moment", ["its own start", "its own condition", "the end of the stage before"])
async def test_no_stage_starts_once_the_run_is_being_stopped(moment):
    token = CancellationToken()
    ran = []

    async def body(ctx):
        ran.append(True)

    def hook(event):
        if (moment, event.type) in {
            ("its own start", "stage.b.started"),
            ("the end of the stage before", "stage.a.completed"),
        }:
            token.cancel("now")

    def condition(_):
        if moment == "its own condition":
            token.cancel("now")
        return True

    sink = EventRecorder(hook)
    pipeline = Pipeline().with_stage("a", nothing, K).with_stage("b", body, K, ["a"], when=condition)
    with pytest.raises(PipelineCancelled):
        await pipeline.run(sink=sink, cancel_token=token)
    assert ran == []
    sink.assert_paired(stages=["a", "b"], end="cancelled")


# --- who is told -----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_cancelled_run_may_return_instead_of_raising(sink):
    async def quits(ctx):
        return StageOutput.cancel("enough")

    results = await Pipeline().with_stage("quits", quits, K).run(raise_errors=False, sink=sink)
    assert isinstance(results.error, PipelineCancelled)
    assert results["quits"].status == "cancel"


@pytest.mark.asyncio
async def test_the_callers_own_cancellation_is_never_swallowed():
    async def main():
        await Pipeline().with_stage("a", forever, K).run(raise_errors=False)

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel("why not")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("why not",)


@pytest.mark.asyncio
async def test_a_child_run_ends_with_its_parent():
    inner_sink, outer_sink = EventRecorder(), EventRecorder()

    async def outer(ctx):
        await Pipeline().with_stage("inner", forever, K).run(sink=inner_sink)

    token = CancellationToken()
    async with leak_check():
        run = asyncio.create_task(
            Pipeline().with_stage("outer", outer, K).run(sink=outer_sink, cancel_token=token)
        )
        while not inner_sink.of("inner"):
            await asyncio.sleep(0)
        token.cancel()
        with pytest.raises(PipelineCancelled):
            await run
    inner_sink.assert_paired(stages=["inner"], end="cancelled")
    outer_sink.assert_paired(stages=["outer"], end="cancelled")


@pytest.mark.asyncio
async def test_a_cancelled_child_is_a_failed_stage_of_a_parent_that_goes_on(sink):
    async def outer(ctx):
        async def quits(ctx):
            return StageOutput.cancel("child only")

        await Pipeline().with_stage("inner", quits, K).run()

    with pytest.raises(StageExecutionError) as caught:
        await Pipeline().with_stage("outer", outer, K).run(sink=sink)
    assert isinstance(caught.value.original, PipelineCancelled)
    sink.assert_paired(stages=["outer"], end="failed")


# --- at every await point --------------------------------------------------------------------------------------


class Injector:
    """Does something at the n-th suspension of any Task that is created after it was installed."""

    def __init__(self, at: int, action) -> None:
        self.count = 0
        self._at = at
        self._action = action

    def install(self) -> None:
        asyncio.get_running_loop().set_task_factory(self._make)

    def _make(self, loop, coro, **options):
        async def stepped():  # Python 3.12 makes Tasks of coroutines only
            return await self._stepping(coro)

        return asyncio.Task(stepped(), loop=loop, **options)

    @coroutine
    def _stepping(self, coro):
        step, argument = coro.send, None
        while True:
            try:
                waiting = step(argument)
            except StopIteration as end:
                return end.value
            self.count += 1
            if self.count == self._at:
                self._action(asyncio.current_task())
            try:
                step, argument = coro.send, (yield waiting)
            except GeneratorExit:
                coro.close()
                raise
            except BaseException as error:
                step, argument = coro.throw, error


def retry_pipeline(cleaned: list[str]) -> StageGraph:
    tries = {"flaky": 0}

    async def flaky(ctx):
        async def clean():
            await asyncio.sleep(0)
            cleaned.append("flaky")

        if ctx.attempt == 1:
            ctx.register_cleanup(clean)
        tries["flaky"] += 1
        await asyncio.sleep(0)
        if ctx.attempt == 1:
            return StageOutput.retry("again")
        if ctx.attempt == 2:
            raise ConnectionError("again")
        try:
            await asyncio.sleep(0.001)
        finally:
            await asyncio.sleep(0)
        return {"ok": True}

    async def beside(ctx):
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)

    return StageGraph(
        [
            StageSpec("flaky", flaky, K, retry=RetryPolicy(4, base_delay=0.001, jitter=False)),
            StageSpec("beside", beside, K, timeout=5),
            StageSpec("after", beside, K, ["flaky", "beside"]),
        ],
        name="retry",
    )


def diamond_pipeline(cleaned: list[str]) -> StageGraph:
    async def stage(ctx):
        async def clean():
            cleaned.append(ctx.stage_name)

        ctx.register_cleanup(clean)
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        return {"ok": True}

    return StageGraph(
        [
            StageSpec("top", stage, K),
            StageSpec("left", stage, K, ["top"], timeout=5),
            StageSpec("right", stage, K, ["top"]),
            StageSpec("inline", nothing, K, ["top"]),
            StageSpec("bottom", stage, K, ["left", "right", "inline"]),
        ],
        name="diamond",
    )


def nested_pipeline(cleaned: list[str]) -> StageGraph:
    inner = diamond_pipeline(cleaned)

    async def outer(ctx):
        await inner.run()

    return StageGraph(
        [StageSpec("outer", outer, K), StageSpec("after", nothing, K, ["outer"])], name="nested"
    )


PIPELINES = [retry_pipeline, diamond_pipeline, nested_pipeline]


async def run_with_injection(make, sink, at: int, action: str) -> tuple[asyncio.Task, int]:
    loop = asyncio.get_running_loop()
    token = CancellationToken()
    run: asyncio.Task

    def act(current):
        if action == "the caller":
            run.cancel()
        elif action == "the token":
            token.cancel("injected")
        elif action == "the current task":
            current.cancel()

    injector = Injector(at, act)
    graph = make([])
    loop.set_task_factory(injector._make)
    run = loop.create_task(graph.run(sink=sink, cancel_token=token))
    loop.set_task_factory(injector._make)
    try:
        done, _ = await asyncio.wait([run], timeout=5)
    finally:
        loop.set_task_factory(None)
    assert done, f"{action} cancelled at suspension {at}: the run hangs; {sink.types}"
    return run, injector.count


@pytest.mark.parametrize("make", PIPELINES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("action", ["the caller", "the token", "the current task"])
def test_a_cancellation_at_every_suspension(make, action):
    async def count() -> int:
        sink = EventRecorder()
        run, suspensions = await run_with_injection(make, sink, -1, action)
        assert run.exception() is None
        return suspensions

    async def at(point: int) -> None:
        sink = EventRecorder()
        run, _ = await run_with_injection(make, sink, point, action)
        where = f"{action} cancelled at suspension {point} of {total}"
        assert asyncio.all_tasks() == {asyncio.current_task()}, where
        names = [spec.name for spec in make([]).stage_specs]
        sink.assert_paired(stages=names)
        if action == "the caller":
            assert run.cancelled(), where
            assert (
                sink.types[-1] == "pipeline.cancelled"
                or "cleanup" in where
                or set(sink.types) >= {f"stage.{name}.completed" for name in names}
            ), where
        elif action == "the token":
            error = run.exception()
            assert isinstance(error, PipelineCancelled) or (
                error is None and set(run.result()) == set(names)
            ), where

    total = asyncio.run(count())
    assert total > 5
    print(f"{make.__name__}: {action} at each of {total} suspensions")
    for point in range(1, total + 1):
        asyncio.run(at(point))


@pytest.mark.parametrize("make", PIPELINES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("action", ["the caller", "the token"])
def test_a_cancellation_at_every_turn_of_the_event_loop(make, action):
    """Between two turns, so also where a Task is about to resume: it is cancelled all the same."""

    async def at(turn: int) -> bool:
        sink, token = EventRecorder(), CancellationToken()
        run = asyncio.create_task(make([]).run(sink=sink, cancel_token=token))
        for _ in range(turn):
            await asyncio.sleep(0)
        ended = run.done()
        run.cancel() if action == "the caller" else token.cancel()
        done, _ = await asyncio.wait([run], timeout=5)
        assert done, f"turn {turn}: the run hangs; {sink.types}"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        if sink.events:  # a caller that never began emits nothing
            sink.assert_paired(stages=[spec.name for spec in make([]).stage_specs])
        if not run.cancelled():
            run.exception()
        return ended

    turn = 0
    while not asyncio.run(at(turn)) and turn < 200:
        turn += 1


@pytest.mark.parametrize("make", PIPELINES, ids=lambda make: make.__name__)
def test_a_cancellation_at_every_event(make):
    """A sink may cancel, as a user interface does when its client goes away."""

    async def at(number: int | None) -> list[str]:
        token = CancellationToken()
        sink = EventRecorder(lambda event: token.cancel("by a sink") if event.sequence == number else None)
        results = await asyncio.wait_for(make([]).run(sink=sink, cancel_token=token, raise_errors=False), 5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        sink.assert_paired(stages=[spec.name for spec in make([]).stage_specs])
        if number is not None and number < len(sink.types):
            assert isinstance(results.error, PipelineCancelled), (number, sink.types)
            after = sink.types[number:]
            assert not [type for type in after if type.endswith((".started", ".retrying"))], (
                f"started after the cancellation at event {number}: {after}"
            )
        return sink.types

    everything = asyncio.run(at(None))
    for number in range(1, len(everything) + 1):
        asyncio.run(at(number))
