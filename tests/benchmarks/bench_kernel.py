"""What a stage costs: every graph of the issue's table, next to the same graph on ``asyncio.TaskGroup``.

One turn measures the DAG by hand, bare Tasks, and Stageflow with its default chain and with none, in one process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import subject
from baseline import BareTasks, TaskGroupDag
from bodies import BODIES
from measure import at_once, differences, in_turns, ratios
from program import main
from report import Reading
from workloads import workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bodies import Body
    from measure import Once
    from workloads import Dag, Workload

TURNS = 9
SECONDS = 0.02

SINGLE = {
    "inline": ("chain-100", "chain-1000", "fan-1000", "random-1000", "layered-20x50"),
    "suspending": ("chain-100", "chain-1000", "random-1000", "layered-20x50", "fan-1000"),
}
CONCURRENT = (100, 1000)
INTERCEPTED = ("chain-1000", "random-1000")


def systems(dag: Dag, body: Body) -> dict[str, Once]:
    """Return what is compared on every graph; the baseline is first."""
    return {
        "taskgroup": TaskGroupDag(dag, body).run,
        "tasks": BareTasks(dag, body).run,
        "default": subject.default(dag, body),
        "lean": subject.lean(dag, body),
    }


def costs(row: str, work: Workload, body: Body, turns: int, seconds: float) -> Iterator[Reading]:
    """Measure one row of a table."""
    taken = {name: at_once(once, work.runs) for name, once in systems(work.dag, body).items()}
    samples = asyncio.run(in_turns(taken, turns=turns, seconds=seconds))
    base = samples.pop("taskgroup")
    yield Reading(f"{row}.taskgroup", [one.cpu / work.stages * 1e6 for one in base])
    for name, found in samples.items():
        yield Reading(f"{row}.{name}", ratios(found, base))


def additions(row: str, dag: Dag, body: Body, turns: int, seconds: float) -> Iterator[Reading]:
    """Measure what one more interceptor adds to each chain, and what a sink adds where nobody listens."""
    one_more, another = subject.BeforeAndAfter(), subject.BeforeAndAfter()
    taken = {
        "taskgroup": TaskGroupDag(dag, body).run,
        "default": subject.default(dag, body),
        "default+1": subject.default(dag, body, one_more),
        "lean": subject.lean(dag, body),
        "lean+1": subject.lean(dag, body, one_more),
        "lean+2": subject.lean(dag, body, one_more, another),
        "lean+sink": subject.observed_lean(dag, body),
    }
    samples = asyncio.run(in_turns(taken, turns=turns, seconds=seconds))
    base = samples.pop("taskgroup")
    ratio = {name: ratios(found, base) for name, found in samples.items()}
    yield Reading(f"{row}.default", differences(ratio["default+1"], ratio["default"]))
    yield Reading(f"{row}.lean", differences(ratio["lean+1"], ratio["lean"]))
    yield Reading(f"{row}.further", differences(ratio["lean+2"], ratio["lean+1"]))
    yield Reading(f"{row}.sink", differences(ratio["lean+sink"], ratio["lean"]))


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    turns, seconds = (2, 0.001) if quick else (TURNS, SECONDS)
    for kind, names in SINGLE.items():
        for name in names:
            yield from costs(f"{kind}.{name}", workload(name), BODIES[kind], turns, seconds)
    for kind, body in BODIES.items():
        for runs in CONCURRENT:
            work = workload(f"diamond-{runs}")
            yield from costs(f"concurrent.{kind}-{runs}", work, body, turns, seconds)
    for kind, body in BODIES.items():
        for name in INTERCEPTED:
            yield from additions(f"interceptor.{name}-{kind}", workload(name).dag, body, turns, seconds)


if __name__ == "__main__":
    main(readings, __doc__)
