"""A sink with a bounded queue: whoever emits never waits for a slow downstream, and nothing is lost uncounted.

```
try_emit ──► queue (max_queue_size) ──► worker ──► downstream.emit
   │ full                                  ▲
   └──► dropped, counted, on_drop     emit waits for room
```

Invariants:

1. Events reach the downstream one at a time, in the order in which they were accepted, each at most once.
2. Every event that was ever offered is counted once: ``emitted + dropped``. After ``stop`` the queue is empty.
3. There is one worker at most. After ``stop`` there is none, unless the downstream refuses to be cancelled; then it
   ends as soon as the downstream lets go of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from contextlib import suppress
from contextvars import copy_context
from time import monotonic_ns, time
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.checks import check_type, number_of, wrong_type, wrong_value
from stageflow.context.record import Record
from stageflow.errors import ErrorClass, RunError
from stageflow.events.sink import FanOutEventSink, LoggingEventSink, get_event_sink

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from stageflow.protocols import EventSink

    Data = dict[str, Any] | None
    OnDrop = Callable[[str, Data], object]

__all__ = [
    "BackpressureAwareEventSink",
    "BackpressureMetrics",
    "EventSinkClosedError",
    "wait_for_event_sink_tasks",
]

_logger = logging.getLogger("stageflow.events")
_BATCH: Final = 64  # events between two looks at the clock
_TURN_NS: Final = 1_000_000  # how long a downstream that never suspends may keep the event loop
_GRACE: Final = 1.0  # seconds for a cancelled downstream to end


class EventSinkClosedError(RunError, RuntimeError):
    """Somebody waits for room in a sink that has been stopped.

    Args:
        type: The type of the event.
    """

    code = "SF-RUN-SINK-CLOSED"
    error_class = ErrorClass.LOGIC

    def __init__(self, type: str) -> None:  # noqa: A002 - the event's type
        self.type = type
        super().__init__(
            f"The event {type!r} cannot be emitted: the sink has been stopped",
            fix="Stop the sink after whatever emits into it, or start() it again",
        )


@final
class BackpressureMetrics(Record):
    """What has become of the events offered to a sink so far; a snapshot.

    Args:
        emitted: Accepted, and either handed on or still in the queue.
        dropped: Refused because the queue was full or the sink stopped, or discarded from the queue.
        queue_full_count: How often somebody found the queue full.
        last_emit_time: When an event was last accepted, in seconds since the epoch.
        last_drop_time: When one was last dropped.
        failed: Of those emitted, on which the downstream raised or was cut off.

    ```python
    from stageflow.events import BackpressureMetrics

    print(BackpressureMetrics(emitted=3, dropped=1).drop_rate)
    #> 25.0
    ```
    """

    __match_args__ = (
        "emitted",
        "dropped",
        "queue_full_count",
        "last_emit_time",
        "last_drop_time",
        "failed",
    )
    __slots__ = __match_args__
    emitted: int
    dropped: int
    queue_full_count: int
    last_emit_time: float | None
    last_drop_time: float | None
    failed: int

    def __init__(
        self,
        emitted: int = 0,
        dropped: int = 0,
        queue_full_count: int = 0,
        last_emit_time: float | None = None,
        last_drop_time: float | None = None,
        failed: int = 0,
    ) -> None:
        put = object.__setattr__
        put(self, "emitted", emitted)
        put(self, "dropped", dropped)
        put(self, "queue_full_count", queue_full_count)
        put(self, "last_emit_time", last_emit_time)
        put(self, "last_drop_time", last_drop_time)
        put(self, "failed", failed)

    @property
    def drop_rate(self) -> float:
        """How many of all events were dropped, in percent.

        ```python
        from stageflow.events.backpressure import BackpressureMetrics

        print(BackpressureMetrics(emitted=3, dropped=1).drop_rate)
        #> 25.0
        ```
        """
        offered = self.emitted + self.dropped
        return 100.0 * self.dropped / offered if offered else 0.0


@final
class BackpressureAwareEventSink:
    """Queues events for a downstream that may be slow, hang or raise.

    The worker starts by itself with the first event inside an event loop; events that come before wait in the queue.
    It runs in the context variables of whoever made the sink, not of whoever emits first. ``try_emit`` may be called
    from any thread. A stopped sink refuses events, counted as dropped, until ``start`` is called again.

    Args:
        downstream: Where the worker delivers, by ``emit``, one event at a time; a ``LoggingEventSink`` by default.
        max_queue_size: How many events may wait.
        on_drop: Called with the type and the data of every event that is dropped; must be quick.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: ``max_queue_size`` below 1.

    ```python
    import asyncio

    from stageflow.events.backpressure import BackpressureAwareEventSink
    from stageflow.events import LoggingEventSink


    async def main():
        async with BackpressureAwareEventSink(LoggingEventSink(), max_queue_size=2) as sink:
            print([sink.try_emit(type="tick", data={"n": n}) for n in range(3)])
            #> [True, True, False]
        print(sink.metrics.emitted, sink.metrics.dropped, sink.queue_size)
        #> 2 1 0


    asyncio.run(main())
    ```
    """

    __slots__ = (
        "_closed",
        "_context",
        "_dropped",
        "_emitted",
        "_failed",
        "_flushers",
        "_full",
        "_generation",
        "_last_drop",
        "_last_emit",
        "_lock",
        "_loop",
        "_max",
        "_on_drop",
        "_putters",
        "_queue",
        "_reported",
        "_wakeup",
        "_worker",
        "downstream",
    )

    def __init__(
        self,
        downstream: EventSink | None = None,
        *,
        max_queue_size: int = 1000,
        on_drop: OnDrop | None = None,
    ) -> None:
        owner = type(self).__name__
        if downstream is not None and not callable(getattr(downstream, "emit", None)):
            raise wrong_type(owner, "downstream", "an EventSink", downstream)
        if on_drop is not None and not callable(on_drop):
            raise wrong_type(owner, "on_drop", "a callable or None", on_drop)
        check_type(owner, "max_queue_size", max_queue_size, int, "an int")
        if max_queue_size < 1:
            raise wrong_value(owner, "max_queue_size", "must be at least 1", max_queue_size)
        self.downstream: EventSink = LoggingEventSink() if downstream is None else downstream
        self._max = max_queue_size
        self._on_drop = on_drop
        self._context = copy_context()
        self._lock = (
            threading.Lock()
        )  # producers may be other threads; held for a few operations, never while awaiting
        self._queue: deque[tuple[str, Data]] = deque()
        self._putters: deque[tuple[str, Data, asyncio.Future[None]]] = (
            deque()
        )  # wait for room, first come first served
        self._flushers: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None
        self._wakeup: asyncio.Future[None] | None = None  # while the worker waits for an event
        self._generation = 0  # a worker of an earlier one ends as soon as it can
        self._closed = False
        self._reported = False
        self._emitted = self._dropped = self._failed = self._full = 0
        self._last_emit: float | None = None
        self._last_drop: float | None = None

    # --- what is asked ----------------------------------------------------------------------------------

    @property
    def metrics(self) -> BackpressureMetrics:
        """What has become of the events so far."""
        with self._lock:
            return BackpressureMetrics(
                self._emitted, self._dropped, self._full, self._last_emit, self._last_drop, self._failed
            )

    @property
    def drop_rate(self) -> float:
        """How many of all events were dropped, in percent."""
        return self.metrics.drop_rate

    @property
    def queue_size(self) -> int:
        """How many events wait."""
        return len(self._queue)

    @property
    def is_running(self) -> bool:
        """Whether a worker delivers events."""
        return not self._closed and self._alive()

    # --- events come in ---------------------------------------------------------------------------------

    def try_emit(self, *, type: str, data: Data = None) -> bool:  # noqa: A002 - published keyword
        """Queue an event; False if it is dropped. Never waits, never raises, needs no event loop."""
        with self._lock:
            full = len(self._queue) >= self._max
            accepted = not (full or self._closed)
            if accepted:
                self._accept(type, data)
            else:
                self._full += full
                self._count_drop(1)
        if not accepted:
            self._tell_dropped(type, data)
        elif self._worker is None or self._wakeup is not None:
            self._rouse()
        return accepted

    async def emit(self, *, type: str, data: Data = None) -> None:  # noqa: A002 - published keyword
        """Queue an event, waiting for room.

        Raises:
            EventSinkClosedError: The sink has been stopped.
        """
        room: asyncio.Future[None] | None = None
        with self._lock:
            if self._closed:
                self._count_drop(1)
            elif len(self._queue) < self._max:
                self._accept(type, data)
            else:
                self._full += 1
                room = asyncio.get_running_loop().create_future()
                self._putters.append((type, data, room))
            closed = self._closed
        if closed:
            self._tell_dropped(type, data)
            raise EventSinkClosedError(type)
        if self._worker is None or self._wakeup is not None:
            self._rouse()
        if room is not None:
            await self._wait_for(room, type, data)

    async def _wait_for(self, room: asyncio.Future[None], type: str, data: Data) -> None:  # noqa: A002
        try:
            await room
        except asyncio.CancelledError:
            waiting = (type, data, room)
            with self._lock:
                given_up = any(one[2] is room for one in self._putters)
                if given_up:
                    self._putters.remove(waiting)
                    self._count_drop(1)
            if given_up:
                self._tell_dropped(type, data)
            raise

    def _accept(self, type: str, data: Data) -> None:  # noqa: A002
        self._queue.append((type, data))
        self._emitted += 1
        self._last_emit = time()

    def _count_drop(self, count: int) -> None:
        self._dropped += count
        self._last_drop = time()

    def _tell_dropped(self, type: str, data: Data) -> None:  # noqa: A002
        if self._on_drop is None:
            return
        try:
            self._on_drop(type, data)
        except Exception:
            _logger.warning("on_drop of %r raised on %r", self, type, exc_info=True)

    # --- the worker -------------------------------------------------------------------------------------

    def _alive(self) -> bool:
        worker, loop = self._worker, self._loop
        return worker is not None and loop is not None and not worker.done() and loop.is_running()

    def _rouse(self) -> None:
        """Wake the worker, or start one if there is none and an event loop to run it."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        with self._lock:
            if self._alive():
                wakeup, self._wakeup = self._wakeup, None
                if wakeup is not None:
                    _settle(wakeup, here)
            elif here is not None:
                self._loop, self._wakeup = here, None
                self._generation += 1  # the worker of a loop that has been left, should it ever go on, ends
                # In the sink's own context: a worker that took the first event's would keep its run's for ever.
                self._worker = here.create_task(self._work(here, self._generation), context=self._context)

    async def _work(self, loop: asyncio.AbstractEventLoop, generation: int) -> None:
        queue, me = self._queue, asyncio.current_task()
        turn_ns = monotonic_ns()
        try:
            while me is not None and generation == self._generation:
                await self._deliver(me, generation)
                if queue:
                    if monotonic_ns() - turn_ns > _TURN_NS:
                        await asyncio.sleep(0)
                        turn_ns = monotonic_ns()
                    continue
                self._admit()
                with self._lock:
                    if queue:
                        continue
                    self._settle_flushers()
                    if self._closed:
                        return
                    wakeup = self._wakeup = loop.create_future()
                await wakeup
                turn_ns = monotonic_ns()
        finally:
            with self._lock:
                if self._worker is me:
                    self._worker = self._wakeup = None

    async def _deliver(self, me: asyncio.Task[Any], generation: int) -> None:
        """Hand on what waits, but only a batch of it."""
        queue, emit = self._queue, self.downstream.emit
        for _ in range(_BATCH):
            if not queue or generation != self._generation:
                return
            type, data = queue.popleft()  # noqa: A001 - published keyword
            if self._putters:
                self._admit()
            try:
                await emit(type=type, data=data)
            except asyncio.CancelledError as exc:
                if me.cancelling():
                    with self._lock:
                        self._failed += 1
                    raise
                self._fail(type, exc)  # the downstream's own: somebody cancelled what it waited for
            except Exception as exc:  # noqa: BLE001 - a downstream is somebody else's code
                self._fail(type, exc)

    def _admit(self) -> None:
        """Move those that wait for room into the queue, in their order."""
        gone: list[tuple[str, Data]] = []
        with self._lock:
            while self._putters and len(self._queue) < self._max:
                type, data, room = self._putters.popleft()  # noqa: A001
                if room.done():  # cancelled, and not here yet to take itself out
                    self._count_drop(1)
                    gone.append((type, data))
                    continue
                self._accept(type, data)
                _settle(room, self._loop)
        for type, data in gone:  # noqa: A001
            self._tell_dropped(type, data)

    def _fail(self, type: str, error: BaseException) -> None:  # noqa: A002
        with self._lock:
            self._failed += 1
        if not self._reported:
            self._reported = True
            _logger.warning(
                "The event sink %r raised on %r and goes on getting events. Further errors of it are only counted.",
                self.downstream,
                type,
                exc_info=error,
            )

    def _settle_flushers(self) -> None:
        flushers, self._flushers = self._flushers, []
        for flusher in flushers:
            _settle(flusher, self._loop)

    # --- from start to stop -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the worker in this event loop; a stopped sink takes events again. Does nothing if it runs."""
        self._closed = False
        self._rouse()

    async def flush(self) -> None:
        """Wait until every event that was accepted so far has been handed on."""
        with self._lock:
            done = asyncio.get_running_loop().create_future()
            self._flushers.append(done)
        self._rouse()
        await done

    async def stop(self, *, drain: bool = True, timeout: float | None = 5.0) -> None:  # noqa: ASYNC109 - published
        """Take no more events, deliver those that wait, and end the worker. May be called twice.

        Args:
            drain: False discards what waits in the queue; the event that is being delivered is finished anyway.
            timeout: How long to wait for that, in seconds; then the downstream is cancelled, and what is left in the
                queue is dropped, and counted. None waits without limit.

        Raises:
            ArgumentTypeError, ArgumentValueError: *timeout* is no number, or negative.
        """
        if timeout is not None:
            expects, problem = "a number of seconds or None", "must be zero or more seconds"
            owner = "BackpressureAwareEventSink.stop"
            number_of(owner, "timeout", timeout, expects=expects, problem=problem, least=0, infinite=True)
        here = asyncio.get_running_loop()
        with self._lock:
            self._closed = True
            elsewhere = self._loop if self._alive() and self._loop is not here else None
        if elsewhere is not None:  # the worker lives in another thread's loop
            stopping = asyncio.run_coroutine_threadsafe(self.stop(drain=drain, timeout=timeout), elsewhere)
            await asyncio.wrap_future(stopping)
            return
        if not drain:
            self._discard()
        if self._queue or self._alive():
            self._rouse()
        worker = self._worker
        if (
            worker is None or worker is asyncio.current_task()
        ):  # the latter: the downstream itself stops the sink
            return
        try:
            await asyncio.wait([worker], timeout=timeout)
        finally:
            if not worker.done():
                _logger.warning(
                    "The event sink %r was not through in time; %d waiting events are dropped",
                    self.downstream,
                    len(self._queue),
                )
                self._generation += 1
                worker.cancel()
                self._discard()
                await asyncio.wait([worker], timeout=_GRACE)
                if not worker.done():
                    _logger.warning("The event sink %r does not end when it is cancelled", self.downstream)

    def _discard(self) -> None:
        """Drop whatever waits."""
        with self._lock:
            left: list[tuple[str, Data]] = list(self._queue)
            self._queue.clear()
            self._emitted -= len(left)
            while self._putters:
                type, data, room = self._putters.popleft()  # noqa: A001
                left.append((type, data))
                _settle(room, self._loop, EventSinkClosedError(type))
            if left:
                self._count_drop(len(left))
            self._settle_flushers()
        for type, data in left:  # noqa: A001
            self._tell_dropped(type, data)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._closed else "running" if self._alive() else "idle"
        return f"<BackpressureAwareEventSink {state}: {len(self._queue)} of {self._max} waiting>"


