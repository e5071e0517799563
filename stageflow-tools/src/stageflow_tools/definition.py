"""``ToolDefinition``: everything that an executor has to know of a tool."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

from stageflow import Effect

from stageflow_tools.errors import ToolDefinitionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stageflow import RetryPolicy

    from stageflow_tools.inputs import ToolInput
    from stageflow_tools.output import ToolOutput

    Handler: TypeAlias = Callable[[ToolInput], Awaitable[ToolOutput]]
    UndoHandler: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[object]]
    ArgumentCheck: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]

__all__ = ["NO_ARGUMENTS", "ToolDefinition"]

NO_ARGUMENTS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}
"""The schema of a tool that takes nothing."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@final
@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ToolDefinition:
    """Everything that an executor has to know of a tool.

    Attributes:
        name: What it is called: letters, digits, ``_``, ``-`` and ``.``, 128 of them at most.
        action_type: What actions name it by.
        handler: Does the work.
        description: What it is for, as a language model is told.
        input_schema: The arguments, as the JSON schema of an object. A schema that says nothing takes anything.
        allowed_behaviors: The execution modes in which it may be called; empty means all.
        requires_approval: Whether somebody has to agree before each call.
        approval_message: What they are asked; the name and the arguments by default.
        undoable: Whether a call can be undone.
        undo_handler: Undoes one, given its ``undo_metadata``.
        artifact_type: The ``type`` of its artifacts that say none.
        effect: What a call does to the world. It decides about gates and retries. Without one, an undoable tool is
            ``REVERSIBLE``, and every other ``IRREVERSIBLE``: to say nothing must not be dangerous.
        check: Returns the arguments as the handler takes them, or raises ``ToolArgumentsError``; instead of a check
            against the schema.
        timeout: How long one attempt may take, in seconds.
        retry: How it is attempted again. One that is irreversible never is.
        max_concurrency: How many calls may run at once, in one executor.
        permissions: What the caller must be allowed, by name.
        max_output_bytes: How large its data may be, as JSON.

    ```python
    import asyncio

    from stageflow import Effect
    from stageflow_tools import ToolDefinition, ToolInput, ToolOutput


    async def look_up(call: ToolInput) -> ToolOutput:
        return ToolOutput.ok({"found": call.payload["text"].title()})


    tool = ToolDefinition("look_up", "LOOK_UP", look_up, "Look something up.", effect=Effect.NONE)
    print(tool.is_behavior_allowed("practice"), asyncio.run(tool.call({"text": "moon"}, None)))
    #> True {'found': 'Moon'}
    ```
    """

    name: str
    action_type: str
    handler: Handler
    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=dict[str, Any])
    allowed_behaviors: tuple[str, ...] = ()
    requires_approval: bool = False
    approval_message: str | None = None
    undoable: bool = False
    undo_handler: UndoHandler | None = None
    artifact_type: str | None = None
    _: KW_ONLY
    effect: Effect = cast("Effect", None)  # noqa: RUF009 - settled in __post_init__
    check: ArgumentCheck | None = field(default=None, repr=False)
    timeout: float | None = None
    retry: RetryPolicy | None = None
    max_concurrency: int | None = None
    permissions: tuple[str, ...] = ()
    max_output_bytes: int = 1_000_000

    def __post_init__(self) -> None:
        """Refuse what cannot work, and settle what was left open.

        Raises:
            ToolDefinitionError: Naming what is wrong.
        """
        for what, text in (("name", self.name), ("action type", self.action_type)):
            if not isinstance(text, str) or not _NAME.fullmatch(text):  # pyright: ignore[reportUnnecessaryIsInstance]
                fix = "Give one of letters, digits, '_', '-' and '.', at most 128"
                raise ToolDefinitionError(str(text), f"{text!r} is no {what} for a tool", fix=fix)
        if not callable(self.handler):
            fix = "Pass an async function that takes a ToolInput and returns a ToolOutput"
            raise ToolDefinitionError(self.name, f"Its handler is {self.handler!r}", fix=fix)
        if self.undo_handler is not None and not self.undoable:
            what = "It has an undo_handler and is not undoable"
            raise ToolDefinitionError(self.name, what, fix="Say undoable=True")
        for option in ("timeout", "max_concurrency", "max_output_bytes"):
            value = getattr(self, option)
            if value is not None and not value > 0:
                raise ToolDefinitionError(
                    self.name, f"{option} is {value!r}", fix="Give more than 0, or None"
                )
        effect: Any = self.effect
        if effect is None:
            effect = Effect.REVERSIBLE if self.undoable else Effect.IRREVERSIBLE
        object.__setattr__(self, "effect", Effect(effect))
        object.__setattr__(self, "allowed_behaviors", tuple(self.allowed_behaviors))
        object.__setattr__(self, "permissions", tuple(self.permissions))

    def is_behavior_allowed(self, behavior: str | None) -> bool:
        """Say whether the tool may be called in an execution mode; one that names none may be called in all."""
        return not self.allowed_behaviors or behavior in self.allowed_behaviors

    async def call(self, arguments: Mapping[str, Any], ctx: Any) -> Any:
        """Call the tool by itself, as core's ``Tool`` protocol has it: checked, and with nothing else around it.

        Args:
            arguments: The arguments by name.
            ctx: Who calls, or None.

        Raises:
            ToolArgumentsError: They do not fit.
            ToolExecutionError: The tool says that it has failed.
        """
        from uuid import uuid4

        from stageflow_tools.arguments import checked
        from stageflow_tools.context import ToolContext, adapt_context
        from stageflow_tools.errors import ToolExecutionError
        from stageflow_tools.inputs import ToolInput

        execution = adapt_context(ctx)
        payload = checked(self, arguments)
        call_id = str(uuid4())
        output = await self.handler(
            ToolInput(
                call_id,
                self.name,
                payload,
                execution.execution_mode,
                execution.pipeline_run_id,
                execution.request_id,
                ToolContext(call_id, self.name, execution),
            )
        )
        if not output.success:
            raise ToolExecutionError(output.error or "It has failed", self.name)
        return output.data
