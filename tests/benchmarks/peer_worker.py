"""Measures one peer on one workload, in the peer's own environment: ``bench_peers.py`` starts it.

First the peer shows, on small graphs, that it runs every stage once and after its dependencies. Then it and the DAG by
hand take turns in this process, as everything does in ``measure.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baseline import TaskGroupDag
from bodies import BODIES, CheckingBody
from measure import at_once, estimate, in_turns, ratios, repeats_for
from workloads import workload

if TYPE_CHECKING:
    from types import ModuleType

    from bodies import Body
    from workloads import Workload

TURNS = 9
SECONDS = 0.02
SLOWEST = 10.0  # seconds that one run may take


async def check(adapter: ModuleType, work: Workload) -> None:
    """Run twice with a body that knows the graph.

    Raises:
        AssertionError: A stage did not run once per run, or ran before one of its dependencies.
    """
    body = CheckingBody(work.dag)
    async with adapter.prepared(work.dag, body) as once:
        for times in (1, 2):
            await once()
            body.verify(times)


async def compare(adapter: ModuleType, work: Workload, body: Body) -> dict[str, Any]:
    """Measure, with fewer turns the slower the peer is."""
    by_hand = at_once(TaskGroupDag(work.dag, body).run, work.runs)
    async with adapter.prepared(work.dag, body) as prepared:
        once = at_once(prepared, work.runs)
        start = time.perf_counter()
        await once()
        took = time.perf_counter() - start
        if took > SLOWEST:
            return {"error": f"{took:.0f} s a run"}
        repeats = {
            "peer": await repeats_for(once, SECONDS) if took < SECONDS else 1,
            "by hand": await repeats_for(by_hand, SECONDS),
        }
        turns = max(3, min(TURNS, round(SLOWEST / took)))
        samples = await in_turns({"peer": once, "by hand": by_hand}, turns=turns, repeats=repeats)
    peer, base = samples["peer"], samples["by hand"]
    return {
        "cpu": estimate(ratios(peer, base)),
        "wall": estimate([one.wall / other.wall for one, other in zip(peer, base, strict=True)]),
        "us_per_stage": estimate([one.cpu / work.stages * 1e6 for one in peer]).value,
        "by_hand_us_per_stage": estimate([one.cpu / work.stages * 1e6 for one in base]).value,
    }


async def measured(name: str, work: str, body: str) -> dict[str, Any]:
    """Check and measure; an error of the peer is a result, too."""
    try:
        adapter = importlib.import_module(f"peers.{name}")
        for small in ("diamond-1", "layered-3x4"):
            await check(adapter, workload(small))
        gc.collect()
        return await compare(adapter, workload(work), BODIES[body])
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("adapter")
    parser.add_argument("workload")
    parser.add_argument("body", choices=BODIES)
    parser.add_argument("result", type=Path)
    given = parser.parse_args()
    found = asyncio.run(measured(given.adapter, given.workload, given.body))
    given.result.write_text(json.dumps(found), "utf-8")
    os._exit(0)  # some peers leave threads behind, which would keep the process


if __name__ == "__main__":
    main()
