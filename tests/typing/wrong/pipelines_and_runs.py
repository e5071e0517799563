"""Pipelines, runs, outputs and interceptors in ways that both checkers must refuse: every line that says WRONG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stageflow import (
    BaseInterceptor,
    ContextSnapshot,
    EventSink,
    Pipeline,
    RetryPolicy,
    StageContext,
    Stageflow,
    StageKind,
    StageOutput,
    StageStatus,
    stage,
)

if TYPE_CHECKING:
    from stageflow import InterceptorContext as Ctx
    from stageflow import StageResult


async def body(ctx: StageContext) -> StageOutput:
    return StageOutput.ok()


pipeline = Pipeline().with_stage("a", body, StageKind.WORK)

# --- pipelines -------------------------------------------------------------------------------------------------

pipeline.with_stage("b", body, "work")  # WRONG: a kind is a StageKind
pipeline.with_stage("b", body, StageKind.WORK, timeout="1")  # WRONG: seconds
pipeline.with_stage("b", body, StageKind.WORK, limit="2")  # WRONG: a number or a ConcurrencyLimit
pipeline.with_stage("b", body, StageKind.WORK, retry=3)  # WRONG: a RetryPolicy
pipeline.with_stage("b", body, StageKind.WORK, when=True)  # WRONG: a function
pipeline.with_stage("b", body, StageKind.WORK, dependency=["a"])  # WRONG: it is called dependencies
pipeline.with_stage("b", body)  # WRONG: without a kind
pipeline.build(interceptors=[BaseInterceptor])  # WRONG: the class instead of an instance
pipeline.build(max_concurrency="4")  # WRONG: a number
pipeline.name = 5  # WRONG: a name is a text
RetryPolicy("3")  # WRONG: a number


@stage(kind="work")  # WRONG: a kind is a StageKind
async def first() -> int:
    return 1


@stage(retries=3)  # WRONG: no such option
async def second() -> int:
    return 1


# --- runs ------------------------------------------------------------------------------------------------------


async def runs() -> None:
    await pipeline.run("hi")  # WRONG: a text goes into input_text=
    await pipeline.run(ContextSnapshot(), timeout="1")  # WRONG: seconds
    await pipeline.run(text="hi")  # WRONG: it is called input_text
    for _ in pipeline.stream():  # WRONG: it is asynchronous
        pass
    print(pipeline.run().value("a"))  # WRONG: not awaited
    await Stageflow(interceptors=[3]).run(pipeline)  # WRONG: a name or an interceptor
    await Stageflow().run("pipeline")  # WRONG: a Pipeline


# --- outputs ---------------------------------------------------------------------------------------------------

StageOutput.ok(5)  # WRONG: a mapping
StageOutput.ok(["a"])  # WRONG: a mapping
StageOutput.fail(404)  # WRONG: a text
StageOutput.retry()  # WRONG: without a reason
StageOutput.retry("again", retry_after="1")  # WRONG: seconds
StageOutput.skip(reason=None)  # WRONG: a text
StageOutput("ok")  # WRONG: a StageStatus
print(StageStatus.DONE)  # WRONG: no such status


# --- interceptors and sinks ------------------------------------------------------------------------------------


class NotAsync(BaseInterceptor):
    def before(self, stage_name: str, ctx: Ctx) -> None:  # WRONG: hooks are async
        ...


class ReturnsSomethingElse(BaseInterceptor):
    async def before(self, stage_name: str, ctx: Ctx) -> bool:  # WRONG: an InterceptorResult
        return True

    async def on_error(self, stage_name: str, error: Exception, ctx: Ctx) -> str:  # WRONG: an ErrorAction
        return "retry"


class TakesSomethingElse(BaseInterceptor):
    async def after(self, stage_name: str, result: StageResult) -> None:  # WRONG: the context is missing
        ...

    async def fallback(self, stage_name: str, error: ValueError, ctx: Ctx) -> None:  # WRONG: any Exception
        ...


class Deaf:
    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None: ...


sink: EventSink = Deaf()  # WRONG: a run calls try_emit
