"""Faults happen where they were asked for, and nowhere else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stageflow import Pipeline, StageExecutionError, StageKind, StageOutput, stage, use
from stageflow.context import ArgumentValueError
from stageflow.testing import EventRecorder, fault, leak_check, run_stage, run_virtual

WORK = StageKind.TRANSFORM


class Steps:
    """Suspends three times, and says how far it came."""

    name = "steps"
    kind = WORK

    def __init__(self) -> None:
        self.reached: list[Any] = []

    async def execute(self, ctx: Any) -> dict[str, Any]:
        for number in range(1, 4):
            try:
                await asyncio.sleep(0)
            except Exception as exc:
                self.reached.append(type(exc))
                raise
            self.reached.append(number)
        return {"reached": len(self.reached)}


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_raises_at_the_nth_await(at: int) -> None:
    steps = Steps()
    broken = fault(steps, at=at, raises=ConnectionError("reset"))
    with pytest.raises(ConnectionError, match="reset"):
        asyncio.run(run_stage(broken))
    # What the stage awaited there raised: the stage itself got the error, unless it had not begun.
    assert steps.reached == [*range(1, at), *([ConnectionError] if at else [])]
    assert (broken.injected, broken.suspensions) == (1, at)


def test_a_point_that_is_never_reached() -> None:
    broken = fault(Steps(), at=4, raises=ConnectionError)
    assert asyncio.run(run_stage(broken)).data == {"reached": 3}
    assert (broken.injected, broken.suspensions) == (0, 3)


def test_times() -> None:
    broken = fault(Steps(), at=1, raises=ConnectionError, times=2)
    assert asyncio.run(run_stage(broken, attempts=3)).data == {"reached": 5}
    assert broken.injected == 2


def test_delay() -> None:
    async def main() -> float:
        await run_stage(fault(Steps(), at=2, delay=25))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 25


def test_hangs_until_cancelled() -> None:
    steps = Steps()
    broken = fault(steps, at=2, hangs=True)

    async def main() -> None:
        async with leak_check():
            with pytest.raises(TimeoutError):
                await run_stage(broken, timeout=5)

    run_virtual(main())
    assert steps.reached == [1]


def test_cancels_the_stage() -> None:
    events = EventRecorder()
    pipeline = Pipeline().with_stage("steps", fault(Steps(), at=2, cancels=True), WORK)
    with pytest.raises(StageExecutionError):
        asyncio.run(pipeline.run(sink=events))
    events.assert_paired(stages=["steps"], end="failed")


@pytest.mark.parametrize("target", [Steps, Steps().execute, Steps()], ids=["class", "callable", "instance"])
def test_whatever_is_a_stage(target: Any) -> None:
    broken = fault(target, at=1, raises=OSError)
    assert broken.name in {"Steps", "execute", "steps"}
    with pytest.raises(OSError, match=r"^$"):
        asyncio.run(run_stage(broken))


def test_something_awaitable_that_is_no_coroutine() -> None:
    def body(ctx: Any) -> asyncio.Future[dict[str, int]]:
        future: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, {"n": 1})
        return future

    assert asyncio.run(run_stage(fault(body, at=5))).data == {"n": 1}


@stage
async def greet() -> str:
    await asyncio.sleep(0)
    return "hi"


@stage
async def shout(greeting: str = use(greet)) -> str:
    await asyncio.sleep(0)
    return greeting.upper()


def test_a_typed_stage_keeps_what_it_uses() -> None:
    broken = fault(shout, at=1, delay=1)
    results = run_virtual(Pipeline.from_stages(greet, broken).run())  # type: ignore[arg-type]
    assert results.value(shout) == "HI"
    assert broken.injected == 1


def test_an_untyped_stage_has_a_spec_too() -> None:
    spec = fault(Steps()).spec()
    assert (spec.name, spec.kind, spec.dependencies) == ("steps", WORK, ())


def test_closing_the_run_closes_the_stage() -> None:
    closed = []

    async def body(ctx: Any) -> StageOutput:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)
        return StageOutput.ok()

    step = fault(body, at=9).execute(None)  # type: ignore[arg-type]
    step.send(None)
    step.close()
    assert closed == [True]


def test_a_negative_point_is_refused() -> None:
    with pytest.raises(ArgumentValueError):
        fault(Steps(), at=-1)
