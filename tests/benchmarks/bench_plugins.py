"""What installed plugins cost: ``stageflow`` with 200 of them, in pairs with ``stageflow`` with none.

Both are new processes of the same environment; the 200 are in a folder of their own, which the other one has empty on
its path. They have been imported once before, so that their bytecode is there.
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from many_plugins import environment, imported, install, stageflow
from measure import Sample, ratios
from program import main
from report import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 200
ROWS = {
    "list": ("plugins", "list"),
    "help": ("--help",),
    "help-all": ("--help-all",),
    "version": ("--version",),
}
TURNS = 15


def cold(command: list[str]) -> Sample:
    """Run a new interpreter to its end."""
    used, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)
    wall, now = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Sample(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, wall)


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    with tempfile.TemporaryDirectory() as name:
        none, many = install(Path(name, "none"), 0), install(Path(name, "many"), COUNT)
        commands = {
            (row, folder): stageflow(folder, *arguments)
            for row, arguments in ROWS.items()
            for folder in (none, many)
        }
        samples: dict[tuple[str, Path], list[Sample]] = {key: [] for key in commands}
        for command in commands.values():  # fill the caches
            cold(command)
        order = list(commands)
        for _ in range(2 if quick else TURNS):
            for key in order:
                samples[key].append(cold(commands[key]))
            order.reverse()
        for row in ROWS:
            base, ours = samples[row, none], samples[row, many]
            yield Reading(f"plugins.{row}.none", [one.wall * 1000 for one in base])
            yield Reading(
                f"plugins.{row}.wall", [one.wall / other.wall for one, other in zip(ours, base, strict=True)]
            )
            yield Reading(f"plugins.{row}.cpu", ratios(ours, base))
        yield Reading("plugin-imports.help.ours", [imported(many, "--help")])
        yield Reading("plugin-imports.version.ours", [imported(many, "--version")])


if __name__ == "__main__":
    main(readings, __doc__)
