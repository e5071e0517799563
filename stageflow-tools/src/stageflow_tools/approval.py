"""``ApprovalService``: asks people before a tool is called, and makes sure that their answer counts once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any, Final, final
from uuid import UUID, uuid4

from stageflow.context.checks import (
    ArgumentTypeError,
    check_name,
    check_type,
    number_of,
    require_mapping,
    wrong_type,
    wrong_value,
)

from stageflow_tools import approval_rules as rules
from stageflow_tools.approval_errors import (
    ApprovalDecidedError,
    ApprovalEditError,
    ApprovalExpiredError,
    ApprovalNotFoundError,
)
from stageflow_tools.approval_request import (
    ApprovalDecision,
    ApprovalExecution,
    ApprovalRequest,
    ApprovalStatus,
    AuditEntry,
    ExecutionState,
)
from stageflow_tools.approval_scope import ApprovalScope
from stageflow_tools.approval_spending import Spending
from stageflow_tools.approval_store import InMemoryApprovalStore
from stageflow_tools.canonical_json import arguments_hash, plain_copy
from stageflow_tools.identifier import read_identifier
from stageflow_tools.lease import outwait

if TYPE_CHECKING:
    from collections.abc import Callable

    from stageflow_tools.approval_store import ApprovalStore
    from stageflow_tools.identifier import Identifier

__all__ = ["ApprovalService", "clear_approval_service", "get_approval_service", "set_approval_service"]

_OWNER: Final = "ApprovalService"
_PURGE_EVERY: Final = 60.0  # seconds
_MOST_SECONDS: Final = 3_200_000_000.0  # a hundred years
_SHORTEST_WAIT: Final = 0.001


@final
class ApprovalService:
    """Asks for approvals, takes decisions, and spends what was approved.

    Every request belongs to a tenant, or to none, and is not there for any other: each method that takes a request
    takes the tenant as well. See ``docs/guides/approval.md`` for the states and for what happens when processes die.

    Args:
        default_timeout_seconds: How long a request can be decided. None: for ever.
        store: Where requests are kept: services that share a store see each other's, also from other processes.
            None: in the memory of this service.
        spend_within_seconds: How long an approval can be spent. None: for ever.
        lease_seconds: How long whoever executes an approved call counts as alive without renewing its lease.
        retention_seconds: How long a request is kept after it has ended.
        validate_arguments: Called with the tool's name and the arguments when an approver has edited them; raises if
            they do not fit. May be async. Without it, nobody can edit arguments.

    Raises:
        ArgumentTypeError: A duration is no number.
        ArgumentValueError: A duration is not positive, or more than a hundred years.

    ```python
    import asyncio

    from stageflow_tools.approval import ApprovalService


    async def main():
        service = ApprovalService()
        request = await service.request_approval(
            "call-7", "mail.send", approval_message="Send the offer?", arguments={"to": "ada"}
        )
        await service.record_decision(request.id, granted=True, decided_by="grace", reason="she asked for it")
        decision = await service.await_decision(request.id)
        print(decision.granted, decision.decided_by)
        #> True grace
        async with await service.spend(request.id) as spending:
            print("to", spending.arguments["to"])
            #> to ada
        print([entry.action for entry in (await service.get_request(request.id)).history])
        #> ['requested', 'approved', 'reserved', 'done', 'spent']


    asyncio.run(main())
    ```
    """

    __slots__ = (
        "_lease",
        "_purge_at",
        "_retention",
        "_spend_within",
        "_store",
        "_validate",
        "default_timeout_seconds",
    )

    def __init__(
        self,
        default_timeout_seconds: float | None = 60,
        store: ApprovalStore | None = None,
        *,
        spend_within_seconds: float | None = 3600,
        lease_seconds: float = 60,
        retention_seconds: float = 86_400,
        validate_arguments: Callable[[str, dict[str, Any]], object] | None = None,
    ) -> None:
        self.default_timeout_seconds = _optional("default_timeout_seconds", default_timeout_seconds)
        self._spend_within = _optional("spend_within_seconds", spend_within_seconds)
        self._lease = _seconds("lease_seconds", lease_seconds)
        self._retention = timedelta(seconds=_seconds("retention_seconds", retention_seconds))
        if validate_arguments is not None and not callable(validate_arguments):
            raise wrong_type(_OWNER, "validate_arguments", "a callable or None", validate_arguments)
        self._validate = validate_arguments
        self._store: ApprovalStore = InMemoryApprovalStore() if store is None else store
        self._purge_at = -inf

    # --- whoever asks ------------------------------------------------------------------------------------

    async def request_approval(
        self,
        action_id: Identifier,
        tool_name: str,
        pipeline_run_id: Identifier | None = None,
        approval_message: str | None = None,
        payload_summary: Mapping[str, Any] | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        scope: ApprovalScope | None = None,
        timeout_seconds: float | None = None,
    ) -> ApprovalRequest:
        """Ask for an approval.

        Args:
            action_id: The action or call that it is about.
            tool_name: The tool.
            pipeline_run_id: The run that asks.
            approval_message: What the approver is told.
            payload_summary: What the approver is shown.
            arguments: What the tool is to be called with. The approval is bound to it.
            tenant: Whose request it is.
            scope: What is asked for; the approver may grant another. By default this one call.
            timeout_seconds: How long it can be decided, if not as long as by default.

        Raises:
            ArgumentTypeError: An argument has another type, or is no JSON.
            ArgumentValueError: An argument is empty, or the scope is not the tenant's to ask for.
            StoreError: The store cannot be used.
        """
        _check_text("tool_name", tool_name)
        _check_tenant(tenant)
        _check_words("approval_message", approval_message)
        _check_scope(scope)
        scope = ApprovalScope() if scope is None else scope
        scope.check_grant(tenant)
        plain = _plain("arguments", arguments)
        run_id = _optional_id("pipeline_run_id", pipeline_run_id)
        seconds = _optional("timeout_seconds", timeout_seconds) or self.default_timeout_seconds
        now = self._now()
        expires_at = None if seconds is None else now + timedelta(seconds=seconds)
        request = ApprovalRequest(
            id=uuid4(),
            action_id=read_identifier(_OWNER, "action_id", action_id),
            tool_name=tool_name,
            approval_message=approval_message,
            payload_summary=_plain("payload_summary", payload_summary),
            pipeline_run_id=run_id,
            tenant=tenant,
            arguments=plain,
            arguments_hash=arguments_hash(tool_name, plain),
            scope=scope,
            created_at=now,
            expires_at=expires_at,
            history=(AuditEntry(at=now, action="requested", detail={"scope": scope.of}),),
            keep_until=None if expires_at is None else expires_at + self._retention,
        )
        if self._store.now() >= self._purge_at:
            self._purge_at = self._store.now() + _PURGE_EVERY
            await self._store.purge()
        await self._store.add(request)
        return request

    async def await_decision(
        self, request_id: UUID | str, timeout_seconds: float | None = None, *, tenant: str | None = None
    ) -> ApprovalDecision:
        """Wait until a request is decided or cancelled. Any number of callers may, in any process.

        Who is cancelled while waiting leaves the request as it is: another may wait for it.

        Args:
            request_id: The request, or its token.
            timeout_seconds: How long it can be decided from now on, in place of what was said when it was made.
            tenant: Whose request it is.

        Raises:
            ApprovalExpiredError: Nobody decided in time; also a ``TimeoutError``.
            ApprovalNotFoundError: There is no such request, or it was removed meanwhile.
            StoreError: The store cannot be used.
        """
        if timeout_seconds is not None:
            end = self._now() + timedelta(seconds=_seconds("timeout_seconds", timeout_seconds))
            await self._change(
                request_id, tenant, lambda request, _: rules.extend(request, end, self._retention)
            )
        while True:
            request = await self._require(request_id, tenant)
            if request.status is ApprovalStatus.EXPIRED and request.decided_at is None:
                await self._change(request_id, tenant, lambda request, _: request)  # writes it down
                raise ApprovalExpiredError(request.id, request.tool_name, request.expires_at)
            if request.status is not ApprovalStatus.PENDING:
                return ApprovalDecision.of(request)
            left = _PURGE_EVERY if request.expires_at is None else self._seconds_to(request.expires_at)
            await self._store.wait(request.id, request.version, max(left, _SHORTEST_WAIT))

    async def cancel_request(
        self,
        request_id: UUID | str,
        *,
        cancelled_by: Identifier | None = None,
        reason: str | None = None,
        tenant: str | None = None,
    ) -> bool:
        """Withdraw a request, because the call is not wanted any more.

        Args:
            request_id: The request, or its token.
            cancelled_by: Who says so.
            reason: Why.
            tenant: Whose request it is.

        Returns:
            False if there is no such request, or if it is not pending any more.

        Raises:
            StoreError: The store cannot be used.
        """
        by = _optional_id("cancelled_by", cancelled_by)
        _check_words("reason", reason)

        def cancel(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            return rules.cancel(request, now, by=by, reason=reason, retention=self._retention)

        try:
            await self._change(request_id, tenant, cancel)
        except (ApprovalDecidedError, ApprovalNotFoundError):
            return False
        return True

    # --- whoever decides ---------------------------------------------------------------------------------

    async def get_pending_requests(
        self, pipeline_run_id: Identifier | None = None, *, tenant: str | None = None
    ) -> list[ApprovalRequest]:
        """Return what can be decided, the oldest first.

        Args:
            pipeline_run_id: Only the requests of this run.
            tenant: Whose requests.

        Raises:
            StoreError: The store cannot be used.
        """
        run_id = _optional_id("pipeline_run_id", pipeline_run_id)
        _check_tenant(tenant)
        found = await self._store.find(tenants=(tenant,), run_id=run_id, statuses=(ApprovalStatus.PENDING,))
        return [one for one in map(self._as_of_now, found) if one.status is ApprovalStatus.PENDING]

    async def get_request(
        self, request_id: UUID | str, *, tenant: str | None = None
    ) -> ApprovalRequest | None:
        """Return a request as it is now, or None if the tenant has none of that name.

        Args:
            request_id: The request, or its token.
            tenant: Whose request it is.

        Raises:
            StoreError: The store cannot be used.
        """
        try:
            return await self._require(request_id, tenant)
        except ApprovalNotFoundError:
            return None

    async def record_decision(
        self,
        request_id: UUID | str,
        granted: bool,  # noqa: FBT001 - the published signature is positional
        decided_by: Identifier | None = None,
        reason: str | None = None,
        *,
        tenant: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        scope: ApprovalScope | None = None,
        spend_within_seconds: float | None = None,
    ) -> ApprovalDecision:
        """Decide about a request. Of two who do at once, one does.

        Args:
            request_id: The request, or its token.
            granted: Whether the call may happen.
            decided_by: Who decides.
            reason: Why.
            tenant: Whose request it is.
            arguments: What the tool may be called with, in place of what was asked for.
            scope: Which calls are approved, in place of those that were asked for.
            spend_within_seconds: How long the approval can be spent, if not as long as by default.

        Raises:
            ApprovalDecidedError: It has been decided, or has ended, before; the error says by whom.
            ApprovalNotFoundError: The tenant has no such request.
            ApprovalEditError: The arguments do not fit the tool, or nobody here can check them.
            ArgumentTypeError: ``granted`` is no bool.
            ArgumentValueError: The scope is not the tenant's to grant.
            StoreError: The store cannot be used; nothing was decided.
        """
        if not isinstance(granted, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - a "no" from a form is true
            raise wrong_type(_OWNER, "granted", "a bool", granted)
        by = _optional_id("decided_by", decided_by)
        _check_scope(scope)
        _check_words("reason", reason)
        within = _optional("spend_within_seconds", spend_within_seconds) or self._spend_within
        edited: dict[str, Any] | None = None
        if arguments is not None and granted:
            edited = await self._checked(await self._require(request_id, tenant), arguments)

        def decide(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            if not granted:
                return rules.deny(request, now, by=by, reason=reason, retention=self._retention)
            return rules.approve(
                request,
                now,
                by=by,
                reason=reason,
                arguments=edited,
                scope=scope,
                expires_at=None if within is None else now + timedelta(seconds=within),
                retention=self._retention,
            )

        return ApprovalDecision.of(await self._change(request_id, tenant, decide))

    async def revoke(
        self,
        request_id: UUID | str,
        *,
        revoked_by: Identifier | None = None,
        reason: str | None = None,
        tenant: str | None = None,
    ) -> None:
        """Take an approval back. What is being executed with it already goes on.

        Args:
            request_id: The request, or its token.
            revoked_by: Who does.
            reason: Why.
            tenant: Whose request it is.

        Raises:
            ApprovalDecidedError: It is not an approval that could still be spent.
            ApprovalNotFoundError: The tenant has no such request.
            StoreError: The store cannot be used; it can still be spent.
        """
        by = _optional_id("revoked_by", revoked_by)
        _check_words("reason", reason)

        def revoke(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            return rules.revoke(request, now, by=by, reason=reason, retention=self._retention)

        await self._change(request_id, tenant, revoke)

    # --- whoever executes --------------------------------------------------------------------------------

    async def find_approval(
        self,
        tool_name: str,
        arguments: Mapping[str, Any],
        *,
        tenant: str | None = None,
        run_id: Identifier | None = None,
    ) -> ApprovalRequest | None:
        """Return an approval with a wider scope than one call that covers this one and has a use left.

        Approvals of one call are not found: whoever asked for one has its id.

        Args:
            tool_name: The tool.
            arguments: What it is to be called with.
            tenant: Whose call it is.
            run_id: Of which run.

        Raises:
            StoreError: The store cannot be used.
        """
        run = _optional_id("run_id", run_id)
        plain = _plain("arguments", arguments)
        _check_text("tool_name", tool_name)
        _check_tenant(tenant)
        parts = [] if tenant is None else tenant.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))}
        found = await self._store.find(
            tenants={tenant, *above}, tool_name=tool_name, statuses=(ApprovalStatus.APPROVED,)
        )
        for request in map(self._as_of_now, found):
            if request.scope.of == "once" or request.status is not ApprovalStatus.APPROVED:
                continue
            problem = rules.uncovered(
                request, tool_name=tool_name, arguments=plain, tenant=tenant, run_id=run
            )
            if problem is None and request.uses_left > 0:
                return request
        return None

    async def spend(
        self,
        request_id: UUID | str,
        *,
        tool_name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        run_id: Identifier | None = None,
        execution_id: str | None = None,
        lease_seconds: float | None = None,
    ) -> Spending:
        """Take one use of an approval. If this returns, call the tool; if it raises, do not.

        The approval is checked again, as it is now: its state, its scope, its uses, and that the tool and the arguments
        are those that were approved. However many processes ask, each use is had once.

        Args:
            request_id: The request, or its token.
            tool_name: The tool that is to be called; by default the one that was approved.
            arguments: What it is to be called with; by default what was approved.
            tenant: Whose call it is.
            run_id: Of which run.
            execution_id: What the execution is called. Give the same again when the same work is resumed: if it has
                happened, the error has the result.
            lease_seconds: How long this process counts as alive without renewing the lease, if not as long as by
                default.

        Raises:
            ApprovalRefusedError: The approval does not cover this call.
            ApprovalSpentError: It has no use left, or this very execution has been before.
            ApprovalUnknownError: Whoever executed it has gone, and nobody knows whether it has happened.
            ApprovalNotFoundError: There is no such request for this tenant.
            StoreError: The store cannot be used.
        """
        lease = self._lease if lease_seconds is None else _seconds("lease_seconds", lease_seconds)
        name = uuid4().hex if execution_id is None else execution_id
        holder = uuid4().hex
        _check_text("execution_id", name)
        run = _optional_id("run_id", run_id)
        plain = None if arguments is None else _plain("arguments", arguments)
        reserved = asyncio.ensure_future(
            self._reserve(request_id, tool_name, plain, tenant, run, name, holder, lease)
        )
        cancelled = await outwait(reserved)
        if cancelled is None:
            request = reserved.result()
            execution = request.execution(name)
            assert execution is not None  # noqa: S101 - it was reserved the line before
            return Spending(self, request, execution, lease)
        if not reserved.cancelled() and reserved.exception() is None:
            # Nobody gets to know of the reservation, so the tool is not called.
            given_back = asyncio.ensure_future(
                self.release_execution(
                    reserved.result().id, name, holder, reason="cancelled while it was reserved"
                )
            )
            await outwait(given_back)
            given_back.exception()  # then the outcome is unknown: that is safe, and visible
        raise cancelled

    async def get_unknown_outcomes(
        self, *, tenant: str | None = None
    ) -> list[tuple[ApprovalRequest, ApprovalExecution]]:
        """Return the executions whose holder has gone without a word.

        Args:
            tenant: Whose requests.

        Raises:
            StoreError: The store cannot be used.
        """
        _check_tenant(tenant)
        found = await self._store.find(tenants=(tenant,), has_open_executions=True)
        return [
            (request, execution)
            for request in map(self._as_of_now, found)
            for execution in request.executions
            if execution.state is ExecutionState.UNKNOWN
        ]

    async def resolve_outcome(
        self,
        request_id: UUID | str,
        execution_id: str,
        *,
        happened: bool,
        resolved_by: Identifier | None = None,
        reason: str | None = None,
        result: Any = None,
        tenant: str | None = None,
    ) -> None:
        """Write down what somebody has found out about an execution with an unknown outcome.

        Args:
            request_id: The request, or its token.
            execution_id: The execution.
            happened: Whether the tool has been called. If not, the use can be had again.
            resolved_by: Who says so.
            reason: How they know.
            result: What the tool has given, if it is known.
            tenant: Whose request it is.

        Raises:
            ExecutionSettledError: The outcome is known, or its holder is alive.
            ApprovalNotFoundError: The tenant has no such request, or the request no such execution.
            StoreError: The store cannot be used.
        """
        by = _optional_id("resolved_by", resolved_by)
        _check_words("reason", reason)
        plain = plain_copy(result, owner=_OWNER, argument="result")

        def resolve(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            return rules.resolve(
                request,
                now,
                execution_id,
                happened=happened,
                by=by,
                reason=reason,
                result=plain,
                retention=self._retention,
            )

        await self._change(request_id, tenant, resolve)

    async def renew_execution(
        self, request_id: UUID, execution_id: str, holder: str, lease_seconds: float
    ) -> None:
        """Hold a reservation for another while; see ``Spending.renew``."""

        def renew(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            return rules.renew(request, execution_id, holder, now + timedelta(seconds=lease_seconds))

        await self._change_any(request_id, renew)

    async def settle_execution(
        self, request_id: UUID, execution_id: str, holder: str, *, result: Any, error: str | None
    ) -> ApprovalRequest:
        """Write down that a tool has ended; see ``Spending.done``."""
        kept = result is not None
        try:
            plain = plain_copy(result, owner=_OWNER, argument="result")
        except ArgumentTypeError:  # the tool has run, and that must be written down whatever it has given
            plain, kept = None, False

        def done(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            return rules.done(
                request,
                now,
                execution_id,
                holder,
                result=plain,
                result_kept=kept,
                error=error,
                retention=self._retention,
            )

        return await self._change_any(request_id, done)

    async def release_execution(
        self, request_id: UUID, execution_id: str, holder: str, *, reason: str | None
    ) -> None:
        """Write down that a tool was not called; see ``Spending.release``."""

        def release(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            return rules.release(request, now, execution_id, holder, reason=reason, retention=self._retention)

        await self._change_any(request_id, release)

    # --- housekeeping ------------------------------------------------------------------------------------

    async def cleanup(self, request_id: UUID | str, *, tenant: str | None = None) -> bool:
        """Forget a request, whatever it is; whoever waits for it gets an ``ApprovalNotFoundError``.

        One with an execution whose end is not known stays, so that it is not lost.

        Args:
            request_id: The request, or its token.
            tenant: Whose request it is.

        Returns:
            Whether it is gone by this call.

        Raises:
            StoreError: The store cannot be used.
        """
        while True:
            request = await self.get_request(request_id, tenant=tenant)
            if request is None or request.has_open_executions:
                return False
            if await self._store.delete(request):
                return True

    async def purge(self) -> int:
        """Forget what has ended longer ago than the retention, and return how many requests that were.

        Every new request does the same, at most once a minute.

        Raises:
            StoreError: The store cannot be used.
        """
        return await self._store.purge()

    # --- what all of it shares ---------------------------------------------------------------------------

    async def _reserve(
        self,
        request_id: UUID | str,
        tool_name: str | None,
        arguments: dict[str, Any] | None,
        tenant: str | None,
        run_id: Identifier | None,
        execution_id: str,
        holder: str,
        lease: float,
    ) -> ApprovalRequest:
        def reserve(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            if request.tenant != tenant and not request.scope.allows_tenant(tenant, of=request.tenant):
                raise ApprovalNotFoundError(request_id)
            execution = ApprovalExecution(
                execution_id=execution_id,
                holder=holder,
                state=ExecutionState.RESERVED,
                reserved_at=now,
                lease_until=now + timedelta(seconds=lease),
                tenant=tenant,
                run_id=run_id,
                arguments=request.arguments if arguments is None else arguments,
            )
            return rules.reserve(
                request,
                now,
                execution=execution,
                tool_name=request.tool_name if tool_name is None else tool_name,
                by=run_id,
            )

        return await self._change_any(_read_request_id(request_id), reserve)

    async def _checked(self, request: ApprovalRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return edited arguments, if they fit the tool."""
        if self._validate is None:
            problem = "this service has no validate_arguments, so nobody would have checked them"
            raise ApprovalEditError(request.id, request.tool_name, problem)
        try:
            plain = _plain("arguments", arguments)
            answer = self._validate(request.tool_name, _plain("arguments", plain))
            if isinstance(answer, Awaitable):
                await answer
        except Exception as exc:
            problem = f"{type(exc).__name__}: {exc}"
            raise ApprovalEditError(request.id, request.tool_name, problem) from exc
        return plain

    async def _require(self, request_id: UUID | str, tenant: str | None) -> ApprovalRequest:
        request = await self._store.get(_read_request_id(request_id))
        if request is None or request.tenant != tenant:
            raise ApprovalNotFoundError(request_id)
        return self._as_of_now(request)

    async def _change(
        self,
        request_id: UUID | str,
        tenant: str | None,
        rule: Callable[[ApprovalRequest, datetime], ApprovalRequest],
    ) -> ApprovalRequest:
        def for_tenant(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
            if request.tenant != tenant:
                raise ApprovalNotFoundError(request_id)
            return rule(request, now)

        return await self._change_any(_read_request_id(request_id), for_tenant)

    async def _change_any(
        self, request_id: UUID, rule: Callable[[ApprovalRequest, datetime], ApprovalRequest]
    ) -> ApprovalRequest:
        """Apply a rule to a request as it is now; again, if somebody else has changed it meanwhile."""
        while True:
            kept = await self._store.get(request_id)
            if kept is None:
                raise ApprovalNotFoundError(request_id)
            now = self._now()
            changed = rule(rules.as_of(kept, now, self._retention), now)
            if changed is kept:
                return kept
            changed = replace(changed, version=kept.version + 1)
            if await self._store.replace(changed):
                return changed

    def _as_of_now(self, request: ApprovalRequest) -> ApprovalRequest:
        return rules.as_of(request, self._now(), self._retention)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._store.now(), UTC)

    def _seconds_to(self, moment: datetime) -> float:
        return (moment - self._now()).total_seconds()


