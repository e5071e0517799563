"""``FailureCollector`` says what the run does, and ``BackpressureMonitor`` is the limit that the run knows."""

from __future__ import annotations

import asyncio

import pytest
from stageflow import FailureMode, Pipeline, StageKind, StageOutput
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import LogicError, OverloadError
from stageflow.pipeline.backpressure import BackpressureConfig, BackpressureMonitor
from stageflow.pipeline.failures import FailureCollector

W = StageKind.WORK


# --- FailureCollector -----------------------------------------------------------------------------------------------


def test_fail_fast_lets_nothing_more_run():
    collector = FailureCollector()
    collector.record_completion("a")
    assert collector.should_continue("b", ["a"])
    collector.record_failure("b", ValueError("bad"))
    assert collector.has_failures
    assert not collector.should_continue("c")
    assert collector.get_summary() == {
        "mode": "fail_fast",
        "failed": {"b": "ValueError: bad"},
        "completed": ["a"],
        "not_run": ["c"],
    }


@pytest.mark.parametrize("mode", [FailureMode.CONTINUE_ON_FAILURE, "best_effort"])
def test_going_on_blocks_what_is_downstream(mode):
    collector = FailureCollector(mode)
    collector.record_failure("a", "bad")
    assert not collector.should_continue("b", ["a"])
    assert not collector.should_continue("c", ["b", "x"])
    assert collector.should_continue("d", ["x"])
    assert collector.get_summary()["not_run"] == ["b", "c"]
    assert repr(collector).endswith("1 failed, 0 completed, 2 not run>")


def test_the_last_word_counts():
    collector = FailureCollector(FailureMode.BEST_EFFORT)
    collector.record_failure("a", "bad")
    collector.should_continue("b", ["a"])
    collector.record_completion("a")
    collector.record_completion("b")
    assert collector.get_summary() | {"completed": [], "mode": ""} == {
        "mode": "",
        "failed": {},
        "completed": [],
        "not_run": [],
    }
    collector.record_failure("a", "bad again")
    assert collector.get_summary()["completed"] == ["b"]


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="nonsense"):
        FailureCollector("nonsense")


def test_finding_a1_22_it_says_of_a_run_what_the_run_did():
    async def ok(ctx):
        return {}

    async def bad(ctx):
        return StageOutput.fail("bad")

    edges = {"a": [], "b": ["a"], "c": ["b"], "d": ["a"], "e": ["c", "d"], "f": []}
    pipeline = Pipeline()
    for name, wanted in edges.items():
        pipeline = pipeline.with_stage(name, bad if name == "b" else ok, W, wanted)
    graph = pipeline.build(failure_mode=FailureMode.BEST_EFFORT)
    results = asyncio.run(graph.run())
    collector = FailureCollector(FailureMode.BEST_EFFORT)
    for name, wanted in edges.items():
        if collector.should_continue(name, wanted):
            if name == "b":
                collector.record_failure(name, "bad")
            else:
                collector.record_completion(name)
    assert FailureCollector.of(results, FailureMode.BEST_EFFORT).get_summary() == collector.get_summary()
    assert collector.get_summary()["not_run"] == ["c", "e"]


# --- BackpressureMonitor --------------------------------------------------------------------------------------------


def test_it_lets_in_so_many_and_in_turn():
    async def main():
        monitor = BackpressureMonitor(BackpressureConfig(max_active_stages=2))
        order, most = [], 0

        async def one(number):
            nonlocal most
            async with monitor:
                most = max(most, monitor.active)
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(one(number) for number in range(10)))
        assert order == [*range(10)]
        assert most == 2
        assert (monitor.active, monitor.queued) == (0, 0)

    asyncio.run(main())


def test_a_full_line_is_an_overload():
    async def main():
        monitor = BackpressureMonitor(BackpressureConfig(1, max_queued_stages=0))
        await monitor.acquire()
        with pytest.raises(OverloadError):
            await monitor.acquire()
        assert repr(monitor) == "<BackpressureMonitor 1/1, 0 waiting>"
        await monitor.release()
        await monitor.acquire()

    asyncio.run(main())


def test_whoever_gives_up_waiting_takes_no_place():
    async def main():
        monitor = BackpressureMonitor(BackpressureConfig(1))
        await monitor.acquire()
        waiting = asyncio.create_task(monitor.acquire())
        await asyncio.sleep(0)
        assert monitor.queued == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await monitor.release()
        assert (monitor.active, monitor.queued) == (0, 0)

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(5))
def test_giving_up_at_the_moment_of_being_let_in_loses_no_place(turns):
    async def main():
        monitor = BackpressureMonitor(BackpressureConfig(1))
        await monitor.acquire()
        waiting = asyncio.create_task(monitor.acquire())
        await asyncio.sleep(0)
        await monitor.release()
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            await waiting
        except asyncio.CancelledError:
            pass
        else:
            await monitor.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (monitor.active, monitor.queued) == (0, 0)

    asyncio.run(main())


def test_to_release_what_nobody_holds_is_an_error():
    async def main():
        monitor = BackpressureMonitor()
        with pytest.raises(LogicError):
            await monitor.release()
        assert monitor.active == 0

    asyncio.run(main())


def test_finding_a1_22_stages_share_the_bound():
    async def main():
        monitor = BackpressureMonitor(BackpressureConfig(2))
        most = 0

        async def work(ctx):
            nonlocal most
            most = max(most, monitor.active)
            await asyncio.sleep(0)
            return {}

        pipeline = Pipeline()
        for number in range(6):
            pipeline = pipeline.with_stage(f"s{number}", work, W, limit=monitor.limit)
        async with monitor:
            await pipeline.run()
        assert most == 2
        assert monitor.active == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0,), ArgumentValueError),
        ((1.5,), ArgumentTypeError),
        ((True,), ArgumentTypeError),
        ((1, -1), ArgumentValueError),
        ((1, "x"), ArgumentTypeError),
    ],
)
def test_bad_numbers(arguments, error):
    with pytest.raises(error):
        BackpressureConfig(*arguments)
