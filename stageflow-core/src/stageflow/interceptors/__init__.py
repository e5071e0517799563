"""Interceptors wrap stages: what one is, the chain that folds them, and the built-in ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
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
        IdempotencyStore,
        InMemoryIdempotencyStore,
    )
    from stageflow.interceptors.logging import LoggingInterceptor
    from stageflow.interceptors.metrics import ChildTrackerMetricsInterceptor, MetricsInterceptor
    from stageflow.interceptors.retry import BackoffStrategy, JitterStrategy, RetryInterceptor
    from stageflow.interceptors.timeout import TimeoutInterceptor
    from stageflow.interceptors.tracing import TracingInterceptor

__all__ = [
    "BackoffStrategy",
    "BaseInterceptor",
    "CachedStageResult",
    "ChildTrackerMetricsInterceptor",
    "CircuitBreakerInterceptor",
    "ContextSizeInterceptor",
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
            "tracing": ("TracingInterceptor",),
            "metrics": ("ChildTrackerMetricsInterceptor", "MetricsInterceptor"),
            "hardening": ("ContextSizeInterceptor", "DataChangedError", "ImmutabilityInterceptor"),
            "circuit_breaker": ("CircuitBreakerInterceptor",),
            "retry": ("BackoffStrategy", "JitterStrategy", "RetryInterceptor"),
            "idempotency_store": ("CachedStageResult", "IdempotencyStore", "InMemoryIdempotencyStore"),
            "idempotency": ("IdempotencyInterceptor", "IdempotencyParamMismatch"),
            "chain": ("RetryRequestedError",),
            "base": ("BaseInterceptor", "ErrorAction", "InterceptorContext", "InterceptorResult"),
            "defaults": ("get_default_interceptors",),
            "logging": ("LoggingInterceptor",),
            "timeout": ("TimeoutInterceptor",),
        },
    )
