"""Random decisions, executions, deaths and passing of time, against a model of ``docs/guides/approval.md``.

The model knows nothing of versions, histories and stores: only states, uses and times. Two services of one store take
turns, as two processes would; with SQLite, each has a store of its own on the same file.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from stageflow.errors import StageflowError
from stageflow_tools.approval import ApprovalService
from stageflow_tools.approval_errors import (
    ApprovalDecidedError,
    ApprovalNotFoundError,
    ApprovalRefusedError,
    ApprovalSpentError,
    ApprovalUnknownError,
    ExecutionSettledError,
)
from stageflow_tools.approval_scope import ApprovalScope
from stageflow_tools.approval_sqlite import SqliteApprovalStore
from stageflow_tools.approval_store import ApprovalStore, InMemoryApprovalStore

if TYPE_CHECKING:
    from uuid import UUID

    from stageflow_tools.approval_spending import Spending

DEEP = settings().max_examples > 100
TENANTS = ("acme", "globex", None)
EXECUTIONS = ("e1", "e2", "e3")
LEASE, WITHIN, RETENTION = 10, 40, 30


@dataclass
class Model:
    """What a request is."""

    id: UUID
    tenant: str | None
    uses: int
    expires: float | None
    status: str = "pending"
    ended: float | None = None
    executions: dict[str, str] = field(default_factory=dict)
    leases: dict[str, float] = field(default_factory=dict)
    holders: dict[str, Any] = field(default_factory=dict)
    calls: int = 0

    def at(self, now: float) -> None:
        if self.status in ("pending", "approved") and self.expires is not None and self.expires <= now:
            self.status, self.ended = "expired", self.expires
        for name, lease in self.leases.items():
            if self.executions[name] == "reserved" and lease <= now:
                self.executions[name] = "unknown"

    @property
    def open(self) -> bool:
        return any(state in ("reserved", "unknown") for state in self.executions.values())

    def end(self, status: str, now: float) -> None:
        self.status, self.ended = status, now

    def settle(self, name: str, state: str, now: float) -> None:
        self.executions[name] = state
        if self.status == "approved" and list(self.executions.values()).count("done") == self.uses:
            self.end("spent", now)
        elif self.status not in ("pending", "approved"):
            self.ended = now  # how long it is kept counts from the last that happened

    def spend(self, name: str) -> type[StageflowError] | None:
        state = self.executions.get(name, "released")
        if state == "unknown":
            return ApprovalUnknownError
        if state != "released":
            return ApprovalSpentError
        taken = [one for one in self.executions.values() if one != "released"]
        if self.status == "spent" or (self.status == "approved" and len(taken) >= self.uses):
            return ApprovalUnknownError if "unknown" in taken else ApprovalSpentError
        return None if self.status == "approved" else ApprovalRefusedError


class Approvals(RuleBasedStateMachine):
    """Requests in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_000.0
        self.runner = asyncio.Runner()
        self.stores = self.make_stores()
        self.services = [
            ApprovalService(
                20, store, spend_within_seconds=WITHIN, lease_seconds=LEASE, retention_seconds=RETENTION
            )
            for store in self.stores
        ]
        self.purge_at = 0.0
        self.requests: list[Model] = []
        self.held: list[tuple[Model, Spending]] = []

    def make_stores(self) -> list[ApprovalStore]:
        return [InMemoryApprovalStore(clock=lambda: self.time)] * 2

    def teardown(self) -> None:
        self.runner.close()

    def ask(self, operation: Any) -> Any:
        """Await something, and return what it gives or the error that it raises."""

        async def answer() -> Any:
            try:
                return await operation
            except StageflowError as error:
                return error

        return self.runner.run(answer())

    def expect(self, answer: Any, error: type[StageflowError] | None) -> None:
        assert type(answer) is error if error is not None else not isinstance(answer, StageflowError), answer

    def pick(self, data: st.DataObject) -> tuple[Model, ApprovalService]:
        model = data.draw(st.sampled_from(self.requests), label="request")
        model.at(self.time)
        return model, data.draw(st.sampled_from(self.services))

    @initialize()
    def begin(self) -> None:
        self.request(None, 1, None)

    @rule(
        tenant=st.sampled_from(TENANTS), uses=st.sampled_from([1, 1, 2]), timeout=st.sampled_from([None, 5])
    )
    def request(self, tenant: str | None, uses: int, timeout: int | None) -> None:
        scope = ApprovalScope() if uses == 1 else ApprovalScope("run", max_uses=uses)
        made = self.ask(
            self.services[0].request_approval(
                "call-7",
                "t",
                "run-1",
                arguments={"x": 1},
                tenant=tenant,
                scope=scope,
                timeout_seconds=timeout,
            )
        )
        if self.time >= self.purge_at:  # a new request makes room, at most once a minute
            self.purge_at = self.time + 60
            self.drop_old()
        self.requests.append(Model(made.id, tenant, uses, self.time + (timeout or 20)))

    @rule(data=st.data(), granted=st.booleans(), tenant=st.sampled_from([..., *TENANTS]))
    def decide(self, data: st.DataObject, granted: bool, tenant: Any) -> None:  # noqa: FBT001 - drawn
        model, service = self.pick(data)
        tenant = model.tenant if tenant is ... else tenant
        answer = self.ask(service.record_decision(model.id, granted, "grace", tenant=tenant))
        if tenant != model.tenant:
            self.expect(answer, ApprovalNotFoundError)
            return
        self.expect(answer, None if model.status == "pending" else ApprovalDecidedError)
        if model.status != "pending":
            assert answer.status == model.status
        elif granted:
            model.status, model.expires = "approved", self.time + WITHIN
        else:
            model.end("denied", self.time)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        model, service = self.pick(data)
        assert self.ask(service.cancel_request(model.id, tenant=model.tenant)) == (model.status == "pending")
        if model.status == "pending":
            model.end("cancelled", self.time)

    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        model, service = self.pick(data)
        answer = self.ask(service.revoke(model.id, tenant=model.tenant))
        self.expect(answer, None if model.status == "approved" else ApprovalDecidedError)
        if model.status == "approved":
            model.end("revoked", self.time)

    @rule(data=st.data(), name=st.sampled_from(EXECUTIONS), right=st.sampled_from([True, True, True, False]))
    def spend(self, data: st.DataObject, name: str, right: bool) -> None:  # noqa: FBT001 - drawn
        model, service = self.pick(data)
        arguments = {"x": 1} if right else {"x": True}
        answer = self.ask(
            service.spend(
                model.id, arguments=arguments, tenant=model.tenant, run_id="run-1", execution_id=name
            )
        )
        error = model.spend(name) if right else ApprovalRefusedError
        self.expect(answer, error)
        if error is None:
            model.executions.pop(name, None)
            model.executions[name], model.leases[name] = "reserved", self.time + LEASE
            model.holders[name] = answer
            model.calls += 1
            self.held.append((model, answer))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["done", "release", "renew", "die"]))
    def end_execution(self, data: st.DataObject, how: str) -> None:
        model, spending = data.draw(st.sampled_from(self.held), label="spending")
        model.at(self.time)
        if how == "die":
            self.held.remove((model, spending))
            return
        name = spending.execution_id
        is_open = model.executions[name] in ("reserved", "unknown") and model.holders[name] is spending
        self.expect(self.ask(getattr(spending, how)()), None if is_open else ExecutionSettledError)
        if is_open and how == "renew":
            model.executions[spending.execution_id] = "reserved"
            model.leases[spending.execution_id] = self.time + LEASE
        elif is_open:
            model.settle(spending.execution_id, {"done": "done", "release": "released"}[how], self.time)
            model.calls -= how == "release"

    @rule(data=st.data(), name=st.sampled_from(EXECUTIONS), happened=st.booleans())
    def resolve(self, data: st.DataObject, name: str, happened: bool) -> None:  # noqa: FBT001 - drawn
        model, service = self.pick(data)
        answer = self.ask(service.resolve_outcome(model.id, name, happened=happened, tenant=model.tenant))
        state = model.executions.get(name)
        if state == "unknown":
            self.expect(answer, None)
            model.settle(name, "done" if happened else "released", self.time)
            model.calls -= not happened
        else:
            self.expect(answer, ApprovalNotFoundError if state is None else ExecutionSettledError)

    @rule(seconds=st.sampled_from([1, 4, 5, 9, 30, 70]))
    def pass_time(self, seconds: int) -> None:
        self.time += seconds

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        model, service = self.pick(data)
        assert self.ask(service.cleanup(model.id, tenant=model.tenant)) == (not model.open)
        if not model.open:
            self.drop(model)
            if not self.requests:
                self.begin()

    @rule()
    def purge(self) -> None:
        self.ask(self.services[0].purge())
        self.drop_old()
        if not self.requests:
            self.begin()

    def drop_old(self) -> None:
        for model in list(self.requests):
            model.at(self.time)
            ended = model.ended
            if ended is not None and not model.open and ended + RETENTION <= self.time:
                self.drop(model)

    def drop(self, model: Model) -> None:
        self.requests.remove(model)
        self.held = [one for one in self.held if one[0] is not model]
        assert self.ask(self.services[0].get_request(model.id, tenant=model.tenant)) is None

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        for model in self.requests:
            model.at(self.time)
            kept = self.ask(self.services[1].get_request(model.id, tenant=model.tenant))
            assert kept is not None
            assert kept.status == model.status
            assert {one.execution_id: one.state for one in kept.executions} == model.executions
            assert model.calls <= model.uses
        for tenant in TENANTS:
            mine = [one for one in self.requests if one.tenant == tenant]
            pending = self.ask(self.services[1].get_pending_requests(tenant=tenant))
            assert [one.id for one in pending] == [one.id for one in mine if one.status == "pending"]
            unknown = self.ask(self.services[1].get_unknown_outcomes(tenant=tenant))
            assert [(request.id, one.execution_id) for request, one in unknown] == [
                (one.id, name) for one in mine for name, state in one.executions.items() if state == "unknown"
            ]


class SqliteApprovals(Approvals):
    """Requests in a file, through two stores."""

    def make_stores(self) -> list[ApprovalStore]:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "approvals.db"
        return [SqliteApprovalStore(path, clock=lambda: self.time) for _ in range(2)]

    def teardown(self) -> None:
        for store in self.stores:
            assert isinstance(store, SqliteApprovalStore)
            self.runner.run(store.close())
        super().teardown()
        self.folder.cleanup()


@pytest.mark.timeout(600 if DEEP else 60)
@pytest.mark.parametrize(("machine", "share"), [(Approvals, 1), (SqliteApprovals, 4)])
def test_approvals_behave_as_the_model(machine: type[Approvals], share: int):
    count = (2_000 if DEEP else 60) // share
    run_state_machine_as_test(machine, settings=settings(max_examples=count, stateful_step_count=30))
