"""``run_with_interceptors``: one call of one's own, run as a stage of a pipeline is."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.checks import wrong_type
from stageflow.errors import CriticalInterceptorError, PipelineCancelled, StageContractError, StageError
from stageflow.events import vocabulary
from stageflow.events.sink import NoOpEventSink
from stageflow.runtime.graph import StageGraph
from stageflow.runtime.request import RunRequest
from stageflow.stages.context import StageContext
from stageflow.stages.effect import Effect
from stageflow.stages.output import StageOutput
from stageflow.stages.result import StageResult
from stageflow.stages.spec import StageSpec
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.protocols import EventSink
    from stageflow.stages.pipeline_context import PipelineContext

    Returned = StageResult | StageOutput | Mapping[str, Any] | None

__all__ = ["run_with_interceptors"]

_STATUS: Final = {
    "completed": StageStatus.OK,
    "skipped": StageStatus.SKIP,
    "cancelled": StageStatus.CANCEL,
    "failed": StageStatus.FAIL,
    "retry": StageStatus.RETRY,
}
_OF_THE_RUN: Final = frozenset(
    {
        vocabulary.PIPELINE_STARTED,
        vocabulary.PIPELINE_COMPLETED,
        vocabulary.PIPELINE_FAILED,
        vocabulary.PIPELINE_CANCELLED,
    }
)


async def run_with_interceptors(
    stage_name: str,
    stage_run: Callable[[], Awaitable[Returned]],
    ctx: PipelineContext | StageContext | ContextSnapshot | None,
    interceptors: Sequence[BaseInterceptor] | None,
) -> StageResult:
    """Call *stage_run* inside a chain, with the rules of a run: hooks, attempts, time limits, cancellation.

    The stage's events go to the context's sink; those about a pipeline do not, as there is none. To interceptors it is
    a WORK stage, or what the given ``StageContext`` says.

    Args:
        stage_name: What to call it.
        stage_run: The call: a ``StageResult``, a ``StageOutput``, a mapping or nothing comes out of it.
        ctx: Who asks, for whom; ``ctx.data`` is what interceptors find there.
        interceptors: The chain, in any order; None means the defaults, an empty list none at all.

    Returns:
        What has become of it, over all attempts: also a failure, and a cancellation of the context, are results.

    Raises:
        ArgumentTypeError: *stage_run* is no callable.
        CriticalInterceptorError: An interceptor has raised it, or the call.
        PipelineValidationError: The name is none.

    ```python
    import asyncio

    from stageflow import PipelineContext, TimeoutInterceptor, run_with_interceptors


    async def call_model():
        await asyncio.sleep(60)


    ctx = PipelineContext()
    result = asyncio.run(run_with_interceptors("llm", call_model, ctx, [TimeoutInterceptor(timeout_ms=10)]))
    print(result.status, result.error)
    #> failed Stage timed out after 10ms
    ```
    """
    if not callable(stage_run):
        raise wrong_type("run_with_interceptors", "stage_run", "a callable without arguments", stage_run)

    def body(_: StageContext) -> Awaitable[object]:
        called: object = stage_run()
        if not hasattr(called, "__await__"):
            what = f"stage_run returned {type(called).__name__} instead of something to await"
            raise StageContractError(stage_name, what, fix="Write it as 'async def'")
        return _as_output(stage_name, called)

    kind, pipeline, data = _seen_by_interceptors(ctx)
    # Whoever puts a chain around a function by hand says with it whether that may be repeated.
    spec = StageSpec(stage_name, body, kind, effect=Effect.NONE)
    graph = StageGraph([spec], interceptors, name=pipeline)
    started_ns = monotonic_ns()
    results = await graph.run(ctx, data=data, sink=_sink_of(ctx), raise_errors=False)
    ended_ns = started_ns + round(results.duration_ms * 1e6)
    error = results.error
    if isinstance(error, StageError) and isinstance(error.original, CriticalInterceptorError):
        raise error.original
    if stage_name in results:
        return StageResult.of(stage_name, results[stage_name], started_ns, ended_ns)
    reason = error.reason if isinstance(error, PipelineCancelled) else "it did not come to an end"
    return StageResult.of(stage_name, StageOutput.cancel(reason), started_ns, ended_ns)


async def _as_output(stage_name: str, called: Any) -> object:
    """Return what came out of the call as a stage returns it."""
    result = await called
    if not isinstance(result, StageResult):
        return result
    if result.output is not None:
        return result.output
    status = _STATUS.get(result.status)
    if status is None:
        what = f"It returned a StageResult with the status {result.status!r}"
        raise StageContractError(stage_name, what, fix=f"Use one of {', '.join(_STATUS)}")
    error = result.error or ("Unknown error" if status in {StageStatus.FAIL, StageStatus.RETRY} else None)
    return StageOutput(status, dict(result.data), error=error)


def _seen_by_interceptors(ctx: Any) -> tuple[StageKind, str, Mapping[str, Any] | None]:
    """Return the kind of the stage, the name of its pipeline, and what they find under ``ctx.data``."""
    if isinstance(ctx, StageContext):
        return ctx.kind, ctx.pipeline, ctx.scope.data
    return StageKind.WORK, getattr(ctx, "topology", None) or "pipeline", None


def _sink_of(ctx: Any) -> EventSink:
    if isinstance(ctx, StageContext):  # its run numbers them among its own
        return _StageEvents(ctx.scope.emit)
    sink = RunRequest(ctx).event_sink()
    return sink if isinstance(sink, NoOpEventSink) else _StageEvents(sink.try_emit)


@final
class _StageEvents:
    """Hands on the events of the stage, and not those of the run that it needs."""

    __slots__ = ("_hand_on",)

    def __init__(self, hand_on: Callable[..., object]) -> None:
        self._hand_on = hand_on

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:  # noqa: A002 - published
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:  # noqa: A002 - published
        if type not in _OF_THE_RUN:
            self._hand_on(type=type, data=data)
