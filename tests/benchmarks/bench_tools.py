"""What the executor of tools adds to a call, beside a bare function whose arguments pydantic checks, in the same stage.

Both are awaited one after the other in the running stage of a run; with a sink, the run has a counting one. And 1,000
calls at once of a tool that runs 10 at a time: how many ran at the same time at most.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from program import main
from pydantic import validate_call
from report import Reading
from stageflow import Effect, Pipeline, StageKind
from stageflow_tools import ToolCall, ToolExecutor, ToolExecutorConfig, ToolRegistry, tool
from subject import CountingSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from stageflow import StageContext

RUNS = 7
CALLS = 3_000
LIMIT = 10
PARALLEL = 1_000


@validate_call
async def bare(a: int, b: int = 1) -> int:
    return a + b


@tool(effect=Effect.NONE)
async def add(a: int, b: int = 1) -> int:
    return a + b


at_work = 0
most = 0


@tool(effect=Effect.NONE, max_concurrency=LIMIT)
async def work() -> None:
    global at_work, most  # noqa: PLW0603 - what is counted
    at_work += 1
    most = max(most, at_work)
    await asyncio.sleep(0)
    at_work -= 1


async def nanoseconds(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    began = time.process_time_ns()
    for _ in range(calls):
        await call()
    return (time.process_time_ns() - began) / calls


def ratios(runs: int, calls: int, sink: CountingSink | None) -> list[tuple[float, float]]:
    """Return the ratio of each run, and how long the bare call takes, in microseconds."""
    tools = ToolExecutor(registry=ToolRegistry(add))
    found: list[tuple[float, float]] = []

    async def stage(ctx: StageContext) -> None:
        call = ToolCall("add", {"a": 1, "b": 2}, "call_1")
        for number in range(runs + 1):
            by_hand = await nanoseconds(lambda: bare(a=1, b=2), calls)
            executed = await nanoseconds(lambda: tools.execute(call, ctx), calls)
            if number:  # the first one warms up
                found.append((executed / by_hand, by_hand / 1e3))

    pipeline = Pipeline().with_stage("calls", stage, StageKind.AGENT, timeout=600)
    asyncio.run(pipeline.run(sink=sink))
    return found


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    runs, calls = (2, 50) if quick else (RUNS, CALLS)
    alone, heard = ratios(runs, calls, None), ratios(runs, calls, CountingSink())
    yield Reading("tools.call.ours", [ratio for ratio, _ in alone])
    yield Reading("tools.call.sink", [ratio for ratio, _ in heard])
    yield Reading("tools.call.bare", [taken for _, taken in alone])
    tools = ToolExecutor(ToolExecutorConfig(max_parallel=PARALLEL), registry=ToolRegistry(work))
    asyncio.run(tools.execute_all([ToolCall("work") for _ in range(PARALLEL)]))
    yield Reading("tool-limit.thousand-at-once.ours", [float(most)])


if __name__ == "__main__":
    main(readings, __doc__)
