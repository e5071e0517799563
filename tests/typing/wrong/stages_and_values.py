"""Typed stages and their values, used in ways that both checkers must refuse: every line that says WRONG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stageflow import Pipeline, StageContext, StageDef, StageOutput, stage, use

if TYPE_CHECKING:
    from stageflow import PipelineResults


@dataclass(frozen=True)
class Greeting:
    text: str


@dataclass(frozen=True)
class Loud(Greeting):
    loudness: int = 1


@stage
async def greet(ctx: StageContext) -> Greeting:
    return Greeting("hi")


@stage
async def shout(greeting: Greeting = use(greet)) -> Loud:
    return Loud(greeting.text)


@stage
async def maybe() -> int | StageOutput:
    return StageOutput.skip("not today")


@stage
async def wants_narrower(greeting: Loud = use(greet)) -> str:  # WRONG: a Greeting need not be Loud
    return greeting.text


@stage
async def wants_another(text: str | None = use(maybe)) -> str:  # WRONG: it gives an int
    return text or ""


@stage
async def forgets_the_default(length: int = use(maybe, default=None)) -> int:  # WRONG: it may be None
    return length


@stage
async def breaks_its_promise() -> int:
    return "one"  # WRONG: a str is no int


@stage  # WRONG: it is not async
def plain() -> int:
    return 1


def values(results: PipelineResults) -> None:
    number: int = results.value(greet)  # WRONG: it is a Greeting
    loud: Loud = results.value(greet)  # WRONG: it need not be Loud
    text: str = results.value(maybe)  # WRONG: it is an int
    results["greet"] = StageOutput.ok()  # WRONG: results are read-only
    results["greet"].data["text"] = "changed"  # WRONG: so is data
    results["greet"].text  # WRONG: an output has no such attribute  # noqa: B018
    print(number, loud, text, results.value(shout).loud)  # WRONG: it is called loudness


narrower: StageDef[Loud] = greet  # WRONG: it gives any Greeting
use("greet")  # WRONG: a name is no stage
use(values)  # WRONG: neither is a function
Pipeline.from_stages(greet, "shout")  # WRONG: nor here
