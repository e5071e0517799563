"""Bodies that a worker process can import, for ``bench_executors.py``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stageflow import StageContext

__all__ = ["BODIES", "burns_cpu", "holds_the_gil", "nothing"]

SECONDS = 1.0


async def burns_cpu(_: StageContext) -> None:
    """Run Python code, of which other threads get a part."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        sum(range(1000))


async def holds_the_gil(_: StageContext) -> None:
    """Call C code that lets no other thread run for some hundredths of a second at a time."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        7**400_000  # noqa: B018 - what it takes is all that is wanted of it


async def nothing(_: StageContext) -> None:
    """Do nothing."""


BODIES = {"burns-cpu": burns_cpu, "holds-the-gil": holds_the_gil}
