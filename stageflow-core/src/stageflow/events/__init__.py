"""Everything is an event: the types, the sinks, and the emitter that orders them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.events.backpressure import (
        BackpressureAwareEventSink,
        BackpressureMetrics,
        EventSinkClosedError,
        wait_for_event_sink_tasks,
    )
    from stageflow.events.emitter import RunEmitter, RunEvent
    from stageflow.events.observable import ObservableEventSink
    from stageflow.events.sink import (
        FanOutEventSink,
        LoggingEventSink,
        NoOpEventSink,
        clear_event_sink,
        get_event_sink,
        set_event_sink,
    )
    from stageflow.events.wide import SettledStage, StageOutcome, WideContext, WideEventEmitter
    from stageflow.protocols import EventSink

__all__ = [
    "BackpressureAwareEventSink",
    "BackpressureMetrics",
    "EventSink",
    "EventSinkClosedError",
    "FanOutEventSink",
    "LoggingEventSink",
    "NoOpEventSink",
    "ObservableEventSink",
    "RunEmitter",
    "RunEvent",
    "SettledStage",
    "StageOutcome",
    "WideContext",
    "WideEventEmitter",
    "clear_event_sink",
    "get_event_sink",
    "set_event_sink",
    "wait_for_event_sink_tasks",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".protocols": ("EventSink",),
            "backpressure": (
                "BackpressureAwareEventSink",
                "BackpressureMetrics",
                "EventSinkClosedError",
                "wait_for_event_sink_tasks",
            ),
            "emitter": ("RunEmitter", "RunEvent"),
            "observable": ("ObservableEventSink",),
            "sink": (
                "FanOutEventSink",
                "LoggingEventSink",
                "NoOpEventSink",
                "clear_event_sink",
                "get_event_sink",
                "set_event_sink",
            ),
            "wide": ("SettledStage", "StageOutcome", "WideContext", "WideEventEmitter"),
        },
    )
