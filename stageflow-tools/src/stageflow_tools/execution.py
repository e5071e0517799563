"""``ToolExecution``: one call of a tool, from the look-up to its end.

```
 lookup ─► invoked ─► arguments ─► behaviour ─► permission ─► idempotency ─► approval ─► gate
                                                                                          │
 completed ◄─ undo record ◄─ output ◄── handler (time-out, retry, limit, breaker) ◄── started
```

Whatever says no on the way is told as ``tool.denied``, whatever breaks as ``tool.failed``; a call has one end.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, final

from stageflow import Effect, StageContext, StageOutput
from stageflow.context import thaw
from stageflow.errors import (
    CircuitBreakerOpenError,
    EffectGateClosed,
    PipelineCancelled,
    PolicyError,
    StageflowError,
    shown,
)
from stageflow.observability.breaker import counts_as_failure

from stageflow_tools.arguments import checked
from stageflow_tools.context import ToolContext, tenant_of
from stageflow_tools.errors import (
    ToolArgumentsError,
    ToolDeniedError,
    ToolExecutionError,
    ToolOutputError,
)
from stageflow_tools.inputs import ToolInput
from stageflow_tools.output import ToolOutput

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from uuid import UUID

    from stageflow.observability.breaker import LocalCircuitBreaker
    from stageflow.protocols import ExecutionContext

    from stageflow_tools.definition import ToolDefinition
    from stageflow_tools.executor import ToolExecutor
    from stageflow_tools.inputs import Action

__all__ = ["ToolExecution"]

_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_logger = logging.getLogger("stageflow.tools")
_DENIED: Final = (PolicyError, ToolDeniedError, CircuitBreakerOpenError)


@final
class ToolExecution:
    """One call of a tool.

    Args:
        executor: What it is made with.
        tool: The tool.
        action: What is to be done.
        ctx: Who wants it.
        token: A request for approval that was made for this call before.
    """

    __slots__ = (
        "_action",
        "_call_id",
        "_ctx",
        "_executor",
        "_payload",
        "_replayed",
        "_started_ns",
        "_token",
        "_tool",
    )

    def __init__(
        self,
        executor: ToolExecutor,
        tool: ToolDefinition,
        action: Action,
        ctx: ExecutionContext,
        token: UUID | str | None = None,
    ) -> None:
        self._executor = executor
        self._token = token
        self._tool = tool
        self._action = action
        self._ctx = ctx
        self._call_id = str(action.id)
        self._payload: Mapping[str, Any] = action.payload
        self._replayed = False  # whether its output is that of an earlier call
        self._started_ns = monotonic_ns()

    async def run(self) -> ToolOutput:
        """Go through all the steps.

        Raises:
            ToolArgumentsError: The arguments do not fit.
            ToolDeniedError: The mode, somebody's permissions, a gate or an approver does not allow it.
            ToolExecutionError: The tool raised, or took too long.
            ToolOutputError: It returned something else than it says, or too much.
        """
        self._started_ns = monotonic_ns()
        self._emit("tool.invoked", {"arguments": self._names()})
        try:
            self._payload = checked(self._tool, self._action.payload)
            self._check_behavior()
            await self._check_permissions()
            output = await self._once()
        except asyncio.CancelledError:
            self._end("tool.failed", {"error": "cancelled", "error_code": "cancelled"})
            raise
        except _DENIED as exc:
            otherwise = "circuit_open" if isinstance(exc, CircuitBreakerOpenError) else "refused"
            self._end("tool.denied", {"error": exc.what, "reason": getattr(exc, "reason", otherwise)})
            raise
        except GeneratorExit:  # nobody waits any more, and nobody listens
            raise
        except BaseException as exc:
            self._end("tool.failed", _said(exc))
            raise
        # Told last: whatever had to be written down of the call has been.
        if not output.success:
            self._end("tool.failed", {"error": output.error or "", "error_code": "tool_said_so"})
        else:
            self._end("tool.completed", {"replayed": True} if self._replayed else {})
        return output

    # --- what may say no --------------------------------------------------------------------------------

    def _check_behavior(self) -> None:
        mode = self._ctx.execution_mode
        if not self._tool.is_behavior_allowed(mode):
            allowed = ", ".join(map(repr, self._tool.allowed_behaviors))
            what = f"It may not be called in the mode {shown(mode)}, only in {allowed}"
            raise ToolDeniedError(what, self._tool.name, reason="behavior_not_allowed")

    async def _check_permissions(self) -> None:
        check = self._executor.permissions
        if not self._tool.permissions:
            return
        for permission in self._tool.permissions:
            if check is None:
                what = f"It takes the permission {permission!r}, and nobody here can say who has it"
                fix = "Give the executor a PermissionCheck: ToolExecutor(permissions=...)"
                raise ToolDeniedError(what, self._tool.name, reason="permission_denied", fix=fix)
            if not await check.allows(permission, self._ctx, resource=f"tool:{self._tool.name}"):
                what = f"The caller does not have the permission {permission!r}"
                raise ToolDeniedError(what, self._tool.name, reason="permission_denied")

    # --- once, if that is wanted ------------------------------------------------------------------------

    async def _once(self) -> ToolOutput:
        """Do the rest, unless the same call has been made before: then its output is that of the first."""
        store = self._executor.idempotency_store
        if store is None or self._tool.effect is Effect.NONE:
            return await self._allowed()
        from stageflow.interceptors import CachedStageResult
        from stageflow.interceptors.idempotency import (
            IdempotencyParamMismatch,
            params_hash,
            scoped_key,
        )
        from stageflow.interceptors.idempotency_claim import ClaimHold

        tenant, ttl = tenant_of(self._ctx), self._executor.config.idempotency_ttl_seconds
        key = scoped_key(org_id=tenant, pipeline="tool", stage=self._tool.name, key=self._call_id)
        fingerprint = params_hash(dict(self._action.payload))
        async with ClaimHold(store, key, ttl_seconds=min(60.0, ttl)) as hold:
            kept = hold.result
            if kept is not None:
                if kept.params_hash != fingerprint:
                    raise IdempotencyParamMismatch(self._call_id, kept.params_hash, fingerprint)
                self._replayed = True
                return ToolOutput(**dict(kept.result.data))
            output = await self._allowed()
            if output.success:
                entry = CachedStageResult(StageOutput.ok(output.to_dict()), fingerprint)
                await hold.complete(entry, ttl_seconds=ttl)
            return output

    async def _allowed(self) -> ToolOutput:
        """Wait for whoever has to agree, and for the gates; then do the work."""
        if not self._tool.requires_approval:
            await self._pass_gate()
            return await self._placed()
        from stageflow_tools.approved_call import ApprovedCall

        executor = self._executor
        seconds = None if executor.config.suspend_for_approval else executor.config.approval_timeout_seconds
        # Asked for as it came: what the tool makes of the arguments need be nothing that can be written down.
        given = thaw(dict(self._action.payload))
        asked = ApprovedCall(
            executor.approvals, self._tool, self._call_id, given, self._ctx, self._emit, seconds
        )
        request_id = await asked.decided(self._token)
        await self._pass_gate()
        async with asked.spent(request_id) as spending:
            if isinstance(spending, ToolOutput):  # it was made before: in a process that has ended, say
                self._replayed = True
                return spending
            self._payload = checked(self._tool, spending.arguments)
            output = await self._placed()
            await spending.done(output.to_dict(), error=output.error)
            return output

    async def _pass_gate(self) -> None:
        ctx = self._ctx
        if self._tool.effect is not Effect.NONE and isinstance(ctx, StageContext):
            try:
                await ctx.gate()
            except EffectGateClosed as exc:
                raise ToolDeniedError(exc.what, self._tool.name, reason="gate_closed") from exc

    async def _placed(self) -> ToolOutput:
        limit = self._executor.places_of(self._tool)
        if limit is None:
            return await self._work()
        async with limit:
            return await self._work()

    # --- the work ---------------------------------------------------------------------------------------

    async def _work(self) -> ToolOutput:
        context = ToolContext(self._call_id, self._tool.name, self._ctx, self._emit)
        call = ToolInput(
            self._action.id,
            self._tool.name,
            self._payload,
            self._ctx.execution_mode,
            self._ctx.pipeline_run_id,
            self._ctx.request_id,
            context,
        )
        try:
            output = self._completed(await self._attempts(call, context), context)
        except GeneratorExit:  # nothing can be awaited any more
            raise
        except BaseException:
            # It may have done something before it failed, and has said how to undo that.
            await self._keep_for_undo(context.undo_metadata)
            raise
        await self._keep_for_undo(output.undo_metadata)  # whatever else is wrong with what it returned
        self._check_output(output)
        return output

    async def _keep_for_undo(self, metadata: Mapping[str, Any] | None) -> None:
        """Put on record what undoing takes, to the end: what was done was done, also if the run is cancelled now."""
        if self._tool.undoable and metadata is not None:
            from stageflow_tools.lease import to_the_end

            await to_the_end(self._executor.keep_for_undo(self._tool, self._call_id, metadata, self._ctx))

    async def _attempts(self, call: ToolInput, context: ToolContext) -> ToolOutput:
        retry = None if self._tool.effect is Effect.IRREVERSIBLE else self._tool.retry
        while True:
            try:
                return await self._attempt(call, context)
            except ToolExecutionError as exc:
                cause = exc.cause if isinstance(exc.cause, Exception) else exc
                if retry is None or context.attempt >= retry.max_attempts or not retry.wants(cause):
                    raise
                wait = retry.delay(context.attempt, getattr(cause, "retry_after", None) or 0.0)
                context.attempt += 1
                again = {"attempt": context.attempt, "delay_ms": wait * 1e3, **_said(exc)}
                self._emit("tool.retrying", again)
                await asyncio.sleep(wait)

    async def _attempt(self, call: ToolInput, context: ToolContext) -> ToolOutput:
        breaker = self._executor.breaker
        if breaker is None:
            output = await self._handled(call, context)
        else:
            with self._counted(breaker):
                output = await self._handled(call, context)
        if not isinstance(output, ToolOutput):
            what = f"Its handler returned {type(output).__name__}, and not a ToolOutput"
            fix = "Return ToolOutput.ok(...) or ToolOutput.fail(...)"
            raise ToolOutputError(what, self._tool.name, fix=fix)
        return output

    async def _handled(self, call: ToolInput, context: ToolContext) -> object:
        tool = self._tool
        if context.attempt == 1:
            self._emit("tool.started", {})
        limit: asyncio.Timeout | None = None
        try:
            if tool.timeout is None:
                return await tool.handler(call)
            async with asyncio.timeout(tool.timeout) as limit:
                return await tool.handler(call)
        except (PipelineCancelled, EffectGateClosed, ToolOutputError):
            raise
        except (Exception, SystemExit) as exc:
            if limit is not None and limit.expired() and isinstance(exc, TimeoutError):
                what = f"It did not end within {tool.timeout:g} s"
            else:
                what = f"It raised {type(exc).__name__}: {str(exc) or 'without a word'}"
            raise ToolExecutionError(what, tool.name, exc) from exc

    @contextmanager
    def _counted(self, breaker: LocalCircuitBreaker) -> Generator[None]:
        """Ask the breaker first, and tell it how the attempt went."""
        permit = breaker.acquire("tool", self._tool.name)
        try:
            yield
        except asyncio.CancelledError:
            permit.release()
            raise
        except BaseException as exc:
            error = exc.cause if isinstance(exc, ToolExecutionError) and exc.cause is not None else exc
            if counts_as_failure(error):
                permit.fail(type(error).__name__)
            else:
                permit.release()
            raise
        permit.succeed()

    def _completed(self, output: ToolOutput, context: ToolContext) -> ToolOutput:
        """Return the output with what the tool has told by way of its context."""
        undo, artifacts = output.undo_metadata, output.artifacts
        if undo is None and context.undo_metadata is not None:
            undo = context.undo_metadata
        if context.artifacts:
            artifacts = [*(artifacts or []), *context.artifacts]
        if artifacts and self._tool.artifact_type is not None:
            artifacts = [{"type": self._tool.artifact_type, **artifact} for artifact in artifacts]
        if undo is output.undo_metadata and artifacts is output.artifacts:
            return output
        return replace(output, undo_metadata=undo, artifacts=artifacts)

    def _check_output(self, output: ToolOutput) -> None:
        most, fix = self._tool.max_output_bytes, "Return plain data: dicts, lists, text, numbers"
        try:
            size = sum(len(_json(one).encode()) for one in (output.data, output.artifacts) if one)
        except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as exc:
            msg = f"JSON cannot say what it returned: {exc}"
            raise ToolOutputError(msg, self._tool.name, fix=fix) from exc
        if size > most:
            what = f"It returned {size:,} bytes, and may return {most:,}"
            fix = "Return less, or raise its max_output_bytes"
            raise ToolOutputError(what, self._tool.name, fix=fix)

    # --- what is told -----------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        payload: Any = self._action.payload
        try:
            return [str(name) for name in payload]
        except TypeError:  # no mapping: that is told by the check
            return []

    def _end(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - the event's type
        self._emit(type, {**data, "duration_ms": (monotonic_ns() - self._started_ns) / 1e6})
        if "error" in data:
            level = self._executor.config.log_level
            _logger.log(level, "Call %s of tool %r: %s", self._call_id, self._tool.name, data["error"])

    def _emit(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - the event's type
        if self._executor.config.emit_events:
            told = {"call_id": self._call_id, "tool": self._tool.name, "action_type": self._tool.action_type}
            self._ctx.try_emit_event(type, {**told, **data})


def _said(error: BaseException) -> dict[str, Any]:
    what = error.what if isinstance(error, StageflowError) else str(error) or type(error).__name__
    cause = getattr(error, "cause", None)
    code = type(error if cause is None else cause).__name__
    if isinstance(error, ToolArgumentsError):
        code = "invalid_arguments"
    return {"error": what, "error_code": code}
