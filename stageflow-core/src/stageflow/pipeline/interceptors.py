"""The names of 0.9's ``stageflow.pipeline.interceptors``."""

from stageflow.errors import CriticalInterceptorError
from stageflow.interceptors import (
    BaseInterceptor,
    ChildTrackerMetricsInterceptor,
    CircuitBreakerInterceptor,
    ErrorAction,
    InterceptorContext,
    InterceptorResult,
    LoggingInterceptor,
    MetricsInterceptor,
    TimeoutInterceptor,
    TracingInterceptor,
    get_default_interceptors,
)
from stageflow.runtime.one_stage import run_with_interceptors

__all__ = [
    "BaseInterceptor",
    "ChildTrackerMetricsInterceptor",
    "CircuitBreakerInterceptor",
    "CriticalInterceptorError",
    "ErrorAction",
    "InterceptorContext",
    "InterceptorResult",
    "LoggingInterceptor",
    "MetricsInterceptor",
    "TimeoutInterceptor",
    "TracingInterceptor",
    "get_default_interceptors",
    "run_with_interceptors",
]
