"""run_with_interceptors: a call of one's own, inside a chain, by the rules of a run."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

import pytest
import stageflow
from stageflow import (
    BaseInterceptor,
    CancellationToken,
    ContextSnapshot,
    ErrorAction,
    IdempotencyInterceptor,
    Pipeline,
    PipelineContext,
    RetryInterceptor,
    StageKind,
    StageOutput,
    StageResult,
    TimeoutInterceptor,
    run_with_interceptors,
)
from stageflow.context import ArgumentTypeError
from stageflow.errors import CriticalInterceptorError, PipelineValidationError
from stageflow.pipeline import interceptors as published
from stageflow.testing import EventRecorder, create_test_context, leak_check, run_virtual

NOW = PipelineContext.now()


def call(stage_run: Any, *interceptors: BaseInterceptor, ctx: Any = None, name: str = "call") -> StageResult:
    async def main() -> StageResult:
        async with leak_check():
            return await run_with_interceptors(name, stage_run, ctx or PipelineContext(), list(interceptors))

    return run_virtual(main())


def giving(value: Any) -> Any:
    async def stage_run() -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    return stage_run


def test_it_is_where_users_look_for_it():
    assert stageflow.run_with_interceptors is published.run_with_interceptors


@pytest.mark.parametrize(
    ("value", "status", "data", "error"),
    [
        (StageResult("x", "completed", NOW, NOW, {"n": 1}), "completed", {"n": 1}, None),
        (StageResult("x", "failed", NOW, NOW, {"n": 1}, "no"), "failed", {"n": 1}, "no"),
        (StageResult("x", "failed", NOW, NOW), "failed", {}, "Unknown error"),
        (StageResult("x", "skipped", NOW, NOW, {"reason": "r"}), "skipped", {"reason": "r"}, None),
        (StageResult("x", "cancelled", NOW, NOW), "cancelled", {}, None),
        (StageResult.of("x", StageOutput.ok(n=2), NOW, NOW), "completed", {"n": 2}, None),
        (StageOutput.fail("no", {"n": 3}), "failed", {"n": 3}, "no"),
        ({"n": 4}, "completed", {"n": 4}, None),
        (None, "completed", {}, None),
        (ValueError("no"), "failed", {}, "no"),
    ],
    ids=lambda value: None,
)
def test_what_comes_out_of_the_call_is_the_result(
    value: Any, status: str, data: dict[str, int], error: str | None
):
    result = call(giving(value))
    assert (result.name, result.status, result.data, result.error) == ("call", status, data, error)


def test_a_call_that_breaks_its_contract_fails():
    assert "status 'started'" in call(giving(StageResult("x", "started", NOW, NOW))).error
    assert "returned int" in call(giving(3)).error
    assert "stage_run returned int instead of something to await" in call(lambda: 3).error


def test_when_it_began_and_ended():
    result = call(lambda: asyncio.sleep(3))
    assert result.started_at.utcoffset() is not None
    assert result.ended_at >= result.started_at


# --- the rules of a run ----------------------------------------------------------------------------------------------


def test_attempts_are_those_of_a_run():
    attempts: list[int] = []

    class Again(BaseInterceptor):
        name = "again"

        async def on_error(self, stage_name, error, ctx):
            attempts.append(ctx.attempt)
            return ErrorAction.RETRY

    assert call(giving(ValueError("no")), Again()).status == "failed"
    assert attempts == [1, 2, 3]

    calls: list[int] = []

    async def flaky() -> Any:
        calls.append(1)
        if len(calls) < 4:
            raise ConnectionError
        return StageOutput.ok(n=len(calls))

    assert call(flaky, RetryInterceptor(max_attempts=5)).data == {"n": 4}


def test_a_stage_result_that_says_retry_is_tried_again():
    calls: list[int] = []

    async def later() -> StageResult:
        calls.append(1)
        return StageResult("x", "retry" if len(calls) < 3 else "completed", NOW, NOW)

    assert call(later).status == "completed"
    assert len(calls) == 3


@pytest.mark.parametrize("data", [{}, {"_timeout_ms": 50}])
def test_time_limits_hold(data: dict[str, Any]):
    chain = [] if data else [TimeoutInterceptor(timeout_ms=50)]
    result = call(lambda: asyncio.sleep(60), *chain, ctx=PipelineContext(data=data))
    assert (result.status, result.error) == ("failed", "Stage timed out after 50ms")


def test_none_means_the_defaults_and_an_empty_list_none():
    async def main() -> list[float]:
        loop, ended = asyncio.get_running_loop(), []
        for chain in (None, []):
            await run_with_interceptors("call", lambda: asyncio.sleep(100), PipelineContext(), chain)
            ended.append(loop.time())
        return ended

    assert run_virtual(main()) == pytest.approx([30, 130], abs=0.1)


def test_a_guard_that_raises_fails_closed_and_a_critical_error_is_raised():
    class Broken(BaseInterceptor):
        name = "broken"

        def __init__(self, error: Exception) -> None:
            self.error = error

        async def before(self, stage_name, ctx):
            raise self.error

    result = call(giving({}), Broken(LookupError("no such table")))
    assert (result.status, result.error) == ("failed", "no such table")
    critical = CriticalInterceptorError("stop", "broken")
    with pytest.raises(CriticalInterceptorError) as caught:
        call(giving({}), Broken(critical))
    assert caught.value is critical


def test_work_with_a_key_is_done_once():
    calls: list[int] = []

    async def charge() -> dict[str, int]:
        calls.append(1)
        return {"n": len(calls)}

    once = IdempotencyInterceptor()
    for topology, n in (("shop_fast", 1), ("shop_fast", 1), ("other_fast", 2)):
        ctx = PipelineContext(data={"idempotency_key": "k"}, topology=topology)
        assert call(charge, once, ctx=ctx).data == {"n": n}


# --- the context -----------------------------------------------------------------------------------------------------


class Sees(BaseInterceptor):
    name = "sees"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def before(self, stage_name, ctx):
        self.seen = [ctx.kind, ctx.pipeline, ctx.user_id, ctx.data.get("tone")]


def test_interceptors_see_the_context_that_was_given():
    ada = UUID(int=0xADA)
    sees = Sees()
    call(giving({}), sees, ctx=PipelineContext(user_id=ada, topology="chat_fast", data={"tone": "calm"}))
    assert sees.seen == [StageKind.WORK, "chat_fast", ada, "calm"]
    call(giving({}), sees, ctx=ContextSnapshot(topology="chat_fast"))
    assert sees.seen == [StageKind.WORK, "chat_fast", None, None]
    call(giving({}), sees, ctx=create_test_context(user_id=ada))
    assert sees.seen[2:] == [ada, None]


def test_within_a_stage_it_is_that_stage():
    sees, sink = Sees(), EventRecorder()

    async def agent(ctx):
        result = await run_with_interceptors("call", giving({"n": 1}), ctx, [sees])
        return dict(result.data)

    pipeline = Pipeline("chat").with_stage("agent", agent, StageKind.AGENT)
    results = run_virtual(pipeline.run(data={"tone": "calm"}, sink=sink))
    assert results["agent"].data == {"n": 1}
    assert sees.seen == [StageKind.AGENT, "chat", None, "calm"]
    # There is one pipeline, and the events say so.
    sink.assert_paired(stages=["agent", "call"], end="completed")
    assert sink.types == [
        "pipeline.started",
        "stage.agent.started",
        "stage.call.started",
        "stage.call.completed",
        "stage.agent.completed",
        "pipeline.completed",
    ]


def test_events_go_to_the_sink_of_the_context():
    sink = EventRecorder()
    call(giving(StageOutput.ok()), ctx=PipelineContext(event_sink=sink))
    assert sink.types == ["stage.call.started", "stage.call.completed"]


def test_a_cancelled_context_is_a_cancelled_result():
    ran: list[int] = []

    async def stage_run() -> None:
        ran.append(1)

    ctx = PipelineContext()
    ctx.mark_canceled()
    result = call(stage_run, ctx=ctx)
    assert (result.status, result.data["cancel_reason"]) == (
        "cancelled",
        "the context was marked as cancelled",
    )
    assert ran == []


def test_it_ends_with_the_run_it_is_part_of():
    token = CancellationToken()

    async def agent(ctx):
        async def stage_run():
            token.cancel("enough")
            await asyncio.Event().wait()

        await run_with_interceptors("call", stage_run, ctx, [])

    async def main():
        async with leak_check():
            pipeline = Pipeline().with_stage("agent", agent, StageKind.AGENT)
            return await pipeline.run(cancel_token=token, raise_errors=False)

    assert run_virtual(main()).error.reason == "enough"


def test_who_is_cancelled_meanwhile_is_cancelled():
    async def main():
        async with leak_check():
            work = run_with_interceptors("call", lambda: asyncio.sleep(60), PipelineContext(), [])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(work, 1)

    run_virtual(main())


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ArgumentTypeError, match="stage_run"):
        call(3)
    with pytest.raises(PipelineValidationError):
        call(giving({}), name="")


def test_a_sink_that_does_nothing_costs_nothing(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "stageflow.events")
    assert call(giving({"n": 1})).data == {"n": 1}
    assert not caplog.records
