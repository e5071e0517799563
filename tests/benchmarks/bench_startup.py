"""What starting costs: new processes, in pairs with one that does the same with asyncio and dataclasses by hand.

``programs/ten_stages.py`` imports ``Pipeline``, builds ten stages and runs them once. Both programs run isolated
(``-I``), so that neither variables nor the current folder decide what they import, and from caches of bytecode.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Sample, ratios
from program import main
from report import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).with_name("programs")
BY_HAND = [str(PROGRAMS / "ten_stages_by_hand.py")]
TEN_STAGES = [str(PROGRAMS / "ten_stages.py")]
ROWS = {
    "pipeline-of-ten": TEN_STAGES,
    "import-pipeline": ["-c", "from stageflow import Pipeline"],
    "import-stageflow": ["-c", "import stageflow"],
}
TURNS = 25
NOT_IMPORTED = ("pydantic", "structlog", "pluggy", "importlib.metadata", "importlib_metadata")


def cold(arguments: list[str]) -> Sample:
    """Run a new interpreter to its end."""
    used, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-I", *arguments], check=True)
    wall, now = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Sample(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, wall)


def not_wanted() -> list[str]:
    """Name what the program with ten stages imports although it may not."""
    program = f"import runpy, sys; runpy.run_path({TEN_STAGES[0]!r}); print(*sys.modules)"
    bare = "import runpy, sys; print(*sys.modules)"
    modules = [
        subprocess.run(
            [sys.executable, "-I", "-c", one], capture_output=True, text=True, check=True
        ).stdout.split()
        for one in (program, bare)
    ]
    return sorted({*modules[0]}.difference(modules[1]).intersection(NOT_IMPORTED))


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    commands = {"by-hand": BY_HAND, **ROWS}
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for command in commands.values():  # fill the caches
        cold(command)
    order = list(commands)
    for _ in range(2 if quick else TURNS):
        for name in order:
            samples[name].append(cold(commands[name]))
        order.reverse()
    base = samples["by-hand"]
    yield Reading("startup.by-hand.ms", [one.wall * 1000 for one in base])
    for name in ROWS:
        pairs = zip(samples[name], base, strict=True)
        yield Reading(f"startup.{name}.wall", [one.wall / other.wall for one, other in pairs])
        yield Reading(f"startup.{name}.cpu", ratios(samples[name], base))
    yield Reading("imports.pipeline-of-ten.ours", [len(not_wanted())])


if __name__ == "__main__":
    main(readings, __doc__)
