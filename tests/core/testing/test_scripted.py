"""Stages that do as they are told, and remember."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stageflow import Pipeline, RetryPolicy, StageExecutionError, StageKind, StageOutput, StageStatus
from stageflow.testing import (
    FailingStage,
    HangingStage,
    ScriptedStage,
    SlowStage,
    create_test_context,
    delayed,
    run_stage,
    run_virtual,
)

WORK = StageKind.TRANSFORM


def test_one_outcome_after_another_and_the_last_again() -> None:
    stage = ScriptedStage({"n": 1}, StageOutput.skip("no"), None, ValueError("bad"), KeyError, {"n": 6})
    pipeline = Pipeline().with_stage("s", stage, WORK)

    async def main() -> list[Any]:
        return [await pipeline.run(raise_errors=False) for _ in range(7)]

    results = asyncio.run(main())
    assert [one["s"].status.value for one in results] == ["ok", "skip", "ok", "fail", "fail", "ok", "ok"]
    assert [one["s"].data.get("n") for one in results] == [1, None, None, None, None, 6, 6]
    assert stage.ends == ["returned"] * 3 + ["raised"] * 2 + ["returned"] * 2
    assert repr(stage) == "<ScriptedStage 'scripted': 7 calls>"


def test_values_and_functions() -> None:
    async def later(ctx: Any) -> Any:
        return delayed(1, {"attempt": ctx.attempt})

    stage = ScriptedStage(7, "text", lambda ctx: {"text": ctx.input_text}, later)

    async def main() -> list[StageOutput]:
        return [await run_stage(stage, "hi") for _ in range(4)]

    outputs = run_virtual(main())
    assert [outputs[0].value, outputs[1].value] == [7, "text"]
    assert [dict(one.data) for one in outputs] == [
        {"value": 7},
        {"value": "text"},
        {"text": "hi"},
        {"attempt": 1},
    ]


def test_calls_remember_what_the_stage_saw() -> None:
    stage = ScriptedStage(delayed(2, {}), name="own", kind=WORK)
    output = run_virtual(run_stage(stage, "hi", prior_outputs={"greet": {"text": "Hello"}}))
    assert output.status is StageStatus.OK
    (call,) = stage.calls
    assert (call.attempt, call.input_text, call.started, call.ended, call.end) == (1, "hi", 0, 2, "returned")
    assert call.inputs["greet"].data == {"text": "Hello"}
    assert (call.ctx.stage_name, call.ctx.kind) == ("own", WORK)


def test_a_call_that_has_not_ended() -> None:
    stage = HangingStage()

    async def main() -> str:
        task = asyncio.create_task(stage.execute(create_test_context()))
        await asyncio.sleep(0)
        shown = repr(stage.calls[0])
        assert (stage.calls[0].end, stage.calls[0].ended) == (None, None)
        task.cancel()
        await asyncio.wait([task])
        return shown

    assert asyncio.run(main()) == "<StageCall attempt=1 running>"
    assert stage.ends == ["cancelled"]


def test_failing_and_then_not() -> None:
    policy = RetryPolicy(3, base_delay=0, retry_on=(RuntimeError,))
    stage = FailingStage("twice", times=2, then={"n": 3})
    results = asyncio.run(Pipeline().with_stage("f", stage, WORK, retry=policy).run())
    assert results["f"].data == {"n": 3}
    assert [call.attempt for call in stage.calls] == [1, 2, 3]


def test_failing_always() -> None:
    stage = FailingStage(ZeroDivisionError, times=None)
    for _ in range(3):
        with pytest.raises(StageExecutionError) as caught:
            asyncio.run(Pipeline().with_stage("f", stage, WORK).run())
        assert isinstance(caught.value.original, ZeroDivisionError)


def test_slow() -> None:
    stage = SlowStage(5, {"n": 1})
    with pytest.raises(TimeoutError):
        run_virtual(run_stage(stage, timeout=4))
    assert run_virtual(run_stage(stage, timeout=6)).data == {"n": 1}
    assert stage.ends == ["cancelled", "returned"]
