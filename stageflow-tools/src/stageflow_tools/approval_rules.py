"""The rules of approvals: each takes a request, and returns what it becomes or says why not. No clock, no store.

```text
                 deny                                     revoke
             +----------> DENIED                       +---------> REVOKED
             |                                         |
  PENDING ---+-- approve --> APPROVED ----------------+---------> SPENT     every use is done
             |               reserve, renew, done      |
             +----------> EXPIRED <--------------------+           its time is over
             |
             +----------> CANCELLED

  an execution:  RESERVED --+-- done -----> DONE
                    |  ^    +-- release --> RELEASED (the use can be had again)
        lease over  v  | renewed            ^
                  UNKNOWN ---- resolve -----+--> DONE
```

A request is read *as of* a time: what has run out by then has done so, whoever looks first. The change itself is
written down with the next one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stageflow_tools.approval_errors import (
    ApprovalDecidedError,
    ApprovalNotFoundError,
    ApprovalRefusedError,
    ApprovalSpentError,
    ApprovalUnknownError,
    ExecutionSettledError,
)
from stageflow_tools.approval_request import (
    ApprovalExecution,
    ApprovalRequest,
    ApprovalStatus,
    AuditEntry,
    ExecutionState,
)
from stageflow_tools.canonical_json import arguments_hash

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from stageflow_tools.approval_scope import ApprovalScope
    from stageflow_tools.identifier import Identifier

__all__ = [
    "approve",
    "as_of",
    "cancel",
    "deny",
    "done",
    "extend",
    "release",
    "renew",
    "reserve",
    "resolve",
    "revoke",
    "uncovered",
]

_VERBS: Final = {
    ApprovalStatus.APPROVED: "approve",
    ApprovalStatus.DENIED: "deny",
    ApprovalStatus.CANCELLED: "cancel",
    ApprovalStatus.REVOKED: "revoke",
}


def as_of(request: ApprovalRequest, now: datetime, retention: timedelta) -> ApprovalRequest:
    """Return the request with everything that has run out by *now*; itself if nothing has."""
    executions = tuple(_execution_as_of(one, now) for one in request.executions)
    expires_at = request.expires_at
    if not request.status.is_final and expires_at is not None and expires_at <= now:
        expired = replace(
            request,
            status=ApprovalStatus.EXPIRED,
            executions=executions,
            history=(*request.history, AuditEntry(at=expires_at, action=ApprovalStatus.EXPIRED.value)),
        )
        return _kept(expired, expires_at, retention)
    return request if executions == request.executions else replace(request, executions=executions)


def _execution_as_of(execution: ApprovalExecution, now: datetime) -> ApprovalExecution:
    if execution.state is ExecutionState.RESERVED and execution.lease_until <= now:
        return replace(execution, state=ExecutionState.UNKNOWN)
    return execution


def approve(
    request: ApprovalRequest,
    now: datetime,
    *,
    by: Identifier | None,
    reason: str | None,
    arguments: Mapping[str, Any] | None,
    scope: ApprovalScope | None,
    expires_at: datetime | None,
    retention: timedelta,
) -> ApprovalRequest:
    """Approve, perhaps with other arguments or for another scope."""
    _require_pending(request, ApprovalStatus.APPROVED)
    scope = request.scope if scope is None else scope
    scope.check_grant(request.tenant)
    detail: dict[str, Any] = {"scope": scope.of, "max_uses": scope.max_uses}
    if scope.arguments:
        detail["arguments"] = dict(scope.arguments)
    hashed = request.arguments_hash
    if arguments is not None:
        detail["edited_from"] = hashed
        hashed = arguments_hash(request.tool_name, arguments)
        detail["edited_to"] = hashed
    changed = replace(
        request,
        arguments=request.arguments if arguments is None else arguments,
        arguments_hash=hashed,
        scope=scope,
        expires_at=expires_at,
    )
    return _decided(changed, ApprovalStatus.APPROVED, now, by, reason, retention, detail)


def deny(
    request: ApprovalRequest,
    now: datetime,
    *,
    by: Identifier | None,
    reason: str | None,
    retention: timedelta,
) -> ApprovalRequest:
    """Say no."""
    _require_pending(request, ApprovalStatus.DENIED)
    return _decided(request, ApprovalStatus.DENIED, now, by, reason, retention)


def cancel(
    request: ApprovalRequest,
    now: datetime,
    *,
    by: Identifier | None,
    reason: str | None,
    retention: timedelta,
) -> ApprovalRequest:
    """Withdraw a request that nobody has decided about."""
    _require_pending(request, ApprovalStatus.CANCELLED)
    return _decided(request, ApprovalStatus.CANCELLED, now, by, reason, retention)


def revoke(
    request: ApprovalRequest,
    now: datetime,
    *,
    by: Identifier | None,
    reason: str | None,
    retention: timedelta,
) -> ApprovalRequest:
    """Take an approval back. Executions that are at work go on."""
    if request.status is not ApprovalStatus.APPROVED:
        raise _decided_before(request, ApprovalStatus.REVOKED)
    return _decided(request, ApprovalStatus.REVOKED, now, by, reason, retention)


def extend(request: ApprovalRequest, expires_at: datetime, retention: timedelta) -> ApprovalRequest:
    """Set until when a pending request can be decided; one that is not pending stays as it is."""
    if request.status is not ApprovalStatus.PENDING or request.expires_at == expires_at:
        return request
    return _kept(replace(request, expires_at=expires_at), expires_at, retention)


def uncovered(
    request: ApprovalRequest,
    *,
    tool_name: str,
    arguments: Mapping[str, Any],
    tenant: str | None,
    run_id: Identifier | None,
) -> str | None:
    """Say why a request's scope does not cover a call, or None if it does."""
    scope = request.scope
    if not scope.allows_tenant(tenant, of=request.tenant):
        return f"it is not for the tenant {tenant!r}"
    if tool_name != request.tool_name:
        return f"it is for the tool {request.tool_name!r}"
    if scope.of == "run" and (run_id is None or run_id != request.pipeline_run_id):
        return "it is for another run"
    if scope.arguments:
        if not scope.allows_arguments(arguments, request.arguments):
            return "its arguments and patterns allow other arguments"
    elif arguments_hash(tool_name, arguments) != request.arguments_hash:
        return "it is for other arguments"
    return None


