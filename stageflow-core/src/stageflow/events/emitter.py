"""The emitter of one run: it numbers, stamps and hands out the run's events in order."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.errors import shown
from stageflow.events.sink import NoOpEventSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stageflow.protocols import EventSink

__all__ = ["SILENT", "RunEmitter", "RunEvent"]

_logger = logging.getLogger("stageflow.events")
_STAMP_NS: Final = 1_000_000


@final
class RunEvent:
    """One event of a run, as ``pipeline.stream()`` yields it.

    Attributes:
        type: The event type, such as ``stage.greet.completed``.
        data: Its payload: the run's ids, ``sequence``, ``timestamp``, ``monotonic_ns`` and what the event is about.

    ```python
    from stageflow.events import RunEvent

    event = RunEvent("stage.greet.completed", {"stage": "greet", "sequence": 3})
    print(event.stage, event.sequence)
    #> greet 3
    ```
    """

    __slots__ = ("data", "type")

    type: str
    data: Mapping[str, Any]

    def __init__(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002 - the field's name
        self.type = type
        self.data = data

    @property
    def stage(self) -> str | None:
        """The stage that the event is about, or None for events of the run."""
        stage: str | None = self.data.get("stage")
        return stage

    @property
    def sequence(self) -> int:
        """The event's place in the run, from 1; 0 for events that the reader itself adds."""
        sequence: int = self.data.get("sequence", 0)
        return sequence

    def __repr__(self) -> str:
        return f"RunEvent({self.type!r}, sequence={self.sequence})"


@final
class RunEmitter:
    """Numbers, stamps and delivers the events of one run.

    Args:
        sinks: Where the events go. ``NoOpEventSink`` counts as nobody.
        base: Returns what every event says: the run's ids and how it was started. Only called if somebody listens.

    Attributes:
        listening: False when nobody listens; whoever would build an event asks this first.
    """

    __slots__ = (
        "_base",
        "_broken",
        "_forms",
        "_only",
        "_sequence",
        "_sinks",
        "_stale_ns",
        "_stamp",
        "listening",
    )

    def __init__(self, sinks: Iterable[EventSink], base: Callable[[], Mapping[str, Any]]) -> None:
        self._sinks = tuple([sink for sink in sinks if sink.__class__ is not NoOpEventSink])
        self._only = self._sinks[0] if len(self._sinks) == 1 else None
        self.listening = bool(self._sinks)
        self._base: Mapping[str, Any] = base() if self.listening else {}
        self._forms: list[dict[str, Any]] = []
        self._sequence = 0
        self._stamp = ""
        self._stale_ns = 0  # when the stamp is too old
        self._broken: dict[int, None] = {}

    def emit(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002 - the event's type
        """Hand one event to every sink. Never raises; keys of *data* win over the run's."""
        if self.listening:
            event = {**self._base, "timestamp": self._stamp, **data}
            self.send(type, event, monotonic_ns(), stamped="timestamp" in data)

    def form(self, **fields: Any) -> dict[str, Any]:
        """Return an event with all its keys in place, to be copied, filled in and given to ``send`` many times."""
        form = {**self._base, "timestamp": self._stamp, **fields, "sequence": 0, "monotonic_ns": 0}
        self._forms.append(form)
        return form

    def send(
        self,
        type: str,  # noqa: A002 - as above
        event: dict[str, Any],
        now_ns: int,
        *,
        stamped: bool = False,
    ) -> None:
        """Hand an event that was made from a form, and happens at *now_ns*, to every sink. Never raises.

        Its time of day is accurate to a millisecond, ``monotonic_ns`` is exact: to format a time of day takes longer
        than all the rest of an event, so it is done when the last one is too old, and kept in the forms.
        """
        if now_ns >= self._stale_ns:
            self._stale_ns = now_ns + _STAMP_NS
            self._stamp = datetime.now(UTC).isoformat()
            for form in self._forms:
                form["timestamp"] = self._stamp
            if not stamped:
                event["timestamp"] = self._stamp
        self._sequence = event["sequence"] = self._sequence + 1
        event["monotonic_ns"] = now_ns
        sink = self._only
        if sink is None:  # each of several gets an event of its own, which it may keep and change
            for one in self._sinks:
                self._hand(one, type, event.copy())
            return
        try:  # as _hand does
            sink.try_emit(type=type, data=event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - a sink is somebody else's code and must not break a run
            self._report(sink, type, exc)

    def _hand(self, sink: EventSink, type: str, event: dict[str, Any]) -> None:  # noqa: A002 - as above
        try:
            sink.try_emit(type=type, data=event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - as above
            self._report(sink, type, exc)

    def close(self) -> None:
        """The run has ended: whoever still holds one of its contexts is not heard any more."""
        self.listening = False

    def _report(self, sink: EventSink, type: str, error: BaseException) -> None:  # noqa: A002 - the event's type
        """Say once per run that a sink raises; it goes on getting events, as it may recover."""
        if id(sink) not in self._broken:
            self._broken[id(sink)] = None
            _logger.warning(
                "The event sink %s raised on %s; the run goes on. Further errors of it in this run are not logged.",
                shown(sink),
                shown(type),
                exc_info=error,
            )


SILENT: Final = RunEmitter((), dict)
"""The emitter of all runs that nobody listens to."""
