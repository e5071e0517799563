"""``ObservableEventSink``: keeps the events of a run, and shows them as they come."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.errors import shown

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["ObservableEventSink"]

_COLOURS: Final = {
    "started": "36",
    "completed": "32",
    "skipped": "33",
    "retrying": "33",
    "failed": "31",
    "cancelled": "35",
}


@final
class ObservableEventSink:
    """Keeps every event, with the time since the first, and writes a line for each if it is told to.

    Args:
        verbose: Write a line for every event.
        colorize: Colour the lines, if they go to a terminal.
        capture: Keep the events.
        stream: Where the lines go; standard output by default.

    Attributes:
        events: What was kept: a dict of ``type``, ``data``, ``timestamp`` (ISO 8601, UTC) and ``elapsed_ms`` each.

    ```python
    import asyncio

    from stageflow import Pipeline, stage
    from stageflow.events.observable import ObservableEventSink


    @stage
    async def answer() -> int:
        return 42


    sink = ObservableEventSink()
    asyncio.run(Pipeline.from_stages(answer).run(sink=sink))
    print([event["type"] for event in sink.events])
    #> ['pipeline.started', 'stage.answer.started', 'stage.answer.completed', 'pipeline.completed']
    ```
    """

    __slots__ = ("_began_ns", "_colorize", "_stream", "capture", "events", "verbose")

    def __init__(
        self,
        *,
        verbose: bool = False,
        colorize: bool = True,
        capture: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self.verbose = verbose
        self.capture = capture
        self.events: list[dict[str, Any]] = []
        self._colorize = colorize
        self._stream = stream
        self._began_ns: int | None = None

    async def emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Keep the event, and show it."""
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Keep the event, and show it."""
        now_ns = monotonic_ns()
        if self._began_ns is None:
            self._began_ns = now_ns
        elapsed_ms = (now_ns - self._began_ns) / 1e6
        if self.capture:
            timestamp = datetime.now(UTC).isoformat()
            kept = dict(data) if isinstance(data, Mapping) else {} if data is None else {"data": data}
            event = {"type": type, "data": kept, "timestamp": timestamp, "elapsed_ms": elapsed_ms}
            self.events.append(event)
        if self.verbose:
            text = str(type) if isinstance(type, str) else shown(type)  # pyright: ignore[reportUnnecessaryIsInstance]
            self.write(f"{elapsed_ms:10.1f} ms  {text}", colour=_COLOURS.get(text.rpartition(".")[2]))

    def write(self, line: str, *, colour: str | None = None) -> None:
        """Write a line where the lines of events go.

        Args:
            line: The line.
            colour: The number of a terminal's colour.
        """
        if not isinstance(line, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            line = shown(line)
        stream = sys.stdout if self._stream is None else self._stream
        if colour is not None and self._colorize and stream.isatty():
            line = f"\x1b[{colour}m{line}\x1b[0m"
        try:
            stream.write(f"{line}\n")
        except UnicodeEncodeError:  # the stream's encoding does not have all there is
            encoding = getattr(stream, "encoding", None) or "ascii"
            stream.write(f"{line.encode(encoding, 'backslashreplace').decode(encoding)}\n")

    def clear(self) -> None:
        """Forget the events; the next one is the first again."""
        self.events.clear()
        self._began_ns = None
