"""``RunStream``: a run as a stream of its events, and of what its stages publish."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Protocol, final

from stageflow.context.checks import check_count
from stageflow.errors import RunStateError
from stageflow.events.emitter import RunEvent
from stageflow.events.vocabulary import STREAM_CHUNK, STREAM_GAP
from stageflow.protocols import EventSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from stageflow.runtime.results import PipelineResults

    ChunkReader = Callable[[str, int, int, Any], None]

__all__ = ["RunReader", "RunStream"]


class RunReader(EventSink, Protocol):
    """A sink that also gets what the stages of one run publish."""

    def chunk(self, stage: str, attempt: int, index: int, chunk: Any) -> None:
        """Take a chunk, without waiting.

        Args:
            stage: Who has published it.
            attempt: In which attempt.
            index: The how manieth of the stage's chunks it is, from 1.
            chunk: The chunk.
        """
        ...


@final
class _Buffer:
    """Keeps the newest events and chunks for one reader, and counts those that it had to drop."""

    __slots__ = ("_arrival", "_events", "_limit", "_lost", "_lost_chunks")

    def __init__(self, limit: int) -> None:
        self._events: deque[RunEvent] = deque()
        self._limit = limit
        self._lost = self._lost_chunks = 0
        self._arrival = asyncio.Event()

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:  # noqa: A002 - published keyword
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:  # noqa: A002 - published keyword
        if len(self._events) >= self._limit:
            self._lost += 1
            self._lost_chunks += self._events.popleft().type == STREAM_CHUNK
        self._events.append(RunEvent(type, data or {}))
        self._arrival.set()

    def chunk(self, stage: str, attempt: int, index: int, chunk: Any) -> None:
        data = {
            "stage": stage,
            "attempt": attempt,
            "index": index,
            "chunk": chunk,
            "monotonic_ns": monotonic_ns(),
        }
        self.try_emit(type=STREAM_CHUNK, data=data)

    def take(self) -> RunEvent | None:
        if self._lost:
            gap = RunEvent(STREAM_GAP, {"lost": self._lost, "lost_chunks": self._lost_chunks})
            self._lost = self._lost_chunks = 0
            return gap
        return self._events.popleft() if self._events else None

    def wake(self) -> None:
        self._arrival.set()

    async def wait(self) -> None:
        self._arrival.clear()
        await self._arrival.wait()


@final
class RunStream:
    """Iterate over it once: the run starts then, and whoever stops early cancels it.

    Python closes an abandoned ``async for`` some time after the reader has left it. ``async with`` around it makes sure
    that the run has ended when the block has, whatever happens inside.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind, StageOutput


    async def greet(ctx):
        return StageOutput.ok(text="hi")


    async def main():
        pipeline = Pipeline().with_stage("greet", greet, StageKind.TRANSFORM)
        async with pipeline.stream() as stream:
            async for event in stream:
                print(event.type)
        print(stream.results["greet"].data)


    asyncio.run(main())
    #> pipeline.started
    #> stage.greet.started
    #> stage.greet.completed
    #> pipeline.completed
    #> {'text': 'hi'}
    ```
    """

    __slots__ = ("_buffer_size", "_raises", "_results", "_run", "_start", "_started")

    def __init__(
        self,
        start: Callable[[RunReader], Awaitable[PipelineResults]],
        *,
        buffer: int,
        raises: Callable[[PipelineResults], bool],
    ) -> None:
        check_count("stream", "buffer", buffer, least=1)
        self._start = start
        self._buffer_size = buffer
        self._raises = raises
        self._results: PipelineResults | None = None
        self._run: asyncio.Future[PipelineResults] | None = None
        self._started = False

    @property
    def results(self) -> PipelineResults:
        """What the run left behind, once its last event has been read.

        Raises:
            RunStateError: The run has not ended yet.
        """
        if self._results is None:
            msg = "The run has not ended yet"
            raise RunStateError(msg, where="stream", fix="Read the stream to its end first")
        return self._results

    async def __aenter__(self) -> RunStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def __aiter__(self) -> AsyncIterator[RunEvent]:
        if self._started:
            msg = "A stream can be read once"
            raise RunStateError(
                msg,
                where="stream",
                fix="Call stream() again for another run",
            )
        self._started = True
        buffer = _Buffer(self._buffer_size)
        run = self._run = asyncio.ensure_future(self._start(buffer))
        run.add_done_callback(lambda _: buffer.wake())
        try:
            while True:
                event = buffer.take()
                if event is not None:
                    yield event
                elif run.done():
                    break
                else:
                    await buffer.wait()
        finally:
            # The reader left early, by break, by an error or by being cancelled: the run ends with it.
            await self._end()
        results = run.result()
        if self._raises(results) and results.error is not None:
            raise results.error

    async def _end(self) -> None:
        """Cancel the run if it is still going, and wait until it is not.

        Raises:
            asyncio.CancelledError: The reader was cancelled meanwhile; the run has ended first all the same.
        """
        run, interrupted = self._run, False
        self._started = True  # a stream that was closed before it was read starts no run any more
        if run is None:
            return
        run.cancel()
        while not run.done():
            try:
                await asyncio.wait([run])
            except asyncio.CancelledError:
                interrupted = True
        if not run.cancelled() and run.exception() is None:
            self._results = run.result()
        if interrupted:
            raise asyncio.CancelledError
