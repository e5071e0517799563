"""What the programs of the benchmarks share: one of them measures in its own process, and can be run by itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from cells import read_sections
from report import Reading, Report, Skip
from table import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Readings = Callable[[bool], Iterable[Reading | Skip]]


def main(readings: Readings, description: str | None) -> None:
    """Measure, then print the tables; or, for ``bench.py``, write the samples into a file."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few samples: to see that it runs")
    parser.add_argument(
        "--raw", type=Path, metavar="FILE", help="write the samples instead of printing tables"
    )
    given = parser.parse_args()
    found = list(readings(given.quick))
    if given.raw:
        write_raw(given.raw, found)
        return
    report = Report()
    report.add(found)
    print(render(read_sections(), report))


def write_raw(path: Path, found: Iterable[Reading | Skip]) -> None:
    """Write what one process found."""
    path.write_text(
        json.dumps(
            [[one.section, one.reason] if isinstance(one, Skip) else [one.cell, one.values] for one in found]
        ),
        "utf-8",
    )


def read_raw(path: Path) -> list[Reading | Skip]:
    """Read what ``write_raw`` has written."""
    return [
        Skip(name, value) if isinstance(value, str) else Reading(name, value)
        for name, value in json.loads(path.read_text("utf-8"))
    ]
