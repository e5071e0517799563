"""Undo records as 0.9 published them, and the journal: once, in reverse, going on past what fails."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import pytest_asyncio
from stageflow import Effect, Pipeline, StageKind
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.protocols import UndoReceipt
from stageflow.testing import run_virtual
from stageflow_tools.undo import (
    InMemoryUndoStore,
    UndoRecord,
    UndoRecordExistsError,
    UndoStatus,
    UndoStore,
    clear_undo_store,
    get_undo_store,
    set_undo_store,
)
from stageflow_tools.undo_journal import UndoJournal, UndoOutcome
from stageflow_tools.undo_sqlite import SqliteUndoStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Clock:
    """A wall clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> AsyncIterator[UndoStore]:
    if request.param == "memory":
        yield InMemoryUndoStore(clock=clock)
        return
    async with SqliteUndoStore(tmp_path / "undo.db", clock=clock) as made:
        yield made


class Tools:
    """Undoes what it can, and keeps in mind what it was asked for."""

    def __init__(self) -> None:
        self.undone: list[Any] = []

    def __call__(self, tool_name: str) -> Any:
        return getattr(self, tool_name.replace(".", "_"), None)

    async def files_write(self, undo_data: Any) -> None:
        await asyncio.sleep(0)
        self.undone.append(undo_data)

    async def files_break(self, undo_data: Any) -> None:
        raise OSError(undo_data)


# --- the published methods -------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_records_are_kept_and_deleted(store: UndoStore):
    action = uuid4()
    record = await store.store(action, "files.write", {"original": "content"})
    assert (record.action_id, record.tool_name, record.undo_data) == (
        action,
        "files.write",
        {"original": "content"},
    )
    assert await store.get(action) == record
    assert await store.get(str(action)) == record
    assert await store.get(uuid4()) is None
    assert len(store) == 1
    assert await store.get_all() == [record]
    assert await store.delete(action)
    assert not await store.delete(action)
    assert await store.get(action) is None
    assert len(store) == 0


@pytest.mark.asyncio
async def test_records_expire(store: UndoStore, clock: Clock):
    for number in range(3):
        await store.store(f"call-{number}", "files.write", {}, ttl_seconds=10 * (number + 1))
    default = await store.store("call-3", "files.write", {})
    clock.time += 10
    assert await store.get("call-0") is None
    assert [one.action_id for one in await store.get_all()] == ["call-1", "call-2", "call-3"]
    assert len(store) == 4
    assert await store.cleanup_expired() == 1
    assert len(store) == 3
    clock.time += 10
    await store.store("call-4", "files.write", {})  # which makes room at most once a minute
    assert len(store) == 4
    clock.time += 60
    await store.store("call-5", "files.write", {})
    assert len(store) == 3
    assert (default.expires_at - default.created_at).total_seconds() == 3600


@pytest.mark.asyncio
async def test_a_record_holds_the_type_and_the_tool_and_is_a_receipt(store: UndoStore):
    run = uuid4()
    record = await store.store(
        "call-7", "files.write", [1, None], action_type="WRITE", run_id=run, tenant="acme"
    )
    assert (record.action_type, record.tool_name, record.run_id, record.tenant) == (
        "WRITE",
        "files.write",
        run,
        "acme",
    )
    assert isinstance(record, UndoReceipt)
    assert record.receipt_id == "call-7"
    told = json.loads(json.dumps(record.to_dict()))
    assert UndoRecord.from_dict(told) == record
    assert pickle.loads(pickle.dumps(record)) == record


@pytest.mark.asyncio
async def test_a_stage_leaves_a_record_as_its_receipt():
    store = InMemoryUndoStore()

    async def write(ctx: Any) -> None:
        ctx.leave_receipt(await store.store("call-7", "files.write", {"path": "a.txt"}))

    pipeline = Pipeline().with_stage("write", write, StageKind.WORK, effect=Effect.REVERSIBLE)
    receipts = [event.data["receipt"] async for event in pipeline.stream() if event.type == "effect.receipt"]
    assert [one["undo_data"] for one in receipts] == [{"path": "a.txt"}]


