"""``BaseTool``: a tool as a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stageflow_tools.definition import ToolDefinition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stageflow import Effect

    from stageflow_tools.inputs import ToolInput
    from stageflow_tools.output import ToolOutput

__all__ = ["BaseTool"]


class BaseTool:
    """A tool as a class, for one that holds something: a client, a folder, a limit.

    A subclass says its ``name`` and whatever else of a ``ToolDefinition`` is not the default, and overrides
    ``execute``; one that overrides ``undo`` as well is undoable.

    Attributes:
        name: What it is called.
        action_type: What actions name it by; its name by default.
        description: What it is for, as a language model is told.
        input_schema: The arguments, as the JSON schema of an object.

    ```python
    import asyncio
    from typing import ClassVar

    from stageflow import Effect
    from stageflow_tools import BaseTool, ToolInput, ToolOutput, ToolRegistry


    class Greet(BaseTool):
        name = "greet"
        description = "Greet somebody."
        input_schema: ClassVar = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
        effect = Effect.NONE

        def __init__(self, word: str) -> None:
            self.word = word

        async def execute(self, call: ToolInput) -> ToolOutput:
            return ToolOutput.ok({"text": f"{self.word}, {call.payload['who']}"})


    tools = ToolRegistry(Greet("Hello"))
    print(asyncio.run(tools["greet"].call({"who": "Ada"}, None)))
    #> {'text': 'Hello, Ada'}
    ```
    """

    name: ClassVar[str] = ""
    action_type: ClassVar[str] = ""
    description: ClassVar[str] = ""
    input_schema: ClassVar[Mapping[str, Any]] = {}
    allowed_behaviors: ClassVar[tuple[str, ...]] = ()
    requires_approval: ClassVar[bool] = False
    approval_message: ClassVar[str | None] = None
    artifact_type: ClassVar[str | None] = None
    effect: ClassVar[Effect | None] = None
    timeout: ClassVar[float | None] = None
    max_concurrency: ClassVar[int | None] = None
    permissions: ClassVar[tuple[str, ...]] = ()

    @property
    def definition(self) -> ToolDefinition:
        """What an executor has to know of it."""
        undoable = type(self).undo is not BaseTool.undo
        more: dict[str, Any] = {} if self.effect is None else {"effect": self.effect}
        return ToolDefinition(
            self.name,
            self.action_type or self.name,
            self.execute,
            self.description,
            self.input_schema,
            self.allowed_behaviors,
            self.requires_approval,
            self.approval_message,
            undoable,
            self.undo if undoable else None,
            self.artifact_type,
            timeout=self.timeout,
            max_concurrency=self.max_concurrency,
            permissions=self.permissions,
            **more,
        )

    async def execute(self, call: ToolInput) -> ToolOutput:
        """Do the work.

        Args:
            call: The call, with its arguments checked.
        """
        raise NotImplementedError

    async def undo(self, undo_metadata: Mapping[str, Any]) -> object:
        """Undo a call.

        Args:
            undo_metadata: What ``execute`` has left for this.
        """
        raise NotImplementedError
