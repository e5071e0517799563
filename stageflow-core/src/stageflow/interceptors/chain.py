"""Folds interceptors around the body of a stage, once for all the runs that they concern.

```
   before A ─► before B ─► around B ( before C ─► body ─► after C ) ─► after B ─► after A
   └──────── one section ─────────┘ └──── the next section ───────┘
```

A *section* is what lies between two ``around`` hooks: its interceptors' hooks are called one after another from a
single coroutine. So an interceptor costs its own hooks and no coroutine of the chain's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.errors import CriticalInterceptorError, StageContractError, shown
from stageflow.interceptors.base import (
    BaseInterceptor,
    ErrorAction,
    InterceptorContext,
    InterceptorResult,
    Invocation,
)
from stageflow.stages.output import PLAIN, StageOutput, output_of
from stageflow.stages.result import result_of
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from stageflow.stages.context import RunScope, StageContext
    from stageflow.stages.result import StageResult

    Attach = Callable[[RunScope, Sequence[BaseInterceptor]], bool]
    Body = Callable[[StageContext], Coroutine[Any, Any, object]]
    Around = Callable[[str, Callable[[], Awaitable[StageOutput]], InterceptorContext], Awaitable[StageOutput]]
    Rest = Callable[[StageContext, Invocation | None], Coroutine[Any, Any, StageOutput]]

__all__ = [
    "InterceptorChain",
    "RetryRequestedError",
    "as_output",
    "asked_at_start",
    "compile_chain",
    "has_facts",
    "hears_of_failures",
    "sort_interceptors",
]

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


def asked_at_start(
    interceptors: Sequence[BaseInterceptor],
) -> Iterator[tuple[BaseInterceptor, Attach | None, Sequence[BaseInterceptor]]]:
    """Yield who is to be asked whether a run concerns it, innermost first; with how, and those further out.

    Whoever overrides no hook is left out. Whoever has hooks and no ``attach`` of its own need not be asked.
    """
    for number, one in reversed(list(enumerate(interceptors))):
        attach = one.attach if _overrides(one, "attach") and hasattr(one, "attach") else None
        if attach is not None or any(_overrides(one, hook) for hook in _HOOKS):
            yield one, attach, interceptors[:number]


def has_facts(interceptor: BaseInterceptor) -> bool:
    """Say whether an interceptor knows something that others find in ``ctx.data``."""
    return hasattr(interceptor, "facts") and _overrides(interceptor, "facts")


def hears_of_failures(interceptor: BaseInterceptor) -> bool:
    """Say whether an interceptor wants to be told of failures in runs that do not concern it otherwise."""
    return hasattr(interceptor, "failed") and _overrides(interceptor, "failed")


def compile_chain(interceptors: Sequence[BaseInterceptor]) -> Callable[[str, Body], Body]:
    """Return what puts the body of a stage inside the hooks of *interceptors*, outermost first."""
    sections: list[tuple[_Link, ...]] = []  # innermost first
    links: list[_Link] = []
    for interceptor in reversed(interceptors):
        link = _Link(interceptor)
        if link.around is not None and links:
            sections.append(tuple(links))
            links = []
        links.insert(0, link)
    if links:
        sections.append(tuple(links))

    def inside(stage: str, body: Body) -> Body:
        call, rest = body, None
        for section in sections:
            call = rest = _Section(stage, section, body, rest).run
        return call

    return inside


def as_output(stage: str, value: Any) -> StageOutput:
    """Return what a stage returned as a ``StageOutput``: nothing and a mapping are OK ones.

    Raises:
        StageContractError: It is something else.
    """
    if value.__class__ is dict:
        return output_of(PLAIN, value)
    if isinstance(value, StageOutput):
        return value
    if value is None:
        return output_of(PLAIN, {})
    if isinstance(value, Mapping):
        return output_of(PLAIN, cast("Mapping[str, Any]", value))
    what = f"It returned {type(value).__name__}, which is neither a StageOutput nor a mapping nor None"
    raise StageContractError(stage, what, fix="Return StageOutput.ok(...), or write the stage with @stage")


def _overrides(interceptor: BaseInterceptor, hook: str) -> bool:
    return getattr(type(interceptor), hook, None) is not getattr(BaseInterceptor, hook)


@final
class _Link:
    """One interceptor: its hooks, those that it overrides, and what their errors mean."""

    __slots__ = ("after", "around", "before", "fallback", "guards", "name", "on_error")

    def __init__(self, interceptor: BaseInterceptor) -> None:
        self.name = interceptor.name
        self.guards = getattr(interceptor, "fail_closed", True)
        self.before = interceptor.before if _overrides(interceptor, "before") else None
        self.after = interceptor.after if _overrides(interceptor, "after") else None
        self.on_error = interceptor.on_error if _overrides(interceptor, "on_error") else None
        self.around = interceptor.around if _overrides(interceptor, "around") else None
        self.fallback = interceptor.fallback

    def instead(self, stage: str, result: object) -> StageOutput | None:
        """Return what takes the place of the stage, if ``before`` said so.

        Raises:
            StageContractError: It returned something else than an ``InterceptorResult``.
        """
        if not isinstance(result, InterceptorResult):
            what = f"before() of interceptor {self.name!r} returned {shown(result)}"
            raise StageContractError(stage, what, fix="Return an InterceptorResult or None")
        if result.stage_ran:
            return None
        if result.error is not None:
            return StageOutput.fail(result.error or "refused")
        return as_output(stage, result.result)

    def raises(self, stage: str, error: Exception, hook: str) -> Exception | None:
        """Return *error* to be raised if a hook's exception fails the stage; else log it."""
        if self.guards or isinstance(error, CriticalInterceptorError):
            error.add_note(f"raised in {hook}() of interceptor {self.name!r}")
            return error
        self.report(stage, error, hook)
        return None

    def report(self, stage: str, error: Exception, hook: str) -> None:
        """Log the exception of a hook, which changes nothing."""
        _logger.warning(
            "Interceptor %r raised in %s() around stage %r", self.name, hook, stage, exc_info=error
        )


