"""Where approval requests are kept: the contract, and the store in memory.

A store knows none of the rules. It keeps one version of each request, and replaces it only by the next one: of two who
want to change the same version, one does and the other looks again. So a store on another database is a table and a
handful of statements:

| method | SQL |
|---|---|
| ``add`` | ``INSERT`` |
| ``replace`` | ``UPDATE ... WHERE id = ? AND version = ?`` |
| ``get``, ``find`` | ``SELECT`` |
| ``delete`` | ``DELETE ... WHERE id = ? AND version = ?`` |
| ``purge`` | ``DELETE ... WHERE keep_until <= ?`` |
| ``wait`` | sleep for a moment, or ``LISTEN`` |
| ``now`` | the database's clock, so that all processes share one |
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, final, runtime_checkable

from stageflow_tools.approval_request import ApprovalRequest, ApprovalStatus
from stageflow_tools.loop_clock import LoopClock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from stageflow_tools.identifier import Identifier

__all__ = ["ApprovalStore", "InMemoryApprovalStore", "Waiters"]


@runtime_checkable
class ApprovalStore(Protocol):
    """Keeps approval requests, for one process or many. Each method is atomic.

    ```python
    from stageflow_tools.approval_store import ApprovalStore, InMemoryApprovalStore

    print(isinstance(InMemoryApprovalStore(), ApprovalStore))
    #> True
    ```
    """

    def now(self) -> float:
        """Return the time by which requests expire, in seconds since the epoch."""
        ...

    async def add(self, request: ApprovalRequest) -> None:
        """Keep a new request."""
        ...

    async def get(self, request_id: UUID) -> ApprovalRequest | None:
        """Return a request as it was last kept."""
        ...

    async def replace(self, request: ApprovalRequest) -> bool:
        """Keep the next version of a request; False, changing nothing, unless the one before it is kept now."""
        ...

    async def find(
        self,
        *,
        tenants: Collection[str | None] | None = None,
        run_id: Identifier | None = None,
        tool_name: str | None = None,
        statuses: Collection[ApprovalStatus] | None = None,
        has_open_executions: bool | None = None,
    ) -> list[ApprovalRequest]:
        """Return the requests for which everything that is given holds, the oldest first."""
        ...

    async def delete(self, request: ApprovalRequest) -> bool:
        """Forget a request; False, changing nothing, unless this version of it is kept now."""
        ...

    async def purge(self) -> int:
        """Forget all requests whose ``keep_until`` has come, and return how many."""
        ...

    async def wait(self, request_id: UUID, version: int, seconds: float) -> None:
        """Return when another version than that is kept, and at the latest after *seconds*; earlier does no harm."""
        ...


@final
class Waiters:
    """Who waits for a request to change, in any event loop of this process."""

    __slots__ = ("_lock", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[UUID, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def join(self, request_id: UUID) -> asyncio.Future[None]:
        """Return a future of the running loop that the next change settles. Hand it to ``leave`` in the end."""
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.setdefault(request_id, set()).add(future)
        return future

    def leave(self, request_id: UUID, future: asyncio.Future[None]) -> None:
        """Wait no more."""
        with self._lock:
            waiting = self._waiting.get(request_id, set())
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(request_id, None)

    def wake(self, request_id: UUID) -> None:
        """Tell whoever waits, from any thread."""
        with self._lock:
            waiting = list(self._waiting.get(request_id, ()))
        for future in waiting:
            with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
                future.get_loop().call_soon_threadsafe(_settle, future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@final
class InMemoryApprovalStore:
    """Keeps requests in this process, for any number of services, event loops and threads.

    Args:
        clock: The time by which requests expire, in seconds since the epoch. None: the wall clock as the event loop
            counts it, so that a virtual clock is one here, too.

    ```python
    import asyncio

    from stageflow_tools.approval import ApprovalService
    from stageflow_tools.approval_store import InMemoryApprovalStore


    async def main():
        store = InMemoryApprovalStore()
        requester, approver = ApprovalService(store=store), ApprovalService(store=store)
        request = await requester.request_approval("call-7", "mail.send")
        await approver.record_decision(request.id, granted=True, decided_by="grace")
        print((await requester.await_decision(request.id)).decided_by)
        #> grace


    asyncio.run(main())
    ```
    """

    __slots__ = ("_clock", "_lock", "_requests", "_waiters")

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self._clock: Callable[[], float] = LoopClock() if clock is None else clock
        self._lock = threading.Lock()
        self._requests: dict[
            UUID, tuple[ApprovalRequest, str]
        ] = {}  # as it is for filters, and as text of its own
        self._waiters = Waiters()

    def __len__(self) -> int:
        """Return how many requests are kept."""
        with self._lock:
            return len(self._requests)

    def now(self) -> float:
        """Return the time by which requests expire."""
        return self._clock()

    async def add(self, request: ApprovalRequest) -> None:
        """Keep a new request."""
        with self._lock:
            self._put(request)

    async def get(self, request_id: UUID) -> ApprovalRequest | None:
        """Return a request as it was last kept."""
        with self._lock:
            kept = self._requests.get(request_id)
        return None if kept is None else _read(kept[1])

    async def replace(self, request: ApprovalRequest) -> bool:
        """Keep the next version of a request."""
        with self._lock:
            kept = self._requests.get(request.id)
            if kept is None or kept[0].version != request.version - 1:
                return False
            self._put(request)
        self._waiters.wake(request.id)
        return True

    async def find(
        self,
        *,
        tenants: Collection[str | None] | None = None,
        run_id: Identifier | None = None,
        tool_name: str | None = None,
        statuses: Collection[ApprovalStatus] | None = None,
        has_open_executions: bool | None = None,
    ) -> list[ApprovalRequest]:
        """Return the requests for which everything that is given holds."""
        with self._lock:
            found = [
                text
                for request, text in self._requests.values()
                if (tenants is None or request.tenant in tenants)
                and (run_id is None or request.pipeline_run_id == run_id)
                and (tool_name is None or request.tool_name == tool_name)
                and (statuses is None or request.status in statuses)
                and (has_open_executions is None or request.has_open_executions == has_open_executions)
            ]
        return list(map(_read, found))

    async def delete(self, request: ApprovalRequest) -> bool:
        """Forget a request."""
        with self._lock:
            kept = self._requests.get(request.id)
            if kept is None or kept[0].version != request.version:
                return False
            del self._requests[request.id]
        self._waiters.wake(request.id)
        return True

    async def purge(self) -> int:
        """Forget all requests whose time has come."""
        now = self.now()
        with self._lock:
            old = [
                request_id
                for request_id, (request, _) in self._requests.items()
                if request.keep_until is not None and request.keep_until.timestamp() <= now
            ]
            for request_id in old:
                del self._requests[request_id]
        for request_id in old:
            self._waiters.wake(request_id)
        return len(old)

    async def wait(self, request_id: UUID, version: int, seconds: float) -> None:
        """Return when another version is kept, at once."""
        future = self._waiters.join(request_id)
        try:
            with self._lock:
                kept = self._requests.get(request_id)
            if kept is not None and kept[0].version == version:
                await asyncio.wait((future,), timeout=seconds)
        finally:
            self._waiters.leave(request_id, future)

    def _put(self, request: ApprovalRequest) -> None:
        text = json.dumps(request.to_dict())
        self._requests[request.id] = (_read(text), text)


def _read(text: str) -> ApprovalRequest:
    return ApprovalRequest.from_dict(json.loads(text))
