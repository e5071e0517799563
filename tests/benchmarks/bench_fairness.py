"""How long other tasks wait for their turn while a big run does nothing but inline stages.

Beside the run, a task asks for a turn of the event loop again and again, and notes the longest time it had to wait for
one. The first and the last of these waits hold what a run does before its first stage and after its last one. CPU time
is what counts: in wall time, another process may have had the processor.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import subject
from bodies import inline
from program import main
from report import Reading
from workloads import workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measure import Once

RUNS = 7


async def longest_wait(once: Once, clock: Callable[[], int]) -> float:
    """Return the longest wait for a turn of the event loop during one run, in milliseconds."""
    longest = 0
    run = asyncio.ensure_future(once())
    while not run.done():
        start = clock()
        await asyncio.sleep(0)
        longest = max(longest, clock() - start)
    await run
    return longest / 1e6


async def waits(once: Once, runs: int) -> dict[str, list[float]]:
    """Measure some runs in each way, in turns."""
    found: dict[str, list[float]] = {"cpu": [], "gc": [], "wall": []}
    await once()
    for _ in range(runs):
        gc.collect()
        found["gc"].append(await longest_wait(once, time.thread_time_ns))
        gc.collect()
        found["wall"].append(await longest_wait(once, time.perf_counter_ns))
        gc.collect()
        gc.disable()
        found["cpu"].append(await longest_wait(once, time.thread_time_ns))
        gc.enable()
    return found


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    for name in ("chain-10000", "fan-10000", "random-10000"):
        once = subject.default(workload(name).dag, inline)
        for column, found in asyncio.run(waits(once, 1 if quick else RUNS)).items():
            yield Reading(f"fairness.{name}.{column}", found)


if __name__ == "__main__":
    main(readings, __doc__)
