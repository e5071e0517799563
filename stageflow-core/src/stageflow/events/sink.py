"""Where events go: the built-in sinks, and the one that is current."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, final

from stageflow.errors import shown

if TYPE_CHECKING:
    from stageflow.protocols import EventSink

__all__ = [
    "FanOutEventSink",
    "LoggingEventSink",
    "NoOpEventSink",
    "clear_event_sink",
    "get_event_sink",
    "set_event_sink",
]

_logger = logging.getLogger("stageflow.events")


@final
class NoOpEventSink:
    """A sink for nobody: a run that has it builds no events at all.

    ```python
    from stageflow.events import NoOpEventSink

    print(NoOpEventSink().try_emit(type="pipeline.started", data={}))
    #> None
    ```
    """

    __slots__ = ()

    async def emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Drop the event."""

    def try_emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Drop the event."""


@final
class LoggingEventSink:
    """Writes every event to the logger ``stageflow.events``.

    Args:
        level: The logging level of the records.

    ```python
    from stageflow.events import LoggingEventSink

    LoggingEventSink(level=10).try_emit(type="pipeline.started", data={"pipeline": "greeting"})
    ```
    """

    __slots__ = ("level",)

    def __init__(self, *, level: int = logging.INFO) -> None:
        self.level = level

    async def emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Log the event."""
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Log the event."""
        if _logger.isEnabledFor(self.level):
            # Event keys such as "name" are also attributes of log records, so the data travels as one value.
            _logger.log(self.level, "Event: %s", type, extra={"event_type": type, "event_data": data})


@final
class FanOutEventSink:
    """Several sinks as one. One of them that raises does not keep the others from the event.

    ```python
    from stageflow.events import FanOutEventSink, LoggingEventSink, NoOpEventSink

    print(len(FanOutEventSink(LoggingEventSink(), NoOpEventSink()).sinks))
    #> 2
    ```
    """

    __slots__ = ("sinks",)

    def __init__(self, *sinks: EventSink) -> None:
        self.sinks = sinks

    async def emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Deliver to one sink after another, waiting for each."""
        for sink in self.sinks:
            await sink.emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Deliver to every sink."""
        for sink in self.sinks:
            try:
                sink.try_emit(type=type, data=data)
            except Exception:
                _logger.warning("The event sink %s raised on %s", shown(sink), shown(type), exc_info=True)


_NO_SINK = NoOpEventSink()
_current: ContextVar[EventSink | None] = ContextVar("stageflow_event_sink", default=None)


def get_event_sink() -> EventSink:
    """Return the sink of runs that are given none; a ``NoOpEventSink`` unless one was set.

    ```python
    from stageflow.events import LoggingEventSink, clear_event_sink, get_event_sink, set_event_sink

    set_event_sink(LoggingEventSink())
    print(type(get_event_sink()).__name__)
    #> LoggingEventSink
    clear_event_sink()
    ```
    """
    sink = _current.get()
    return _NO_SINK if sink is None else sink


def set_event_sink(sink: EventSink) -> None:
    """Make *sink* the one of runs that are given none, in this context and those copied from it.

    ```python
    from stageflow.events import LoggingEventSink, clear_event_sink, get_event_sink, set_event_sink

    sink = LoggingEventSink()
    set_event_sink(sink)
    print(get_event_sink() is sink)
    #> True
    clear_event_sink()
    print(get_event_sink() is sink)
    #> False
    ```
    """
    _current.set(sink)


def clear_event_sink() -> None:
    """Go back to nobody listening.

    ```python
    from stageflow.events import LoggingEventSink, clear_event_sink, get_event_sink, set_event_sink

    sink = LoggingEventSink()
    set_event_sink(sink)
    print(get_event_sink() is sink)
    #> True
    clear_event_sink()
    print(get_event_sink() is sink)
    #> False
    ```
    """
    _current.set(None)