def reserve(
    request: ApprovalRequest,
    now: datetime,
    *,
    execution: ApprovalExecution,
    tool_name: str,
    by: Identifier | None,
) -> ApprovalRequest:
    """Take one use for an execution, which must be covered."""
    problem = uncovered(
        request,
        tool_name=tool_name,
        arguments=execution.arguments,
        tenant=execution.tenant,
        run_id=execution.run_id,
    )
    if problem is not None:
        raise ApprovalRefusedError(request.id, tool_name, problem)
    before = request.execution(execution.execution_id)
    if before is not None and before.state is ExecutionState.UNKNOWN:
        raise ApprovalUnknownError(request.id, tool_name, before)
    if before is not None and before.state is not ExecutionState.RELEASED:
        what = f"its execution {before.execution_id!r} is {before.state.value}"
        raise ApprovalSpentError(request.id, tool_name, what, before)
    if request.status is ApprovalStatus.SPENT or (
        request.status is ApprovalStatus.APPROVED and request.uses_left < 1
    ):
        unknown = next((one for one in request.executions if one.state is ExecutionState.UNKNOWN), None)
        if unknown is not None:
            raise ApprovalUnknownError(request.id, tool_name, unknown)
        last = request.executions[-1] if request.executions else None
        raise ApprovalSpentError(request.id, tool_name, "it has no use left", last)
    if request.status is not ApprovalStatus.APPROVED:
        raise ApprovalRefusedError(request.id, tool_name, f"it is {request.status.value}")
    others = tuple(one for one in request.executions if one is not before)
    return _with_entry(
        replace(request, executions=(*others, execution), keep_until=None),
        AuditEntry(
            at=now,
            action=ExecutionState.RESERVED.value,
            by=by,
            detail={
                "execution_id": execution.execution_id,
                "arguments_hash": arguments_hash(tool_name, execution.arguments),
            },
        ),
    )


def renew(request: ApprovalRequest, execution_id: str, holder: str, lease_until: datetime) -> ApprovalRequest:
    """Hold a reservation for another while; also one that had run out, as its holder is alive after all."""
    execution = _held(request, execution_id, holder, ExecutionState.RESERVED)
    held = replace(execution, state=ExecutionState.RESERVED, lease_until=lease_until)
    return _with_execution(request, execution, held)


def done(
    request: ApprovalRequest,
    now: datetime,
    execution_id: str,
    holder: str,
    *,
    result: Any,
    result_kept: bool,
    error: str | None,
    retention: timedelta,
) -> ApprovalRequest:
    """Write down that the tool has ended. The holder knows best, even if its lease has run out meanwhile."""
    execution = _held(request, execution_id, holder, ExecutionState.DONE)
    settled = replace(
        execution,
        state=ExecutionState.DONE,
        settled_at=now,
        result=result,
        result_kept=result_kept,
        error=error,
    )
    entry = AuditEntry(
        at=now,
        action=ExecutionState.DONE.value,
        detail={"execution_id": execution_id} | ({} if error is None else {"error": error}),
    )
    return _settled(request, execution, settled, entry, retention)


