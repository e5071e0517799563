"""What the end of each stage means for the others: the rules of ``docs/explanation/outcomes.md``, applied."""

from __future__ import annotations

import asyncio
from gc import is_tracked
from inspect import iscoroutine
from math import inf
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.context.frozen import FrozenDict, freeze, freeze_in_slices
from stageflow.errors import (
    OverloadError,
    PipelineCancelled,
    StageContractError,
    StageExecutionError,
    StageTimeoutError,
)
from stageflow.events import vocabulary
from stageflow.interceptors.chain import RetryRequestedError, as_output
from stageflow.runtime.failure import FailureMode
from stageflow.runtime.progress import Progress, SkipReason
from stageflow.runtime.scheduler import Interruption
from stageflow.stages.context import StageContext
from stageflow.stages.output import StageOutput
from stageflow.stages.retry import DEFAULT_RETRY
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Generator, Iterable, Mapping

    from stageflow.runtime.admission import StagePlaces
    from stageflow.runtime.compilation import CompiledStage
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.guard_retry import GuardLoop, GuardRounds
    from stageflow.runtime.run import Run
    from stageflow.runtime.scheduler import Scheduler

__all__ = ["Attempt", "Outcomes", "said"]


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
        try:
            result = self.stage.call(self._ctx)
        except StopIteration as exc:  # a plain function raised it; out of here it would look like a result
            msg = "the stage raised StopIteration"
            raise RuntimeError(msg) from exc
        if iscoroutine(result):
            return result
        if hasattr(result, "__await__"):
            return _awaiting(result)
        what = f"Its runner returned {type(result).__name__} instead of something to await"
        raise StageContractError(self.stage.name, what, fix="Write the stage as 'async def'")


async def _awaiting(result: Awaitable[object]) -> object:
    return await result


