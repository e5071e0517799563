"""What a stage is: a name, a kind, and one coroutine."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stageflow.stages.context import StageContext
    from stageflow.stages.output import StageOutput

__all__ = ["Stage", "StageKind", "StageStatus"]


class StageKind(StrEnum):
    """What a stage is for.

    ```python
    from stageflow import StageKind

    print(StageKind("guard") is StageKind.GUARD, StageKind.GUARD == "guard")
    #> True True
    ```
    """

    TRANSFORM = "transform"
    ENRICH = "enrich"
    ROUTE = "route"
    GUARD = "guard"
    WORK = "work"
    AGENT = "agent"


class StageStatus(StrEnum):
    """How one execution of a stage ended.

    ```python
    from stageflow import StageOutput, StageStatus

    print(StageOutput.skip("nothing to do").status is StageStatus.SKIP)
    #> True
    ```
    """

    OK = "ok"
    SKIP = "skip"
    CANCEL = "cancel"
    FAIL = "fail"
    RETRY = "retry"


class Stage(Protocol):
    """A stage as a class.

    ```python
    import asyncio

    from stageflow import Pipeline, Stage, StageKind, StageOutput


    class Greet:
        name = "greet"
        kind = StageKind.TRANSFORM

        async def execute(self, ctx):
            return StageOutput.ok(text=f"Hello, {ctx.input_text}")


    greet: Stage = Greet()
    pipeline = Pipeline().with_stage(greet.name, greet, greet.kind)
    print(asyncio.run(pipeline.run(input_text="Ada"))["greet"].data["text"])
    #> Hello, Ada
    ```
    """

    name: str
    kind: StageKind

    async def execute(self, ctx: StageContext) -> StageOutput:
        """Do the work. A raised exception fails the stage."""
        ...
