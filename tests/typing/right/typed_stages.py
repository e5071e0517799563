"""What both checkers know of typed stages: ``@stage``, ``use``, and the values in results.

Never run, only checked: by ``make types``, and by ``test_checkers.py`` beside the wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from stageflow import (
    Pipeline,
    PipelineResults,
    RetryPolicy,
    StageContext,
    StageDef,
    StageInputs,
    StageKind,
    StageOutput,
    stage,
    use,
)


@dataclass(frozen=True)
class Greeting:
    text: str


@dataclass(frozen=True)
class Loud(Greeting):
    loudness: int = 1


@stage
async def greet(ctx: StageContext) -> Greeting:
    return Greeting(f"Hello, {ctx.input_text}")


@stage(kind=StageKind.TRANSFORM)
async def shout(ctx: StageContext, greeting: Greeting = use(greet)) -> Loud:
    return Loud(greeting.text.upper())


@stage
async def without_context(greeting: Greeting = use(shout)) -> int:
    """A ``Loud`` is a ``Greeting``."""
    return len(greeting.text)


@stage
async def with_default(length: int | None = use(without_context, default=None)) -> str | None:
    return None if length is None else str(length)


@stage
async def with_default_of_the_same_type(length: int = use(without_context, default=0)) -> list[int]:
    return [length]


@stage
async def nothing() -> None: ...


@stage
async def gives_an_output(ctx: StageContext) -> StageOutput:
    return StageOutput.ok(text="hi")


@stage
async def gives_either(ctx: StageContext) -> Greeting | StageOutput:
    return Greeting("hi") if ctx.input_text else StageOutput.skip("nobody is there")


@stage
async def uses_either(greeting: Greeting = use(gives_either)) -> str:
    return greeting.text


def condition(inputs: StageInputs) -> bool:
    return inputs.has_output("greet")


@stage(
    kind=StageKind.WORK,
    name="all options",
    conditional=True,
    when=condition,
    timeout=1.5,
    retry=RetryPolicy(2),
    executor="inline",
    route=["left", "right"],
    after=[greet, "other"],
    limit=2,
)
async def with_options(ctx: StageContext) -> dict[str, int]:
    return {"attempt": ctx.attempt}


assert_type(greet, StageDef[Greeting])
assert_type(shout, StageDef[Loud])
assert_type(without_context, StageDef[int])
assert_type(with_default, StageDef[str | None])
assert_type(with_default_of_the_same_type, StageDef[list[int]])
assert_type(nothing, StageDef[None])
assert_type(gives_either, StageDef[Greeting])
assert_type(with_options, StageDef[dict[str, int]])

assert_type(use(greet), Greeting)
assert_type(use(shout), Loud)
assert_type(use(greet, default=None), Greeting | None)
assert_type(use(greet, default="none"), Greeting | str)
assert_type(use(with_default, default=3), str | int | None)
assert_type(use(gives_either), Greeting)


def reads_values(results: PipelineResults) -> None:
    assert_type(results.value(greet), Greeting)
    assert_type(results.value(shout), Loud)
    assert_type(results.value(with_default), str | None)
    assert_type(results.value(with_default_of_the_same_type), list[int])
    assert_type(results.value(gives_either), Greeting)
    assert_type(results.value("greet"), Any)
    assert_type(results["greet"], StageOutput)
    assert_type(results.get("greet"), StageOutput | None)
    wider: Greeting = results.value(shout)
    print(wider)


def takes_a_greeting(stage: StageDef[Greeting]) -> str:
    return stage.name


takes_a_greeting(shout)  # a StageDef[Loud] is a StageDef[Greeting]
assert_type(Pipeline.from_stages(greet, shout, name="both"), Pipeline)
