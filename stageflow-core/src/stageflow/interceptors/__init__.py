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
    from stageflow.interceptors.defaults import get_default_interceptors
    from stageflow.interceptors.logging import LoggingInterceptor
    from stageflow.interceptors.timeout import TimeoutInterceptor

__all__ = [
    "BaseInterceptor",
    "ErrorAction",
    "InterceptorContext",
    "InterceptorResult",
    "LoggingInterceptor",
    "RetryRequestedError",
    "TimeoutInterceptor",
    "get_default_interceptors",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "chain": ("RetryRequestedError",),
            "base": ("BaseInterceptor", "ErrorAction", "InterceptorContext", "InterceptorResult"),
            "defaults": ("get_default_interceptors",),
            "logging": ("LoggingInterceptor",),
            "timeout": ("TimeoutInterceptor",),
        },
    )
