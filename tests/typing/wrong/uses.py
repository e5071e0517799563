"""What type checkers, the build and the lint must refuse; every line that says WRONG."""

from __future__ import annotations

from stageflow import Pipeline, stage, use


@stage
async def greet() -> str:
    return "hi"


@stage
async def double(number: int = use(greet)) -> int:  # WRONG: greet gives a str
    return 2 * number


@stage
async def measure(text: str = use(greet, default=None)) -> int:  # WRONG: the default is no str
    return len(text)


pipeline = Pipeline.from_stages(greet, double, measure)
