"""Keeps a stage that fails again and again from being called for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, final

from stageflow.errors import PipelineCancelled
from stageflow.interceptors.base import BaseInterceptor
from stageflow.observability.breaker import LocalCircuitBreaker, counts_as_failure, lend_circuit_breaker
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stageflow.interceptors.base import InterceptorContext
    from stageflow.observability.breaker import Permit
    from stageflow.stages.output import StageOutput

__all__ = ["CircuitBreakerInterceptor"]

_PROVIDER: Final = "stage"


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
        failure_threshold: int = 5,
        recovery_timeout: float = 30.0,
        *,
        breaker: LocalCircuitBreaker | None = None,
    ) -> None:
        self.breaker = breaker or LocalCircuitBreaker(failure_threshold, recovery_timeout)

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        """Let the attempt through, and note how it went.

        Raises:
            CircuitBreakerOpenError: The circuit of the stage is open, or another attempt is trying it.
        """
        permit = self.breaker.acquire(stage_name, _PROVIDER)
        lent_before = lend_circuit_breaker(self.breaker)
        try:
            output = await call()
            _settle(permit, output, ctx)
        except asyncio.CancelledError:
            # Either the run is ending, or the executor has enforced the time limit of the attempt.
            if not ctx.stage.is_cancelled:
                permit.fail("over its time limit")
            raise
        except Exception as exc:
            if counts_as_failure(exc) and not (isinstance(exc, PipelineCancelled) and ctx.stage.is_cancelled):
                permit.fail(f"{type(exc).__name__}: {exc}")
            raise
        else:
            return output
        finally:
            permit.release()
            lend_circuit_breaker(lent_before)


def _settle(permit: Permit, output: StageOutput, ctx: InterceptorContext) -> None:
    status = output.status
    if _swallowed_cancellation(ctx):
        permit.fail("over its time limit")
    elif status is StageStatus.OK or (status is StageStatus.FAIL and ctx.stage.kind is StageKind.GUARD):
        permit.succeed()
    elif status is StageStatus.FAIL or status is StageStatus.RETRY:
        permit.fail(output.error or status.value)


def _swallowed_cancellation(ctx: InterceptorContext) -> bool:
    """Say whether the attempt was over its limit but has returned something nevertheless."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0 and not ctx.stage.is_cancelled
