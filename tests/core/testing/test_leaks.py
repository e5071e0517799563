"""leak_check sees what a block leaves behind, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from stageflow import clear_event_sink, set_event_sink
from stageflow.testing import EventRecorder, LeakWatch, leak_check


def test_a_tidy_block_passes() -> None:
    async def numbers() -> Any:
        yield 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        older = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        timer = loop.call_later(60, print)
        async with leak_check():
            async with asyncio.timeout(60):
                await asyncio.create_task(asyncio.sleep(0))
            assert [number async for number in numbers()] == [1]
        timer.cancel()
        older.cancel()

    hooks = sys.get_asyncgen_hooks()
    asyncio.run(main())
    assert sys.get_asyncgen_hooks() == hooks


def test_everything_that_can_be_left() -> None:
    async def forgotten() -> None:
        await asyncio.sleep(60)

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            pass

    async def main() -> list[str]:
        generator = numbers()
        with pytest.raises(AssertionError) as caught:
            async with leak_check():
                task = asyncio.create_task(forgotten(), name="me")
                await asyncio.sleep(0)
                await anext(generator)
                set_event_sink(EventRecorder())
        clear_event_sink()
        task.cancel()
        await generator.aclose()
        return str(caught.value).splitlines()

    lines = asyncio.run(main())
    assert lines[0] == "4 things were left behind:"
    here = "test_everything_that_can_be_left"
    assert lines[1].startswith(f"  task: Task 'me' of {here}.forgotten, at sleep (")
    assert lines[2].startswith("  timer: ")
    assert lines[2].endswith(" s")
    assert lines[3].startswith(f"  async generator: {here}.numbers, at {here}.numbers (")
    assert lines[4].startswith("  event sink: <EventRecorder")


def test_a_block_that_raises_keeps_its_error() -> None:
    async def main() -> None:
        async with leak_check():
            asyncio.get_running_loop().call_later(60, main)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        asyncio.run(main())
    assert caught.value.__notes__[0].startswith("1 thing was left behind:\n  timer: ")


def test_watch_tells_at_any_moment() -> None:
    async def main() -> None:
        with LeakWatch() as watch:
            task = asyncio.create_task(asyncio.sleep(0))
            assert [leak.kind for leak in watch.found()] == ["task"]
            assert watch.found(ignore=[task]) == []
            await task
            assert watch.found() == []

    asyncio.run(main())
