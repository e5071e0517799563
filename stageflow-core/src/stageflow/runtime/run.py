"""One run of a graph, from its first event to its last."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar, copy_context
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.errors import (
    EffectGateDeadlock,
    OverloadError,
    PipelineCancelled,
    RunStateError,
    RunTimeoutError,
    StageExecutionError,
    shown,
)
from stageflow.events import vocabulary
from stageflow.events.emitter import SILENT, RunEmitter
from stageflow.events.sink import NoOpEventSink
from stageflow.observability.ambient import current_trace
from stageflow.observability.correlation import get_correlation_id
from stageflow.runtime.failure import FailureMode
from stageflow.runtime.outcomes import Outcomes, said
from stageflow.runtime.progress import OutputsByName
from stageflow.runtime.results import PipelineResults
from stageflow.runtime.run_id import RunId
from stageflow.runtime.scheduler import Scheduler
from stageflow.runtime.stamps import Note
from stageflow.stages.inputs import inputs_in_run
from stageflow.stages.part import Part
from stageflow.stages.pipeline_context import PipelineContext
from stageflow.stages.stage import StageStatus
from stageflow.stages.timer import PipelineTimer

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Mapping,
        MutableMapping,
        Sequence,
    )
    from uuid import UUID

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.protocols import ProviderCallLogger
    from stageflow.runtime.cancellation import CleanupRegistry
    from stageflow.runtime.gate import EffectGate, Performer
    from stageflow.runtime.graph import StageGraph, WideEvents
    from stageflow.runtime.limits import ConcurrencyLimit
    from stageflow.runtime.recording import Recording, RunRecorder
    from stageflow.runtime.request import RunRequest
    from stageflow.runtime.stream import ChunkReader, RunReader
    from stageflow.stages.context import StageContext
    from stageflow.stages.inputs import StageInputs
    from stageflow.stages.output import StageArtifact, StageOutput

__all__ = ["Run", "current_run"]

_current: ContextVar[Run | None] = ContextVar("stageflow_current_run", default=None)
"""The run that a stage belongs to. A run that is started by a stage finds its parent here."""

_logger = logging.getLogger("stageflow.runtime")


def current_run() -> Run | None:
    """Return the run whose stage calls this, or None outside of one."""
    return _current.get()


@final
class Run:
    """One run. To the contexts of its stages it is their ``RunScope``.

    Args:
        graph: The graph.
        request: What the caller asks for.
        reader: Gets the events beside the caller's sink, and what stages publish.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_cleanup",
        "_context",
        "_emitter",
        "_ending",
        "_failure",
        "_given_up",
        "_graph",
        "_has_lent",
        "_outcomes",
        "_parent",
        "_performer",
        "_ports",
        "_receipts",
        "_recorder",
        "_request",
        "_run_id",
        "_scheduler",
        "_snapshot",
        "_timeout",
        "_token",
        "chunks",
        "data",
        "deadline",
        "depth",
        "ended",
        "event_sink",
        "fatal",
        "timer",
    )

    def __init__(self, graph: StageGraph, request: RunRequest, reader: RunReader | None = None) -> None:
        self.timer = PipelineTimer()
        self._request = request
        self._run_id = RunId()
        self._snapshot = request.snapshot_at_once(self._run_id)
        self.event_sink = request.event_sink()
        self._graph = graph
        self._context = request.context if isinstance(request.context, PipelineContext) else None
        self.data: dict[str, Any] = {} if self._context is None else self._context.data
        if request.data:
            self.data = {**self.data, **request.data}
        self._ports = request.ports
        self._timeout = request.timeout
        self.deadline: float | None = None
        """When the run has to be over, on the event loop's clock."""
        parent = _current.get()
        # A Task that outlives the run it was started in may run pipelines; they are nobody's children.
        self._parent = None if parent is None or parent.ended else parent
        if reader is None and self.event_sink.__class__ is NoOpEventSink:
            self._emitter = SILENT
        else:
            sinks = (self.event_sink,) if reader is None else (self.event_sink, reader)
            self._emitter = RunEmitter(sinks, self._identity)
        self.chunks: ChunkReader | None = None if reader is None else reader.chunk
        """Who gets what stages publish, beside those that read it."""
        self.depth: int = 0 if self._parent is None else self._parent.depth + 1
        """How many runs there are above this one."""
        if self._context is not None and self._context.depth > self.depth:
            self.depth = self._context.depth
        if self._parent is not None:
            from stageflow.observability import ambient

            ambient.settle_step()
        self._token = request.cancel_token
        self._failure: StageExecutionError | None = None  # the first
        self._given_up: asyncio.Future[None] | None = None
        self._performer: Performer | None = None  # the stage above, if gates hold what this run does
        self._has_lent = False  # whether that stage has lent its places
        self._begun = False  # a run that was never let in has no events
        self.ended: bool = False
        """Whether nothing of the run is alive any more."""
        self._recorder: RunRecorder | None = None
        self._cleanup: CleanupRegistry | None = None
        self._receipts: dict[str, int] | None = None  # the attempts of stages that have left undo receipts
        self._ending: StageExecutionError | PipelineCancelled | OverloadError | EffectGateDeadlock | None = (
            None
        )
        self.fatal: BaseException | None = None
        """What nobody may catch, such as a stage's ``KeyboardInterrupt``, or an error of the machinery itself."""
        context = copy_context()
        context.run(_current.set, self)
        limit_ms = self.data.get("_timeout_ms") if self.data else None
        self._outcomes = Outcomes(self, graph, self._emitter, limit_ms)
        self._scheduler = Scheduler(self._outcomes, context, graph.name)

    # --- what the contexts of its stages see ------------------------------------------------------------

    @property
    def snapshot(self) -> ContextSnapshot:
        """What the run was started with. If the caller brought no context, it is made when somebody asks."""
        if self._snapshot is None:
            # Stages that ask at once, on several threads, make equal ones.
            self._snapshot = self._request.snapshot(self._run_id, self.timer.started_at)
        return self._snapshot

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        return self._graph.name

    @property
    def pipeline_context(self) -> PipelineContext | None:
        """The context that the run was started with, if it was of that kind."""
        return self._context

    @property
    def parent_run_id(self) -> UUID | None:
        """The run that started this one."""
        if self._context is not None and self._context.parent_run_id is not None:
            return self._context.parent_run_id
        return None if self._parent is None else self._parent.snapshot.pipeline_run_id

    @property
    def correlation_id(self) -> UUID | None:
        """What ties the run to others: of its context, of the run above it, or the current one."""
        if self._context is not None and self._context.correlation_id is not None:
            return self._context.correlation_id
        return get_correlation_id() if self._parent is None else self._parent.correlation_id

    @property
    def cancel_reason(self) -> str | None:
        """Why the run is ending early, or has ended; None while it goes on."""
        if self.ended:
            return "the run has ended"
        if self._scheduler.stopping and self._ending is not None:
            return self._ending.what
        if self._token is not None and self._token.reason is not None:
            return self._token.reason
        return None if self._parent is None else self._parent.cancel_reason

    def inputs_of(self, stage: str) -> StageInputs:
        """Return what *stage* may read."""
        stages, output_of = self._graph.stages, self._outcomes.progress.output
        compiled = self._graph.stage(stage)
        dependencies = compiled.dependencies
        outputs = {
            stages[number].name: output
            for number in dependencies
            if (output := output_of(number)) is not None
        }
        return inputs_in_run(self.snapshot, outputs, self._ports, compiled.declared, stage)

    def facts(self, stage: StageContext, started_ns: int) -> Sequence[MutableMapping[str, Any]]:
        """Return what interceptors know of an attempt that began at *started_ns*, the outermost's first."""
        known = [one.facts(stage, started_ns) for one in self._graph.informants]
        return [cast("MutableMapping[str, Any]", facts) for facts in known if facts is not None]

    @property
    def listening(self) -> bool:
        """Whether anybody listens to the events."""
        return self._emitter.listening

    def emit(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002 - the event's type
        """Emit an event of the run."""
        self._emitter.emit(type, data)

    def register_cleanup(self, callback: Callable[[], Awaitable[None]], name: str | None) -> None:
        """Call *callback* when the run ends."""
        if self._cleanup is None:
            from stageflow.runtime import cancellation

            self._cleanup = cancellation.CleanupRegistry()
        self._cleanup.register(callback, name=name)

    # --- what stages do to the world --------------------------------------------------------------------

    @property
    def is_gated(self) -> bool:
        """Whether gates hold effects in it, its own or those of the runs above."""
        return self._outcomes.gate is not None

    async def gate(self, stage: str, attempt: int) -> None:
        """Wait until an effect of *stage*, which is running, may happen; see ``StageContext.gate``."""
        gate = self._outcomes.gate
        if gate is None:
            return
        compiled = self._graph.stage(stage)
        if not gate.lets_pass(compiled):
            await self._outcomes.wait_for_gate(gate, compiled)
            gate.lets_pass(compiled)

    async def publish(self, stage: str, attempt: int, chunk: object) -> bool:
        """Hand a chunk to everybody who reads the stream of *stage*; see ``StageContext.publish``."""
        compiled = self._graph.stage(stage)
        if self.ended or not self._outcomes.is_running(compiled.number, attempt):
            from stageflow.runtime.streams import closed

            raise closed(stage)
        return await self._outcomes.open_streams().publish(compiled, attempt, chunk)

    def stream(self, stage: str, producer: str) -> AsyncIterator[Any]:
        """Return what *stage* reads of the stream of *producer*; see ``StageContext.stream``."""
        if self.ended:
            msg = f"Stage {shown(stage)} reads a stream of a run that has ended"
            raise RunStateError(msg, where=f"stage {shown(stage)}", fix="Let no helper of a stage outlive it")
        return self._outcomes.open_streams().subscribe(self._graph.stage(stage), producer)

    def leave_receipt(self, stage: str, attempt: int, receipt: Mapping[str, Any]) -> None:
        """Put an undo receipt on record; see ``StageContext.leave_receipt``."""
        if self._receipts is None:
            self._receipts = {}
        self._receipts[stage] = attempt
        self.emit(vocabulary.EFFECT_RECEIPT, {"stage": stage, "attempt": attempt, "receipt": dict(receipt)})

    def forget_receipt(self, stage: str) -> None:
        """A guard has sent *stage* back: its effect happens again, and needs a receipt again."""
        if self._receipts is not None:
            self._receipts.pop(stage, None)

    def lend_above(self) -> None:
        """An effect waits for a gate: so does the stage that has started this run, which lends its places.

        It gets them back when this run has ended.
        """
        performer = self._performer
        if performer is not None and not self._has_lent:
            self._has_lent = True
            performer.lending.lend(performer.stage.number)
            if self._parent is not None:
                self._parent.lend_above()

    def has_receipt(self, stage: str, attempt: int) -> bool:
        """Say whether an attempt of *stage* has left an undo receipt."""
        return self._receipts is not None and self._receipts.get(stage) == attempt

    def waited(self, stage: str, attempt: int, part: str, started_ns: int, ended_ns: int) -> None:
        """Note that *stage*, which is running, waited for something; see ``RunScope``."""
        number = self._graph.stage(stage).number
        self._outcomes.plain = False  # there is more to say of the stage than its three stamps
        self._outcomes.progress.stamps.note(number, Note(Part(part), started_ns, ended_ns, attempt))

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
        disarm = self._arm()
        try:
            if limit is None:
                self._begin()
                cancelled = await self._outlast()
            else:
                cancelled = await self._run_stages_under(limit)
            if self._cleanup is not None and self._cleanup.pending_count:
                cancelled = await self._clean_up(self._cleanup) or cancelled
        finally:
            self._scheduler.close()
            for undo in disarm:
                undo()
            self.ended = True
        results = self._finish()
        if self._recorder is not None:
            self._recorder.ended(results, self._status())
            cancelled = await self._insist(self._recorder.finish()) or cancelled
        if self._has_lent:  # no limit of this run counts any more
            cancelled = await self._take_back() or cancelled
        if self._begun:
            self._outcomes.release()
        self._scheduler.release()
        if self.fatal is not None:
            raise self.fatal
        if cancelled is not None:
            raise cancelled
        return results

    def _begin(self) -> None:
        """Start the stages that wait for nothing."""
        gate = None
        if self._graph.gated or (self._parent is not None and self._parent.is_gated):
            try:
                gate = self._put_up_gate()
            except EffectGateDeadlock as exc:
                self.stop(exc)
                return
        self._begun = True
        self.emit(
            vocabulary.PIPELINE_STARTED,
            {"stages": len(self._graph.stages), "began_ns": self.timer.started_ns},
        )
        if self._graph.recording is not None:
            self._recorder = self._record(self._graph.recording)
        self._outcomes.begin(self._scheduler, gate)
        self._scheduler.grow()

    def _put_up_gate(self) -> EffectGate | None:
        """Return what holds effects: the gates of this run, and those of the runs above it.

        Raises:
            EffectGateDeadlock: A gate above waits for the stage that has started this run.
        """
        from stageflow.runtime import gate as room

        above: Any = None, None
        performer = room.performing.get()
        if self._parent is not None and performer is not None:
            above = performer.gate.around(performer.stage)
            self._performer = performer
        if not self._graph.gated and above[0] is None:
            return None
        settled = self._outcomes.progress.settled
        gate = room.EffectGate(self._graph.stages, lambda number: settled[number] is not None, above)
        if self._graph.has_effects:
            gate.check(self._graph.name)
        return gate

    async def _run_stages_under(self, limit: ConcurrencyLimit) -> asyncio.CancelledError | None:
        """Run once the graph has room for another run; whatever ends the run ends the waiting, too."""
        from stageflow.runtime.admission import wait_for_place

        given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._given_up = given_up
        if self._scheduler.stopping:
            given_up.set_result(None)
        try:
            placed = await wait_for_place(limit, f"pipeline {self._graph.name!r}", given_up)
        except asyncio.CancelledError as exc:
            self.stop(self.cancelled("its caller was cancelled"))
            return exc
        except OverloadError as exc:
            self.stop(exc)
            return None
        finally:
            self._given_up = None
        if not placed:
            return None
        try:
            self._begin()
            return await self._outlast()
        finally:
            limit.leave()

    def _arm(self) -> Sequence[Callable[[], object]]:
        """Listen to whatever may end the run from outside; what is returned undoes that."""
        if self._timeout is None and self._token is None and self._context is None and self._parent is None:
            return ()
        disarm: list[Callable[[], object]] = []
        loop, home = asyncio.get_running_loop(), threading.get_ident()

        def cancel(reason: str = "the context was marked as cancelled") -> None:
            error = self.cancelled(reason)
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

    async def _outlast(self) -> asyncio.CancelledError | None:
        """Wait until the scheduler is idle, also when the caller is cancelled; that ends the run."""
        scheduler, cancelled = self._scheduler, None
        while not scheduler.idle:
            try:
                await scheduler.next_idle()
            except asyncio.CancelledError as exc:
                cancelled = exc
                self.stop(self.cancelled("its caller was cancelled"))
            except GeneratorExit:  # the caller's coroutine is being closed: nothing can be awaited any more
                with suppress(RuntimeError):  # the loop may be closed already
                    self.stop(self.cancelled("its caller went away"))
                raise
        return cancelled

    async def _clean_up(self, cleanup: CleanupRegistry) -> asyncio.CancelledError | None:
        """Run the callbacks, and report those that failed."""
        failed: list[tuple[str, BaseException]] = []

        async def run_all() -> None:
            failed.extend((await cleanup.run_all(timeout=self._graph.cleanup_timeout))[1])

        cancelled = await self._insist(run_all())
        if cancelled is not None:
            self.stop(self.cancelled("its caller was cancelled"))
        for name, error in failed:
            run_id = self.snapshot.pipeline_run_id
            _logger.warning("The cleanup %r of run %s failed", name, run_id, exc_info=error)
            self.emit(vocabulary.CLEANUP_FAILED, {"cleanup": name, "error": said(error)})
        return cancelled

    async def _take_back(self) -> asyncio.CancelledError | None:
        """Wait until the stage above has its places again."""
        performer = self._performer
        try:
            if performer is not None:
                await performer.lending.take_back(performer.stage.number)
        except asyncio.CancelledError as exc:
            return exc
        return None

    async def _insist(self, work: Awaitable[None]) -> asyncio.CancelledError | None:
        """Await *work* to its end in a Task of its own, also when the caller is cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        task = asyncio.ensure_future(work)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = exc
        if task.cancelled():  # by somebody who cancels every Task there is
            return cancelled or asyncio.CancelledError()
        task.result()
        return cancelled

    def _record(self, recording: Recording) -> RunRecorder:
        from stageflow.runtime import recording as room

        service = "pipeline" if self._context is None else self._context.service
        recorder = room.RunRecorder(recording, self.snapshot, self._graph.name, service)
        recorder.started()
        return recorder

    def _status(self) -> str:
        """Say in one word how the run has ended."""
        if self.fatal is not None:
            return "failed"
        if isinstance(self._ending, PipelineCancelled):
            return "cancelled"
        if self._failure is None or self._graph.failure_mode is FailureMode.BEST_EFFORT:
            return "completed"
        return "failed"

    def cancelled(self, reason: str) -> PipelineCancelled:
        """Return the error of a run that is cancelled from outside."""
        return PipelineCancelled(PipelineCancelled.EXTERNAL, reason, run_id=self.snapshot.pipeline_run_id)

    def stop(
        self, ending: StageExecutionError | PipelineCancelled | OverloadError | EffectGateDeadlock
    ) -> None:
        """End the run early with *ending*. The first cause stays."""
        if self._ending is None:
            self._ending = ending
        if not self._scheduler.stopping:
            self._scheduler.stop()
            self._outcomes.leave_queues()
            if self._given_up is not None and not self._given_up.done():
                self._given_up.set_result(None)

    def crash(self, error: BaseException) -> None:
        """End the run with *error*, which ``execute`` raises as it is when everything has ended."""
        if self.fatal is None:
            self.fatal = error
        self.stop(self.cancelled(f"{type(error).__name__} was raised where nobody handles it"))

    def note_failure(self, failure: StageExecutionError) -> None:
        """Remember the first failure, and note later ones on it."""
        if self._failure is None:
            self._failure = failure
        else:
            self._failure.add_note(f"Then stage {failure.stage!r} failed too: {said(failure.original)}")

    def keep_artifacts(self, artifacts: Iterable[StageArtifact]) -> None:
        """Hand what a stage produced beside its data to the caller's context, if there is one."""
        if self._context is not None:
            self._context.artifacts.extend(artifacts)

    def _finish(self) -> PipelineResults:
        """Tell what has become of the run, and return what it leaves behind."""
        if self._scheduler.stopping and self._begun:
            self._outcomes.tell_left_behind()
        error = self._failure if self._ending is None else self._ending
        if self._failure is not None and error is not self._failure and error is not None:
            error.add_note(
                f"Before that, stage {self._failure.stage!r} failed: {said(self._failure.original)}"
            )
        self._outcomes.progress.stamps.over_ns = now_ns = monotonic_ns()
        results = PipelineResults.of_run(
            OutputsByName(self._outcomes.progress, self._graph.stages_by_name),
            run_id=self._run_id if self._snapshot is None else self._snapshot.pipeline_run_id,
            error=error,
            duration_ms=(now_ns - self.timer.started_ns) / 1e6,
            pipeline=self._graph.name,
        )
        if error is not None:
            error.results = results
        if self._emitter.listening and self._begun:
            self._emit_end(results)
        self._emitter.close()
        return results

    def _emit_end(self, results: PipelineResults) -> None:
        status, error = self._status(), results.error
        if self._graph.wide_events is not None:
            self._emit_wide_end(self._graph.wide_events, results, status)
        # While all is plain, those that have settled are OK.
        plain = self._outcomes.plain and len(results) > 0
        counts = {_OK: len(results)} if plain else self._outcomes.progress.counts()
        data: dict[str, Any] = {"duration_ms": results.duration_ms, "stage_counts": counts}
        if self.fatal is not None:
            data |= {"error": said(self.fatal), "error_type": type(self.fatal).__name__}
        elif isinstance(error, PipelineCancelled):
            data |= {"reason": error.reason, "cancelled_by": error.stage}
        elif isinstance(error, StageExecutionError):
            data |= {"error": error.what, "code": error.code, "failed_stage": error.stage}
        self.emit(_ENDS[status], data)

    def emit_wide_stage(self, stage: str, output: StageOutput) -> None:
        """Emit the wide event of a settled stage, if the graph wants it."""
        wide = self._graph.wide_events
        if wide is not None and wide.stages and self.listening:
            from stageflow.stages.result import StageResult

            now_ns = monotonic_ns()
            result = StageResult.of(stage, output, now_ns - round((output.duration_ms or 0.0) * 1e6), now_ns)
            self.emit(
                wide.emitter.stage_event_type, wide.emitter.build_stage_payload(ctx=self, result=result)
            )

    def _emit_wide_end(self, wide: WideEvents, results: PipelineResults, status: str) -> None:
        if wide.pipeline:
            payload = wide.emitter.build_pipeline_payload(
                ctx=self,
                stage_results=results,
                pipeline_name=self._graph.name,
                status=status,
                duration_ms=results.duration_ms,
                started_at=self.timer.started_at,
            )
            self.emit(wide.emitter.pipeline_event_type, payload)

    def _identity(self) -> dict[str, Any]:
        """Return what every event of the run says of it."""
        snapshot, context = self._snapshot, self._context
        ids: dict[str, str | None] = dict.fromkeys(_IDS)
        if snapshot is None:
            ids["pipeline_run_id"] = str(self._run_id.made())
        else:
            for name in _IDS:
                ids[name] = _text(getattr(snapshot, name))
        if self.parent_run_id is not None:
            ids["parent_run_id"] = str(self.parent_run_id)
        if self.correlation_id is not None:
            ids["correlation_id"] = str(self.correlation_id)
        trace_id = _trace_id()
        if trace_id is not None:
            ids["trace_id"] = trace_id
        return {
            **ids,
            "pipeline": self._graph.name,
            "topology": None if snapshot is None else snapshot.topology,
            "execution_mode": None if snapshot is None else snapshot.execution_mode,
            "service": "pipeline" if context is None else context.service,
        }


_OK = StageStatus.OK
_ENDS = {
    "completed": vocabulary.PIPELINE_COMPLETED,
    "failed": vocabulary.PIPELINE_FAILED,
    "cancelled": vocabulary.PIPELINE_CANCELLED,
}
_IDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")


def _trace_id() -> str | None:
    """Return the id of the trace that the code runs in, ours or OpenTelemetry's, which is not imported for this."""
    if current_trace.get() is not None:
        from stageflow.observability.trace import get_trace_id

        if (trace_id := get_trace_id()) is not None:
            return trace_id
    get_span: Any = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    context = None if get_span is None else get_span().get_span_context()
    return f"{context.trace_id:032x}" if context is not None and context.is_valid else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
