"""Prints which functions execute how many bytecodes per stage: ``python tests/benchmarks/profile_stage.py``.

Times differ from machine to machine and from minute to minute; bytecodes repeat. What C functions take is not in them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench_kernel import systems
from bodies import BODIES
from workloads import workload

if TYPE_CHECKING:
    from types import FrameType

    from measure import Once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="layered-20x50", help="the graph; see workloads.py")
    parser.add_argument("--body", choices=BODIES, default="inline", help="what a stage does")
    parser.add_argument("--system", choices=("default", "lean", "taskgroup"), default="default")
    given = parser.parse_args()
    work = workload(given.workload)
    counts, calls = asyncio.run(profiled(systems(work.dag, BODIES[given.body])[given.system]))
    print(
        f"{counts.total() / work.stages:8.1f} bytecodes per stage: {given.workload} {given.body} {given.system}"
    )
    for name, count in counts.most_common(15):
        print(f"{count / work.stages:8.1f} in {calls[name] / work.stages:5.2f} calls of {name}")


async def profiled(once: Once) -> tuple[Counter[str], Counter[str]]:
    """Count the bytecodes and the calls of one run, by the names of functions, once all is warm."""
    counts: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "call":
            calls[frame.f_code.co_qualname] += 1
        elif event == "opcode":
            counts[frame.f_code.co_qualname] += 1
        return trace

    await once()
    sys.settrace(trace)
    try:
        await once()
    finally:
        sys.settrace(None)
    return counts, calls


if __name__ == "__main__":
    main()