def _settle(
    future: asyncio.Future[None], here: asyncio.AbstractEventLoop | None, error: Exception | None = None
) -> None:
    """Settle a future of whatever event loop, from this one or from none."""

    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    loop = future.get_loop()
    if loop is here:
        settle()
    else:
        with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
            loop.call_soon_threadsafe(settle)


async def wait_for_event_sink_tasks() -> None:
    """Wait until the current sink has handed on every event that it has queued.

    Other than in 0.9, nothing is registered anywhere: it asks the sink that ``get_event_sink`` returns, and those
    within it, to ``flush``.

    ```python
    import asyncio

    from stageflow import clear_event_sink, set_event_sink
    from stageflow.events.backpressure import BackpressureAwareEventSink, wait_for_event_sink_tasks


    async def main():
        sink = BackpressureAwareEventSink()
        set_event_sink(sink)
        sink.try_emit(type="tick", data={})
        await wait_for_event_sink_tasks()
        print(sink.queue_size)
        #> 0
        await sink.stop()


    asyncio.run(main())
    ```
    """
    waiting: list[object] = [get_event_sink()]
    while waiting:
        sink = waiting.pop()
        if isinstance(sink, BackpressureAwareEventSink):
            await sink.flush()
        elif isinstance(sink, FanOutEventSink):
            waiting.extend(sink.sinks)
