"""The frames in which two processes talk: one byte that says what it is, the length, the body."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HEADER", "FrameReader", "Op", "framed"]

HEADER: Final = Struct("!BQ")


class Op(IntEnum):
    """What a frame says.

    Attributes:
        SETUP: To the worker, first: what its surroundings are.
        CALL: To the worker: run a body.
        CLEANUP: To the worker: run a cleanup callback that a body has registered.
        CANCEL: To the worker: cancel what runs.
        ANSWER: To the worker: what came of something that it asked for.
        CLOSE: To the worker: close the ports and end.
        READY: From the worker: its ports are open.
        DONE: From the worker: what came of what it ran.
        EVENT: From the worker: an event of the run.
        SINK: From the worker: something for the run's sink.
        ASK: From the worker: do something there, and say what came of it.
        WITHDRAW: From the worker: cancel something that it asked for.
    """

    SETUP = 1
    CALL = 2
    CLEANUP = 3
    CANCEL = 4
    ANSWER = 5
    CLOSE = 6
    READY = 7
    DONE = 8
    EVENT = 9
    SINK = 10
    ASK = 11
    WITHDRAW = 12


def framed(op: Op, body: bytes = b"") -> bytes:
    r"""Return a frame.

    ```python
    from stageflow.executors.frames import Op, framed

    print(framed(Op.CLOSE, b"now").hex(" "))
    #> 06 00 00 00 00 00 00 00 03 6e 6f 77
    ```
    """
    return HEADER.pack(op, len(body)) + body


@final
class FrameReader:
    """Puts frames together from what comes in, in whatever pieces.

    ```python
    from stageflow.executors.frames import FrameReader, Op, framed

    reader, data = FrameReader(), framed(Op.EVENT, b"one") + framed(Op.DONE, b"two")
    print(list(reader.feed(data[:15])), list(reader.feed(data[15:])))
    #> [(<Op.EVENT: 9>, b'one')] [(<Op.DONE: 8>, b'two')]
    ```
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Op, bytes]]:
        """Yield the frames that *data* completes."""
        buffer = self._buffer
        buffer += data
        begin = 0
        try:
            while len(buffer) - begin >= HEADER.size:
                op, length = HEADER.unpack_from(buffer, begin)
                end = begin + HEADER.size + length
                if len(buffer) < end:
                    return
                body = bytes(memoryview(buffer)[begin + HEADER.size : end])
                begin = end
                yield Op(op), body
        finally:
            del buffer[:begin]
