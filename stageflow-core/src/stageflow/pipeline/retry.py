"""The names of 0.9's ``stageflow.pipeline.retry``."""

from stageflow.errors import RateLimitError, ServiceUnavailableError, TransientError
from stageflow.interceptors.retry import BackoffStrategy, JitterStrategy, RetryInterceptor

__all__ = [
    "BackoffStrategy",
    "JitterStrategy",
    "RateLimitError",
    "RetryInterceptor",
    "ServiceUnavailableError",
    "TransientError",
]
