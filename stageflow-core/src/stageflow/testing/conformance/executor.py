"""``ExecutorConformance``: what every executor promises, as tests."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

import pytest

from stageflow.context import ContextSnapshot, RunIdentity
from stageflow.errors import PipelineCancelled, RunTimeoutError, StageExecutionError, StageTimeoutError
from stageflow.executors.inline import InlineExecutor
from stageflow.interceptors.tracing import TracingInterceptor
from stageflow.observability import TraceContext
from stageflow.observability.correlation import clear_correlation_id, set_correlation_id
from stageflow.pipeline.builder import Pipeline
from stageflow.runtime.cancellation import CancellationToken
from stageflow.runtime.failure import FailureMode
from stageflow.runtime.recording import Recording
from stageflow.stages.context import StageContext
from stageflow.stages.effect import Effect
from stageflow.stages.inputs import StageInputs
from stageflow.stages.retry import RetryPolicy
from stageflow.stages.stage import StageKind
from stageflow.stages.timer import PipelineTimer
from stageflow.testing.cancelling import CancelAt
from stageflow.testing.conformance import executor_bodies as bodies
from stageflow.testing.conformance.leftovers import Holdings
from stageflow.testing.conformance.suite import Suite, close
from stageflow.testing.leaks import leak_check
from stageflow.testing.mocks import RecordingProviderCallLogger
from stageflow.testing.recorder import EventRecorder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

    from stageflow.events import RunEvent
    from stageflow.protocols import Executor
    from stageflow.testing.cancelling import Moment

__all__ = ["ExecutorConformance"]

_WORK: Final = StageKind.WORK
_LARGE: Final = 5_000_000
_OWN: Final = ("timestamp", "sequence", "trace_id", "_ns", "_ms")
"""How the names of those fields of events end that no two runs have in common."""


class ExecutorConformance(Suite):
    """Derive from it in a test module, say how the executor is made, and inherit the tests.

    What a stage does there must look as it does on the run's own event loop: each test runs the same pipeline in both
    places, or states a promise of the ``Executor`` protocol.

    Attributes:
        isolated: Whether bodies run in another process.
        blocks_loop: Whether a body that blocks holds up the event loop of the run.
        ends_blocked: Whether a body that blocks, and never awaits, is ended when it is cancelled.

    ```python
    from stageflow.executors import ThreadExecutor
    from stageflow.testing.conformance import ExecutorConformance


    class TestThreads(ExecutorConformance):
        def make_executor(self):
            return ThreadExecutor(4)
    ```
    """

    contract: ClassVar[str] = "executor"
    isolated: ClassVar[bool] = False
    blocks_loop: ClassVar[bool] = False
    ends_blocked: ClassVar[bool] = False

    def make_executor(self) -> Executor:
        """Return a new executor that runs at least two bodies at once. If it has ``aclose``, the tests call that."""
        raise NotImplementedError

    # --- outcomes ---------------------------------------------------------------------------------------

    @pytest.mark.asyncio
    @pytest.mark.parametrize("output", bodies.OUTPUTS)
    async def test_results_are_the_same(self, output: str) -> None:
        """Whatever a stage returns, the run ends as it would have without the executor."""
        seen = await self._alike(bodies.answer, data={"output": output})
        assert seen["results"] or output == "fail"

    @pytest.mark.asyncio
    async def test_events_and_artifacts_of_an_output_come_along(self) -> None:
        """What an output brings beside its data is handed on."""
        seen = await self._alike(bodies.give_artifacts)
        assert [event for event in seen["events"] if event[0] == "made"]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("error", bodies.ERRORS)
    async def test_errors_are_the_same(self, error: str) -> None:
        """Type, arguments, attributes and notes of an exception arrive."""
        seen = await self._alike(bodies.fail, data={"error": error})
        assert seen["error"][0] is type(bodies.ERRORS[error]())

    @pytest.mark.asyncio
    async def test_what_is_no_coroutine_is_the_same_error(self) -> None:
        """A body that returns something else than an awaitable raises ``TypeError``."""
        async with self._made() as executor:
            with pytest.raises(TypeError, match="await"):
                await executor.execute(bodies.no_awaitable, _context())

    @pytest.mark.asyncio
    async def test_an_object_is_a_stage(self) -> None:
        """A stage that is an object runs with what it holds."""
        seen = await self._alike(bodies.Multiplier(3))
        assert seen["results"]["stage"]["data"] == {"product": 9}

    @pytest.mark.asyncio
    @pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
    async def test_what_ends_programs_arrives(self, raised: type[BaseException]) -> None:
        """``SystemExit`` and ``KeyboardInterrupt`` of a body reach the caller, and break nothing else."""
        body = bodies.exit_process if raised is SystemExit else bodies.interrupt
        async with self._made() as executor:
            for _ in range(2):
                with pytest.raises(raised) as caught:
                    await _pipeline(body, executor).run()
                if raised is SystemExit:
                    assert caught.value.args == (3,)
            assert (await _pipeline(bodies.echo, executor).run(input_text="on"))["stage"].data["text"] == "on"

    # --- what the context knows -------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_a_context_says_the_same(self) -> None:
        """Snapshot, ids, data, inputs, attempt, pipeline, stage: all of it is there."""
        context = _snapshot(7, "naïve 文字")

        def build(executor: Executor | None) -> Pipeline:
            pipeline = Pipeline("facts").with_stage("before", bodies.echo, StageKind.ENRICH)
            return pipeline.with_stage("stage", bodies.who, StageKind.GUARD, ["before"], executor=executor)

        seen: list[dict[str, Any]] = []
        async with self._made() as executor:
            for place in (None, executor):
                results = await build(place).run(context, data={"plan": {"tier": ["pro"]}})
                said = dict(results["stage"].data)
                said.pop("started_at")
                seen.append(said)
        assert seen[0] == seen[1]
        assert seen[1]["data"] == {"plan": {"tier": ["pro"]}}
        assert seen[1]["inputs"]["before"]["org"] == str(UUID(int=1007))

    @pytest.mark.asyncio
    async def test_trace_and_correlation_cross_over(self) -> None:
        """A body is in the trace of its run, one step below it, and knows the correlation id."""
        incoming = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        set_correlation_id(UUID(int=42))
        try:
            async with self._made() as executor:
                graph = _pipeline(bodies.where, executor).build(interceptors=[TracingInterceptor()])
                with TraceContext.from_headers(incoming).activate():
                    data = (await graph.run())["stage"].data
        finally:
            clear_correlation_id()
        assert data["correlation_id"] == str(UUID(int=42))
        assert data["trace"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert data["trace"]["parent_span_id"] == "b7ad6b7169203331"

    @pytest.mark.asyncio
    async def test_fifty_runs_at_once_keep_apart(self) -> None:
        """Each of fifty runs finds its own user, tenant and text."""
        async with self._made() as executor:
            graph = _pipeline(bodies.echo, executor).build()
            runs = [graph.run(_snapshot(number, f"text {number}")) for number in range(50)]
            found = [dict(results["stage"].data) for results in await asyncio.gather(*runs)]
        assert found == [
            {"text": f"text {number}", "user": str(UUID(int=number)), "org": str(UUID(int=1000 + number))}
            for number in range(50)
        ]

    @pytest.mark.asyncio
    async def test_large_values_pass(self) -> None:
        """Five megabytes go there, and ten come back, through three stages."""
        text = "x" * _LARGE
        async with self._made() as executor:
            pipeline = (
                Pipeline()
                .with_stage("one", bodies.grow, _WORK, executor=executor)
                .with_stage("two", bodies.grow, _WORK, executor=executor)
                .with_stage("sizes", bodies.measure, _WORK, ["one", "two"], executor=executor)
            )
            results = await pipeline.run(input_text=text)
        assert results["one"].data["text"] == text
        assert results["sizes"].data == {"one": _LARGE, "two": _LARGE}

    # --- what a context does ----------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_events_come_in_order(self) -> None:
        """Events come as they would have, before the one that says that the stage has ended."""
        seen = await self._alike(bodies.tell)
        assert [data["number"] for kind, data in seen["events"] if kind == "told"] == list(range(20))

    @pytest.mark.asyncio
    async def test_threads_of_a_body_may_emit(self) -> None:
        """An event that comes from a thread of the body's own arrives."""
        if self.blocks_loop:
            pytest.skip("the body is where the run is")
        seen = await self._alike(bodies.block_beside)
        assert "beside" in [kind for kind, _ in seen["events"]]

    @pytest.mark.asyncio
    async def test_cleanup_callbacks_run_where_they_belong(self) -> None:
        """They run when the run ends, the last first, in the process of the body; a failure is told."""
        seen = await self._alike(bodies.clean_up)
        assert [data["what"] for kind, data in seen["events"] if kind == "cleaned"] == ["last", "first"]
        assert all(data["same"] for kind, data in seen["events"] if kind == "cleaned")
        assert "cleanup.failed" in [kind for kind, _ in seen["events"]]

    @pytest.mark.asyncio
    async def test_provider_calls_are_told_to_the_logger(self) -> None:
        """The run's logger of provider calls hears of calls that are made elsewhere."""
        logger = RecordingProviderCallLogger()
        async with self._made() as executor:
            graph = _pipeline(bodies.ask_provider, executor).build(
                recording=Recording(provider_call_logger=logger)
            )
            await graph.run()
        assert len(logger.calls) == 2  # noqa: PLR2004 - its start and its end
        assert logger.calls[-1].arguments["tokens"] == 3  # noqa: PLR2004 - see the body

    @pytest.mark.asyncio
    @pytest.mark.parametrize("output", ["ok", "fail"])
    async def test_gates_hold_a_body_that_asks(self, output: str) -> None:
        """``ctx.gate()`` waits for the gates of the run; a closed one skips the stage."""

        def build(executor: Executor | None) -> Pipeline:
            return (
                Pipeline("gated")
                .with_stage("check", bodies.answer, StageKind.GUARD, gates_effects=True)
                .with_stage("stage", bodies.act, StageKind.AGENT, executor=executor)
            )

        # In a run that goes on: in another one, the end of the run and the closed gate race for the stage.
        how = {"failure_mode": FailureMode.CONTINUE_ON_FAILURE, "data": {"output": output}}
        seen = await self._alike_of(build, **how)
        assert ("acted" in [kind for kind, _ in seen["events"]]) == (output == "ok")

    @pytest.mark.asyncio
    async def test_undo_receipts_are_left(self) -> None:
        """A receipt is on record before the stage has ended."""

        def build(executor: Executor | None) -> Pipeline:
            return Pipeline("undo").with_stage(
                "stage", bodies.leave_receipt, _WORK, executor=executor, effect=Effect.REVERSIBLE
            )

        seen = await self._alike_of(build)
        assert "effect.receipt" in [kind for kind, _ in seen["events"]]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("breaks", [False, True], ids=["ends", "breaks"])
    @pytest.mark.parametrize("there", ["publisher", "reader", "both"])
    @pytest.mark.parametrize("read", [bodies.read, bodies.read_first], ids=["all", "first"])
    async def test_streams_cross_over(self, there: str, read: Any, *, breaks: bool) -> None:
        """Chunks pass in order and with back-pressure, whoever of both is elsewhere."""
        publisher = there in {"publisher", "both"}
        reader = there in {"reader", "both"}

        def build(executor: Executor | None) -> Pipeline:
            return _streaming(
                bodies.publish, read, executor if publisher else None, executor if reader else None
            )

        expected = await _seen(build(None), data={"chunks": 5, "breaks": breaks})
        async with self._made() as executor:
            seen = await _seen(build(executor), data={"chunks": 5, "breaks": breaks})
        assert seen["error"] == expected["error"]
        for stage in expected["results"] if read is bodies.read else ():
            assert seen["results"][stage] == expected["results"][stage]

    @pytest.mark.asyncio
    async def test_no_chunk_is_lost_by_a_cancelled_wait(self) -> None:
        """A reader that is cancelled while it waits, and goes on, gets every chunk once."""
        async with self._made() as executor:
            pipeline = _streaming(bodies.publish, bodies.read_impatiently, None, executor)
            results = await pipeline.run(data={"chunks": 40})
        numbers = [chunk["number"] for chunk in results["reader"].data["chunks"]]
        assert numbers == list(range(40))

    @pytest.mark.asyncio
    async def test_a_stream_that_is_not_declared_is_the_same_error(self) -> None:
        """Whoever reads it hears of it at once."""
        seen = await self._alike(bodies.read_undeclared)
        assert seen["error"] is not None

    @pytest.mark.asyncio
    async def test_a_blocked_publisher_is_ended(self) -> None:
        """A stage that waits for room in a channel is ended with its run."""
        token = CancellationToken()
        events = EventRecorder(lambda event: token.cancel("enough") if event.type == "begun" else None)
        async with self._made() as executor:
            pipeline = _streaming(bodies.publish_for_ever, bodies.announce, executor, None)
            with pytest.raises(PipelineCancelled):
                await pipeline.run(sink=events, cancel_token=token)
        events.assert_paired(end="cancelled")

    @pytest.mark.asyncio
    async def test_attempts_are_counted(self) -> None:
        """A stage that fails is attempted again, by the rules of the run."""
        policy = RetryPolicy(3, base_delay=0)

        def build(executor: Executor | None) -> Pipeline:
            return Pipeline("flaky").with_stage(
                "stage", bodies.flaky, StageKind.ENRICH, executor=executor, retry=policy
            )

        seen = await self._alike_of(build)
        assert seen["results"]["stage"]["data"] == {"attempt": 3}

    # --- time limits and cancellation -------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_a_limit_ends_the_body(self) -> None:
        """A stage over its limit is cancelled there, and has cleaned up when the run ends."""
        events = EventRecorder()
        async with self._made() as executor:
            await _pipeline(bodies.echo, executor).run()  # whatever has to be started is
            pipeline = Pipeline().with_stage("stage", bodies.announce, _WORK, executor=executor, timeout=0.2)
            with pytest.raises(StageExecutionError) as caught:
                await pipeline.run(sink=events)
            assert isinstance(caught.value.original, StageTimeoutError)
        events.assert_order("begun", "heard", "cleaned", "stage.stage.failed")

    @pytest.mark.asyncio
    async def test_a_deadline_ends_the_body(self) -> None:
        """So it is with the limit of the run."""
        events = EventRecorder()
        async with self._made() as executor:
            await _pipeline(bodies.echo, executor).run()
            with pytest.raises(RunTimeoutError):
                await _pipeline(bodies.announce, executor).run(sink=events, timeout=0.2)
        events.assert_order("begun", "heard", "cleaned", "stage.stage.cancelled", "pipeline.cancelled")

    @pytest.mark.asyncio
    async def test_what_is_cancelled_before_it_begins_never_does(self) -> None:
        """A call that is cancelled at once runs nothing."""
        events = EventRecorder()
        async with self._made() as executor:
            task = asyncio.ensure_future(executor.execute(bodies.announce, _context(events)))
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert await executor.execute(bodies.process_id, _context())
        assert events.types == []

    @pytest.mark.asyncio
    @pytest.mark.parametrize("stop", range(5))
    async def test_a_cancel_at_every_step(self, stop: int) -> None:
        """A cancel at any of its awaits ends the body there, and nothing follows."""
        token = CancellationToken()

        def act(event: RunEvent) -> None:
            if event.type == "step" and event.data["number"] == stop:
                token.cancel("the step has come")

        events = EventRecorder(act)
        async with self._made() as executor:
            with pytest.raises(PipelineCancelled):
                await _pipeline(bodies.step_by_step, executor).run(
                    sink=events, cancel_token=token, data={"stop": stop}
                )
        steps = [event.data["number"] for event in events if event.type == "step"]
        assert steps == list(range(stop + 1))
        events.assert_order("step", "left", "stage.stage.cancelled", "pipeline.cancelled")
        events.assert_paired(stages=["stage"], end="cancelled")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("moment", ["before", "after"])
    async def test_a_cancel_at_every_await_of_the_call(self, moment: Moment) -> None:
        """Wherever the call itself waits, a cancel there ends it, and the executor goes on."""
        async with self._made() as executor:
            number, fired = 0, True
            while fired:
                number += 1
                cancel = CancelAt(number, moment=moment)
                ctx = _context(data={"stop": -1})
                async with leak_check():
                    with suppress(asyncio.CancelledError):
                        await cancel(executor.execute(bodies.step_by_step, ctx))
                fired = cancel.fired
                assert await executor.execute(bodies.echo, _context())
            assert number > 1

    @pytest.mark.asyncio
    async def test_a_body_may_outlive_its_cancellation(self) -> None:
        """What a body returns after it was cancelled is what the call returns; what it raises, it raises."""
        async with self._made() as executor:
            task, _ = await _begun(executor, bodies.outlive)
            task.cancel()
            assert await task == {"outlived": True}
            task, _ = await _begun(executor, bodies.confess)
            task.cancel()
            with pytest.raises(ValueError, match="could not roll back"):
                await task

    @pytest.mark.asyncio
    async def test_a_cancelled_call_ends_after_its_body(self) -> None:
        """When the call has ended, the body has, with all that it does about it."""
        async with self._made() as executor:
            task, events = await _begun(executor, bodies.announce)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert events.types == ["begun", "heard", "cleaned"]

    @pytest.mark.asyncio
    async def test_a_blocked_body_is_cancelled(self, tmp_path: Path) -> None:
        """It is ended if the executor can do that; otherwise its end is waited for."""
        if self.blocks_loop:
            pytest.skip("nobody could cancel it")
        until = tmp_path / "go on"
        async with self._made() as executor:
            task, events = await _begun(executor, bodies.block, {"until": str(until)})
            task.cancel()
            if not self.ends_blocked:
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not task.done()
                until.touch()
            with pytest.raises(asyncio.CancelledError):
                await task
            if self.isolated and self.ends_blocked:
                assert not _alive(events.data("begun")["pid"])
            assert await executor.execute(bodies.process_id, _context())

    @pytest.mark.asyncio
    @pytest.mark.parametrize("body", [bodies.block, bodies.hold], ids=["sleeping", "working"])
    async def test_a_blocked_body_holds_up_nobody(self, body: Any, tmp_path: Path) -> None:
        """The event loop turns while a body blocks: it is the loop that lets the body go on."""
        if self.blocks_loop:
            pytest.skip("it does")
        until = tmp_path / "go on"
        async with self._made() as executor:
            task, _ = await _begun(executor, body, {"until": str(until)})
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not task.done()
            until.touch()
            assert await task

    @pytest.mark.asyncio
    async def test_a_blocked_body_may_ask(self) -> None:
        """``ctx.raise_if_cancelled()`` tells a body that never awaits."""
        if self.blocks_loop:
            pytest.skip("nobody could cancel it")
        token = CancellationToken()
        events = EventRecorder(lambda event: token.cancel("enough") if event.type == "begun" else None)
        async with self._made() as executor:
            with pytest.raises(PipelineCancelled) as caught:
                await _pipeline(bodies.asks_when_blocked, executor).run(sink=events, cancel_token=token)
            assert caught.value.reason == "enough"
        events.assert_order("begun", "told", "stage.stage.cancelled")
        events.assert_paired(stages=["stage"], end="cancelled")

    # --- what is left -----------------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_nothing_is_left_running(self) -> None:
        """After ``aclose``, there are as many Tasks, threads, processes and descriptors as before."""
        before = Holdings.now()
        async with leak_check():
            async with self._made() as executor:
                await asyncio.gather(*(_pipeline(bodies.echo, executor).run() for _ in range(4)))
                task, _ = await _begun(executor, bodies.announce)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await _pipeline(bodies.forget, executor).run()
            await bodies.remember()
        assert not Holdings.now().beyond(before)

    @pytest.mark.asyncio
    async def test_it_may_be_used_again_after_it_was_closed(self) -> None:
        """Closing ends what was started; whoever uses it later starts it anew. To close twice does no harm."""
        executor = self.make_executor()
        await close(executor)
        for text in ("one", "two"):
            results = await _pipeline(bodies.echo, executor).run(input_text=text)
            assert results["stage"].data["text"] == text
            await close(executor)
            await close(executor)

    @pytest.mark.asyncio
    async def test_closing_waits_for_what_runs(self, tmp_path: Path) -> None:
        """A body that runs comes to its end, also if whoever closes is cancelled meanwhile."""
        if self.blocks_loop:
            pytest.skip("nothing runs while somebody closes")
        until = tmp_path / "go on"
        executor = self.make_executor()
        task, _ = await _begun(executor, bodies.block, {"until": str(until)})
        closing = asyncio.ensure_future(close(executor))
        for _ in range(100):
            await asyncio.sleep(0)
        closing.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        assert not closing.done()
        until.touch()
        assert await task == {"blocked": True}
        with pytest.raises(asyncio.CancelledError):
            await closing

    def test_it_serves_one_event_loop_after_another(self) -> None:
        """An executor belongs to no event loop."""
        executor = self.make_executor()

        async def once(text: str) -> Mapping[str, Any]:
            results = await _pipeline(bodies.echo, executor).run(input_text=text)
            return results["stage"].data

        for text in ("one", "two", "three"):
            assert asyncio.run(once(text))["text"] == text
        asyncio.run(close(executor))

    # --- how it is proved -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _made(self) -> AsyncGenerator[Executor]:
        executor = self.make_executor()
        try:
            yield executor
        finally:
            await close(executor)

    async def _alike(self, body: Any, **options: Any) -> dict[str, Any]:
        return await self._alike_of(lambda executor: _pipeline(body, executor), **options)

    async def _alike_of(self, build: Callable[[Executor | None], Pipeline], **options: Any) -> dict[str, Any]:
        """Run a pipeline without the executor and with it, and compare all that can be seen from outside."""
        expected = await _seen(build(InlineExecutor()), **options)
        async with self._made() as executor:
            seen = await _seen(build(executor), **options)
        for what, value in expected.items():
            assert seen[what] == value, f"{what}: {seen[what]!r} instead of {value!r}"
        return seen


