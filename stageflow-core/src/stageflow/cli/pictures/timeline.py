"""``Timeline``: how the time of a run was spent, stage by stage, read off the run's events."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, final

from stageflow.events import vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["Part", "Row", "Span", "Timeline"]


@final
class Part(StrEnum):
    """What a stretch of a stage's time went to."""

    DEPENDENCIES = "dependencies"
    """Waiting for the stages it depends on."""

    QUEUE = "queue"
    """Ready, waiting to be started."""

    WORK = "work"
    """Running."""

    BACKOFF = "backoff"
    """Waiting for another attempt."""


@final
@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in nanoseconds since the run's start."""

    part: Part
    start: int
    end: int


@final
@dataclass(slots=True)
class Row:
    """What became of one stage.

    Attributes:
        stage: Its name.
        kind: Its kind.
        status: ``ok``, ``skip``, ``fail`` or ``cancel``; ``running`` or ``waiting`` while it has not ended.
        spans: Its time without gaps: each begins where the one before it ends, so they sum exactly.
        attempts: How often it was attempted.
        reason: Why it was skipped, or what it failed of.
    """

    stage: str
    kind: str
    status: str = "waiting"
    spans: list[Span] = field(default_factory=list[Span])
    attempts: int = 0
    reason: str = ""

    def total(self, *parts: Part) -> int:
        """Return how long the given parts took together, in nanoseconds."""
        return sum(span.end - span.start for span in self.spans if span.part in parts)

    @property
    def end(self) -> int:
        """When its last stretch ended, since the run's start."""
        return self.spans[-1].end if self.spans else 0

    @property
    def spoken_reason(self) -> str:
        """The reason on one line. Those of the core are words joined by underscores."""
        text = " ".join(self.reason.split())
        return text.replace("_", " ") if self.status == "skip" and " " not in text else text

    @property
    def was_started(self) -> bool:
        """Whether it ever ran."""
        return self.attempts > 0


@final
@dataclass(slots=True)
class Timeline:
    """The stages of a run in the order of their declaration, and how long everything took.

    Attributes:
        pipeline: The pipeline's name.
        rows: One per stage.
        status: ``completed``, ``failed``, ``cancelled``, or ``running``.
        total: How long the run took, in nanoseconds.
    """

    pipeline: str
    rows: list[Row]
    status: str = "running"
    total: int = 0

    @classmethod
    def of(
        cls,
        specs: Sequence[StageSpec],
        events: Iterable[tuple[str, Mapping[str, Any]]],
        *,
        pipeline: str = "pipeline",
        now_ns: int | None = None,
    ) -> Timeline:
        """Read the events of one run.

        Args:
            specs: The stages.
            events: The events, as ``(type, data)``, in the order in which they came.
            pipeline: The pipeline's name.
            now_ns: Until when stages that have not ended count as running; the last event by default.

        ```python
        import asyncio

        from stageflow import Pipeline, stage
        from stageflow.cli.pictures import Timeline


        @stage
        async def greet() -> str:
            return "hi"


        async def main() -> None:
            pipeline = Pipeline.from_stages(greet, name="greeting")
            events = [(event.type, event.data) async for event in pipeline.stream()]
            timeline = Timeline.of(pipeline.specs, events, pipeline=pipeline.name)
            print(timeline.status, [(row.stage, row.status) for row in timeline.rows])


        asyncio.run(main())
        #> completed [('greet', 'ok')]
        ```
        """
        reader = _Reader(specs)
        for type_, data in events:
            reader.read(type_, data)
        return reader.timeline(pipeline, now_ns)


_ENDS = {
    vocabulary.STAGE_COMPLETED: "ok",
    vocabulary.STAGE_SKIPPED: "skip",
    vocabulary.STAGE_FAILED: "fail",
    vocabulary.STAGE_CANCELLED: "cancel",
}
_RUN_ENDS = {
    vocabulary.PIPELINE_COMPLETED: "completed",
    vocabulary.PIPELINE_FAILED: "failed",
    vocabulary.PIPELINE_CANCELLED: "cancelled",
}


@final
class _Reader:
    """Builds the rows while it reads. Stamps of one stage never go back, so its spans never overlap."""

    def __init__(self, specs: Sequence[StageSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._rows = {spec.name: Row(spec.name, str(spec.kind.value)) for spec in specs}
        self._start: int | None = None
        self._last = 0
        self._status = "running"

    def read(self, type_: str, data: Mapping[str, Any]) -> None:
        stamp = data.get("monotonic_ns")
        if not isinstance(stamp, int):
            return
        if self._start is None:
            self._start = stamp
        at = self._last = stamp - self._start
        self._status = _RUN_ENDS.get(type_, self._status)
        row = self._rows.get(str(data.get("stage")))
        status = data.get("status")
        # A stage's own events also say whose they are; the run's have a type that is made of name and status.
        if row is None or not isinstance(status, str) or type_ != vocabulary.stage_event(row.stage, status):
            return
        if status == vocabulary.STAGE_STARTED:
            self._wait(row, at)
            row.status, row.attempts = "running", 1
        elif status == vocabulary.STAGE_RETRYING:
            self._extend(row, Part.WORK, at)
            self._extend(row, Part.BACKOFF, at + int(float(data.get("delay_ms", 0.0)) * 1e6))
            row.attempts = int(data.get("attempt", row.attempts + 1))
        elif status in _ENDS:
            self._end(row, at)
            row.status = _ENDS[status]
            row.reason = str(data.get("reason") or data.get("error") or "")

    def timeline(self, pipeline: str, now_ns: int | None) -> Timeline:
        end = self._last if now_ns is None or self._start is None else max(self._last, now_ns - self._start)
        for row in self._rows.values():
            if row.status == "running":
                self._extend(row, Part.WORK, end)
        return Timeline(pipeline, list(self._rows.values()), self._status, end)

    def _wait(self, row: Row, at: int) -> None:
        """Split the time before a stage's start between what it waited for and the queue."""
        dependencies = self._specs[row.stage].dependencies
        ready = max((self._rows[one].end for one in dependencies if one in self._rows), default=0)
        self._extend(row, Part.DEPENDENCIES, min(ready, at))
        self._extend(row, Part.QUEUE, at)

    def _end(self, row: Row, at: int) -> None:
        if row.status == "waiting":  # it was never started
            self._wait(row, at)
            return
        last = row.spans[-1] if row.spans else None
        if last is not None and last.part is Part.BACKOFF and last.end > at:
            row.spans[-1] = Span(Part.BACKOFF, last.start, at)  # given up before the next attempt
        self._extend(row, Part.WORK, at)

    def _extend(self, row: Row, part: Part, until: int) -> None:
        begun = row.end
        if until > begun:
            row.spans.append(Span(part, begun, until))
