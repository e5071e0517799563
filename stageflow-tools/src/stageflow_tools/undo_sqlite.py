"""``SqliteUndoStore``: undo records in a file, for the processes of one machine, across their restarts."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, final

from stageflow_tools.identifier import read_identifier
from stageflow_tools.sqlite_file import SqliteFile, StoreError
from stageflow_tools.undo import CLEAN_EVERY, UndoRecord, UndoRecordExistsError, UndoStatus, checked_ttl

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from stageflow_tools.identifier import Identifier

__all__ = ["SqliteUndoStore"]

_OWNER: Final = "SqliteUndoStore"
_SCHEMA: Final = (
    """CREATE TABLE undo_records (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        action_id TEXT NOT NULL,
        run_id TEXT,
        status TEXT NOT NULL,
        expires_at REAL NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        UNIQUE (tenant, action_id)
    )""",
    "CREATE INDEX undo_records_by_run ON undo_records (tenant, run_id)",
    "CREATE INDEX undo_records_by_expiry ON undo_records (expires_at)",
)
_CLAIMED: Final = tuple(status.value for status in UndoStatus if status.is_claimed)
_EXPIRED: Final = f"expires_at <= ? AND status NOT IN ({', '.join('?' * len(_CLAIMED))})"
_INSERT: Final = (
    "INSERT INTO undo_records (tenant, action_id, run_id, status, expires_at, version, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE: Final = (
    "UPDATE undo_records SET status = ?, expires_at = ?, version = ?, body = ? "
    "WHERE tenant = ? AND action_id = ? AND version = ?"
)
_FIND: Final = "SELECT number, body FROM undo_records WHERE tenant = ? AND action_id = ?"


@final
class SqliteUndoStore:
    """Keeps undo records in an SQLite file. Any number of processes may have a store of it.

    Records whose time is over are removed at most once a minute, when another comes.

    Args:
        path: The file, on a local disk; it is made if it is not there, its folder is not. An approval store may share
            it.
        default_ttl_seconds: How long an action can be undone.
        clock: The time by which records expire, in seconds since the epoch; the same for all processes.
        busy_seconds: How long to wait for other processes' transactions.

    Raises:
        ArgumentTypeError: ``default_ttl_seconds`` is no number.
        ArgumentValueError: It is not positive, or more than a hundred years.
        StoreError: The file cannot be used: each method but ``now`` raises it, as it opens the file if need be.
        StoreBusyError: Another process holds it locked; so does each method.

    ```python
    import asyncio

    from stageflow_tools.undo_sqlite import SqliteUndoStore


    async def main():
        async with SqliteUndoStore("undo.db") as store:
            await store.store("call-7", "files.write", {"path": "a.txt"}, run_id="run-1")
        async with SqliteUndoStore("undo.db") as store:  # in another process, for example
            print([record.tool_name for record in await store.get_all(run_id="run-1")])
            #> ['files.write']


    asyncio.run(main())
    ```
    """

    __slots__ = ("_clean_at", "_clock", "_file", "_ttl")

    def __init__(
        self,
        path: str | os.PathLike[str],
        default_ttl_seconds: float = 3600,
        *,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = 5.0,
    ) -> None:
        self._ttl = checked_ttl("default_ttl_seconds", default_ttl_seconds)
        self._clock = clock
        self._file = SqliteFile(path, room="undo", schema=_SCHEMA, version=1, busy_seconds=busy_seconds)
        self._clean_at = -inf

    def now(self) -> float:
        """Return the time by which records expire."""
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

    def __len__(self) -> int:
        """Return how many records are kept. Asks the file in this thread, so not for an event loop with much to do."""

        def count(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT count(*) FROM undo_records").fetchone()[0])

        return self._file.read_now(count)

    async def store(
        self,
        action_id: Identifier,
        tool_name: str,
        undo_data: Any,
        ttl_seconds: float | None = None,
        *,
        action_type: str | None = None,
        run_id: Identifier | None = None,
        tenant: str | None = None,
    ) -> UndoRecord:
        """Keep what it takes to undo an action."""
        now = self.now()
        record = UndoRecord.new(
            action_id,
            tool_name,
            undo_data,
            self._ttl if ttl_seconds is None else ttl_seconds,
            now=now,
            action_type=action_type,
            run_id=run_id,
            tenant=tenant,
        )

        def store(connection: sqlite3.Connection) -> UndoRecord:
            row = connection.execute(_FIND, _key(tenant, record.action_id)).fetchone()
            kept = None if row is None else self._valid(row, now)
            if kept is not None:
                if kept.same_work(record):
                    return kept
                raise UndoRecordExistsError(record.action_id, kept.tool_name)
            if row is not None:
                connection.execute("DELETE FROM undo_records WHERE number = ?", (row[0],))
            number = connection.execute(_INSERT, _row(record)).lastrowid
            return replace(record, number=number or 0)

        if now >= self._clean_at:
            self._clean_at = now + CLEAN_EVERY
            await self.cleanup_expired()
        return await self._file.write(store)

    async def get(self, action_id: Identifier, *, tenant: str | None = None) -> UndoRecord | None:
        """Return the record of an action."""
        key = _key(tenant, read_identifier(_OWNER, "action_id", action_id))

        def get(connection: sqlite3.Connection) -> Any:
            return connection.execute(_FIND, key).fetchone()

        row = await self._file.read(get)
        return None if row is None else self._valid(row, self.now())

    async def replace(self, record: UndoRecord) -> bool:
        """Keep the next version of a record."""
        row = (
            record.status.value,
            record.expires_at.timestamp(),
            record.version,
            json.dumps(record.to_dict()),
            *_key(record.tenant, record.action_id),
            record.version - 1,
        )
        return bool(await self._file.write(lambda connection: connection.execute(_UPDATE, row).rowcount))

    async def delete(self, action_id: Identifier, *, tenant: str | None = None) -> bool:
        """Forget the record of an action."""
        key = _key(tenant, read_identifier(_OWNER, "action_id", action_id))
        query = "DELETE FROM undo_records WHERE tenant = ? AND action_id = ?"
        return bool(await self._file.write(lambda connection: connection.execute(query, key).rowcount))

    async def cleanup_expired(self) -> int:
        """Forget all records whose time is over."""
        query = f"DELETE FROM undo_records WHERE {_EXPIRED}"  # noqa: S608 - a condition of ours
        values = (self.now(), *_CLAIMED)
        return await self._file.write(lambda connection: connection.execute(query, values).rowcount)

    async def get_all(
        self, *, run_id: Identifier | None = None, tenant: str | None = None
    ) -> list[UndoRecord]:
        """Return the records of a tenant, or of one run of it."""
        query, values = "SELECT number, body FROM undo_records WHERE tenant = ?", [tenant or ""]
        if run_id is not None:
            query += " AND run_id = ?"
            values.append(str(read_identifier(_OWNER, "run_id", run_id)))

        def find(connection: sqlite3.Connection) -> list[Any]:
            return connection.execute(f"{query} ORDER BY number", values).fetchall()

        now = self.now()
        found = [self._valid(row, now) for row in await self._file.read(find)]
        return [one for one in found if one is not None]

    def _valid(self, row: tuple[int, str], now: float) -> UndoRecord | None:
        number, body = row
        moment = datetime.fromtimestamp(now, UTC)
        try:
            record = UndoRecord.from_dict({**json.loads(body), "number": number}).as_of(moment)
        except Exception as exc:
            problem = f"an undo record in it cannot be read: {type(exc).__name__}"
            fix = "Restore the file from a backup, or delete the row; something else has written it"
            raise StoreError(self._file.path, problem, fix=fix) from exc
        return None if record.is_expired(moment) else record


def _key(tenant: str | None, action_id: Identifier) -> tuple[str, str]:
    return tenant or "", str(action_id)  # no tenant is called ""


def _row(record: UndoRecord) -> tuple[Any, ...]:
    return (
        *_key(record.tenant, record.action_id),
        None if record.run_id is None else str(record.run_id),
        record.status.value,
        record.expires_at.timestamp(),
        record.version,
        json.dumps(record.to_dict()),
    )
