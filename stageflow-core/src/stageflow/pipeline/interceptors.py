"""The names of 0.9's ``stageflow.pipeline.interceptors``."""

from stageflow.errors import CriticalInterceptorError
from stageflow.interceptors.base import BaseInterceptor, ErrorAction, InterceptorContext, InterceptorResult
from stageflow.interceptors.circuit_breaker import CircuitBreakerInterceptor
from stageflow.interceptors.defaults import get_default_interceptors
from stageflow.interceptors.logging import LoggingInterceptor
from stageflow.interceptors.metrics import ChildTrackerMetricsInterceptor, MetricsInterceptor
from stageflow.interceptors.timeout import TimeoutInterceptor
from stageflow.interceptors.tracing import TracingInterceptor

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
]
