"""Cancellation tokens, cleanup callbacks and checkpoints, as 0.9 (and 1.x) documented them."""

from __future__ import annotations

import asyncio

import pytest
from stageflow import (
    CancellationToken,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    StageContext,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
)
from stageflow.errors import RunTimeoutError
from stageflow.pipeline.cancellation import CleanupRegistry
from stageflow.testing import (
    EventRecorder,
    FailingStage,
    HangingStage,
    ScriptedStage,
    create_test_pipeline_context,
    leak_check,
    run_virtual,
)

WORK = StageKind.WORK


class Connections:
    """The connections of an application: opened by a stage, given back by a cleanup callback."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def stage(self, end: object):
        async def body(ctx: StageContext) -> StageOutput:
            async def give_back() -> None:
                self.log.append("given back")

            async def close_file() -> None:
                await asyncio.sleep(0.1)
                self.log.append("closed")

            ctx.register_cleanup(give_back, name="give back the connection")
            ctx.register_cleanup(close_file)
            self.log.append("opened")
            if end == "hang":
                await asyncio.sleep(3600)
            if isinstance(end, Exception):
                raise end
            return end

        return body


def graph(body: object) -> StageGraph:
    return (
        Pipeline("cleaning")
        .with_stage("first", ScriptedStage({"n": 1}), WORK)
        .with_stage("body", body, WORK, dependencies=("first",))
        .with_stage("after", ScriptedStage(), WORK, dependencies=("body",))
        .build()
    )


# --- the token ----------------------------------------------------------------------------------------------


def test_a_token_stops_the_run_at_once():
    # Findings A1.12: in 0.9 the token was looked at only when some stage ended.
    sink = EventRecorder()
    connections = Connections()

    async def program():
        token = CancellationToken()
        asyncio.get_running_loop().call_later(1, token.cancel, "the user closed the page")
        async with leak_check():
            with pytest.raises(PipelineCancelled) as caught:
                await graph(connections.stage("hang")).run(
                    create_test_pipeline_context(event_sink=sink), cancel_token=token
                )
        return caught.value, asyncio.get_running_loop().time()

    error, when = run_virtual(program())
    assert (error.stage, error.reason) == ("<external>", "the user closed the page")
    assert {name: dict(output.data) for name, output in error.results.items()} == {"first": {"n": 1}}
    assert when == pytest.approx(1.1, abs=0.1)
    assert connections.log == ["opened", "closed", "given back"]
    sink.assert_paired(stages=["first", "body", "after"], end="cancelled")
    assert sink.of("body") == ["started", "cancelled"]
    assert sink.data("stage.after.skipped")["reason"] == "run_stopped"
    end = sink.data("pipeline.cancelled")
    assert (end["reason"], end["cancelled_by"]) == ("the user closed the page", "<external>")


def test_a_token_by_hand():
    heard: list[str] = []
    token = CancellationToken()
    assert (token.is_cancelled, token.reason) == (False, None)
    token.on_cancel(heard.append)
    undo = token.on_cancel(lambda reason: heard.append(f"never {reason}"))
    undo()
    token.cancel("first")
    token.cancel("second")
    assert (token.is_cancelled, token.reason) == (True, "first")
    token.on_cancel(lambda reason: heard.append(f"late {reason}"))
    assert heard == ["first", "late first"]
    other = CancellationToken()
    other.cancel()
    assert other.reason == "Cancellation requested"


def test_one_token_for_many_runs_and_runs_without_it_go_on():
    # Findings A1.11: tokens were on the graph, so concurrent runs mixed.
    async def program():
        token = CancellationToken()
        built = Pipeline().with_stage("waits", lambda_stage(2), WORK).build()
        asyncio.get_running_loop().call_later(1, token.cancel, "both")
        return await asyncio.gather(
            built.run(cancel_token=token), built.run(cancel_token=token), built.run(), return_exceptions=True
        )

    first, second, third = run_virtual(program())
    assert (first.reason, second.reason) == ("both", "both")
    assert third["waits"].data == {"waited": 2}


def lambda_stage(seconds: float):
    async def body(ctx: StageContext) -> StageOutput:
        await asyncio.sleep(seconds)
        return StageOutput.ok(waited=seconds)

    return body


# --- cleanup ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "raised"),
    [
        (StageOutput.ok(), None),
        (StageOutput.skip("no"), None),
        (StageOutput.fail("no"), StageExecutionError),
        (ValueError("no"), StageExecutionError),
        (StageOutput.cancel("no"), PipelineCancelled),
        ("hang", RunTimeoutError),
    ],
    ids=["ok", "skip", "fail", "exception", "cancel", "deadline"],
)
def test_cleanup_runs_last_in_first_out_however_the_run_ends(end, raised):
    connections = Connections()

    async def program():
        async with leak_check():
            run = graph(connections.stage(end)).run(create_test_pipeline_context(), timeout=5)
            if raised is None:
                await run
            else:
                with pytest.raises(raised):
                    await run

    run_virtual(program())
    assert connections.log == ["opened", "closed", "given back"]


def test_cleanup_callbacks_of_two_runs_do_not_mix():
    # Findings A1.11.
    log: list[str] = []

    async def body(ctx: StageContext) -> None:
        text = ctx.snapshot.input_text

        async def clean() -> None:
            log.append(f"cleaned {text}")

        ctx.register_cleanup(clean)
        await asyncio.sleep(2 if text == "slow" else 1)
        log.append(f"done {text}")

    built = Pipeline().with_stage("body", body, WORK).build()

    async def program():
        await asyncio.gather(
            *(built.run(create_test_pipeline_context(input_text=text)) for text in ("slow", "quick"))
        )

    run_virtual(program())
    assert log == ["done quick", "cleaned quick", "done slow", "cleaned slow"]


def test_a_callback_that_fails_keeps_no_other_from_running(caplog):
    log: list[str] = []
    sink = EventRecorder()

    async def body(ctx: StageContext) -> None:
        async def good() -> None:
            log.append("good")

        async def bad() -> None:
            raise OSError("no such socket")

        async def endless() -> None:
            await asyncio.sleep(3600)

        ctx.register_cleanup(good)
        ctx.register_cleanup(bad, name="bad")
        ctx.register_cleanup(endless, name="endless")

    run_virtual(
        Pipeline()
        .with_stage("body", body, WORK)
        .build(cleanup_timeout=3)
        .run(create_test_pipeline_context(event_sink=sink))
    )
    assert log == ["good"]
    failed = [event.data for event in sink.events if event.type == "cleanup.failed"]
    assert [data["cleanup"] for data in failed] == ["endless", "bad"]
    assert "no such socket" in failed[1]["error"]
    assert sink.types[-1] == "pipeline.completed"
    assert caplog.records


def test_a_cleanup_registry_by_hand():
    log: list[str] = []

    def callback(name: str):
        async def clean() -> None:
            if name == "bad":
                raise OSError("no")
            log.append(name)

        return clean

    async def program():
        registry = CleanupRegistry()
        one, bad, gone = callback("one"), callback("bad"), callback("gone")
        registry.register(one, name="one")
        registry.register(bad, name="bad")
        registry.register(gone, name="gone")
        assert registry.pending_count == 3
        assert registry.unregister(gone) is True
        assert registry.unregister(gone) is False
        names, failures = await registry.run_all(timeout=10)
        assert registry.pending_count == 0
        return names, failures

    names, failures = run_virtual(program())
    assert log == ["one"]
    assert "one" in names
    ((name, error),) = failures
    assert (name, type(error)) == ("bad", OSError)


# --- deadlines, checkpoints ---------------------------------------------------------------------------------


def test_a_deadline_of_the_run():
    sink = EventRecorder()

    async def program():
        with pytest.raises(TimeoutError) as caught:
            await graph(HangingStage()).run(create_test_pipeline_context(event_sink=sink), timeout=5)
        return caught.value

    error = run_virtual(program())
    assert isinstance(error, PipelineCancelled)
    assert error.code == "SF-RUN-TIMEOUT"
    assert list(error.results) == ["first"]
    sink.assert_paired(stages=["first", "body", "after"], end="cancelled")


def test_checkpoints_of_1_x():
    reached: list[int] = []

    async def program():
        token = CancellationToken()

        async def counts(ctx: StageContext) -> None:
            for number in range(100):
                assert not ctx.is_cancelled
                if number == 3:
                    token.cancel("three is enough")
                await ctx.cancellation_checkpoint()
                reached.append(number)

        with pytest.raises(PipelineCancelled) as caught:
            await graph(counts).run(create_test_pipeline_context(), cancel_token=token)
        return caught.value.reason

    assert run_virtual(program()) == "three is enough"
    assert reached == [0, 1, 2]


def test_raise_if_cancelled_of_1_x():
    reached: list[str] = []

    async def program():
        context = create_test_pipeline_context()

        async def works(ctx: StageContext) -> None:
            ctx.raise_if_cancelled()
            reached.append("before")
            context.mark_canceled()
            ctx.raise_if_cancelled()
            reached.append("after")

        with pytest.raises(PipelineCancelled):
            await graph(works).run(context)

    run_virtual(program())
    assert reached == ["before"]


def test_a_context_that_was_cancelled_before_starts_nothing():
    async def program():
        context = PipelineContext(canceled=True)
        stage = ScriptedStage()
        with pytest.raises(PipelineCancelled):
            await Pipeline().with_stage("a", stage, WORK).build().run(context)
        return stage.calls

    assert run_virtual(program()) == []


def test_a_failure_while_a_sibling_ignores_its_cancellation():
    """A stage that swallows the cancellation and ends on its own is awaited, and what it did counts."""

    async def stubborn(ctx: StageContext) -> StageOutput:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return StageOutput.ok(done=True)

    async def fails(ctx: StageContext) -> None:
        await asyncio.sleep(1)
        raise ValueError("no")

    pipeline = Pipeline().with_stage("stubborn", stubborn, WORK).with_stage("fails", fails, WORK)

    async def program():
        async with leak_check():
            with pytest.raises(StageExecutionError) as caught:
                await pipeline.build().run(create_test_pipeline_context())
            return caught.value

    error = run_virtual(program())
    assert error.stage == "fails"
    assert error.results["stubborn"].data == {"done": True}


def test_failing_stages_do_not_hide_each_other():
    async def program():
        pipeline = (
            Pipeline()
            .with_stage("a", FailingStage(ValueError("a")), WORK)
            .with_stage("b", FailingStage(ValueError("b")), WORK)
        )
        return await pipeline.build().run(create_test_pipeline_context(), raise_errors=False)

    results = run_virtual(program())
    assert results.error.stage in {"a", "b"}
