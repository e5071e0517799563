"""Keeps a stage that fails again and again from being called for a while."""

from __future__ import annotations

import asyncio
from threading import Lock
from typing import TYPE_CHECKING, Final, final

from stageflow.errors import CircuitBreakerOpenError, ErrorClass, PipelineCancelled, StageTimeoutError
from stageflow.interceptors.base import BaseInterceptor
from stageflow.observability.ambient import lent_breaker, put_back
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stageflow.interceptors.base import InterceptorContext
    from stageflow.observability.breaker import LocalCircuitBreaker, Permit
    from stageflow.stages.context import RunScope, StageContext
    from stageflow.stages.output import StageOutput

__all__ = ["CircuitBreakerInterceptor"]

_PROVIDER: Final = "stage"
_THRESHOLD: Final = 5
_RECOVERY: Final = 30.0
_OVER_LIMIT: Final = "over its time limit"
_making = Lock()


@final
class CircuitBreakerInterceptor(BaseInterceptor):
    """After five failures of a stage in a row, fails it at once for half a minute, then lets one attempt try.

    Every attempt counts once: an exception, FAIL, RETRY and a time-out are failures, OK is a success; a skipped or
    cancelled attempt says nothing, nor does a rejected one or a ``PolicyError``. A GUARD stage that answers FAIL has
    done its work. A rejected stage fails with ``CircuitBreakerOpenError``.

    The state belongs to this object: all runs of the graph that it was built into share it, other graphs do not. In
    stages, ``get_circuit_breaker()`` returns the same breaker, for calls of providers.

    Args:
        failure_threshold: How many failures in a row open the circuit of a stage.
        recovery_timeout: How long it stays open before one attempt may try, in seconds.
        breaker: The breaker to use, to share one among graphs or to give it a clock.
        cautious: True is for a chain that nobody has chosen, as the default one: neither wrong input nor a retry policy
            may open a circuit. Of failures, only time-outs, RETRY and transient and systemic errors count then, and
            only on the first attempt; further attempts are let through.

    ```python
    import asyncio

    from stageflow import Pipeline, StageExecutionError, stage
    from stageflow.interceptors.circuit_breaker import CircuitBreakerInterceptor


    @stage
    async def call_model() -> str:
        raise ConnectionResetError("no answer")


    async def main():
        graph = Pipeline.from_stages(call_model).build(interceptors=[CircuitBreakerInterceptor(2)])
        for _ in range(3):
            try:
                await graph.run()
            except StageExecutionError as error:
                print(error.what)


    asyncio.run(main())
    #> Stage 'call_model' failed: ConnectionResetError: no answer
    #> Stage 'call_model' failed: ConnectionResetError: no answer
    #> Stage 'call_model' failed: Circuit breaker open for call_model/stage
    ```
    """

    name = "circuit_breaker"
    priority = 10

    def __init__(
        self,
        failure_threshold: int = _THRESHOLD,
        recovery_timeout: float = _RECOVERY,
        *,
        breaker: LocalCircuitBreaker | None = None,
        cautious: bool = False,
    ) -> None:
        if breaker is not None and not callable(getattr(breaker, "acquire", None)):
            from stageflow.context.checks import wrong_type

            raise wrong_type("CircuitBreakerInterceptor", "breaker", "a LocalCircuitBreaker or None", breaker)
        self._cautious = cautious
        self._breaker = breaker
        if breaker is None and (failure_threshold, recovery_timeout) != (_THRESHOLD, _RECOVERY):
            from stageflow.observability.breaker import LocalCircuitBreaker

            self._breaker = LocalCircuitBreaker(failure_threshold, recovery_timeout)

    @property
    def breaker(self) -> LocalCircuitBreaker:
        """The breaker. One with the usual limits is made when something fails or asks for it."""
        if self._breaker is None:
            from stageflow.observability.breaker import LocalCircuitBreaker

            with _making:  # runs on several threads share one
                if self._breaker is None:
                    self._breaker = LocalCircuitBreaker(_THRESHOLD, _RECOVERY)
        return self._breaker

    def attach(self, run: RunScope, outer: Sequence[BaseInterceptor]) -> bool:
        """Take part once something has failed; until then all is let through."""
        lent_breaker.set(self._lend)
        return self._breaker is not None

    def failed(
        self, stage_name: str, output: StageOutput, error: BaseException | None, ctx: StageContext
    ) -> None:
        """Count the first failure, from which on every attempt is watched."""
        if error is None:
            failure = self._of_output(output, ctx.kind)
        elif isinstance(error, StageTimeoutError):
            failure = _OVER_LIMIT
        else:
            failure = f"{type(error).__name__}: {error}" if self._tells(error, ctx) else None
        if failure is not None and not (self._cautious and ctx.attempt > 1):
            self._count(None, ctx, failure)
            self.reconsider()

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        """Let the attempt through, and note how it went.

        Raises:
            CircuitBreakerOpenError: The circuit of the stage is open, or another attempt is trying it.
        """
        permit = self._permit(stage_name, ctx)
        token = lent_breaker.set(self._lend)
        try:
            output = await call()
            self._judge(permit, output, ctx)
        except asyncio.CancelledError:
            # Either the run is ending, or the executor has enforced the time limit of the attempt.
            if not ctx.stage.is_cancelled:
                self._count(permit, ctx.stage, _OVER_LIMIT)
            raise
        except Exception as exc:
            if self._tells(exc, ctx.stage):
                self._count(permit, ctx.stage, f"{type(exc).__name__}: {exc}")
            raise
        else:
            return output
        finally:
            if permit is not None:
                permit.release()
            put_back(lent_breaker, token)

    def _lend(self) -> LocalCircuitBreaker:
        return self.breaker

    def _permit(self, stage_name: str, ctx: InterceptorContext) -> Permit | None:
        """Ask for a permit; None where nothing has failed so far, and all are let through."""
        if self._breaker is None:
            return None
        try:
            return self._breaker.acquire(stage_name, _PROVIDER)
        except CircuitBreakerOpenError:
            if self._cautious and ctx.attempt > 1:
                return None
            raise

    def _count(self, permit: Permit | None, ctx: StageContext, failure: str | None) -> None:
        """Say how an attempt went: well if there is no *failure*."""
        if failure is not None and self._cautious and ctx.attempt > 1:
            return
        if permit is None:
            if failure is None and self._breaker is None:
                return
            from stageflow.observability.breaker import Permit

            permit = Permit(self.breaker, (ctx.stage_name, _PROVIDER), 0, None)  # as the first ones are
        permit.settle(failure)

    def _judge(self, permit: Permit | None, output: StageOutput, ctx: InterceptorContext) -> None:
        if _swallowed_cancellation(ctx):
            self._count(permit, ctx.stage, _OVER_LIMIT)
        elif output.status is StageStatus.OK or (
            output.status is StageStatus.FAIL and ctx.kind is StageKind.GUARD
        ):
            self._count(permit, ctx.stage, None)
        else:
            failure = self._of_output(output, ctx.kind)
            if failure is not None:
                self._count(permit, ctx.stage, failure)

    def _of_output(self, output: StageOutput, kind: StageKind) -> str | None:
        """Return what an output says against the stage, if it does."""
        status = output.status
        if status is StageStatus.RETRY or (
            status is StageStatus.FAIL and not self._cautious and kind is not StageKind.GUARD
        ):
            return output.error or status.value
        return None

    def _tells(self, error: BaseException, ctx: StageContext) -> bool:
        """Say whether an exception says something of what the stage calls."""
        from stageflow.observability.breaker import counts_as_failure

        if isinstance(error, PipelineCancelled) and ctx.is_cancelled:
            return False
        if not self._cautious:
            return counts_as_failure(error)
        from stageflow.observability.taxonomy import classify

        return counts_as_failure(error) and classify(error) in {ErrorClass.TRANSIENT, ErrorClass.SYSTEMIC}


def _swallowed_cancellation(ctx: InterceptorContext) -> bool:
    """Say whether the attempt was over its limit but has returned something nevertheless."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0 and not ctx.stage.is_cancelled
