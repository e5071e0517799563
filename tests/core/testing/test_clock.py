"""A clock that jumps: nothing waits for real, and what happens in which order is certain."""

from __future__ import annotations

import asyncio
import time

import pytest
from stageflow import Pipeline, RetryPolicy, StageKind
from stageflow.errors import RunTimeoutError
from stageflow.testing import (
    FailingStage,
    HangingStage,
    StalledError,
    VirtualClockLoop,
    run_virtual,
)

WORK = StageKind.TRANSFORM


def test_time_jumps_from_timer_to_timer() -> None:
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await asyncio.sleep(nap)
            seen.append((name, asyncio.get_running_loop().time()))

    async def main() -> int:
        await asyncio.gather(sleeper("a", 3600, 1), sleeper("b", 1800, 1800.5))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        return loop.jumps

    assert run_virtual(main()) == 4
    assert seen == [("b", 1800.0), ("a", 3600.0), ("b", 3600.5), ("a", 3601.0)]


def test_years_pass_exactly() -> None:
    async def main() -> float:
        await asyncio.sleep(10 * 365 * 86_400)  # more than a selector waits for at once
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(10 * 365 * 86_400)


def test_limits_and_waits_of_a_run_are_on_the_clock() -> None:
    async def main() -> float:
        fails = FailingStage(ConnectionError(), times=5)
        policy = RetryPolicy(6, base_delay=100, max_delay=100, jitter=False)
        await Pipeline().with_stage("a", fails, WORK, retry=policy).run()
        assert [round(call.started) for call in fails.calls] == [0, 100, 200, 300, 400, 500]
        with pytest.raises(RunTimeoutError):
            await Pipeline().with_stage("h", HangingStage(), WORK, timeout=900).run(timeout=600)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(1100)


def test_time_stands_still_while_something_is_ready() -> None:
    async def main() -> float:
        asyncio.get_running_loop().call_later(0.000_001, seen.append, "timer")
        for _ in range(100):
            await asyncio.sleep(0)
        seen.append("ready")
        await asyncio.sleep(1)
        return asyncio.get_running_loop().time()

    seen: list[str] = []
    assert run_virtual(main()) == 1
    assert seen == ["ready", "timer"]


def test_a_thread_is_waited_for_in_real_time() -> None:
    async def main() -> tuple[str, float]:
        async with asyncio.timeout(30):  # would fire at once if time jumped
            said = await asyncio.to_thread(lambda: time.sleep(0.02) or "done")
        return said, asyncio.get_running_loop().time()

    said, passed = run_virtual(main())
    assert said == "done"
    assert 0 < passed < 30  # as on the wall, and shutting the threads down jumped over no limit either


def test_a_socket_is_waited_for_in_real_time() -> None:
    async def main() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hi\n")
            said = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return said

    assert run_virtual(main()) == b"hi\n"


def test_another_thread_may_wake_the_loop() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        import threading

        thread = threading.Timer(0.01, lambda: loop.call_soon_threadsafe(future.set_result, "from outside"))
        thread.start()
        said = await future
        thread.join()
        return said

    assert run_virtual(main(), patience=10) == "from outside"


def test_a_test_that_would_hang_says_who_waits() -> None:
    async def waits_for_nothing() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits_for_nothing(), name="the culprit")

    with pytest.raises(StalledError) as caught:
        run_virtual(main(), patience=0.01)
    assert "Task 'the culprit' of test_a_test_that_would_hang_says_who_waits.waits_for_nothing" in str(
        caught.value
    )
    assert "at Event.wait (" in str(caught.value)
    assert len(caught.value.tasks) == 2


def test_before_jump_may_keep_the_time_from_jumping() -> None:
    looked: list[float] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        sleeper = asyncio.ensure_future(asyncio.sleep(50))

        def before_jump() -> bool:
            looked.append(loop.time())
            if len(looked) == 2:
                sleeper.cancel()
                return True
            return False

        loop.before_jump = before_jump
        await asyncio.sleep(10)
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        return loop.time()

    assert run_virtual(main()) == 10
    assert looked == [0, 10]


def test_start_and_advance() -> None:
    loop = VirtualClockLoop(start=100)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:

        async def main() -> list[float]:
            seen: list[float] = []
            loop.call_at(150, lambda: seen.append(loop.time()))
            loop.advance(60)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return seen

        assert runner.run(main()) == [160]


def test_equal_programs_go_on_in_the_same_order() -> None:
    def once() -> list[tuple[int, float]]:
        seen: list[tuple[int, float]] = []

        async def worker(number: int) -> None:
            for nap in range(number % 4):
                await asyncio.sleep(nap % 3)
                seen.append((number, asyncio.get_running_loop().time()))

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(worker(number))

        run_virtual(main())
        return seen

    assert once() == once()
