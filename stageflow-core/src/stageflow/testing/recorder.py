"""``EventRecorder``: a sink that keeps every event, and knows what every run promises of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.events import RunEvent, vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["EventRecorder"]

_STARTED: Final = vocabulary.STAGE_STARTED
_RETRYING: Final = vocabulary.STAGE_RETRYING
_SKIPPED: Final = vocabulary.STAGE_SKIPPED
_TERMINAL: Final = frozenset(
    {vocabulary.STAGE_COMPLETED, vocabulary.STAGE_FAILED, _SKIPPED, vocabulary.STAGE_CANCELLED}
)
_ENDS: Final = frozenset(
    {vocabulary.PIPELINE_COMPLETED, vocabulary.PIPELINE_FAILED, vocabulary.PIPELINE_CANCELLED}
)
_TOLD: Final = ("reason", "error", "attempt", "round", "cancelled_by")  # worth a place in a timeline
_SHOWN: Final = 60


@final
class EventRecorder:
    """Keeps every event, of one run or of many. Its assertions show the timeline when they fail.

    Args:
        on_event: Called with each event as it comes, for tests that act in the middle of a run.

    Attributes:
        events: The events, in the order in which they came.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.testing import EventRecorder, ScriptedStage

    events = EventRecorder()
    pipeline = (
        Pipeline()
        .with_stage("a", ScriptedStage(), StageKind.WORK)
        .with_stage("b", ScriptedStage(), StageKind.WORK, ["a"])
    )
    asyncio.run(pipeline.run(sink=events))
    events.assert_paired(stages=["a", "b"], end="completed")
    events.assert_order("stage.a.completed", "stage.b.started")
    print(events.of("a"))
    #> ['started', 'completed']
    ```
    """

    __slots__ = ("_on_event", "events")

    def __init__(self, on_event: Callable[[RunEvent], object] | None = None) -> None:
        self.events: list[RunEvent] = []
        self._on_event = on_event

    # --- a sink -----------------------------------------------------------------------------------------

    async def emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Keep an event."""
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Keep an event."""
        event = RunEvent(type, dict(data or {}))
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)

    def clear(self) -> None:
        """Forget everything."""
        self.events.clear()

    # --- what came --------------------------------------------------------------------------------------

    @property
    def types(self) -> list[str]:
        """The types of the events."""
        return [event.type for event in self.events]

    @property
    def runs(self) -> list[str | None]:
        """The ids of the runs, in the order of their first events."""
        return list(dict.fromkeys(event.data.get("pipeline_run_id") for event in self.events))

    def of(self, stage: str) -> list[str]:
        """Return what happened to *stage*, as the last words of the event types.

        ```python
        from stageflow.testing import EventRecorder

        events = EventRecorder()
        events.try_emit(type="stage.a.b.started", data={"stage": "a.b"})
        print(events.of("a.b"))
        #> ['started']
        ```
        """
        return [word for event in self.events if (word := _word(event, stage)) is not None]

    def data(self, type: str) -> dict[str, Any]:  # noqa: A002 - the event's type
        """Return the payload of the only event of that type."""
        found = [event for event in self.events if event.type == type]
        if len(found) != 1:
            self._fail(f"There are {len(found)} events of type {type!r}, not one")
        return dict(found[0].data)

    def timeline(self) -> str:
        """Return the events as text, one a line, as failed assertions show them."""
        first = next((one.data["monotonic_ns"] for one in self.events if "monotonic_ns" in one.data), 0)
        return "\n".join(_line(event, first) for event in self.events) or "  (no events)"

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[RunEvent]:
        return iter(self.events)

    def __repr__(self) -> str:
        return f"<EventRecorder {len(self.events)} events of {len(self.runs)} runs>"

    # --- assertions -------------------------------------------------------------------------------------

    def assert_emitted(self, type: str, *, times: int | None = None, **data: Any) -> RunEvent:  # noqa: A002 - the event's type
        """Assert that there is an event of that type with that payload, and return the first.

        Args:
            type: The type; ``*`` stands for any text, as in ``"stage.*.failed"``.
            times: How many there must be; by default at least one.
            **data: What its payload must hold, among other things.
        """
        found = [
            event
            for event in self.events
            if _matches(event, type)
            and all(key in event.data and event.data[key] == value for key, value in data.items())
        ]
        wanted = f"{type!r}" + (f" with {data}" if data else "")
        if times is not None and len(found) != times:
            self._fail(f"{wanted} was emitted {len(found)} times, not {times}")
        if not found:
            if times == 0:
                self._fail("assert_emitted(times=0) has no event to return: use assert_not_emitted")
            self._fail(f"{wanted} was not emitted")
        return found[0]

    def assert_not_emitted(self, type: str) -> None:  # noqa: A002 - the event's type
        """Assert that there is no event of that type; ``*`` stands for any text."""
        found = [event.type for event in self.events if _matches(event, type)]
        if found:
            self._fail(f"{type!r} was emitted {len(found)} times, and should not have been")

    def assert_order(self, *types: str) -> None:
        """Assert that events of these types came, each after the one before; others may have come between.

        ``*`` stands for any text.
        """
        place = 0
        for number, wanted in enumerate(types):
            found = next(
                (at for at in range(place, len(self.events)) if _matches(self.events[at], wanted)), None
            )
            if found is None:
                after = f" after {types[number - 1]!r}" if number else ""
                early = any(_matches(event, wanted) for event in self.events[:place])
                self._fail(f"{wanted!r} did not come{after}" + (", but before it" if early else ""))
            else:
                place = found + 1

    def assert_paired(self, *, stages: Iterable[str] | None = None, end: str | None = None) -> None:
        """Assert what holds for every run that has ended, whatever became of it.

        - The run starts with ``pipeline.started`` and ends with one of ``pipeline.completed``, ``failed`` and
          ``cancelled``; each comes once.
        - Its events are numbered without a gap, and their monotonic times do not go back.
        - Every stage that started has exactly one terminal event, or, if a guard sent it back, one for each round.
        - A stage that never started has ``skipped`` alone.

        Args:
            stages: Stages of which each run must have told the end.
            end: How every run must have ended, as ``"cancelled"``.
        """
        runs: dict[str | None, list[RunEvent]] = {}
        for event in self.events:
            if "sequence" in event.data:  # others come from contexts that belong to no run
                runs.setdefault(event.data.get("pipeline_run_id"), []).append(event)
        if not runs:
            self._fail("No run has emitted anything")
        wanted = None if stages is None else list(stages)
        problems = [problem for events in runs.values() for problem in _unpaired(events, wanted, end)]
        if problems:
            self._fail("\n".join(problems))

    def _fail(self, what: str) -> None:
        __tracebackhide__ = True
        msg = f"{what}\nThe timeline:\n{self.timeline()}"
        raise AssertionError(msg)


def _unpaired(events: list[RunEvent], wanted: list[str] | None, end: str | None) -> Iterator[str]:
    """Yield what is wrong with the events of one run."""
    yield from _unsound(events, end)
    told: dict[str, list[RunEvent]] = {}
    for event in events:
        if event.stage is not None and _word(event, event.stage) is not None:
            told.setdefault(event.stage, []).append(event)
    for stage, about in told.items():
        words = [_word(event, stage) or "" for event in about]
        problem = _unpaired_stage(words, about)
        if problem:
            yield f"Stage {stage!r} {problem}: {', '.join(words)}"
    for stage in wanted or ():
        if stage not in told:
            yield f"Nothing was told of stage {stage!r}"


def _unsound(events: list[RunEvent], end: str | None) -> Iterator[str]:
    """Yield what is wrong with the run's own events, their numbers and their times."""
    types = [event.type for event in events]
    started = vocabulary.PIPELINE_STARTED
    if types[0] != started or types.count(started) != 1:
        yield f"A run starts once, with {started!r}: it came {types.count(started)} times, after {types[0]!r}"
    ends = [one for one in types if _is_text(one) and one in _ENDS]
    if len(ends) != 1:
        yield f"A run has exactly one terminal event, not {ends or 'none'}"
    elif types[-1] != ends[0]:
        yield f"{types[-1]!r} came after the run had ended"
    elif end is not None and ends[0] != f"pipeline.{end}":
        yield f"The run ended with {ends[0]!r}, not with 'pipeline.{end}'"
    numbers = [event.sequence for event in events]
    if numbers != list(range(1, len(events) + 1)):
        yield f"The events are not numbered 1 to {len(events)}: {numbers}"
    stamps = [event.data.get("monotonic_ns", 0) for event in events]
    if stamps != sorted(stamps):
        yield "The monotonic times of the events go back"


def _unpaired_stage(words: list[str], about: list[RunEvent]) -> str | None:
    """Return what is wrong with the lifecycle events of one stage."""
    running = ended = False
    for word, event in zip(words, about, strict=True):
        another_round = word == _RETRYING and "round" in event.data
        if word == _STARTED:
            if running or ended:
                return "started twice"
            running = True
        elif word == _RETRYING:
            if not running and not (ended and another_round):
                return "is attempted again, but was not running"
            running, ended = True, False
        elif ended:
            return "has more than one terminal event"
        elif not running and word != _SKIPPED:
            return f"has {word!r}, but never started"
        else:
            running, ended = False, True
    return None if ended else "has no terminal event"


def _word(event: RunEvent, stage: str) -> str | None:
    """Return the last word of a lifecycle event of *stage*; None for other events."""
    start = f"stage.{stage}."
    if event.stage not in (stage, None) or not _is_text(event.type) or not event.type.startswith(start):
        return None
    word = event.type.removeprefix(start)
    return word if word in _TERMINAL or word in (_STARTED, _RETRYING) else None


def _is_text(type: object) -> bool:  # noqa: A002 - the event's type
    """Say whether an event's type is one; a stage may emit what is none."""
    return isinstance(type, str)


def _matches(event: RunEvent, pattern: str) -> bool:
    if "*" not in pattern:
        return event.type == pattern
    return (
        _is_text(event.type)
        and re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), event.type) is not None
    )


def _line(event: RunEvent, first: int) -> str:
    stamp = event.data.get("monotonic_ns")
    after = "         " if stamp is None else f"{(stamp - first) / 1e6:7.2f}ms"
    facts = " ".join(
        f"{key}={text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}"
        for key in _TOLD
        if key in event.data and (text := str(event.data[key]))
    )
    return f"  {event.sequence or '-':>4} {after}  {event.type}  {facts}".rstrip()
