"""What an interceptor is, and what its hooks are given."""

from __future__ import annotations

from collections import ChainMap
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, final

from stageflow.context.checks import check_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
    from uuid import UUID

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.stages.context import RunScope, StageContext
    from stageflow.stages.output import StageOutput
    from stageflow.stages.result import StageResult
    from stageflow.stages.retry import RetryPolicy
    from stageflow.stages.spec import StageSpec
    from stageflow.stages.stage import StageKind

__all__ = [
    "BaseInterceptor",
    "ErrorAction",
    "InterceptorContext",
    "InterceptorResult",
    "Invocation",
    "attention",
]


class ErrorAction(Enum):
    """What ``on_error`` wants to happen.

    ```python
    import asyncio

    from stageflow import BaseInterceptor, ErrorAction, Pipeline, StageKind


    class Yesterday(BaseInterceptor):
        name = "yesterday"

        async def on_error(self, stage_name, error, ctx):
            return ErrorAction.FALLBACK

        async def fallback(self, stage_name, error, ctx):
            return {"text": "yesterday's news"}


    async def news(ctx):
        raise ConnectionError("no answer")


    graph = Pipeline().with_stage("news", news, StageKind.ENRICH).build(interceptors=[Yesterday()])
    print(asyncio.run(graph.run())["news"].data["text"])
    #> yesterday's news
    ```
    """

    RETRY = auto()
    FALLBACK = auto()
    FAIL = auto()


