"""What a benchmark found: every sample of every cell, on which machine, and what could not be measured and why."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Estimate, estimate

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """What one process found for one cell."""

    cell: str
    values: list[float]


@dataclass(frozen=True, slots=True)
class Skip:
    """Why nothing was found for a section."""

    section: str
    reason: str


@dataclass(slots=True)
class Report:
    """The cells with all their values, from any number of processes."""

    values: dict[str, list[float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, found: Iterable[Reading | Skip]) -> None:
        """Take in what one process found."""
        for one in found:
            if isinstance(one, Skip):
                self.skipped[one.section] = one.reason
            else:
                self.values.setdefault(one.cell, []).extend(one.values)

    def estimates(self) -> dict[str, Estimate]:
        """Return the median and the quartiles of every cell."""
        return {cell: estimate(values) for cell, values in self.values.items()}

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        cells = {cell: one._asdict() for cell, one in self.estimates().items()}
        whole = {
            "format": FORMAT,
            "about": self.about,
            "skipped": self.skipped,
            "cells": cells,
            "values": self.values,
        }
        path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read what ``write`` has written."""
        whole = json.loads(path.read_text("utf-8"))
        if whole.get("format") != FORMAT:
            msg = f"{path} has format {whole.get('format')!r}, this program reads {FORMAT}"
            raise ValueError(msg)
        return cls(whole["values"], whole["skipped"], whole["about"])


def about_this_machine() -> dict[str, Any]:
    """Say what figures depend on: the interpreter, the processor, and how busy it is."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
