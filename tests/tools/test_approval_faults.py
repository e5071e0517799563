"""Full disks, foreign files, locks and damage: a typed error, and nothing half done. For approvals and undo records."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stageflow_tools.approval import ApprovalService
from stageflow_tools.approval_sqlite import SqliteApprovalStore
from stageflow_tools.approval_store import InMemoryApprovalStore
from stageflow_tools.sqlite_file import StoreBusyError, StoreError
from stageflow_tools.undo import InMemoryUndoStore, UndoStatus
from stageflow_tools.undo_journal import UndoJournal, UndoOutcome
from stageflow_tools.undo_sqlite import SqliteUndoStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from uuid import UUID

    Use = Callable[[Path], Coroutine[Any, Any, object]]


async def approvals(path: Path) -> object:
    async with SqliteApprovalStore(path, busy_seconds=0.05) as store:
        return await ApprovalService(store=store).request_approval("call-7", "mail.send")


async def undo(path: Path) -> object:
    async with SqliteUndoStore(path, busy_seconds=0.05) as store:
        return await store.store("call-7", "mail.send", {})


both = pytest.mark.parametrize("use", [approvals, undo], ids=["approvals", "undo"])


@both
@pytest.mark.asyncio
async def test_a_file_of_garbage_is_named_and_left_alone(tmp_path: Path, use: Use):
    path = tmp_path / "tools.db"
    path.write_bytes(b"garbage " * 1000)
    with pytest.raises(StoreError, match="not a database") as refused:
        await use(path)
    assert (refused.value.code, refused.value.path) == ("SF-TOOLS-STORE", str(path))
    assert path.read_bytes() == b"garbage " * 1000
    path.unlink()
    await use(path)


@both
@pytest.mark.asyncio
async def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path, use: Use):
    with pytest.raises(StoreError, match="unable to open"):
        await use(tmp_path / "nowhere" / "tools.db")
    with pytest.raises(StoreError, match="unable to open"):
        await use(tmp_path)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - in an async test


@both
@pytest.mark.asyncio
async def test_a_locked_file_is_worth_another_try(tmp_path: Path, use: Use):
    path = tmp_path / "tools.db"
    await approvals(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError) as refused:
            await use(path)
        assert refused.value.retryable
        other.execute("ROLLBACK")
    await use(tmp_path / "tools.db")


@both
@pytest.mark.asyncio
async def test_a_file_of_a_newer_release_is_not_touched(tmp_path: Path, use: Use):
    path = tmp_path / "tools.db"
    await approvals(path)
    await undo(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE stageflow_schema SET version = 99")
        rows = other.execute("SELECT count(*) FROM approvals").fetchone()
        with pytest.raises(StoreError, match="version 99"):
            await use(path)
        assert other.execute("SELECT count(*) FROM approvals").fetchone() == rows


@both
@pytest.mark.asyncio
async def test_a_damaged_file_is_named(tmp_path: Path, use: Use):
    path = tmp_path / "tools.db"
    await use(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"malformed|not a database"):
        await use(path)


def test_a_read_only_folder_is_named(tmp_path: Path):
    """Root may write anywhere, so the process becomes somebody else once it has imported all it needs."""
    program = (
        "import asyncio, os, sys\n"
        "from stageflow_tools.sqlite_file import StoreError\n"
        "from stageflow_tools.undo_sqlite import SqliteUndoStore\n"
        "async def use(path):\n"
        "    async with SqliteUndoStore(path) as store:\n"
        "        await store.store('call-7', 't', {})\n"
        "asyncio.run(use('mine.db'))\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: asyncio.run(use(sys.argv[1]))\n"
        "except StoreError as error: print(error.code, error.problem)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tools.db"
        asyncio.run(approvals(path))
        path.chmod(0o444)
        path.parent.chmod(0o555)
        try:
            command = [sys.executable, "-c", program, str(path)]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        finally:
            path.parent.chmod(0o755)
    assert done.stdout.startswith("SF-TOOLS-STORE "), done.stdout
    assert "readonly" in done.stdout or "unable to open" in done.stdout


def limit(store: SqliteApprovalStore | SqliteUndoStore, pages: int) -> None:
    """Let the database grow by so many pages and no more, as on a full disk."""

    def set_it(connection: sqlite3.Connection) -> None:
        (used,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {used + pages}")

    store._file.read_now(set_it)


@pytest.mark.asyncio
async def test_a_full_disk_loses_no_approval_and_repeats_none(tmp_path: Path):
    async with SqliteApprovalStore(tmp_path / "tools.db") as store:
        service = ApprovalService(store=store)
        made: list[UUID] = []
        for _ in range(3):
            request = await service.request_approval("call-7", "mail.send")
            await service.record_decision(request.id, granted=True)
            made.append(request.id)
        spending = await service.spend(made[0], execution_id="e")
        limit(store, 0)
        big = {"text": "x" * 50_000}
        with pytest.raises(StoreError, match="full"):
            await service.request_approval("call-8", "mail.send", arguments=big)
        with pytest.raises(StoreError, match="full"):
            await spending.done(big)
        assert await service.get_pending_requests() == []
        kept = await service.get_request(made[0])
        assert kept is not None
        assert kept.has_open_executions
        limit(store, 100)
        await spending.done(big)
        for one in made[1:]:
            async with await service.spend(one):
                pass


@pytest.mark.asyncio
async def test_a_full_disk_keeps_an_effect_from_counting_as_reversible(tmp_path: Path):
    async with SqliteUndoStore(tmp_path / "tools.db") as store:
        await store.store("call-6", "mail.send", 6)
        limit(store, 0)
        with pytest.raises(StoreError, match="full"):
            await store.store("call-7", "mail.send", "x" * 50_000)
        assert await store.get("call-7") is None
        limit(store, 100)
        assert (await store.store("call-7", "mail.send", "x" * 50_000)).number == 2


@pytest.mark.asyncio
async def test_an_undo_whose_end_cannot_be_written_down_is_not_repeated(tmp_path: Path):
    calls: list[object] = []
    times = [1_000.0]
    async with SqliteUndoStore(tmp_path / "tools.db", busy_seconds=0.05, clock=lambda: times[-1]) as store:
        other = sqlite3.connect(tmp_path / "tools.db", isolation_level=None)

        async def handler(undo_data: object) -> None:
            calls.append(undo_data)
            other.execute("BEGIN IMMEDIATE")

        await store.store("call-7", "mail.send", 7)
        journal = UndoJournal(store, lambda _: handler)
        with closing(other):
            with pytest.raises(StoreBusyError):
                await journal.undo("call-7")
            assert (await journal.undo("call-7")).outcome is UndoOutcome.IN_PROGRESS
        times.append(1_100.0)
        assert (await journal.undo("call-7")).outcome is UndoOutcome.UNKNOWN
        kept = await store.get("call-7")
        assert kept is not None
        assert kept.status is UndoStatus.UNKNOWN
    assert calls == [7]


@both
@pytest.mark.asyncio
async def test_a_row_of_somebody_elses_is_named(tmp_path: Path, use: Use):
    path = tmp_path / "tools.db"
    await use(path)
    table = "approvals" if use is approvals else "undo_records"
    for body in ("no json", "{}", "[]", '{"id": 7}'):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(f"UPDATE {table} SET body = ?", (body,))  # noqa: S608 - one of two names
        with pytest.raises(StoreError, match="cannot be read"):
            if use is approvals:
                async with SqliteApprovalStore(path) as store:
                    await ApprovalService(store=store).get_pending_requests()
            else:
                async with SqliteUndoStore(path) as records:
                    await records.get_all()


@both
@pytest.mark.asyncio
async def test_a_file_that_was_mended_is_used_again(tmp_path: Path, use: Use):
    path = tmp_path / "tools.db"
    path.write_bytes(b"garbage " * 1000)
    store = SqliteUndoStore(path) if use is undo else SqliteApprovalStore(path)
    async with store:
        for _ in range(2):
            with pytest.raises(StoreError):
                await (store.get_all() if isinstance(store, SqliteUndoStore) else store.find())
        path.unlink()
        assert await (store.get_all() if isinstance(store, SqliteUndoStore) else store.find()) == []
    await store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_opens_a_connection_of_its_own(tmp_path: Path):
    program = (
        "import asyncio, os\n"
        "from stageflow_tools.undo_sqlite import SqliteUndoStore\n"
        "store = SqliteUndoStore('tools.db')\n"
        "asyncio.run(store.store('call-1', 't', 1))\n"
        "parents = store._file._connection\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    asyncio.run(store.store('call-2', 't', 2))\n"
        "    assert store._file._connection is not parents\n"
        "    asyncio.run(store.close())\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "asyncio.run(store.store('call-3', 't', 3))\n"
        "print(len(store))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


@pytest.mark.asyncio
async def test_stores_of_one_file_wait_for_each_other(tmp_path: Path):
    stores = [SqliteUndoStore(tmp_path / "undo.db") for _ in range(4)]
    kept = await asyncio.gather(
        *(stores[number % 4].store(f"call-{number // 2}", "t", number // 2) for number in range(60))
    )
    assert {one.number for one in kept} == set(range(1, 31))
    assert len(stores[0]) == 30
    for store in stores:
        await store.close()


@pytest.mark.asyncio
async def test_stores_in_memory_may_be_as_many_as_one_likes():
    assert await ApprovalService(store=InMemoryApprovalStore()).get_pending_requests() == []
    assert await InMemoryUndoStore().get_all() == []
