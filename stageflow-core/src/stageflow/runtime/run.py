"""One run of a graph: from its first event to its last, and what the end of each stage means."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextvars import ContextVar, copy_context
from inspect import iscoroutine
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.context.frozen import freeze
from stageflow.errors import (
    OverloadError,
    PipelineCancelled,
    RunTimeoutError,
    StageContractError,
    StageExecutionError,
    StageTimeoutError,
)
from stageflow.events import vocabulary
from stageflow.events.emitter import RunEmitter
from stageflow.interceptors.chain import RetryRequestedError, as_output
from stageflow.runtime.failure import FailureMode
from stageflow.runtime.progress import Progress, SkipReason
from stageflow.runtime.results import PipelineResults
from stageflow.runtime.scheduler import Interruption, Scheduler
from stageflow.stages.context import StageContext
from stageflow.stages.inputs import StageInputs
from stageflow.stages.output import StageOutput
from stageflow.stages.pipeline_context import PipelineContext
from stageflow.stages.retry import DEFAULT_RETRY
from stageflow.stages.stage import StageStatus
from stageflow.stages.timer import PipelineTimer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

    from stageflow.protocols import EventSink, ProviderCallLogger
    from stageflow.runtime.admission import StagePlaces
    from stageflow.runtime.cancellation import CleanupRegistry
    from stageflow.runtime.compilation import CompiledStage
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.guard_retry import GuardLoop, GuardRounds
    from stageflow.runtime.recording import RunRecorder
    from stageflow.runtime.request import RunRequest

__all__ = ["Attempt", "Run"]

_current: ContextVar[Run | None] = ContextVar("stageflow_current_run", default=None)
"""The run that a stage belongs to. A run that is started by a stage finds its parent here."""

_logger = logging.getLogger("stageflow.runtime")
_OK = StageStatus.OK


@final
class Attempt:
    """One attempt of one stage.

    Attributes:
        stage: The stage.
        number: Which attempt it is, from 1.
        timeout: Its limit, in seconds.
        started_ns: When it began, on the monotonic clock.
        task: The Task that drives it, once it has suspended.
        interrupted: Why it was asked to stop, if it was.
    """

    __slots__ = ("_ctx", "interrupted", "number", "stage", "started_ns", "task", "timeout")

    def __init__(self, stage: CompiledStage, ctx: StageContext, number: int, timeout: float | None) -> None:
        self.stage = stage
        self.number = number
        self.timeout = timeout
        self.task: asyncio.Task[None] | None = None
        self.interrupted: Interruption | None = None
        self._ctx = ctx
        self.started_ns = monotonic_ns()

    def start(self) -> Coroutine[Any, Any, object]:
        """Call the stage.

        Raises:
            StageContractError: It gave nothing to await.
        """
        result = self.stage.call(self._ctx)
        if iscoroutine(result):
            return result
        if hasattr(result, "__await__"):
            return _awaiting(result)
        what = f"Its runner returned {type(result).__name__} instead of something to await"
        raise StageContractError(self.stage.name, what, fix="Write the stage as 'async def'")


async def _awaiting(result: Awaitable[object]) -> object:
    return await result


@final
class Run:
    """One run. To the contexts of its stages it is their ``RunScope``.

    Args:
        graph: The graph.
        request: What the caller asks for.
        reader: A sink that gets the events beside the caller's.
    """

    __slots__ = (
        "_attempts",
        "_cleanup",
        "_context",
        "_emitter",
        "_ending",
        "_fatal",
        "_graph",
        "_guards",
        "_parent",
        "_places",
        "_ports",
        "_progress",
        "_rounds",
        "_scheduler",
        "_stage_limit",
        "_timeout",
        "_token",
        "data",
        "deadline",
        "event_sink",
        "snapshot",
        "timer",
    )

    def __init__(self, graph: StageGraph, request: RunRequest, reader: EventSink | None = None) -> None:
        self.timer = PipelineTimer()
        self.snapshot = request.snapshot()
        self.event_sink = request.event_sink()
        self._graph = graph
        self._context = request.context if isinstance(request.context, PipelineContext) else None
        self.data: dict[str, Any] = {} if self._context is None else self._context.data
        if request.data:
            self.data = {**self.data, **request.data}
        self._emitter = RunEmitter(
            (self.event_sink,) if reader is None else (self.event_sink, reader), self._identity
        )
        self._ports = request.ports
        self._timeout = request.timeout
        self.deadline: float | None = None
        """When the run has to be over, on the event loop's clock."""
        self._parent = _current.get()
        self._stage_limit: float | None = self.data.get("_timeout_ms") if self.data else None
        self._token = request.cancel_token
        self._progress = Progress(graph.stages)
        self._attempts: dict[int, int] = {}  # of stages that have been attempted more than once
        self._cleanup: CleanupRegistry | None = None
        self._ending: StageExecutionError | PipelineCancelled | None = None
        self._fatal: BaseException | None = None
        self._guards: dict[int, GuardRounds] = {}  # of guards that have rejected something
        self._rounds: dict[int, int] = {}  # of stages that a guard has sent back
        context = copy_context()
        context.run(_current.set, self)
        self._scheduler = Scheduler(self, context)
        self._places: StagePlaces | None = None
        if graph.limited:
            from stageflow.runtime import admission

            self._places = admission.StagePlaces(self._scheduler, graph.max_concurrency)

    # --- what the contexts of its stages see ------------------------------------------------------------

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        return self._graph.name

    @property
    def cancel_reason(self) -> str | None:
        """Why the run is ending early, or None while it is not."""
        if self._scheduler.stopping and self._ending is not None:
            return self._ending.what
        return None if self._token is None else self._token.reason

    def inputs_of(self, stage: str) -> StageInputs:
        """Return what *stage* may read."""
        stages, outputs = self._graph.stages, self._progress.outputs
        dependencies = self._graph.stage(stage).dependencies
        return StageInputs(
            self.snapshot,
            {
                stages[number].name: output
                for number in dependencies
                if (output := outputs[number]) is not None
            },
            self._ports,
            [stages[number].name for number in dependencies],
            stage,
        )

    def emit(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002 - the event's type
        """Emit an event of the run."""
        self._emitter.emit(type, data)

    def register_cleanup(self, callback: Callable[[], Awaitable[None]], name: str | None) -> None:
        """Call *callback* when the run ends."""
        if self._cleanup is None:
            from stageflow.runtime import cancellation

            self._cleanup = cancellation.CleanupRegistry()
        self._cleanup.register(callback, name=name)

    @property
    def provider_call_logger(self) -> ProviderCallLogger | None:
        """Who is told of the calls that stages make to providers."""
        recording = self._graph.recording
        return None if recording is None else recording.provider_call_logger

    # --- from the first event to the last ---------------------------------------------------------------

    async def execute(self) -> PipelineResults:
        """Run, and return what is left behind once nothing that was started is alive.

        Raises:
            asyncio.CancelledError: The caller was cancelled.
            KeyboardInterrupt, SystemExit: A stage raised it.
        """
        limit = self._graph.max_runs
        if limit is None:
            return await self._execute()
        from stageflow.runtime.admission import wait_for_place

        await wait_for_place(limit, f"pipeline {self._graph.name!r}")
        try:
            return await self._execute()
        finally:
            limit.leave()

    async def _execute(self) -> PipelineResults:
        self.emit(vocabulary.PIPELINE_STARTED, {"stages": len(self._graph.stages)})
        recorder = self._recorder()
        scheduler = self._scheduler
        scheduler.ready.extend(self._progress.roots())
        disarm = self._arm()
        try:
            if scheduler.ready:
                scheduler.open_lane()
            cancelled = await self._outlast(scheduler)
            if self._cleanup is not None and self._cleanup.pending_count:
                cancelled = await self._clean_up(self._cleanup) or cancelled
        finally:
            for undo in disarm:
                undo()
        if scheduler.failure is not None:
            raise scheduler.failure
        results = self._finish()
        if recorder is not None:
            recorder.ended(results, self._status())
            cancelled = await self._insist(recorder.finish()) or cancelled
        if self._fatal is not None:
            raise self._fatal
        if cancelled is not None:
            raise cancelled
        return results

    def _arm(self) -> list[Callable[[], object]]:
        """Listen to whatever may end the run from outside; what is returned undoes that."""
        disarm: list[Callable[[], object]] = []
        loop, home = asyncio.get_running_loop(), threading.get_ident()

        def cancel(reason: str = "the context was marked as cancelled") -> None:
            error = PipelineCancelled(
                PipelineCancelled.EXTERNAL, reason, run_id=self.snapshot.pipeline_run_id
            )
            if threading.get_ident() == home:
                self.stop(error)
            else:
                loop.call_soon_threadsafe(self.stop, error)

        now = loop.time()
        if self._timeout is not None:
            self.deadline = now + self._timeout
        inherited = None if self._parent is None else self._parent.deadline
        if inherited is not None and (self.deadline is None or inherited < self.deadline):
            self.deadline = inherited
        if self.deadline is not None:
            error = RunTimeoutError(max(self.deadline - now, 0.0), run_id=self.snapshot.pipeline_run_id)
            disarm.append(loop.call_at(self.deadline, self.stop, error).cancel)
        if self._token is not None:
            disarm.append(self._token.on_cancel(cancel))
        if self._context is not None:
            disarm += [context.on_cancel(cancel) for context in self._context.lineage()]
            if self._context.is_canceled:
                cancel()
        return disarm

    async def _outlast(self, scheduler: Scheduler) -> asyncio.CancelledError | None:
        """Wait until the scheduler is idle, also when the caller is cancelled; that ends the run."""
        cancelled: asyncio.CancelledError | None = None
        while not scheduler.idle:
            try:
                await scheduler.wait()
            except asyncio.CancelledError as exc:
                cancelled = exc
                reason = "its caller was cancelled"
                self.stop(
                    PipelineCancelled(
                        PipelineCancelled.EXTERNAL, reason, run_id=self.snapshot.pipeline_run_id
                    )
                )
            except GeneratorExit:  # the caller's coroutine is being closed: nothing can be awaited any more
                self.stop(PipelineCancelled(PipelineCancelled.EXTERNAL, "its caller went away"))
                raise
        return cancelled

    async def _clean_up(self, cleanup: CleanupRegistry) -> asyncio.CancelledError | None:
        """Run the callbacks, and report those that failed."""
        failed: list[tuple[str, Exception]] = []

        async def run_all() -> None:
            failed.extend((await cleanup.run_all(timeout=self._graph.cleanup_timeout))[1])

        cancelled = await self._insist(run_all())
        for name, error in failed:
            run_id = self.snapshot.pipeline_run_id
            _logger.warning("The cleanup %r of run %s failed", name, run_id, exc_info=error)
            self.emit(vocabulary.CLEANUP_FAILED, {"cleanup": name, "error": _said(error)})
        return cancelled

    async def _insist(self, work: Awaitable[None]) -> asyncio.CancelledError | None:
        """Await *work* to its end in a Task of its own, also when the caller is cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        task = asyncio.ensure_future(work)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = exc
        task.result()
        return cancelled

    def _recorder(self) -> RunRecorder | None:
        if self._graph.recording is None:
            return None
        from stageflow.runtime import recording

        service = "pipeline" if self._context is None else self._context.service
        recorder = recording.RunRecorder(self._graph.recording, self.snapshot, self._graph.name, service)
        recorder.started()
        return recorder

    def _status(self) -> str:
        """Say in one word how the run has ended."""
        if isinstance(self._ending, PipelineCancelled):
            return "cancelled"
        if self._ending is None or self._graph.failure_mode is FailureMode.BEST_EFFORT:
            return "completed"
        return "failed"

    def stop(self, ending: StageExecutionError | PipelineCancelled) -> None:
        """End the run early with *ending*. The first one stays."""
        if not self._scheduler.stopping:
            if self._ending is None:
                self._ending = ending
            self._scheduler.stop()
            if self._places is not None:
                self._places.leave_queues()

    def _finish(self) -> PipelineResults:
        """Tell what has become of the run, and return what it leaves behind."""
        outputs = self._progress.outputs
        if self._scheduler.stopping:
            for stage in self._progress.unsettled():
                if stage.number in self._rounds and stage.number not in self._attempts:
                    self._emit_stage(stage, vocabulary.STAGE_CANCELLED, {})
                elif stage.number not in self._attempts:
                    self._emit_stage(stage, vocabulary.STAGE_SKIPPED, {"reason": SkipReason.RUN_STOPPED})
        error = self._ending
        results = PipelineResults(
            {
                stage.name: output
                for stage, output in zip(self._graph.stages, outputs, strict=True)
                if output is not None
            },
            run_id=self.snapshot.pipeline_run_id,
            error=error,
            duration_ms=(monotonic_ns() - self.timer.started_ns) / 1e6,
            pipeline=self._graph.name,
        )
        if error is not None:
            error.results = results
        if self._emitter.listening:
            self._emit_end(results)
        return results

    def _emit_end(self, results: PipelineResults) -> None:
        counts: dict[str, int] = {}
        for output in results.values():
            counts[output.status] = counts.get(output.status, 0) + 1
        data: dict[str, Any] = {"duration_ms": results.duration_ms, "stage_counts": counts}
        error = results.error
        if isinstance(error, PipelineCancelled):
            self.emit(
                vocabulary.PIPELINE_CANCELLED, {**data, "reason": error.reason, "cancelled_by": error.stage}
            )
        elif isinstance(error, StageExecutionError):
            data |= {"error": error.what, "code": error.code, "failed_stage": error.stage}
            best_effort = self._graph.failure_mode is FailureMode.BEST_EFFORT
            self.emit(vocabulary.PIPELINE_COMPLETED if best_effort else vocabulary.PIPELINE_FAILED, data)
        else:
            self.emit(vocabulary.PIPELINE_COMPLETED, data)

    # --- what the scheduler asks ------------------------------------------------------------------------

    def enter(self, number: int) -> Attempt | None:
        """Begin the next attempt of a ready stage; None if it does not start, or not yet."""
        stage = self._graph.stages[number]
        attempt = self._attempts.get(number, 0) + 1 if self._attempts else 1
        places = self._places
        if attempt == 1 and (places is None or number not in places):
            obstacle = self._progress.obstacle(stage)
            if obstacle is None and (stage.router is not None or stage.spec.when is not None):
                obstacle = self._condition(stage)
            if obstacle is not None:
                if obstacle:
                    self._skip(stage, obstacle)
                return None
        if places is not None and not self._admit(places, stage):
            return None
        if attempt == 1 and self._emitter.listening:
            self._announce(stage)
        limit = stage.timeout
        if self._stage_limit is not None:
            limit = self._stage_limit / 1000 if self._stage_limit > 0 else None
        return Attempt(stage, StageContext.of(self, stage.spec, attempt), attempt, limit)

    def leave(self, attempt: Attempt, value: object, error: BaseException | None, now_ns: int) -> None:
        """Settle a stage whose attempt ended with *value*, or with *error*."""
        stage = attempt.stage
        if self._places is not None:
            self._places.vacate(stage.number)
        duration_ms = (now_ns - attempt.started_ns) / 1e6
        if error is None and attempt.interrupted is not Interruption.TIMED_OUT:
            try:
                output = as_output(stage.name, value)
                output = output.settled(freeze(output.data), duration_ms)
            except Exception as exc:  # noqa: BLE001 - what a stage returns may be anything; then the stage fails
                error = exc
            else:
                self._settle(stage, output, attempt)
                return
        self._end_badly(attempt, error, duration_ms)

    def abandon(self, attempt: Attempt) -> None:
        """Give up on a stage that was waiting for another attempt."""
        self._emit_stage(attempt.stage, vocabulary.STAGE_CANCELLED, {"attempt": attempt.number})

    # --- what the end of a stage means ------------------------------------------------------------------

    def _settle(self, stage: CompiledStage, output: StageOutput, attempt: Attempt) -> None:
        status = output.status
        if status is StageStatus.RETRY:
            error = RuntimeError(output.error)
            if not self._try_again(
                attempt, error, DEFAULT_RETRY.max_attempts, output.data.get("retry_after", 0.0)
            ):
                self._fail(stage, error, attempt, output)
            return
        if status is StageStatus.FAIL:
            if stage.loop is None or not self._send_back(stage, stage.loop):
                self._fail(stage, RuntimeError(output.error), attempt, output)
            return
        self._hand_over(stage, output)
        if stage.number in self._guards:
            rounds = self._guards[stage.number].rounds
            self.emit(vocabulary.GUARD_RETRY_RECOVERED, {"stage": stage.name, "attempts": rounds})
        if self._emitter.listening:
            data: dict[str, Any] = {"duration_ms": output.duration_ms, "attempt": attempt.number}
            if status is StageStatus.SKIP:
                self._emit_stage(
                    stage, vocabulary.STAGE_SKIPPED, {**data, "reason": output.data.get("reason", "")}
                )
            elif status is StageStatus.CANCEL:
                reason = output.data.get("cancel_reason", "")
                self._emit_stage(stage, vocabulary.STAGE_CANCELLED, {**data, "reason": reason})
            else:
                self._emit_stage(stage, vocabulary.STAGE_COMPLETED, data)
        if status is StageStatus.CANCEL:
            reason = str(output.data.get("cancel_reason", ""))
            self.stop(PipelineCancelled(stage.name, reason, run_id=self.snapshot.pipeline_run_id))

    def _hand_over(self, stage: CompiledStage, output: StageOutput, kept: str | None = None) -> None:
        """Keep an output, forward what came with it, and make ready whoever waited for it last."""
        ready = self._progress.settle(stage, output, kept)
        if ready and not self._scheduler.stopping:
            self._scheduler.ready.extend(ready)
        if output.artifacts and self._context is not None:
            self._context.artifacts.extend(output.artifacts)
        for event in output.events:
            self.emit(event.type, {"stage": stage.name, **event.data})

    def _end_badly(self, attempt: Attempt, error: BaseException | None, duration_ms: float) -> None:
        stage = attempt.stage
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._fatal = error
            self._fail(stage, error, attempt, StageOutput.fail(_said(error)).with_duration(duration_ms))
            return
        asked = isinstance(error, RetryRequestedError)
        if isinstance(error, RetryRequestedError):
            error = error.original
        if attempt.interrupted is Interruption.TIMED_OUT:
            timed_out = StageTimeoutError(stage.name, attempt.timeout or 0.0)
            timed_out.__cause__ = None if isinstance(error, asyncio.CancelledError) else error
            error = timed_out
        elif attempt.interrupted is Interruption.STOPPED and isinstance(error, asyncio.CancelledError):
            self._attempts[stage.number] = attempt.number
            self._emit_stage(
                stage, vocabulary.STAGE_CANCELLED, {"duration_ms": duration_ms, "attempt": attempt.number}
            )
            return
        elif isinstance(error, PipelineCancelled) and self.cancel_reason is not None:
            # ctx.raise_if_cancelled() and the like: the stage has noticed by itself what was going on.
            self._attempts[stage.number] = attempt.number
            self._emit_stage(
                stage, vocabulary.STAGE_CANCELLED, {"duration_ms": duration_ms, "attempt": attempt.number}
            )
            return
        assert error is not None  # noqa: S101 - without one, the stage either returned or was timed out
        policy = stage.retry
        if asked or (policy is not None and isinstance(error, policy.retry_on)):
            retry_after = getattr(error, "retry_after", None)
            if self._try_again(attempt, error, DEFAULT_RETRY.max_attempts, retry_after):
                return
        self._fail(stage, error, attempt, StageOutput.fail(_said(error)).with_duration(duration_ms))

    def _try_again(self, attempt: Attempt, error: BaseException, most: int, retry_after: object) -> bool:
        """Schedule another attempt, if there may be one."""
        stage = attempt.stage
        policy = stage.retry or DEFAULT_RETRY
        most = policy.max_attempts if stage.retry is not None else most
        if self._scheduler.stopping or attempt.number >= most:
            return False
        wait = retry_after if isinstance(retry_after, (int, float)) and retry_after > 0 else 0.0
        delay = policy.delay(attempt.number, float(wait))
        self._attempts[stage.number] = attempt.number
        self._emit_stage(
            stage,
            vocabulary.STAGE_RETRYING,
            {"attempt": attempt.number + 1, "delay_ms": delay * 1000, "error": _said(error)},
        )
        self._scheduler.again(attempt, delay)
        return True

    def _fail(
        self, stage: CompiledStage, error: BaseException, attempt: Attempt | None, output: StageOutput
    ) -> None:
        number = 1 if attempt is None else attempt.number
        output = StageOutput(
            StageStatus.FAIL,
            output.data,
            output.artifacts,
            output.events,
            output.error,
            output.duration_ms,
            output.version,
        )
        failure = StageExecutionError(
            stage.name,
            error,
            isinstance(error, (TimeoutError, ConnectionError)) or number > 1,
            run_id=self.snapshot.pipeline_run_id,
            attempts=number,
        )
        failure.__cause__ = error
        self._emit_stage(
            stage,
            vocabulary.STAGE_FAILED,
            {
                "error": output.error,
                "error_type": type(error).__name__,
                "duration_ms": output.duration_ms,
                "attempt": number,
            },
        )
        if self._ending is None:
            self._ending = failure
        elif self._ending is not failure:
            self._ending.add_note(f"Then stage {stage.name!r} failed too: {_said(error)}")
        self._hand_over(stage, output)
        if self._graph.failure_mode is FailureMode.FAIL_FAST or self._fatal is not None:
            self.stop(failure)

    def _skip(self, stage: CompiledStage, reason: str) -> None:
        self._emit_stage(stage, vocabulary.STAGE_SKIPPED, {"reason": reason})
        self._hand_over(stage, StageOutput.skip(reason), kept=reason)

    def _condition(self, stage: CompiledStage) -> str | None:
        """Ask the router and ``when=``; a reason to skip, None to go on, or "" if asking has failed the stage."""
        try:
            if stage.router is not None and not self._routed(stage):
                return SkipReason.ROUTE_NOT_TAKEN
            when = stage.spec.when
            return None if when is None or when(self.inputs_of(stage.name)) else SkipReason.CONDITION_FALSE
        except Exception as exc:  # noqa: BLE001 - a broken predicate is a failure of its stage
            exc.add_note(f"raised while it was decided whether stage {stage.name!r} runs")
            self._fail_at_start(stage, exc)
            return ""

    def _routed(self, stage: CompiledStage) -> bool:
        chosen = self._progress.route_of(stage)
        if isinstance(chosen, str):
            return chosen in stage.labels
        if isinstance(chosen, (list, tuple, set, frozenset)):
            return not stage.labels.isdisjoint(cast("Iterable[object]", chosen))
        router = self._graph.stages[stage.router or 0].name
        what = f"Its router {router!r} chose {chosen!r}, which is no label"
        raise StageContractError(stage.name, what, fix="Return StageOutput.ok(route='label') from the router")

    def _admit(self, places: StagePlaces, stage: CompiledStage) -> bool:
        """Say whether a stage may start now, as far as limits go; one that may not at all is settled."""
        try:
            return places.admit(stage)
        except OverloadError as exc:
            if places.skips_overload(stage):
                self._skip(stage, SkipReason.OVERLOADED)
            else:
                self._fail_at_start(stage, exc)
            return False

    def _fail_at_start(self, stage: CompiledStage, error: Exception) -> None:
        self._announce(stage)
        self._fail(stage, error, None, StageOutput.fail(_said(error)))

    # --- guards that send back --------------------------------------------------------------------------

    def _send_back(self, guard: CompiledStage, loop: GuardLoop) -> bool:
        """Run again what a guard has rejected; False if there have been enough rounds."""
        if self._scheduler.stopping:
            return False
        from stageflow.runtime import guard_retry

        rounds = self._guards.setdefault(guard.number, guard_retry.GuardRounds())
        data = {
            "stage": guard.name,
            "retry_stage": self._graph.stages[loop.target].name,
            "attempt": rounds.rounds,
            "max_attempts": loop.policy.max_attempts,
        }
        self.emit(vocabulary.GUARD_RETRY_ATTEMPT, data)
        reason = rounds.exhausted(loop.policy, self._progress.outputs[loop.target])
        if reason is not None:
            self.emit(vocabulary.GUARD_RETRY_EXHAUSTED, {**data, "reason": reason})
            return False
        self.emit(vocabulary.GUARD_RETRY_SCHEDULED, data)
        self._progress.reset(loop.members)
        for number in loop.members:
            self._attempts.pop(number, None)
            self._rounds[number] = rounds.rounds
        self._scheduler.ready.append(loop.target)
        return True

    # --- events -----------------------------------------------------------------------------------------

    def _announce(self, stage: CompiledStage) -> None:
        """Tell that a stage starts, or, if a guard has sent it back, that it starts once more."""
        data: dict[str, Any] = {"kind": stage.spec.kind.value}
        if stage.number in self._rounds:
            self._emit_stage(stage, vocabulary.STAGE_RETRYING, {**data, "round": self._rounds[stage.number]})
        else:
            self._emit_stage(stage, vocabulary.STAGE_STARTED, data)

    def _emit_stage(self, stage: CompiledStage, status: str, data: Mapping[str, Any]) -> None:
        if self._emitter.listening:
            self._emitter.emit(
                vocabulary.stage_event(stage.name, status), {"stage": stage.name, "status": status, **data}
            )

    def _identity(self) -> dict[str, Any]:
        """Return what every event of the run says of it."""
        snapshot, context = self.snapshot, self._context
        ids = {name: _text(getattr(snapshot, name)) for name in _IDS}
        return {
            **ids,
            "pipeline": self._graph.name,
            "topology": snapshot.topology,
            "execution_mode": snapshot.execution_mode,
            "service": "pipeline" if context is None else context.service,
        }


_IDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _said(error: BaseException) -> str:
    """Return what an error says, in one line for events and outputs."""
    return getattr(error, "what", None) or str(error) or type(error).__name__
