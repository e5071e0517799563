"""``ChunkQueue``: a bounded queue of chunks between Tasks, outside of any run. A ``Channel`` with one reader.

Between two stages of a pipeline, ``streams=`` does this and more: it ends with its stages.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final

from stageflow.context.checks import check_count, wrong_type, wrong_value
from stageflow.context.record import Record
from stageflow.runtime.channels import Channel, StreamClosedError
from stageflow.stages.stream_edge import Overflow, StreamEdge

if TYPE_CHECKING:
    from collections.abc import Callable

    Emitter = Callable[[str, dict[str, Any]], object]

__all__ = ["BackpressureMonitor", "BackpressureStats", "ChunkQueue"]

T = TypeVar("T")

_logger = logging.getLogger("stageflow.streams")
_QUEUE: Final = "queue"  # a queue has no stages; these are the names of its ends
_NOTHING: Final = object()
_PERCENT: Final = 100.0


@final
class BackpressureStats(Record):
    """What has gone through a queue so far; a snapshot.

    Args:
        total_items: Chunks that came, also those that were dropped.
        dropped_items: Of those, dropped because the queue was full.
        blocked_puts: How often somebody waited for room, or waited in vain.
        max_queue_size: The most that ever waited.
        total_blocked_ms: How long producers waited in all, in milliseconds.

    ```python
    from stageflow.runtime.chunk_queue import BackpressureStats

    print(BackpressureStats(total_items=4, dropped_items=1).to_dict()["drop_rate"])
    #> 0.25
    ```
    """

    __match_args__ = ("total_items", "dropped_items", "blocked_puts", "max_queue_size", "total_blocked_ms")
    __slots__ = __match_args__
    total_items: int
    dropped_items: int
    blocked_puts: int
    max_queue_size: int
    total_blocked_ms: float

    def __init__(
        self,
        total_items: int = 0,
        dropped_items: int = 0,
        blocked_puts: int = 0,
        max_queue_size: int = 0,
        total_blocked_ms: float = 0.0,
    ) -> None:
        put = object.__setattr__
        put(self, "total_items", total_items)
        put(self, "dropped_items", dropped_items)
        put(self, "blocked_puts", blocked_puts)
        put(self, "max_queue_size", max_queue_size)
        put(self, "total_blocked_ms", total_blocked_ms)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, and ``drop_rate``: the share of chunks that were dropped, from 0 to 1."""
        fields = {name: getattr(self, name) for name in self.__match_args__}
        return {**fields, "drop_rate": self.dropped_items / max(self.total_items, 1)}


@final
class BackpressureMonitor:
    """Tells from how full a queue is whether its producer should slow down.

    It says so from the moment in which the queue reaches the high mark until it is down to the low one.

    Args:
        high_water_mark: In percent of the queue's size.
        low_water_mark: In percent, not above the other.

    Raises:
        ArgumentTypeError: A mark is no int.
        ArgumentValueError: A mark is negative, or the low one is the higher.

    ```python
    from stageflow.runtime.chunk_queue import BackpressureMonitor

    monitor = BackpressureMonitor()
    for size in (79, 80, 21, 20):
        monitor.record_level(size)
        print(monitor.fill_percentage, monitor.should_throttle())
    #> 79.0 False
    #> 80.0 True
    #> 21.0 True
    #> 20.0 False
    ```
    """

    __slots__ = (
        "_blocked",
        "_blocked_ms",
        "_dropped",
        "_fill",
        "_high",
        "_items",
        "_low",
        "_most",
        "_throttle",
    )

    def __init__(self, *, high_water_mark: int = 80, low_water_mark: int = 20) -> None:
        check_count("BackpressureMonitor", "low_water_mark", low_water_mark)
        check_count("BackpressureMonitor", "high_water_mark", high_water_mark, least=low_water_mark)
        self._high = high_water_mark
        self._low = low_water_mark
        self._fill = 0.0
        self._throttle = False
        self._items = self._dropped = self._blocked = self._most = 0
        self._blocked_ms = 0.0

    @property
    def stats(self) -> BackpressureStats:
        """What has been recorded so far."""
        return BackpressureStats(self._items, self._dropped, self._blocked, self._most, self._blocked_ms)

    @property
    def fill_percentage(self) -> float:
        """How full the queue was when it was last recorded, in percent."""
        return self._fill

    def should_throttle(self) -> bool:
        """Return whether the producer should slow down."""
        return self._throttle

    def record_put(self, queue_size: int, max_size: int = 100) -> None:
        """Record that a chunk came, and how full the queue is now."""
        self._items += 1
        self.record_level(queue_size, max_size)

    def record_level(self, queue_size: int, max_size: int = 100) -> None:
        """Record how full the queue is now."""
        self._most = max(self._most, queue_size)
        self._fill = queue_size / max_size * _PERCENT if max_size > 0 else 0.0
        if self._fill >= self._high:
            self._throttle = True
        elif self._fill <= self._low:
            self._throttle = False

    def record_blocked(self, blocked_ms: float) -> None:
        """Record that a producer has waited, in milliseconds."""
        self._blocked += 1
        self._blocked_ms += blocked_ms

    def record_drop(self) -> None:
        """Record that a chunk was dropped."""
        self._dropped += 1


