"""What the end of each stage means for the others: the rules of ``docs/explanation/outcomes.md``, applied."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, cast, final

from stageflow.context.frozen import FrozenDict, freeze_in_slices, freeze_small
from stageflow.errors import (
    EffectGateClosed,
    OverloadError,
    PipelineCancelled,
    StageContractError,
    StageExecutionError,
    StageTimeoutError,
    shown,
)
from stageflow.events import vocabulary
from stageflow.interceptors.base import attention
from stageflow.interceptors.chain import RetryRequestedError, as_output
from stageflow.runtime.failure import FailureMode
from stageflow.runtime.interruption import Interruption
from stageflow.runtime.progress import Progress, SkipReason
from stageflow.stages.context import context_of
from stageflow.stages.effect import Effect
from stageflow.stages.output import StageOutput
from stageflow.stages.part import Part
from stageflow.stages.retry import DEFAULT_RETRY
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from stageflow.events.emitter import RunEmitter
    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.runtime.admission import StagePlaces
    from stageflow.runtime.compilation import Body, CompiledStage
    from stageflow.runtime.gate import EffectGate
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.guard_retry import GuardLoop, GuardRounds
    from stageflow.runtime.lending import Lending
    from stageflow.runtime.pauses import Pauses
    from stageflow.runtime.run import Run
    from stageflow.runtime.scheduler import Scheduler
    from stageflow.runtime.streams import Streams
    from stageflow.stages.context import StageContext

__all__ = ["Outcomes", "said"]

_OK, _SKIP, _CANCEL = StageStatus.OK, StageStatus.SKIP, StageStatus.CANCEL
_TIMED_OUT, _STOPPED = Interruption.TIMED_OUT, Interruption.STOPPED
_LONGEST: Final = 1e300  # what a stage asks for as a delay may be any number
_logger = logging.getLogger("stageflow.interceptors")


@final
class Outcomes:
    """Begins the attempts of one run's stages, and settles them.

    Args:
        run: The run: it is told when it has to end, and it is what the contexts of stages see.
        graph: The graph.
        emitter: The run's.
        stage_limit_ms: The limit of every attempt in this run, in milliseconds, instead of the stages' own.
    """

    __slots__ = (
        "_attempts",
        "_graph",
        "_guards",
        "_held",
        "_places",
        "_reopened",
        "_rounds",
        "_scheduler",
        "_stamps",
        "_told",
        "_watchers",
        "calls",
        "completed",
        "emitter",
        "gate",
        "generation",
        "lends",
        "limit_ms",
        "listening",
        "pauses",
        "plain",
        "progress",
        "run",
        "stages",
        "started",
        "streams",
    )

    _scheduler: Scheduler

    def __init__(
        self, run: Run, graph: StageGraph, emitter: RunEmitter, stage_limit_ms: float | None
    ) -> None:
        self.run = run
        self._graph = graph
        self.emitter = emitter
        self.limit_ms = stage_limit_ms
        self._attempts: dict[int, int] = {}  # so far, of stages that wait for another one or were cut short
        # Dicts where sets would do: Python's garbage collector does not look at empty ones.
        self._told: dict[int, None] = {}  # stages whose end has been told though they did not settle
        self._guards: dict[int, GuardRounds] = {}  # of guards that have rejected something
        self._rounds: dict[int, int] = {}  # of stages that a guard has sent back
        self._reopened: dict[int, None] = {}  # those of them that have started again, and not ended
        self._places: StagePlaces | None = None
        self.gate: EffectGate | None = None
        self.streams: Streams | None = None  # once there are any
        self.lends = False  # whether stages may wait for gates or streams while they run
        self.pauses: Pauses | None = None  # if stages may wait for the gate while they run
        self._held: dict[int, Callable[[], None]] | None = (
            None  # what the gate calls, of stages that wait for it
        )
        # Nothing has happened yet but that stages have ended well, and nobody asks for more than their outputs.
        self.plain = graph.wide_events is None and not graph.gated and not graph.streamed
        self._watchers: Sequence[BaseInterceptor] = ()  # those that only want to hear of failures
        self.generation = attention.generation
        self.stages = graph.stages
        self.calls: Sequence[Body] = ()
        self.progress = Progress(graph.stages, graph.waits, run.timer.started_ns)
        self._stamps = self.progress.stamps
        self.listening = emitter.listening
        if self.listening:
            self.started = emitter.form(stage="", status=vocabulary.STAGE_STARTED, kind="")
            self.completed = emitter.form(
                stage="",
                status=vocabulary.STAGE_COMPLETED,
                duration_ms=0.0,
                ready_ns=0,
                began_ns=0,
                ended_ns=0,
                attempt=1,
            )

    def begin(self, scheduler: Scheduler, gate: EffectGate | None) -> None:
        """Make ready the stages that wait for nothing.

        Args:
            scheduler: The run's.
            gate: What holds effects, if there is anything.
        """
        self._scheduler = scheduler
        if gate is not None:
            from stageflow.runtime.pauses import Pauses

            self.gate = gate
            self.lends = True
            self._held = {}
            self.pauses = Pauses()
            self.plain = False
            gate.call_when_decided(self._gate_is_decided)
        if self._graph.limited:
            from stageflow.runtime import admission

            self.plain = False
            self._places = admission.StagePlaces(scheduler, self._graph.max_concurrency)
        self._attach()
        if self._graph.streamed:
            self.open_streams()
        if not scheduler.stopping:
            scheduler.ready.extend(self._graph.roots)

    def open_streams(self) -> Streams:
        """Return the streams of the run: stages publish, and somebody may read."""
        if self.streams is None:
            from stageflow.runtime import streams

            self.lends = True
            self.streams = streams.Streams(self._graph, self.lending(), self.run.emit, self.run.chunks)
        return self.streams

    def is_running(self, number: int, attempt: int) -> bool:
        """Say whether an attempt of a stage has not ended."""
        return self.progress.settled[number] is None and attempt == self._attempts.get(number, 0) + 1

    def _attach(self) -> None:
        """Ask the interceptors whether the run concerns them, and take up the calls with the hooks of those."""
        self.generation = attention.generation
        graph = self._graph
        active = self._scheduler.context.run(graph.active_in, self.run) if graph.is_asking else ()
        self.calls, self._watchers = graph.calls(active)
        if self.gate is not None:
            from stageflow.runtime import gate

            who = self.gate, self.lending()
            self.calls = gate.telling_calls(*who, self.stages, self.calls)

    def leave_queues(self) -> None:
        """The run is ending: nothing waits for a place any more."""
        if self._places is not None:
            self._places.leave_queues()

    def crash(self, error: BaseException) -> None:
        """End the run: something of its machinery raised, or what nobody may catch came by."""
        self.run.crash(error)

    def tell_left_behind(self) -> None:
        """Emit what has become of stages that did not settle, because the run ended first."""
        for stage in self.progress.unsettled():
            number = stage.number
            if number in self._told:
                continue
            if self._held and number in self._held and self.gate is not None and self.gate.is_closed:
                self._emit(stage, vocabulary.STAGE_SKIPPED, {"reason": SkipReason.GATE_CLOSED})
                continue
            rejecting = number in self._rounds and stage.loop is not None
            if rejecting or number in self._attempts or number in self._reopened:
                self._stamps.waited(number, Part.BACKOFF, monotonic_ns())
                if self.streams is not None:
                    self.streams.ended(stage, asyncio.CancelledError())
                attempt = self._attempts.get(number, 0) or 1
                self._emit(stage, vocabulary.STAGE_CANCELLED, {"attempt": attempt, **self._parts(number)})
            elif number not in self._rounds:  # else the end of its last round has been told
                self._emit(stage, vocabulary.STAGE_SKIPPED, {"reason": SkipReason.RUN_STOPPED})

    def release(self) -> None:
        """The run has ended: let go of those who refer to this.

        So all of a run that went well is freed without the cyclic collector; an error's traceback refers to frames.
        """
        if self.gate is not None:
            self.gate.release((self._held or {}).values())
        self.streams = None
        del self.run, self._scheduler, self.progress.left

    # --- what the scheduler asks ------------------------------------------------------------------------

    def enter(self, number: int) -> StageContext | None:
        """Begin the next attempt of a ready stage; None if it does not start, or not yet."""
        stage = self.stages[number]
        if attention.generation != self.generation:
            self._attach()
        attempt = self._admitted(stage)
        if self.pauses is not None:
            self.pauses.settle(number, asyncio.get_running_loop().time())
        if attempt == 1 and stage.readers and self.streams is not None:
            self.streams.started(stage)
            self.progress.started(stage, monotonic_ns(), self._scheduler.ready)
        if attempt == 1 and self.listening:
            self._announce(stage)
            if self._scheduler.stopping:  # by whoever heard of it
                self.keep_out(number)
                return None
        if not attempt:
            return None
        return context_of(self.run, stage.spec, attempt)

    def keep_out(self, number: int) -> None:
        """Note that a stage does not start though it was said to."""
        self._attempts[number] = 0
        if self._places is not None:
            self._places.vacate(number)

    def _admitted(self, stage: CompiledStage) -> int:
        """Return the number of the attempt that a stage may start now; 0 if none, or not yet."""
        number = stage.number
        attempt = self._attempts.get(number, 0) + 1
        places = self._places
        waited = self._held is not None and number in self._held
        if attempt == 1 and not waited and (places is None or number not in places):
            obstacle = self.progress.obstacle(stage)
            if obstacle is None and not stage.regular:
                obstacle = self._condition(stage)
            if obstacle is not None:
                if obstacle:
                    self._skip(stage, obstacle)
                return 0
        if self.gate is not None and stage.has_effect and not self._lets_pass(self.gate, stage):
            return 0
        if places is not None:
            if not self._admit(places, stage):
                return 0
            if self._scheduler.stopping:
                places.vacate(number)
        return 0 if self._scheduler.stopping else attempt

    def _lets_pass(self, gate: EffectGate, stage: CompiledStage) -> bool:
        """Say whether a stage may have its effect now; one that may never is settled, another one waits."""
        what, _ = gate.around(stage)
        if what is None or what.is_open:
            return True
        number = stage.number
        if what.is_closed:
            self._skip(stage, SkipReason.GATE_CLOSED)
            return False
        self._stamps.queued(number, monotonic_ns())
        goes_on = partial(self._goes_on, number)
        if self._held is not None:
            self._held[number] = goes_on
        held = {"stage": stage.name, "effect": stage.spec.effect.value, "gates": what.names}
        self.run.emit(vocabulary.EFFECT_HELD, held)
        self._scheduler.park(number)
        self.run.lend_above()
        what.call_when_decided(goes_on)
        return False

    def _goes_on(self, number: int) -> None:
        """The gate that a stage has waited for is decided."""
        if not self._scheduler.stopping:
            self._stamps.waited(number, Part.GATE, monotonic_ns())
            self._scheduler.unpark(number)

    def _gate_is_decided(self) -> None:
        if self.gate is not None and self._graph.gated:
            if self.gate.is_open:
                self.run.emit(vocabulary.EFFECT_GATE_OPENED, {})
            else:
                closed = self.gate.closed("")
                data = {"gate": closed.gate, "reason": closed.reason}
                self.run.emit(vocabulary.EFFECT_GATE_CLOSED, data)

    def limit_of(self, stage: CompiledStage) -> float | None:
        """Return the limit of an attempt of *stage* in this run, in seconds."""
        if self.limit_ms is None:
            return stage.timeout
        return self.limit_ms / 1000 if self.limit_ms > 0 else None

    def leave(
        self,
        ctx: StageContext,
        number: int,
        value: object,
        error: BaseException | None,
        interrupted: Interruption | None,
        began_ns: int,
        now_ns: int,
    ) -> Generator[None, None, None] | None:
        """Settle a stage whose attempt ended with *value*, or with *error*.

        Args:
            ctx: The context of the attempt.
            number: The stage.
            value: What it returned.
            error: What it raised.
            interrupted: Why it was asked to stop, if it was.
            began_ns: When it began.
            now_ns: When it ended.

        Returns:
            Nothing, or what is left to do and may take several turns of the event loop.
        """
        stage = self.stages[number]
        self._stamps.ended(number, began_ns, now_ns)
        duration_ms = (now_ns - began_ns) / 1e6
        if self._places is not None:
            self._places.vacate(number)
        if error is not None or interrupted is _TIMED_OUT:
            self._end_badly(stage, ctx, error, interrupted, duration_ms)
            return None
        try:
            output = as_output(stage.name, value)
            data: Any = output.data
            if data.__class__ is not dict and data.__class__ is not FrozenDict:
                data = dict(data)
        except Exception as exc:  # noqa: BLE001 - what a stage returns may be anything; then the stage fails
            self._end_badly(stage, ctx, exc, interrupted, duration_ms)
            return None
        frozen = freeze_small(data) if data.__class__ is dict else data
        if frozen is None:  # it holds containers, large ones
            return self._freeze_and_settle(stage, ctx, output, data, interrupted, duration_ms)
        self._settle(stage, output.settled(frozen, duration_ms), ctx)
        return None

    def _freeze_and_settle(
        self,
        stage: CompiledStage,
        ctx: StageContext,
        output: StageOutput,
        data: Mapping[str, Any],
        interrupted: Interruption | None,
        duration_ms: float,
    ) -> Generator[None, None, None]:
        try:
            frozen = yield from freeze_in_slices(data)
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001 - a cycle in the data, or somebody cancelled the lane
            self._end_badly(stage, ctx, exc, interrupted, duration_ms)
        else:
            self._settle(stage, output.settled(frozen, duration_ms), ctx)

    # --- what the end of a stage means ------------------------------------------------------------------

    def _settle(self, stage: CompiledStage, output: StageOutput, ctx: StageContext) -> None:
        status = output.status
        if status is not _OK:
            self._settle_irregularly(stage, output, ctx)
            return
        self._hand_over(stage, output)
        if self._guards and stage.number in self._guards:
            rounds = self._guards[stage.number].rounds
            self.run.emit(vocabulary.GUARD_RETRY_RECOVERED, {"stage": stage.name, "attempts": rounds})
        if self.listening:
            event = self.completed.copy()
            event["stage"] = stage.name
            event["duration_ms"] = output.duration_ms
            event.update(self._stamps.told(stage.number))
            event["attempt"] = ctx.attempt
            self.emitter.send(stage.completed, event, monotonic_ns())
        self._tell_gate(stage, output)

    def _settle_irregularly(self, stage: CompiledStage, output: StageOutput, ctx: StageContext) -> None:
        """A stage answered something else than OK."""
        self.plain = False
        status = output.status
        if status is not _SKIP and status is not _CANCEL:
            self._settle_failure(stage, output, ctx)
            return
        self._hand_over(stage, output, error=asyncio.CancelledError() if status is _CANCEL else None)
        data: dict[str, Any] = {"duration_ms": output.duration_ms, "attempt": ctx.attempt}
        data |= self._parts(stage.number)
        if status is _SKIP:
            self._emit(stage, vocabulary.STAGE_SKIPPED, {**data, "reason": output.data.get("reason", "")})
            self._tell_gate(stage, output)
        else:
            reason = str(output.data.get("cancel_reason", ""))
            self._emit(stage, vocabulary.STAGE_CANCELLED, {**data, "reason": reason})
            self._tell_gate(stage, output)
            self.run.stop(PipelineCancelled(stage.name, reason, run_id=self.run.snapshot.pipeline_run_id))

    def _settle_failure(self, stage: CompiledStage, output: StageOutput, ctx: StageContext) -> None:
        """A stage answered FAIL or RETRY."""
        error = RuntimeError(output.error)
        self._tell_watchers(stage, output, None, ctx)
        policy = stage.retry or DEFAULT_RETRY
        may = output.status is StageStatus.RETRY or stage.retry is not None
        if not (may and policy.wants_status(output.status)) or not self._try_again(
            stage, ctx.attempt, error, output.data.get("retry_after")
        ):
            self._give_up(stage, error, ctx.attempt, output)

    def _hand_over(
        self,
        stage: CompiledStage,
        output: StageOutput,
        kept: str | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Keep an output, forward what came with it, and make ready whoever waited for it last."""
        self.progress.settle(stage, output, self._scheduler.ready, kept)
        if self.streams is not None:
            self.streams.ended(stage, error)
        if self._reopened:
            self._reopened.pop(stage.number, None)
        if output.artifacts:
            self.run.keep_artifacts(output.artifacts)
        if output.events:
            for event in output.events:
                self.run.emit(event.type, {"stage": stage.name, **event.data})
        if self._graph.wide_events is not None:
            self.run.emit_wide_stage(stage.name, output)

    def _tell_gate(self, stage: CompiledStage, output: StageOutput, kept: str | None = None) -> None:
        """Let the gate know, once the event has told everybody, how a stage has settled."""
        if self.gate is not None:
            self.gate.settled(stage, output, kept)

    def _end_badly(
        self,
        stage: CompiledStage,
        ctx: StageContext,
        error: BaseException | None,
        interrupted: Interruption | None,
        duration_ms: float,
    ) -> None:
        self.plain = False
        number = ctx.attempt
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self.run.fatal = error
            self._fail(stage, error, number, StageOutput.fail(said(error)).with_duration(duration_ms))
            return
        asked = isinstance(error, RetryRequestedError)
        if isinstance(error, RetryRequestedError):
            error = error.original
        if interrupted is _TIMED_OUT:
            timed_out = StageTimeoutError(stage.name, self.limit_of(stage) or 0.0)
            timed_out.__cause__ = None if isinstance(error, asyncio.CancelledError) else error
            error = timed_out
        elif interrupted is _STOPPED and isinstance(error, asyncio.CancelledError):
            self._cut_short(stage, number, duration_ms)
            return
        elif isinstance(error, EffectGateClosed):
            self._stopped_by_gate(stage, number, duration_ms)
            return
        elif isinstance(error, PipelineCancelled) and (reason := self.run.cancel_reason) is not None:
            # ctx.raise_if_cancelled() and the like: the stage has noticed by itself, perhaps before the run has.
            self._cut_short(stage, number, duration_ms)
            self.run.stop(error if self._scheduler.stopping else self.run.cancelled(reason))
            return
        if error is None:  # neither returned, nor raised, nor was timed out: that cannot be
            error = RuntimeError("the stage ended in no way at all")
        failed = StageOutput.fail(said(error)).with_duration(duration_ms)
        self._tell_watchers(stage, failed, error, ctx)
        wanted = asked or (stage.retry is not None and stage.retry.wants(error))
        if wanted and stage.spec.effect is Effect.IRREVERSIBLE and not self._has_key():
            how = (
                "its effect is irreversible, and the run has no idempotency key. If repeating is safe, let it return "
                "StageOutput.retry(...), or say effect="
            )
            self._refuse_retry(stage, number, error, "irreversible_effect", how)
            wanted = False
        if not wanted or not self._try_again(stage, number, error, getattr(error, "retry_after", None)):
            self._give_up(stage, error, number, failed)

    def _stopped_by_gate(self, stage: CompiledStage, attempt: int, duration_ms: float) -> None:
        """A stage found, when it wanted to do something to the world, that a gate has closed."""
        output = StageOutput.skip(SkipReason.GATE_CLOSED).with_duration(duration_ms)
        self._hand_over(stage, output, kept=SkipReason.GATE_CLOSED)
        data: dict[str, Any] = {"duration_ms": duration_ms, "attempt": attempt, **self._parts(stage.number)}
        self._emit(stage, vocabulary.STAGE_SKIPPED, {**data, "reason": SkipReason.GATE_CLOSED})
        self._tell_gate(stage, output, SkipReason.GATE_CLOSED)

    async def wait_for_gate(self, gate: EffectGate, stage: CompiledStage) -> None:
        """Wait, as a stage that is running, until the gate is decided."""
        number, loop = stage.number, asyncio.get_running_loop()
        self.run.lend_above()
        resume = self.lending().wait(number, Part.GATE)
        pauses = self.pauses
        if pauses is not None:
            pauses.begin(number, loop.time())
        try:
            await gate.decided_around(stage)
        except GeneratorExit:  # the coroutine was thrown away: nothing may be awaited
            raise
        except BaseException:
            await resume()
            raise
        finally:
            if pauses is not None:
                pauses.end(number, loop.time())
        await resume()

    def leave_lines(self) -> None:
        """Let stages that have been asked to stop wait no more for places that they have lent."""
        if self._places is not None:
            self._places.leave_lines()

    def lending(self) -> Lending:
        """Return what takes the places of stages that wait while they run."""
        from stageflow.runtime import lending

        return lending.Lending(self._scheduler, self._stamps, self._places)

    def _has_key(self) -> bool:
        """Say whether the run has an idempotency key, so that what cannot be taken back may be repeated."""
        known = self.run.data.get("idempotency_key") is not None
        return known or any(getattr(one, "finds_keys", False) for one in self._graph.interceptors)

    def _refuse_retry(
        self, stage: CompiledStage, attempt: int, error: BaseException, reason: str, how: str
    ) -> None:
        if attempt < (stage.retry or DEFAULT_RETRY).max_attempts and not self._scheduler.stopping:
            error.add_note(f"Stage {stage.name!r} is not attempted again: {how}")
            data = {"stage": stage.name, "attempt": attempt, "error": said(error), "reason": reason}
            self.run.emit(vocabulary.RETRY_REFUSED, data)

    def _tell_watchers(
        self, stage: CompiledStage, output: StageOutput, error: BaseException | None, ctx: StageContext
    ) -> None:
        """Tell the interceptors whose hooks were not called that the attempt did not end well."""
        for watcher in self._watchers:
            try:
                watcher.failed(stage.name, output, error, ctx)
            except Exception:
                _logger.warning("Interceptor %r raised in failed()", watcher.name, exc_info=True)

    def _give_up(
        self, stage: CompiledStage, error: BaseException, attempts: int, output: StageOutput
    ) -> None:
        """There is no further attempt: a guard may send back what it guards, and all else has failed."""
        if stage.loop is None or not self._send_back(stage, stage.loop):
            self._fail(stage, error, attempts, output)

    def _cut_short(self, stage: CompiledStage, attempt: int, duration_ms: float) -> None:
        """A stage gave way to the end of the run."""
        self._told[stage.number] = None
        if self.streams is not None:
            self.streams.ended(stage, asyncio.CancelledError())
        data: dict[str, Any] = {"duration_ms": duration_ms, "attempt": attempt, **self._parts(stage.number)}
        self._emit(stage, vocabulary.STAGE_CANCELLED, data)

    def _try_again(
        self, stage: CompiledStage, number: int, error: BaseException, retry_after: object
    ) -> bool:
        """Schedule another attempt, if there may be one."""
        policy = stage.retry or DEFAULT_RETRY
        if self._scheduler.stopping:
            return False
        if number >= policy.max_attempts:
            if number > 1:
                data = {"stage": stage.name, "attempts": number, "error": said(error)}
                self.run.emit(vocabulary.RETRY_EXHAUSTED, data)
            return False
        if self.streams is not None and not self.streams.may_repeat(stage):
            how = "it has published chunks. If its readers can do without them, say restartable=True"
            self._refuse_retry(stage, number, error, "has_published", how)
            return False
        wait: float = 0.0
        if isinstance(retry_after, (int, float)) and not isinstance(retry_after, bool):
            wait = retry_after if 0 < retry_after < _LONGEST else 0.0
        delay = policy.delay(number, float(wait))
        self._attempts[stage.number] = number
        data = {"delay_ms": delay * 1000, "error": said(error)}
        scheduled = {"stage": stage.name, "attempt": number, "backoff_strategy": policy.backoff.value, **data}
        self.run.emit(vocabulary.RETRY_SCHEDULED, scheduled)
        if self._scheduler.stopping:  # by whoever heard of it
            self._stamps.attempted(stage.number)
            return True
        self._emit(
            stage, vocabulary.STAGE_RETRYING, {"attempt": number + 1, **data, **self._parts(stage.number)}
        )
        self._stamps.attempted(stage.number)
        if self.streams is not None:
            self.streams.restarts(stage, number + 1)
        self._scheduler.again(stage.number, delay)
        return True

    def _fail(self, stage: CompiledStage, error: BaseException, attempts: int, output: StageOutput) -> None:
        self.plain = False
        if output.status is not StageStatus.FAIL:  # RETRY, and there was no further attempt
            output = output.__replace__(status=StageStatus.FAIL)
        from stageflow.observability.taxonomy import is_retryable

        failure = StageExecutionError(
            stage.name,
            error,
            is_retryable(error) or attempts > 1,
            run_id=self.run.snapshot.pipeline_run_id,
            attempts=attempts,
        )
        failure.__cause__ = error
        self.run.note_failure(failure)
        self._hand_over(stage, output, error=error)
        self._emit(
            stage,
            vocabulary.STAGE_FAILED,
            {
                "error": output.error,
                "error_type": type(error).__name__,
                "duration_ms": output.duration_ms,
                "attempt": attempts,
                **self._parts(stage.number),
            },
        )
        self._tell_gate(stage, output)
        if self._graph.failure_mode is FailureMode.FAIL_FAST or self.run.fatal is not None:
            self.run.stop(failure)

    def _skip(self, stage: CompiledStage, reason: str) -> None:
        self.plain = False
        self._stamps.kept(stage.number, monotonic_ns())
        output = StageOutput.skip(reason)
        self._hand_over(stage, output, kept=reason)
        self._emit(stage, vocabulary.STAGE_SKIPPED, {"reason": reason, **self._parts(stage.number)})
        self._tell_gate(stage, output, reason)

    def _condition(self, stage: CompiledStage) -> str | None:
        """Ask the router and ``when=``; a reason to skip, None to go on, or "" if asking has failed the stage."""
        try:
            if stage.router is not None and not self._routed(stage):
                return SkipReason.ROUTE_NOT_TAKEN
            when = stage.spec.when
            if when is None or when(self.run.inputs_of(stage.name)):
                return None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - a broken predicate is a failure of its stage
            exc.add_note(f"raised while it was decided whether stage {stage.name!r} runs")
            self._fail_at_start(stage, exc)
            return ""
        return SkipReason.CONDITION_FALSE

    def _routed(self, stage: CompiledStage) -> bool:
        chosen = self.progress.route_of(stage)
        if isinstance(chosen, str):
            return chosen in stage.labels
        if isinstance(chosen, (list, tuple, set, frozenset)):
            labels = cast("Iterable[object]", chosen)
            return any(isinstance(one, str) and one in stage.labels for one in labels)
        router = self._graph.stages[stage.router or 0].name
        what = f"Its router {router!r} chose {shown(chosen)}, which is no label"
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

    def _fail_at_start(self, stage: CompiledStage, error: BaseException) -> None:
        attempts = self._attempts.get(stage.number, 0)
        if not attempts and self.listening:
            self._announce(stage)
        self._stamps.kept(stage.number, monotonic_ns())
        self._fail(stage, error, attempts or 1, StageOutput.fail(said(error)))

    # --- guards that send back --------------------------------------------------------------------------

    def _send_back(self, guard: CompiledStage, loop: GuardLoop) -> bool:
        """Run again what a guard has rejected; False if there have been enough rounds."""
        if self._scheduler.stopping:
            return False
        from stageflow.runtime import guard_retry

        self.plain = False
        rounds = self._guards.setdefault(guard.number, guard_retry.GuardRounds())
        data = {
            "stage": guard.name,
            "retry_stage": self._graph.stages[loop.target].name,
            "attempt": rounds.rounds,
            "max_attempts": loop.policy.max_attempts,
        }
        self.run.emit(vocabulary.GUARD_RETRY_ATTEMPT, data)
        reason = rounds.exhausted(loop.policy, self.progress.output(loop.target))
        if reason is not None:
            self.run.emit(vocabulary.GUARD_RETRY_EXHAUSTED, {**data, "reason": reason})
            return False
        self.run.emit(vocabulary.GUARD_RETRY_SCHEDULED, data)
        self.progress.reset(loop.members)
        if self.gate is not None:
            self.gate.taken_back(loop.members)
        if self.streams is not None:
            self.streams.taken_back(loop.members)
        for number in loop.members:
            self._stamps.attempted(number)
            self.run.forget_receipt(self.stages[number].name)
            if self._held is not None:
                self._held.pop(number, None)
            self._attempts.pop(number, None)
            self._rounds[number] = rounds.rounds
        if not self._scheduler.stopping:
            self._stamps.ready_ns[loop.target] = monotonic_ns()
            self._scheduler.ready.append(loop.target)
        return True

    # --- events -----------------------------------------------------------------------------------------

    def _announce(self, stage: CompiledStage) -> None:
        """Tell that a stage starts, or, if a guard has sent it back, that it starts once more."""
        if stage.number in self._rounds:
            self._reopened[stage.number] = None
            data = {"kind": stage.kind, "round": self._rounds[stage.number]}
            self._emit(stage, vocabulary.STAGE_RETRYING, data)
            return
        self._emit(stage, vocabulary.STAGE_STARTED, {"kind": stage.kind})

    def _parts(self, number: int) -> Mapping[str, Any]:
        """Return what an event says of how a stage spent its time so far."""
        return self._stamps.told(number) if self.listening else {}

    def backed_off(self, number: int) -> None:
        """A stage has waited for another attempt, and is ready for it."""
        self._stamps.waited(number, Part.BACKOFF, monotonic_ns())

    def _emit(self, stage: CompiledStage, status: str, data: Mapping[str, Any]) -> None:
        if self.run.listening:
            self.run.emit(
                vocabulary.stage_event(stage.name, status), {"stage": stage.name, "status": status, **data}
            )


def said(error: BaseException | None) -> str:
    """Return what an error says, in one line for events and outputs."""
    return getattr(error, "what", None) or str(error) or type(error).__name__
