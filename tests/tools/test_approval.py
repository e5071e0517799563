"""What 0.9 published of approvals, and what it got wrong; scopes, edits, tenants, spending."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.testing import run_virtual
from stageflow_tools.approval import (
    ApprovalService,
    clear_approval_service,
    get_approval_service,
    set_approval_service,
)
from stageflow_tools.approval_errors import (
    ApprovalDecidedError,
    ApprovalEditError,
    ApprovalExpiredError,
    ApprovalNotFoundError,
    ApprovalRefusedError,
    ApprovalSpentError,
    ApprovalUnknownError,
    ExecutionSettledError,
)
from stageflow_tools.approval_request import (
    ApprovalDecision,
    ApprovalPending,
    ApprovalRequest,
    ApprovalStatus,
    ExecutionState,
)
from stageflow_tools.approval_scope import ApprovalScope
from stageflow_tools.approval_sqlite import SqliteApprovalStore
from stageflow_tools.approval_store import ApprovalStore, InMemoryApprovalStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from stageflow_tools.approval_spending import Spending

ARGUMENTS = {"to": "ada", "urgent": True}


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
async def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> AsyncIterator[ApprovalStore]:
    if request.param == "memory":
        yield InMemoryApprovalStore(clock=clock)
        return
    async with SqliteApprovalStore(tmp_path / "approvals.db", clock=clock, poll_seconds=0.01) as made:
        yield made


@pytest.fixture
def service(store: ApprovalStore) -> ApprovalService:
    return ApprovalService(store=store, validate_arguments=only_to_people)


def only_to_people(tool_name: str, arguments: dict[str, Any]) -> None:
    if not isinstance(arguments.get("to"), str):
        raise TypeError(f"{tool_name} writes to people")


async def approved(service: ApprovalService, **options: Any) -> ApprovalRequest:
    asked = {name: options.pop(name) for name in ("scope", "tenant", "pipeline_run_id") if name in options}
    request = await service.request_approval("call-7", "mail.send", arguments=ARGUMENTS, **asked)
    tenant = asked.get("tenant")
    await service.record_decision(request.id, True, "grace", tenant=tenant, **options)
    found = await service.get_request(request.id, tenant=tenant)
    assert found is not None
    return found


# --- the published methods -------------------------------------------------------------------------------


def test_a_request_and_a_decision_are_made_as_they_were_in_0_9():
    request = ApprovalRequest(id=uuid4(), action_id=uuid4(), tool_name="t", approval_message="Approve?")
    assert (request.status, request.decided_by) == (ApprovalStatus.PENDING, None)
    told = json.loads(json.dumps(request.to_dict()))
    assert (told["id"], told["status"], told["action_id"]) == (
        str(request.id),
        "pending",
        str(request.action_id),
    )
    assert ApprovalDecision(request_id=uuid4(), granted=False, reason="Too risky").reason == "Too risky"


@pytest.mark.asyncio
async def test_it_is_asked_decided_and_heard(service: ApprovalService):
    action, run, person = uuid4(), uuid4(), uuid4()
    request = await service.request_approval(action, "mail.send", run, "Send it?", {"to": "ada"})
    assert request.created_at.tzinfo is UTC
    assert (request.action_id, request.pipeline_run_id, request.payload_summary) == (
        action,
        run,
        {"to": "ada"},
    )
    assert await service.get_pending_requests(run) == [request]
    assert await service.get_pending_requests(uuid4()) == []
    waiting = asyncio.ensure_future(service.await_decision(request.id, timeout_seconds=30))
    await asyncio.sleep(0)
    decision = await service.record_decision(request.id, True, person, "fine")
    assert await waiting == decision
    assert (decision.granted, decision.decided_by, decision.reason) == (True, person, "fine")
    assert decision.decided_at is not None
    assert decision.decided_at.tzinfo is UTC
    assert await service.get_pending_requests(run) == []
    kept = await service.get_request(str(request.id))
    assert kept is not None
    assert (kept.status, kept.decided_by) == (ApprovalStatus.APPROVED, person)


@pytest.mark.asyncio
async def test_a_denial_is_final_and_says_by_whom(service: ApprovalService, clock: Clock):
    request = await service.request_approval("call-7", "mail.send")
    await service.record_decision(request.id, granted=False, decided_by="grace", reason="no")
    clock.time += 5
    with pytest.raises(ApprovalDecidedError) as refused:
        await service.record_decision(request.id, granted=True, decided_by="mallory")
    assert refused.value.decided_by == "grace"
    assert refused.value.decided_at == datetime.fromtimestamp(1_000_000, UTC)
    assert refused.value.status is ApprovalStatus.DENIED
    assert "by 'grace'" in str(refused.value)
    assert not await service.cancel_request(request.id)
    with pytest.raises(ApprovalRefusedError, match="denied"):
        await service.spend(request.id)
    decision = await service.await_decision(request.id)
    assert (decision.granted, decision.decided_by, decision.reason) == (False, "grace", "no")


@pytest.mark.asyncio
async def test_a_decision_after_cancellation_or_expiry_changes_nothing(
    service: ApprovalService, clock: Clock
):
    cancelled = await service.request_approval("call-7", "mail.send")
    expired = await service.request_approval("call-8", "mail.send", timeout_seconds=10)
    assert await service.cancel_request(cancelled.id, cancelled_by="ada", reason="hung up")
    assert not await service.cancel_request(cancelled.id)
    clock.time += 10
    for request, status in ((cancelled, ApprovalStatus.CANCELLED), (expired, ApprovalStatus.EXPIRED)):
        with pytest.raises(ApprovalDecidedError):
            await service.record_decision(request.id, granted=True)
        with pytest.raises(ApprovalRefusedError, match=status.value):
            await service.spend(request.id)
        kept = await service.get_request(request.id)
        assert kept is not None
        assert kept.status is status
    assert (await service.await_decision(cancelled.id)).status is ApprovalStatus.CANCELLED
    assert await service.get_pending_requests() == []
    with pytest.raises(ApprovalExpiredError):
        await service.await_decision(expired.id)
    kept = await service.get_request(expired.id)
    assert kept is not None
    assert [(one.action, one.at) for one in kept.history] == [
        ("requested", expired.created_at),
        ("expired", expired.created_at + timedelta(seconds=10)),
    ]


def test_a_wait_ends_when_its_time_is_over():
    async def main() -> tuple[float, ApprovalStatus]:
        service = ApprovalService()
        request = await service.request_approval("call-7", "mail.send", timeout_seconds=3600)
        with pytest.raises(TimeoutError) as late:
            await service.await_decision(request.id, timeout_seconds=90)
        assert isinstance(late.value, ApprovalExpiredError)
        kept = await service.get_request(request.id)
        assert kept is not None
        return asyncio.get_running_loop().time(), kept.status

    ended, status = run_virtual(main())
    assert (round(ended, 2), status) == (90, ApprovalStatus.EXPIRED)


def test_a_request_can_be_decided_for_a_minute_or_for_ever():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        request = await ApprovalService().request_approval("call-7", "mail.send")
        assert request.expires_at == request.created_at + timedelta(seconds=60)
        service = ApprovalService(None)
        request = await service.request_approval("call-7", "mail.send")
        waiting = asyncio.ensure_future(service.await_decision(request.id))
        await asyncio.sleep(10 * 86_400)
        assert await service.cancel_request(request.id)
        assert (await waiting).status is ApprovalStatus.CANCELLED
        assert loop.time() == pytest.approx(10 * 86_400)

    run_virtual(main())


@pytest.mark.asyncio
async def test_who_waits_may_be_cancelled_and_another_may_wait(service: ApprovalService):
    request = await service.request_approval("call-7", "mail.send")
    waiting = [asyncio.ensure_future(service.await_decision(request.id)) for _ in range(3)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    await service.record_decision(request.id, granted=True)
    assert [(await one).granted for one in waiting[1:]] == [True, True]


@pytest.mark.asyncio
async def test_cleanup_forgets_and_tells_whoever_waits(service: ApprovalService):
    request = await service.request_approval("call-7", "mail.send")
    waiting = asyncio.ensure_future(service.await_decision(request.id))
    await asyncio.sleep(0.01)
    assert await service.cleanup(request.id)
    with pytest.raises(KeyError):
        await waiting
    assert await service.get_request(request.id) is None
    assert not await service.cleanup(request.id)


@pytest.mark.asyncio
async def test_what_has_ended_is_forgotten_in_time(store: ApprovalStore, clock: Clock):
    service = ApprovalService(10, store, retention_seconds=100, spend_within_seconds=50)
    for number in range(8):
        request = await service.request_approval(f"call-{number}", "mail.send")
        if number % 2:
            await service.record_decision(request.id, granted=number % 4 == 1)
    clock.time += 99
    assert await service.purge() == 0
    clock.time += 2  # the two that were denied
    assert await service.purge() == 2
    clock.time += 9  # those that nobody decided about
    assert await service.purge() == 4
    clock.time += 40  # those that nobody spent
    await service.request_approval("call-8", "mail.send")
    assert len(await store.find()) == 1


@pytest.mark.parametrize("unknown", [uuid4(), "call-7", "", None, 7])
@pytest.mark.asyncio
async def test_an_unknown_request_is_a_key_error(service: ApprovalService, unknown: Any):
    for attempt in (
        service.await_decision(unknown),
        service.record_decision(unknown, True),
        service.spend(unknown),
    ):
        with pytest.raises(KeyError) as refused:
            await attempt
        assert isinstance(refused.value, ApprovalNotFoundError)
    assert await service.get_request(unknown) is None
    assert not await service.cancel_request(unknown)


def test_one_service_for_the_process():
    try:
        first = get_approval_service()
        assert get_approval_service() is first
        clear_approval_service()
        assert get_approval_service() is not first
        set_approval_service(first)
        assert get_approval_service() is first
    finally:
        clear_approval_service()


# --- tenants ---------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_tenants_neither_see_nor_decide_each_others_requests(service: ApprovalService):
    request = await service.request_approval("call-7", "mail.send", uuid4(), tenant="acme")
    for other in ("globex", None, "acme/eu", "ACME"):
        assert await service.get_request(request.id, tenant=other) is None
        assert await service.get_pending_requests(tenant=other) == []
        assert await service.get_pending_requests(request.pipeline_run_id, tenant=other) == []
        assert not await service.cancel_request(request.id, tenant=other)
        assert not await service.cleanup(request.id, tenant=other)
        for attempt in (
            service.record_decision(request.id, True, tenant=other),
            service.revoke(request.id, tenant=other),
            service.await_decision(request.id, 0.01, tenant=other),
            service.spend(request.id, tenant=other),
            service.resolve_outcome(request.id, "e", happened=True, tenant=other),
        ):
            with pytest.raises(ApprovalNotFoundError):
                await attempt
    assert await service.get_request(request.id, tenant="acme") == request


# --- spending --------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_approval_is_spent_once_and_keeps_the_result(service: ApprovalService):
    request = await approved(service)
    spending = await service.spend(request.id, tool_name="mail.send", arguments=ARGUMENTS, execution_id="e")
    assert spending.arguments == ARGUMENTS
    with pytest.raises(ApprovalSpentError, match="reserved"):
        await service.spend(request.id, execution_id="e")
    with pytest.raises(ApprovalSpentError, match="no use left"):
        await service.spend(request.id, execution_id="another")
    await spending.done({"sent": 1})
    kept = await service.get_request(request.id)
    assert kept is not None
    assert (kept.status, kept.uses_left) == (ApprovalStatus.SPENT, 0)
    for name in ("e", "another"):
        with pytest.raises(ApprovalSpentError) as refused:
            await service.spend(request.id, execution_id=name)
        execution = refused.value.execution
        assert execution is not None
        assert (execution.state, execution.result, execution.result_kept) == (
            ExecutionState.DONE,
            {"sent": 1},
            True,
        )
    with pytest.raises(ApprovalDecidedError):
        await service.revoke(request.id)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ({"tool_name": "mail.delete"}, "for the tool 'mail.send'"),
        ({"arguments": {"to": "mallory", "urgent": True}}, "other arguments"),
        ({"arguments": {"to": "ada", "urgent": 1}}, "other arguments"),
        ({"arguments": {"to": "ada"}}, "other arguments"),
        ({"arguments": {}}, "other arguments"),
        ({"arguments": {**ARGUMENTS, "cc": None}}, "other arguments"),
    ],
)
@pytest.mark.asyncio
async def test_an_approval_is_bound_to_the_tool_and_its_arguments(
    service: ApprovalService, call: dict[str, Any], problem: str
):
    request = await approved(service)
    with pytest.raises(ApprovalRefusedError, match=problem):
        await service.spend(request.id, **call)
    assert (
        await service.spend(request.id, arguments=dict(reversed(ARGUMENTS.items())))
    ).arguments == ARGUMENTS


@pytest.mark.asyncio
async def test_an_approval_can_be_revoked_and_expires(service: ApprovalService, clock: Clock):
    revoked = await approved(service)
    await service.revoke(revoked.id, revoked_by="grace", reason="changed my mind")
    with pytest.raises(ApprovalRefusedError, match="revoked"):
        await service.spend(revoked.id)
    short = await approved(service, spend_within_seconds=10)
    clock.time += 9
    await (await service.spend(short.id)).release("not yet")
    clock.time += 1
    with pytest.raises(ApprovalRefusedError, match="expired"):
        await service.spend(short.id)
    kept = await service.get_request(short.id)
    assert kept is not None
    assert [one.action for one in kept.history] == [
        "requested",
        "approved",
        "reserved",
        "released",
        "expired",
    ]


@pytest.mark.asyncio
async def test_what_is_being_executed_goes_on_when_its_approval_ends(service: ApprovalService, clock: Clock):
    revoked, expired = await approved(service), await approved(service, spend_within_seconds=10)
    spendings = [await service.spend(one.id) for one in (revoked, expired)]
    await service.revoke(revoked.id)
    clock.time += 10
    for spending, status in zip(spendings, (ApprovalStatus.REVOKED, ApprovalStatus.EXPIRED), strict=True):
        await spending.done("sent")
        kept = await service.get_request(spending.request_id)
        assert kept is not None
        assert (kept.status, kept.executions[0].result) == (status, "sent")


@pytest.mark.asyncio
async def test_what_is_given_back_can_be_had_again(service: ApprovalService):
    request = await approved(service)
    for _ in range(3):
        spending = await service.spend(request.id, execution_id="e")
        await spending.release("the gate has closed")
        with pytest.raises(ExecutionSettledError):
            await spending.done()
    await (await service.spend(request.id, execution_id="e")).done()
    kept = await service.get_request(request.id)
    assert kept is not None
    assert kept.status is ApprovalStatus.SPENT
    assert len(kept.executions) == 1


@pytest.mark.asyncio
async def test_a_block_writes_down_how_it_ended(service: ApprovalService):
    async def kept(spending: Spending) -> tuple[str, str | None]:
        request = await service.get_request(spending.request_id)
        assert request is not None
        return request.executions[0].state.value, request.executions[0].error

    async with await service.spend((await approved(service)).id) as quiet:
        pass
    assert await kept(quiet) == ("done", None)
    with pytest.raises(ValueError, match="bad"):
        async with await service.spend((await approved(service)).id) as broken:
            raise ValueError("bad address")
    assert await kept(broken) == ("done", "ValueError: bad address")
    async with await service.spend((await approved(service)).id) as released:
        await released.release()
    assert await kept(released) == ("released", None)

    begun = asyncio.Event()
    spendings: list[Spending] = []

    async def hang() -> None:
        async with await service.spend((await approved(service)).id) as spending:
            spendings.append(spending)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(hang())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await kept(spendings[0]) == ("done", "cancelled")


@pytest.mark.asyncio
async def test_a_result_that_json_cannot_say_is_not_kept_but_the_execution_is(service: ApprovalService):
    request = await approved(service)
    await (await service.spend(request.id)).done({1, 2})
    kept = await service.get_request(request.id)
    assert kept is not None
    assert kept.status is ApprovalStatus.SPENT
    assert (kept.executions[0].result, kept.executions[0].result_kept) == (None, False)


def test_a_lease_is_renewed_while_the_block_runs_and_runs_out_without():
    async def main() -> None:
        service = ApprovalService(lease_seconds=30)
        alive, dead = await approved(service), await approved(service)
        await service.spend(dead.id, execution_id="dead")
        async with await service.spend(alive.id, execution_id="alive") as spending:
            await asyncio.sleep(29)
            assert await service.get_unknown_outcomes() == []
            await asyncio.sleep(600)
            ((request, execution),) = await service.get_unknown_outcomes()
            assert (request.id, execution.execution_id) == (dead.id, "dead")
            with pytest.raises(ApprovalUnknownError):
                await service.spend(dead.id, execution_id="dead")
            with pytest.raises(ApprovalUnknownError):
                await service.spend(dead.id, execution_id="another")
            with pytest.raises(ExecutionSettledError):
                await service.resolve_outcome(alive.id, "alive", happened=False)
            await spending.done()
        kept = await service.get_request(alive.id)
        assert kept is not None
        assert kept.status is ApprovalStatus.SPENT

    run_virtual(main())


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.asyncio
async def test_an_unknown_outcome_stays_until_somebody_finds_out(
    store: ApprovalStore, clock: Clock, *, happened: bool
):
    service = ApprovalService(store=store, lease_seconds=10, retention_seconds=1)
    request = await approved(service)
    spending = await service.spend(request.id, execution_id="e")
    clock.time += 1_000_000
    assert await service.purge() == 0
    assert not await service.cleanup(request.id)
    ((found, execution),) = await service.get_unknown_outcomes()
    assert (found.id, execution.state) == (request.id, ExecutionState.UNKNOWN)
    await service.resolve_outcome(
        request.id, "e", happened=happened, resolved_by="grace", reason="the log says so"
    )
    assert await service.get_unknown_outcomes() == []
    for late in (spending.done("sent"), spending.renew(), spending.release()):
        with pytest.raises(ExecutionSettledError):
            await late
    with pytest.raises(ExecutionSettledError):
        await service.resolve_outcome(request.id, "e", happened=not happened)
    kept = await service.get_request(request.id)
    assert kept is not None
    assert kept.executions[0].state is (ExecutionState.DONE if happened else ExecutionState.RELEASED)
    resolved = kept.history[-1]
    assert (resolved.action, resolved.by, resolved.reason) == ("resolved", "grace", "the log says so")


@pytest.mark.asyncio
async def test_who_was_taken_for_dead_says_nothing_about_the_next_execution_of_the_same_name(
    service: ApprovalService, clock: Clock
):
    request = await approved(service)
    slow = await service.spend(request.id, execution_id="e")
    clock.time += 61
    await service.resolve_outcome(request.id, "e", happened=False)
    await service.spend(request.id, execution_id="e")
    for late in (slow.done("sent"), slow.renew(), slow.release()):
        with pytest.raises(ExecutionSettledError):
            await late
    clock.time += 61
    assert len(await service.get_unknown_outcomes()) == 1


@pytest.mark.asyncio
async def test_what_is_revoked_is_kept_while_it_is_executed(store: ApprovalStore, clock: Clock):
    service = ApprovalService(store=store, retention_seconds=1)
    request = await approved(service)
    spending = await service.spend(request.id)
    await service.revoke(request.id)
    clock.time += 10_000
    assert await service.purge() == 0
    await spending.done()
    clock.time += 2
    assert await service.purge() == 1


@pytest.mark.asyncio
async def test_a_store_replaces_and_deletes_only_the_version_that_it_is_told(store: ApprovalStore):
    request = await ApprovalService(store=store).request_approval("call-7", "mail.send")
    second = dataclasses.replace(request, version=2)
    assert await store.replace(second)
    assert not await store.replace(second)
    assert not await store.replace(dataclasses.replace(request, version=4))
    assert not await store.delete(request)
    assert await store.get(request.id) == second
    assert await store.delete(second)
    assert not await store.replace(dataclasses.replace(request, version=3))


@pytest.mark.asyncio
async def test_a_decision_through_the_same_file_store_is_heard_at_once(tmp_path: Path):
    async with SqliteApprovalStore(tmp_path / "approvals.db", poll_seconds=3600) as store:
        service = ApprovalService(None, store)
        request = await service.request_approval("call-7", "mail.send")
        waiting = asyncio.ensure_future(service.await_decision(request.id))
        while not len(store._waiters):
            await asyncio.sleep(0)
        await service.record_decision(request.id, granted=True)
        assert (await waiting).granted
        assert not len(store._waiters)


@pytest.mark.asyncio
async def test_a_holder_that_was_only_slow_has_the_last_word(service: ApprovalService, clock: Clock):
    request = await approved(service)
    spending = await service.spend(request.id)
    clock.time += 61
    assert len(await service.get_unknown_outcomes()) == 1
    await spending.renew()
    assert await service.get_unknown_outcomes() == []
    clock.time += 61
    await spending.done("sent")
    assert await service.get_unknown_outcomes() == []


@pytest.mark.asyncio
async def test_who_is_cancelled_while_reserving_has_reserved_nothing(service: ApprovalService):
    for turns in range(12):
        request = await approved(service)
        task = asyncio.ensure_future(service.spend(request.id))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            kept = await service.get_request(request.id)
            assert kept is not None
            assert not kept.has_open_executions
            await (await service.spend(request.id)).done()


@pytest.mark.asyncio
async def test_of_many_who_spend_at_once_as_many_do_as_may(store: ApprovalStore):
    services = [ApprovalService(store=store) for _ in range(3)]
    request = await approved(services[0], scope=ApprovalScope("tenant:acme", max_uses=4), tenant="acme")

    async def spend(number: int) -> bool:
        try:
            spending = await services[number % 3].spend(request.id, tenant="acme")
        except ApprovalSpentError:
            return False
        await spending.done(number)
        return True

    assert sum(await asyncio.gather(*map(spend, range(12)))) == 4
    kept = await services[0].get_request(request.id, tenant="acme")
    assert kept is not None
    assert kept.status is ApprovalStatus.SPENT


@pytest.mark.asyncio
async def test_of_many_who_decide_at_once_one_does_and_the_others_are_told_who(store: ApprovalStore):
    services = [ApprovalService(store=store) for _ in range(2)]
    request = await services[0].request_approval("call-7", "mail.send")
    answers = await asyncio.gather(
        *(
            services[number % 2].record_decision(request.id, number % 3 == 0, f"person-{number}")
            for number in range(10)
        ),
        return_exceptions=True,
    )
    (winner,) = [one for one in answers if isinstance(one, ApprovalDecision)]
    losers = [one for one in answers if isinstance(one, ApprovalDecidedError)]
    assert len(losers) == 9
    assert {one.decided_by for one in losers} == {winner.decided_by}


# --- scopes ----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_scope_of_a_run_covers_the_same_call_in_that_run(service: ApprovalService):
    run = uuid4()
    request = await approved(service, pipeline_run_id=run, scope=ApprovalScope("run", max_uses=2))
    find = service.find_approval
    assert await find("mail.send", ARGUMENTS, run_id=str(run)) == request
    assert await find("mail.send", ARGUMENTS, run_id=uuid4()) is None
    assert await find("mail.send", ARGUMENTS) is None
    assert await find("mail.send", {"to": "mallory", "urgent": True}, run_id=run) is None
    assert await find("mail.delete", ARGUMENTS, run_id=run) is None
    with pytest.raises(ApprovalRefusedError, match="another run"):
        await service.spend(request.id, run_id=uuid4())
    for _ in range(2):
        await (await service.spend(request.id, run_id=run)).done()
    assert await find("mail.send", ARGUMENTS, run_id=run) is None
    with pytest.raises(ApprovalSpentError):
        await service.spend(request.id, run_id=run)


@pytest.mark.asyncio
async def test_a_scope_of_tenants_reaches_what_is_below_and_nothing_else(service: ApprovalService):
    scope = ApprovalScope("tenant:acme/*", max_uses=10)
    request = await approved(service, tenant="acme", scope=scope)
    assert await service.find_approval("mail.send", ARGUMENTS, tenant="acme/eu") == request
    await (await service.spend(request.id, tenant="acme/eu")).done()
    for other in ("acme", "acme/eu/x", "acmex", "globex", None):
        assert await service.find_approval("mail.send", ARGUMENTS, tenant=other) is None
        with pytest.raises((ApprovalNotFoundError, ApprovalRefusedError)):
            await service.spend(request.id, tenant=other)
    assert await service.get_request(request.id, tenant="acme/eu") is None


@pytest.mark.parametrize("of", ["tenant:globex", "tenant:*", "tenant:**", "tenant:acmex/*", "tenant:acm*"])
@pytest.mark.asyncio
async def test_nobody_grants_what_is_not_theirs(service: ApprovalService, of: str):
    scope = ApprovalScope(of, max_uses=2)
    with pytest.raises(ArgumentValueError):
        await service.request_approval("call-7", "mail.send", tenant="acme", scope=scope)
    request = await service.request_approval("call-7", "mail.send", tenant="acme")
    with pytest.raises(ArgumentValueError):
        await service.record_decision(request.id, True, tenant="acme", scope=scope)
    assert await service.get_pending_requests(tenant="acme") == [request]
    nobodys = await service.request_approval("call-7", "mail.send")
    with pytest.raises(ArgumentValueError):
        await service.record_decision(nobodys.id, True, scope=scope)


@pytest.mark.asyncio
async def test_a_scope_may_leave_an_argument_open(service: ApprovalService):
    scope = ApprovalScope("run", max_uses=9, arguments={"to": "*@acme.com"})
    request = await approved(service, pipeline_run_id="run-1", scope=scope)
    spend = service.spend
    for to in ("ada@acme.com", "@acme.com"):
        await spend(request.id, run_id="run-1", arguments={"to": to, "urgent": True})
    for arguments in (
        {"to": "ada@acme.com.evil", "urgent": True},
        {"to": "x/ada@acme.com", "urgent": True},
        {"to": "ada@acme.com", "urgent": False},
        {"to": "ada@acme.com"},
        {"urgent": True},
        {"to": 7, "urgent": True},
        {"to": "ada@acme.com", "urgent": True, "cc": "mallory"},
    ):
        with pytest.raises(ApprovalRefusedError, match="patterns"):
            await spend(request.id, run_id="run-1", arguments=arguments)


@pytest.mark.asyncio
async def test_an_approval_of_one_call_is_found_by_nobody_else(service: ApprovalService):
    await approved(service, pipeline_run_id="run-1")
    assert await service.find_approval("mail.send", ARGUMENTS, run_id="run-1") is None


# --- edits -----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_approver_may_edit_the_arguments(service: ApprovalService):
    request = await service.request_approval("call-7", "mail.send", arguments=ARGUMENTS)
    edited = {"to": "grace", "urgent": False}
    decision = await service.record_decision(request.id, True, "grace", arguments=edited)
    assert (decision.edited, decision.arguments) == (True, edited)
    with pytest.raises(ApprovalRefusedError, match="other arguments"):
        await service.spend(request.id, arguments=ARGUMENTS)
    kept = await service.get_request(request.id)
    assert kept is not None
    assert kept.arguments_hash != request.arguments_hash
    detail = kept.history[-1].detail
    assert (detail["edited_from"], detail["edited_to"]) == (request.arguments_hash, kept.arguments_hash)
    spending = await service.spend(request.id)
    assert spending.arguments == edited
    spending.arguments["to"] = "mallory"
    assert kept.arguments == edited


@pytest.mark.parametrize("edited", [{"to": 7}, {}, {"to": float("nan")}, {"to": "x", 1: 2}, [], "text"])
@pytest.mark.asyncio
async def test_edits_that_do_not_fit_are_refused(service: ApprovalService, edited: Any):
    request = await service.request_approval("call-7", "mail.send", arguments=ARGUMENTS)
    with pytest.raises(ApprovalEditError):
        await service.record_decision(request.id, True, "grace", arguments=edited)
    assert await service.get_pending_requests() == [request]


@pytest.mark.asyncio
async def test_edits_are_checked_by_async_code_too_and_never_by_nobody(store: ApprovalStore):
    async def refuse(tool_name: str, arguments: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        raise ValueError("never")

    for service in (ApprovalService(store=store, validate_arguments=refuse), ApprovalService(store=store)):
        request = await service.request_approval("call-7", "mail.send")
        with pytest.raises(ApprovalEditError):
            await service.record_decision(request.id, True, arguments={})


@pytest.mark.asyncio
async def test_what_a_check_does_to_the_arguments_does_not_count(store: ApprovalStore):
    service = ApprovalService(store=store, validate_arguments=lambda _, arguments: arguments.clear())
    request = await service.request_approval("call-7", "mail.send")
    decision = await service.record_decision(request.id, True, arguments={"to": "ada"})
    assert decision.arguments == {"to": "ada"}


# --- the values ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_nobody_changes_what_is_kept(service: ApprovalService):
    arguments = {"to": ["ada"]}
    request = await service.request_approval("call-7", "mail.send", arguments=arguments)
    arguments["to"].append("mallory")
    request.arguments["to"].append("mallory")
    kept = await service.get_request(request.id)
    assert kept is not None
    assert kept.arguments == {"to": ["ada"]}


@pytest.mark.asyncio
async def test_a_request_survives_being_plain_data(service: ApprovalService):
    request = await approved(
        service,
        tenant="acme",
        pipeline_run_id=uuid4(),
        scope=ApprovalScope("run", max_uses=2, arguments={"to": "**"}),
    )
    await service.spend(request.id, tenant="acme", run_id=request.pipeline_run_id)
    kept = await service.get_request(request.id, tenant="acme")
    assert kept is not None
    assert ApprovalRequest.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept
    assert pickle.loads(pickle.dumps(kept)) == kept
    assert hash(kept.scope) == hash(request.scope)
    pending = ApprovalPending.of(kept)
    assert pending.token == str(kept.id) == pending.to_dict()["token"]


BAD_CALLS: list[tuple[Callable[[Any], Any], type[Exception]]] = [
    (lambda s: s.request_approval(7, "t"), ArgumentTypeError),
    (lambda s: s.request_approval("", "t"), ArgumentValueError),
    (lambda s: s.request_approval("a", ""), ArgumentValueError),
    (lambda s: s.request_approval("a", "t\ud800"), ArgumentValueError),
    (lambda s: s.request_approval("a", "t", tenant=""), ArgumentValueError),
    (lambda s: s.request_approval("a", "t", tenant="a\0b"), ArgumentValueError),
    (lambda s: s.request_approval("a", "t", approval_message=b"x"), ArgumentTypeError),
    (lambda s: s.request_approval("a", "t", arguments={"x": {1}}), ArgumentTypeError),
    (lambda s: s.request_approval("a", "t", arguments=[1]), ArgumentTypeError),
    (lambda s: s.request_approval("a", "t", payload_summary={"x": object()}), ArgumentTypeError),
    (lambda s: s.request_approval("a", "t", timeout_seconds=0), ArgumentValueError),
    (lambda s: s.request_approval("a", "t", timeout_seconds=1e12), ArgumentValueError),
    (lambda s: s.request_approval("a", "t", timeout_seconds="1"), ArgumentTypeError),
    (lambda s: s.request_approval("a", "t", scope="run"), ArgumentTypeError),
    (lambda s: s.record_decision(UUID(int=1), "no"), ArgumentTypeError),
    (lambda s: s.record_decision(UUID(int=1), True, reason=7), ArgumentTypeError),
    (lambda s: s.spend(UUID(int=1), execution_id=""), ArgumentValueError),
    (lambda s: s.spend(UUID(int=1), lease_seconds=-1), ArgumentValueError),
    (lambda s: s.get_pending_requests(tenant="\ud800"), ArgumentValueError),
]


@pytest.mark.asyncio
async def test_arguments_are_checked(service: ApprovalService):
    for call, error in BAD_CALLS:
        with pytest.raises(error):
            await call(service)


def test_options_are_checked():
    for options in (
        {"default_timeout_seconds": 0},
        {"spend_within_seconds": float("nan")},
        {"lease_seconds": None},
        {"retention_seconds": float("inf")},
        {"validate_arguments": 7},
    ):
        with pytest.raises((ArgumentTypeError, ArgumentValueError)):
            ApprovalService(**options)


def test_errors_pickle():
    async def main() -> list[Exception]:
        service = ApprovalService()
        request = await approved(service)
        await service.spend(request.id, execution_id="e")
        answers = await asyncio.gather(
            service.spend(request.id),
            service.record_decision(request.id, True),
            service.record_decision(uuid4(), True),
            service.spend(request.id, tool_name="x"),
            service.record_decision((await service.request_approval("a", "t")).id, True, arguments={}),
            service.resolve_outcome(request.id, "e", happened=True),
            return_exceptions=True,
        )
        return [one for one in answers if isinstance(one, Exception)]

    errors = run_virtual(main())
    assert len({type(one) for one in errors}) == 6
    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_decisions_reach_another_event_loop():
    store = InMemoryApprovalStore()
    asked: list[UUID] = []
    ready = threading.Event()

    async def ask() -> bool:
        service = ApprovalService(store=store)
        request = await service.request_approval("call-7", "mail.send")
        asked.append(request.id)
        ready.set()
        return (await service.await_decision(request.id)).granted

    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(ask())))
    thread.start()
    assert ready.wait(10)
    asyncio.run(decide(store, asked[0]))
    thread.join(10)
    assert answers == [True]


async def decide(store: ApprovalStore, request_id: UUID) -> None:
    await ApprovalService(store=store).record_decision(request_id, granted=True)
