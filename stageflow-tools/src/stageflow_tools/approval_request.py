"""What is known of an approval: the request, the decision, the executions that spend it, and its audit record."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, final
from uuid import UUID

from stageflow_tools.approval_scope import ApprovalScope
from stageflow_tools.identifier import read_identifier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from stageflow_tools.identifier import Identifier

__all__ = [
    "ApprovalDecision",
    "ApprovalExecution",
    "ApprovalPending",
    "ApprovalRequest",
    "ApprovalStatus",
    "AuditEntry",
    "ExecutionState",
]


class ApprovalStatus(StrEnum):
    """What has become of a request.

    Attributes:
        PENDING: Nobody has decided yet.
        APPROVED: It may be spent.
        DENIED: Somebody said no. Final.
        EXPIRED: Nobody decided, or nobody spent it, in time. Final.
        CANCELLED: Whoever asked does not want it any more. Final.
        SPENT: Every use has been executed. Final.
        REVOKED: Somebody took the approval back. Final.

    ```python
    from stageflow_tools.approval_request import ApprovalStatus

    print([status.value for status in ApprovalStatus if not status.is_final])
    #> ['pending', 'approved']
    ```
    """

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SPENT = "spent"
    REVOKED = "revoked"

    @property
    def is_final(self) -> bool:
        """Whether it stays like that."""
        return self not in {ApprovalStatus.PENDING, ApprovalStatus.APPROVED}


class ExecutionState(StrEnum):
    """What is known of one execution of an approved call.

    Attributes:
        RESERVED: Somebody is at it, and holds a lease.
        DONE: It has ended, with a result or an error. Final.
        RELEASED: It did not happen, and its use can be had again. Final.
        UNKNOWN: The lease has run out: whoever was at it has gone, before the call, in its middle or after it.
    """

    RESERVED = "reserved"
    DONE = "done"
    RELEASED = "released"
    UNKNOWN = "unknown"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalExecution:
    """One use of an approval.

    Attributes:
        execution_id: What it is called; unique within the request.
        holder: Which reservation it is, of those that were made under this name: only who made it can settle it.
        state: What is known of it.
        reserved_at: When it was taken.
        lease_until: How long whoever took it counts as alive; renewed meanwhile.
        settled_at: When it was done, released or resolved.
        tenant: Whose call it is.
        run_id: Of which run.
        arguments: What the tool is called with.
        result: What the tool has given, if JSON can say it.
        result_kept: Whether ``result`` is that.
        error: What the tool has raised, if it has.
    """

    execution_id: str
    holder: str
    state: ExecutionState
    reserved_at: datetime
    lease_until: datetime
    settled_at: datetime | None = None
    tenant: str | None = None
    run_id: Identifier | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    result: Any = None
    result_kept: bool = False
    error: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether its end has not been written down."""
        return self.state in {ExecutionState.RESERVED, ExecutionState.UNKNOWN}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "execution_id": self.execution_id,
            "holder": self.holder,
            "state": self.state.value,
            "reserved_at": self.reserved_at.isoformat(),
            "lease_until": self.lease_until.isoformat(),
            "settled_at": _time_out(self.settled_at),
            "tenant": self.tenant,
            "run_id": _id_out(self.run_id),
            "arguments": dict(self.arguments),
            "result": self.result,
            "result_kept": self.result_kept,
            "error": self.error,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` has written.

        Raises:
            Exception: It is something else.
        """
        given: dict[str, Any] = {
            **data,
            "state": ExecutionState(data["state"]),
            "reserved_at": datetime.fromisoformat(data["reserved_at"]),
            "lease_until": datetime.fromisoformat(data["lease_until"]),
            "settled_at": _time_in(data["settled_at"]),
            "run_id": _id_in(data["run_id"]),
        }
        return cls(**given)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One thing that happened to a request.

    Attributes:
        at: When, in UTC.
        action: What: requested, approved, denied, expired, cancelled, revoked, spent; reserved, done, released,
            resolved for executions.
        by: Who did it, if somebody did.
        reason: Why, in their words.
        detail: What else belongs to it, such as the hashes of edited arguments.
    """

    at: datetime
    action: str
    by: Identifier | None = None
    reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "at": self.at.isoformat(),
            "action": self.action,
            "by": _id_out(self.by),
            "reason": self.reason,
            "detail": dict(self.detail),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` has written.

        Raises:
            Exception: It is something else.
        """
        given: dict[str, Any] = {
            **data,
            "at": datetime.fromisoformat(data["at"]),
            "by": _id_in(data["by"]),
        }
        return cls(**given)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """A request for approval, and all that has become of it. A value: each change makes a new one.

    Attributes:
        id: What it is called. Long enough that nobody guesses it.
        action_id: The action or call that it is about.
        tool_name: The tool.
        approval_message: What the approver is told.
        payload_summary: What the approver is shown.
        pipeline_run_id: The run that asks.
        tenant: Whose it is; nobody else sees it.
        status: What has become of it.
        arguments: What the tool is to be called with: the approver's, once they were edited.
        arguments_hash: See ``arguments_hash``; an approval is bound to it.
        scope: Which calls an approval covers.
        created_at: When it was made, in UTC.
        expires_at: Until when it can be decided or, once approved, spent. None: for ever.
        decided_by: Who decided, revoked or cancelled, last.
        decided_at: When, in UTC.
        reason: Why, in their words.
        executions: The uses of the approval, in order.
        history: Everything that happened, in order: the audit record.
        keep_until: When it may be forgotten. None: not before it has ended, and no execution of it is open.
        version: How often it was changed.

    ```python
    from uuid import UUID

    from stageflow_tools.approval_request import ApprovalRequest

    request = ApprovalRequest(id=UUID(int=1), action_id="call-7", tool_name="mail.send")
    print(request.status, request.uses_left, ApprovalRequest.from_dict(request.to_dict()) == request)
    #> pending 1 True
    ```
    """

    id: UUID
    action_id: Identifier
    tool_name: str
    approval_message: str | None = None
    payload_summary: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pipeline_run_id: Identifier | None = None
    tenant: str | None = None
    status: ApprovalStatus = ApprovalStatus.PENDING
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    arguments_hash: str = ""
    scope: ApprovalScope = field(default_factory=ApprovalScope)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    expires_at: datetime | None = None
    decided_by: Identifier | None = None
    decided_at: datetime | None = None
    reason: str | None = None
    executions: tuple[ApprovalExecution, ...] = ()
    history: tuple[AuditEntry, ...] = ()
    keep_until: datetime | None = None
    version: int = 1

    @property
    def uses_left(self) -> int:
        """How many executions may still be reserved, if it is or becomes approved."""
        return self.scope.max_uses - sum(one.state is not ExecutionState.RELEASED for one in self.executions)

    @property
    def has_open_executions(self) -> bool:
        """Whether the end of an execution has not been written down."""
        return any(one.is_open for one in self.executions)

    def execution(self, execution_id: str) -> ApprovalExecution | None:
        """Return the execution of that name."""
        return next((one for one in self.executions if one.execution_id == execution_id), None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "id": str(self.id),
            "action_id": _id_out(self.action_id),
            "tool_name": self.tool_name,
            "approval_message": self.approval_message,
            "payload_summary": dict(self.payload_summary),
            "pipeline_run_id": _id_out(self.pipeline_run_id),
            "tenant": self.tenant,
            "status": self.status.value,
            "arguments": dict(self.arguments),
            "arguments_hash": self.arguments_hash,
            "scope": {
                "of": self.scope.of,
                "max_uses": self.scope.max_uses,
                "arguments": dict(self.scope.arguments),
            },
            "created_at": self.created_at.isoformat(),
            "expires_at": _time_out(self.expires_at),
            "decided_by": _id_out(self.decided_by),
            "decided_at": _time_out(self.decided_at),
            "reason": self.reason,
            "executions": [one.to_dict() for one in self.executions],
            "history": [one.to_dict() for one in self.history],
            "keep_until": _time_out(self.keep_until),
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` has written.

        Raises:
            Exception: It is something else.
        """
        given: dict[str, Any] = {
            **data,
            "id": UUID(data["id"]),
            "action_id": _id_in(data["action_id"]),
            "pipeline_run_id": _id_in(data["pipeline_run_id"]),
            "status": ApprovalStatus(data["status"]),
            "scope": ApprovalScope(**data["scope"]),
            "created_at": datetime.fromisoformat(data["created_at"]),
            "expires_at": _time_in(data["expires_at"]),
            "decided_by": _id_in(data["decided_by"]),
            "decided_at": _time_in(data["decided_at"]),
            "executions": tuple(map(ApprovalExecution.from_dict, data["executions"])),
            "history": tuple(map(AuditEntry.from_dict, data["history"])),
            "keep_until": _time_in(data["keep_until"]),
        }
        return cls(**given)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDecision:
    """What was decided.

    Attributes:
        request_id: The request.
        granted: Whether the call may happen.
        decided_by: Who decided.
        decided_at: When, in UTC.
        reason: Why, in their words.
        status: What the request is by it.
        arguments: What the tool may be called with; the approver may have edited it.
        edited: Whether the approver has.
    """

    request_id: UUID
    granted: bool
    decided_by: Identifier | None = None
    decided_at: datetime | None = None
    reason: str | None = None
    status: ApprovalStatus | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    edited: bool = False

    @classmethod
    def of(cls, request: ApprovalRequest) -> Self:
        """Return what was decided about a request that is not pending any more.

        Args:
            request: The request.
        """
        return cls(
            request_id=request.id,
            granted=request.status in {ApprovalStatus.APPROVED, ApprovalStatus.SPENT},
            decided_by=request.decided_by,
            decided_at=request.decided_at,
            reason=request.reason,
            status=request.status,
            arguments=request.arguments,
            edited=any("edited_from" in entry.detail for entry in request.history),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPending:
    """Says that a call waits for an approval, so that the run can be suspended instead of holding a process.

    Attributes:
        request_id: The request.
        action_id: The action or call that waits.
        tool_name: The tool.
        tenant: Whose request it is.
        expires_at: Until when it can be decided, in UTC.

    ```python
    from uuid import UUID

    from stageflow_tools.approval_request import ApprovalPending, ApprovalRequest

    request = ApprovalRequest(id=UUID(int=1), action_id="call-7", tool_name="mail.send")
    print(ApprovalPending.of(request).token)
    #> 00000000-0000-0000-0000-000000000001
    ```
    """

    request_id: UUID
    action_id: Identifier
    tool_name: str
    tenant: str | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, request: ApprovalRequest) -> Self:
        """Return what a suspended run keeps of a request.

        Args:
            request: The request.
        """
        return cls(
            request_id=request.id,
            action_id=request.action_id,
            tool_name=request.tool_name,
            tenant=request.tenant,
            expires_at=request.expires_at,
        )

    @property
    def token(self) -> str:
        """What to resume with: every method of ``ApprovalService`` takes it as the request's id."""
        return str(self.request_id)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "token": self.token,
            "action_id": _id_out(self.action_id),
            "tool_name": self.tool_name,
            "tenant": self.tenant,
            "expires_at": _time_out(self.expires_at),
        }


def _id_out(value: Identifier | None) -> str | None:
    return None if value is None else str(value)


def _id_in(value: str | None) -> Identifier | None:
    return None if value is None else read_identifier("ApprovalRequest.from_dict", "an id", value)


def _time_out(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _time_in(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
