"""``Spending``: one use of an approval, from its reservation to the word on how it ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, final

from stageflow_tools.approval_request import ExecutionState
from stageflow_tools.lease import kept_alive, to_the_end

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self
    from uuid import UUID

    from stageflow_tools.approval_request import ApprovalExecution, ApprovalRequest

__all__ = ["ExecutionLedger", "Spending"]


class ExecutionLedger(Protocol):
    """Where a spending writes down what becomes of it: an ``ApprovalService``."""

    async def renew_execution(
        self, request_id: UUID, execution_id: str, holder: str, lease_seconds: float
    ) -> None:
        """Hold the reservation for another while."""
        ...

    async def settle_execution(
        self, request_id: UUID, execution_id: str, holder: str, *, result: Any, error: str | None
    ) -> ApprovalRequest:
        """Write down that the tool has ended."""
        ...

    async def release_execution(
        self, request_id: UUID, execution_id: str, holder: str, *, reason: str | None
    ) -> None:
        """Write down that the tool was not called."""
        ...


@final
class Spending:
    """The right to call the tool now, once. Made by ``ApprovalService.spend``.

    As an ``async with`` block it holds its lease for as long as the block runs, and ends with it: an exception is
    written down as the tool's error, unless ``done`` or ``release`` has said before how it ended. If the process dies,
    the lease runs out, and the outcome is unknown until somebody finds out.

    Attributes:
        request_id: The request.
        execution_id: What this execution is called.
        tool_name: The tool.
        arguments: What to call it with.

    ```python
    import asyncio

    from stageflow_tools.approval import ApprovalService


    async def main():
        service = ApprovalService()
        request = await service.request_approval("call-7", "mail.send", arguments={"to": "ada"})
        await service.record_decision(request.id, granted=True, decided_by="grace")
        async with await service.spend(request.id, tool_name="mail.send", arguments={"to": "ada"}) as spending:
            await spending.done({"sent to": spending.arguments["to"]})
        kept = await service.get_request(request.id)
        print(kept.status, kept.executions[0].result)
        #> spent {'sent to': 'ada'}


    asyncio.run(main())
    ```
    """

    __slots__ = (
        "_holder",
        "_lease",
        "_ledger",
        "_renewal",
        "_settled",
        "arguments",
        "execution_id",
        "request_id",
        "tool_name",
    )

    def __init__(
        self,
        ledger: ExecutionLedger,
        request: ApprovalRequest,
        execution: ApprovalExecution,
        lease_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._holder = execution.holder
        self._lease = lease_seconds
        self._renewal: AbstractAsyncContextManager[None] | None = None
        self._settled: ExecutionState | None = None
        self.request_id = request.id
        self.execution_id = execution.execution_id
        self.tool_name = request.tool_name
        self.arguments = dict(execution.arguments)

    async def renew(self) -> None:
        """Hold the reservation for another while; a block does so by itself.

        Raises:
            ExecutionSettledError: Somebody took this process for dead, and has said how the execution ended.
        """
        await self._ledger.renew_execution(self.request_id, self.execution_id, self._holder, self._lease)

    async def done(self, result: Any = None, *, error: str | None = None) -> None:
        """Write down that the tool has ended, well or with an error. It counts as executed in both cases.

        Args:
            result: What it has given. What JSON cannot say is not kept.
            error: What it has raised, in words.

        Raises:
            ExecutionSettledError: It is written down already, and otherwise.
        """
        ended = self._ledger.settle_execution(
            self.request_id, self.execution_id, self._holder, result=result, error=error
        )
        await to_the_end(ended)
        self._settled = ExecutionState.DONE

    async def release(self, reason: str | None = None) -> None:
        """Give the use back. Only for a tool that has not been called.

        Args:
            reason: Why not.

        Raises:
            ExecutionSettledError: It is written down already how the execution ended.
        """
        await to_the_end(
            self._ledger.release_execution(self.request_id, self.execution_id, self._holder, reason=reason)
        )
        self._settled = ExecutionState.RELEASED

    async def __aenter__(self) -> Self:
        self._renewal = kept_alive(self.renew, self._lease)
        await self._renewal.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._settled is None and not isinstance(error, GeneratorExit):
                await self.done(error=None if error is None else _words(error))
        finally:
            if self._renewal is not None:
                await self._renewal.__aexit__(None, None, None)


def _words(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
