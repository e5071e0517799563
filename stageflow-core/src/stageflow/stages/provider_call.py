"""``ProviderCall``: one call of a stage to a model or another provider, timed, logged and counted."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self, final

if TYPE_CHECKING:
    from types import TracebackType
    from uuid import UUID

    from stageflow.protocols import CircuitBreaker, ProviderCallLogger

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
        logger: Is told of the start and the end. If it raises, the call goes on.
        breaker: Is asked first and told of the outcome. A call that is cancelled counts as neither.
        context: Further facts for the logger.

    Attributes:
        metrics: What the logger is told at the end; put token counts and the like here.
    """

    __slots__ = (
        "_breaker",
        "_context",
        "_id",
        "_logger",
        "_model_id",
        "_operation",
        "_provider",
        "_started_ns",
        "metrics",
    )

    def __init__(
        self,
        operation: str,
        provider: str,
        model_id: str | None,
        logger: ProviderCallLogger | None,
        breaker: CircuitBreaker | None,
        context: dict[str, Any],
    ) -> None:
        self._operation = operation
        self._provider = provider
        self._model_id = model_id
        self._logger = logger
        self._breaker = breaker
        self._context = context
        self._id: UUID | None = None
        self._started_ns = 0
        self.metrics: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        if self._breaker is not None and await self._breaker.is_open(
            operation=self._operation, provider=self._provider
        ):
            from stageflow.observability.breaker import CircuitBreakerOpenError

            raise CircuitBreakerOpenError(self._operation, self._provider)
        if self._logger is not None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    self._id = await self._logger.log_call_start(
                        operation=self._operation,
                        provider=self._provider,
                        model_id=self._model_id,
                        **self._context,
                    )
            except Exception:
                _logger.warning("The provider call logger raised", exc_info=True)
        self._started_ns = monotonic_ns()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        latency_ms = round((monotonic_ns() - self._started_ns) / 1e6)
        said = None if error is None else str(error) or type(error).__name__
        if self._breaker is not None:
            who = {"operation": self._operation, "provider": self._provider}
            if error is None:
                await self._breaker.record_success(**who)
            elif isinstance(error, Exception):
                await self._breaker.record_failure(**who, reason=said or "")
        if self._logger is not None and self._id is not None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._logger.log_call_end(
                        self._id, success=error is None, latency_ms=latency_ms, error=said, **self.metrics
                    )
            except Exception:
                _logger.warning("The provider call logger raised", exc_info=True)