@pytest.mark.asyncio
async def test_the_same_record_again_is_that_record_and_another_is_refused(store: UndoStore, clock: Clock):
    first = await store.store("call-7", "files.write", {"before": "a"})
    clock.time += 1
    assert await store.store("call-7", "files.write", {"before": "a"}) == first
    for other in ({"before": "b"}, {"before": True}):
        with pytest.raises(UndoRecordExistsError) as refused:
            await store.store("call-7", "files.write", other)
        assert pickle.loads(pickle.dumps(refused.value)).action_id == "call-7"
    assert await store.get("call-7") == first
    clock.time += 3600
    second = await store.store("call-7", "files.write", {"before": "b"})
    assert second.number > first.number
    await UndoJournal(store, Tools()).undo("call-7")
    with pytest.raises(UndoRecordExistsError):
        await store.store("call-7", "files.write", {"before": "b"})


@pytest.mark.asyncio
async def test_tenants_neither_see_nor_undo_each_others_actions(store: UndoStore):
    tools = Tools()
    journal = UndoJournal(store, tools)
    for tenant in ("acme", "globex", None):
        await store.store("call-7", "files.write", tenant, run_id="run-1", tenant=tenant)
    assert (await journal.undo("call-7", tenant="acme/eu")).outcome is UndoOutcome.NOT_FOUND
    assert (await journal.undo("call-7", tenant="acme")).outcome is UndoOutcome.UNDONE
    assert [one.undo_data for one in await store.get_all(run_id="run-1", tenant="globex")] == ["globex"]
    assert (await journal.undo_run("run-1")).ok
    assert tools.undone == ["acme", None]
    assert await store.delete("call-7", tenant="acme")
    assert len(store) == 2


@pytest.mark.asyncio
async def test_nobody_changes_what_is_kept(store: UndoStore):
    data = {"lines": ["a"]}
    record = await store.store("call-7", "files.write", data)
    data["lines"].append("b")
    record.undo_data["lines"].append("c")
    kept = await store.get("call-7")
    assert kept is not None
    assert kept.undo_data == {"lines": ["a"]}
    assert not await store.replace(kept)  # a version is only replaced by the next


@pytest.mark.asyncio
async def test_arguments_are_checked(store: UndoStore):
    calls: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"action_id": 7}, ArgumentTypeError),
        ({"action_id": ""}, ArgumentValueError),
        ({"action_id": "a\ud800"}, ArgumentValueError),
        ({"tool_name": ""}, ArgumentValueError),
        ({"tool_name": None}, ArgumentTypeError),
        ({"undo_data": {1, 2}}, ArgumentTypeError),
        ({"undo_data": {"x": float("nan")}}, ArgumentTypeError),
        ({"ttl_seconds": 0}, ArgumentValueError),
        ({"ttl_seconds": "1"}, ArgumentTypeError),
        ({"ttl_seconds": 1e12}, ArgumentValueError),
        ({"tenant": ""}, ArgumentValueError),
        ({"tenant": "a\0"}, ArgumentValueError),
        ({"run_id": 7}, ArgumentTypeError),
    ]
    for call, error in calls:
        with pytest.raises(error):
            await store.store(**{"action_id": "call-7", "tool_name": "t", "undo_data": {}, **call})
    assert len(store) == 0
    with pytest.raises(ArgumentTypeError):
        UndoJournal(store, {})
    with pytest.raises(ArgumentValueError):
        UndoJournal(store, Tools(), lease_seconds=0)


def test_one_store_for_the_process():
    try:
        first = get_undo_store()
        assert get_undo_store() is first
        clear_undo_store()
        assert get_undo_store() is not first
        set_undo_store(first)
        assert get_undo_store() is first
    finally:
        clear_undo_store()


