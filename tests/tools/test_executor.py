"""One executor: every step of a call, in its order, told once; whatever says no keeps the tool from running."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from stageflow import (
    Effect,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    RetryPolicy,
    StageContext,
    StageExecutionError,
    StageKind,
    StageOutput,
)
from stageflow.errors import CircuitBreakerOpenError, RunTimeoutError
from stageflow.interceptors import InMemoryIdempotencyStore
from stageflow.interceptors.idempotency import IdempotencyParamMismatch
from stageflow.observability.breaker import LocalCircuitBreaker
from stageflow.testing import EventRecorder, run_virtual
from stageflow_tools import (
    FunctionTool,
    InMemoryUndoStore,
    ToolArgumentsError,
    ToolCall,
    ToolContext,
    ToolDefinition,
    ToolDeniedError,
    ToolError,
    ToolExecutionError,
    ToolExecutor,
    ToolExecutorConfig,
    ToolInput,
    ToolNotFoundError,
    ToolOutput,
    ToolOutputError,
    ToolRegistry,
    tool,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NONE = Effect.NONE


@tool(effect=NONE)
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


class Ran:
    """What came of calls in a stage of a run."""

    def __init__(self, calls: Callable[[StageContext], Any], **how: Any) -> None:
        self.events = EventRecorder()
        self.value: Any = None
        self.error: BaseException | None = None

        async def stage(ctx: StageContext) -> StageOutput:
            try:
                self.value = await calls(ctx)
            except Exception as exc:
                self.error = exc
            return StageOutput.ok()

        mode = how.pop("failure_mode", FailureMode.FAIL_FAST)
        pipeline = Pipeline("p").with_stage("agent", stage, StageKind.AGENT)
        for more in how.pop("stages", ()):
            pipeline = pipeline.with_stage(*more[:3], **more[3])
        self.results = run_virtual(
            pipeline.build(failure_mode=mode).run(sink=self.events, raise_errors=False, **how)
        )

    @property
    def told(self) -> list[str]:
        return [event.type for event in self.events if event.type.startswith(("tool.", "approval."))]

    def data(self, type: str) -> dict[str, Any]:
        (event,) = [event for event in self.events if event.type == type]
        return event.data


def executor(*tools: Any, **options: Any) -> ToolExecutor:
    return ToolExecutor(registry=ToolRegistry(*tools), **options)


def once(tools: ToolExecutor, name: str, **arguments: Any) -> Callable[[StageContext], Any]:
    return lambda ctx: tools.execute(ToolCall(name, arguments, "call-1"), ctx)


def test_every_step_is_told_with_the_call_and_the_stage():
    ran = Ran(once(executor(add), "add", a=41))
    assert ran.value == ToolOutput.ok({"result": 42})
    assert ran.told == ["tool.invoked", "tool.started", "tool.completed"]
    told = ran.data("tool.completed")
    assert (told["call_id"], told["tool"], told["action_type"], told["stage"]) == (
        "call-1",
        "add",
        "add",
        "agent",
    )
    assert told["duration_ms"] >= 0
    assert told["pipeline_run_id"] == str(ran.results.run_id)


def test_a_tool_that_nobody_has():
    ran = Ran(once(executor(add), "ad"))
    assert isinstance(ran.error, ToolNotFoundError)
    assert ran.error.fix == "Did you mean 'add'?"
    assert ran.told == []


@pytest.mark.parametrize("arguments", [{}, {"a": "x"}, {"a": 1, "c": 2}])
def test_arguments_that_do_not_fit_are_told_and_nothing_runs(arguments):
    ran = Ran(once(executor(add), "add", **arguments))
    assert isinstance(ran.error, ToolArgumentsError)
    assert ran.told == ["tool.invoked", "tool.failed"]
    assert ran.data("tool.failed")["error_code"] == "invalid_arguments"


def test_arguments_are_checked_against_a_schema_written_by_hand():
    async def handler(call: ToolInput) -> ToolOutput:
        call.payload["tags"].append("changed")
        return ToolOutput.ok({"tags": call.payload["tags"]})

    schema = {
        "type": "object",
        "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["tags"],
        "additionalProperties": False,
    }
    tools = executor(ToolDefinition("label", "LABEL", handler, input_schema=schema, effect=NONE))
    given = ["a"]
    ran = Ran(lambda ctx: tools.execute(ToolCall("LABEL", {"tags": given}), ctx))
    assert ran.value.data == {"tags": ["a", "changed"]}
    assert given == ["a"], "a tool gets a copy"
    ran = Ran(once(tools, "label", tags=["a", 1], more=2))
    assert sorted(ran.error.problems) == ["arguments", "tags.1"]
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert isinstance(Ran(once(tools, "label", tags=cyclic)).error, ToolArgumentsError)


def test_a_tool_is_called_only_in_the_modes_that_it_allows():
    ran_in: list[str | None] = []

    @tool(effect=NONE, allowed_behaviors=("practice",))
    async def grade(ctx: ToolContext) -> None:
        ran_in.append(ctx.execution.execution_mode)

    async def both(mode: str) -> Any:
        return await executor(grade).execute(ToolCall("grade"), {"execution_mode": mode})

    asyncio.run(both("practice"))
    with pytest.raises(
        ToolDeniedError, match="may not be called in the mode 'exam', only in 'practice'"
    ) as caught:
        asyncio.run(both("exam"))
    assert caught.value.reason == "behavior_not_allowed"
    assert ran_in == ["practice"]


class Allows:
    def __init__(self, *permissions: str) -> None:
        self.permissions = permissions
        self.asked: list[tuple[str, str]] = []

    async def allows(self, permission: str, ctx: Any, *, resource: str) -> bool:
        self.asked.append((permission, resource))
        return permission in self.permissions


def test_permissions_are_asked_for_and_nobody_to_ask_means_no():
    @tool(effect=NONE, permissions=("mail.read", "mail.send"))
    async def mail() -> str:
        return "sent"

    check = Allows("mail.read", "mail.send")
    assert Ran(once(executor(mail, permissions=check), "mail")).value.data == {"result": "sent"}
    assert check.asked == [("mail.read", "tool:mail"), ("mail.send", "tool:mail")]
    ran = Ran(once(executor(mail, permissions=Allows("mail.read")), "mail"))
    assert (ran.error.reason, ran.told) == ("permission_denied", ["tool.invoked", "tool.denied"])
    assert Ran(once(executor(mail), "mail")).error.fix.startswith("Give the executor a PermissionCheck")


# --- effects and gates ----------------------------------------------------------------------------------------------


def guarded(verdict: StageOutput, seconds: float = 10) -> dict[str, Any]:
    async def guard(ctx: StageContext) -> StageOutput:
        await asyncio.sleep(seconds)
        return verdict

    return {"stages": [("guard", guard, StageKind.GUARD, {"gates_effects": True})]}


@pytest.mark.parametrize(("effect", "at"), [(NONE, 0), (Effect.IDEMPOTENT, 10), (Effect.IRREVERSIBLE, 10)])
def test_a_call_waits_for_the_gate_unless_it_is_pure(effect, at):
    began: list[float] = []

    @tool(effect=effect)
    async def act() -> None:
        began.append(asyncio.get_running_loop().time())

    ran = Ran(once(executor(act), "act"), **guarded(StageOutput.ok()))
    assert began == [at]
    assert ran.told == ["tool.invoked", "tool.started", "tool.completed"]


def test_a_closed_gate_drops_the_call_and_says_so():
    @tool(effect=Effect.IRREVERSIBLE)
    async def act() -> None:
        pytest.fail("the gate is closed")

    ran = Ran(
        once(executor(act), "act"),
        failure_mode=FailureMode.CONTINUE_ON_FAILURE,
        **guarded(StageOutput.fail("no")),
    )
    assert isinstance(ran.error, ToolDeniedError)
    assert ran.told == ["tool.invoked", "tool.denied"]
    assert ran.data("tool.denied")["reason"] == "gate_closed"


# --- the work -------------------------------------------------------------------------------------------------------


def test_a_call_over_its_limit_has_failed():
    @tool(effect=NONE, timeout=5)
    async def slow() -> None:
        await asyncio.sleep(100)

    ran = Ran(once(executor(slow), "slow"))
    assert isinstance(ran.error, ToolExecutionError)
    assert ran.error.what == "It did not end within 5 s"
    assert ran.data("tool.failed")["error_code"] == "TimeoutError"


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(3), TimeoutError("its own")])
def test_what_a_tool_raises_is_the_cause(raised):
    @tool(effect=NONE, timeout=5)
    async def breaks() -> None:
        raise raised

    ran = Ran(once(executor(breaks), "breaks"))
    assert isinstance(ran.error, ToolExecutionError)
    assert ran.error.cause is raised
    assert ran.error.__cause__ is raised
    assert ran.told == ["tool.invoked", "tool.started", "tool.failed"]
    assert ran.data("tool.failed")["error_code"] == type(raised).__name__


def test_a_tool_that_says_that_it_failed_has_failed():
    @tool(effect=NONE)
    async def lookup() -> ToolOutput:
        return ToolOutput.fail("not found")

    ran = Ran(once(executor(lookup), "lookup"))
    assert (ran.value.success, ran.value.error) == (False, "not found")
    assert ran.told == ["tool.invoked", "tool.started", "tool.failed"]


@pytest.mark.parametrize(
    ("effect", "attempts"),
    [(NONE, 3), (Effect.IDEMPOTENT, 3), (Effect.REVERSIBLE, 3), (Effect.IRREVERSIBLE, 1)],
)
def test_a_call_is_attempted_again_unless_that_is_dangerous(effect, attempts):
    made: list[int] = []

    @tool(effect=effect, retry=RetryPolicy(3, base_delay=1, jitter=False))
    async def flaky(ctx: ToolContext) -> str:
        made.append(ctx.attempt)
        raise ConnectionError("no answer")

    ran = Ran(once(executor(flaky), "flaky"))
    assert made == list(range(1, attempts + 1))
    assert ran.told.count("tool.retrying") == attempts - 1
    assert isinstance(ran.error.cause, ConnectionError)


@pytest.mark.parametrize("value", [object(), {"at": {1, 2}}, float("nan")])
def test_what_json_cannot_say_is_no_output(value):
    @tool(effect=NONE)
    async def odd() -> Any:
        return value

    ran = Ran(once(executor(odd), "odd"))
    assert isinstance(ran.error, ToolOutputError)
    assert ran.told[-1] == "tool.failed"


def test_an_output_that_is_too_large_or_of_another_type_is_refused():
    @tool(effect=NONE, max_output_bytes=1000)
    async def large() -> str:
        return "x" * 2000

    ran = Ran(once(executor(large), "large"))
    assert ran.error.what == "It returned 2,014 bytes, and may return 1,000"

    @tool(effect=NONE)
    async def lies() -> int:
        return "text"  # type: ignore[return-value]

    assert "It returned something else than it says" in Ran(once(executor(lies), "lies")).error.what


def test_parallel_calls_run_in_parallel_and_come_back_in_order():
    at_work: list[int] = []
    most: list[int] = []

    @tool(effect=NONE, max_concurrency=4)
    async def work(n: int) -> int:
        at_work.append(n)
        most.append(len(at_work))
        await asyncio.sleep(1 - n / 100)
        at_work.remove(n)
        if n == 3:
            raise ValueError("three")
        return n

    tools = executor(work, config=ToolExecutorConfig(max_parallel=100))
    calls = [ToolCall("work", {"n": n}) for n in range(20)]
    ran = Ran(lambda ctx: tools.execute_all(calls, ctx))
    assert max(most) == 4
    assert [one.data["result"] if isinstance(one, ToolOutput) else type(one) for one in ran.value] == [
        ToolExecutionError if n == 3 else n for n in range(20)
    ]
    assert len({event.data["call_id"] for event in ran.events if event.type == "tool.started"}) == 20


def test_cancelling_the_run_cancels_the_tool():
    ended: list[str] = []

    @tool(effect=NONE)
    async def waits() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("waits")

    ran = Ran(once(executor(waits), "waits"), timeout=5)
    assert isinstance(ran.results.error, RunTimeoutError)
    assert ended == ["waits"]
    assert ran.told == ["tool.invoked", "tool.started", "tool.failed"]
    assert ran.data("tool.failed")["error_code"] == "cancelled"


def test_progress_artifacts_and_context():
    @tool(effect=NONE)
    async def draw(ctx: ToolContext) -> dict[str, Any]:
        ctx.progress("half", fraction=0.5, rows=3)
        ctx.add_artifact(type="picture", name="a.svg")
        return {"call": ctx.call_id, "run": str(ctx.execution.pipeline_run_id)}

    ran = Ran(once(executor(draw), "draw"))
    assert ran.value.artifacts == [{"type": "picture", "name": "a.svg"}]
    assert ran.value.data == {"call": "call-1", "run": str(ran.results.run_id)}
    told = ran.data("tool.progress")
    assert (told["message"], told["fraction"], told["rows"], told["tool"]) == ("half", 0.5, 3, "draw")


def test_a_breaker_that_has_opened_refuses_the_next_call():
    made: list[int] = []

    @tool(effect=NONE)
    async def breaks() -> None:
        made.append(1)
        raise ConnectionError("down")

    tools = executor(breaks, breaker=LocalCircuitBreaker(failure_threshold=2, recovery_timeout=100))

    async def calls(ctx: StageContext) -> list[type]:
        kinds: list[type] = []
        for _ in range(3):
            try:
                await tools.execute(ToolCall("breaks"), ctx)
            except (ToolError, CircuitBreakerOpenError) as exc:
                kinds.append(type(exc))
        return kinds

    ran = Ran(calls)
    assert ran.value == [ToolExecutionError, ToolExecutionError, CircuitBreakerOpenError]
    assert len(made) == 2
    assert ran.told[-2:] == ["tool.invoked", "tool.denied"]
    assert ran.data("tool.denied")["reason"] == "circuit_open"


# --- once -----------------------------------------------------------------------------------------------------------


def test_the_same_call_is_made_once():
    made: list[int] = []

    @tool(effect=Effect.IRREVERSIBLE)
    async def pay(amount: int) -> int:
        made.append(amount)
        await asyncio.sleep(1)
        return amount

    tools = executor(pay, idempotency_store=InMemoryIdempotencyStore())

    async def twice(ctx: StageContext) -> list[Any]:
        both = await asyncio.gather(
            *(tools.execute(ToolCall("pay", {"amount": 3}, "c"), ctx) for _ in range(2))
        )
        try:
            await tools.execute(ToolCall("pay", {"amount": 4}, "c"), ctx)
        except IdempotencyParamMismatch as exc:
            both.append(exc)
        return both

    ran = Ran(twice)
    assert made == [3]
    assert [one.data for one in ran.value[:2]] == [{"result": 3}] * 2
    assert isinstance(ran.value[2], IdempotencyParamMismatch)
    assert (
        sum(bool(event.data.get("replayed")) for event in ran.events if event.type == "tool.completed") == 1
    )


def test_a_stage_error_of_a_tool_keeps_its_code():
    async def act(ctx: StageContext) -> Any:
        return (await executor(add).execute(ToolCall("add", {"a": "x"}), ctx)).data

    with pytest.raises(StageExecutionError) as caught:
        asyncio.run(Pipeline().with_stage("s", act, StageKind.WORK).run())
    assert isinstance(caught.value.original, ToolArgumentsError)
    assert not isinstance(caught.value, PipelineCancelled)


class Unwritable(InMemoryUndoStore):
    """Cannot write anything down."""

    async def store(self, *_: Any, **__: Any) -> Any:
        raise OSError("no space left")


def test_a_call_has_one_end_also_if_what_undoing_takes_cannot_be_written_down():
    @tool(undo=nothing)
    async def act(ctx: ToolContext) -> str:
        ctx.keep_for_undo(name="vase")
        return "done"

    ran = Ran(once(executor(act, undo_store=Unwritable()), "act"))
    assert isinstance(ran.error, OSError)
    assert ran.told == ["tool.invoked", "tool.started", "tool.failed"]


async def nothing(undo_metadata: Any) -> None:
    pass


def test_what_undoing_takes_is_written_down_to_the_end_though_the_run_is_cancelled():
    class Slow(InMemoryUndoStore):
        async def store(self, *given: Any, **more: Any) -> Any:
            await asyncio.sleep(3)
            return await super().store(*given, **more)

    @tool(undo=nothing)
    async def act(ctx: ToolContext) -> str:
        ctx.keep_for_undo(name="vase")
        return "done"

    store = Slow()
    ran = Ran(once(executor(act, undo_store=store), "act"), timeout=1)
    assert isinstance(ran.results.error, RunTimeoutError)
    assert len(store) == 1


def test_one_call_takes_no_other_with_it_whatever_it_raises():
    @tool(effect=NONE)
    async def slow() -> str:
        await asyncio.sleep(5)
        return "done"

    @tool(effect=NONE, permissions=("p",))
    async def guarded() -> None: ...

    class Breaks:
        async def allows(self, permission: str, ctx: Any, *, resource: str) -> bool:
            raise OSError("the directory is away")

    tools = executor(slow, guarded, permissions=Breaks(), breaker=LocalCircuitBreaker(failure_threshold=1))
    for _ in range(1):
        tools.breaker.acquire("tool", "broken").fail("at first")
    tools.register(FunctionTool(slow.function, name="broken", effect=NONE))
    calls = [ToolCall("slow"), ToolCall("guarded"), ToolCall("broken"), ToolCall("nobody")]
    ran = Ran(lambda ctx: tools.execute_all(calls, ctx))
    assert [type(one) for one in ran.value] == [
        ToolOutput,
        OSError,
        CircuitBreakerOpenError,
        ToolNotFoundError,
    ]


def test_artifacts_are_of_the_type_that_the_tool_says():
    async def handler(call: ToolInput) -> ToolOutput:
        return ToolOutput.ok({}, artifacts=[{"name": "a"}, {"name": "b", "type": "map"}])

    tools = executor(ToolDefinition("draw", "DRAW", handler, artifact_type="chart", effect=NONE))
    artifacts = Ran(once(tools, "draw")).value.artifacts
    assert artifacts == [{"type": "chart", "name": "a"}, {"type": "map", "name": "b"}]


def test_failures_are_logged_at_the_level_that_the_config_says(caplog):
    tools = executor(add, config=ToolExecutorConfig(log_level=logging.ERROR, emit_events=False))
    with caplog.at_level(logging.DEBUG, "stageflow.tools"):
        ran = Ran(once(tools, "add", a="x"))
        Ran(once(tools, "add", a=1))
    assert ran.told == []
    (record,) = [one for one in caplog.records if one.name == "stageflow.tools"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("Call call-1 of tool 'add': The arguments do not fit")
