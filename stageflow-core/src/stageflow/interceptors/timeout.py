"""A time limit for every attempt of every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from stageflow.context.checks import number_of
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

    ```python
    import asyncio

    from stageflow import Pipeline, StageExecutionError, StageKind, TimeoutInterceptor


    async def slow(ctx):
        await asyncio.sleep(60)


    pipeline = Pipeline().with_stage("slow", slow, StageKind.WORK)
    try:
        asyncio.run(pipeline.build(interceptors=[TimeoutInterceptor(timeout_ms=10)]).run())
    except StageExecutionError as error:
        print(error.original.what)
        #> Stage timed out after 10ms
    ```
    """

    DEFAULT_TIMEOUT_MS: ClassVar[int] = DEFAULT_TIMEOUT_MS
    name = "timeout"
    priority = 5

    def __init__(self, timeout_ms: float = DEFAULT_TIMEOUT_MS) -> None:
        self.timeout_ms = number_of(
            "TimeoutInterceptor",
            "timeout_ms",
            timeout_ms,
            expects="a number of milliseconds",
            problem="is no number",
            infinite=True,
        )

    def stage_timeout(self, stage: StageSpec) -> float | None:
        """Return the limit in seconds."""
        return self.timeout_ms / 1000 if self.timeout_ms > 0 else None
