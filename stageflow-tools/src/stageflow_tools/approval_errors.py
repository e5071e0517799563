"""What can be wrong with an approval.

Drawn by who has to act, as the core's tree is::

    RunError
    ├── ApprovalNotFoundError        (also a KeyError) there is no such request, or it is another tenant's
    ├── ApprovalDecidedError         it has been decided, or has ended, before
    ├── ApprovalExpiredError         (also a TimeoutError) nobody decided in time
    ├── ApprovalEditError            (also a ValueError) the approver's arguments do not fit the tool
    └── ExecutionSettledError        somebody else has said how an execution ended
    PolicyError
    └── ApprovalRefusedError         the approval does not cover this call
        ├── ApprovalSpentError       it has no use left
        └── ApprovalUnknownError     nobody knows whether a use of it has happened
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.errors import PolicyError, RunError, shown

if TYPE_CHECKING:
    from datetime import datetime

    from stageflow_tools.approval_request import ApprovalExecution, ApprovalStatus
    from stageflow_tools.identifier import Identifier

__all__ = [
    "ApprovalDecidedError",
    "ApprovalEditError",
    "ApprovalExpiredError",
    "ApprovalNotFoundError",
    "ApprovalRefusedError",
    "ApprovalSpentError",
    "ApprovalUnknownError",
    "ExecutionSettledError",
]


class ApprovalNotFoundError(RunError, KeyError):
    """There is no such request, or it is another tenant's, which looks the same from here.

    Args:
        request_id: The request.
    """

    code = "SF-TOOLS-APPROVAL-NOT-FOUND"

    def __init__(self, request_id: object) -> None:
        self.request_id = request_id
        super().__init__(
            f"There is no approval request {shown(str(request_id))}",
            fix="Pass the id of a request that is kept, and the tenant that it was made for",
        )


class ApprovalDecidedError(RunError):
    """A request is to change that has come to an end, or a decision that has been taken.

    Args:
        request_id: The request.
        status: What it is.
        decided_by: Who made it that, if somebody did.
        decided_at: When, in UTC.
        wanted: What was to be done with it, as ``"approve"``.
    """

    code = "SF-TOOLS-APPROVAL-DECIDED"

    def __init__(
        self,
        request_id: object,
        status: ApprovalStatus,
        *,
        decided_by: Identifier | None,
        decided_at: datetime | None,
        wanted: str,
    ) -> None:
        self.request_id = request_id
        self.status = status
        self.decided_by = decided_by
        self.decided_at = decided_at
        self.wanted = wanted
        by = "" if decided_by is None else f", by {shown(str(decided_by))}"
        at = "" if decided_at is None else f" at {decided_at.isoformat(timespec='seconds')}"
        super().__init__(
            f"Cannot {wanted} the approval request {request_id}: it is {status.value}{by}{at}",
            fix="Nothing was changed; ask for another approval if the call is still wanted",
        )


class ApprovalExpiredError(RunError, TimeoutError):
    """Nobody decided in time.

    Args:
        request_id: The request.
        tool_name: The tool.
        expires_at: Until when it could have been decided, in UTC.
    """

    code = "SF-TOOLS-APPROVAL-EXPIRED"

    def __init__(self, request_id: object, tool_name: str, expires_at: datetime | None) -> None:
        self.request_id = request_id
        self.tool_name = tool_name
        self.expires_at = expires_at
        until = "" if expires_at is None else f" by {expires_at.isoformat(timespec='seconds')}"
        super().__init__(
            f"Nobody decided about the approval request {request_id}{until}",
            where=f"tool {shown(tool_name)}",
            fix="Ask again, with a larger timeout_seconds; the tool was not called",
        )


class ApprovalEditError(RunError, ValueError):
    """The arguments that the approver wants instead do not fit the tool. The request stays as it is.

    Args:
        request_id: The request.
        tool_name: The tool.
        problem: What is wrong.
    """

    code = "SF-TOOLS-APPROVAL-EDIT"

    def __init__(self, request_id: object, tool_name: str, problem: str) -> None:
        self.request_id = request_id
        self.tool_name = tool_name
        self.problem = problem
        super().__init__(
            f"The edited arguments are refused: {problem}",
            where=f"tool {shown(tool_name)}, approval request {request_id}",
            fix="Decide again with arguments that the tool takes, or deny the request",
        )


class ApprovalRefusedError(PolicyError):
    """An approval does not cover this call, which must not happen.

    Args:
        request_id: The request.
        tool_name: The tool that is to be called.
        problem: Why not.
    """

    code = "SF-TOOLS-APPROVAL-REFUSED"

    def __init__(self, request_id: object, tool_name: str, problem: str) -> None:
        self.request_id = request_id
        self.tool_name = tool_name
        self.problem = problem
        super().__init__(
            f"The approval {request_id} does not cover this call: {problem}",
            where=f"tool {shown(tool_name)}",
            fix="Ask for an approval of exactly this call",
        )


class ApprovalSpentError(ApprovalRefusedError):
    """An approval has no use left, or this very execution has been before.

    Args:
        request_id: The request.
        tool_name: The tool that is to be called.
        problem: Why not.
        execution: The execution with the same id, if there is one, and else the last; it has the result.
    """

    code = "SF-TOOLS-APPROVAL-SPENT"

    def __init__(
        self, request_id: object, tool_name: str, problem: str, execution: ApprovalExecution | None
    ) -> None:
        super().__init__(request_id, tool_name, problem)
        self.execution = execution
        self.fix = "Take the result of error.execution if it is the same work, or ask for another approval"


class ApprovalUnknownError(ApprovalRefusedError):
    """Whoever executed the call with this approval has gone, and nobody knows whether it has happened.

    Args:
        request_id: The request.
        tool_name: The tool that is to be called.
        execution: The execution.
    """

    code = "SF-TOOLS-APPROVAL-UNKNOWN"

    def __init__(self, request_id: object, tool_name: str, execution: ApprovalExecution) -> None:
        problem = f"its execution {shown(execution.execution_id)} has an unknown outcome"
        super().__init__(request_id, tool_name, problem)
        self.execution = execution
        self.fix = "Look whether it has happened, and say so with ApprovalService.resolve_outcome"


class ExecutionSettledError(RunError):
    """How an execution ended has been written down before, and otherwise.

    Args:
        request_id: The request.
        execution: The execution, as it was settled.
        wanted: What was to be written down, as ``"done"``.
    """

    code = "SF-TOOLS-EXECUTION-SETTLED"

    def __init__(self, request_id: object, execution: ApprovalExecution, *, wanted: str) -> None:
        self.request_id = request_id
        self.execution = execution
        self.wanted = wanted
        super().__init__(
            f"The execution {shown(execution.execution_id)} cannot become {wanted}: it is {execution.state.value}",
            where=f"approval request {request_id}",
            fix="Somebody took its holder for dead; see in the request's history who, and what became of it",
        )
