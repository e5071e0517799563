"""The event path: how many events a second go through ``BackpressureAwareEventSink``, and whether it counts them all.

The speed is that of one producer and the sink's worker on one core, into a ``NoOpEventSink``: by ``try_emit``, with a
turn for the worker whenever the queue is half full, and by ``emit``. Next to it is what one would write by hand, an
``asyncio.Queue`` and a task that empties it. The counts are those of a queue that is far too small.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from measure import in_turns
from program import main
from report import Reading
from stageflow import BackpressureAwareEventSink, NoOpEventSink

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPE = "stage.answer.completed"
DATA: dict[str, Any] = {"stage": "answer", "pipeline": "benchmark", "sequence": 7, "duration_ms": 1.5}
QUEUE = 1024
EVENTS = 20_000
TURNS = 9
SECONDS = 0.05


async def through_try_emit() -> None:
    """Never wait, but let the worker have its turn."""
    async with BackpressureAwareEventSink(NoOpEventSink(), max_queue_size=QUEUE) as sink:
        for _ in range(EVENTS // (QUEUE // 2)):
            for _ in range(QUEUE // 2):
                sink.try_emit(type=TYPE, data=DATA)
            while sink.queue_size:
                await asyncio.sleep(0)
        assert sink.metrics.dropped == 0


async def through_emit() -> None:
    """Wait for room."""
    async with BackpressureAwareEventSink(NoOpEventSink(), max_queue_size=QUEUE) as sink:
        for _ in range(EVENTS):
            await sink.emit(type=TYPE, data=DATA)


async def through_queue() -> None:
    """Put into a queue without waiting, and let the worker have its turn."""
    sink, queue = NoOpEventSink(), asyncio.Queue[tuple[str, dict[str, Any]]](QUEUE)

    async def work() -> None:
        while True:
            type, data = await queue.get()
            await sink.emit(type=type, data=data)

    worker = asyncio.create_task(work())
    for _ in range(EVENTS // (QUEUE // 2)):
        for _ in range(QUEUE // 2):
            queue.put_nowait((TYPE, DATA))
        while not queue.empty():
            await asyncio.sleep(0)
    worker.cancel()


async def through_waiting_queue() -> None:
    """Wait for room in a queue."""
    sink, queue = NoOpEventSink(), asyncio.Queue[tuple[str, dict[str, Any]]](QUEUE)

    async def work() -> None:
        while True:
            type, data = await queue.get()
            await sink.emit(type=type, data=data)

    worker = asyncio.create_task(work())
    for _ in range(EVENTS):
        await queue.put((TYPE, DATA))
    while not queue.empty():
        await asyncio.sleep(0)
    worker.cancel()


class Counting:
    """A downstream that gives way now and then."""

    def __init__(self) -> None:
        self.count = 0

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.count += 1
        if self.count % 10 == 0:
            await asyncio.sleep(0)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        raise NotImplementedError


async def unaccounted(threads: int, events: int) -> int:
    """Overload a sink from this thread, or from others; return how many events its counts do not explain."""
    downstream, told = Counting(), [0]
    lock = threading.Lock()

    def tell(type: str, data: dict[str, Any] | None) -> None:
        with lock:
            told[0] += 1

    def offer() -> None:
        for _ in range(events):
            sink.try_emit(type=TYPE, data=DATA)

    sink = BackpressureAwareEventSink(downstream, max_queue_size=100, on_drop=tell)
    await sink.start()
    if threads:
        await asyncio.gather(*[asyncio.to_thread(offer) for _ in range(threads)])
    else:
        for _ in range(10):
            offer()
            await asyncio.sleep(0)
    await sink.stop()
    offered, counts = events * (threads or 10), sink.metrics
    return (
        abs(offered - counts.emitted - counts.dropped)
        + abs(counts.emitted - downstream.count)
        + abs(counts.dropped - told[0])
    )


def readings(quick: bool) -> Iterator[Reading]:  # noqa: FBT001 - what `main` calls
    turns, seconds = (1, 0.001) if quick else (TURNS, SECONDS)
    systems = {
        "try-emit.ours": through_try_emit,
        "try-emit.queue": through_queue,
        "emit.ours": through_emit,
        "emit.queue": through_waiting_queue,
    }
    samples = asyncio.run(in_turns(systems, turns=turns, seconds=seconds))
    for name, found in samples.items():
        events = EVENTS if name.startswith("emit") else EVENTS // (QUEUE // 2) * (QUEUE // 2)
        yield Reading(f"events.{name}", [events / one.cpu for one in found])
    yield Reading("lost.overload.ours", [asyncio.run(unaccounted(0, 2_000))])
    yield Reading("lost.overload-from-threads.ours", [asyncio.run(unaccounted(3, 2_000))])


if __name__ == "__main__":
    main(readings, __doc__)
