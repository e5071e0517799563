"""``ToolExecutor``: runs tools with everything that a production system wants around a call."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary

from stageflow import StageContext

from stageflow_tools.context import adapt_context, tenant_of
from stageflow_tools.errors import ToolUndoError
from stageflow_tools.execution import ToolExecution
from stageflow_tools.registry import ToolRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from stageflow.interceptors import IdempotencyStore
    from stageflow.observability.breaker import LocalCircuitBreaker
    from stageflow.protocols import ExecutionContext, PermissionCheck

    from stageflow_tools.approval import ApprovalService
    from stageflow_tools.definition import ToolDefinition, UndoHandler
    from stageflow_tools.inputs import Action
    from stageflow_tools.output import ToolOutput
    from stageflow_tools.undo import UndoRecord, UndoStore
    from stageflow_tools.undo_journal import UndoJournal, UndoReport, UndoResult

__all__ = ["AdvancedToolExecutor", "ToolExecutor", "ToolExecutorConfig"]


@final
@dataclass(frozen=True, slots=True)
class ToolExecutorConfig:
    """How an executor goes about it.

    Attributes:
        approval_timeout_seconds: How long a call waits for somebody's approval.
        suspend_for_approval: Whether a call does not wait at all, but ends with ``ToolApprovalPendingError``: to be
            made again, with the token, once somebody has decided.
        undo_ttl_seconds: How long a call can be undone.
        emit_events: Whether calls are told as events.
        log_level: The level at which calls that failed, or were denied, are logged.
        idempotency_ttl_seconds: How long the output of a call is kept for its duplicates.
        max_parallel: How many calls of one ``execute_all`` run at once.
    """

    approval_timeout_seconds: float = 60
    undo_ttl_seconds: float = 3600
    emit_events: bool = True
    log_level: int = logging.INFO
    idempotency_ttl_seconds: float = 86_400
    max_parallel: int = 16
    suspend_for_approval: bool = False


@final
class ToolExecutor:
    """Runs tools, with everything that a production system wants around a call.

    Each call is looked up, checked, allowed, approved, held by the gates of its run until its effect may happen, run
    under its time limit, retried if that is safe, and left with a record of how to undo it; ``execution`` has the
    picture. Every step is an event of the run: ``tool.invoked``, ``started``, ``progress``, ``retrying``, and at the
    end one of ``completed``, ``failed`` and ``denied``.

    Args:
        config: How to go about it.
        undo_store: Where it is kept how to undo calls; in the memory of this executor by default.
        approval_service: Who is asked for approvals; one in the memory of this executor by default.
        registry: The tools; an empty registry by default.
        permissions: Says who may do what; without it a tool that takes a permission is refused.
        idempotency_store: Where outputs are kept, so that a call with the same id and arguments is made once; without
            it every call is made.
        breaker: Is asked before each attempt, and told how it went; without it nothing is.

    ```python
    import asyncio

    from stageflow import Effect, Pipeline, StageKind
    from stageflow_tools import ToolCall, ToolExecutor, tool


    @tool(effect=Effect.NONE)
    async def add(a: int, b: int) -> int:
        return a + b


    tools = ToolExecutor()
    tools.register(add)


    async def sum_up(ctx):
        output = await tools.execute(ToolCall("add", {"a": 1, "b": 2}), ctx)
        return output.data


    pipeline = Pipeline().with_stage("sum", sum_up, StageKind.WORK)
    print(asyncio.run(pipeline.run())["sum"].data)
    #> {'result': 3}
    ```
    """

    def __init__(
        self,
        config: ToolExecutorConfig | None = None,
        undo_store: UndoStore | None = None,
        approval_service: ApprovalService | None = None,
        *,
        registry: ToolRegistry | None = None,
        permissions: PermissionCheck | None = None,
        idempotency_store: IdempotencyStore | None = None,
        breaker: LocalCircuitBreaker | None = None,
    ) -> None:
        self.config = ToolExecutorConfig() if config is None else config
        self.registry = ToolRegistry() if registry is None else registry
        self.permissions = permissions
        self.idempotency_store = idempotency_store
        self.breaker = breaker
        self._approvals = approval_service
        self._undo_store = undo_store
        self._journal: UndoJournal | None = None
        # Of each event loop, since a semaphore belongs to one.
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = (
            WeakKeyDictionary()
        )

    def register(self, tool: object) -> None:
        """Add a tool to the registry; see ``ToolRegistry.register``."""
        self.registry.register(tool)

    def get_tool(self, name: str) -> ToolDefinition | None:
        """Return the tool of that name or action type; None if there is none."""
        return self.registry.get_tool(name)

    def can_execute(self, name: str) -> bool:
        """Say whether there is a tool of that name or action type."""
        return self.registry.can_execute(name)

    @property
    def approvals(self) -> ApprovalService:
        """Who is asked for approvals, and where decisions are recorded."""
        if self._approvals is None:
            from stageflow_tools.approval import ApprovalService

            seconds = self.config.approval_timeout_seconds
            self._approvals = ApprovalService(seconds, validate_arguments=self.registry.check_arguments)
        return self._approvals

    @property
    def undo_store(self) -> UndoStore:
        """Where it is kept how to undo calls."""
        if self._undo_store is None:
            from stageflow_tools.undo import InMemoryUndoStore

            self._undo_store = InMemoryUndoStore(self.config.undo_ttl_seconds)
        return self._undo_store

    async def execute(
        self, action: Action, ctx: object = None, *, approval: UUID | str | None = None
    ) -> ToolOutput:
        """Call the tool of an action.

        Args:
            action: What is to be done.
            ctx: Who wants it: a ``StageContext``, which has the run's events, gates and cancellation; another
                ``ExecutionContext``; a dict; or nothing.
            approval: The token of a request for approval that was made for this call, in a process that may have ended.
                The call must have the same id as then.

        Returns:
            What it has come to. A tool that says itself that it failed has an output with ``success=False``.

        Raises:
            ToolNotFoundError: No tool has that name or action type.
            ToolArgumentsError: The arguments do not fit.
            ToolDeniedError: The mode, somebody's permissions, a gate or an approver does not allow it.
            ToolExecutionError: The tool raised, or took too long.
            ToolOutputError: It returned something else than it says, or too much.
        """
        execution = adapt_context(ctx)
        return await ToolExecution(self, self.registry[action.type], action, execution, approval).run()

    async def execute_all(
        self, actions: Sequence[Action], ctx: object = None
    ) -> list[ToolOutput | Exception]:
        """Call the tools of several actions at once, at most ``max_parallel`` of them.

        Args:
            actions: What is to be done.
            ctx: Who wants it; see ``execute``.

        Returns:
            What each has come to, in the order of the actions; of one that raised, the error. So one call that goes
            wrong takes no other with it.

        Raises:
            asyncio.CancelledError: The caller was cancelled; every call has ended before.
        """
        places = asyncio.Semaphore(self.config.max_parallel)

        async def one(action: Action) -> ToolOutput | Exception:
            async with places:
                try:
                    return await self.execute(action, ctx)
                except Exception as exc:  # noqa: BLE001 - whatever one raises takes no other with it
                    return exc

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(action), name=f"tool {action.type}") for action in actions]
        return [task.result() for task in tasks]

    async def undo_action(self, action_id: UUID | str, ctx: object = None) -> bool:
        """Undo a call, once.

        Args:
            action_id: The call.
            ctx: Who wants it: only calls of the same tenant are there for it.

        Returns:
            Whether it is undone now. False if there is nothing to undo it with: its tool is not undoable, has left no
            record, or its time is over; or if somebody else is at it.

        Raises:
            ToolUndoError: The undo handler raised.
        """
        execution = adapt_context(ctx)
        result = await self._undoing().undo(action_id, tenant=tenant_of(execution))
        self._tell_undone(result, execution)
        if result.error is not None and result.record is not None:
            what = f"Its undo handler raised {type(result.error).__name__}: {result.error}"
            raise ToolUndoError(what, result.record.tool_name, action_id=str(action_id), cause=result.error)
        return result.outcome.is_undone

    async def undo_run(self, run_id: UUID | str, ctx: object = None) -> UndoReport:
        """Undo every call of a run that can be, the last one first; what cannot be undone keeps nothing else from it.

        Args:
            run_id: The run.
            ctx: Who wants it; see ``undo_action``.

        Returns:
            What has become of each.
        """
        execution = adapt_context(ctx)
        report = await self._undoing().undo_run(run_id, tenant=tenant_of(execution))
        for result in report.results:
            self._tell_undone(result, execution)
        return report

    async def keep_for_undo(
        self, tool: ToolDefinition, call_id: str, metadata: Mapping[str, Any], ctx: ExecutionContext
    ) -> None:
        """Put on record what undoing a call takes; of a stage, that is also its undo receipt."""
        record = await self.undo_store.store(
            call_id,
            tool.name,
            metadata,
            self.config.undo_ttl_seconds,
            action_type=tool.action_type,
            run_id=ctx.pipeline_run_id,
            tenant=tenant_of(ctx),
        )
        if isinstance(ctx, StageContext):
            ctx.leave_receipt(_Receipt(record))

    def _undoing(self) -> UndoJournal:
        if self._journal is None:
            from stageflow_tools.undo_journal import UndoJournal

            self._journal = UndoJournal(self.undo_store, self._undo_handler)
        return self._journal

    def _undo_handler(self, name: str) -> UndoHandler | None:
        tool = self.registry.get_tool(name)
        return None if tool is None else tool.undo_handler

    def _tell_undone(self, result: UndoResult, ctx: ExecutionContext) -> None:
        record = result.record
        if record is None or not self.config.emit_events or result.outcome.value not in _TOLD:
            return
        told: dict[str, Any] = {"call_id": str(result.action_id), "tool": record.tool_name}
        if result.error is not None:
            told |= {"error": str(result.error), "error_code": type(result.error).__name__}
        ctx.try_emit_event(_TOLD[result.outcome.value], told)

    def places_of(self, tool: ToolDefinition) -> asyncio.Semaphore | None:
        """Return what a call of *tool* has to hold while it runs; None if there is no limit."""
        if tool.max_concurrency is None:
            return None
        of_loop = self._places.setdefault(asyncio.get_running_loop(), {})
        if tool.name not in of_loop:
            of_loop[tool.name] = asyncio.Semaphore(tool.max_concurrency)
        return of_loop[tool.name]


@final
class _Receipt:
    """What is told of a record: not what it holds, which is the store's."""

    __slots__ = ("_record",)

    def __init__(self, record: UndoRecord) -> None:
        self._record = record

    @property
    def receipt_id(self) -> str:
        return self._record.receipt_id

    def to_dict(self) -> dict[str, Any]:
        record = self._record
        return {
            "receipt_id": record.receipt_id,
            "action_id": str(record.action_id),
            "tool": record.tool_name,
            "expires_at": record.expires_at.isoformat(),
        }


_TOLD: Final = {"undone": "tool.undone", "failed": "tool.undo_failed", "no_handler": "tool.undo_failed"}

AdvancedToolExecutor = ToolExecutor
"""Its name in 0.9."""
