"""Everything is an event: the types, the sinks, and the emitter that orders them."""

from stageflow.events.emitter import RunEmitter, RunEvent
from stageflow.events.sink import (
    LoggingEventSink,
    NoOpEventSink,
    clear_event_sink,
    get_event_sink,
    set_event_sink,
)
from stageflow.protocols import EventSink

__all__ = [
    "EventSink",
    "LoggingEventSink",
    "NoOpEventSink",
    "RunEmitter",
    "RunEvent",
    "clear_event_sink",
    "get_event_sink",
    "set_event_sink",
]
