"""Runs within stages: deadline and cancellation travel down, context variables do, and nothing travels up."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest
from stageflow import (
    BaseInterceptor,
    CancellationToken,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    StageExecutionError,
    StageKind,
    StageOutput,
)
from stageflow.errors import RunTimeoutError, StageTimeoutError
from stageflow.testing import EventRecorder, leak_check

K = StageKind.WORK
LABEL: ContextVar[str] = ContextVar("test_nested_label", default="nobody")


class Watched:
    """A stage that hangs and notes that it was stopped."""

    def __init__(self):
        self.started = asyncio.Event()
        self.stopped = 0

    async def execute(self, ctx):
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.stopped += 1


def nest(pipeline, depth=1, **options):
    """Return a pipeline that runs *pipeline*, through so many levels."""
    for _ in range(depth):

        async def runs(ctx, inner=pipeline):
            results = await inner.run(input_text=ctx.input_text, **options)
            return {"inner": [str(output.status) for output in results.values()]}

        pipeline = Pipeline("outer").with_stage("runs", runs, K)
    return pipeline


# --- the deadline ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("depth", [1, 2, 8])
async def test_a_deadline_is_inherited(depth, sink):
    watched, inner_sink = Watched(), EventRecorder()
    inner = Pipeline("inner").with_stage("hangs", watched, K)
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with leak_check():
        with pytest.raises(RunTimeoutError) as caught:
            await nest(inner, depth, sink=inner_sink).run(timeout=0.03, sink=sink)
    assert 0.029 <= loop.time() - start < 5
    assert caught.value.timeout == pytest.approx(0.03)
    assert watched.stopped == 1
    sink.assert_paired(stages=["runs"], end="cancelled")
    assert inner_sink.types[-1] == "pipeline.cancelled"
    assert inner_sink.of("hangs") == ["started", "cancelled"]


@pytest.mark.asyncio
async def test_a_longer_limit_of_its_own_extends_nothing():
    watched = Watched()
    inner = Pipeline("inner").with_stage("hangs", watched, K)
    with pytest.raises(RunTimeoutError):
        await nest(inner, timeout=60).run(timeout=0.02)
    assert watched.stopped == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("own", [None, 60], ids=["none of its own", "a longer one of its own"])
async def test_a_nested_run_that_its_stage_shields_ends_by_the_inherited_deadline(own):
    watched, inner_sink = Watched(), EventRecorder()
    inner = Pipeline("inner").with_stage("hangs", watched, K)

    async def shields(ctx):
        nested = asyncio.create_task(inner.run(timeout=own, sink=inner_sink))
        try:
            await asyncio.shield(nested)
        finally:
            done, _ = await asyncio.wait([nested], timeout=1)
            nested.cancel()
            await asyncio.wait([nested])
            assert done
            assert isinstance(nested.exception(), RunTimeoutError)

    results = await Pipeline().with_stage("shields", shields, K).run(timeout=0.02, raise_errors=False)
    assert isinstance(results.error, RunTimeoutError)
    assert "shields" not in results, results["shields"].error
    assert inner_sink.data("pipeline.cancelled")["reason"].startswith("the run's limit")
    assert watched.stopped == 1


@pytest.mark.asyncio
async def test_a_shorter_limit_of_its_own_ends_only_the_nested_run(sink):
    watched = Watched()
    inner = Pipeline("inner").with_stage("hangs", watched, K)
    caught = []

    async def runs(ctx):
        try:
            await inner.run(timeout=0.01)
        except RunTimeoutError as error:
            caught.append(error)
        return {"went on": True}

    results = await Pipeline().with_stage("runs", runs, K).run(timeout=30, sink=sink)
    assert results["runs"].data == {"went on": True}
    assert caught[0].timeout == pytest.approx(0.01)
    assert watched.stopped == 1
    sink.assert_paired(stages=["runs"], end="completed")


@pytest.mark.asyncio
async def test_what_is_left_of_the_time_is_what_the_nested_run_gets():
    """The limit counts from the start of the outermost run, not from that of the nested one."""
    seen = []

    async def inner_stage(ctx):
        await asyncio.sleep(60)

    inner = Pipeline("inner").with_stage("a", inner_stage, K)

    async def late(ctx):
        await asyncio.sleep(0.05)
        before = asyncio.get_running_loop().time()
        try:
            await inner.run()
        finally:
            seen.append(asyncio.get_running_loop().time() - before)

    with pytest.raises(RunTimeoutError):
        await Pipeline().with_stage("late", late, K).run(timeout=0.08)
    assert seen[0] < 0.06


@pytest.mark.asyncio
async def test_a_run_that_starts_when_its_time_is_over_starts_nothing():
    inner_sink, started = EventRecorder(), []

    async def inner_stage(ctx):
        started.append(ctx.stage_name)
        await asyncio.sleep(0)
        started.append("went on")

    inner = Pipeline("inner").with_stage("a", inner_stage, K).with_stage("b", inner_stage, K, ["a"])

    async def stubborn(ctx):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await inner.run(sink=inner_sink, raise_errors=False)  # the run is being stopped; its time is over
            raise

    with pytest.raises(RunTimeoutError):
        await Pipeline().with_stage("stubborn", stubborn, K).run(timeout=0.01)
    assert started.count("went on") == 0
    assert inner_sink.types[-1] == "pipeline.cancelled"


@pytest.mark.asyncio
async def test_a_stages_limit_reaches_the_run_that_it_waits_for():
    watched = Watched()
    inner = Pipeline("inner").with_stage("hangs", watched, K)

    async def runs(ctx):
        await inner.run()

    results = await Pipeline().with_stage("runs", runs, K, timeout=0.02).run(raise_errors=False)
    assert isinstance(results.error.original, StageTimeoutError)
    assert watched.stopped == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["task of the stage", "interceptor"])
async def test_runs_that_are_started_elsewhere_within_a_stage_inherit_it_too(where):
    watched = Watched()
    inner = Pipeline("inner").with_stage("hangs", watched, K)

    class Starts(BaseInterceptor):
        name = "starts"

        async def before(self, stage_name, ctx):
            await inner.build(interceptors=[]).run()

    async def runs(ctx):
        if where == "task of the stage":
            async with asyncio.TaskGroup() as group:
                group.create_task(inner.run())

    graph = (
        Pipeline()
        .with_stage("runs", runs, K)
        .build(interceptors=[Starts()] if where == "interceptor" else [])
    )
    with pytest.raises(RunTimeoutError):
        await graph.run(timeout=0.02)
    assert watched.stopped == 1


@pytest.mark.asyncio
async def test_a_run_beside_or_after_another_inherits_nothing():
    async def ok(ctx):
        await asyncio.sleep(0.03)
        return {"ran": True}

    pipeline = Pipeline().with_stage("a", ok, K)
    with pytest.raises(RunTimeoutError):
        await pipeline.run(timeout=0.01)
    assert (await pipeline.run())["a"].status == "ok"
    beside = await asyncio.gather(pipeline.run(timeout=0.01, raise_errors=False), pipeline.run())
    assert isinstance(beside[0].error, RunTimeoutError)
    assert beside[1]["a"].status == "ok"


@pytest.mark.asyncio
async def test_a_cleanup_may_run_a_pipeline_though_the_time_is_over():
    ran = []

    async def inner_stage(ctx):
        await asyncio.sleep(0)
        ran.append(True)

    async def cleanup():
        await Pipeline().with_stage("a", inner_stage, K).run()

    async def hangs(ctx):
        ctx.register_cleanup(cleanup)
        await asyncio.sleep(60)

    with pytest.raises(RunTimeoutError):
        await Pipeline().with_stage("hangs", hangs, K).run(timeout=0.01)
    assert ran == [True]


# --- cancellation ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "stop", ["token", "caller", "sibling fails", "sibling cancels", "fails in the nested run"]
)
@pytest.mark.parametrize("depth", [1, 3])
async def test_whatever_ends_the_outer_run_ends_the_nested_one(stop, depth, sink):
    watched, token, inner_sink = Watched(), CancellationToken(), EventRecorder()

    async def beside(ctx):
        await watched.started.wait()
        if stop == "fails in the nested run":
            raise ValueError

    inner = Pipeline("inner").with_stage("hangs", watched, K).with_stage("beside", beside, K)

    async def sibling(ctx):
        await watched.started.wait()
        if stop == "token":
            token.cancel("enough")
        elif stop == "caller":
            run.cancel()
        elif stop == "sibling fails":
            raise ValueError
        elif stop == "sibling cancels":
            return StageOutput.cancel("enough")
        return None

    outer = nest(inner, depth, sink=inner_sink).with_stage("sibling", sibling, K)
    async with leak_check():
        run = asyncio.create_task(outer.run(sink=sink, cancel_token=token))
        await asyncio.wait([run], timeout=5)
        assert run.done()
        error = (
            asyncio.CancelledError
            if stop == "caller"
            else StageExecutionError
            if "fail" in stop
            else PipelineCancelled
        )
        with pytest.raises(error):
            await run
    assert watched.stopped == 1
    assert inner_sink.types[-1] == (
        "pipeline.failed" if stop == "fails in the nested run" else "pipeline.cancelled"
    )
    assert inner_sink.of("hangs") == ["started", "cancelled"]
    sink.assert_paired(stages=["runs", "sibling"])


@pytest.mark.asyncio
async def test_many_nested_runs_at_once_all_end():
    watched, token = [Watched() for _ in range(10)], CancellationToken()
    sinks = [EventRecorder() for _ in watched]

    async def runs(ctx):
        await asyncio.gather(
            *(
                Pipeline("inner").with_stage("hangs", one, K).run(sink=sink)
                for one, sink in zip(watched, sinks, strict=True)
            )
        )

    async with leak_check():
        run = asyncio.create_task(Pipeline().with_stage("runs", runs, K).run(cancel_token=token))
        await asyncio.gather(*(one.started.wait() for one in watched))
        token.cancel("enough")
        with pytest.raises(PipelineCancelled):
            await run
    assert [one.stopped for one in watched] == [1] * 10
    assert all(sink.types[-1] == "pipeline.cancelled" for sink in sinks)


@pytest.mark.asyncio
async def test_a_nested_run_that_is_cancelled_does_not_cancel_the_outer_one(sink):
    token = CancellationToken()

    async def inner_stage(ctx):
        token.cancel("only here")
        await asyncio.sleep(60)

    async def runs(ctx):
        results = (
            await Pipeline("inner")
            .with_stage("a", inner_stage, K)
            .run(cancel_token=token, raise_errors=False)
        )
        assert not ctx.is_cancelled
        return {"inner": results.error.reason}

    async def after(ctx):
        await asyncio.sleep(0)

    results = (
        await Pipeline().with_stage("runs", runs, K).with_stage("after", after, K, ["runs"]).run(sink=sink)
    )
    assert results["runs"].data == {"inner": "only here"}
    sink.assert_paired(stages=["runs", "after"], end="completed")


@pytest.mark.asyncio
@pytest.mark.parametrize("depth", [1, 3])
async def test_long_work_in_a_nested_run_that_never_awaits_can_look(depth, sink):
    """Cancellation travels in the context: a nested stage sees that a run above it is being stopped."""
    token, seen = CancellationToken(), []

    async def busy(ctx):
        seen.append(ctx.is_cancelled)
        token.cancel("enough")
        seen.append(ctx.is_cancelled)
        ctx.raise_if_cancelled()
        seen.append("went on")

    outer = nest(Pipeline("inner").with_stage("busy", busy, K), depth)
    with pytest.raises(PipelineCancelled):
        await outer.run(cancel_token=token, sink=sink)
    assert seen == [False, True]
    sink.assert_paired(stages=["runs"], end="cancelled")


@pytest.mark.asyncio
async def test_a_nested_run_that_fails_fails_its_stage_and_says_where(sink):
    async def fails(ctx):
        raise ValueError("deep down")

    with pytest.raises(StageExecutionError) as caught:
        await nest(Pipeline("inner").with_stage("fails", fails, K), 3).run(sink=sink)
    error = caught.value
    for _ in range(3):
        assert error.stage == "runs"
        error = error.original
    assert error.stage == "fails"
    assert "deep down" in str(caught.value)
    sink.assert_paired(stages=["runs"], end="failed")


@pytest.mark.asyncio
async def test_best_effort_within_fail_fast():
    async def fails(ctx):
        raise ValueError

    async def ok(ctx):
        return {"ran": True}

    inner = Pipeline("inner").with_stage("fails", fails, K).with_stage("ok", ok, K)
    graph = inner.build(failure_mode=FailureMode.BEST_EFFORT)

    async def runs(ctx):
        results = await graph.run()
        return {"inner": [str(output.status) for output in results.values()]}

    results = await Pipeline().with_stage("runs", runs, K).run()
    assert results["runs"].data == {"inner": ["fail", "ok"]}


# --- context variables --------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_variables_travel_down_and_not_up():
    seen = []

    async def inner_stage(ctx):
        seen.append((ctx.stage_name, LABEL.get()))
        LABEL.set(f"inner {ctx.stage_name}")
        await asyncio.sleep(0)

    inner = Pipeline("inner").with_stage("a", inner_stage, K).with_stage("b", inner_stage, K, ["a"])

    async def outer_stage(ctx):
        LABEL.set(ctx.stage_name)
        await inner.run()
        seen.append(("after", LABEL.get()))

    LABEL.set("caller")
    await Pipeline().with_stage("one", outer_stage, K).with_stage("two", outer_stage, K, ["one"]).run()
    assert seen == [
        ("a", "one"),
        ("b", "one"),
        ("after", "one"),
        ("a", "two"),
        ("b", "two"),
        ("after", "two"),
    ]
    assert LABEL.get() == "caller"


@pytest.mark.asyncio
async def test_nested_runs_beside_each_other_keep_their_variables():
    async def inner_stage(ctx):
        first = LABEL.get()
        for _ in range(3):
            await asyncio.sleep(0)
        assert LABEL.get() == first
        LABEL.set("inner")
        return {"seen": first}

    inner = Pipeline("inner").with_stage("a", inner_stage, K).with_stage("b", inner_stage, K).build()

    async def outer_stage(ctx):
        LABEL.set(ctx.stage_name)
        results = await inner.run()
        return {"seen": [output.data["seen"] for output in results.values()]}

    outer = Pipeline()
    for number in range(20):
        outer = outer.with_stage(f"s{number}", outer_stage, K)
    results = await outer.run()
    assert {name: output.data["seen"] for name, output in results.items()} == {
        f"s{number}": [f"s{number}"] * 2 for number in range(20)
    }


@pytest.mark.asyncio
async def test_a_nested_run_has_ids_and_results_of_its_own():
    ids = []

    async def inner_stage(ctx):
        ids.append(ctx.pipeline_run_id)
        return {"depth": "inner"}

    async def runs(ctx):
        ids.append(ctx.pipeline_run_id)
        results = await Pipeline("inner").with_stage("same name", inner_stage, K).run()
        ids.append(results.run_id)
        return {"depth": "outer"}

    results = await Pipeline().with_stage("same name", runs, K).run()
    assert results["same name"].data == {"depth": "outer"}
    assert ids[1] == ids[2] != ids[0] == results.run_id
