"""How many instructions a stage takes, counted by ``valgrind --tool=callgrind``: they repeat where seconds do not.

Each system runs twice under valgrind: once to set up and warm up only, and once to run the graph some times after that.
The difference belongs to the runs. Left out where there is no valgrind.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import subject
from baseline import TaskGroupDag
from bodies import BODIES
from program import main
from report import Reading, Skip
from workloads import workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bodies import Body
    from measure import Once
    from workloads import Dag

CASES = (("chain-1000", "inline"), ("random-1000", "inline"), ("layered-20x50", "suspending"))
SYSTEMS: dict[str, Callable[[Dag, Body], Once]] = {
    "taskgroup": lambda dag, body: TaskGroupDag(dag, body).run,
    "default": subject.default,
    "lean": subject.lean,
}
REPEATS = 3
WARM_UP = 2


async def run(system: str, work: str, body: str, repeats: int) -> None:
    """Do what is counted, in a process of its own."""
    once = SYSTEMS[system](workload(work).dag, BODIES[body])
    for _ in range(WARM_UP + repeats):
        await once()


def collected(system: str, work: str, body: str, repeats: int) -> int:
    """Return the instructions of a whole process."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__]
    done = subprocess.run(
        [*command, "--inside", system, work, body, str(repeats)],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    if found is None:
        msg = f"valgrind says nothing of instructions: {done.stderr[-300:]}"
        raise ValueError(msg)
    return int(found[1])


def readings(quick: bool) -> Iterator[Reading | Skip]:  # noqa: FBT001 - what `main` calls
    if shutil.which("valgrind") is None:
        yield Skip("instructions", "there is no valgrind here")
        return
    repeats = 1 if quick else REPEATS
    jobs = [(name, *case, times) for case in CASES for name in SYSTEMS for times in (0, repeats)]
    # Counts do not depend on what else goes on, so every core may count.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(jobs, pool.map(lambda job: collected(*job), jobs), strict=True))
    for work, body in CASES:
        row, stages = f"instructions.{work}-{body}", workload(work).stages * repeats
        each = {
            name: (counts[name, work, body, repeats] - counts[name, work, body, 0]) / stages
            for name in SYSTEMS
        }
        base = each.pop("taskgroup")
        yield Reading(f"{row}.taskgroup", [base])
        for name, found in each.items():
            yield Reading(f"{row}.{name}", [found / base])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        asyncio.run(run(*sys.argv[2:5], int(sys.argv[5])))
    else:
        main(readings, __doc__)