@final
class _Section:
    """Interceptors whose hooks are called from one coroutine, around the rest of the chain.

    Args:
        stage: The stage.
        links: The interceptors, outermost first. Only the last may have an ``around``.
        body: The body of the stage.
        rest: The section further in, with all that is in it; None if the body is all that is left.
    """

    __slots__ = ("_body", "_links", "_rest", "_stage", "_whole")

    def __init__(self, stage: str, links: tuple[_Link, ...], body: Body, rest: Rest | None) -> None:
        self._stage = stage
        self._links = links
        self._body = body
        self._rest = rest
        self._whole = links[-1].around is None and rest is None

    async def run(  # noqa: C901, PLR0912, PLR0915 - the rules of hooks, in order
        self, stage: StageContext, invocation: Invocation | None = None
    ) -> Any:
        """Call the hooks and the rest; see the picture. Without an *invocation*, this is the outermost section."""
        if invocation is None:
            invocation = Invocation()
            invocation.stage = stage
            invocation.started_ns = monotonic_ns()
            invocation.body_output = invocation.result = None
        name = self._stage
        entered: list[InterceptorContext] = []
        output: Any = None  # a StageOutput in the end; so declared, as a cast is a call
        link: Any
        error: Exception | asyncio.CancelledError | None = None
        try:
            for link in self._links:
                ctx = InterceptorContext()
                ctx.owner = link
                ctx.invocation = invocation
                if link.before is not None:
                    try:
                        result = await link.before(name, ctx)
                        if result is not None:
                            output = link.instead(name, result)
                    except Exception as exc:
                        if link.raises(name, exc, "before") is not None:
                            raise
                entered.append(ctx)
                if output is not None:
                    break
            else:
                if self._whole:
                    output = invocation.body_output = as_output(name, await self._body(stage))
                else:
                    output = await self._around(self._links[-1], entered[-1], invocation)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - the hooks hear of it, then it is raised
            error = exc
        for ctx in reversed(entered):
            link = ctx.owner
            try:
                if error is not None and not isinstance(error, (asyncio.CancelledError, RetryRequestedError)):
                    output, error = await self._recover(link, ctx, error)
                if link.after is not None:
                    known = invocation.result
                    if known is None or error is not None or known.output is not output:
                        known = invocation.result = _result(name, output, error, invocation.started_ns)
                    await link.after(name, known, ctx)
            except asyncio.CancelledError as exc:
                error = exc
            except Exception as exc:  # noqa: BLE001 - whatever after() raises
                # If the stage has failed already, that error comes first.
                if error is None and output is not None and output.status is StageStatus.OK:
                    error = link.raises(name, exc, "after")
                else:
                    link.report(name, exc, "after")
        if error is not None:
            raise error
        return output

    async def _further_in(self, invocation: Invocation) -> StageOutput:
        if self._rest is not None:
            return await self._rest(invocation.stage, invocation)
        invocation.body_output = output = as_output(self._stage, await self._body(invocation.stage))
        return output

    async def _around(self, link: _Link, ctx: InterceptorContext, invocation: Invocation) -> StageOutput:
        """Run the hook in place of the rest; of one that only watches, an error of its own changes nothing."""
        around = cast("Around", link.around)
        outcomes: list[StageOutput | Exception] = []  # of the rest, which the hook calls once, as a rule

        async def call() -> StageOutput:
            try:
                output = await self._further_in(invocation)
            except Exception as exc:
                outcomes.append(exc)
                raise
            outcomes.append(output)
            return output

        try:
            return as_output(self._stage, await around(self._stage, call, ctx))
        except Exception as exc:
            if (
                link.guards
                or isinstance(exc, CriticalInterceptorError)
                or any(exc is one for one in outcomes)
            ):
                raise
            link.report(self._stage, exc, "around")
        if not outcomes:
            return await self._further_in(invocation)
        if isinstance(outcomes[-1], Exception):
            raise outcomes[-1]
        return outcomes[-1]

    async def _recover(
        self, link: _Link, ctx: InterceptorContext, error: Exception
    ) -> tuple[StageOutput | None, Exception | None]:
        """Ask ``on_error``; returns the fallback, or the error, which may have become the wish for another attempt."""
        if link.on_error is None:
            return None, error
        fallback = None
        try:
            action = await link.on_error(self._stage, error, ctx)
            if action is ErrorAction.FALLBACK:
                fallback = await link.fallback(self._stage, error, ctx)
        except Exception as exc:  # noqa: BLE001 - the stage's own error is the one to raise
            link.report(self._stage, exc, "on_error")
            return None, error
        if fallback is not None:
            try:
                return as_output(self._stage, fallback), None
            except StageContractError as exc:
                return None, exc
        if action is ErrorAction.RETRY:
            wish = RetryRequestedError(error)
            wish.__cause__ = error
            return None, wish
        return None, error


def _result(stage: str, output: Any, error: BaseException | None, started_ns: int) -> StageResult:
    """Return what ``after`` is told."""
    if error is not None:
        if isinstance(error, asyncio.CancelledError):
            output = StageOutput.cancel("interrupted")
        elif isinstance(error, RetryRequestedError):
            output = StageOutput.retry(str(error))
        else:
            output = StageOutput.fail(str(error) or type(error).__name__)
    return result_of(stage, output, started_ns, monotonic_ns())