@final
class ChunkQueue(Generic[T]):
    """A bounded queue of chunks between any number of producers and of consumers.

    Each chunk goes to one consumer, and is handed on as it is. Producers who find it full wait, in their
    order, unless it drops. ``close()`` wakes everybody who waits: consumers read what is left and come to the
    end, producers get False.

    It needs an event loop only where somebody waits, and belongs to that loop from then on.

    The events, and their data:

    - ``stream.chunk_dropped``, for each chunk that was dropped: ``queue_size``, ``max_size``, and ``reason``,
      which is ``overflow`` if it was the oldest and ``queue_full`` if it was the new one.
    - ``stream.producer_blocked``, after a producer has waited, or waited in vain: ``blocked_ms``,
      ``queue_size``.
    - ``stream.throttle_started``, when the queue has become 80 % full, and ``stream.throttle_ended``, when it
      is down to 20 % again: ``fill_percentage``, ``queue_size``.
    - ``stream.queue_closed``, once: the fields of ``BackpressureStats``.

    Args:
        max_size: How many chunks may wait, 1 or more.
        drop_on_overflow: The same as ``overflow=Overflow.DROP_OLDEST``.
        event_emitter: Called as ``event_emitter(type, data)`` for each event; ``ctx.try_emit_event`` is one.
            What it raises is logged once, and changes nothing.
        overflow: What happens to a chunk that finds the queue full; ``Overflow.BLOCK`` by default. A queue
            cannot coalesce.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: ``max_size`` is below 1, or ``overflow`` is none, or does not fit
            ``drop_on_overflow``.

    ```python
    import asyncio

    from stageflow.runtime.chunk_queue import ChunkQueue


    async def main():
        queue = ChunkQueue[str](2, drop_on_overflow=True, event_emitter=lambda type, data: print(type))
        for token in ("Hel", "lo", "!"):
            await queue.put(token)
        await queue.close()
        print([token async for token in queue], await queue.put("late"))


    asyncio.run(main())
    #> stream.throttle_started
    #> stream.chunk_dropped
    #> stream.queue_closed
    #> stream.throttle_ended
    #> ['lo', '!'] False
    ```
    """

    def __init__(
        self,
        max_size: int = 100,
        *,
        drop_on_overflow: bool = False,
        event_emitter: Emitter | None = None,
        overflow: Overflow | None = None,
    ) -> None:
        check_count("ChunkQueue", "max_size", max_size, least=1)
        if event_emitter is not None and not callable(event_emitter):
            raise wrong_type(
                "ChunkQueue", "event_emitter", "a function of a type and data, or None", event_emitter
            )
        self._overflow = _policy(overflow, drop_oldest=drop_on_overflow)
        self._max_size = max_size
        self._channel = Channel(_QUEUE, [(_QUEUE, StreamEdge(_QUEUE, max_size, self._overflow))], plain=True)
        self._reader = self._channel.subscribe(_QUEUE)
        self._turn = asyncio.Lock()  # consumers wait for chunks one at a time, in their order
        self._monitor = BackpressureMonitor()
        self._emitter = event_emitter
        self._emitter_failed = False

    @property
    def monitor(self) -> BackpressureMonitor:
        """How full the queue is, and what has gone through it."""
        return self._monitor

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more chunks; some may be left in it."""
        return self._channel.closed

    def __len__(self) -> int:
        return self._channel.counts(_QUEUE).waiting

    async def put(self, item: T) -> bool:
        """Put a chunk into the queue, waiting for room if it does not drop.

        A call that is cancelled while it waits leaves no chunk behind.

        Returns:
            Whether the chunk is in the queue: False if it is closed, also if it was closed during the wait,
            and if the chunk was dropped.
        """
        lost = self._channel.counts(_QUEUE).lost
        try:
            if not self._channel.offer(item):
                await self._wait_for_room(item)
        except StreamClosedError:
            return False
        dropped = self._channel.counts(_QUEUE).lost > lost
        if dropped:
            self._monitor.record_drop()
            reason = "overflow" if self._overflow is Overflow.DROP_OLDEST else "queue_full"
            self._emit("stream.chunk_dropped", queue_size=len(self), max_size=self._max_size, reason=reason)
        throttled = self._monitor.should_throttle()
        self._monitor.record_put(len(self), self._max_size)
        self._tell_throttle(throttled)
        return not dropped or self._overflow is Overflow.DROP_OLDEST

    async def get(self) -> T | None:
        """Take the next chunk, waiting for one; None at the end, when the queue is closed and empty."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return None

    def get_nowait(self) -> T:
        """Take the next chunk without waiting.

        Raises:
            asyncio.QueueEmpty: There is none.
        """
        item = self._reader.poll(_NOTHING)
        if item is _NOTHING:
            raise asyncio.QueueEmpty
        self._taken()
        return cast("T", item)

    def __aiter__(self) -> ChunkQueue[T]:
        return self

    async def __anext__(self) -> T:
        async with self._turn:
            item: T = await anext(self._reader)
        self._taken()
        return item

    async def close(self) -> None:
        """Take no more chunks, and wake everybody who waits. Closing it again changes nothing."""
        if not self._channel.closed:
            self._channel.close()
            stats = self._monitor.stats
            self._emit("stream.queue_closed", **{name: getattr(stats, name) for name in stats.__match_args__})

    async def _wait_for_room(self, item: T) -> None:
        clock = asyncio.get_running_loop().time
        since = clock()
        try:
            await self._channel.publish(item)
        finally:
            blocked_ms = (clock() - since) * 1000
            self._monitor.record_blocked(blocked_ms)
            self._emit("stream.producer_blocked", blocked_ms=blocked_ms, queue_size=len(self))

    def _taken(self) -> None:
        throttled = self._monitor.should_throttle()
        self._monitor.record_level(len(self), self._max_size)
        self._tell_throttle(throttled)

    def _tell_throttle(self, throttled: bool) -> None:  # noqa: FBT001 - internal
        if self._monitor.should_throttle() is not throttled:
            change = "stream.throttle_ended" if throttled else "stream.throttle_started"
            self._emit(change, fill_percentage=self._monitor.fill_percentage, queue_size=len(self))

    def _emit(self, event: str, **data: Any) -> None:
        if self._emitter is None:
            return
        try:
            self._emitter(event, data)
        except Exception:
            if not self._emitter_failed:
                self._emitter_failed = True
                _logger.warning("event_emitter of %r raised on %r", self, event, exc_info=True)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"<ChunkQueue {len(self)}/{self._max_size}, {self._overflow}, {state}>"


def _policy(overflow: Overflow | None, *, drop_oldest: bool) -> Overflow:
    if overflow is None:
        return Overflow.DROP_OLDEST if drop_oldest else Overflow.BLOCK
    if overflow not in list(Overflow) or overflow == Overflow.COALESCE:
        raise wrong_value("ChunkQueue", "overflow", "is no Overflow of a queue", overflow)
    if drop_oldest and overflow != Overflow.DROP_OLDEST:
        raise wrong_value("ChunkQueue", "overflow", "does not fit drop_on_overflow=True", overflow)
    return Overflow(overflow)
