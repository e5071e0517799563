"""What both checkers know of outputs, interceptors and sinks. Never run, only checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type
from uuid import UUID

from stageflow import (
    BaseInterceptor,
    ErrorAction,
    EventSink,
    InterceptorContext,
    InterceptorResult,
    RetryPolicy,
    StageArtifact,
    StageEvent,
    StageOutput,
    StageResult,
    StageSpec,
    StageStatus,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

assert_type(StageOutput.ok(), StageOutput)
assert_type(StageOutput.ok({"text": "hi"}, version="1", more=2), StageOutput)
assert_type(StageOutput.ok(text="hi"), StageOutput)
assert_type(StageOutput.skip("nothing to do", {"a": 1}), StageOutput)
assert_type(StageOutput.cancel("enough"), StageOutput)
assert_type(StageOutput.fail("broken", {"partial": 1}, version="1"), StageOutput)
assert_type(StageOutput.fail(response="broken"), StageOutput)
assert_type(StageOutput.retry("again", retry_after=1.5), StageOutput)
assert_type(StageOutput.ok().with_duration(2.0).with_version("2"), StageOutput)
assert_type(StageOutput.ok().status, StageStatus)
assert_type(StageOutput.ok().error, str | None)
assert_type(StageOutput.ok().duration_ms, float | None)
output = StageOutput(
    StageStatus.OK,
    {"a": 1},
    artifacts=[StageArtifact("image", b"...")],
    events=(StageEvent("my.event", {"b": 2}),),
)
for artifact in output.artifacts:
    assert_type(artifact.payload, Any)


class Everything(BaseInterceptor):
    """Overrides every hook with the signature that it has."""

    name = "everything"
    priority = 7
    fail_closed = False

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        assert_type(ctx.attempt, int)
        assert_type(ctx.org_id, UUID | None)
        ctx.data["seen"] = True
        ctx.add_observation("seen", stage_name)
        if ctx.get_observation("closed"):
            return InterceptorResult(stage_ran=False, error="closed")
        return InterceptorResult(stage_ran=False, result={"cached": True}) if ctx.data.get("cached") else None

    async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
        assert_type(result.status, str)
        assert_type(result.duration_ms, float)
        assert_type(result.output, StageOutput | None)
        ctx.try_emit_event("my.event", {"stage": stage_name})

    async def on_error(self, stage_name: str, error: Exception, ctx: InterceptorContext) -> ErrorAction:
        return ErrorAction.FALLBACK if isinstance(error, ConnectionError) else ErrorAction.FAIL

    async def fallback(
        self, stage_name: str, error: Exception, ctx: InterceptorContext
    ) -> StageOutput | Mapping[str, Any] | None:
        return {"fallback": str(error)}

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        return (await call()).with_version("1")

    def timeout(self, stage: StageSpec) -> float | None:
        return 1.0 if stage.name == "slow" else None

    def retry(self, stage: StageSpec) -> RetryPolicy | None:
        return RetryPolicy(2, jitter="equal", backoff="linear")


class Narrower(BaseInterceptor):
    """A hook may return less than it may."""

    async def before(self, stage_name: str, ctx: InterceptorContext) -> None: ...

    async def fallback(self, stage_name: str, error: Exception, ctx: InterceptorContext) -> dict[str, int]:
        return {"fallback": 1}


class Prints:
    """A sink is whatever has the two methods."""

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        print(type, data)


sink: EventSink = Prints()
interceptors: list[BaseInterceptor] = [Everything(), Narrower()]
