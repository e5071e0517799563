"""``SqliteFile``: one SQLite database for several threads and processes, with errors that say what to do."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar, final

from stageflow.errors import SystemicError, TransientError, shown
from stageflow.executors import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["SqliteFile", "StoreBusyError", "StoreError"]

T = TypeVar("T")

_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FIXES: Final = {
    sqlite3.SQLITE_FULL: "Free space on the disk, or raise the database's max_page_count",
    sqlite3.SQLITE_READONLY: "Let this process write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "Make the folder, and let this process write into it",
    sqlite3.SQLITE_NOTADB: "Pass the path of a database, or of a file that does not exist yet",
    sqlite3.SQLITE_CORRUPT: "Restore the file from a backup; what can be read of it, '.recover' of sqlite3 saves",
    sqlite3.SQLITE_IOERR: "See what the disk or the network file system reports",
}


class StoreError(SystemicError):
    """A store's database cannot be used: damaged, full, read-only, or written by a newer version.

    Args:
        path: The file.
        problem: What is wrong with it.
        fix: What to do.
    """

    code = "SF-TOOLS-STORE"

    def __init__(self, path: str, problem: str, *, fix: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"The store in {shown(path)} cannot be used: {problem}", fix=fix)


class StoreBusyError(TransientError):
    """A store's database was locked by somebody else for longer than the store waits.

    Args:
        path: The file.
        seconds: How long the store has waited.
    """

    code = "SF-TOOLS-STORE-BUSY"

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        super().__init__(
            f"The store in {shown(path)} is locked by another process, for more than {seconds:g} s",
            fix="Try again; nothing was changed. If it stays locked, see who holds the file open",
        )


@final
class SqliteFile:
    """A connection that is opened when it is first used, again after a fork, and closed at the latest with the process.

    Each operation is one transaction in a thread: it happens as a whole or not at all, also if the process is killed
    in its middle. The journal is a write-ahead log that is flushed with each commit (``synchronous=FULL``), so what was
    committed outlasts a power cut as well.

    Args:
        path: The file; its folder must exist. Not ``":memory:"``, which every connection has for itself.
        room: Whose tables they are; several rooms may share a file.
        schema: The statements that make the tables, one by one.
        version: Of the schema.
        busy_seconds: How long to wait for other processes' transactions.
    """

    __slots__ = (
        "__weakref__",
        "_busy",
        "_close",
        "_connection",
        "_lock",
        "_pid",
        "_room",
        "_schema",
        "_version",
        "path",
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        room: str,
        schema: tuple[str, ...],
        version: int,
        busy_seconds: float,
    ) -> None:
        self.path = os.fspath(path)
        self._room = room
        self._schema = schema
        self._version = version
        self._busy = busy_seconds
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._close: weakref.finalize[[], SqliteFile] | None = None
        self._pid = 0

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Call *query* in a thread, outside of a transaction: for single statements.

        Raises:
            StoreError: The database cannot be used.
            StoreBusyError: It is locked.
        """
        return await run_in_thread(self.read_now, query)

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Call *change* in a thread, inside a transaction that nobody else's can come between.

        Raises:
            StoreError: The database cannot be used; nothing was changed.
            StoreBusyError: It is locked; nothing was changed.
        """
        return await run_in_thread(self._write, change)

    def read_now(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Call *query* in this thread."""
        with self._connected() as connection:
            return query(connection)

    async def close(self) -> None:
        """Close the connection; the next operation opens another. May be called twice."""

        def close() -> None:
            with self._lock:
                self._drop()

        await run_in_thread(close)

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                made = change(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have ended it already
                    connection.execute("ROLLBACK")
                raise
            return made

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._open()
            except sqlite3.Error as exc:
                raise self._typed(exc) from exc

    def _open(self) -> sqlite3.Connection:
        pid = os.getpid()
        if self._connection is not None and self._pid == pid:
            return self._connection
        if self._connection is not None:
            # The parent's: using or closing it in this process could damage the file, so it is only forgotten.
            _inherited.append(self._connection)
            if self._close is not None:
                self._close.detach()
            self._connection = None
        connection = sqlite3.connect(
            self.path, timeout=self._busy, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._pid = connection, pid
        self._close = weakref.finalize(self, connection.close)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._busy
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as exc:
                # The busy time-out does not cover this: two processes may want to make the same file.
                if _primary(exc) not in _BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous=FULL")
        if self._known(connection):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._known(connection):
                for statement in self._schema:
                    connection.execute(statement)
                insert = "INSERT INTO stageflow_schema (room, version) VALUES (?, ?)"
                connection.execute(insert, (self._room, self._version))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _known(self, connection: sqlite3.Connection) -> bool:
        """Say whether the tables are there; they may be those of a version that this one does not know."""
        made = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'stageflow_schema'"
        if connection.execute(made).fetchone() is None:
            if connection.in_transaction:
                connection.execute(
                    "CREATE TABLE stageflow_schema (room TEXT PRIMARY KEY, version INTEGER NOT NULL)"
                )
            return False
        row = connection.execute(
            "SELECT version FROM stageflow_schema WHERE room = ?", (self._room,)
        ).fetchone()
        if row is not None and row[0] != self._version:
            raise StoreError(
                self.path,
                f"its tables for {self._room} are of version {row[0]}, and this release knows version {self._version}",
                fix="Use the release of stageflow-tools that has written it, or another file",
            )
        return row is not None

    def _typed(self, error: sqlite3.Error) -> StoreError | StoreBusyError:
        code = _primary(error)
        if code in _BUSY:
            return StoreBusyError(self.path, self._busy)
        if code in {
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CANTOPEN,
        }:
            self._drop()  # whoever mends the file does not want the next operation to see the old one
        fix = _FIXES.get(code, "See what SQLite says, and whether something else writes this file")
        return StoreError(self.path, str(error), fix=fix)

    def _drop(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            if self._close is not None:
                self._close.detach()
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                connection.close()


_inherited: Final[list[sqlite3.Connection]] = []
"""Connections of a parent process, kept so that nothing closes them here."""


def _primary(error: sqlite3.Error) -> int:
    """Return the primary result code of SQLite: the extended ones have it in their low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
