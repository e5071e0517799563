"""What a stage is: a name, a kind, and one coroutine."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stageflow.stages.context import StageContext
    from stageflow.stages.output import StageOutput

__all__ = ["Stage", "StageKind", "StageStatus"]


class StageKind(StrEnum):
    """What a stage is for."""

    TRANSFORM = "transform"
    ENRICH = "enrich"
    ROUTE = "route"
    GUARD = "guard"
    WORK = "work"
    AGENT = "agent"


class StageStatus(StrEnum):
    """How one execution of a stage ended."""

    OK = "ok"
    SKIP = "skip"
    CANCEL = "cancel"
    FAIL = "fail"
    RETRY = "retry"


class Stage(Protocol):
    """A stage as a class.

    ```python
    from stageflow import StageKind, StageOutput


    class Greet:
        name = "greet"
        kind = StageKind.TRANSFORM

        async def execute(self, ctx):
            return StageOutput.ok(text=f"Hello, {ctx.snapshot.input_text}")
    ```
    """

    name: str
    kind: StageKind

    async def execute(self, ctx: StageContext) -> StageOutput:
        """Do the work. A raised exception fails the stage."""
        ...
