"""``Streams``: what the stages of one run publish while they run, and who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.context.frozen import freeze
from stageflow.errors import UndeclaredDependencyError
from stageflow.events import vocabulary
from stageflow.runtime.channels import Channel, StreamClosedError
from stageflow.stages.part import Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from stageflow.runtime.compilation import CompiledStage
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.lending import Lending
    from stageflow.runtime.stream import ChunkReader

__all__ = ["Streams"]


@final
class Streams:
    """The channels of one run, made when their producers start.

    A stage that waits for a chunk, or for room for one, lends its places under concurrency limits meanwhile.

    Args:
        graph: The graph.
        lending: Takes the places of stages that wait.
        emit: Emits an event of the run.
        chunks: Gets all chunks beside the stages that read them.
    """

    __slots__ = ("_channels", "_chunks", "_emit", "_graph", "_lending", "_published")

    def __init__(
        self,
        graph: StageGraph,
        lending: Lending,
        emit: Callable[[str, Mapping[str, Any]], None],
        chunks: ChunkReader | None,
    ) -> None:
        self._graph = graph
        self._lending = lending
        self._emit = emit
        self._channels: dict[int, Channel] = {}
        self._published: dict[int, int] = {}  # how much stages have published, in all their attempts
        self._chunks = chunks

    def started(self, producer: CompiledStage) -> None:
        """A stage starts, or starts once more for a guard: it has readers, and they get a channel."""
        stages = self._graph.stages
        edges = [
            (stages[reader].name, edge)
            for reader in producer.readers
            for number, edge in stages[reader].streams
            if number == producer.number
        ]
        self._channels[producer.number] = Channel(producer.name, edges, on_wait=self._lend)

    async def publish(self, producer: CompiledStage, attempt: int, chunk: Any) -> bool:
        """Hand a chunk to everybody who reads; see ``StageContext.publish``."""
        number, chunk = producer.number, freeze(chunk)
        channel = self._channels.get(number)
        reading = False if channel is None else await channel.publish(chunk)
        index = self._published[number] = self._published.get(number, 0) + 1
        if self._chunks is not None:
            self._chunks(producer.name, attempt, index, chunk)
            reading = True
        return reading

    def subscribe(self, reader: CompiledStage, producer: str) -> AsyncIterator[Any]:
        """Return what *reader* reads of the stream of *producer*; see ``StageContext.stream``.

        Raises:
            UndeclaredDependencyError: It does not say that it reads it.
        """
        declared = [edge.producer for edge in reader.spec.streams]
        if producer not in declared:
            error = UndeclaredDependencyError(producer, declared, reader.name)
            error.fix = f"Declare it: streams=[{producer!r}] on stage {reader.name!r}"
            raise error
        channel = self._channels.get(self._graph.stages_by_name[producer].number)
        if channel is None:  # it has never started, so there is nothing to read
            channel = Channel(producer, [(reader.name, reader.spec.streams[declared.index(producer)])])
            channel.close()
        return channel.subscribe(reader.name)

    def may_repeat(self, producer: CompiledStage) -> bool:
        """Say whether a stage may be attempted again, for all that its readers have got."""
        return producer.spec.restartable or not self._published.get(producer.number)

    def restarts(self, producer: CompiledStage, attempt: int) -> None:
        """A stage is attempted again."""
        channel = self._channels.get(producer.number)
        if channel is not None:
            channel.restart(attempt)

    def taken_back(self, members: frozenset[int]) -> None:
        """A guard has sent back *members*: what they have published was for the last round."""
        for number in members:
            self._published.pop(number, None)

    def ended(self, stage: CompiledStage, error: BaseException | None) -> None:
        """A stage has ended, or will never start: its stream ends, and it reads no more.

        Args:
            stage: The stage.
            error: What its stream broke off with; None if it has ended well.
        """
        channel = self._channels.get(stage.number)
        if channel is not None and not channel.closed:
            channel.close(error)
            readers = {name: channel.counts(name)._asdict() for name in self._readers_of(stage)}
            data = {"stage": stage.name, "published": channel.published, "readers": readers}
            self._emit(vocabulary.STREAM_CLOSED, data)
        for producer, _ in stage.streams:
            channel = self._channels.get(producer)
            if channel is not None:
                channel.leave(stage.name)

    def _readers_of(self, producer: CompiledStage) -> list[str]:
        return [self._graph.stages[reader].name for reader in producer.readers]

    def _lend(self, stage: str) -> Callable[[], Awaitable[None]]:
        return self._lending.wait(self._graph.stages_by_name[stage].number, Part.STREAM)


def closed(stage: str) -> StreamClosedError:
    """Return the error for a chunk that comes after its attempt has ended."""
    return StreamClosedError(stage, "the attempt that publishes has ended")
