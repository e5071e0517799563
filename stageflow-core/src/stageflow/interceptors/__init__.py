"""Interceptors wrap stages: what one is, the chain that folds them, and the built-in ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.errors import CriticalInterceptorError
    from stageflow.interceptors.base import (
        BaseInterceptor,
        ErrorAction,
        InterceptorContext,
        InterceptorResult,
    )
    from stageflow.interceptors.chain import RetryRequestedError
    from stageflow.interceptors.circuit_breaker import CircuitBreakerInterceptor
    from stageflow.interceptors.defaults import get_default_interceptors
    from stageflow.interceptors.hardening import (
        ContextSizeInterceptor,
        DataChangedError,
        ImmutabilityInterceptor,
    )
    from stageflow.interceptors.idempotency import IdempotencyInterceptor, IdempotencyParamMismatch
    from stageflow.interceptors.idempotency_store import (
        CachedStageResult,
        Claim,
        ClaimedResultStore,
        ClaimStatus,
        IdempotencyStore,
        InMemoryIdempotencyStore,
        ResultStore,
    )
    from stageflow.interceptors.logging import LoggingInterceptor
    from stageflow.interceptors.metrics import ChildTrackerMetricsInterceptor, MetricsInterceptor
    from stageflow.interceptors.retry import BackoffStrategy, JitterStrategy, RetryInterceptor
    from stageflow.interceptors.timeout import DEFAULT_TIMEOUT_MS, TimeoutInterceptor
    from stageflow.interceptors.tracing import TracingInterceptor

__all__ = [
    "DEFAULT_TIMEOUT_MS",
    "BackoffStrategy",
    "BaseInterceptor",
    "CachedStageResult",
    "ChildTrackerMetricsInterceptor",
    "CircuitBreakerInterceptor",
    "Claim",
    "ClaimStatus",
    "ClaimedResultStore",
    "ContextSizeInterceptor",
    "CriticalInterceptorError",
    "DataChangedError",
    "ErrorAction",
    "IdempotencyInterceptor",
    "IdempotencyParamMismatch",
    "IdempotencyStore",
    "ImmutabilityInterceptor",
    "InMemoryIdempotencyStore",
    "InterceptorContext",
    "InterceptorResult",
    "JitterStrategy",
    "LoggingInterceptor",
    "MetricsInterceptor",
    "ResultStore",
    "RetryInterceptor",
    "RetryRequestedError",
    "TimeoutInterceptor",
    "TracingInterceptor",
    "get_default_interceptors",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".errors": ("CriticalInterceptorError",),
            "base": ("BaseInterceptor", "ErrorAction", "InterceptorContext", "InterceptorResult"),
            "chain": ("RetryRequestedError",),
            "circuit_breaker": ("CircuitBreakerInterceptor",),
            "defaults": ("get_default_interceptors",),
            "hardening": ("ContextSizeInterceptor", "DataChangedError", "ImmutabilityInterceptor"),
            "idempotency": ("IdempotencyInterceptor", "IdempotencyParamMismatch"),
            "idempotency_store": (
                "CachedStageResult",
                "Claim",
                "ClaimStatus",
                "ClaimedResultStore",
                "IdempotencyStore",
                "InMemoryIdempotencyStore",
                "ResultStore",
            ),
            "logging": ("LoggingInterceptor",),
            "metrics": ("ChildTrackerMetricsInterceptor", "MetricsInterceptor"),
            "retry": ("BackoffStrategy", "JitterStrategy", "RetryInterceptor"),
            "timeout": ("DEFAULT_TIMEOUT_MS", "TimeoutInterceptor"),
            "tracing": ("TracingInterceptor",),
        },
    )
