"""cancel_everywhere finds what it is for: each defect is built in on purpose, and seen."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest
from stageflow import Pipeline, RetryPolicy, StageKind
from stageflow.testing import FailingStage, Probe, SlowStage, StalledError, cancel_everywhere

WORK = StageKind.WORK


def problems_of(make: Any, **options: Any) -> list[str]:
    report = cancel_everywhere(make, raise_failures=False, **options)
    return [problem for failure in report.failures for problem in failure.problems]


def started(probe: Probe, *, end: str | None = "completed") -> None:
    base = {"pipeline_run_id": "1"}
    probe.events.try_emit(type="pipeline.started", data={**base, "sequence": 1})
    if end is not None:
        probe.events.try_emit(type=f"pipeline.{end}", data={**base, "sequence": 2})


def test_what_is_sound_passes_and_the_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def sound(probe: Probe) -> Any:
        return Pipeline().with_stage("a", SlowStage(1), WORK).run(sink=probe.events)

    report = cancel_everywhere(sound)
    assert [point.task for point in report.points] == ["caller", "task 1", "clock"]
    assert "sleep" in report.points[1].where  # the innermost: the stage's own await, not the lane's
    # Two moments for each: the caller's await x caller and all, the stage's x caller, task and all; the clock has one.
    assert (report.runs, report.delivered) == (4 + 6 + 2, 12)
    assert report.outcomes == {"cancelled": 10, "with an error": 2}
    assert report.failures == report.missed == []
    assert capsys.readouterr().out == f"{report}\n"
    assert str(report) == (
        "cancel everywhere: sound\n"
        "  3 await points: caller 1, stages and helpers 1, timers 1\n"
        "  12 runs, 12 cancels delivered; the call ended 10 cancelled, 2 with an error\n"
        "  0 failures"
    )


def test_a_task_that_is_left() -> None:
    def careless(probe: Probe) -> Any:
        started(probe)

        async def run() -> None:
            task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
            await asyncio.sleep(1)  # a cancel here leaves the Task
            await task

        return run()

    found = problems_of(careless, targets=("caller",))
    assert any("left behind: task: Task 'forgotten'" in problem for problem in found)
    assert any("left behind: timer" in problem for problem in found)


def test_a_claim_that_is_left_after_what_was_awaited_has_happened() -> None:
    """The cancel that comes when the lock is granted already, and whoever asked has not gone on yet."""

    def careless(probe: Probe) -> Any:
        held: list[int] = []
        probe.expect_none("claims", lambda: len(held))
        started(probe)

        async def acquire() -> None:
            await asyncio.sleep(1)
            held.append(1)

        async def run() -> None:
            await asyncio.create_task(acquire())
            held.clear()

        return run()

    assert problems_of(careless, targets=("caller",), moments=("before",)) == []
    assert problems_of(careless, targets=("caller",), moments=("after",)) == ["1 claims are left"]


def test_an_async_generator_that_is_left() -> None:
    kept: list[Any] = []

    def careless(probe: Probe) -> Any:
        started(probe)

        async def numbers() -> Any:
            yield 1
            yield 2

        async def run() -> None:
            generator = numbers()
            kept.append(generator)
            await anext(generator)
            await asyncio.sleep(1)
            await generator.aclose()

        return run()

    assert any("async generator" in problem for problem in problems_of(careless, targets=("caller",)))


@pytest.mark.parametrize("end", [None, "completed"])
def test_a_terminal_event_that_is_missing_or_comes_twice(end: str | None) -> None:
    def careless(probe: Probe) -> Any:
        async def run() -> None:
            started(probe, end=end)
            try:
                await asyncio.sleep(1)
            finally:
                if end is not None:
                    probe.events.try_emit(
                        type="pipeline.failed", data={"pipeline_run_id": "1", "sequence": 3}
                    )

        return run()

    assert "exactly one terminal event" in problems_of(careless, targets=())[0]


def test_a_cancel_that_is_swallowed() -> None:
    def deaf(probe: Probe) -> Any:
        started(probe)

        async def run() -> int:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
            return 1

        return run()

    assert set(problems_of(deaf, targets=("caller",))) == {"the caller was cancelled, but the call returned"}


def test_a_run_that_never_ends_after_a_cancel() -> None:
    def hangs(probe: Probe) -> Any:
        started(probe)

        async def run() -> None:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                await asyncio.Event().wait()

        return run()

    found = problems_of(hangs, targets=("caller",), moments=("before",))
    assert found
    assert all(problem.startswith("the run did not end: StalledError") for problem in found)


def test_an_exception_that_nobody_has_seen() -> None:
    def careless(probe: Probe) -> Any:
        started(probe)

        async def fails() -> None:
            raise OSError("unseen")

        async def run() -> None:
            task = asyncio.create_task(fails())
            await asyncio.sleep(1)
            with suppress(OSError):
                await task

        return run()

    found = problems_of(careless, targets=("caller",))
    assert found
    assert set(found) == {"nobody has retrieved the exception of task 1: OSError('unseen')"}


def test_what_the_event_loop_complains_of() -> None:
    def careless(probe: Probe) -> Any:
        started(probe)

        async def run() -> None:
            asyncio.get_running_loop().call_soon(divmod, 1, 0)
            await asyncio.sleep(1)

        return run()

    (found,) = problems_of(careless, targets=())
    assert found.startswith("the event loop's exception handler got: Exception in callback divmod(")
    assert "ZeroDivisionError(" in found


def test_the_message_shows_where_and_the_timeline() -> None:
    def careless(probe: Probe) -> Any:
        started(probe)

        async def run() -> None:
            try:
                await asyncio.sleep(1)
            finally:
                asyncio.get_running_loop().call_later(60, print)

        return run()

    with pytest.raises(AssertionError) as caught:
        cancel_everywhere(careless, targets=("caller",))
    text = str(caught.value)
    assert "without a cancel:\n    left behind: timer: print(), due in 60 s" in text
    assert "caller cancelled before caller, await 1, in sleep (" in text
    assert "pipeline.completed" in text


def test_a_second_cancel_arrives_at_the_next_await() -> None:
    def careless(probe: Probe) -> Any:
        held = [1]
        probe.expect_none("locks", lambda: len(held))
        started(probe)

        async def run() -> None:
            try:
                await asyncio.sleep(1)
            finally:
                await asyncio.sleep(1)  # bears one cancel, not two
                held.clear()

        return run()

    once = cancel_everywhere(careless, targets=("caller",), moments=("before",), raise_failures=False)
    twice = cancel_everywhere(
        careless, targets=("caller",), moments=("before",), again=True, raise_failures=False
    )
    assert len(twice.failures) > len(once.failures)


def test_random_numbers_are_the_same_in_all_runs_and_go_on_afterwards() -> None:
    def jittered(probe: Probe) -> Any:
        stage = FailingStage(ConnectionError(), times=3)
        pipeline = Pipeline().with_stage("a", stage, WORK, retry=RetryPolicy(4, base_delay=1))
        return pipeline.run(sink=probe.events)

    random.seed(7)
    expected = random.random()
    random.seed(7)
    report = cancel_everywhere(jittered)
    assert report.missed == []
    assert random.random() == expected


def test_many_failures_are_counted_and_few_are_shown() -> None:
    def careless(probe: Probe) -> Any:
        probe.expect_none("locks", lambda: 1)
        return Pipeline().with_stage("a", SlowStage(1), WORK).run(sink=probe.events)

    with pytest.raises(AssertionError, match=r"and 8 more$"):
        cancel_everywhere(careless)


def test_a_run_that_is_different_each_time_is_missed() -> None:
    turns = iter(range(10_000))

    def fickle(probe: Probe) -> Any:
        started(probe)

        async def here() -> None:
            await asyncio.sleep(1)

        async def there() -> None:
            await asyncio.sleep(2)

        return here() if next(turns) == 0 else there()

    def first_is_different(probe: Probe) -> Any:
        return fickle(probe)

    report = cancel_everywhere(first_is_different, targets=("caller",), moments=("before",))
    assert report.missed == []  # two equal runs are waited for


def test_make_that_raises_is_no_run() -> None:
    def broken(probe: Probe) -> Any:
        raise LookupError("no such pipeline")

    assert "LookupError" in problems_of(broken)[0]


def test_a_stalled_run_is_a_failed_assertion() -> None:
    assert issubclass(StalledError, AssertionError)
