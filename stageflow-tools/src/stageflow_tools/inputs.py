"""What is to be done (``Action``, ``ToolCall``), and what the handler of a tool is given of it (``ToolInput``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stageflow.protocols import ExecutionContext

    from stageflow_tools.context import ToolContext

__all__ = ["Action", "ToolCall", "ToolInput"]


@runtime_checkable
class Action(Protocol):
    """Something that somebody, as a rule a model, wants a tool to do.

    ```python
    from dataclasses import dataclass, field
    from uuid import UUID, uuid4

    from stageflow_tools import Action


    @dataclass
    class Send:
        payload: dict
        type: str = "send_mail"
        id: UUID = field(default_factory=uuid4)


    print(isinstance(Send({"to": "ada@example.org"}), Action))
    #> True
    ```
    """

    @property
    def id(self) -> UUID | str:
        """What tells this action from all others; a call that is made again has the same."""
        ...

    @property
    def type(self) -> str:
        """The action type, or the name, of the tool."""
        ...

    @property
    def payload(self) -> Mapping[str, Any]:
        """The arguments by name."""
        ...


@final
@dataclass(frozen=True, slots=True)
class ToolCall:
    """An action as plain data: call this tool with these arguments.

    Attributes:
        type: The action type, or the name, of the tool.
        payload: The arguments by name.
        id: What tells this call from all others.

    ```python
    from stageflow_tools import Action, ToolCall

    print(isinstance(ToolCall("search", {"text": "moon"}), Action))
    #> True
    ```
    """

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    id: UUID | str = field(default_factory=uuid4)


@final
@dataclass(frozen=True, slots=True)
class ToolInput:
    """One call of a tool.

    Attributes:
        action_id: The call.
        tool_name: The tool.
        payload: The arguments by name, checked.
        behavior: The execution mode of the run.
        pipeline_run_id: The run.
        request_id: The request that the run answers.
        context: The way back to the run: progress, artifacts, what undoing takes. None for an input made by hand.

    ```python
    from stageflow_tools import ToolInput

    print(ToolInput("call-1", "search", {"text": "moon"}).payload["text"])
    #> moon
    ```
    """

    action_id: UUID | str
    tool_name: str
    payload: Mapping[str, Any]
    behavior: str | None = None
    pipeline_run_id: UUID | None = None
    request_id: UUID | None = None
    context: ToolContext | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_action(cls, action: Action, tool_name: str, ctx: ExecutionContext | None = None) -> ToolInput:
        """Return the input of a tool that is to do *action*.

        Args:
            action: The action.
            tool_name: The tool.
            ctx: Who runs it: a ``StageContext``, for example.
        """
        if ctx is None:
            return cls(action.id, tool_name, action.payload)
        return cls(
            action.id, tool_name, action.payload, ctx.execution_mode, ctx.pipeline_run_id, ctx.request_id
        )