# --- the journal -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_action_is_undone_once_by_its_tool_whatever_its_type(store: UndoStore):
    tools = Tools()
    journal = UndoJournal(store, tools)
    await store.store("call-7", "files.write", "data", action_type="SOMETHING_ELSE")
    first = await journal.undo("call-7")
    assert (first.outcome, first.error) == (UndoOutcome.UNDONE, None)
    assert first.record is not None
    assert first.record.status is UndoStatus.UNDONE
    assert await store.get("call-7") == first.record
    assert (await journal.undo("call-7")).outcome is UndoOutcome.ALREADY_UNDONE
    assert tools.undone == ["data"]


@pytest.mark.asyncio
async def test_a_run_is_undone_in_reverse_past_what_fails(store: UndoStore):
    tools = Tools()
    for number, tool in enumerate(["files.write", "files.break", "nobody.knows", "files.write"]):
        await store.store(f"call-{number}", tool, number, run_id="run-1")
    await store.store("call-9", "files.write", 9, run_id="run-2")
    journal = UndoJournal(store, tools)
    report = await journal.undo_run("run-1")
    assert [(one.action_id, one.outcome) for one in report.results] == [
        ("call-3", UndoOutcome.UNDONE),
        ("call-2", UndoOutcome.NO_HANDLER),
        ("call-1", UndoOutcome.FAILED),
        ("call-0", UndoOutcome.UNDONE),
    ]
    assert tools.undone == [3, 0]
    assert not report.ok
    assert [one.action_id for one in report.not_undone] == ["call-2", "call-1"]
    failed = report.not_undone[1]
    assert isinstance(failed.error, OSError)
    assert failed.record is not None
    assert (failed.record.status, failed.record.error, failed.record.attempts) == (
        UndoStatus.FAILED,
        "OSError: 1",
        1,
    )
    tools.files_break = tools.files_write
    again = await journal.undo_run("run-1")
    assert [one.outcome.value for one in again.results] == [
        "already_undone",
        "no_handler",
        "undone",
        "already_undone",
    ]
    assert tools.undone == [3, 0, 1]
    assert (await journal.undo_run("run-3")).results == ()


@pytest.mark.asyncio
async def test_a_registry_that_raises_is_no_handler(store: UndoStore):
    await store.store("call-7", "files.write", {})
    handlers: dict[str, Any] = {}
    result = await UndoJournal(store, handlers.__getitem__).undo("call-7")
    assert result.outcome is UndoOutcome.NO_HANDLER
    assert isinstance(result.error, KeyError)
    kept = await store.get("call-7")
    assert kept is not None
    assert kept.status is UndoStatus.KEPT


@pytest.mark.asyncio
async def test_of_many_who_undo_at_once_one_does(store: UndoStore):
    tools = Tools()
    journals = [UndoJournal(store, tools) for _ in range(3)]
    await store.store("call-7", "files.write", "data")
    results = await asyncio.gather(*(journals[number % 3].undo("call-7") for number in range(12)))
    assert tools.undone == ["data"]
    assert sum(one.outcome is UndoOutcome.UNDONE for one in results) == 1
    assert {one.outcome for one in results} <= {
        UndoOutcome.UNDONE,
        UndoOutcome.IN_PROGRESS,
        UndoOutcome.ALREADY_UNDONE,
    }


def test_two_who_undo_a_run_keep_to_the_order():
    async def main() -> tuple[list[Any], list[set[str]]]:
        store = InMemoryUndoStore()
        log: list[Any] = []

        async def slow(undo_data: Any) -> None:
            log.append(f"begin {undo_data}")
            await asyncio.sleep(200)  # longer than the lease, which is renewed
            log.append(f"end {undo_data}")

        for number in range(4):
            await store.store(f"call-{number}", "t", number, run_id="run-1")
        journals = [UndoJournal(store, lambda _: slow, lease_seconds=30) for _ in range(2)]
        reports = await asyncio.gather(*(one.undo_run("run-1") for one in journals))
        assert all(report.ok for report in reports)
        return log, [{str(one.outcome) for one in report.results} for report in reports]

    log, outcomes = run_virtual(main())
    assert log == [f"{what} {number}" for number in (3, 2, 1, 0) for what in ("begin", "end")]
    assert outcomes[0] | outcomes[1] == {"undone", "already_undone"}


