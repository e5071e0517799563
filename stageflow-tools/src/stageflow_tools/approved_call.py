"""``ApprovedCall``: what a call that takes an approval does before, and after, the tool is called."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, final

from stageflow import StageContext

from stageflow_tools.approval_errors import ApprovalExpiredError, ApprovalSpentError
from stageflow_tools.approval_request import ApprovalPending, ApprovalStatus
from stageflow_tools.context import tenant_of
from stageflow_tools.errors import (
    ToolApprovalDeniedError,
    ToolApprovalPendingError,
    ToolApprovalTimeoutError,
)
from stageflow_tools.lease import to_the_end
from stageflow_tools.output import ToolOutput

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from uuid import UUID

    from stageflow.protocols import ExecutionContext

    from stageflow_tools.approval import ApprovalService
    from stageflow_tools.approval_request import ApprovalDecision
    from stageflow_tools.approval_spending import Spending
    from stageflow_tools.definition import ToolDefinition

__all__ = ["ApprovedCall"]


@final
class ApprovedCall:
    """Asks for the approval of one call, waits for it, and spends it.

    Args:
        service: Who is asked.
        tool: The tool.
        call_id: The call. A call that is resumed has the same, so that it is not made again.
        arguments: What the tool is to be called with, as plain data.
        ctx: Who wants it.
        emit: Takes the events.
        timeout_seconds: How long to wait; None means not at all: the call ends as one that is pending.
    """

    __slots__ = (
        "_arguments",
        "_call_id",
        "_ctx",
        "_edited",
        "_emit",
        "_service",
        "_tenant",
        "_timeout",
        "_tool",
    )

    def __init__(
        self,
        service: ApprovalService,
        tool: ToolDefinition,
        call_id: str,
        arguments: Mapping[str, Any],
        ctx: ExecutionContext,
        emit: Callable[[str, dict[str, Any]], None],
        timeout_seconds: float | None,
    ) -> None:
        self._service = service
        self._tool = tool
        self._call_id = call_id
        self._arguments = arguments
        self._ctx = ctx
        self._emit = emit
        self._timeout = timeout_seconds
        self._edited = False  # whether the approver has put other arguments in the place of these
        self._tenant = tenant_of(ctx)

    async def decided(self, token: UUID | str | None) -> UUID:
        """Return the request that allows the call, once somebody has agreed.

        Args:
            token: A request that was made before; None to make one.

        Raises:
            ToolApprovalDeniedError: Somebody said no, or has taken the approval back.
            ToolApprovalTimeoutError: Nobody has decided in time.
            ToolApprovalPendingError: Nobody has decided yet, and nobody waits.
            ApprovalNotFoundError: The tenant has no request with that token.
        """
        service, tool = self._service, self._tool
        if token is None:
            request = await service.request_approval(
                self._call_id,
                tool.name,
                self._ctx.pipeline_run_id,
                tool.approval_message or f"May {tool.name} be called?",
                arguments=dict(self._arguments),
                tenant=self._tenant,
                timeout_seconds=self._timeout,
            )
            self._emit(
                "approval.requested", {"request_id": str(request.id), "message": request.approval_message}
            )
        else:
            from stageflow_tools.approval_errors import ApprovalNotFoundError

            found = await service.get_request(token, tenant=self._tenant)
            if found is None:
                raise ApprovalNotFoundError(token)
            request = found
        if self._timeout is None and request.status is ApprovalStatus.PENDING:
            raise ToolApprovalPendingError(tool.name, ApprovalPending.of(request))
        decision = await self._decision(request.id, asked_here=token is None)
        return self._granted(request.id, decision)

    @asynccontextmanager
    async def spent(self, request_id: UUID) -> AsyncGenerator[Spending | ToolOutput]:
        """Take the approval, or, if this very call has been made with it before, return what it came to.

        Raises:
            ApprovalRefusedError: It does not cover this call, is used up, or its outcome is not known.
        """
        try:
            spending = await self._service.spend(
                request_id,
                tool_name=self._tool.name,
                # Those that were approved; an approval for others is none for these.
                arguments=None if self._edited else dict(self._arguments),
                tenant=self._tenant,
                run_id=self._ctx.pipeline_run_id,
                execution_id=self._call_id,
            )
        except ApprovalSpentError as exc:
            execution = exc.execution
            if execution is None or execution.execution_id != self._call_id or not execution.result_kept:
                raise
            yield ToolOutput(**execution.result)
            return
        async with spending:
            yield spending

    async def _decision(self, request_id: UUID, *, asked_here: bool) -> ApprovalDecision:
        began_ns = monotonic_ns()
        try:
            return await self._service.await_decision(request_id, tenant=self._tenant)
        except ApprovalExpiredError as exc:
            self._emit("approval.decided", {"request_id": str(request_id), "decision": "expired"})
            raise ToolApprovalTimeoutError(self._tool.name, self._timeout) from exc
        except asyncio.CancelledError:
            if asked_here:  # nobody else waits for it
                cancelled = self._service.cancel_request(
                    request_id, reason="the call was cancelled", tenant=self._tenant
                )
                await to_the_end(cancelled)
            raise
        finally:
            ctx = self._ctx
            if isinstance(ctx, StageContext):
                ctx.scope.waited(ctx.stage_name, ctx.attempt, "approval", began_ns, monotonic_ns())

    def _granted(self, request_id: UUID, decision: ApprovalDecision) -> UUID:
        self._edited = decision.edited
        by = None if decision.decided_by is None else str(decision.decided_by)
        told = {"request_id": str(request_id), "decided_by": by, "reason": decision.reason}
        self._emit("approval.decided", {"decision": "approved" if decision.granted else "denied", **told})
        if not decision.granted:
            status = decision.status
            denied = status is None or status is ApprovalStatus.DENIED
            reason = decision.reason or ("user_denied" if denied else str(status))
            raise ToolApprovalDeniedError(self._tool.name, reason, decided_by=by)
        return request_id
