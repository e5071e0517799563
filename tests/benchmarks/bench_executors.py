"""How long the event loop is held up while a stage keeps a processor busy elsewhere, and what a call costs.

Beside the run, a task sleeps for a millisecond again and again, and notes how much later it woke: the 99th percentile
of that is the lag. The same without a run (``idle``) shows what the machine adds, and with the body in a thread what a
process is for.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from executor_bodies import BODIES, nothing
from program import main
from report import Reading
from stageflow import Pipeline, StageKind
from stageflow.executors import ProcessExecutor, ThreadExecutor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from stageflow import StageGraph

RUNS = 5
CALLS = 300
NAP_S = 0.001


def graph_of(body: Callable[..., Awaitable[object]], executor: Any) -> StageGraph:
    return Pipeline().with_stage("work", body, StageKind.TRANSFORM, executor=executor).build(interceptors=[])


async def lag_during(work: Awaitable[object]) -> float:
    """Return the 99th percentile of how late a task wakes while *work* goes on, in milliseconds."""
    late: list[float] = []
    running = asyncio.ensure_future(work)
    while not running.done():
        planned = time.perf_counter() + NAP_S
        await asyncio.sleep(NAP_S)
        late.append(time.perf_counter() - planned)
    await running
    return sorted(late)[int(len(late) * 0.99)] * 1000


async def microseconds(graph: StageGraph, calls: int) -> float:
    """Return how long one run takes, one after the other."""
    began = time.perf_counter()
    for _ in range(calls):
        await graph.run()
    return (time.perf_counter() - began) / calls * 1e6


async def measured(runs: int, calls: int) -> list[Reading]:
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    async with AsyncExitStack() as stack:
        executors = {
            "process": await stack.enter_async_context(ProcessExecutor(1)),
            "thread": await stack.enter_async_context(ThreadExecutor(1)),
        }
        for executor in executors.values():
            await graph_of(nothing, executor).run()  # starts what it needs
        for _ in range(runs):
            for column, executor in executors.items():
                for row, body in BODIES.items():
                    note(f"executors.{row}.{column}", await lag_during(graph_of(body, executor).run()))
                note(f"calls.nothing.{column}", await microseconds(graph_of(nothing, executor), calls))
            note("calls.nothing.inline", await microseconds(graph_of(nothing, None), calls))
            for row in BODIES:
                note(f"executors.{row}.idle", await lag_during(asyncio.sleep(0.5)))
    return [Reading(name, values) for name, values in found.items()]


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    yield from asyncio.run(measured(1 if quick else RUNS, 20 if quick else CALLS))


if __name__ == "__main__":
    main(readings, __doc__)