def _pipeline(body: Any, executor: Executor | None) -> Pipeline:
    return Pipeline("proved").with_stage("stage", body, StageKind.TRANSFORM, executor=executor)


def _streaming(publish: Any, read: Any, publisher: Executor | None, reader: Executor | None) -> Pipeline:
    return (
        Pipeline("streaming")
        .with_stage("publisher", publish, _WORK, executor=publisher)
        .with_stage("reader", read, StageKind.TRANSFORM, executor=reader, streams=["publisher"])
    )


def _snapshot(number: int, text: str) -> ContextSnapshot:
    ids = RunIdentity(UUID(int=5000 + number), user_id=UUID(int=number), org_id=UUID(int=1000 + number))
    return ContextSnapshot(ids, input_text=text, metadata={"number": number})


def _context(events: EventRecorder | None = None, data: dict[str, Any] | None = None) -> StageContext:
    """Return a context without a run."""
    snapshot = _snapshot(1, "alone")
    ctx = StageContext(snapshot, StageInputs(snapshot), "stage", PipelineTimer(), events)
    ctx.scope.data.update(data or {})
    return ctx


async def _begun(
    executor: Executor, body: Any, data: dict[str, Any] | None = None
) -> tuple[asyncio.Future[Any], EventRecorder]:
    """Start a body, and wait until it says that it has begun."""
    begun = asyncio.Event()
    events = EventRecorder(lambda event: begun.set() if event.type == "begun" else None)
    task = asyncio.ensure_future(executor.execute(body, _context(events, data)))
    waiting = asyncio.ensure_future(begun.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await asyncio.wait([waiting])
    if task.done():
        task.result()
    return task, events


async def _seen(
    pipeline: Pipeline, *, failure_mode: FailureMode = FailureMode.FAIL_FAST, **options: Any
) -> dict[str, Any]:
    """Run, and return what can be seen of it, without what no two runs have in common."""
    events = EventRecorder()
    graph = pipeline.build(failure_mode=failure_mode)
    results = await graph.run(_snapshot(1, "Ada"), sink=events, raise_errors=False, **options)
    return {
        "results": {
            name: {
                "status": output.status,
                "data": dict(output.data),
                "error": output.error,
                "version": output.version,
                "artifacts": [(one.type, one.payload) for one in output.artifacts],
            }
            for name, output in results.items()
        },
        "error": _told(getattr(results.error, "original", results.error)),
        "events": [
            (event.type, {key: value for key, value in event.data.items() if not key.endswith(_OWN)})
            for event in events
        ],
    }


def _told(error: BaseException | None) -> Any:
    if error is None:
        return None
    attributes = {key: value for key, value in vars(error).items() if key not in {"__notes__", "results"}}
    members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    within = [_told(one) for one in members]
    notes = [
        note for note in getattr(error, "__notes__", []) if "Traceback (most recent call last)" not in note
    ]
    args = error.args if not within else error.args[:1]
    return type(error), args, attributes, str(error), notes, within


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
