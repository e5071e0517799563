"""Folds interceptors around the body of a stage, once, when a graph is built."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stageflow.errors import StageContractError
from stageflow.interceptors.base import BaseInterceptor, ErrorAction, InterceptorContext, Invocation
from stageflow.stages.output import StageOutput
from stageflow.stages.result import StageResult
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from stageflow.stages.context import StageContext

    Body = Callable[[StageContext], Awaitable[object]]
    Layer = Callable[[Invocation], Awaitable[StageOutput]]

__all__ = ["RetryRequestedError", "as_output", "compile_chain", "sort_interceptors"]

_logger = logging.getLogger("stageflow.interceptors")
_HOOKS = ("before", "after", "on_error", "around")


class RetryRequestedError(Exception):
    """Carries, from the chain to the executor, that ``on_error`` asked for another attempt."""

    def __init__(self, original: Exception) -> None:
        self.original = original
        super().__init__(str(original))


def sort_interceptors(interceptors: Iterable[BaseInterceptor]) -> tuple[BaseInterceptor, ...]:
    """Return the interceptors outermost first: by priority, and as given where it is equal."""
    return tuple(sorted(interceptors, key=lambda one: one.priority))


def compile_chain(stage: str, body: Body, interceptors: Iterable[BaseInterceptor]) -> Body:
    """Return *body* with those interceptors around it that override a hook; *body* itself if none does."""
    hooked = [one for one in sort_interceptors(interceptors) if any(_overrides(one, hook) for hook in _HOOKS)]
    if not hooked:
        return body

    async def innermost(invocation: Invocation) -> StageOutput:
        result = body(invocation.stage)
        if not hasattr(result, "__await__"):
            what = f"Its runner returned {type(result).__name__} instead of something to await"
            raise StageContractError(stage, what, fix="Write the stage as 'async def'")
        return as_output(stage, await result)

    layer: Layer = innermost
    for interceptor in reversed(hooked):
        layer = _layer(stage, interceptor, layer)
    outermost = layer

    async def chain(ctx: StageContext) -> StageOutput:
        return await outermost(Invocation(ctx))

    return chain


def as_output(stage: str, value: object) -> StageOutput:
    """Return what a stage returned as a ``StageOutput``: nothing and a mapping are OK ones.

    Raises:
        StageContractError: It is something else.
    """
    if isinstance(value, StageOutput):
        return value
    if value is None or isinstance(value, Mapping):
        return StageOutput.ok(value)
    what = f"It returned {type(value).__name__}, which is neither a StageOutput nor a mapping nor None"
    raise StageContractError(stage, what, fix="Return StageOutput.ok(...), or write the stage with @stage")


def _overrides(interceptor: BaseInterceptor, hook: str) -> bool:
    return getattr(type(interceptor), hook, None) is not getattr(BaseInterceptor, hook)


def _layer(stage: str, interceptor: BaseInterceptor, inner: Layer) -> Layer:
    """Return *inner* with one interceptor around it."""
    before = interceptor.before if _overrides(interceptor, "before") else None
    after = interceptor.after if _overrides(interceptor, "after") else None
    on_error = interceptor.on_error if _overrides(interceptor, "on_error") else None
    around = interceptor.around if _overrides(interceptor, "around") else None

    async def layer(invocation: Invocation) -> StageOutput:
        ctx = InterceptorContext(invocation, interceptor.name)
        short: StageOutput | None = None
        if before is not None:
            try:
                result = await before(stage, ctx)
            except Exception as exc:
                _hook_failed(interceptor, "before", stage, exc)
            else:
                if result is not None and not result.stage_ran:
                    short = StageOutput.fail(result.error) if result.error else as_output(stage, result.result)
        try:
            if short is not None:
                output = short
            elif around is not None:
                output = as_output(stage, await around(stage, lambda: inner(invocation), ctx))
            else:
                output = await inner(invocation)
        except RetryRequestedError as exc:
            await finish(invocation, ctx, StageOutput.retry(str(exc)))
            raise
        except Exception as exc:
            recovered = await recover(exc, ctx)
            if isinstance(recovered, RetryRequestedError):
                await finish(invocation, ctx, StageOutput.retry(_said(exc)))
                raise recovered from exc
            if recovered is None:
                await finish(invocation, ctx, StageOutput.fail(_said(exc)))
                raise
            output = recovered
        await finish(invocation, ctx, output)
        return output

    async def recover(error: Exception, ctx: InterceptorContext) -> StageOutput | RetryRequestedError | None:
        if on_error is None:
            return None
        try:
            action = await on_error(stage, error, ctx)
            if action is ErrorAction.RETRY:
                return RetryRequestedError(error)
            if action is ErrorAction.FALLBACK:
                value = await interceptor.fallback(stage, error, ctx)
                return None if value is None else as_output(stage, value)
        except Exception as exc:
            _hook_failed(interceptor, "on_error", stage, exc)
        return None

    async def finish(invocation: Invocation, ctx: InterceptorContext, output: StageOutput) -> None:
        if after is None:
            return
        try:
            await after(stage, StageResult.of(stage, output, invocation.started_at, datetime.now(UTC)), ctx)
        except Exception as exc:
            if output.status is StageStatus.FAIL:  # the stage has failed already, and that error comes first
                _report(interceptor, "after", stage)
            else:
                _hook_failed(interceptor, "after", stage, exc)

    return layer


def _hook_failed(interceptor: BaseInterceptor, hook: str, stage: str, error: Exception) -> None:
    """Fail the stage if the interceptor guards something; else say so and go on."""
    if getattr(interceptor, "fail_closed", True):
        error.add_note(f"raised in {hook}() of interceptor {interceptor.name!r} around stage {stage!r}")
        raise error
    _report(interceptor, hook, stage)


def _report(interceptor: BaseInterceptor, hook: str, stage: str) -> None:
    _logger.warning(
        "Interceptor %r raised in %s() around stage %r", interceptor.name, hook, stage, exc_info=True
    )


def _said(error: Exception) -> Any:
    return str(error) or type(error).__name__
