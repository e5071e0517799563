"""A log line when a stage starts and one when it has ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, final

from stageflow.interceptors.base import BaseInterceptor
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.interceptors.base import InterceptorContext, InterceptorResult
    from stageflow.stages.context import RunScope, StageContext
    from stageflow.stages.output import StageOutput
    from stageflow.stages.result import StageResult

__all__ = ["LoggingInterceptor"]

_logger = logging.getLogger("stage_interceptor")
# A failed stage is raised to whoever runs the pipeline; where nobody set up logging it need not be printed as well.
_logger.addHandler(logging.NullHandler())


@final
class LoggingInterceptor(BaseInterceptor):
    """Writes to the logger ``stage_interceptor``, at INFO, and at WARNING when a stage failed.

    ```python
    import asyncio
    import logging

    from stageflow import LoggingInterceptor, Pipeline, StageKind

    logger, records = logging.getLogger("stage_interceptor"), []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


    async def greet(ctx): ...


    pipeline = Pipeline().with_stage("greet", greet, StageKind.TRANSFORM)
    asyncio.run(pipeline.build(interceptors=[LoggingInterceptor()]).run())
    for record in records:
        print(record.getMessage())
    #> Stage starting: greet
    #> Stage completed: greet - completed
    logger.setLevel(logging.NOTSET)
    ```
    """

    name = "logging"
    priority = 50
    fail_closed = False

    def attach(self, run: RunScope, outer: Sequence[BaseInterceptor]) -> bool:
        """Take part where INFO is logged; elsewhere only failures matter."""
        return _logger.isEnabledFor(logging.INFO)

    def failed(
        self, stage_name: str, output: StageOutput, error: BaseException | None, ctx: StageContext
    ) -> None:
        """Log a failure where nothing else is logged."""
        if output.status is StageStatus.FAIL:
            _log(stage_name, "failed", output.error, output.duration_ms, ctx.pipeline_run_id)

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        """Log that the stage starts."""
        if _logger.isEnabledFor(logging.INFO):
            _logger.info(
                "Stage starting: %s",
                stage_name,
                extra={"stage": stage_name, "run_id": str(ctx.pipeline_run_id)},
            )
        return None

    async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
        """Log how the stage ended."""
        _log(stage_name, result.status, result.error, result.duration_ms, ctx.pipeline_run_id)


def _log(stage: str, status: str, error: str | None, duration_ms: float | None, run_id: object) -> None:
    level = logging.WARNING if status == "failed" else logging.INFO
    if _logger.isEnabledFor(level):
        extra = {"stage": stage, "run_id": str(run_id), "status": status, "duration_ms": duration_ms}
        tail = f": {error}" if error else ""
        _logger.log(level, "Stage completed: %s - %s%s", stage, status, tail, extra=extra)
