"""Whether cost stays linear: the time per stage of 100,000 stages, as a ratio to that of 1,000.

Everything is done with the cyclic garbage collector on, and once more with it off: with it on, Python itself goes over
all that is alive again and again. There the DAG by hand is measured in the same turns. A turn does the small graph ten
times.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import subject
from baseline import TaskGroupDag
from bodies import inline
from measure import in_turns, ratios
from program import main
from report import Reading
from workloads import workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measure import Once
    from workloads import Dag

SMALL, BIG = 1_000, 100_000
OFTEN = 10  # how many times the small graph is done in one turn
TURNS = 2

Sizes = dict[int, "Once"]
"""The same work on graphs of two sizes."""


def dags(family: str, big: int) -> dict[int, Dag]:
    """Return the small and the big graph, by size; a fan has a stage more at either end."""
    return {size: workload(f"{family}-{size}").dag for size in (SMALL, big)}


def growths(row: str, systems: dict[str, Sizes], turns: int) -> Iterator[Reading]:
    """Measure a row with the collector and without."""
    asyncio.run(in_turns(by_name(systems), turns=1, repeats=dict.fromkeys(by_name(systems), 1)))  # warm up
    yield from _growths(row, systems, turns)
    with without_gc():
        yield from _growths(f"{row}-without-gc", {"ours": systems["ours"]}, turns)


def _growths(row: str, systems: dict[str, Sizes], turns: int) -> Iterator[Reading]:
    often = {f"{name} {size}": OFTEN if size == SMALL else 1 for name in systems for size in systems[name]}
    samples = asyncio.run(in_turns(by_name(systems), turns=turns, repeats=often))
    for name, sizes in systems.items():
        small, big = sorted(sizes)
        more = ratios(samples[f"{name} {big}"], samples[f"{name} {small}"])
        yield Reading(f"growth.{row}.{name}", [ratio * small / big for ratio in more])


def by_name(systems: dict[str, Sizes]) -> dict[str, Once]:
    """Name every system in every size."""
    return {f"{name} {size}": once for name, sizes in systems.items() for size, once in sizes.items()}


def running(family: str, big: int) -> dict[str, Sizes]:
    """Run graphs that have been built before."""
    graphs = dags(family, big)
    return {
        "ours": {size: subject.default(dag, inline) for size, dag in graphs.items()},
        "taskgroup": {size: TaskGroupDag(dag, inline).run for size, dag in graphs.items()},
    }


def describing(family: str, big: int) -> dict[str, Sizes]:
    """Add stage after stage to a ``Pipeline``."""
    graphs = dags(family, big)
    return {"ours": {size: awaitable(partial(subject.describe, dag, inline)) for size, dag in graphs.items()}}


def building(family: str, big: int) -> dict[str, Sizes]:
    """Check and compile a pipeline that has been described before."""
    graphs = dags(family, big)
    return {"ours": {size: awaitable(subject.describe(dag, inline).build) for size, dag in graphs.items()}}


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    big, turns = (4 * SMALL, 1) if quick else (BIG, TURNS)
    for family in ("chain", "fan", "random"):
        yield from growths(f"run-{family}", running(family, big), turns)
    yield from growths("describe-random", describing("random", big), turns)
    yield from growths("build-random", building("random", big), turns)


def awaitable(work: Callable[[], object]) -> Once:
    """Make a plain function a piece of work that can be awaited."""

    async def once() -> object:
        return work()

    return once


@contextmanager
def without_gc() -> Iterator[None]:
    """Switch the cyclic garbage collector off."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


if __name__ == "__main__":
    main(readings, __doc__)
