"""Approvals and undo across real processes: killed at any moment, a tool runs once or nobody claims to know."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from stageflow_tools.approval import ApprovalService
from stageflow_tools.approval_errors import ApprovalSpentError, ApprovalUnknownError
from stageflow_tools.approval_request import ApprovalStatus, ExecutionState
from stageflow_tools.approval_sqlite import SqliteApprovalStore
from stageflow_tools.undo_journal import UndoJournal, UndoOutcome
from stageflow_tools.undo_sqlite import SqliteUndoStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

PROGRAM = '''
import asyncio, json, os, signal, sys
from stageflow_tools.approval import ApprovalService
from stageflow_tools.approval_errors import ApprovalRefusedError
from stageflow_tools.approval_sqlite import SqliteApprovalStore
from stageflow_tools.sqlite_file import SqliteFile
from stageflow_tools.undo_journal import UndoJournal
from stageflow_tools.undo_sqlite import SqliteUndoStore

KILL_AT = float(sys.argv[1])
steps = 0
write = SqliteFile._write


def die_if_it_is_time():
    global steps
    steps += 1
    if steps == KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def counted(self, change):
    """Die before a transaction, in its middle, or after it."""
    die_if_it_is_time()

    def middle(connection):
        made = change(connection)
        die_if_it_is_time()
        return made

    made = write(self, middle)
    die_if_it_is_time()
    return made


def say(**what):
    print(json.dumps(what), flush=True)


def run_tool(what):
    """What a tool does to the world: one line, in one system call."""
    die_if_it_is_time()
    file = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (what + "\\n").encode())
    os.close(file)
    die_if_it_is_time()


async def main():
    async with SqliteApprovalStore("tools.db", poll_seconds=0.01) as store:
        service = ApprovalService(None, store)
        SqliteFile._write = counted
        await act(service, *sys.argv[3:])
        SqliteFile._write = write


async def undo(undo_data):
    run_tool(undo_data)


async def act(service, *arguments):
    match sys.argv[2]:
        case "request":
            request = await service.request_approval("call-7", "mail.send", "run-1", arguments={"to": "ada"})
            say(token=str(request.id))
            decision = await service.await_decision(request.id)
            say(granted=decision.granted)
        case "approve":
            (request,) = await service.get_pending_requests("run-1")
            say(tool=request.tool_name, to=request.arguments["to"])
            await service.record_decision(request.id, True, "grace")
        case "spend":
            say(ready=True)
            sys.stdin.readline()
            try:
                spending = await service.spend(arguments[0], tool_name="mail.send", arguments={"to": "ada"},
                                               execution_id=arguments[1], lease_seconds=30)
            except ApprovalRefusedError as error:
                say(refused=error.code)
                return
            run_tool(spending.arguments["to"])
            await spending.done("sent")
            say(done=True)
        case "keep":
            store = SqliteUndoStore("tools.db")
            for number in range(3):
                run_tool(f"do {number}")
                await store.store(f"call-{number}", "mail.send", f"undo {number}", run_id="run-1")
            say(kept=3)
            sys.stdin.readline()
        case "undo":
            say(ready=True)
            sys.stdin.readline()
            journal = UndoJournal(SqliteUndoStore("tools.db"), {"mail.send": undo}.get, lease_seconds=30)
            report = await journal.undo_run("run-1")
            say(outcomes=[one.outcome.value for one in report.results])


asyncio.run(main())
'''


class Process:
    """One process that shares the folder, and with it the database, with the others."""

    def __init__(self, folder: Path, *arguments: str, kill_at: int = 0) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(kill_at), *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> Any:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, self.child.communicate()[1]
        return json.loads(line)

    def go(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write("go\n")
        self.child.stdin.flush()

    def end(self) -> tuple[int, list[Any]]:
        output, errors = self.child.communicate()
        assert self.child.returncode in (0, -signal.SIGKILL), errors
        return self.child.returncode, [json.loads(line) for line in output.splitlines()]

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Any:
    processes: list[Process] = []

    def start(*arguments: str, kill_at: int = 0) -> Process:
        processes.append(Process(tmp_path, *arguments, kill_at=kill_at))
        return processes[-1]

    yield start
    for process in processes:
        if process.child.poll() is None:
            process.kill()


def ran(folder: Path) -> list[str]:
    file = folder / "ran"
    return file.read_text().splitlines() if file.exists() else []


def test_a_requests_and_is_killed_b_approves_c_spends_once(tmp_path: Path, start: Callable[..., Process]):
    asking = start("request")
    token = asking.hear()["token"]
    asking.kill()
    code, said = start("approve").end()
    assert (code, said) == (0, [{"tool": "mail.send", "to": "ada"}])
    spenders = [start("spend", token, f"resumed-{number}") for number in range(3)]
    assert [one.hear() for one in spenders] == [{"ready": True}] * 3
    for one in spenders:
        one.go()
    answers = [one.end()[1][0] for one in spenders]
    assert sorted(map(str, answers)) == ["{'done': True}"] + ["{'refused': 'SF-TOOLS-APPROVAL-SPENT'}"] * 2
    assert ran(tmp_path) == ["ada"]


def test_who_waits_hears_of_a_decision_in_another_process(tmp_path: Path, start: Callable[..., Process]):
    asking = start("request")
    asking.hear()
    assert start("approve").end()[0] == 0
    assert asking.end() == (0, [{"granted": True}])


def later() -> float:
    """Return the time at which the lease of whoever died is over."""
    return time.time() + 60


async def state_of(folder: Path, token: str) -> tuple[ApprovalStatus, list[ExecutionState]]:
    async with SqliteApprovalStore(folder / "tools.db", clock=later) as store:
        request = await ApprovalService(store=store).get_request(token)
        assert request is not None
        return request.status, [one.state for one in request.executions]


def test_killed_at_any_moment_between_approval_and_execution(tmp_path: Path, start: Callable[..., Process]):
    seen: set[tuple[str, int]] = set()
    for kill_at in range(1, 100):
        asking = start("request")
        token = asking.hear()["token"]
        asking.kill()
        assert start("approve").end()[0] == 0
        (tmp_path / "ran").unlink(missing_ok=True)
        dying = start("spend", token, "call-7", kill_at=kill_at)
        dying.hear()
        dying.go()
        code, _ = dying.end()
        status, states = asyncio.run(state_of(tmp_path, token))
        seen.add((states[0].value if states else "free", len(ran(tmp_path))))
        asyncio.run(resume(tmp_path, token))
        assert len(ran(tmp_path)) == 1
        if code == 0:
            assert (status, states) == (ApprovalStatus.SPENT, [ExecutionState.DONE])
            break
        (tmp_path / "tools.db").rename(tmp_path / f"tools-{kill_at}.db")
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"tools.db{suffix}").unlink(missing_ok=True)
    assert seen == {("free", 0), ("unknown", 0), ("unknown", 1), ("done", 1)}


async def resume(folder: Path, token: str) -> None:
    """Do as a resumed run does, with somebody at hand who looks what has happened where nobody knows."""
    async with SqliteApprovalStore(folder / "tools.db", clock=later) as store:
        service = ApprovalService(store=store)
        while True:
            try:
                async with await service.spend(token, execution_id="call-7"):
                    with (folder / "ran").open("a") as file:
                        file.write("ada\n")
            except ApprovalUnknownError as unknown:
                happened = bool(ran(folder))
                await service.resolve_outcome(token, unknown.execution.execution_id, happened=happened)
            except ApprovalSpentError:
                return


def test_a_leaves_receipts_and_is_killed_b_and_c_undo_each_once(
    tmp_path: Path, start: Callable[..., Process]
):
    doing = start("keep")
    assert doing.hear() == {"kept": 3}
    doing.kill()
    undoing = [start("undo") for _ in range(2)]
    for one in undoing:
        one.hear()
    for one in undoing:
        one.go()
    reports = [one.end()[1][0]["outcomes"] for one in undoing]
    assert all(set(one) <= {"undone", "already_undone"} for one in reports)
    assert ran(tmp_path) == ["do 0", "do 1", "do 2", "undo 2", "undo 1", "undo 0"]


def test_killed_at_any_moment_of_undoing(tmp_path: Path, start: Callable[..., Process]):
    seen: set[str] = set()
    for kill_at in range(1, 100, 2):
        for file in tmp_path.iterdir():
            file.unlink()
        doing = start("keep")
        doing.hear()
        doing.kill()
        dying = start("undo", kill_at=kill_at)
        dying.hear()
        dying.go()
        code, _ = dying.end()
        seen |= asyncio.run(finish(tmp_path))
        done = [line for line in ran(tmp_path) if line.startswith("undo")]
        assert done == ["undo 2", "undo 1", "undo 0"]
        if code == 0:
            break
    assert seen == {"kept", "undone", "unknown"}


async def finish(folder: Path) -> set[str]:
    """Undo what is left, with somebody at hand who looks what has happened where nobody knows."""

    async def undo(undo_data: str) -> None:
        with (folder / "ran").open("a") as file:
            file.write(f"{undo_data}\n")

    async with SqliteUndoStore(folder / "tools.db", clock=later) as store:
        journal = UndoJournal(store, {"mail.send": undo}.get)
        seen = {one.status.value for one in await store.get_all()}
        for record in reversed(await store.get_all(run_id="run-1")):
            result = await journal.undo(record.action_id)
            if result.outcome is UndoOutcome.UNKNOWN:
                assert await journal.resolve(record.action_id, undone=record.undo_data in ran(folder))
                await journal.undo(record.action_id)
        assert (await journal.undo_run("run-1")).ok
        return seen


def test_many_processes_make_the_same_file(tmp_path: Path, start: Callable[..., Process]):
    asking = [start("request") for _ in range(4)]
    tokens = {one.hear()["token"] for one in asking}
    for one in asking:
        one.kill()

    async def pending() -> set[str]:
        async with SqliteApprovalStore(tmp_path / "tools.db") as store:
            return {str(one.id) for one in await ApprovalService(store=store).get_pending_requests()}

    assert asyncio.run(pending()) == tokens