@pytest.mark.asyncio
async def test_who_is_cancelled_while_undoing_has_failed_and_may_try_again(store: UndoStore):
    begun = asyncio.Event()

    async def hang(undo_data: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    await store.store("call-7", "t", {})
    task = asyncio.ensure_future(UndoJournal(store, lambda _: hang).undo("call-7"))
    await begun.wait()
    assert (await UndoJournal(store, Tools()).undo("call-7")).outcome is UndoOutcome.IN_PROGRESS
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = await store.get("call-7")
    assert kept is not None
    assert (kept.status, kept.error) == (UndoStatus.FAILED, "cancelled")
    tools = Tools()
    assert (
        await UndoJournal(store, lambda _: tools.files_write).undo("call-7")
    ).outcome is UndoOutcome.UNDONE


@pytest.mark.asyncio
async def test_who_is_cancelled_before_the_handler_is_called_has_claimed_nothing(store: UndoStore):
    for turns in range(14):
        tools = Tools()
        await store.store(f"call-{turns}", "files.write", turns)
        task = asyncio.ensure_future(UndoJournal(store, tools).undo(f"call-{turns}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        kept = await store.get(f"call-{turns}")
        assert kept is not None
        assert not kept.status.is_claimed
        assert len(tools.undone) <= 1
        if not tools.undone:
            assert (await UndoJournal(store, tools).undo(f"call-{turns}")).outcome is UndoOutcome.UNDONE


@pytest.mark.parametrize("undone", [True, False])
@pytest.mark.asyncio
async def test_an_unknown_outcome_stays_until_somebody_finds_out(
    store: UndoStore, clock: Clock, *, undone: bool
):
    begun, tools = asyncio.Event(), Tools()

    async def hang(undo_data: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    await store.store("call-7", "files.write", "data", ttl_seconds=100, run_id="run-1")
    journal = UndoJournal(store, tools, lease_seconds=60)
    dead = asyncio.ensure_future(UndoJournal(store, lambda _: hang, lease_seconds=60).undo("call-7"))
    await begun.wait()
    assert not await journal.resolve("call-7", undone=undone)
    clock.time += 1_000_000
    assert await store.cleanup_expired() == 0
    report = await journal.undo_run("run-1")
    assert [one.outcome for one in report.results] == [UndoOutcome.UNKNOWN]
    assert tools.undone == []
    assert await journal.resolve("call-7", undone=undone)
    assert not await journal.resolve("call-7", undone=undone)
    assert not await journal.resolve("call-8", undone=undone)
    dead.cancel()
    await asyncio.wait([dead])
    assert await store.cleanup_expired() == 1  # its time was over meanwhile


def test_a_process_that_was_taken_for_dead_does_not_overwrite_what_was_found_out(
    caplog: pytest.LogCaptureFixture,
):
    async def main() -> UndoRecord | None:
        store, clock_is_at = InMemoryUndoStore(clock=lambda: times[-1]), asyncio.Event()
        times = [1_000.0]

        async def slow(undo_data: Any) -> None:
            times.append(2_000.0)
            assert await journal.resolve("call-7", undone=True)
            clock_is_at.set()
            raise OSError("late")

        journal = UndoJournal(store, lambda _: slow)
        await store.store("call-7", "t", {})
        result = await journal.undo("call-7")
        assert clock_is_at.is_set()
        assert (result.outcome, result.record) == (UndoOutcome.FAILED, None)
        return await store.get("call-7")

    kept = run_virtual(main())
    assert kept is not None
    assert kept.status is UndoStatus.UNDONE
    assert "taken" in caplog.text or "took its process for dead" in caplog.text
