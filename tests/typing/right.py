"""What type checkers must accept, and understand; both run over it in `make types`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from stageflow import (
    BaseInterceptor,
    InterceptorContext,
    InterceptorResult,
    Pipeline,
    PipelineResults,
    StageContext,
    StageDef,
    StageGraph,
    StageKind,
    StageOutput,
    stage,
    use,
)


@dataclass(frozen=True)
class Greeting:
    text: str


@stage
async def greet(ctx: StageContext) -> Greeting:
    return Greeting(ctx.input_text or "")


@stage(kind=StageKind.TRANSFORM, timeout=1.0)
async def shout(greeting: Greeting = use(greet)) -> str:
    return greeting.text.upper()


@stage
async def maybe(ctx: StageContext) -> int | StageOutput:
    return StageOutput.skip("not today") if ctx.input_text is None else len(ctx.input_text)


@stage(after=[shout])
async def count(length: int | None = use(maybe, default=None)) -> int:
    return length or 0


class Watching(BaseInterceptor):
    name = "watching"
    fail_closed = False

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        return None if ctx.attempt == 1 else InterceptorResult(stage_ran=False, error=stage_name)


async def main() -> None:
    assert_type(greet, StageDef[Greeting])
    assert_type(maybe, StageDef[int])
    pipeline = Pipeline.from_stages(greet, shout, maybe, count, name="typed")
    assert_type(pipeline.build(interceptors=[Watching()]), StageGraph)
    results = await pipeline.run(input_text="Ada")
    assert_type(results, PipelineResults)
    assert_type(results.value(greet), Greeting)
    assert_type(results.value(shout), str)
    assert_type(results.value("shout"), Any)
    assert_type(results["shout"], StageOutput)
    async for event in pipeline.stream(input_text="Ada"):
        assert_type(event.stage, str | None)
