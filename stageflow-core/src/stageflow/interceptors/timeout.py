"""A time limit for every attempt of every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from stageflow.context.checks import wrong_type, wrong_value
from stageflow.interceptors.base import BaseInterceptor

if TYPE_CHECKING:
    from stageflow.stages.spec import StageSpec

__all__ = ["DEFAULT_TIMEOUT_MS", "TimeoutInterceptor"]

DEFAULT_TIMEOUT_MS = 30_000


@final
class TimeoutInterceptor(BaseInterceptor):
    """Declares the limit of one attempt; the executor arms it when a stage suspends and cancels the stage.

    A stage's own ``timeout=`` wins over it, and ``ctx.data["_timeout_ms"]`` of a run over both.

    Args:
        timeout_ms: The limit in milliseconds; zero or less means none.
    """

    name = "timeout"
    priority = 5

    def __init__(self, timeout_ms: float = DEFAULT_TIMEOUT_MS) -> None:
        if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong_type("TimeoutInterceptor", "timeout_ms", "a number of milliseconds", timeout_ms)
        if timeout_ms != timeout_ms:  # noqa: PLR0124 - NaN is the one number that does not equal itself
            raise wrong_value("TimeoutInterceptor", "timeout_ms", "is no number", timeout_ms)
        self.timeout_ms = timeout_ms

    def stage_timeout(self, stage: StageSpec) -> float | None:
        """Return the limit in seconds."""
        return self.timeout_ms / 1000 if self.timeout_ms > 0 else None
