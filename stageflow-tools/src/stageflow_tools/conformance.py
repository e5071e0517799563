"""The conformance suites of what ``stageflow-tools`` contributes."""

from __future__ import annotations

from typing import ClassVar

from stageflow.testing.conformance import StageConformance

from stageflow_tools.call import ToolCallStage
from stageflow_tools.registry import ToolRegistry

__all__ = ["TestCall", "TestCallInThread"]

tools = ToolRegistry()


@tools.register
async def shout(text: str, times: int = 1) -> str:
    """Say it loudly."""
    return text.upper() * times


@tools.register
def count(text: str) -> int:
    """Count the characters; not async, so that it runs in a thread."""
    return len(text)


class TestCall(StageConformance):
    """A call of an async function, with an argument of its own and one from a stage before."""

    contribution: ClassVar[str] = "tools.call"

    def make_stage(self) -> ToolCallStage:
        """Return the stage."""
        return ToolCallStage(tools, "shout", {"times": 2}, {"text": "before:text"})

    def make_inputs(self) -> dict[str, dict[str, str]]:
        """Return what the stage before has left."""
        return {"before": {"text": "hi"}}


class TestCallInThread(StageConformance):
    """A call of a plain function."""

    contribution: ClassVar[str] = "tools.call"

    def make_stage(self) -> ToolCallStage:
        """Return the stage."""
        return ToolCallStage(tools, "count", {"text": "three"})
