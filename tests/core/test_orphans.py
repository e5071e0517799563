"""Structured concurrency: run() neither returns nor raises while anything that it started is alive (finding A1.4)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from stageflow import (
    CancellationToken,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
)
from stageflow.errors import RunTimeoutError
from stageflow.testing import leak_check

K = StageKind.WORK
NAMES = ["trigger", "sleeper", "waiter", "inline", "never"]


class World:
    """A graph whose `trigger` ends the run while two siblings are suspended, and what is left of them."""

    def __init__(self, trigger) -> None:
        self.both_run = asyncio.Barrier(3)
        self.finished: list[str] = []
        self.cleaned: list[str] = []

        def suspended(name: str):
            async def run(ctx):
                async def clean() -> None:
                    await asyncio.sleep(0)
                    self.cleaned.append(name)

                ctx.register_cleanup(clean)
                try:
                    await self.both_run.wait()
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0)  # cleaning up may take a while
                    await asyncio.sleep(0)
                    self.finished.append(name)

            return run

        async def run_trigger(ctx):
            await self.both_run.wait()
            return await trigger(ctx)

        async def inline(ctx):
            return None

        self.graph = StageGraph(
            [
                StageSpec("trigger", run_trigger, K),
                StageSpec("sleeper", suspended("sleeper"), K),
                StageSpec("waiter", suspended("waiter"), K),
                StageSpec("inline", inline, K),
                StageSpec("never", inline, K, ["sleeper"]),
            ]
        )

    def assert_tidy(self) -> None:
        assert sorted(self.finished) == ["sleeper", "waiter"]
        assert self.cleaned == ["waiter", "sleeper"]


async def forever(ctx):
    await asyncio.Event().wait()


async def fails(ctx):
    return StageOutput.fail("no")


async def raises(ctx):
    raise ValueError("no")


async def raises_later(ctx):
    await asyncio.sleep(0)
    raise ValueError("no")


@pytest.mark.asyncio
@pytest.mark.parametrize("trigger", [fails, raises, raises_later])
async def test_after_a_failed_stage(trigger, sink):
    world = World(trigger)
    async with leak_check():
        with pytest.raises(StageExecutionError) as caught:
            await world.graph.run(sink=sink)
    world.assert_tidy()
    assert caught.value.stage == "trigger"
    assert set(caught.value.results) == {"trigger", "inline"}
    sink.assert_paired(stages=NAMES, end="failed")
    assert sink.of("sleeper") == sink.of("waiter") == ["started", "cancelled"]
    assert sink.of("never") == ["skipped"]


@pytest.mark.asyncio
async def test_after_a_stage_that_cancels_the_run(sink):
    async def trigger(ctx):
        return StageOutput.cancel("enough")

    world = World(trigger)
    async with leak_check():
        with pytest.raises(PipelineCancelled) as caught:
            await world.graph.run(sink=sink)
    world.assert_tidy()
    assert (caught.value.stage, caught.value.reason) == ("trigger", "enough")
    assert set(caught.value.results) == {"trigger", "inline"}
    sink.assert_paired(stages=NAMES, end="cancelled")


@pytest.mark.asyncio
async def test_after_an_outer_time_out(sink):
    world = World(forever)
    async with leak_check():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await world.graph.run(sink=sink)
    world.assert_tidy()
    sink.assert_paired(stages=NAMES, end="cancelled")


@pytest.mark.asyncio
async def test_after_an_outer_wait_for(sink):
    world = World(forever)
    async with leak_check():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.graph.run(sink=sink), 0.02)
    world.assert_tidy()
    sink.assert_paired(stages=NAMES, end="cancelled")


@pytest.mark.asyncio
async def test_after_the_callers_task_was_cancelled_again_and_again(sink):
    """Stages that are cleaning up are not cut short, and the run does not leave before they are done."""
    world = World(forever)
    async with leak_check():
        run = asyncio.create_task(world.graph.run(sink=sink))
        while sink.of("never") == [] and len(sink.of("waiter")) == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while not run.done():
            run.cancel()
            await asyncio.sleep(0)
    assert run.cancelled()
    world.assert_tidy()
    sink.assert_paired(stages=NAMES, end="cancelled")


@pytest.mark.asyncio
async def test_after_a_token(sink):
    token = CancellationToken()

    async def trigger(ctx):
        token.cancel("stop it")
        await asyncio.Event().wait()

    world = World(trigger)
    async with leak_check():
        with pytest.raises(PipelineCancelled) as caught:
            await world.graph.run(sink=sink, cancel_token=token)
    world.assert_tidy()
    assert (caught.value.stage, caught.value.reason) == ("<external>", "stop it")
    sink.assert_paired(stages=NAMES, end="cancelled")


@pytest.mark.asyncio
async def test_after_the_runs_own_time_limit(sink):
    world = World(forever)
    async with leak_check():
        with pytest.raises(RunTimeoutError) as caught:
            await world.graph.run(sink=sink, timeout=0.02)
    world.assert_tidy()
    assert set(caught.value.results) == {"inline"}
    assert isinstance(caught.value, TimeoutError)
    sink.assert_paired(stages=NAMES, end="cancelled")


@pytest.mark.asyncio
@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("suspended", [False, True], ids=["inline", "suspended"])
async def test_after_a_stage_that_wants_the_process_to_end(fatal, suspended, sink):
    async def trigger(ctx):
        if suspended:
            await asyncio.sleep(0)
        raise fatal

    world = World(trigger)
    async with leak_check():
        with pytest.raises(fatal):
            await world.graph.run(sink=sink)
    world.assert_tidy()
    sink.assert_paired(stages=NAMES, end="failed")


@pytest.mark.asyncio
async def test_fatal_errors_end_the_run_in_every_failure_mode(sink):
    async def fatal(ctx):
        raise KeyboardInterrupt

    graph = (
        Pipeline()
        .with_stage("fatal", fatal, K)
        .with_stage("forever", forever, K)
        .build(failure_mode=FailureMode.BEST_EFFORT)
    )
    async with leak_check():
        with pytest.raises(KeyboardInterrupt):
            await graph.run(sink=sink, raise_errors=False)
    sink.assert_paired(stages=["fatal", "forever"], end="failed")


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [GeneratorExit, BaseException, asyncio.CancelledError])
@pytest.mark.parametrize("suspended", [False, True], ids=["inline", "suspended"])
async def test_any_other_exception_fails_the_stage_and_nothing_else(error, suspended, sink):
    async def odd(ctx):
        if suspended:
            await asyncio.sleep(0)
        raise error

    async with leak_check():
        with pytest.raises(StageExecutionError) as caught:
            await Pipeline().with_stage("odd", odd, K).with_stage("forever", forever, K).run(sink=sink)
    assert isinstance(caught.value.original, error)
    sink.assert_paired(stages=["odd", "forever"], end="failed")


@pytest.mark.asyncio
async def test_a_sibling_that_fails_while_it_is_cancelled_does_not_hide_the_first_failure(sink):
    async def stubborn(ctx):
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the connection broke while closing")

    async def trigger(ctx):
        await asyncio.sleep(0)
        raise ValueError("first")

    async with leak_check():
        with pytest.raises(StageExecutionError) as caught:
            await (
                Pipeline()
                .with_stage("stubborn", stubborn, K)
                .with_stage("trigger", trigger, K)
                .run(sink=sink)
            )
    assert isinstance(caught.value.original, ValueError)
    assert any("stubborn" in note for note in caught.value.__notes__)
    sink.assert_paired(stages=["stubborn", "trigger"], end="failed")


@pytest.mark.asyncio
@pytest.mark.parametrize("after", ["returns a value", "goes on for a while", "asks for a retry"])
async def test_a_stage_that_swallows_the_cancellation_ends_before_the_run_does(after, sink):
    released = asyncio.Event()
    swallowed = asyncio.Event()
    done = []

    async def stubborn(ctx):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        if after == "goes on for a while":
            await released.wait()
        done.append(True)
        return (
            StageOutput.retry("once more") if after == "asks for a retry" else StageOutput.ok(stubborn=True)
        )

    async def dependant(ctx):
        done.append("the dependant ran")

    async def trigger(ctx):
        await asyncio.sleep(0)
        raise ValueError("first")

    pipeline = (
        Pipeline()
        .with_stage("stubborn", stubborn, K)
        .with_stage("trigger", trigger, K)
        .with_stage("dependant", dependant, K, ["stubborn"])
    )
    async with leak_check():
        run = asyncio.create_task(pipeline.run(sink=sink))
        await swallowed.wait()
        if after == "goes on for a while":
            for _ in range(10):
                await asyncio.sleep(0)
            assert not run.done()
            released.set()
        with pytest.raises(StageExecutionError) as caught:
            await run
    assert isinstance(caught.value.original, ValueError)
    assert done == [True]
    sink.assert_paired(stages=["stubborn", "trigger", "dependant"], end="failed")


@pytest.mark.asyncio
async def test_a_caller_that_is_cancelled_before_the_run_began_starts_nothing(sink):
    ran = []

    async def body(ctx):
        ran.append(True)

    async with leak_check():
        run = asyncio.create_task(Pipeline().with_stage("a", body, K).run(sink=sink))
        run.cancel()
        await asyncio.wait([run])
    assert run.cancelled()
    assert ran == sink.events == []


def test_a_callers_coroutine_may_be_closed():
    """Whoever drives a coroutine by hand may drop it; nothing can be awaited then, but it must not blow up."""

    async def main():
        run = Pipeline().with_stage("a", forever, K).run()
        run.send(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        run.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


# --- cleanup callbacks -------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_cleanup_runs_last_in_first_out_after_every_stage_and_before_the_end(sink):
    order = []

    def stage_with_cleanup(name):
        async def run(ctx):
            async def clean():
                order.append(f"clean {name}")
                assert "pipeline.completed" not in sink.types

            ctx.register_cleanup(clean)
            await asyncio.sleep(0)
            order.append(name)

        return run

    pipeline = (
        Pipeline()
        .with_stage("a", stage_with_cleanup("a"), K)
        .with_stage("b", stage_with_cleanup("b"), K, ["a"])
        .with_stage("c", stage_with_cleanup("c"), K, ["b"])
    )
    await pipeline.run(sink=sink)
    assert order == ["a", "b", "c", "clean c", "clean b", "clean a"]


@pytest.mark.asyncio
async def test_a_broken_cleanup_is_reported_and_the_others_run(sink, caplog):
    ran = []

    async def body(ctx):
        async def first():
            ran.append("first")

        async def broken():
            raise OSError("cannot close")

        async def last():
            ran.append("last")

        for callback in (first, broken, last):
            ctx.register_cleanup(callback)

    results = await Pipeline().with_stage("a", body, K).run(sink=sink)
    assert ran == ["last", "first"]
    assert results.error is None
    assert sink.data("cleanup.failed")["cleanup"] == "broken"
    assert "cannot close" in sink.data("cleanup.failed")["error"]
    assert "broken" in caplog.text
    sink.assert_paired(stages=["a"], end="completed")


@pytest.mark.asyncio
async def test_a_cleanup_that_hangs_is_cut_off(sink):
    ran = []

    async def body(ctx):
        async def first():
            ran.append("first")

        async def hangs():
            await asyncio.Event().wait()

        ctx.register_cleanup(first)
        ctx.register_cleanup(hangs, name="the slow one")

    graph = Pipeline().with_stage("a", body, K).build(cleanup_timeout=0.02)
    async with leak_check():
        await graph.run(sink=sink)
    assert ran == ["first"]
    assert sink.data("cleanup.failed")["cleanup"] == "the slow one"


@pytest.mark.asyncio
async def test_a_cleanup_that_awaits_a_task_it_has_cancelled_is_no_cancellation_of_the_run(sink):
    """The usual way to end a background task; its CancelledError is the callback's, nobody else's."""
    ran = []

    async def body(ctx):
        background = asyncio.create_task(asyncio.Event().wait())

        async def first():
            ran.append("first")

        async def end_background():
            background.cancel()
            await background

        ctx.register_cleanup(first)
        ctx.register_cleanup(end_background)
        return {"ok": True}

    async with leak_check():
        results = await Pipeline().with_stage("a", body, K).run(sink=sink)
    assert results["a"].data == {"ok": True}
    assert ran == ["first"]
    sink.assert_paired(stages=["a"], end="completed")


@pytest.mark.asyncio
async def test_a_caller_that_is_cancelled_during_the_cleanup_waits_for_it(sink):
    cleaning, release = asyncio.Event(), asyncio.Event()
    ran = []

    async def body(ctx):
        async def clean():
            cleaning.set()
            await release.wait()
            ran.append("clean")

        ctx.register_cleanup(clean)

    async with leak_check():
        run = asyncio.create_task(Pipeline().with_stage("a", body, K).run(sink=sink))
        await cleaning.wait()
        for _ in range(3):
            run.cancel()
            await asyncio.sleep(0)
        assert not run.done()
        release.set()
        await asyncio.wait([run])
    assert run.cancelled()
    assert ran == ["clean"]
    sink.assert_paired(stages=["a"])


@pytest.mark.asyncio
async def test_a_cleanup_may_register_another():
    ran = []

    async def body(ctx):
        async def second():
            ran.append("second")

        async def first():
            ran.append("first")
            ctx.register_cleanup(second)

        ctx.register_cleanup(first)

    await Pipeline().with_stage("a", body, K).run()
    assert ran == ["first", "second"]


@pytest.mark.asyncio
async def test_callbacks_of_concurrent_runs_do_not_mix():
    """Finding A1.11: per-run state on the graph mixed them."""
    cleaned = []

    async def body(ctx):
        async def clean():
            cleaned.append(ctx.input_text)

        ctx.register_cleanup(clean)
        if ctx.input_text == "1":
            await held.wait()

    held = asyncio.Event()
    graph = Pipeline().with_stage("a", body, K).build()
    first = asyncio.create_task(graph.run(input_text="1"))
    await asyncio.sleep(0)
    await graph.run(input_text="2")
    assert cleaned == ["2"]
    held.set()
    await first
    assert cleaned == ["2", "1"]


# --- a real Ctrl-C -----------------------------------------------------------------------------------------

PROGRAM = textwrap.dedent(
    """
    import asyncio
    import signal
    import sys
    from stageflow import Pipeline, StageKind

    # A suite that runs in the background was started with the signal ignored, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    K = StageKind.WORK
    types = []


    class Sink:
        async def emit(self, *, type, data):
            self.try_emit(type=type, data=data)

        def try_emit(self, *, type, data):
            types.append(type)


    async def sleeper(ctx):
        async def clean():
            await asyncio.sleep(0)
            print("cleaned", flush=True)

        ctx.register_cleanup(clean)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            print("finished", flush=True)


    async def busy(ctx):
        await asyncio.sleep(0)
        print("ready", flush=True)
        while True:
            await asyncio.sleep(0)


    async def main():
        pipeline = (
            Pipeline()
            .with_stage("sleeper", sleeper, K)
            .with_stage("busy", busy, K)
            .with_stage("after", busy, K, ["sleeper"])
        )
        try:
            await pipeline.run(sink=Sink())
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            print("left", len(left), flush=True)
            print(" ".join(types), flush=True)


    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
    """
)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_after_a_real_ctrl_c():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    lines = out.splitlines()
    assert lines[:3] == ["finished", "cleaned", "left 0"]
    assert sorted(lines[3].split()) == sorted(
        [
            "pipeline.started",
            "stage.sleeper.started",
            "stage.busy.started",
            "stage.sleeper.cancelled",
            "stage.busy.cancelled",
            "stage.after.skipped",
            "pipeline.cancelled",
        ]
    )
    assert lines[3].endswith("pipeline.cancelled")
    assert lines[4] == "interrupted"
    assert err == ""
