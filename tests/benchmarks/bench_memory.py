"""What a run keeps in memory at its peak, by ``tracemalloc``, for each stage of a fan of 10,000.

The graph is built, and a small one has run, before counting begins: what is counted is the run. In the second row all
stages of the fan wait for one ``asyncio.Event``, which the last of them to arrive sets. The third row is what the first
run left behind, after its results are gone and the collector has been through.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING

import subject
from baseline import TaskGroupDag
from bodies import inline
from program import main
from report import Reading
from workloads import fan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bodies import Body
    from measure import Once
    from workloads import Dag

WIDTH = 10_000
REPEATS = 3

SYSTEMS: dict[str, Callable[[Dag, Body], Once]] = {
    "ours": subject.default,
    "taskgroup": lambda dag, body: TaskGroupDag(dag, body).run,
}


class Gate:
    """A body whose stages in the middle of a fan wait for each other, so that all are suspended at once."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.arrived = 0
        self.open = asyncio.Event()

    async def __call__(self, name: str) -> dict[str, int]:
        if name.startswith("m"):
            self.arrived += 1
            if self.arrived == self.width:
                # Not at once: the last one is to be suspended, too.
                asyncio.get_running_loop().call_soon(self.open.set)
            await self.open.wait()
        return {"value": 1}


async def peak(once: Once) -> tuple[int, int]:
    """Return the bytes that one piece of work takes at its peak, and those it leaves behind."""
    gc.collect()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    await once()
    highest = tracemalloc.get_traced_memory()[1]
    gc.collect()
    return highest - before, tracemalloc.get_traced_memory()[0] - before


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    width = 500 if quick else WIDTH
    dag = fan(width)
    tracemalloc.start()
    for name, prepare in SYSTEMS.items():
        small, once = prepare(fan(10), inline), prepare(dag, inline)

        async def inline_runs(small: Once = small, once: Once = once) -> list[tuple[int, int]]:
            await small()
            await once()  # what a graph keeps from its first run on is the graph's
            return [await peak(once) for _ in range(REPEATS)]

        async def suspended_runs(prepare: Callable[[Dag, Body], Once] = prepare) -> list[tuple[int, int]]:
            found = []
            for _ in range(REPEATS):
                small, once = prepare(fan(10), Gate(10)), prepare(dag, Gate(width))
                await small()
                found.append(await peak(once))
            return found

        at_once, suspended = asyncio.run(inline_runs()), asyncio.run(suspended_runs())
        kilobytes = len(dag) * 1024
        yield Reading(f"memory.peak-inline.{name}", [most / kilobytes for most, _ in at_once])
        yield Reading(
            f"memory.peak-while-all-are-suspended.{name}", [most / kilobytes for most, _ in suspended]
        )
        yield Reading(f"memory.kept-after-the-run.{name}", [left / kilobytes for _, left in at_once])


if __name__ == "__main__":
    main(readings, __doc__)
