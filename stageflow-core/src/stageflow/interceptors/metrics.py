"""A log line with the figures of every attempt, and one with those of the tracker of child runs."""

from __future__ import annotations

import asyncio
import logging
from inspect import isawaitable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, final

from stageflow.interceptors.base import BaseInterceptor
from stageflow.observability.structured import StructuredLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stageflow.interceptors.base import InterceptorContext
    from stageflow.stages.context import RunScope
    from stageflow.stages.output import StageOutput
    from stageflow.stages.result import StageResult

    ChildMetrics = Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]

__all__ = ["ChildTrackerMetricsInterceptor", "MetricsInterceptor"]

_stages = StructuredLog("stage_metrics")
_children = StructuredLog("stageflow.child_tracker_metrics")


@final
class MetricsInterceptor(BaseInterceptor):
    """Writes to the logger ``stage_metrics``, at INFO, one line for every attempt, however it ended.

    Fields: ``stage``, ``status``, ``duration_ms``, ``attempt`` and ``pipeline_run_id``. The status is the output's
    (``ok``, ``skip``, ``cancel``, ``fail``, ``retry``), ``fail`` after an exception, ``cancel`` if the run was
    cancelled, and ``timeout`` if the attempt was over its limit.

    ```python
    import asyncio
    import logging

    from stageflow import Pipeline, stage
    from stageflow.interceptors.metrics import MetricsInterceptor

    logger, records = logging.getLogger("stage_metrics"), []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


    @stage
    async def greet() -> str:
        return "hi"


    asyncio.run(Pipeline.from_stages(greet).build(interceptors=[MetricsInterceptor()]).run())
    print(records[0].getMessage(), records[0].status, records[0].attempt)
    #> Stage metrics: greet ok 1
    logger.setLevel(logging.NOTSET)
    ```
    """

    name = "metrics"
    priority = 40
    fail_closed = False

    def attach(self, run: RunScope, outer: Sequence[BaseInterceptor]) -> bool:
        """Take part where INFO is logged."""
        return _stages.enabled(logging.INFO)

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        """Measure the attempt. ``around`` and not ``after``, which a cancelled attempt does not come to."""
        if not _stages.enabled(logging.INFO):
            return await call()
        started_ns = monotonic_ns()
        status = "fail"
        try:
            output = await call()
            status = output.status.value
        except asyncio.CancelledError:
            status = "cancel" if ctx.stage.is_cancelled else "timeout"
            raise
        else:
            return output
        finally:
            _stages.write(
                logging.INFO,
                f"Stage metrics: {stage_name}",
                {
                    "stage": stage_name,
                    "status": status,
                    "duration_ms": (monotonic_ns() - started_ns) / 1e6,
                    "attempt": ctx.attempt,
                    "pipeline_run_id": str(ctx.pipeline_run_id),
                },
            )


@final
class ChildTrackerMetricsInterceptor(BaseInterceptor):
    """Writes to the logger ``stageflow.child_tracker_metrics``, at INFO, after every stage of a child run.

    Args:
        metrics: Gives the figures of the tracker of child runs, at once or to be awaited, such as the method
            ``get_metrics`` of a ``ChildRunTracker``. Without it, a line says only which run and stage it is about.

    ```python
    from stageflow.interceptors.metrics import ChildTrackerMetricsInterceptor

    print(ChildTrackerMetricsInterceptor(lambda: {"active_children": 2}).priority)
    #> 45
    ```
    """

    name = "child_tracker_metrics"
    priority = 45
    fail_closed = False

    def __init__(self, metrics: ChildMetrics | None = None) -> None:
        self._metrics = metrics

    def attach(self, run: RunScope, outer: Sequence[BaseInterceptor]) -> bool:
        """Take part where INFO is logged."""
        return _children.enabled(logging.INFO)

    async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
        """Log the figures as they are now."""
        if not _children.enabled(logging.INFO):
            return
        parent_run_id: object = getattr(ctx.stage.scope, "parent_run_id", None) or ctx.data.get(
            "parent_run_id"
        )
        if parent_run_id is None:
            return
        figures: Mapping[str, Any] = {}
        if self._metrics is not None:
            given = self._metrics()
            figures = await given if isawaitable(given) else given
        _children.write(
            logging.INFO,
            "ChildRunTracker metrics",
            {
                **figures,
                "component": "ChildRunTracker",
                "pipeline_run_id": str(ctx.pipeline_run_id),
                "parent_run_id": str(parent_run_id),
                "stage": stage_name,
                "is_child_run": True,
            },
        )
