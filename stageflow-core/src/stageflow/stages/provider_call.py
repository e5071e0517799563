"""``ProviderCall``: one call of a stage to a model or another provider, timed, logged and counted."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self, final

from stageflow.context.checks import check_type
from stageflow.errors import CircuitBreakerOpenError, PipelineCancelled
from stageflow.observability.breaker import LocalCircuitBreaker, counts_as_failure

if TYPE_CHECKING:
    from types import TracebackType
    from uuid import UUID

    from stageflow.observability.breaker import Permit
    from stageflow.protocols import CircuitBreaker
    from stageflow.stages.context import RunScope

__all__ = ["ProviderCall"]

_logger = logging.getLogger("stageflow.runtime")
_PATIENCE = 0.25
"""How long a call waits for its logger, in seconds; it never fails because of it."""


@final
class ProviderCall:
    """``async with ctx.provider_call(...) as call:`` around the call itself.

    Args:
        operation: What is asked for, such as ``"chat"``.
        provider: Whom, such as ``"acme"``.
        model_id: The model.
        scope: The run. Its logger is told of the start and the end; if that raises, the call goes on.
        breaker: Is asked first and told of the outcome. A call that is cancelled, or denied by policy, is neither
            success nor failure.
        context: Further facts for the logger.

    Attributes:
        metrics: What the logger is told at the end; put token counts and the like here.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.stages import ProviderCall


    async def ask(ctx):
        async with ctx.provider_call("chat", "acme", "small") as call:
            call.metrics["tokens"] = 3
            return {"told": isinstance(call, ProviderCall)}


    print(asyncio.run(Pipeline().with_stage("ask", ask, StageKind.AGENT).run())["ask"].data)
    #> {'told': True}
    ```
    """

    __slots__ = (
        "_breaker",
        "_context",
        "_id",
        "_model_id",
        "_operation",
        "_permit",
        "_provider",
        "_scope",
        "_started_ns",
        "metrics",
    )

    def __init__(
        self,
        operation: str,
        provider: str,
        model_id: str | None,
        scope: RunScope,
        breaker: CircuitBreaker,
        context: dict[str, Any],
    ) -> None:
        check_type("provider_call", "operation", operation, str, "a str")
        check_type("provider_call", "provider", provider, str, "a str")
        self._operation = operation
        self._provider = provider
        self._model_id = model_id
        self._scope = scope
        self._breaker = breaker
        self._context = context
        self._permit: Permit | None = None
        self._id: UUID | None = None
        self._started_ns = 0
        self.metrics: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        if isinstance(self._breaker, LocalCircuitBreaker):
            self._permit = self._breaker.acquire(self._operation, self._provider)
        elif await self._breaker.is_open(operation=self._operation, provider=self._provider):
            raise CircuitBreakerOpenError(self._operation, self._provider)
        try:
            await self._log_start()
        except BaseException:  # cancelled: the call will not be made
            self._release()
            raise
        self._started_ns = monotonic_ns()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        latency_ms = round((monotonic_ns() - self._started_ns) / 1e6)
        said = None if error is None else str(error) or type(error).__name__
        if error is None or self._is_failure(error):
            await self._settle(said)
        else:
            self._release()
        await self._log_end(latency_ms, said)

    def _is_failure(self, error: BaseException) -> bool:
        """Say whether the error says something of the provider."""
        if isinstance(error, PipelineCancelled) and self._scope.cancel_reason is not None:
            return False  # as ctx.raise_if_cancelled() raises it
        return isinstance(error, Exception) and counts_as_failure(error)

    async def _settle(self, failure: str | None) -> None:
        if self._permit is not None:
            self._permit.settle(failure)
        elif failure is None:
            await self._breaker.record_success(operation=self._operation, provider=self._provider)
        else:
            await self._breaker.record_failure(
                operation=self._operation, provider=self._provider, reason=failure
            )

    def _release(self) -> None:
        if self._permit is not None:
            self._permit.release()

    async def _log_start(self) -> None:
        logger = self._scope.provider_call_logger
        if logger is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                self._id = await logger.log_call_start(
                    operation=self._operation,
                    provider=self._provider,
                    model_id=self._model_id,
                    **self._context,
                )
        except Exception:
            _logger.warning("The provider call logger raised", exc_info=True)

    async def _log_end(self, latency_ms: int, error: str | None) -> None:
        logger = self._scope.provider_call_logger
        if logger is None or self._id is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await logger.log_call_end(
                    self._id, success=error is None, latency_ms=latency_ms, error=error, **self.metrics
                )
        except Exception:
            _logger.warning("The provider call logger raised", exc_info=True)
