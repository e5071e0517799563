"""StructuredTaskGroup, cleanup_on_cancel and run_with_cleanup: nothing that they start outlives them."""

from __future__ import annotations

import asyncio
import math

import pytest
from stageflow import Pipeline, PipelineCancelled, StageKind
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import LogicError
from stageflow.pipeline.cancellation import StructuredTaskGroup, cleanup_on_cancel, run_with_cleanup
from stageflow.testing import cancel_everywhere, leak_check, run_virtual


class Steps:
    """Writes down what is cleaned up, and takes a while over it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __call__(self, name: str, seconds: float = 0.0):
        async def step() -> None:
            await asyncio.sleep(seconds)
            self.done.append(name)

        return step


@pytest.fixture
def steps() -> Steps:
    return Steps()


async def forever() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("no")


# --- the group -----------------------------------------------------------------------------------------------------


def test_the_block_ends_when_everything_in_it_has(steps):
    async def main():
        async with leak_check(), StructuredTaskGroup() as group:
            group.register_cleanup(steps("first registered"))
            group.register_cleanup(steps("last registered"))
            group.create_task(steps("task", 3)())
            steps.done.append("block")

    run_virtual(main())
    assert steps.done == ["block", "task", "last registered", "first registered"]


def test_a_task_has_its_name_and_its_result():
    async def main():
        async with StructuredTaskGroup() as group:
            task = group.create_task(asyncio.sleep(1, "answer"), name="asker")
        return task.get_name(), task.result()

    assert run_virtual(main()) == ("asker", "answer")


@pytest.mark.parametrize("who", ["a task", "the block"])
def test_one_failure_ends_all_and_then_the_cleanup_runs(who, steps):
    async def main():
        async with leak_check():
            with pytest.raises(ExceptionGroup) as caught:
                async with StructuredTaskGroup() as group:
                    group.register_cleanup(steps("cleaned"))
                    left = group.create_task(forever())
                    if who == "the block":
                        raise ValueError("no")
                    group.create_task(fails())
        assert [str(error) for error in caught.value.exceptions] == ["no"]
        assert left.cancelled()

    run_virtual(main())
    assert steps.done == ["cleaned"]


def test_cancelling_the_group_ends_its_tasks_and_no_more(steps):
    async def main():
        async with StructuredTaskGroup() as group:
            group.register_cleanup(steps("cleaned"))
            old = group.create_task(forever())
            group.cancel()
            new = group.create_task(steps("new")())
        assert old.cancelled()
        assert new.done()

    run_virtual(main())
    assert steps.done == ["new", "cleaned"]


def test_who_is_cancelled_waits_for_tasks_and_cleanup(steps):
    async def work():
        async with StructuredTaskGroup() as group:
            group.register_cleanup(steps("cleaned", 2))
            group.create_task(forever())
            await forever()

    async def main():
        async with leak_check():
            task = asyncio.ensure_future(work())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(1)
            assert not task.done()
            task.cancel()  # once more, while it cleans up
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.get_running_loop().time() == 2

    run_virtual(main())
    assert steps.done == ["cleaned"]


def test_a_cancellation_that_comes_during_the_cleanup_is_not_lost(steps):
    async def work():
        async with StructuredTaskGroup() as group:
            group.register_cleanup(steps("cleaned", 2))

    async def main():
        task = asyncio.ensure_future(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main())
    assert steps.done == ["cleaned"]


def test_cleanup_that_fails_or_is_too_slow_is_logged(steps, caplog):
    async def main():
        async with StructuredTaskGroup(cleanup_timeout=3) as group:
            group.register_cleanup(steps("first"))
            group.register_cleanup(fails, name="broken")
            group.register_cleanup(forever, name="slow")

    run_virtual(main())
    assert steps.done == ["first"]
    assert [record.getMessage() for record in caplog.records] == [
        "The cleanup 'slow' failed",
        "The cleanup 'broken' failed",
    ]


def test_a_group_that_is_not_open_takes_no_work():
    async def main():
        group = StructuredTaskGroup()
        with pytest.raises(LogicError, match="not open"):
            group.create_task(forever())
        async with group:
            pass
        with pytest.raises(LogicError, match="not open"):
            group.create_task(forever())
        with pytest.raises(LogicError, match="a second time"):
            async with group:
                pass

    run_virtual(main())


def test_a_group_whose_task_has_failed_takes_no_more_work():
    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with StructuredTaskGroup() as group:
                group.create_task(fails())
                with pytest.raises(asyncio.CancelledError):
                    await forever()
                group.create_task(forever())
        return [type(error) for error in caught.value.exceptions]

    assert run_virtual(main()) == [ValueError, LogicError]


def test_a_group_that_is_thrown_away_lets_go_of_its_tasks(steps):
    async def main():
        async def work():
            async with StructuredTaskGroup() as group:
                tasks.append(group.create_task(forever()))
                await forever()

        tasks: list[asyncio.Task[None]] = []
        coroutine = work()
        coroutine.send(None)
        coroutine.close()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]

    run_virtual(main())


@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf])
def test_a_limit_must_be_a_time(limit, steps):
    with pytest.raises(ArgumentValueError, match="cleanup_timeout"):
        StructuredTaskGroup(cleanup_timeout=limit)
    with pytest.raises(ArgumentValueError, match="cleanup_timeout"):
        asyncio.run(run_with_cleanup(forever(), steps("x"), cleanup_timeout=limit))


@pytest.mark.parametrize("limit", ["10", None, True])
def test_a_limit_must_be_a_number(limit):
    with pytest.raises(ArgumentTypeError, match="cleanup_timeout"):
        StructuredTaskGroup(cleanup_timeout=limit)


# --- cleanup_on_cancel -----------------------------------------------------------------------------------------------


def test_only_a_cancellation_runs_the_cleanup(steps):
    async def main():
        async with cleanup_on_cancel(steps("after success")):
            pass
        with pytest.raises(ValueError, match="no"):
            async with cleanup_on_cancel(steps("after failure")):
                await fails()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), cleanup_on_cancel(steps("after cancellation", 2)):
                await forever()
        assert asyncio.get_running_loop().time() == 3

    run_virtual(main())
    assert steps.done == ["after cancellation"]


def test_a_stage_that_notices_the_cancellation_by_itself_cleans_up_too(steps):
    async def polite(ctx):
        async with cleanup_on_cancel(steps("cleaned")):
            try:
                await forever()
            except asyncio.CancelledError:
                ctx.raise_if_cancelled()

    async def main():
        async with leak_check():
            with pytest.raises(PipelineCancelled):
                await Pipeline().with_stage("polite", polite, StageKind.WORK).run(timeout=1)

    run_virtual(main())
    assert steps.done == ["cleaned"]


def test_cleanup_on_cancel_has_a_limit_and_a_name(caplog):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), cleanup_on_cancel(forever, name="roll back"):
                await forever()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 11
    assert caplog.messages == ["The cleanup 'roll back' failed"]


# --- run_with_cleanup ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["well", "badly", "cancelled"])
def test_the_cleanup_runs_however_the_work_ends(ending, steps):
    work = {"well": asyncio.sleep, "badly": lambda *_: fails(), "cancelled": lambda *_: forever()}[ending]
    errors = {"well": None, "badly": ValueError, "cancelled": TimeoutError}

    async def main():
        try:
            async with leak_check(), asyncio.timeout(5):
                assert await run_with_cleanup(work(1, "answer"), steps("cleaned", 2)) == "answer"
        except Exception as error:
            return type(error)
        return None

    assert run_virtual(main()) is errors[ending]
    assert steps.done == ["cleaned"]


@pytest.mark.parametrize("ending", ["well", "badly"])
def test_a_cancellation_during_the_cleanup_comes_first(ending, steps):
    work = {"well": asyncio.sleep(0), "badly": fails()}

    async def main():
        task = asyncio.ensure_future(run_with_cleanup(work.pop(ending), steps("cleaned", 2)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return type(caught.value.__cause__)

    expected = {"well": type(None), "badly": ValueError}
    assert run_virtual(main()) is expected[ending]
    assert steps.done == ["cleaned"]
    for left in work.values():
        left.close()


def test_the_cleanup_of_work_has_a_limit(caplog):
    async def main():
        await run_with_cleanup(asyncio.sleep(1), forever, cleanup_timeout=2)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 3
    assert caplog.messages == ["The cleanup 'forever' failed"]


def test_work_that_is_thrown_away_is_not_cleaned_up_after(steps):
    coroutine = run_with_cleanup(forever(), steps("cleaned"))

    async def main():
        coroutine.send(None)
        coroutine.close()

    run_virtual(main())
    assert steps.done == []


def test_what_makes_no_sense_is_refused(steps):
    for work, cleanup in ((forever(), None), (3, steps("x"))):
        with pytest.raises(ArgumentTypeError):
            asyncio.run(run_with_cleanup(work, cleanup))
    with pytest.raises(ArgumentTypeError):
        asyncio.run(cleanup_on_cancel("x").__aenter__())
    with pytest.raises(ArgumentTypeError):
        StructuredTaskGroup().register_cleanup(3)


# --- everywhere ------------------------------------------------------------------------------------------------------


def test_a_cancel_at_every_await_leaves_nothing():
    def program(probe):
        opened, closed = [], []

        async def close():
            closed.append(1)  # first: "task" and "all" cancel the cleanup itself, too
            await asyncio.sleep(1)

        async def body(ctx):
            async with StructuredTaskGroup() as group:
                opened.append(1)
                group.register_cleanup(close)
                group.create_task(asyncio.sleep(2))
                opened.append(1)
                await run_with_cleanup(asyncio.sleep(1), close)

        probe.expect_none("groups and calls not cleaned up", lambda: len(opened) - len(closed))
        return Pipeline().with_stage("s", body, StageKind.WORK).run(sink=probe.events)

    # Who cancels every Task there is may hit a callback before it has begun; that is logged, and not undone.
    assert cancel_everywhere(program, targets=("caller", "task")).points