@final
class InterceptorResult:
    """What ``before`` returns to keep the stage from running.

    Args:
        stage_ran: False ends the chain here; True is the same as returning None.
        result: The stage's output in its place: a ``StageOutput``, or data for an OK one.
        error: Why the stage may not run; the stage fails with it.

    ```python
    import asyncio

    from stageflow import BaseInterceptor, InterceptorResult, Pipeline, StageKind


    class Closed(BaseInterceptor):
        name = "closed"

        async def before(self, stage_name, ctx):
            return InterceptorResult(stage_ran=False, result={"text": "come back tomorrow"})


    async def answer(ctx):
        return {"text": "at your service"}


    graph = Pipeline().with_stage("answer", answer, StageKind.AGENT).build(interceptors=[Closed()])
    print(asyncio.run(graph.run())["answer"].data["text"])
    #> come back tomorrow
    ```
    """

    __slots__ = ("error", "result", "stage_ran")

    def __init__(
        self,
        *,
        stage_ran: bool = True,
        result: StageOutput | Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        self.stage_ran = stage_ran
        self.result = result
        self.error = error


class Link(Protocol):
    """What the context of an interceptor needs to know of it."""

    name: str


@final
class Invocation:
    """One passage of one attempt through the chain: what its interceptors share."""

    __slots__ = ("_data", "_observations", "body_output", "result", "stage", "started_ns")

    _data: MutableMapping[str, Any]  # not there before somebody asks for it
    _observations: dict[str, dict[str, Any]]  # likewise
    body_output: StageOutput | None
    result: StageResult | None
    stage: StageContext
    started_ns: int

    @property
    def data(self) -> MutableMapping[str, Any]:
        """The run's data, below what interceptors wrote during this passage."""
        if not hasattr(self, "_data"):
            stage = self.stage
            self._data = ChainMap({}, *stage.scope.facts(stage, self.started_ns), stage.data)
        return self._data

    @property
    def observations(self) -> dict[str, dict[str, Any]]:
        """What interceptors noted, by their names."""
        if not hasattr(self, "_observations"):
            self._observations = {}
        return self._observations


@final
class InterceptorContext:
    """What an interceptor's hooks are given: the run, the attempt, and a place of their own.

    Attributes:
        owner: The interceptor, as the chain knows it.
        invocation: What it shares with the other interceptors.

    ```python
    import asyncio

    from stageflow import BaseInterceptor, InterceptorContext, Pipeline, StageKind


    class Greets(BaseInterceptor):
        name = "greets"

        async def before(self, stage_name: str, ctx: InterceptorContext) -> None:
            print(ctx.pipeline, stage_name, ctx.attempt, ctx.data["tone"])


    async def answer(ctx): ...


    graph = Pipeline("chat").with_stage("answer", answer, StageKind.AGENT).build(interceptors=[Greets()])
    asyncio.run(graph.run(data={"tone": "calm"}))
    #> chat answer 1 calm
    ```
    """

    # Without __init__, which would double the time: one is made for each interceptor of each attempt.
    __slots__ = ("invocation", "owner")

    invocation: Invocation
    owner: Link

    @property
    def name(self) -> str:
        """The interceptor."""
        return self.owner.name

    @property
    def stage(self) -> StageContext:
        """The context of the stage's attempt."""
        return self.invocation.stage

    @property
    def data(self) -> MutableMapping[str, Any]:
        """What the caller handed to interceptors. Writes stay within this attempt of this stage."""
        return self.invocation.data

    @property
    def snapshot(self) -> ContextSnapshot:
        """What the run was started with."""
        return self.stage.snapshot

    @property
    def pipeline_run_id(self) -> UUID | None:
        """The run."""
        return self.stage.pipeline_run_id

    @property
    def request_id(self) -> UUID | None:
        """The request that the run answers."""
        return self.stage.request_id

    @property
    def session_id(self) -> UUID | None:
        """The session."""
        return self.stage.snapshot.session_id

    @property
    def user_id(self) -> UUID | None:
        """The user."""
        return self.stage.snapshot.user_id

    @property
    def org_id(self) -> UUID | None:
        """The tenant."""
        return self.stage.snapshot.org_id

    @property
    def interaction_id(self) -> UUID | None:
        """The interaction within the session."""
        return self.stage.snapshot.interaction_id

    @property
    def topology(self) -> str | None:
        """The kind of pipeline."""
        return self.stage.snapshot.topology

    @property
    def execution_mode(self) -> str | None:
        """The mode that the run was started in."""
        return self.stage.execution_mode

    @property
    def kind(self) -> StageKind:
        """What the stage is for."""
        return self.stage.kind

    @property
    def pipeline(self) -> str:
        """The name of the pipeline that the stage runs in."""
        return self.stage.pipeline

    @property
    def attempt(self) -> int:
        """Which attempt of the stage this is, from 1."""
        return self.stage.attempt

    @property
    def body_output(self) -> StageOutput | None:
        """What the stage itself returned; None until it has, and when something took its place."""
        return self.invocation.body_output

    def add_observation(self, key: str, value: Any) -> None:
        """Note something about this attempt, under the interceptor's own name."""
        check_type("InterceptorContext.add_observation", "key", key, str, "a str")
        self.invocation.observations.setdefault(self.name, {})[key] = value

    def get_observation(self, key: str, default: Any = None) -> Any:
        """Return what this interceptor noted under *key*."""
        check_type("InterceptorContext.get_observation", "key", key, str, "a str")
        return self.invocation.observations.get(self.name, {}).get(key, default)

    def try_emit_event(self, type: str, data: Mapping[str, Any] | None = None) -> None:  # noqa: A002 - published
        """Emit an event of the run. Never raises."""
        self.stage.try_emit_event(type, data)


@final
class _Attention:
    """Counts how often some interceptor's interest has changed; only ever compared."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        self.generation = 0


attention = _Attention()


class BaseInterceptor:
    """Wraps every attempt of every stage; subclasses override the hooks that they need.

    Hooks that are not overridden cost nothing. ``before`` runs in ascending order of ``priority``; ``after`` and
    ``on_error`` run in descending order and only for interceptors whose ``before`` has been entered.

    Attributes:
        name: What the interceptor is called in errors and logs.
        priority: Lower is further out.
        fail_closed: Whether an exception in a hook fails the stage. Set it to False only for interceptors that
            merely watch: theirs are logged, and the stage goes on.

    ```python
    from stageflow import BaseInterceptor, InterceptorResult


    class OfficeHours(BaseInterceptor):
        name = "office_hours"
        priority = 2

        async def before(self, stage_name, ctx):
            if ctx.data.get("closed"):
                return InterceptorResult(stage_ran=False, error="The office is closed")
            return None
    ```
    """

    name: str = "base_interceptor"
    priority: int = 100
    fail_closed: ClassVar[bool] = True

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        """Run before the stage; a result with ``stage_ran=False`` takes its place."""

    async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
        """Run when the attempt has ended, well or badly."""

    async def on_error(self, stage_name: str, error: Exception, ctx: InterceptorContext) -> ErrorAction:
        """Say what to do about an exception of the stage; the first answer that is not FAIL counts."""
        return ErrorAction.FAIL

    async def fallback(
        self, stage_name: str, error: Exception, ctx: InterceptorContext
    ) -> StageOutput | Mapping[str, Any] | None:
        """Return what to use in the stage's place after ``ErrorAction.FALLBACK``; None fails the stage."""

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        """Run in place of the rest of the chain, which is ``await call()``."""
        return await call()

    def attach(self, run: RunScope, outer: Sequence[BaseInterceptor]) -> bool:
        """Say whether the hooks concern a run. To a run that they do not concern, the interceptor costs nothing.

        Asked as the run starts, and in its context: context variables that are set here are seen by all its stages.
        Asked again in every run when somebody has called ``reconsider``.

        Args:
            run: The run.
            outer: The interceptors further out, which are asked later.
        """
        return True

    def failed(
        self, stage_name: str, output: StageOutput, error: BaseException | None, ctx: StageContext
    ) -> None:
        """Hear of an attempt that raised, or answered FAIL or RETRY, in a run that the hooks do not concern.

        Args:
            stage_name: The stage.
            output: How the attempt ended: FAIL or RETRY.
            error: What it raised, if it did.
            ctx: The context of the attempt.
        """

    def facts(self, stage: StageContext, started_ns: int) -> Mapping[str, Any] | None:
        """Return what interceptors find in ``ctx.data`` about an attempt, below what they write and above the caller's.

        Asked when one of them first looks into ``ctx.data`` during the attempt, whether the run concerns the hooks of
        this one or not.

        Args:
            stage: The context of the attempt.
            started_ns: When it began, in nanoseconds of the monotonic clock.
        """

    def reconsider(self) -> None:
        """Ask for ``attach`` to be called again in the runs that are under way: its answer may be another now."""
        attention.generation += 1

    def stage_timeout(self, stage: StageSpec) -> float | None:
        """Declare, at build, the limit of one attempt of *stage* in seconds. The executor enforces it."""
        return None

    def stage_retry(self, stage: StageSpec) -> RetryPolicy | None:
        """Declare, at build, how *stage* is attempted again. The executor does it."""
        return None
