"""Runs every benchmark, prints the tables with bounds and spread, and writes JSON: ``make bench``.

Each part runs in new processes, some of them several times with another hash seed: what one process is lucky with, such
as the layout of its memory, is not taken for a property of the code. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cells import cells_in, read_sections
from program import read_raw
from report import Report, about_this_machine
from table import render, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from report import Reading, Skip

HERE = Path(__file__).parent
PARTS = {
    "kernel": 3,
    "growth": 1,
    "memory": 1,
    "fairness": 1,
    "executors": 1,
    "startup": 1,
    "plugins": 1,
    "tools": 1,
    "events": 1,
    "instructions": 1,
}
"""The programs ``bench_PART.py``, and how many processes each gets."""
LIMIT = 1800  # seconds for one process, on however busy a machine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything here")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--quick", action="store_true", help="few samples: to see that it runs")
    given = parser.parse_args()
    started = time.monotonic()
    report = Report(about=about_this_machine())
    for part in given.only:
        for number in range(1 if given.quick else PARTS[part]):
            say(f"{time.monotonic() - started:4.0f} s  {part} {number + 1} of {PARTS[part]}")
            report.add(measured(part, number, ["--quick"] if given.quick else []))
    report.about["seconds"] = round(time.monotonic() - started)
    report.about["quick"] = given.quick
    sections = read_sections()
    if unknown := report.values.keys() - cells_in(sections).keys():
        sys.exit(f"bounds.toml does not know {', '.join(sorted(unknown))}")
    print(heading(report), render(sections, report), summary(sections, report), sep="\n\n")
    if given.json:
        report.write(given.json)
        say(f"written: {given.json}")


def measured(part: str, seed: int, arguments: Sequence[str]) -> list[Reading | Skip]:
    """Run one part in a process of its own, without the variables that change what Python does."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE_"))}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw.json")
        command = [sys.executable, str(HERE / f"bench_{part}.py"), "--raw", str(raw), *arguments]
        done = subprocess.run(command, env=env | {"PYTHONHASHSEED": str(seed)}, timeout=LIMIT, check=False)
        if done.returncode:
            sys.exit(f"bench_{part}.py ended with {done.returncode}")
        return read_raw(raw)


def heading(report: Report) -> str:
    """Say where the figures come from, and how to read them."""
    about = report.about
    return (
        f"{about['python']} on {about['system']}, {about['cores']} cores, {about['processor'] or 'processor unknown'};"
        f" load {about['load']} before, {about['seconds']} s"
        f"{'; QUICK: the figures mean nothing' if about['quick'] else ''}\n"
        "Each number is a median, in brackets the quartiles; `<=` is its bound, * a moonshot reached."
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
