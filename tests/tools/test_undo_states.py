"""Random receipts, undos, failures, deaths and passing of time, against a small model.

A death is a claim whose handler never ends: it is thrown away with the claim held, as a killed process leaves it. Two
journals of one store take turns; with SQLite, each has a store of its own on the same file.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from stageflow_tools.undo import InMemoryUndoStore, UndoRecordExistsError, UndoStatus, UndoStore
from stageflow_tools.undo_journal import UndoJournal
from stageflow_tools.undo_sqlite import SqliteUndoStore

DEEP = settings().max_examples > 100
ACTIONS = ("a", "b", "c", "d")
RUNS = ("run-1", "run-2")
TENANTS = ("acme", None)
LEASE, TTL = 10, 60


@dataclass
class Model:
    """What a record is."""

    run: str
    data: int
    expires: float
    status: str = "kept"
    lease: float = 0.0


class Undos(RuleBasedStateMachine):
    """Records in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_000.0
        self.clean_at = 0.0
        self.runner = asyncio.Runner()
        self.stores = self.make_stores()
        self.records: dict[tuple[str | None, str], Model] = {}  # in the order in which they came
        self.undone: list[int] = []
        self.behaviour = "works"
        self.journals = [
            UndoJournal(store, lambda _: self.handler, lease_seconds=LEASE) for store in self.stores
        ]

    def make_stores(self) -> list[UndoStore]:
        store = InMemoryUndoStore(TTL, clock=self.clock)
        return [store, store]

    def clock(self) -> float:
        return self.time

    def teardown(self) -> None:
        self.runner.close()

    async def handler(self, undo_data: int) -> None:
        if self.behaviour == "breaks":
            raise OSError("no")
        if self.behaviour == "dies":
            raise _DeathError
        self.undone.append(undo_data)

    def valid(self, key: tuple[str | None, str]) -> Model | None:
        model = self.records.get(key)
        if model is None:
            return None
        if model.status == "undoing" and model.lease <= self.time:
            model.status = "unknown"
        return None if model.expires <= self.time and model.status not in ("undoing", "unknown") else model

    @rule(
        action=st.sampled_from(ACTIONS),
        run=st.sampled_from(RUNS),
        tenant=st.sampled_from(TENANTS),
        data=st.integers(0, 1),
    )
    def keep(self, action: str, run: str, tenant: str | None, data: int) -> None:
        key = (tenant, action)
        if self.time >= self.clean_at:  # a new record makes room, at most once a minute
            self.clean_at = self.time + 60
            self.drop_expired()
        kept = self.valid(key)
        fits = kept is None or (kept.status, kept.run, kept.data) == ("kept", run, data)
        stored = self.stores[0].store(action, "t", data, run_id=run, tenant=tenant)
        if not fits:
            with pytest.raises(UndoRecordExistsError):
                self.runner.run(stored)
            return
        self.runner.run(stored)
        if kept is None:
            self.records.pop(key, None)
            self.records[key] = Model(run, data, self.time + TTL)

    def undo_one(self, key: tuple[str | None, str], behaviour: str) -> str:
        """Say what undoing does to the model, and what it gives."""
        model = self.valid(key)
        if model is None:
            return "not_found"
        if model.status in ("undone", "undoing", "unknown"):
            return {"undone": "already_undone", "undoing": "in_progress"}.get(model.status, "unknown")
        model.status, model.lease = {
            "works": ("undone", 0.0),
            "breaks": ("failed", 0.0),
            "dies": ("undoing", self.time + LEASE),
        }[behaviour]
        return {"works": "undone", "breaks": "failed", "dies": "died"}[behaviour]

    @rule(
        action=st.sampled_from(ACTIONS),
        tenant=st.sampled_from(TENANTS),
        journal=st.integers(0, 1),
        behaviour=st.sampled_from(["works", "works", "breaks", "dies"]),
    )
    def undo(self, action: str, tenant: str | None, journal: int, behaviour: str) -> None:
        self.behaviour = behaviour
        before = list(self.undone)
        model = self.records.get((tenant, action))
        expected = self.undo_one((tenant, action), behaviour)

        async def undo() -> str:
            try:
                return (await self.journals[journal].undo(action, tenant=tenant)).outcome.value
            except _DeathError:
                return "died"

        assert self.runner.run(undo()) == expected
        assert self.undone[len(before) :] == ([model.data] if expected == "undone" and model else [])

    @rule(
        run=st.sampled_from(RUNS),
        tenant=st.sampled_from(TENANTS),
        journal=st.integers(0, 1),
        fails=st.booleans(),
    )
    def undo_run(self, run: str, tenant: str | None, journal: int, fails: bool) -> None:  # noqa: FBT001 - drawn
        keys = [
            key
            for key, one in self.records.items()
            if key[0] == tenant and one.run == run and self.valid(key)
        ]
        if any(self.records[key].status == "undoing" for key in keys):
            return  # it would wait for the one that died, until its lease is over
        self.behaviour = "breaks" if fails else "works"
        before = len(self.undone)
        datas = [self.records[key].data for key in reversed(keys)]
        expected = [(key[1], self.undo_one(key, self.behaviour)) for key in reversed(keys)]
        report = self.runner.run(self.journals[journal].undo_run(run, tenant=tenant))
        assert [(one.action_id, one.outcome.value) for one in report.results] == expected
        assert self.undone[before:] == [
            data for data, (_, outcome) in zip(datas, expected, strict=True) if outcome == "undone"
        ]

    @rule(action=st.sampled_from(ACTIONS), tenant=st.sampled_from(TENANTS), undone=st.booleans())
    def resolve(self, action: str, tenant: str | None, undone: bool) -> None:  # noqa: FBT001 - drawn
        model = self.valid((tenant, action))
        expected = model is not None and model.status == "unknown"
        assert self.runner.run(self.journals[0].resolve(action, undone=undone, tenant=tenant)) == expected
        if model is not None and expected:
            model.status = "undone" if undone else "kept"

    @rule(action=st.sampled_from(ACTIONS), tenant=st.sampled_from(TENANTS))
    def delete(self, action: str, tenant: str | None) -> None:
        expected = self.records.pop((tenant, action), None) is not None
        assert self.runner.run(self.stores[1].delete(action, tenant=tenant)) == expected

    @rule(seconds=st.sampled_from([1, 9, 10, 30, 61]))
    def pass_time(self, seconds: int) -> None:
        self.time += seconds

    @rule()
    def clean_up(self) -> None:
        before = len(self.records)
        self.drop_expired()
        assert self.runner.run(self.stores[0].cleanup_expired()) == before - len(self.records)

    def drop_expired(self) -> None:
        for key in list(self.records):
            if self.valid(key) is None:
                del self.records[key]

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        assert len(self.stores[1]) == len(self.records)
        for tenant in TENANTS:
            found = self.runner.run(self.stores[1].get_all(tenant=tenant))
            mine = {key[1]: model for key in self.records if key[0] == tenant and (model := self.valid(key))}
            assert [(one.action_id, one.status, one.run_id, one.undo_data) for one in found] == [
                (action, UndoStatus(model.status), model.run, model.data) for action, model in mine.items()
            ]


class _DeathError(BaseException):
    """Leaves the journal no chance to write anything down."""


class SqliteUndos(Undos):
    """Records in a file, through two stores."""

    def make_stores(self) -> list[UndoStore]:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "undo.db"
        return [SqliteUndoStore(path, TTL, clock=self.clock) for _ in range(2)]

    def teardown(self) -> None:
        for store in self.stores:
            assert isinstance(store, SqliteUndoStore)
            self.runner.run(store.close())
        super().teardown()
        self.folder.cleanup()


@pytest.mark.timeout(600 if DEEP else 60)
@pytest.mark.parametrize(("machine", "share"), [(Undos, 1), (SqliteUndos, 4)])
def test_undo_records_behave_as_the_model(machine: type[Undos], share: int):
    count = (2_000 if DEEP else 60) // share
    run_state_machine_as_test(machine, settings=settings(max_examples=count, stateful_step_count=30))
