"""What starting costs: cold imports as ratios to a bare `import asyncio`, which any program of this kind pays."""

import statistics
import subprocess
import sys
import time

BASELINE = "import asyncio"
CASES = ("", "import stageflow", "from stageflow import Pipeline")
ROUNDS = 15


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    statements = (BASELINE, *CASES)
    for statement in statements:  # byte-compile, and warm the disk
        seconds(statement)
    # Interleaved, so that a slow moment of the machine meets every case.
    rounds = [[seconds(statement) for statement in statements] for _ in range(ROUNDS)]
    base, *medians = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(
        f"start-up, median of {ROUNDS}; 1.00 = a new interpreter with `{BASELINE}` ({base * 1000:.0f} ms here)"
    )
    for statement, median in zip(CASES, medians, strict=True):
        print(f"  {median / base:5.2f}  {statement or 'a bare interpreter'}")


if __name__ == "__main__":
    main()