def release(
    request: ApprovalRequest,
    now: datetime,
    execution_id: str,
    holder: str,
    *,
    reason: str | None,
    retention: timedelta,
) -> ApprovalRequest:
    """Give a use back: the holder says that the tool was not called."""
    execution = _held(request, execution_id, holder, ExecutionState.RELEASED)
    settled = replace(execution, state=ExecutionState.RELEASED, settled_at=now)
    entry = AuditEntry(
        at=now,
        action=ExecutionState.RELEASED.value,
        reason=reason,
        detail={"execution_id": execution_id},
    )
    return _settled(request, execution, settled, entry, retention)


def resolve(
    request: ApprovalRequest,
    now: datetime,
    execution_id: str,
    *,
    happened: bool,
    by: Identifier | None,
    reason: str | None,
    result: Any,
    retention: timedelta,
) -> ApprovalRequest:
    """Write down what somebody has found out about an execution with an unknown outcome."""
    execution = _required(request, execution_id)
    state = ExecutionState.DONE if happened else ExecutionState.RELEASED
    if execution.state is not ExecutionState.UNKNOWN:
        raise ExecutionSettledError(request.id, execution, wanted=state.value)
    settled = replace(
        execution, state=state, settled_at=now, result=result, result_kept=happened and result is not None
    )
    entry = AuditEntry(
        at=now,
        action="resolved",
        by=by,
        reason=reason,
        detail={"execution_id": execution_id, "happened": happened},
    )
    return _settled(request, execution, settled, entry, retention)


# --- what the rules share -------------------------------------------------------------------------------


def _require_pending(request: ApprovalRequest, wanted: ApprovalStatus) -> None:
    if request.status is not ApprovalStatus.PENDING:
        raise _decided_before(request, wanted)


def _decided_before(request: ApprovalRequest, wanted: ApprovalStatus) -> ApprovalDecidedError:
    return ApprovalDecidedError(
        request.id,
        request.status,
        decided_by=request.decided_by,
        decided_at=request.decided_at,
        wanted=_VERBS[wanted],
    )


def _decided(
    request: ApprovalRequest,
    status: ApprovalStatus,
    now: datetime,
    by: Identifier | None,
    reason: str | None,
    retention: timedelta,
    detail: Mapping[str, Any] | None = None,
) -> ApprovalRequest:
    changed = replace(request, status=status, decided_by=by, decided_at=now, reason=reason)
    entry = AuditEntry(at=now, action=status.value, by=by, reason=reason, detail=dict(detail or {}))
    ends = now if status.is_final else changed.expires_at
    return _kept(_with_entry(changed, entry), ends, retention)


def _settled(
    request: ApprovalRequest,
    before: ApprovalExecution,
    after: ApprovalExecution,
    entry: AuditEntry,
    retention: timedelta,
) -> ApprovalRequest:
    changed = _with_entry(_with_execution(request, before, after), entry)
    uses = [one for one in changed.executions if one.state is ExecutionState.DONE]
    if changed.status is ApprovalStatus.APPROVED and len(uses) == changed.scope.max_uses:
        changed = replace(changed, status=ApprovalStatus.SPENT)
        changed = _with_entry(changed, AuditEntry(at=entry.at, action=ApprovalStatus.SPENT.value))
    return _kept(changed, entry.at if changed.status.is_final else changed.expires_at, retention)


def _kept(request: ApprovalRequest, ends: datetime | None, retention: timedelta) -> ApprovalRequest:
    """Say when a request may be forgotten: some time after it ends, but never while an execution of it is open."""
    until = None if ends is None or request.has_open_executions else ends + retention
    return replace(request, keep_until=until)


def _with_entry(request: ApprovalRequest, entry: AuditEntry) -> ApprovalRequest:
    return replace(request, history=(*request.history, entry))


def _with_execution(
    request: ApprovalRequest, before: ApprovalExecution, after: ApprovalExecution
) -> ApprovalRequest:
    return replace(request, executions=tuple(after if one is before else one for one in request.executions))


def _held(
    request: ApprovalRequest, execution_id: str, holder: str, wanted: ExecutionState
) -> ApprovalExecution:
    """Return the execution that a holder may still say something about."""
    execution = _required(request, execution_id)
    if not execution.is_open or execution.holder != holder:
        raise ExecutionSettledError(request.id, execution, wanted=wanted.value)
    return execution


def _required(request: ApprovalRequest, execution_id: str) -> ApprovalExecution:
    execution = request.execution(execution_id)
    if execution is None:
        msg = f"{request.id}, execution {execution_id}"
        raise ApprovalNotFoundError(msg)
    return execution
