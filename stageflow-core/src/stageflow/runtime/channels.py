"""``Channel``: the way of a stage's chunks to the stages that read them while it runs.

```
                     every blocking end has room
publish(chunk) ─┬────────────────────────────────────► into every open end at once ──► Reader
                │ one has none, or somebody waits            │ full, and the edge drops
                └──► the line, first come first served       └──► a gap marker
```

Invariants:

1. A chunk is handed to all open ends in one step that nothing interrupts, or to none. A ``publish`` that is
   cancelled, or released with an error, has handed its chunk to nobody.
2. Chunks reach every reader in the order in which they were published; nobody overtakes the line.
3. A chunk leaves a buffer in the very step in which its reader gets it, so no cancel can lose it.
4. A reader waits only while its buffer is empty and its end open, the first of the line only while a blocking
   end is full. Whatever changes that wakes them: a chunk, a reader that takes or leaves, ``restart`` and
   ``close``.
5. No Task is made here, and no lock is needed: a channel belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, final

from stageflow.context.checks import check_name, text_of, wrong_value
from stageflow.context.frozen import freeze
from stageflow.errors import ErrorClass, RunError, RunStateError, StageflowError, shown
from stageflow.stages.stream_edge import Overflow, StreamEdge, StreamGap, StreamRestart

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    Resume = Callable[[], Awaitable[object]]
    OnWait = Callable[[str], "Resume | None"]

__all__ = ["Channel", "ChannelCounts", "Reader", "StreamBrokenError", "StreamClosedError"]


class StreamClosedError(RunError, RuntimeError):
    """Somebody publishes into a stream that takes no more chunks; nobody has got the chunk.

    Args:
        producer: The stage whose stream it is.
        reason: Why it takes no more, as ``"it has ended"``.

    ```python
    from stageflow.runtime.channels import Channel, StreamClosedError

    channel = Channel("llm", [])
    channel.close()
    try:
        channel.offer("late")
    except StreamClosedError as error:
        print(error.what)
        #> The stream of 'llm' takes no more chunks: it has ended
    ```
    """

    code = "SF-RUN-STREAM-CLOSED"
    error_class = ErrorClass.LOGIC

    def __init__(self, producer: str, reason: str) -> None:
        self.producer = producer
        self.reason = reason
        super().__init__(
            f"The stream of {shown(producer)} takes no more chunks: {reason}",
            where=f"stage {shown(producer)}",
            fix="Publish before the stage ends, and let no helper of the stage outlive its attempt",
        )


class StreamBrokenError(RunError):
    """A stream has come to an end before its time; what its producer had published has been read.

    Its ``__cause__`` is the producer's error.

    Args:
        producer: The stage whose stream it is.
        reason: What broke it.

    ```python
    import asyncio

    from stageflow.runtime.channels import Channel, StreamBrokenError
    from stageflow.stages import StreamEdge


    async def main():
        channel = Channel("llm", [("tts", StreamEdge("llm"))])
        channel.offer("Hel")
        channel.close(ConnectionError("no route"))
        try:
            async for chunk in channel.subscribe("tts"):
                print(chunk)
                #> Hel
        except StreamBrokenError as error:
            print(error.what)
            #> The stream of 'llm' broke off: ConnectionError: no route


    asyncio.run(main())
    ```
    """

    code = "SF-RUN-STREAM-BROKEN"

    def __init__(self, producer: str, reason: str) -> None:
        self.producer = producer
        self.reason = reason
        super().__init__(
            f"The stream of {shown(producer)} broke off: {reason}",
            where=f"stream of stage {shown(producer)}",
            fix="Look at the cause; catch this error in the reader if what came before is worth something",
        )


class ChannelCounts(NamedTuple):
    """What has become of the chunks for one reader so far; markers are not counted.

    Attributes:
        delivered: Read.
        lost: Dropped because the reader was too slow and its edge says to drop.
        waiting: In the buffer.
    """

    delivered: int
    lost: int
    waiting: int


class _Marker:
    """Stands in a buffer where a gap or a restart is.

    Readers get a record in its place. A gap may still grow here; and a record is a chunk like any other if a
    stage publishes what it reads.
    """

    __slots__ = ("attempt", "lost")

    def __init__(self, *, lost: int = 0, attempt: int = 0) -> None:
        self.lost = lost
        self.attempt = attempt

    def read(self) -> StreamGap | StreamRestart:
        return StreamGap(self.lost) if self.lost else StreamRestart(self.attempt)


class _End:
    """One reader's end of the channel. Markers take no room: at most one more of them than of chunks.

    Attributes:
        limit: How many items it holds at most: so many chunks as the edge says, and every marker.
        reading: Who waits here, from before the wait until its stage has back what it has lent.
    """

    __slots__ = (
        "arrival",
        "coalesce",
        "delivered",
        "ended",
        "error",
        "items",
        "limit",
        "lost",
        "marked",
        "name",
        "overflow",
        "reading",
        "reason",
        "size",
    )

    def __init__(self, name: str, edge: StreamEdge, *, marked: bool) -> None:
        self.name = name
        self.size = edge.size
        self.overflow = edge.overflow
        self.coalesce = edge.coalesce
        self.marked = marked
        self.items: deque[Any] = deque()
        self.limit = edge.size
        self.delivered = 0
        self.lost = 0
        self.reading: Reader | None = None
        self.arrival: asyncio.Future[None] | None = None
        self.ended = False
        self.error: BaseException | None = None
        self.reason = ""

    def wake(self) -> None:
        arrival, self.arrival = self.arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    def clear(self) -> None:
        self.items.clear()
        self.limit = self.size

    def finish(self, error: BaseException | None, reason: str) -> None:
        self.ended, self.error, self.reason = True, error, reason
        self.wake()

    def overflow_with(self, chunk: Any, merged: dict[str, Any] | None) -> None:
        if merged is not None and self.name in merged:
            self.items[-1] = merged[self.name]
        elif self.overflow is Overflow.DROP_OLDEST:
            self.drop_oldest(chunk)
        else:
            self.drop_newest()

    def drop_oldest(self, chunk: Any) -> None:
        items = self.items
        self.lost += 1
        items.append(chunk)
        if not self.marked:
            items.popleft()
            return
        first = 0  # the oldest chunk: behind a restart, and behind the gap that is there already
        while type(items[first]) is _Marker:
            first += 1
        if first and items[first - 1].lost:
            items[first - 1].lost += 1
            del items[first]
        else:
            items[first] = _Marker(lost=1)
            self.limit += 1

    def drop_newest(self) -> None:
        self.lost += 1
        if not self.marked:
            return
        last = self.items[-1]  # the newest chunk, or the gap behind it
        if type(last) is _Marker:
            last.lost += 1
        else:
            self.items.append(_Marker(lost=1))
            self.limit += 1


class _Turn:
    """A place in the line."""

    __slots__ = ("error", "woken")

    def __init__(self, woken: asyncio.Future[None]) -> None:
        self.woken = woken
        self.error: StreamClosedError | None = None

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class _Line:
    """Those who wait for room, and the ends that must have it."""

    __slots__ = ("blocking", "turns")

    def __init__(self, blocking: tuple[_End, ...]) -> None:
        self.blocking = blocking
        self.turns: deque[_Turn] = deque()

    def has_room(self) -> bool:
        return all(len(end.items) < end.limit for end in self.blocking)

    def call_next(self) -> None:
        """Wake the first, if there is room. It stays the first until it has published: none overtakes it."""
        if self.turns and self.has_room():
            self.turns[0].wake()

    def release(self, error: Callable[[], StreamClosedError]) -> None:
        for turn in self.turns:
            turn.error = error()
            turn.wake()
        self.turns.clear()


@final
class Reader:
    """Iterates over what waits for one reader, and waits for more. Made by ``Channel.subscribe``.

    A stage may have several, one after the other or in turns: each chunk comes out of one of them. But only
    one may wait at a time. A cancelled wait loses nothing: the chunk that was on its way is the next one's.

    ```python
    import asyncio

    from stageflow.runtime.channels import Channel
    from stageflow.stages import StreamEdge


    async def main():
        channel = Channel("llm", [("tts", StreamEdge("llm"))])
        for token in ("Hel", "lo", "!"):
            await channel.publish(token)
        channel.close()
        async for token in channel.subscribe("tts"):
            print(token)
            break
        print([token async for token in channel.subscribe("tts")])


    asyncio.run(main())
    #> Hel
    #> ['lo', '!']
    ```
    """

    __slots__ = ("_closed", "_end", "_line", "_on_wait", "_producer")

    def __init__(self, producer: str, end: _End, line: _Line, on_wait: OnWait | None) -> None:
        self._producer = producer
        self._end = end
        self._line = line
        self._on_wait = on_wait
        self._closed = False

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Any:
        """Return the next chunk, ``StreamGap`` or ``StreamRestart``.

        Raises:
            StopAsyncIteration: The stream has ended, the reader has left it, or this iterator was closed.
            StreamBrokenError: The stream broke off; again each time.
            RunStateError: Another Task of the reader waits for a chunk already.
        """
        end = self._end
        if not end.items or end.reading is not None or self._closed:
            await self._arrival(end)
        return self._take(end)

    def poll(self, default: Any = None) -> Any:
        """Return what waits first, without waiting; *default* if nothing does, as at the end.

        ```python
        from stageflow.runtime.channels import Channel
        from stageflow.stages import StreamEdge

        channel = Channel("llm", [("tts", StreamEdge("llm"))])
        channel.offer("Hel")
        reader = channel.subscribe("tts")
        print(reader.poll(), reader.poll())
        #> Hel None
        ```
        """
        end = self._end
        return self._take(end) if end.items and not self._closed else default

    async def aclose(self) -> None:
        """End this iterator, also for who waits in it. What is unread stays, for the next one.

        So a reader that is attempted again goes on where its last attempt stopped, also if that closed its
        iterator. To give up the stream for good is ``Channel.leave``.
        """
        self._closed = True
        if self._end.reading is self:
            self._end.wake()

    def _take(self, end: _End) -> Any:
        item = end.items.popleft()
        if type(item) is _Marker:
            end.limit -= 1
            return item.read()
        end.delivered += 1
        if self._line.turns and len(end.items) + 1 == end.limit:  # only a full end can hold somebody up
            self._line.call_next()
        return item

    async def _arrival(self, end: _End) -> None:
        """Return when something waits; raise at the end."""
        if end.reading is not None:
            what = (
                f"Two Tasks of {shown(end.name)} wait for chunks of {shown(self._producer)} at the same time"
            )
            fix = "Read a stream in one Task, and hand its chunks to the others"
            raise RunStateError(what, where=f"stage {shown(end.name)}", fix=fix)
        end.reading = self
        try:
            while not self._closed:
                if end.items:
                    return
                if end.ended:
                    if end.error is None:
                        break
                    raise StreamBrokenError(self._producer, end.reason) from end.error
                end.arrival = asyncio.get_running_loop().create_future()
                if self._on_wait is None:
                    await end.arrival
                else:
                    await _outwait(end.arrival, self._on_wait(end.name))
            raise StopAsyncIteration
        finally:
            end.reading = end.arrival = None


@final
class Channel:
    """What one producer publishes in one run, with a bounded buffer for each reader.

    What a full buffer does to a chunk is the reader's choice (``StreamEdge.overflow``). Where chunks are
    missing, the reader finds a ``StreamGap`` that says how many: with ``DROP_OLDEST`` in front of what is
    left, with ``DROP_NEWEST`` behind what was waiting when they came. ``COALESCE`` leaves no gap.

    Whoever has to wait, a reader for a chunk or the producer for room, lends what it occupies, through
    *on_wait*:

    - It is called with the name of the stage that waits, in the step before the wait. If it raises, there is
      no wait.
    - It may return an async function, which is awaited once when the wait is over. Only then is the chunk
      taken from the buffer, or handed over. If that function is cancelled, or raises, so is the call that
      waited; the reader's chunk stays in the buffer, the producer's is nobody's, and the next in the line
      goes on.
    - It is awaited after a wait that was cancelled, too, since the stage may go on (``asyncio.timeout``); the
      ``CancelledError`` follows when it returns. In a run that is being stopped it should return at once.

    Args:
        producer: The stage that publishes.
        readers: The name of each stage that reads, and its edge.
        on_wait: Called before each wait, see above.
        plain: Hand on the chunks as they are, and mark no gaps: for a queue outside of any run.

    Raises:
        ArgumentTypeError: A name is no str.
        ArgumentValueError: A name is empty, or two readers have the same.

    ```python
    import asyncio

    from stageflow.runtime.channels import Channel
    from stageflow.stages import Overflow, StreamEdge


    async def main():
        meter = StreamEdge("llm", size=1, overflow=Overflow.DROP_OLDEST)
        channel = Channel("llm", [("tts", StreamEdge("llm")), ("meter", meter)])
        for token in ("Hel", "lo", "!"):
            await channel.publish(token)
        channel.close()
        for name in ("tts", "meter"):
            print([token async for token in channel.subscribe(name)])


    asyncio.run(main())
    #> ['Hel', 'lo', '!']
    #> [StreamGap(lost=2), '!']
    ```
    """

    __slots__ = (
        "_by_name",
        "_closed",
        "_line",
        "_merging",
        "_on_wait",
        "_open",
        "_producer",
        "_published",
        "_read_only",
    )

    def __init__(
        self,
        producer: str,
        readers: Iterable[tuple[str, StreamEdge]],
        *,
        on_wait: OnWait | None = None,
        plain: bool = False,
    ) -> None:
        check_name("Channel", "producer", producer)
        self._producer = producer
        self._published = 0
        self._by_name: dict[str, _End] = {}
        for name, edge in readers:
            check_name("Channel", "readers", name)
            if name in self._by_name:
                raise wrong_value("Channel", "readers", "has a reader twice", name)
            self._by_name[name] = _End(name, edge, marked=not plain)
        self._open = tuple(self._by_name.values())
        self._merging = any(end.coalesce is not None for end in self._open)
        self._line = _Line(tuple(end for end in self._open if end.overflow is Overflow.BLOCK))
        self._on_wait = on_wait
        self._read_only: Callable[[Any], Any] = _as_it_is if plain else freeze
        self._closed = False

    # --- what is asked ----------------------------------------------------------------------------------

    @property
    def producer(self) -> str:
        """The stage that publishes."""
        return self._producer

    @property
    def published(self) -> int:
        """How many chunks have been taken, those that nobody was there to read among them."""
        return self._published

    @property
    def closed(self) -> bool:
        """Whether it has ended, well or not."""
        return self._closed

    @property
    def readers(self) -> tuple[str, ...]:
        """Who still gets what is published."""
        return tuple([end.name for end in self._open])

    @property
    def blocked(self) -> int:
        """How many calls of ``publish`` wait for room."""
        return len(self._line.turns)

    def counts(self, reader: str) -> ChannelCounts:
        """Return what has become of the chunks for a reader so far.

        Raises:
            ArgumentValueError: There is no such reader.
        """
        end = self._end_of("counts", reader)
        return ChannelCounts(end.delivered, end.lost, end.size - (end.limit - len(end.items)))

    # --- the producer -----------------------------------------------------------------------------------

    def offer(self, chunk: Any) -> bool:
        """Publish a chunk if that is possible without waiting; False if it is not, and nobody has got it.

        Args:
            chunk: Anything. Its dicts, lists and sets are copied into read-only ones, as those of an output.

        Raises:
            StreamClosedError: The stream has ended.
            CyclicDataError: The chunk contains itself.
        """
        return self._hand_over(self._read_only(chunk), self._line.turns)

    async def publish(self, chunk: Any) -> bool:
        """Publish a chunk as soon as every blocking reader has room, and return whether anybody still reads.

        It does not suspend if there is room. Calls that wait are served in their order. A call that is
        cancelled, or raises, has handed its chunk to nobody, and those behind it move up.

        Args:
            chunk: Anything. Its dicts, lists and sets are copied into read-only ones, as those of an output,
                before the wait.

        Raises:
            StreamClosedError: The stream has ended, or its producer was restarted during the wait.
            CyclicDataError: The chunk contains itself.
        """
        chunk = self._read_only(chunk)
        if not self._hand_over(chunk, self._line.turns):
            await self._publish_in_turn(chunk)
        return bool(self._open)

    async def _publish_in_turn(self, chunk: Any) -> None:
        line = self._line
        turn = _Turn(asyncio.get_running_loop().create_future())
        line.turns.append(turn)
        try:
            if self._on_wait is None:
                await turn.woken
            else:
                await _outwait(turn.woken, self._on_wait(self._producer))
            # It was woken as the first of the line, when there was room; nobody else can have taken it since.
            if turn.error is None:
                self._hand_over(chunk, ())
        finally:
            if turn.error is None:
                line.turns.remove(turn)
                line.call_next()
        if turn.error is not None:
            raise turn.error

    def _hand_over(self, chunk: Any, ahead: Collection[_Turn]) -> bool:
        """Hand a chunk to every open end in one step, if nobody is ahead and every blocking end has room."""
        if self._closed:
            raise StreamClosedError(self._producer, "it has ended")
        if ahead:
            return False
        for end in self._line.blocking:  # as _Line.has_room, without the call
            if len(end.items) >= end.limit:
                return False
        merged = self._merged(chunk) if self._merging else None
        self._published += 1
        for end in self._open:
            items = end.items
            if len(items) < end.limit:
                items.append(chunk)
            else:
                end.overflow_with(chunk, merged)
            if end.arrival is not None:
                end.wake()
        return True

    def _merged(self, chunk: Any) -> dict[str, Any]:
        """Return what is to take the place of the newest chunk, for each full end that coalesces.

        All of them before any end gets the chunk, because the functions are somebody else's. One that raises
        breaks its own end, of which its reader hears, and not the producer.
        """
        merged: dict[str, Any] = {}
        for end in self._open:
            if end.coalesce is not None and len(end.items) >= end.limit:
                try:
                    merged[end.name] = freeze(end.coalesce(end.items[-1], chunk))
                except Exception as exc:  # noqa: BLE001 - an edge's function is somebody else's code
                    self._shut(end)
                    end.finish(exc, f"coalesce= of its reader {shown(end.name)} raised {_told(exc)}")
        return merged

    def restart(self, attempt: int) -> None:
        """Begin anew: readers find ``StreamRestart(attempt)`` in place of all that they have not read yet.

        Calls of ``publish`` that wait are released with an error. If nothing has been published, readers
        notice nothing.

        Args:
            attempt: The attempt that begins.

        Raises:
            StreamClosedError: The stream has ended.
        """
        if self._closed:
            raise StreamClosedError(self._producer, "it has ended")
        self._line.release(lambda: StreamClosedError(self._producer, f"attempt {attempt} has begun"))
        if not self._published:
            return
        for end in self._open:
            end.clear()
            end.items.append(_Marker(attempt=attempt))
            end.limit += 1
            end.wake()

    def close(self, error: BaseException | None = None) -> None:
        """End the stream: readers read what waits, then come to its end. Closing it again changes nothing.

        Args:
            error: What broke it; then readers get a ``StreamBrokenError`` at its end. None if it has ended
                well.
        """
        self._closed = True
        self._line.release(lambda: StreamClosedError(self._producer, "it has ended"))
        self._line.blocking = ()
        cancelled = isinstance(error, asyncio.CancelledError)
        reason = "" if error is None else "its producer was cancelled" if cancelled else _told(error)
        for end in self._open:
            end.finish(error, reason)
        self._open = ()

    # --- the readers ------------------------------------------------------------------------------------

    def subscribe(self, reader: str) -> Reader:
        """Return an iterator over what waits for a reader; it goes on where the last one stopped.

        Raises:
            ArgumentValueError: There is no such reader.
        """
        return Reader(self._producer, self._end_of("subscribe", reader), self._line, self._on_wait)

    def leave(self, reader: str) -> None:
        """Close a reader's end, because the reader has ended or will never start: it holds up nobody now.

        What waits for it is dropped. Leaving again changes nothing.

        Raises:
            ArgumentValueError: There is no such reader.
        """
        end = self._end_of("leave", reader)
        end.clear()
        self._shut(end)
        end.finish(None, "")
        self._line.call_next()

    def _shut(self, end: _End) -> None:
        self._open = tuple([other for other in self._open if other is not end])
        self._line.blocking = tuple([other for other in self._line.blocking if other is not end])

    def _end_of(self, method: str, reader: str) -> _End:
        end = self._by_name.get(reader)
        if end is None:
            call, problem = f"Channel.{method}", f"does not read the stream of {shown(self._producer)}"
            raise wrong_value(call, "reader", problem, reader)
        return end

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._open)} reading, {self.blocked} blocked"
        return f"<Channel {shown(self._producer)}, {self._published} published, {state}>"


async def _outwait(woken: asyncio.Future[None], resume: Resume | None) -> None:
    """Wait, and then take back what the stage has lent meanwhile, also if the wait was cancelled."""
    try:
        await woken
    except GeneratorExit:  # the coroutine was thrown away: nobody goes on, and nothing may be awaited
        raise
    except BaseException:
        if resume is not None:
            await resume()
        raise
    if resume is not None:
        await resume()


def _as_it_is(chunk: Any) -> Any:
    return chunk


def _told(error: BaseException) -> str:
    return error.what if isinstance(error, StageflowError) else f"{type(error).__name__}: {text_of(error)}"
