"""Times several systems in turns, and says what they cost relative to one of them.

A machine gets faster and slower while one measures. So the systems take turns, a few milliseconds each, and only
samples of the same turn are divided by each other: what slows a whole turn cancels out. Every other turn goes
backwards. The median of those ratios is the result, the quartiles are its spread.

What is compared is CPU time of the process (``time.process_time``), which other processes disturb less; wall time is
kept beside it. The cyclic garbage collector is on, as it is for users, and collects everything before each sample: each
system pays for the collections that its own allocations cause, and not for what the one before it left behind.

Only the standard library is imported here: this module also runs inside the peers' environments.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Once = Callable[[], Awaitable[object]]
"""One complete piece of work, which can be done again and again."""


class Sample(NamedTuple):
    """The seconds that one piece of work took."""

    cpu: float
    wall: float


class Estimate(NamedTuple):
    """What many samples say: the median, the quartiles, and how many they are."""

    value: float
    low: float
    high: float
    count: int


def estimate(values: Iterable[float]) -> Estimate:
    """Return the median and the quartiles."""
    found = sorted(values)
    if len(found) == 1:
        return Estimate(found[0], found[0], found[0], 1)
    low, value, high = statistics.quantiles(found, n=4, method="inclusive")
    return Estimate(value, low, high, len(found))


def at_once(once: Once, runs: int) -> Once:
    """Return what does a piece of work *runs* times concurrently; one time needs no Task around it."""
    if runs == 1:
        return once

    async def together() -> None:
        await asyncio.gather(*[once() for _ in range(runs)])

    return together


async def sample(once: Once, repeats: int) -> Sample:
    """Time *repeats* pieces of work after each other; return the seconds of one."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        await once()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Sample(cpu / repeats, wall / repeats)


async def repeats_for(once: Once, seconds: float) -> int:
    """Warm up, and return how many pieces of work fill about that many seconds."""
    await once()
    gc.collect()
    took = min((await sample(once, 1)).cpu, (await sample(once, 1)).cpu)
    return max(1, min(1000, round(seconds / max(took, 1e-6))))


async def in_turns(
    systems: Mapping[str, Once],
    *,
    turns: int,
    seconds: float = 0.0,
    repeats: Mapping[str, int] | None = None,
) -> dict[str, list[Sample]]:
    """Take a sample of every system in each turn; the n-th samples of all systems belong together.

    Args:
        systems: What is compared, by name.
        turns: How many samples to take of each.
        seconds: About how long a sample takes.
        repeats: How often each does its work in a sample, instead; then nothing is warmed up.
    """
    if repeats is None:
        repeats = {name: await repeats_for(once, seconds) for name, once in systems.items()}
    samples: dict[str, list[Sample]] = {name: [] for name in systems}
    order = list(systems)
    for _ in range(turns):
        for name in order:
            gc.collect()
            samples[name].append(await sample(systems[name], repeats[name]))
        order.reverse()
    return samples


def ratios(ours: Iterable[Sample], theirs: Iterable[Sample]) -> list[float]:
    """Return how much CPU *ours* took relative to *theirs*, turn by turn."""
    return [one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True)]


def differences(more: Iterable[float], less: Iterable[float]) -> list[float]:
    """Return what *more* adds to *less*, turn by turn."""
    return [one - other for one, other in zip(more, less, strict=True)]
