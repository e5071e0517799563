"""Samples are taken in turns, and ratios, medians and quartiles are what they are called."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import bench_events
import bench_fairness
import bench_kernel
import bench_memory
import pytest
from bodies import inline
from measure import Estimate, Sample, at_once, differences, estimate, in_turns, ratios, repeats_for
from workloads import workload


def test_estimate_is_the_median_and_the_quartiles():
    assert estimate([5, 1, 4, 2, 3]) == Estimate(3, 2, 4, 5)
    assert estimate([1, 2]) == Estimate(1.5, 1.25, 1.75, 2)
    assert estimate([7]) == Estimate(7, 7, 7, 1)


def test_ratios_are_of_cpu_time_and_of_one_turn():
    assert ratios([Sample(2, 9), Sample(3, 9)], [Sample(1, 1), Sample(2, 1)]) == [2, 1.5]
    with pytest.raises(ValueError, match="shorter"):
        ratios([Sample(1, 1)], [])


def test_a_slow_turn_of_the_machine_cancels_out():
    speeds = (1, 5, 0.2, 3)
    ours, theirs = ([Sample(cost * speed, 0) for speed in speeds] for cost in (2.5, 5))
    assert estimate(ratios(ours, theirs)).value == pytest.approx(0.5)


def test_differences_are_of_one_turn():
    assert differences([3, 5], [2, 1]) == [1, 4]


def test_systems_take_turns_and_every_other_turn_goes_backwards():
    done: list[str] = []

    async def one() -> None:
        done.append("one")

    async def two() -> None:
        done.append("two")

    samples = asyncio.run(in_turns({"one": one, "two": two}, turns=3, repeats={"one": 1, "two": 2}))
    assert done == ["one", "two", "two", "two", "two", "one", "one", "two", "two"]
    assert {name: len(found) for name, found in samples.items()} == {"one": 3, "two": 3}


def test_repeats_stay_within_reason():
    calls = [0]

    async def once() -> None:
        calls[0] += 1

    assert asyncio.run(repeats_for(once, 1e9)) == 1000
    assert asyncio.run(repeats_for(once, 0)) == 1
    assert calls == [6]  # a warm-up and two samples, each time


def test_concurrent_runs_are_concurrent():
    inside, most = [0], [0]

    async def once() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await asyncio.sleep(0)
        inside[0] -= 1

    asyncio.run(at_once(once, 5)())
    assert most == [5]
    assert at_once(once, 1) is once


def test_longest_wait_is_the_longest_stretch_between_two_turns():
    now = [0]

    async def run() -> None:
        for milliseconds in (1, 5, 2):
            now[0] += milliseconds * 1_000_000
            await asyncio.sleep(0)

    assert asyncio.run(bench_fairness.longest_wait(run, lambda: now[0])) == 5


def test_peak_counts_what_is_taken_and_what_is_left():
    kept: list[bytes] = []

    async def run() -> None:
        bytes(3_000_000)
        kept.append(bytes(1_000_000))

    tracemalloc.start()
    try:
        most, left = asyncio.run(bench_memory.peak(run))
    finally:
        tracemalloc.stop()
    assert 3_000_000 <= most < 3_100_000
    assert 1_000_000 <= left < 1_100_000


def test_gate_holds_every_stage_until_all_have_come():
    gate = bench_memory.Gate(3)

    async def run() -> None:
        first = [asyncio.ensure_future(gate(f"m{number}")) for number in range(2)]
        await asyncio.sleep(0.01)
        assert not any(one.done() for one in first)
        await gate("m2")
        await asyncio.gather(*first)

    asyncio.run(run())


def test_kernel_measures_every_column_of_its_tables():
    work = workload("diamond-2")
    costs = list(bench_kernel.costs("row", work, inline, turns=1, seconds=0))
    assert [one.cell for one in costs] == ["row.taskgroup", "row.tasks", "row.default", "row.lean"]
    additions = list(bench_kernel.additions("row", work.dag, inline, turns=1, seconds=0))
    assert [one.cell for one in additions] == ["row.default", "row.lean", "row.further", "row.sink"]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_overloaded_sink_accounts_for_every_event(threads: int):
    assert asyncio.run(bench_events.unaccounted(threads, 500)) == 0


def test_the_collector_is_left_on():
    assert gc.isenabled()
