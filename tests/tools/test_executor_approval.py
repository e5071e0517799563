"""Approvals and undo, by way of the executor: asked before, spent once, undone once, in whichever process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import date  # noqa: TC003 - the tool's annotation is read at run time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from stageflow import Effect, Pipeline, PipelineContext, StageContext, StageKind, StageOutput
from stageflow.errors import RunTimeoutError
from stageflow.stages.part import Part
from stageflow.testing import EventRecorder, run_virtual
from stageflow_tools import (
    ApprovalService,
    ApprovalStatus,
    SqliteApprovalStore,
    ToolApprovalDeniedError,
    ToolApprovalPendingError,
    ToolApprovalTimeoutError,
    ToolArgumentsError,
    ToolCall,
    ToolContext,
    ToolExecutor,
    ToolExecutorConfig,
    ToolOutput,
    ToolRegistry,
    ToolUndoError,
    tool,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

made: list[tuple[str, int]] = []


@pytest.fixture(autouse=True)
def nothing_made():
    made.clear()


@tool(requires_approval=True, approval_message="Pay?")
async def pay(to: str, amount: int) -> str:
    """Pay somebody."""
    made.append((to, amount))
    return f"paid {amount}"


class Ran:
    """A stage that calls a tool, and somebody who decides meanwhile."""

    def __init__(
        self,
        tools: ToolExecutor,
        decide: Callable[[ToolExecutor, Any], Any] | None = None,
        *,
        call: ToolCall | None = None,
        approval: Any = None,
        org_id: UUID | None = None,
        **how: Any,
    ) -> None:
        self.events = EventRecorder()
        self.value: ToolOutput | None = None
        self.error: BaseException | None = None

        async def stage(ctx: StageContext) -> StageOutput:
            action = call or ToolCall("pay", {"to": "ada", "amount": 3}, "call-1")
            try:
                self.value = await tools.execute(action, ctx, approval=approval)
            except Exception as exc:
                self.error = exc
            return StageOutput.ok()

        async def main() -> Any:
            context = PipelineContext(pipeline_run_id=uuid4(), org_id=org_id)
            pipeline = Pipeline("p").with_stage("agent", stage, StageKind.AGENT, timeout=1_000)
            run = asyncio.ensure_future(pipeline.run(context, sink=self.events, raise_errors=False, **how))
            if decide is not None:
                await asyncio.sleep(5)
                tenant = None if org_id is None else str(org_id)
                for request in await tools.approvals.get_pending_requests(tenant=tenant):
                    await decide(tools, request)
            return await run

        self.results = run_virtual(main())

    @property
    def told(self) -> list[str]:
        return [event.type for event in self.events if event.type.startswith(("tool.", "approval."))]

    def data(self, type: str) -> dict[str, Any]:
        (event,) = [event for event in self.events if event.type == type]
        return event.data


def deciding(*, granted: bool, **more: Any) -> Callable[[ToolExecutor, Any], Any]:
    async def decide(tools: ToolExecutor, request: Any) -> None:
        assert request.approval_message == "Pay?"
        assert request.arguments == {"to": "ada", "amount": 3}
        await tools.approvals.record_decision(request.id, granted, "grace", tenant=request.tenant, **more)

    return decide


def executor(*tools: Any, **options: Any) -> ToolExecutor:
    return ToolExecutor(registry=ToolRegistry(*(tools or (pay,))), **options)


def test_a_call_waits_for_its_approval_and_the_wait_is_in_the_timeline():
    ran = Ran(executor(), deciding(granted=True, reason="she asked for it"))
    assert ran.value == ToolOutput.ok({"result": "paid 3"})
    assert made == [("ada", 3)]
    assert ran.told == [
        "tool.invoked",
        "approval.requested",
        "approval.decided",
        "tool.started",
        "tool.completed",
    ]
    decided = ran.data("approval.decided")
    assert (decided["decision"], decided["decided_by"], decided["reason"]) == (
        "approved",
        "grace",
        "she asked for it",
    )
    assert ran.data("approval.requested")["message"] == "Pay?"
    assert Part.APPROVAL in ran.results.timeline["agent"].totals


def test_a_denied_call_is_not_made():
    ran = Ran(executor(), deciding(granted=False, reason="too much"))
    assert isinstance(ran.error, ToolApprovalDeniedError)
    assert (ran.error.reason, ran.error.decided_by) == ("too much", "grace")
    assert (made, ran.told[-2:]) == ([], ["approval.decided", "tool.denied"])


def test_nobody_decides_in_time():
    tools = executor(config=ToolExecutorConfig(approval_timeout_seconds=20))
    ran = Ran(tools)
    assert isinstance(ran.error, ToolApprovalTimeoutError)
    assert isinstance(ran.error, TimeoutError)
    assert (made, ran.data("approval.decided")["decision"], ran.told[-1]) == ([], "expired", "tool.denied")
    assert run_virtual(tools.approvals.get_pending_requests()) == []


def test_a_cancelled_call_takes_its_request_back():
    tools = executor()
    ran = Ran(tools, timeout=10)
    assert isinstance(ran.results.error, RunTimeoutError)
    assert (made, run_virtual(tools.approvals.get_pending_requests())) == ([], [])


def test_the_approver_may_edit_arguments_and_they_are_checked():
    ran = Ran(executor(), deciding(granted=True, arguments={"to": "ada", "amount": 2}))
    assert ran.value.data == {"result": "paid 2"}
    assert made == [("ada", 2)]

    async def wrong(tools: ToolExecutor, request: Any) -> None:
        with pytest.raises(ValueError, match="amount"):
            await tools.approvals.record_decision(
                request.id, True, "grace", arguments={"to": "ada", "amount": "much"}
            )
        await tools.approvals.record_decision(request.id, False, "grace")

    assert isinstance(Ran(executor(), wrong).error, ToolApprovalDeniedError)


def test_arguments_that_do_not_fit_are_nobodys_question():
    ran = Ran(executor(), call=ToolCall("pay", {"to": "ada"}, "call-1"))
    assert isinstance(ran.error, ToolArgumentsError)
    assert ran.told == ["tool.invoked", "tool.failed"]


def test_tenants_do_not_see_each_others_requests():
    mine, theirs = uuid4(), uuid4()

    async def decide(tools: ToolExecutor, request: Any) -> None:
        assert await tools.approvals.get_pending_requests(tenant=str(theirs)) == []
        assert await tools.approvals.get_pending_requests() == []
        await tools.approvals.record_decision(request.id, True, "grace", tenant=str(mine))

    assert Ran(executor(), decide, org_id=mine).value.data == {"result": "paid 3"}


def test_a_call_may_be_suspended_and_made_again_with_the_token():
    tools = executor(config=ToolExecutorConfig(suspend_for_approval=True))
    ran = Ran(tools)
    assert isinstance(ran.error, ToolApprovalPendingError)
    pending = ran.error.pending
    assert (ran.data("tool.denied")["reason"], ran.error.to_dict()["pending"]["token"]) == (
        "approval_pending",
        str(pending.token),
    )
    assert isinstance(Ran(tools, approval=pending.token).error, ToolApprovalPendingError)
    run_virtual(tools.approvals.record_decision(pending.token, True, "grace"))
    assert Ran(tools, approval=pending.token).value.data == {"result": "paid 3"}
    again = Ran(tools, approval=pending.token)
    assert again.value.data == {"result": "paid 3"}, "the same call has the result of the first"
    assert again.data("tool.completed")["replayed"]
    assert made == [("ada", 3)]
    other = Ran(tools, approval=pending.token, call=ToolCall("pay", {"to": "ada", "amount": 3}, "call-2"))
    assert type(other.error).__name__ == "ApprovalSpentError"
    assert made == [("ada", 3)]


def test_an_approval_that_was_taken_back_is_none():
    tools = executor(config=ToolExecutorConfig(suspend_for_approval=True))
    token = Ran(tools).error.pending.token
    run_virtual(tools.approvals.record_decision(token, True, "grace"))
    run_virtual(tools.approvals.revoke(token, revoked_by="grace"))
    ran = Ran(tools, approval=token)
    assert isinstance(ran.error, ToolApprovalDeniedError)
    assert ran.error.reason == "revoked"
    assert made == []


def test_what_the_tool_makes_of_its_arguments_need_not_be_written_down():
    @tool(requires_approval=True)
    async def book(day: date) -> str:
        return f"{day:%d %B}"

    async def decide(tools: ToolExecutor, request: Any) -> None:
        assert request.arguments == {"day": "2026-03-01"}
        await tools.approvals.record_decision(request.id, True, "grace")

    ran = Ran(executor(book), decide, call=ToolCall("book", {"day": "2026-03-01"}))
    assert ran.value.data == {"result": "01 March"}


def test_an_approval_is_none_for_other_arguments():
    tools = executor(config=ToolExecutorConfig(suspend_for_approval=True))
    token = Ran(tools).error.pending.token
    run_virtual(tools.approvals.record_decision(token, True, "grace"))
    more = Ran(tools, approval=token, call=ToolCall("pay", {"to": "ada", "amount": 300}, "call-1"))
    assert type(more.error).__name__ == "ApprovalRefusedError"
    assert (made, more.told[-1]) == ([], "tool.denied")
    assert Ran(tools, approval=token).value.data == {"result": "paid 3"}


# --- undo -----------------------------------------------------------------------------------------------------------

shelf: dict[str, str] = {}


async def put_back(undo_metadata: Any) -> None:
    if undo_metadata["name"] == "glued":
        raise OSError("it does not come off")
    shelf.pop(undo_metadata["name"])


@tool(undo=put_back)
async def place(name: str, ctx: ToolContext, then: str = "") -> None:
    """Put something on the shelf."""
    ctx.keep_for_undo(name=name)
    shelf[name] = ctx.call_id
    if then:
        raise ValueError(then)


def placing(tools: ToolExecutor, *names: str, **arguments: Any) -> tuple[EventRecorder, UUID]:
    events = EventRecorder()

    async def stage(ctx: StageContext) -> StageOutput:
        calls = [ToolCall("place", {"name": name, **arguments}, f"call-{name}") for name in names]
        for call in calls:
            await tools.execute_all([call], ctx)
        return StageOutput.ok()

    pipeline = Pipeline().with_stage("agent", stage, StageKind.AGENT, effect=Effect.REVERSIBLE)
    return events, run_virtual(pipeline.run(sink=events)).run_id


@pytest.mark.parametrize("then", ["", "it broke afterwards"])
def test_a_call_is_undone_once_also_one_that_failed(then):
    shelf.clear()
    tools = executor(place)
    events, _ = placing(tools, "vase", then=then)
    assert list(shelf) == ["vase"]
    (receipt,) = [event for event in events if event.type == "effect.receipt"]
    assert receipt.data["receipt"]["action_id"] == "call-vase"
    assert "name" not in receipt.data["receipt"], "what undoing takes is the store's, and nobody else's"
    order = [
        event.type for event in events if event.type in {"effect.receipt", "tool.completed", "tool.failed"}
    ]
    assert order[0] == "effect.receipt", "it is on record before the call counts as done"
    assert run_virtual(tools.undo_action("call-vase"))
    assert shelf == {}
    assert run_virtual(tools.undo_action("call-vase")), "it is undone"
    assert not run_virtual(tools.undo_action("call-other"))


def test_a_run_is_undone_in_reverse_and_past_what_fails():
    shelf.clear()
    tools = executor(place)
    _, run_id = placing(tools, "first", "glued", "last")
    report = run_virtual(tools.undo_run(run_id))
    assert [one.action_id for one in report.results] == ["call-last", "call-glued", "call-first"]
    assert [one.action_id for one in report.not_undone] == ["call-glued"]
    assert list(shelf) == ["glued"]
    with pytest.raises(ToolUndoError, match="undo handler raised OSError"):
        run_virtual(tools.undo_action("call-glued"))


# --- across processes -----------------------------------------------------------------------------------------------

PROCESS = """
import asyncio, sys
from pathlib import Path
from stageflow_tools import (
    ApprovalService, SqliteApprovalStore, SqliteUndoStore, ToolApprovalPendingError, ToolCall, ToolContext,
    ToolExecutor, ToolExecutorConfig, ToolRegistry, tool,
)

