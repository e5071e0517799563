"""Compares two reports: ``make bench-check A=old.json B=new.json``, or one with the bounds alone: ``B=new.json``.

Ends with 1 and names each case if a number of B is worse than that of A by more than 15 %, misses its bound, or has a
bound and was not measured, unless its section was left out for a reason, which is printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cells import read_sections
from report import Report
from table import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cells import Section

SHARE = 0.15


def complaints(sections: list[Section], new: Report, old: Report | None = None) -> Iterator[str]:
    """Name everything that is wrong with *new*."""
    found, before = new.estimates(), old.estimates() if old else {}
    for section in sections:
        for cell in section.cells:
            if cell.context:
                continue
            now, then = found.get(cell.name), before.get(cell.name)
            if now is None:
                if section.name not in new.skipped and (cell.bound is not None or then is not None):
                    yield f"{cell.name} was not measured"
                continue
            if not cell.keeps(now.value, cell.bound):
                yield f"{cell.name} misses its bound: {number(now.value)}, must be {cell.limit()}"
            if then is not None and cell.regression(then.value, now.value, SHARE):
                change = f" ({now.value / then.value - 1:+.0%})" if then.value > 0 else ""
                yield f"{cell.name} has become worse: {number(then.value)} -> {number(now.value)}{change}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "reports", nargs="+", type=Path, metavar="JSON", help="the old report, if any, and the new"
    )
    paths: list[Path] = parser.parse_args().reports
    if len(paths) > 2:
        parser.error("two reports at most: the old one and the new one")
    for path in paths:
        if not path.is_file():
            parser.error(f"there is no {path}; `make bench` writes one")
    *old, new = (Report.read(path) for path in paths)
    for section, reason in new.skipped.items():
        print(f"left out: {section}: {reason}")
    if old and (old[0].about.get("processor"), old[0].about.get("python")) != (
        new.about.get("processor"),
        new.about.get("python"),
    ):
        print("the reports come from different processors or Pythons")
    if any(report.about.get("quick") for report in (*old, new)):
        print("a report was made with --quick: its figures mean nothing")
    found = list(complaints(read_sections(), new, *old))
    print("\n".join(found) if found else "every bound is kept, and nothing is more than 15 % worse")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
