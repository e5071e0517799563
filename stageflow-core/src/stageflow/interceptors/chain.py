"""Folds interceptors around the body of a stage, once, when a graph is built."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast, final

from stageflow.errors import CriticalInterceptorError, StageContractError
from stageflow.interceptors.base import (
    BaseInterceptor,
    ErrorAction,
    InterceptorContext,
    InterceptorResult,
    Invocation,
)
from stageflow.stages.output import StageOutput
from stageflow.stages.result import StageResult
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from stageflow.stages.context import StageContext

    Body = Callable[[StageContext], Awaitable[object]]
    Around = Callable[[str, Callable[[], Awaitable[StageOutput]], InterceptorContext], Awaitable[StageOutput]]
    Before = Callable[[str, InterceptorContext], Awaitable[InterceptorResult | None]]
    Layer = Callable[[Invocation], Awaitable[StageOutput]]

__all__ = ["InterceptorChain", "RetryRequestedError", "as_output", "compile_chain", "sort_interceptors"]

_logger = logging.getLogger("stageflow.interceptors")
_HOOKS = ("before", "after", "on_error", "around")


class RetryRequestedError(Exception):
    """Carries, from the chain to the executor, that ``on_error`` asked for another attempt."""

    def __init__(self, original: Exception) -> None:
        self.original = original
        super().__init__(str(original))


class InterceptorChain(tuple["BaseInterceptor", ...]):
    """Interceptors in the order in which they will be entered."""

    __slots__ = ()


def sort_interceptors(interceptors: Iterable[BaseInterceptor]) -> InterceptorChain:
    """Return the interceptors outermost first: by priority, and as given where it is equal.

    A chain that somebody has put in order already, as the app does from what plugins say, stays as it is.
    """
    if isinstance(interceptors, InterceptorChain):
        return interceptors
    return InterceptorChain(sorted(interceptors, key=lambda one: one.priority))


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
        invocation.body_output = as_output(stage, await result)
        return invocation.body_output

    layer: Layer = innermost
    for interceptor in reversed(hooked):
        layer = _Layer(stage, interceptor, layer)
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
    if value is None:
        return StageOutput.ok()
    if isinstance(value, Mapping):
        return StageOutput.ok(cast("Mapping[str, object]", value))
    what = f"It returned {type(value).__name__}, which is neither a StageOutput nor a mapping nor None"
    raise StageContractError(stage, what, fix="Return StageOutput.ok(...), or write the stage with @stage")


def _overrides(interceptor: BaseInterceptor, hook: str) -> bool:
    return getattr(type(interceptor), hook, None) is not getattr(BaseInterceptor, hook)


@final
class _Layer:
    """One interceptor around the rest of the chain of one stage."""

    __slots__ = ("_after", "_around", "_before", "_inner", "_interceptor", "_on_error", "_stage")

    def __init__(self, stage: str, interceptor: BaseInterceptor, inner: Layer) -> None:
        self._stage = stage
        self._interceptor = interceptor
        self._inner = inner
        self._before = interceptor.before if _overrides(interceptor, "before") else None
        self._after = interceptor.after if _overrides(interceptor, "after") else None
        self._on_error = interceptor.on_error if _overrides(interceptor, "on_error") else None
        self._around = interceptor.around if _overrides(interceptor, "around") else None

    async def __call__(self, invocation: Invocation) -> StageOutput:
        ctx = InterceptorContext(invocation, self._interceptor.name)
        output = None if self._before is None else await self._short_circuit(self._before, ctx)
        if output is None:
            try:
                if self._around is None:
                    output = await self._inner(invocation)
                else:
                    output = await self._run_around(self._around, invocation, ctx)
            except asyncio.CancelledError:
                await self._leave(invocation, ctx, StageOutput.cancel("interrupted"))
                raise
            except RetryRequestedError as exc:
                await self._leave(invocation, ctx, StageOutput.retry(str(exc)))
                raise
            except Exception as exc:  # noqa: BLE001 - whatever the stage raises
                output = await self._recover(invocation, ctx, exc)
        await self._leave(invocation, ctx, output)
        return output

    async def _short_circuit(self, before: Before, ctx: InterceptorContext) -> StageOutput | None:
        """Enter; returns what takes the place of the stage, if anything does."""
        try:
            result = self._checked(await before(self._stage, ctx))
        except Exception as exc:  # noqa: BLE001 - whatever the hook raises
            if self._guards(exc):
                raise _noted(
                    exc, f"raised in before() of interceptor {self._interceptor.name!r}"
                ) from exc.__cause__
            self._report("before", exc)
            return None
        if result is None or result.stage_ran:
            return None
        if result.error is not None:
            return StageOutput.fail(result.error or "refused")
        return as_output(self._stage, result.result)

    def _checked(self, result: object) -> InterceptorResult | None:
        if result is None or isinstance(result, InterceptorResult):
            return result
        what = f"before() of interceptor {self._interceptor.name!r} returned {result!r}"
        raise StageContractError(self._stage, what, fix="Return an InterceptorResult or None")

    async def _run_around(
        self, around: Around, invocation: Invocation, ctx: InterceptorContext
    ) -> StageOutput:
        """Run the hook in place of the rest; of one that only watches, an error of its own changes nothing."""
        outcomes: list[StageOutput | Exception] = []  # of the rest, which the hook calls once, as a rule

        async def call() -> StageOutput:
            try:
                output = await self._inner(invocation)
            except Exception as exc:
                outcomes.append(exc)
                raise
            outcomes.append(output)
            return output

        try:
            return as_output(self._stage, await around(self._stage, call, ctx))
        except Exception as exc:
            if self._guards(exc) or any(exc is one for one in outcomes):
                raise
            self._report("around", exc)
        if not outcomes:
            return await self._inner(invocation)
        if isinstance(outcomes[-1], Exception):
            raise outcomes[-1]
        return outcomes[-1]

    async def _recover(
        self, invocation: Invocation, ctx: InterceptorContext, error: Exception
    ) -> StageOutput:
        """Ask ``on_error``; returns the fallback, or raises *error* or the wish for another attempt."""
        action, fallback = ErrorAction.FAIL, None
        if self._on_error is not None:
            try:
                action = await self._on_error(self._stage, error, ctx)
                if action is ErrorAction.FALLBACK:
                    fallback = await self._interceptor.fallback(self._stage, error, ctx)
            except Exception as exc:  # noqa: BLE001 - the stage's own error is the one to raise
                self._report("on_error", exc)
        if fallback is not None:
            return as_output(self._stage, fallback)
        if action is ErrorAction.RETRY:
            await self._leave(invocation, ctx, StageOutput.retry(_said(error)))
            raise RetryRequestedError(error) from error
        await self._leave(invocation, ctx, StageOutput.fail(_said(error)))
        raise error

    async def _leave(self, invocation: Invocation, ctx: InterceptorContext, output: StageOutput) -> None:
        if self._after is None:
            return
        try:
            result = StageResult.of(self._stage, output, invocation.started_at, datetime.now(UTC))
            await self._after(self._stage, result, ctx)
        except Exception as exc:  # noqa: BLE001 - whatever the hook raises
            # If the stage has failed already, that error comes first.
            if self._guards(exc) and output.status is StageStatus.OK:
                raise _noted(
                    exc, f"raised in after() of interceptor {self._interceptor.name!r}"
                ) from exc.__cause__
            self._report("after", exc)

    def _guards(self, error: Exception) -> bool:
        return getattr(self._interceptor, "fail_closed", True) or isinstance(error, CriticalInterceptorError)

    def _report(self, hook: str, error: Exception) -> None:
        _logger.warning(
            "Interceptor %r raised in %s() around stage %r",
            self._interceptor.name,
            hook,
            self._stage,
            exc_info=error,
        )


def _noted(error: Exception, note: str) -> Exception:
    error.add_note(note)
    return error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