folder, what = Path(sys.argv[1]), sys.argv[2]


async def take_back(undo_metadata):
    with (folder / "undone").open("a") as file:
        file.write(undo_metadata["amount"])


@tool(requires_approval=True, undo=take_back)
async def pay(amount: str, ctx: ToolContext) -> str:
    ctx.keep_for_undo(amount=amount)
    with (folder / "paid").open("a") as file:
        file.write(amount)
    return f"paid {amount}"


async def main():
    async with SqliteApprovalStore(folder / "a.db") as store, SqliteUndoStore(folder / "u.db") as undo:
        tools = ToolExecutor(
            ToolExecutorConfig(approval_timeout_seconds=600, suspend_for_approval=what == "suspends"),
            undo, ApprovalService(600, store), registry=ToolRegistry(pay),
        )
        call = ToolCall("pay", {"amount": "7"}, "call-1")
        if what == "waits":
            await tools.execute(call)
        elif what == "suspends":
            try:
                await tools.execute(call)
            except ToolApprovalPendingError as exc:
                print(exc.pending.token, flush=True)
        elif what == "resumes":
            print((await tools.execute(call, approval=sys.argv[3])).data, flush=True)
        else:
            print(await tools.undo_action("call-1"), flush=True)


asyncio.run(main())
"""


def process(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-c", PROCESS, str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=15).stdout.strip()


def decide_in(folder: Path) -> str:
    """List and approve, as an operator does, in this process."""

    async def decide() -> str:
        async with SqliteApprovalStore(folder / "a.db") as store:
            service = ApprovalService(store=store)
            for _ in range(1_000):
                if found := await service.get_pending_requests():
                    break
                await asyncio.sleep(0.01)
            (request,) = found
            await service.record_decision(request.id, True, "grace")
            return str(request.id)

    return asyncio.run(decide())


def test_a_asks_and_is_killed_b_approves_c_resumes_and_it_is_done_once(tmp_path):
    waiting = subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), "waits"])
    try:
        for _ in range(1_500):  # until it has asked
            if _asked(tmp_path):
                break
            signal.sigtimedwait([], 0.01)
    finally:
        os.kill(waiting.pid, signal.SIGKILL)
        waiting.wait()
    token = decide_in(tmp_path)
    assert not (tmp_path / "paid").exists()
    assert process(tmp_path, "resumes", token) == "{'result': 'paid 7'}"
    assert process(tmp_path, "resumes", token) == "{'result': 'paid 7'}"
    assert (tmp_path / "paid").read_text() == "7", "the tool ran exactly once"
    assert process(tmp_path, "undoes") == "True"
    assert process(tmp_path, "undoes") == "True"
    assert (tmp_path / "undone").read_text() == "7", "it was undone exactly once"


def test_suspended_in_one_process_resumed_in_another(tmp_path):
    token = process(tmp_path, "suspends")
    assert decide_in(tmp_path) == token
    assert process(tmp_path, "resumes", token) == "{'result': 'paid 7'}"


def _asked(folder: Path) -> bool:
    async def look() -> bool:
        async with SqliteApprovalStore(folder / "a.db") as store:
            return bool(await store.find(tenants=(None,), statuses=(ApprovalStatus.PENDING,)))

    return (folder / "a.db").exists() and asyncio.run(look())
