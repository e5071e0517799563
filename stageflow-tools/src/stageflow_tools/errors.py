"""What can be wrong with a tool or a call of one.

Drawn by who has to act, as the core's tree is::

    ConfigurationError
    ├── ToolDefinitionError        (also a TypeError) it cannot be a tool as it is written
    ├── ToolConflictError          (also a ValueError) two tools want one name
    └── ToolCallConfigError        (also a ValueError) the config of a ``tools.call`` stage makes no sense
    RunError
    └── ToolError                  a call has not come to its end
        ├── ToolNotFoundError      (also a KeyError) no tool has that name
        ├── ToolArgumentsError     (also a ValueError) the arguments do not fit
        ├── ToolDeniedError        somebody, or a rule, does not allow the call
        │   ├── ToolApprovalDeniedError
        │   │   └── ToolApprovalTimeoutError   (also a TimeoutError) nobody has decided in time
        │   └── ToolApprovalPendingError   nobody has decided yet, and nobody waits
        ├── ToolExecutionError     the tool raised, or took too long
        ├── ToolOutputError        (also a TypeError) it returned something else than it says, or too much
        └── ToolUndoError          what was done could not be undone
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stageflow.errors import ConfigurationError, ErrorClass, RunError, close_matches, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow_tools.approval_request import ApprovalPending

__all__ = [
    "ToolApprovalDeniedError",
    "ToolApprovalPendingError",
    "ToolApprovalTimeoutError",
    "ToolArgumentsError",
    "ToolCallConfigError",
    "ToolConflictError",
    "ToolDefinitionError",
    "ToolDeniedError",
    "ToolError",
    "ToolExecutionError",
    "ToolNotFoundError",
    "ToolOutputError",
    "ToolUndoError",
]


class ToolDefinitionError(ConfigurationError, TypeError):
    """Something cannot be a tool as it is written.

    Args:
        tool: The name it should get.
        what: What is wrong with it.
        fix: What to do.
    """

    code = "SF-TOOLS-DEFINITION"

    def __init__(self, tool: str, what: str, *, fix: str) -> None:
        self.tool = tool
        super().__init__(what, where=f"tool {tool!r}", fix=fix)


class ToolConflictError(ConfigurationError, ValueError):
    """Two tools want one name, or one action type.

    Args:
        name: What they both want.
        tool: The one that came second.
        by: Whose the name is already.
    """

    code = "SF-TOOLS-CONFLICT"

    def __init__(self, name: str, tool: str, by: str) -> None:
        self.name = name
        self.tool = tool
        self.by = by
        what = f"{shown(name)} is taken by {by}"
        fix = "Give one of the two another name, or leave one of them out of this registry"
        super().__init__(what, where=f"tool {tool!r}", fix=fix)


class ToolCallConfigError(ConfigurationError, ValueError):
    """The config of a ``tools.call`` stage makes no sense.

    Args:
        option: The option that is wrong.
        problem: What is wrong with it.
        fix: What to do.
    """

    code = "SF-TOOLS-CONFIG"

    def __init__(self, option: str, problem: str, *, fix: str) -> None:
        self.option = option
        super().__init__(f"{option!r} of a tools.call stage {problem}", fix=fix)


class ToolError(RunError):
    """A call of a tool has not come to its end.

    Args:
        message: What happened.
        tool: The tool.
        fix: What to do.
    """

    code = "SF-TOOLS-ERROR"

    def __init__(self, message: str, tool: str, *, fix: str = "") -> None:
        self.tool = tool
        super().__init__(message, where=f"tool {tool!r}", fix=fix)

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain data, for a model or an event."""
        own = {
            name: value
            for name, value in vars(self).items()
            if name not in {"what", "where", "fix", "code", "tool"} and not isinstance(value, BaseException)
        }
        return {"error_type": type(self).__name__, "message": self.what, "tool": self.tool, **own}


class ToolNotFoundError(ToolError, KeyError):
    """No tool has that name or action type.

    Args:
        tool: The name that was asked for.
        known: The names that there are.

    ```python
    from stageflow_tools import ToolNotFoundError

    error = ToolNotFoundError("ad", ["add"])
    print(error.what, error.fix)
    #> No tool is named 'ad' Did you mean 'add'?
    ```
    """

    code = "SF-TOOLS-NOT-FOUND"

    def __init__(self, tool: str, known: Iterable[str] = ()) -> None:
        self.known = tuple(dict.fromkeys(known))
        fix = f"Use one of {', '.join(map(repr, self.known[:20]))}" if self.known else "Register it first"
        super().__init__(f"No tool is named {shown(tool)}", tool, fix=close_matches(tool, self.known) or fix)


