"""``StreamEdge``: how one stage reads what another publishes while it runs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import check_count, check_name, wrong_type, wrong_value
from stageflow.context.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Overflow", "StreamEdge", "StreamGap", "StreamRestart"]


class Overflow(StrEnum):
    """What happens to a chunk that finds a reader's part of the channel full.

    Attributes:
        BLOCK: The producer waits until there is room. Nothing is lost.
        DROP_OLDEST: The oldest chunk that waits is dropped; a gap marker takes its place.
        DROP_NEWEST: The new chunk is dropped; a gap marker follows what waits.
        COALESCE: The new chunk and the newest one that waits become one, by the edge's function.

    ```python
    from stageflow.stages import Overflow, StreamEdge

    print(StreamEdge("llm", size=8, overflow=Overflow.DROP_OLDEST).overflow)
    #> drop_oldest
    ```
    """

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    COALESCE = "coalesce"


@final
class StreamEdge(Record):
    """One reader's end of a producer's stream. Immutable.

    Args:
        producer: The stage whose chunks are read.
        size: How many chunks may wait for this reader.
        overflow: What happens beyond that.
        coalesce: With ``Overflow.COALESCE``, makes one chunk of two: ``coalesce(older, newer)``.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: ``size`` is below 1, ``overflow`` is none, or it does not fit ``coalesce``.

    ```python
    from stageflow.stages import Overflow, StreamEdge

    tokens = StreamEdge("llm", size=1, overflow=Overflow.COALESCE, coalesce=lambda older, newer: older + newer)
    print(tokens.producer, tokens.size)
    #> llm 1
    ```
    """

    __slots__ = __match_args__ = ("producer", "size", "overflow", "coalesce")
    producer: str
    size: int
    overflow: Overflow
    coalesce: Callable[[Any, Any], Any] | None

    def __init__(
        self,
        producer: str,
        size: int = 64,
        overflow: Overflow = Overflow.BLOCK,
        coalesce: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        owner = "StreamEdge"
        check_name(owner, "producer", producer)
        check_count(owner, "size", size, least=1)
        if overflow not in list(Overflow):
            raise wrong_value(owner, "overflow", "is no Overflow", overflow)
        if coalesce is not None and not callable(coalesce):
            raise wrong_type(owner, "coalesce", "a function of two chunks", coalesce)
        if (coalesce is not None) is not (overflow == Overflow.COALESCE):
            problem = "goes with overflow=Overflow.COALESCE, and only with that"
            raise wrong_value(owner, "coalesce", problem, coalesce)
        put = object.__setattr__
        put(self, "producer", producer)
        put(self, "size", size)
        put(self, "overflow", Overflow(overflow))
        put(self, "coalesce", coalesce)


@final
class StreamGap(Record):
    """Stands, in a stream, where chunks are missing: the reader was too slow, and its edge says to drop.

    Args:
        lost: How many.

    ```python
    from stageflow.stages import StreamGap

    print(StreamGap(3))
    #> StreamGap(lost=3)
    ```
    """

    __slots__ = __match_args__ = ("lost",)
    lost: int

    def __init__(self, lost: int) -> None:
        object.__setattr__(self, "lost", lost)


@final
class StreamRestart(Record):
    """Stands, in a stream, where its producer begins anew: what came before it no longer counts.

    Only a stage with ``restartable=True`` is attempted again once it has published something.

    Args:
        attempt: The attempt that begins.

    ```python
    from stageflow.stages import StreamRestart

    print(StreamRestart(2))
    #> StreamRestart(attempt=2)
    ```
    """

    __slots__ = __match_args__ = ("attempt",)
    attempt: int

    def __init__(self, attempt: int) -> None:
        object.__setattr__(self, "attempt", attempt)
