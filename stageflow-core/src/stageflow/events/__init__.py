"""Everything is an event: the types, the sinks, and the emitter that orders them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.events.emitter import RunEmitter, RunEvent
    from stageflow.events.sink import (
        FanOutEventSink,
        LoggingEventSink,
        NoOpEventSink,
        clear_event_sink,
        get_event_sink,
        set_event_sink,
    )

__all__ = [
    "FanOutEventSink",
    "LoggingEventSink",
    "NoOpEventSink",
    "RunEmitter",
    "RunEvent",
    "clear_event_sink",
    "get_event_sink",
    "set_event_sink",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "emitter": ("RunEmitter", "RunEvent"),
            "sink": (
                "FanOutEventSink",
                "LoggingEventSink",
                "NoOpEventSink",
                "clear_event_sink",
                "get_event_sink",
                "set_event_sink",
            ),
        },
    )