class ToolArgumentsError(ToolError, ValueError):
    """The arguments of a call do not fit the tool; it was not called.

    Args:
        tool: The tool.
        problems: What is wrong, by argument.

    ```python
    from stageflow_tools import ToolArgumentsError

    error = ToolArgumentsError("add", {"a": "it is missing"})
    print(error.to_dict()["problems"])
    #> {'a': 'it is missing'}
    ```
    """

    code = "SF-TOOLS-ARGUMENTS"

    def __init__(self, tool: str, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        told = "; ".join(f"{shown(name)}: {problem}" for name, problem in self.problems.items())
        super().__init__(f"The arguments do not fit: {told}", tool, fix="Pass what its input_schema says")


class ToolDeniedError(ToolError):
    """Somebody, or a rule, does not allow the call; the tool was not called.

    Args:
        message: What is not allowed.
        tool: The tool.
        reason: Why, in one word: ``behavior_not_allowed``, ``permission_denied``, ``gate_closed``.
        fix: What to do.
    """

    code = "SF-TOOLS-DENIED"
    error_class = ErrorClass.POLICY

    def __init__(self, message: str, tool: str, *, reason: str = "denied", fix: str = "") -> None:
        self.reason = reason
        super().__init__(message, tool, fix=fix)


class ToolApprovalDeniedError(ToolDeniedError):
    """Somebody was asked, and said no.

    Args:
        tool: The tool.
        reason: Why.
        decided_by: Who said so.
    """

    code = "SF-TOOLS-APPROVAL-DENIED"

    def __init__(self, tool: str, reason: str = "user_denied", *, decided_by: str | None = None) -> None:
        self.decided_by = decided_by
        who = "Its approval was denied" if decided_by is None else f"{decided_by} did not approve it"
        super().__init__(f"{who}: {reason}", tool, reason=reason)


class ToolApprovalTimeoutError(ToolApprovalDeniedError, TimeoutError):
    """Somebody was asked, and nobody has answered in time.

    Args:
        tool: The tool.
        timeout_seconds: How long was waited.
    """

    code = "SF-TOOLS-APPROVAL-TIMEOUT"

    def __init__(self, tool: str, timeout_seconds: float | None = None) -> None:
        super().__init__(tool, "timeout")
        self.timeout_seconds = timeout_seconds
        self.fix = "Ask again, or give more time: ToolExecutorConfig(approval_timeout_seconds=...)"


class ToolApprovalPendingError(ToolDeniedError):
    """Somebody was asked, and the call does not wait for the answer: resume it with the token.

    Args:
        tool: The tool.
        pending: What to keep: the request, until when it can be decided.
    """

    code = "SF-TOOLS-APPROVAL-PENDING"

    def __init__(self, tool: str, pending: ApprovalPending) -> None:
        self.pending = pending
        fix = "Let somebody decide, then make the same call with approval=error.pending.token"
        super().__init__("It waits for an approval", tool, reason="approval_pending", fix=fix)

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain data."""
        return {**super().to_dict(), "pending": self.pending.to_dict()}


class ToolExecutionError(ToolError):
    """The tool raised, or took too long. What it raised is the error's cause.

    Args:
        message: What happened.
        tool: The tool.
        cause: What it raised.
    """

    code = "SF-TOOLS-EXECUTION"

    def __init__(self, message: str, tool: str, cause: BaseException | None = None) -> None:
        self.cause = cause
        super().__init__(message, tool)
        self.__cause__ = cause
        if getattr(cause, "retryable", False):
            self.error_class = ErrorClass.TRANSIENT


class ToolOutputError(ToolError, TypeError):
    """The tool did its work, and what it returned is not what it says, or too much.

    Args:
        message: What is wrong with it.
        tool: The tool.
        fix: What to do.
    """

    code = "SF-TOOLS-OUTPUT"


class ToolUndoError(ToolError):
    """What was done could not be undone.

    Args:
        message: What happened.
        tool: The tool.
        action_id: The call that was to be undone.
        cause: What the undo handler raised.
    """

    code = "SF-TOOLS-UNDO"

    def __init__(
        self, message: str, tool: str, *, action_id: str | None = None, cause: BaseException | None = None
    ) -> None:
        self.action_id = action_id
        self.cause = cause
        super().__init__(message, tool)
        self.__cause__ = cause