_lock = threading.Lock()
_shared: ApprovalService | None = None


def get_approval_service() -> ApprovalService:
    """Return the service of this process, which is made when it is first asked for.

    ```python
    from stageflow_tools.approval import clear_approval_service, get_approval_service

    print(get_approval_service() is get_approval_service())
    #> True
    clear_approval_service()
    ```
    """
    global _shared  # noqa: PLW0603 - one for the process is what it is
    with _lock:
        if _shared is None:
            _shared = ApprovalService()
        return _shared


def set_approval_service(service: ApprovalService) -> None:
    """Make *service* the one of this process.

    Args:
        service: The service.
    """
    global _shared  # noqa: PLW0603 - one for the process is what it is
    with _lock:
        _shared = service


def clear_approval_service() -> None:
    """Forget the service of this process; the next one who asks gets a new one."""
    global _shared  # noqa: PLW0603 - one for the process is what it is
    with _lock:
        _shared = None


def _read_request_id(value: UUID | str) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ApprovalNotFoundError(value) from None


def _check_text(argument: str, value: object) -> None:
    """Raise unless a value is text that every database keeps as it is: no lone surrogate, no NUL."""
    check_name(_OWNER, argument, value)
    if not str(value).isprintable():
        raise wrong_value(_OWNER, argument, "must be printable text", value)


def _check_tenant(value: object) -> None:
    if value is not None:
        _check_text("tenant", value)


def _check_words(argument: str, value: object) -> None:
    if value is not None:
        check_type(_OWNER, argument, value, str, "a str or None")


def _check_scope(value: object) -> None:
    if value is not None:
        check_type(_OWNER, "scope", value, ApprovalScope, "an ApprovalScope or None")


def _optional_id(argument: str, value: Identifier | None) -> Identifier | None:
    return None if value is None else read_identifier(_OWNER, argument, value)


def _plain(argument: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    if value is None:
        return {}
    made: dict[str, Any] = plain_copy(
        require_mapping(_OWNER, argument, value), owner=_OWNER, argument=argument
    )
    return made


def _seconds(argument: str, value: float) -> float:
    expects, problem = "seconds as a number", "must be more than zero seconds"
    number = number_of(_OWNER, argument, value, expects=expects, problem=problem, positive=True)
    if number > _MOST_SECONDS:
        raise wrong_value(_OWNER, argument, "must be at most a hundred years", value)
    return number


def _optional(argument: str, value: float | None) -> float | None:
    return None if value is None else _seconds(argument, value)