@final
class Outcomes:
    """Begins the attempts of one run's stages, and settles them.

    Args:
        run: The run: it is told when it has to end, and it is what the contexts of stages see.
        graph: The graph.
        stage_limit_ms: The limit of every attempt in this run, in milliseconds, instead of the stages' own.
    """

    __slots__ = (
        "_attempts",
        "_graph",
        "_guards",
        "_places",
        "_reopened",
        "_rounds",
        "_run",
        "_scheduler",
        "_stage_limit_ms",
        "_told",
        "progress",
    )

    _scheduler: Scheduler

    def __init__(self, run: Run, graph: StageGraph, stage_limit_ms: float | None) -> None:
        self._run = run
        self._graph = graph
        self._stage_limit_ms = stage_limit_ms
        self._attempts: dict[int, int] = {}  # so far, of stages that wait for another one or were cut short
        self._told: set[int] = set()  # stages whose end has been told though they did not settle
        self._guards: dict[int, GuardRounds] = {}  # of guards that have rejected something
        self._rounds: dict[int, int] = {}  # of stages that a guard has sent back
        self._reopened: set[int] = set()  # those of them that have started again, and not ended
        self._places: StagePlaces | None = None
        self.progress = Progress(graph.stages)

    def begin(self, scheduler: Scheduler) -> None:
        """Make ready the stages that wait for nothing."""
        self._scheduler = scheduler
        if self._graph.limited:
            from stageflow.runtime import admission

            self._places = admission.StagePlaces(scheduler, self._graph.max_concurrency)
        if not scheduler.stopping:
            scheduler.ready.extend(self.progress.roots())

    def leave_queues(self) -> None:
        """The run is ending: nothing waits for a place any more."""
        if self._places is not None:
            self._places.leave_queues()

    def crash(self, error: BaseException) -> None:
        """End the run: something of its machinery raised, or what nobody may catch came by."""
        self._run.crash(error)

    def tell_left_behind(self) -> None:
        """Emit what has become of stages that did not settle, because the run ended first."""
        for stage in self.progress.unsettled():
            number = stage.number
            if number in self._told:
                continue
            rejecting = number in self._rounds and stage.loop is not None
            if rejecting or number in self._attempts or number in self._reopened:
                self._emit(stage, vocabulary.STAGE_CANCELLED, {"attempt": self._attempts.get(number, 0) or 1})
            elif number not in self._rounds:  # else the end of its last round has been told
                self._emit(stage, vocabulary.STAGE_SKIPPED, {"reason": SkipReason.RUN_STOPPED})

    # --- what the scheduler asks ------------------------------------------------------------------------

    def enter(self, number: int) -> Attempt | None:  # noqa: C901 - the order of these questions is the rule
        """Begin the next attempt of a ready stage; None if it does not start, or not yet."""
        stage = self._graph.stages[number]
        attempt = self._attempts.get(number, 0) + 1 if self._attempts else 1
        places = self._places
        if attempt == 1 and (places is None or number not in places):
            obstacle = self.progress.obstacle(stage)
            if obstacle is None and (stage.router is not None or stage.spec.when is not None):
                obstacle = self._condition(stage)
            if obstacle is not None:
                if obstacle:
                    self._skip(stage, obstacle)
                return None
        if places is not None and not self._admit(places, stage):
            return None
        scheduler = self._scheduler
        if attempt == 1 and self._run.listening and not scheduler.stopping:
            self._announce(stage)
            if scheduler.stopping:  # by whoever heard of it
                self._attempts[number] = 0
        if scheduler.stopping:
            if places is not None:
                places.vacate(number)
            return None
        limit = stage.timeout
        if self._stage_limit_ms is not None:
            limit = self._stage_limit_ms / 1000 if self._stage_limit_ms > 0 else None
        return Attempt(stage, StageContext.of(self._run, stage.spec, attempt), attempt, limit)

    def leave(
        self, attempt: Attempt, value: object, error: BaseException | None, now_ns: int
    ) -> Generator[None, None, None] | None:
        """Settle a stage whose attempt ended with *value*, or with *error*.

        Returns:
            Nothing, or what is left to do and may take several turns of the event loop.
        """
        stage = attempt.stage
        if self._places is not None:
            self._places.vacate(stage.number)
        duration_ms = (now_ns - attempt.started_ns) / 1e6
        if error is None and attempt.interrupted is not Interruption.TIMED_OUT:
            try:
                output = as_output(stage.name, value)
            except Exception as exc:  # noqa: BLE001 - what a stage returns may be anything; then the stage fails
                error = exc
            else:
                data = output.data
                if data.__class__ is not dict and data.__class__ is not FrozenDict:
                    data = dict(data)
                if is_tracked(data) and data.__class__ is dict:  # it holds containers, of whatever size
                    return self._freeze_and_settle(attempt, output, data, duration_ms)
                self._settle(stage, output.settled(freeze(data), duration_ms), attempt)
                return None
        self._end_badly(attempt, error, duration_ms)
        return None

    def _freeze_and_settle(
        self, attempt: Attempt, output: StageOutput, data: Mapping[str, Any], duration_ms: float
    ) -> Generator[None, None, None]:
        try:
            frozen = yield from freeze_in_slices(data)
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001 - a cycle in the data, or somebody cancelled the lane
            self._end_badly(attempt, exc, duration_ms)
        else:
            self._settle(attempt.stage, output.settled(frozen, duration_ms), attempt)

    # --- what the end of a stage means ------------------------------------------------------------------

    def _settle(self, stage: CompiledStage, output: StageOutput, attempt: Attempt) -> None:
        status = output.status
        if status is StageStatus.RETRY or (
            status is StageStatus.FAIL and stage.retry is not None and stage.retry.wants_status(status)
        ):
            self._again_or_fail(attempt, output)
            return
        if status is StageStatus.FAIL:
            self._give_up(stage, RuntimeError(output.error), attempt.number, output)
            return
        self._hand_over(stage, output)
        if self._guards and stage.number in self._guards:
            rounds = self._guards[stage.number].rounds
            self._run.emit(vocabulary.GUARD_RETRY_RECOVERED, {"stage": stage.name, "attempts": rounds})
        if self._run.listening:
            data: dict[str, Any] = {"duration_ms": output.duration_ms, "attempt": attempt.number}
            if status is StageStatus.SKIP:
                self._emit(stage, vocabulary.STAGE_SKIPPED, {**data, "reason": output.data.get("reason", "")})
            elif status is StageStatus.CANCEL:
                reason = output.data.get("cancel_reason", "")
                self._emit(stage, vocabulary.STAGE_CANCELLED, {**data, "reason": reason})
            else:
                self._emit(stage, vocabulary.STAGE_COMPLETED, data)
        if status is StageStatus.CANCEL:
            reason = str(output.data.get("cancel_reason", ""))
            self._run.stop(PipelineCancelled(stage.name, reason, run_id=self._run.snapshot.pipeline_run_id))

    def _hand_over(self, stage: CompiledStage, output: StageOutput, kept: str | None = None) -> None:
        """Keep an output, forward what came with it, and make ready whoever waited for it last."""
        self._reopened.discard(stage.number)
        ready = self.progress.settle(stage, output, kept)
        if ready and not self._scheduler.stopping:
            self._scheduler.ready.extend(ready)
        if output.artifacts:
            self._run.keep_artifacts(output.artifacts)
        if output.events:
            for event in output.events:
                self._run.emit(event.type, {"stage": stage.name, **event.data})
        if self._graph.wide_events is not None:
            self._run.emit_wide_stage(stage.name, output)

    def _end_badly(self, attempt: Attempt, error: BaseException | None, duration_ms: float) -> None:
        stage = attempt.stage
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._run.fatal = error
            self._fail(stage, error, attempt.number, StageOutput.fail(said(error)).with_duration(duration_ms))
            return
        asked = isinstance(error, RetryRequestedError)
        if isinstance(error, RetryRequestedError):
            error = error.original
        if attempt.interrupted is Interruption.TIMED_OUT:
            timed_out = StageTimeoutError(stage.name, attempt.timeout or 0.0)
            timed_out.__cause__ = None if isinstance(error, asyncio.CancelledError) else error
            error = timed_out
        elif attempt.interrupted is Interruption.STOPPED and isinstance(error, asyncio.CancelledError):
            self._cut_short(attempt, duration_ms)
            return
        elif isinstance(error, PipelineCancelled) and (reason := self._run.cancel_reason) is not None:
            # ctx.raise_if_cancelled() and the like: the stage has noticed by itself, perhaps before the run has.
            self._cut_short(attempt, duration_ms)
            self._run.stop(error if self._scheduler.stopping else self._run.cancelled(reason))
            return
        if error is None:  # neither returned, nor raised, nor was timed out: that cannot be
            error = RuntimeError("the stage ended in no way at all")
        wanted = asked or (stage.retry is not None and stage.retry.wants(error))
        if not wanted or not self._try_again(attempt, error, getattr(error, "retry_after", None)):
            failed = StageOutput.fail(said(error)).with_duration(duration_ms)
            self._give_up(stage, error, attempt.number, failed)

    def _give_up(
        self, stage: CompiledStage, error: BaseException, attempts: int, output: StageOutput
    ) -> None:
        """There is no further attempt: a guard may send back what it guards, and all else has failed."""
        if stage.loop is None or not self._send_back(stage, stage.loop):
            self._fail(stage, error, attempts, output)

    def _cut_short(self, attempt: Attempt, duration_ms: float) -> None:
        """A stage gave way to the end of the run."""
        self._told.add(attempt.stage.number)
        data = {"duration_ms": duration_ms, "attempt": attempt.number}
        self._emit(attempt.stage, vocabulary.STAGE_CANCELLED, data)

    def _again_or_fail(self, attempt: Attempt, output: StageOutput) -> None:
        error = RuntimeError(output.error)
        policy = attempt.stage.retry or DEFAULT_RETRY
        wanted = policy.wants_status(output.status)
        if not wanted or not self._try_again(attempt, error, output.data.get("retry_after")):
            self._give_up(attempt.stage, error, attempt.number, output)

    def _try_again(self, attempt: Attempt, error: BaseException, retry_after: object) -> bool:
        """Schedule another attempt, if there may be one."""
        stage, number = attempt.stage, attempt.number
        policy = stage.retry or DEFAULT_RETRY
        if self._scheduler.stopping:
            return False
        if number >= policy.max_attempts:
            if number > 1:
                data = {"stage": stage.name, "attempts": number, "error": said(error)}
                self._run.emit(vocabulary.RETRY_EXHAUSTED, data)
            return False
        wait = retry_after if isinstance(retry_after, (int, float)) and 0 < retry_after < inf else 0.0
        delay = policy.delay(number, float(wait))
        self._attempts[stage.number] = number
        data = {"delay_ms": delay * 1000, "error": said(error)}
        scheduled = {"stage": stage.name, "attempt": number, "backoff_strategy": policy.backoff.value, **data}
        self._run.emit(vocabulary.RETRY_SCHEDULED, scheduled)
        if self._scheduler.stopping:  # by whoever heard of it
            return True
        self._emit(stage, vocabulary.STAGE_RETRYING, {"attempt": number + 1, **data})
        self._scheduler.again(stage.number, delay)
        return True

    def _fail(self, stage: CompiledStage, error: BaseException, attempts: int, output: StageOutput) -> None:
        if output.status is not StageStatus.FAIL:  # RETRY, and there was no further attempt
            output = output.__replace__(status=StageStatus.FAIL)
        from stageflow.observability.taxonomy import is_retryable

        failure = StageExecutionError(
            stage.name,
            error,
            is_retryable(error) or attempts > 1,
            run_id=self._run.snapshot.pipeline_run_id,
            attempts=attempts,
        )
        failure.__cause__ = error
        self._run.note_failure(failure)
        self._hand_over(stage, output)
        self._emit(
            stage,
            vocabulary.STAGE_FAILED,
            {
                "error": output.error,
                "error_type": type(error).__name__,
                "duration_ms": output.duration_ms,
                "attempt": attempts,
            },
        )
        if self._graph.failure_mode is FailureMode.FAIL_FAST or self._run.fatal is not None:
            self._run.stop(failure)

    def _skip(self, stage: CompiledStage, reason: str) -> None:
        self._hand_over(stage, StageOutput.skip(reason), kept=reason)
        self._emit(stage, vocabulary.STAGE_SKIPPED, {"reason": reason})

    def _condition(self, stage: CompiledStage) -> str | None:
        """Ask the router and ``when=``; a reason to skip, None to go on, or "" if asking has failed the stage."""
        try:
            if stage.router is not None and not self._routed(stage):
                return SkipReason.ROUTE_NOT_TAKEN
            when = stage.spec.when
            if when is None or when(self._run.inputs_of(stage.name)):
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

    def _fail_at_start(self, stage: CompiledStage, error: BaseException) -> None:
        attempts = self._attempts.get(stage.number, 0)
        if not attempts:
            self._announce(stage)
        self._fail(stage, error, attempts or 1, StageOutput.fail(said(error)))

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
        self._run.emit(vocabulary.GUARD_RETRY_ATTEMPT, data)
        reason = rounds.exhausted(loop.policy, self.progress.outputs[loop.target])
        if reason is not None:
            self._run.emit(vocabulary.GUARD_RETRY_EXHAUSTED, {**data, "reason": reason})
            return False
        self._run.emit(vocabulary.GUARD_RETRY_SCHEDULED, data)
        self.progress.reset(loop.members)
        for number in loop.members:
            self._attempts.pop(number, None)
            self._rounds[number] = rounds.rounds
        if not self._scheduler.stopping:
            self._scheduler.ready.append(loop.target)
        return True

    # --- events -----------------------------------------------------------------------------------------

    def _announce(self, stage: CompiledStage) -> None:
        """Tell that a stage starts, or, if a guard has sent it back, that it starts once more."""
        data: dict[str, Any] = {"kind": stage.spec.kind.value}
        if stage.number in self._rounds:
            self._reopened.add(stage.number)
            self._emit(stage, vocabulary.STAGE_RETRYING, {**data, "round": self._rounds[stage.number]})
        else:
            self._emit(stage, vocabulary.STAGE_STARTED, data)

    def _emit(self, stage: CompiledStage, status: str, data: Mapping[str, Any]) -> None:
        if self._run.listening:
            self._run.emit(
                vocabulary.stage_event(stage.name, status), {"stage": stage.name, "status": status, **data}
            )


def said(error: BaseException | None) -> str:
    """Return what an error says, in one line for events and outputs."""
    return getattr(error, "what", None) or str(error) or type(error).__name__
