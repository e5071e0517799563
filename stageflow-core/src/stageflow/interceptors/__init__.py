"""Interceptors wrap stages: what one is, the chain that folds them, and the built-in ones."""

from stageflow.interceptors.base import (
    BaseInterceptor,
    ErrorAction,
    InterceptorContext,
    InterceptorResult,
)
from stageflow.interceptors.defaults import get_default_interceptors
from stageflow.interceptors.logging import LoggingInterceptor
from stageflow.interceptors.timeout import TimeoutInterceptor

__all__ = [
    "BaseInterceptor",
    "ErrorAction",
    "InterceptorContext",
    "InterceptorResult",
    "LoggingInterceptor",
    "TimeoutInterceptor",
    "get_default_interceptors",
]
