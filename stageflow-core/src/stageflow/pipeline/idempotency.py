"""The names of 0.9's ``stageflow.pipeline.idempotency``."""

from stageflow.interceptors.idempotency import IdempotencyInterceptor, IdempotencyParamMismatch
from stageflow.interceptors.idempotency_store import (
    CachedStageResult,
    IdempotencyStore,
    InMemoryIdempotencyStore,
)

__all__ = [
    "CachedStageResult",
    "IdempotencyInterceptor",
    "IdempotencyParamMismatch",
    "IdempotencyStore",
    "InMemoryIdempotencyStore",
]
