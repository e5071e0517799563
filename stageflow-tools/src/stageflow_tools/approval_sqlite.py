"""``SqliteApprovalStore``: approval requests in a file, for the processes of one machine, across their restarts."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final, final

from stageflow_tools.approval_request import ApprovalRequest
from stageflow_tools.approval_store import Waiters
from stageflow_tools.sqlite_file import SqliteFile, StoreError

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Collection
    from types import TracebackType
    from typing import Self
    from uuid import UUID

    from stageflow_tools.approval_request import ApprovalStatus
    from stageflow_tools.identifier import Identifier

__all__ = ["SqliteApprovalStore"]

_SCHEMA: Final = (
    """CREATE TABLE approvals (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        tenant TEXT,
        run_id TEXT,
        tool_name TEXT NOT NULL,
        status TEXT NOT NULL,
        has_open_executions INTEGER NOT NULL,
        keep_until REAL,
        body TEXT NOT NULL
    )""",
    "CREATE INDEX approvals_by_tenant ON approvals (tenant, status)",
    "CREATE INDEX approvals_by_keep_until ON approvals (keep_until) WHERE keep_until IS NOT NULL",
)
_COLUMNS: Final = "version, tenant, run_id, tool_name, status, has_open_executions, keep_until, body, id"
_INSERT: Final = f"INSERT INTO approvals ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - names of columns
_UPDATE: Final = (
    "UPDATE approvals SET version = ?, tenant = ?, run_id = ?, tool_name = ?, status = ?, has_open_executions = ?, "
    "keep_until = ?, body = ? WHERE id = ? AND version = ?"
)


@final
class SqliteApprovalStore:
    """Keeps requests in an SQLite file. Use one store per process and file; any number of processes may have one.

    Whoever waits for a decision is told at once if it is taken through the same store, and else looks again every
    ``poll_seconds``.

    Args:
        path: The file, on a local disk; it is made if it is not there, its folder is not. An undo store may share it.
        clock: The time by which requests expire, in seconds since the epoch; the same for all processes.
        poll_seconds: How often to look for what other processes have decided.
        busy_seconds: How long to wait for other processes' transactions.

    Raises:
        StoreError: The file cannot be used: each method but ``now`` raises it, as it opens the file if need be.
        StoreBusyError: Another process holds it locked; so does each method.

    ```python
    import asyncio

    from stageflow_tools.approval import ApprovalService
    from stageflow_tools.approval_sqlite import SqliteApprovalStore


    async def main():
        async with SqliteApprovalStore("approvals.db") as store:
            request = await ApprovalService(store=store).request_approval("call-7", "mail.send")
        async with SqliteApprovalStore("approvals.db") as store:  # in another process, for example
            (found,) = await ApprovalService(store=store).get_pending_requests()
            print(found.id == request.id, found.tool_name)
            #> True mail.send


    asyncio.run(main())
    ```
    """

    __slots__ = ("_clock", "_file", "_poll", "_waiters")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 0.25,
        busy_seconds: float = 5.0,
    ) -> None:
        self._clock = clock
        self._file = SqliteFile(path, room="approvals", schema=_SCHEMA, version=1, busy_seconds=busy_seconds)
        self._poll = poll_seconds
        self._waiters = Waiters()

    def now(self) -> float:
        """Return the time by which requests expire."""
        return self._clock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the file; the next use opens it again. May be called twice."""
        await self._file.close()

    async def add(self, request: ApprovalRequest) -> None:
        """Keep a new request."""
        row = _row(request)
        await self._file.write(lambda connection: connection.execute(_INSERT, row).rowcount)

    async def get(self, request_id: UUID) -> ApprovalRequest | None:
        """Return a request as it was last kept."""
        query = "SELECT body FROM approvals WHERE id = ?"

        def get(connection: sqlite3.Connection) -> Any:
            return connection.execute(query, (str(request_id),)).fetchone()

        row = await self._file.read(get)
        return None if row is None else self._read(row[0])

    async def replace(self, request: ApprovalRequest) -> bool:
        """Keep the next version of a request."""
        row = (*_row(request), request.version - 1)
        changed = await self._file.write(lambda connection: connection.execute(_UPDATE, row).rowcount)
        self._waiters.wake(request.id)
        return bool(changed)

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
        conditions: list[str] = ["1"]
        values: list[object] = []

        def require(condition: str, *given: object) -> None:
            conditions.append(condition)
            values.extend(given)

        if tenants is not None:
            named = [tenant for tenant in tenants if tenant is not None]
            none = " OR tenant IS NULL" if len(named) < len(tenants) else ""
            require(f"(tenant IN ({_places(named)}){none})", *named)
        if run_id is not None:
            require("run_id = ?", str(run_id))
        if tool_name is not None:
            require("tool_name = ?", tool_name)
        if statuses is not None:
            require(f"status IN ({_places(statuses)})", *(status.value for status in statuses))
        if has_open_executions is not None:
            require("has_open_executions = ?", has_open_executions)
        query = f"SELECT body FROM approvals WHERE {' AND '.join(conditions)} ORDER BY number"  # noqa: S608 - conditions of ours

        def find(connection: sqlite3.Connection) -> list[Any]:
            return connection.execute(query, values).fetchall()

        return [self._read(body) for (body,) in await self._file.read(find)]

    async def delete(self, request: ApprovalRequest) -> bool:
        """Forget a request."""
        query = "DELETE FROM approvals WHERE id = ? AND version = ?"
        row = (str(request.id), request.version)
        changed = await self._file.write(lambda connection: connection.execute(query, row).rowcount)
        self._waiters.wake(request.id)
        return bool(changed)

    async def purge(self) -> int:
        """Forget all requests whose time has come."""
        query = "DELETE FROM approvals WHERE keep_until <= ?"
        now = self.now()
        return await self._file.write(lambda connection: connection.execute(query, (now,)).rowcount)

    async def wait(self, request_id: UUID, version: int, seconds: float) -> None:
        """Return when another version is kept, or after ``poll_seconds``."""
        future = self._waiters.join(request_id)
        try:
            kept = await self.get(request_id)
            if kept is not None and kept.version == version:
                await asyncio.wait((future,), timeout=min(seconds, self._poll))
        finally:
            self._waiters.leave(request_id, future)

    def _read(self, body: str) -> ApprovalRequest:
        try:
            return ApprovalRequest.from_dict(json.loads(body))
        except Exception as exc:
            problem = f"a request in it cannot be read: {type(exc).__name__}"
            fix = "Restore the file from a backup, or delete the row; something else has written it"
            raise StoreError(self._file.path, problem, fix=fix) from exc


def _row(request: ApprovalRequest) -> tuple[Any, ...]:
    keep_until = request.keep_until
    return (
        request.version,
        request.tenant,
        None if request.pipeline_run_id is None else str(request.pipeline_run_id),
        request.tool_name,
        request.status.value,
        request.has_open_executions,
        None if keep_until is None else keep_until.timestamp(),
        json.dumps(request.to_dict()),
        str(request.id),
    )


def _places(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
