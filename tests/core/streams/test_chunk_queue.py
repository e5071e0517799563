"""``ChunkQueue`` as programs written for 0.9 use it, without what it did wrong there."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.runtime.chunk_queue import BackpressureMonitor, BackpressureStats, ChunkQueue
from stageflow.stages import Overflow, StreamGap
from stageflow.testing import VirtualClockLoop, leak_check

if TYPE_CHECKING:
    from collections.abc import Coroutine

DEEP = settings().max_examples > 100
EXAMPLES = 5_000 if DEEP else 200


class Events(list[tuple[str, dict[str, Any]]]):
    def __call__(self, type: str, data: dict[str, Any]) -> None:
        self.append((type.removeprefix("stream."), data))

    def of(self, type: str) -> list[dict[str, Any]]:
        return [data for name, data in self if name == type]

    @property
    def types(self) -> list[str]:
        return [name for name, _ in self]


def start(coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(coro)


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def filled(queue: ChunkQueue[Any], *chunks: Any) -> list[bool]:
    return [await queue.put(chunk) for chunk in chunks]


async def rest(queue: ChunkQueue[Any]) -> list[Any]:
    return [chunk async for chunk in queue]


# --- chunks through it ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_chunks_come_out_in_order_and_then_none():
    queue = ChunkQueue[str](max_size=10)
    assert await filled(queue, "a", "b", "c") == [True] * 3
    assert len(queue) == 3
    assert await queue.get() == "a"
    await queue.close()
    assert await rest(queue) == ["b", "c"]
    assert [await queue.get(), await queue.get()] == [None, None]
    assert (len(queue), queue.is_closed) == (0, True)


@pytest.mark.asyncio
async def test_chunks_are_handed_on_as_they_are():
    queue = ChunkQueue[Any]()
    chunks = [{"words": []}, [1], StreamGap(3), None]
    await filled(queue, *chunks)
    await queue.close()
    assert all(one is other for one, other in zip(await rest(queue), chunks, strict=True))


def test_it_can_be_made_and_used_in_one_loop_after_the_other_as_long_as_nobody_waits():
    queue = ChunkQueue[int](2)
    assert asyncio.run(filled(queue, 1, 2)) == [True, True]
    assert asyncio.run(queue.get()) == 1
    assert queue.get_nowait() == 2
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()


@pytest.mark.asyncio
async def test_a_closed_queue_takes_nothing():
    queue = ChunkQueue[int](overflow=Overflow.DROP_OLDEST)
    await queue.close()
    assert await queue.put(1) is False
    assert (await queue.get(), queue.monitor.stats.total_items) == (None, 0)


# --- who waits --------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_close_wakes_every_consumer():
    queue = ChunkQueue[int]()
    async with leak_check():
        gets = [start(queue.get()) for _ in range(3)]
        loops = [start(rest(queue)) for _ in range(3)]
        await turns()
        await queue.close()
        assert [await task for task in gets] == [None] * 3
        assert [await task for task in loops] == [[]] * 3


@pytest.mark.asyncio
async def test_close_wakes_every_producer_and_what_is_in_the_queue_stays():
    queue = ChunkQueue[int](max_size=1)
    async with leak_check():
        puts = [start(queue.put(number)) for number in range(4)]
        await turns()
        await queue.close()
        assert [await task for task in puts] == [True, False, False, False]
        assert await rest(queue) == [0]


@pytest.mark.asyncio
async def test_each_chunk_goes_to_one_consumer_in_turn():
    queue = ChunkQueue[int]()
    got: list[tuple[str, int]] = []

    async def consume(name: str) -> None:
        async for chunk in queue:
            got.append((name, chunk))
            await asyncio.sleep(0)

    consumers = [start(consume(name)) for name in "ab"]
    await turns()
    await filled(queue, *range(6))
    await queue.close()
    await asyncio.gather(*consumers)
    assert [chunk for _, chunk in got] == list(range(6))
    assert {name for name, _ in got} == {"a", "b"}


@pytest.mark.asyncio
async def test_a_cancelled_consumer_loses_nothing_and_the_next_goes_on():
    queue = ChunkQueue[str]()
    first, second = start(queue.get()), start(queue.get())
    await turns()
    await queue.put("a")
    first.cancel()
    assert await second == "a"
    assert first.cancelled()


@pytest.mark.asyncio
async def test_a_cancelled_producer_leaves_nothing_and_the_next_goes_on():
    queue = ChunkQueue[int](1)
    await queue.put(0)
    first, second = start(queue.put(1)), start(queue.put(2))
    await turns()
    assert await queue.get() == 0
    first.cancel()
    assert await second is True
    assert await queue.get() == 2
    assert queue.monitor.stats.total_items == 2


# --- overflow ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"drop_on_overflow": True}, {"overflow": Overflow.DROP_OLDEST}, {"overflow": "drop_oldest"}]
)
@pytest.mark.asyncio
async def test_drop_oldest(options: dict[str, Any]):
    events = Events()
    queue = ChunkQueue[int](3, event_emitter=events, **options)
    assert await filled(queue, *range(5)) == [True] * 5
    assert len(queue) == 3
    assert events.of("chunk_dropped") == [{"queue_size": 3, "max_size": 3, "reason": "overflow"}] * 2
    await queue.close()
    assert await rest(queue) == [2, 3, 4]
    assert queue.monitor.stats == BackpressureStats(total_items=5, dropped_items=2, max_queue_size=3)


@pytest.mark.asyncio
async def test_drop_newest():
    events = Events()
    queue = ChunkQueue[int](2, event_emitter=events, overflow=Overflow.DROP_NEWEST)
    assert await filled(queue, *range(4)) == [True, True, False, False]
    assert events.of("chunk_dropped") == [{"queue_size": 2, "max_size": 2, "reason": "queue_full"}] * 2
    assert await queue.get() == 0
    assert await queue.put(4) is True
    await queue.close()
    assert await rest(queue) == [1, 4]
    assert queue.monitor.stats.to_dict() == {
        "total_items": 5,
        "dropped_items": 2,
        "blocked_puts": 0,
        "max_queue_size": 2,
        "total_blocked_ms": 0.0,
        "drop_rate": 0.4,
    }


def test_a_producer_that_had_to_wait_says_how_long():
    events = Events()

    async def main() -> None:
        queue = ChunkQueue[int](1, event_emitter=events)
        await queue.put(0)
        waits, given_up, in_vain = (start(queue.put(number)) for number in (1, 2, 3))
        await asyncio.sleep(1.5)
        assert await queue.get() == 0
        assert await waits is True
        given_up.cancel()
        await turns()
        await asyncio.sleep(0.5)
        await queue.close()
        assert await in_vain is False
        assert queue.monitor.stats.blocked_puts == 3
        assert queue.monitor.stats.total_blocked_ms == pytest.approx(5_000, abs=1)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main())
    blocked = events.of("producer_blocked")
    assert [round(data["blocked_ms"]) for data in blocked] == [1_500, 1_500, 2_000]
    assert [data["queue_size"] for data in blocked] == [1, 1, 1]


# --- events -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.asyncio
async def test_throttling_starts_at_80_percent_and_ends_at_20(*, waits: bool):
    events = Events()
    queue = ChunkQueue[int](10, event_emitter=events)
    await filled(queue, *range(7))
    assert (events, queue.monitor.fill_percentage) == ([], 70.0)
    await filled(queue, 7, 8)
    assert events == [("throttle_started", {"fill_percentage": 80.0, "queue_size": 8})]
    for _ in range(6):
        queue.get_nowait()
    assert events.types == ["throttle_started"]
    assert queue.monitor.should_throttle()
    assert (await queue.get() if waits else queue.get_nowait()) == 6
    assert events[1:] == [("throttle_ended", {"fill_percentage": 20.0, "queue_size": 2})]
    await queue.get()
    assert len(events) == 2


@pytest.mark.asyncio
async def test_closing_is_told_once():
    events = Events()
    queue = ChunkQueue[int](10, event_emitter=events)
    await filled(queue, 1, 2, 3)
    await queue.close()
    await queue.close()
    stats = {
        "total_items": 3,
        "dropped_items": 0,
        "blocked_puts": 0,
        "max_queue_size": 3,
        "total_blocked_ms": 0.0,
    }
    assert events == [("queue_closed", stats)]


@pytest.mark.asyncio
async def test_an_emitter_that_raises_breaks_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture):
    def emitter(type: str, data: dict[str, Any]) -> None:
        raise ZeroDivisionError

    queue = ChunkQueue[int](1, drop_on_overflow=True, event_emitter=emitter)
    with caplog.at_level(logging.WARNING):
        assert await filled(queue, 1, 2, 3) == [True] * 3
        await queue.close()
    assert await rest(queue) == [3]
    assert len(caplog.records) == 1
    assert "event_emitter of <ChunkQueue 1/1, drop_oldest, open> raised" in caplog.text


# --- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ArgumentValueError, {"max_size": 0}),
        (ArgumentTypeError, {"max_size": 1.5}),
        (ArgumentTypeError, {"event_emitter": "print"}),
        (ArgumentValueError, {"overflow": "drop"}),
        (ArgumentValueError, {"overflow": Overflow.COALESCE}),
        (ArgumentValueError, {"overflow": Overflow.BLOCK, "drop_on_overflow": True}),
        (ArgumentValueError, {"overflow": Overflow.DROP_NEWEST, "drop_on_overflow": True}),
    ],
)
def test_wrong_arguments(error: type[Exception], arguments: dict[str, Any]):
    with pytest.raises(error):
        ChunkQueue(**arguments)


def test_the_monitor_as_0_9_has_it():
    monitor = BackpressureMonitor(high_water_mark=80, low_water_mark=20)
    assert not monitor.should_throttle()
    for size, throttle in ((50, False), (85, True), (30, True), (15, False)):
        monitor.record_put(queue_size=size, max_size=100)
        assert monitor.should_throttle() is throttle
    monitor.record_blocked(blocked_ms=50.0)
    monitor.record_blocked(blocked_ms=30.0)
    monitor.record_drop()
    assert monitor.stats == BackpressureStats(4, 1, 2, 85, 80.0)
    monitor.record_level(5, 0)
    assert monitor.fill_percentage == 0.0
    with pytest.raises(ArgumentValueError):
        BackpressureMonitor(high_water_mark=10)
    with pytest.raises(ArgumentTypeError):
        BackpressureMonitor(low_water_mark=1.5)  # pyright: ignore[reportArgumentType]


# --- random use -------------------------------------------------------------------------------------------


@pytest.mark.timeout(600 if DEEP else 30)
@settings(max_examples=EXAMPLES)
@given(
    overflow=st.sampled_from([Overflow.BLOCK, Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]),
    size=st.integers(1, 5),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put"] * 4 + ["get"] * 3 + ["get_nowait", "cancel", "cancel"]),
            st.integers(0, 9),
            st.integers(0, 3),
        ),
        max_size=50,
    ),
)
def test_each_chunk_is_got_once_in_order_or_said_to_be_dropped(
    overflow: Overflow, size: int, steps: list[tuple[str, int, int]]
):
    events = Events()
    got: list[int] = []

    async def main() -> None:
        queue = ChunkQueue[int](size, overflow=overflow, event_emitter=events)
        puts: dict[int, asyncio.Task[bool]] = {}
        tasks: list[asyncio.Task[Any]] = []

        async def get() -> None:
            chunk = await queue.get()
            if chunk is not None:
                got.append(chunk)

        for number, (does, which, wait) in enumerate(steps):
            if does == "put":
                tasks.append(start(queue.put(number)))
                puts[number] = tasks[-1]
                await asyncio.sleep(0)
            elif does == "get":
                tasks.append(start(get()))
            elif does == "get_nowait" and len(queue):
                got.append(queue.get_nowait())
            elif does == "cancel" and tasks:
                tasks[-1 - which % len(tasks)].cancel()
            await turns(wait)
            assert len(queue) <= size
        await queue.close()
        await turns(100)
        assert [task for task in tasks if not task.done()] == []
        got.extend(await rest(queue))
        accepted = [number for number, task in puts.items() if not task.cancelled() and task.result()]
        dropped = len(events.of("chunk_dropped"))
        assert got == sorted(set(got))
        assert set(got) <= set(accepted)
        assert len(accepted) - len(got) == (dropped if overflow is Overflow.DROP_OLDEST else 0)
        stats = queue.monitor.stats
        assert (stats.dropped_items, stats.max_queue_size <= size) == (dropped, True)
        assert stats.total_items == len(accepted) + (dropped if overflow is Overflow.DROP_NEWEST else 0)
        assert stats.blocked_puts == len(events.of("producer_blocked"))

    asyncio.run(main())
    levels = [name for name in events.types if name.startswith("throttle")]
    assert levels == ["throttle_started", "throttle_ended"] * (len(levels) // 2) + ["throttle_started"] * (
        len(levels) % 2
    )
