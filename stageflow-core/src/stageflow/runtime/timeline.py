"""``Timeline``: where the time of a run went, stage by stage and part by part, and what would have made it shorter.

Every moment between the run's start and a stage's end belongs to one span of that stage. The spans share their stamps,
which are integers, so they sum exactly; nothing is estimated and nothing is rounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from stageflow.context.record import Record
from stageflow.errors import close_matches
from stageflow.stages.part import Part
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stageflow.runtime.stamps import Note, Stretch

__all__ = ["Gain", "PathStep", "Span", "StageStamps", "StageTimeline", "Timeline", "spans_of"]

_FOR_OTHERS: Final = frozenset({Part.DEPENDENCIES, Part.GATE, Part.STREAM})
"""The waits that what another stage does brings to an end."""

_QUESTIONS_PER_GAIN: Final = 4


class Span(NamedTuple):
    """A stretch of a stage's time that went to one part.

    Attributes:
        part: What it went to.
        started_ns: When it began, on the monotonic clock, in nanoseconds.
        ended_ns: When it ended.
        attempt: In which attempt, or in the wait for which.
    """

    part: Part
    started_ns: int
    ended_ns: int
    attempt: int

    @property
    def duration_ns(self) -> int:
        """How long it was, in nanoseconds."""
        return self.ended_ns - self.started_ns


class StageStamps(NamedTuple):
    """What a run has noted of one stage, for ``Timeline.of_stamps``.

    Attributes:
        name: The stage.
        kind: What it is for.
        status: How it ended: ``ok``, ``skip``, ``fail``, ``cancel``; or else ``running`` or ``waiting``.
        stretches: Its time from the run's start on; each begins where the one before it ended. A stage has begun with
            its first stretch of RUN; one that was skipped, with the first that is not empty.
        notes: Stretches of RUN that went to something else; see ``spans_of``.
        dependencies: The stages that it depends on.
        holders: The guards that hold it until they pass.
        streams: The stages whose chunks it reads.
        gates: The stages that gate its effect.
    """

    name: str
    kind: str
    status: str
    stretches: Sequence[Stretch | tuple[Part, int, int]] = ()
    notes: Sequence[Note | tuple[Part, int, int, int]] = ()
    dependencies: Sequence[str] = ()
    holders: Sequence[str] = ()
    streams: Sequence[str] = ()
    gates: Sequence[str] = ()


@final
class StageTimeline(Record):
    """How one stage spent its time, from the run's start to its own end. Immutable.

    ``Timeline.of_stamps`` makes them.

    Attributes:
        name: The stage.
        kind: What it is for.
        status: How it ended: ``ok``, ``skip``, ``fail``, ``cancel``; or else ``running`` or ``waiting``.
        started_ns: When the run began, and so the stage's first wait.
        begun_ns: When its first attempt began; None if it never did.
        ended_ns: When it ended.
        attempts: The number of its last attempt; 0 if there was none.
        spans: Its time without gaps and without empty spans.
        dependencies: The stages that it depends on.
        holders: The guards that held it until they passed.
        streams: The stages whose chunks it read.
        gates: The stages that gated its effect.
    """

    __slots__ = __match_args__ = (
        "name",
        "kind",
        "status",
        "started_ns",
        "begun_ns",
        "ended_ns",
        "attempts",
        "spans",
        "dependencies",
        "holders",
        "streams",
        "gates",
    )
    name: str
    kind: str
    status: str
    started_ns: int
    begun_ns: int | None
    ended_ns: int
    attempts: int
    spans: tuple[Span, ...]
    dependencies: tuple[str, ...]
    holders: tuple[str, ...]
    streams: tuple[str, ...]
    gates: tuple[str, ...]

    def __init__(
        self,
        name: str,
        kind: str,
        status: str,
        started_ns: int,
        begun_ns: int | None,
        ended_ns: int,
        attempts: int,
        spans: tuple[Span, ...],
        dependencies: tuple[str, ...] = (),
        holders: tuple[str, ...] = (),
        streams: tuple[str, ...] = (),
        gates: tuple[str, ...] = (),
    ) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "kind", kind)
        put(self, "status", status)
        put(self, "started_ns", started_ns)
        put(self, "begun_ns", begun_ns)
        put(self, "ended_ns", ended_ns)
        put(self, "attempts", attempts)
        put(self, "spans", spans)
        put(self, "dependencies", dependencies)
        put(self, "holders", holders)
        put(self, "streams", streams)
        put(self, "gates", gates)

    @property
    def total_ns(self) -> int:
        """How long it took from the run's start to the stage's end, in nanoseconds: the sum of ``totals``."""
        return self.ended_ns - self.started_ns

    @property
    def totals(self) -> dict[Part, int]:
        """How much of that went to which part, in nanoseconds; only parts that occur."""
        totals: dict[Part, int] = {}
        for span in self.spans:
            totals[span.part] = totals.get(span.part, 0) + span.duration_ns
        return {part: totals[part] for part in Part if part in totals}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "kind": self.kind,
            "status": self.status,
            "attempts": self.attempts,
            "begun_ns": self.begun_ns,
            "ended_ns": self.ended_ns,
            "total_ns": self.total_ns,
            "parts_ns": _plain(self.totals),
            "spans": [_plain_span(span) for span in self.spans],
        }

    def __repr__(self) -> str:
        parts = ", ".join(f"{part} {_ms(ns)}" for part, ns in self.totals.items())
        return f"<StageTimeline {self.name!r} {self.status}: {parts or 'no time'}>"


class PathStep(NamedTuple):
    """One step of the critical path: what counts of a stage's time, until the next step could go on.

    Attributes:
        stage: The stage.
        spans: Its time from what released it.
    """

    stage: str
    spans: tuple[Span, ...]

    @property
    def duration_ns(self) -> int:
        """How long it was, in nanoseconds."""
        return self.spans[-1].ended_ns - self.spans[0].started_ns


class Gain(NamedTuple):
    """How much sooner a run would have ended if a part of one stage's time had been nothing.

    Attributes:
        stage: The stage.
        part: The part of its time.
        gain_ns: How much sooner, in nanoseconds.
    """

    stage: str
    part: Part
    gain_ns: int


def spans_of(
    started_ns: int,
    stretches: Iterable[Stretch | tuple[Part, int, int]],
    notes: Iterable[Note | tuple[Part, int, int, int]] = (),
    *,
    until_ns: int | None = None,
) -> list[Span]:
    """Return a stage's time as spans without gaps, overlaps, or empty ones.

    Args:
        started_ns: When the first stretch began.
        stretches: ``(part, ended_ns, attempt)``; each begins where the one before it ended. One that ends before it
            began is empty.
        notes: ``(part, started_ns, ended_ns, attempt)``: what of the stretches of RUN went to something else. What
            lies outside of these does not count; where two notes overlap, the one that began first keeps the time.
        until_ns: When all of it has ended at the latest.

    ```python
    from stageflow.runtime.timeline import spans_of
    from stageflow.stages.part import Part
    from stageflow.stages.stage import StageStatus

    stretches = [(Part.DEPENDENCIES, 20, 1), (Part.RUN, 100, 1)]
    for span in spans_of(0, stretches, [(Part.TRANSPORT, 15, 30, 1)]):
        print(span.part, span.duration_ns)
    #> dependencies 20
    #> transport 10
    #> run 70
    ```
    """
    cuts = sorted(notes, key=lambda note: note[1])
    found = _Spans(started_ns)
    next_cut = 0
    for part, ended_ns, attempt in stretches:
        end = ended_ns if until_ns is None else min(ended_ns, until_ns)
        if part is not Part.RUN:
            found.add(part, end, attempt)
            continue
        while next_cut < len(cuts):
            noted, from_ns, to_ns, _ = cuts[next_cut]
            if from_ns >= end:
                break
            if to_ns > found.ended_ns:
                found.add(part, from_ns, attempt)
                found.add(noted, min(to_ns, end), attempt)
            if to_ns > end:  # the rest of it may lie in a later stretch of RUN
                break
            next_cut += 1
        found.add(part, end, attempt)
    return found.spans


@final
class _Spans:
    """Grows by one span at a time, each of which begins where the one before it ended."""

    def __init__(self, started_ns: int) -> None:
        self.spans: list[Span] = []
        self.ended_ns = started_ns

    def add(self, part: Part, until_ns: int, attempt: int) -> None:
        begun_ns = self.ended_ns
        if until_ns <= begun_ns:
            return
        last = self.spans[-1] if self.spans else None
        if last is not None and last.part is part and last.attempt == attempt:
            self.spans[-1] = Span(part, last.started_ns, until_ns, attempt)
        else:
            self.spans.append(Span(part, begun_ns, until_ns, attempt))
        self.ended_ns = until_ns


@final
class Timeline(Mapping[str, StageTimeline]):
    """How the time of a run was spent: a ``StageTimeline`` per stage, in the order of declaration. Immutable.

    Args:
        started_ns: When the run began, on the monotonic clock, in nanoseconds.
        ended_ns: When it ended.
        stages: The stages.

    ```python
    from stageflow.runtime.timeline import StageStamps, Timeline
    from stageflow.stages.part import Part
    from stageflow.stages.stage import StageStatus

    timeline = Timeline.of_stamps(
        0,
        105,
        [
            StageStamps("fetch", "enrich", "ok", [(Part.QUEUE, 10, 1), (Part.RUN, 40, 1)]),
            StageStamps("greet", "transform", "ok", [(Part.RUN, 5, 1)]),
            StageStamps(
                "answer",
                "transform",
                "ok",
                [(Part.DEPENDENCIES, 40, 1), (Part.RUN, 100, 1)],
                dependencies=["fetch", "greet"],
            ),
        ],
    )
    print(timeline["answer"].totals)
    #> {<Part.DEPENDENCIES: 'dependencies'>: 40, <Part.RUN: 'run'>: 60}
    print([(step.stage, step.duration_ns) for step in timeline.critical_path], timeline.tail_ns)
    #> [('fetch', 40), ('answer', 60)] 5
    print([(gain.stage, gain.part.value, gain.gain_ns) for gain in timeline.gains()])
    #> [('answer', 'run', 60), ('fetch', 'run', 30), ('fetch', 'queue', 10)]
    ```
    """

    __slots__ = ("_schedule", "_stages", "ended_ns", "started_ns")

    def __init__(self, started_ns: int, ended_ns: int, stages: Iterable[StageTimeline]) -> None:
        self.started_ns = started_ns
        self.ended_ns = ended_ns
        self._stages = {stage.name: stage for stage in stages}
        self._schedule: _Schedule | None = None

    @classmethod
    def of_stamps(cls, started_ns: int, ended_ns: int, stamps: Iterable[StageStamps]) -> Timeline:
        """Make the timeline of a run out of what it has noted.

        Args:
            started_ns: When the run began.
            ended_ns: When it ended; what was noted later counts until then.
            stamps: What was noted of each stage.
        """
        ended_ns = max(started_ns, ended_ns)
        return cls(started_ns, ended_ns, [_stage_of(started_ns, ended_ns, stamp) for stamp in stamps])

    @property
    def total_ns(self) -> int:
        """How long the run took, in nanoseconds."""
        return self.ended_ns - self.started_ns

    @property
    def tail_ns(self) -> int:
        """How long the run took after its last stage had ended: to settle, and to clean up."""
        return self.ended_ns - self._planned.last_end

    @property
    def critical_path(self) -> tuple[PathStep, ...]:
        """The stages whose time makes up that of the run, from first to last.

        The steps join, so their durations and ``tail_ns`` sum to ``total_ns``. A step begins with what released its
        stage: the end of the dependency, holder or gate that ended last, or the start of the last producer of a
        stream. Where a stage waited for a chunk, or for room for one, the path goes on with the stage at the other
        end of the stream, so a stage may occur again.
        """
        return self._planned.path

    def gains(self, limit: int = 5) -> list[Gain]:
        """Say which parts of which stages the run would have ended sooner without, most first.

        For the longest parts on the critical path, the whole run is scheduled again with that part taking no time:
        everything else takes as long as it did, and begins as soon as what released it. That is a model: a wait for a
        place under a limit stays as long as it was, although it might become shorter, too; and when a chunk was
        written is only known where somebody waited for it. The figures do not add up: after one change, another path
        may be the critical one.

        Args:
            limit: How many to return at most. Each takes a few times as long as looking at every span once.
        """
        return self._planned.gains(limit)

    @property
    def _planned(self) -> _Schedule:
        if self._schedule is None:
            self._schedule = _Schedule(self.started_ns, self._stages)
        return self._schedule

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON: integers are nanoseconds, of the monotonic clock where they are times."""
        return {
            "started_ns": self.started_ns,
            "ended_ns": self.ended_ns,
            "total_ns": self.total_ns,
            "stages": {name: stage.to_dict() for name, stage in self._stages.items()},
            "critical_path": [
                {
                    "stage": step.stage,
                    "duration_ns": step.duration_ns,
                    "spans": [_plain_span(span) for span in step.spans],
                }
                for step in self.critical_path
            ],
            "tail_ns": self.tail_ns,
            "gains": [
                {"stage": gain.stage, "part": gain.part.value, "gain_ns": gain.gain_ns}
                for gain in self.gains()
            ],
        }

    def __getitem__(self, stage: str) -> StageTimeline:
        try:
            return self._stages[stage]
        except KeyError:
            hint = close_matches(stage, self._stages)
            msg = f"The run has no stage {stage!r}. {hint}".rstrip()
            raise KeyError(msg) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def __len__(self) -> int:
        return len(self._stages)

    def __reduce__(self) -> tuple[Any, ...]:
        return Timeline, (self.started_ns, self.ended_ns, list(self._stages.values()))

    def __repr__(self) -> str:
        count = "1 stage" if len(self) == 1 else f"{len(self)} stages"
        return f"<Timeline {count} in {_ms(self.total_ns)}>"


def _stage_of(started_ns: int, ended_ns: int, stamp: StageStamps) -> StageTimeline:
    spans = tuple(spans_of(started_ns, stamp.stretches, stamp.notes, until_ns=ended_ns))
    begun_ns: int | None = None
    attempts, at = 0, started_ns
    for part, until_ns, attempt in stamp.stretches:
        end = max(at, min(until_ns, ended_ns))
        if part is Part.RUN and (end > at or stamp.status != StageStatus.SKIP):
            begun_ns = at if begun_ns is None else begun_ns
            attempts = attempt
        at = end
    return StageTimeline(
        stamp.name,
        stamp.kind,
        stamp.status,
        started_ns,
        begun_ns,
        spans[-1].ended_ns if spans else started_ns,
        attempts,
        spans,
        tuple(stamp.dependencies),
        tuple(stamp.holders),
        tuple(stamp.streams),
        tuple(stamp.gates),
    )


class _Release(NamedTuple):
    """A moment in the life of another stage, from which on a wait could end.

    It is the end of span number *base*, and *within* nanoseconds of the span *inside* more (-1: of none).
    """

    at_ns: int
    base: int
    within: int
    inside: int
    stage: str


class _Piece(NamedTuple):
    """A span as a step of the schedule: after the one *before* it, and after *releases*, it takes *length* more."""

    number: int
    before: int
    length: int
    releases: tuple[_Release, ...]


@final
class _Schedule:
    """The spans of all stages, in an order in which each depends only on those before it.

    Spans are numbered from 1, stage by stage; 0 is the run's start. A wait for others (for dependencies, at a gate, on
    a stream) ends a fixed time after the last moment that released it, and all else takes as long as it took.
    """

    def __init__(self, started_ns: int, stages: Mapping[str, StageTimeline]) -> None:
        self._started_ns = started_ns
        self._stages = list(stages.values())
        self._first: dict[str, int] = {}  # the number of a stage's first span
        self._spans: list[tuple[StageTimeline, Span]] = []
        for stage in self._stages:
            self._first[stage.name] = len(self._spans) + 1
            self._spans += [(stage, span) for span in stage.spans]
        self._by_name = stages
        self._readers: dict[str, list[StageTimeline]] = {}
        for stage in self._stages:
            for producer in stage.streams:
                self._readers.setdefault(producer, []).append(stage)
        self._rank = _ranks(stages)
        order = sorted(range(1, len(self._spans) + 1), key=self._when)
        self._pieces = [self._piece(number) for number in order]
        self._piece_of = {piece.number: piece for piece in self._pieces}
        self.last_end = max((stage.ended_ns for stage in self._stages), default=started_ns)
        self.path, lengths = self._walk()
        self._asked = sorted((key for key in lengths if lengths[key]), key=lengths.__getitem__, reverse=True)

    def _when(self, number: int) -> tuple[int, int]:
        stage, span = self._spans[number - 1]
        return span.ended_ns, self._rank[stage.name]

    def _piece(self, number: int) -> _Piece:
        stage, span = self._spans[number - 1]
        before = 0 if number == self._first[stage.name] else number - 1
        if span.part not in _FOR_OTHERS:
            return _Piece(number, before, span.duration_ns, ())
        found = (self._release(number, other, at) for other, at in self._moments(stage, span))
        releases = tuple(release for release in found if release is not None)
        last = max((release.at_ns for release in releases), default=span.started_ns)
        return _Piece(number, before, span.ended_ns - max(last, span.started_ns), releases)

    def _moments(self, stage: StageTimeline, span: Span) -> Iterator[tuple[StageTimeline, int]]:
        """Yield who may have brought a wait to an end, and when."""
        known = self._by_name
        if span.part is Part.GATE:
            for name in stage.gates:
                if name in known:
                    yield known[name], _decided_ns(known[name])
            return
        producers = [known[name] for name in stage.streams if name in known]
        if span.part is Part.STREAM:
            for other in (*producers, *self._readers.get(stage.name, ())):
                yield other, span.ended_ns
            return
        for name in (*stage.dependencies, *stage.holders):
            if name in known:
                yield known[name], _decided_ns(known[name])
        for other in producers:
            yield other, other.ended_ns if other.begun_ns is None else other.begun_ns

    def _release(self, number: int, other: StageTimeline, at_ns: int) -> _Release | None:
        """Say how far another stage had come at a moment, or at the end of the wait, which comes later then."""
        _stage, span = self._spans[number - 1]
        at_ns = min(at_ns, span.ended_ns, other.ended_ns)
        if at_ns <= span.started_ns:
            return None
        index = bisect_left(other.spans, at_ns, key=attrgetter("ended_ns"))
        inside, found = self._first[other.name] + index, other.spans[index]
        before = 0 if index == 0 else inside - 1
        if found.part not in _FOR_OTHERS:
            return _Release(at_ns, before, at_ns - found.started_ns, inside, other.name)
        if found.ended_ns == at_ns and self._when(inside) < self._when(number):
            return _Release(at_ns, inside, 0, -1, other.name)
        # It was waiting itself: what it had done, it had done before.
        at_ns = found.started_ns
        return _Release(at_ns, before, 0, -1, other.name) if at_ns > span.started_ns else None

    def _walk(self) -> tuple[tuple[PathStep, ...], dict[tuple[str, Part], int]]:
        """Go back from the last end to the run's start, always to what was waited for.

        Returns:
            The path, and how much of it each part of each stage is; a wait for others counts whole.
        """
        steps: list[PathStep] = []
        lengths: dict[tuple[str, Part], int] = {}
        if not self._spans:
            return (), lengths
        number = max(range(1, len(self._spans) + 1), key=self._when)
        until_ns = self.last_end
        found: list[Span] = []
        while number:
            stage, span = self._spans[number - 1]
            piece = self._piece_of[number]
            last = max(piece.releases, default=None)
            begun_ns = span.started_ns if last is None else max(span.started_ns, last.at_ns)
            if begun_ns < until_ns:
                found.append(Span(span.part, begun_ns, until_ns, span.attempt))
            length = until_ns - begun_ns
            until_ns = begun_ns
            if last is None or begun_ns == span.started_ns:
                number = piece.before
            else:
                number = last.inside if last.inside > 0 else last.base
                # The wait goes, for the path, to whoever ended it; but it may be what should be asked about.
                length = 0 if last.stage in stage.streams and span.part is Part.STREAM else span.duration_ns
            if span.part is not Part.DEPENDENCIES:
                key = stage.name, span.part
                lengths[key] = lengths.get(key, 0) + length
            if found and (not number or self._spans[number - 1][0] is not stage):
                steps.append(PathStep(stage.name, tuple(reversed(found))))
                found = []
        return tuple(reversed(steps)), lengths

    def gains(self, limit: int) -> list[Gain]:
        """Ask of the longest parts on the path what the run would be without them."""
        gains: list[Gain] = []
        for name, part in self._asked[: limit * _QUESTIONS_PER_GAIN]:
            first, spans = self._first[name], self._by_name[name].spans
            without = frozenset(first + index for index, span in enumerate(spans) if span.part is part)
            gains.append(Gain(name, part, self.last_end - self.end_without(without)))
        gains.sort(key=lambda gain: -gain.gain_ns)
        return [gain for gain in gains if gain.gain_ns][:limit]

    def end_without(self, without: frozenset[int]) -> int:
        """Return when the last stage would have ended if the spans of these numbers had taken no time."""
        ends = [self._started_ns] * (len(self._spans) + 1)
        for number, before, length, releases in self._pieces:
            at = ends[before]
            if number not in without:
                for _, base, within, inside, _ in releases:
                    moment = ends[base] + (0 if inside in without else within)
                    at = max(at, moment)
                at += length
            ends[number] = at
        return max(ends)


def _decided_ns(stage: StageTimeline) -> int:
    """Return when nothing was missing any more for a stage to end.

    One that was kept from starting only had to get its turn, which whoever ran meanwhile took.
    """
    if stage.begun_ns is None and stage.spans and stage.spans[-1].part is Part.QUEUE:
        return stage.spans[-1].started_ns
    return stage.ended_ns


def _ranks(stages: Mapping[str, StageTimeline]) -> dict[str, int]:
    """Return an order in which stages come after all that they wait for; those in a circle come last."""
    wanted = {
        name: {
            one
            for one in (*stage.dependencies, *stage.holders, *stage.streams, *stage.gates)
            if one in stages and one != name
        }
        for name, stage in stages.items()
    }
    dependants: dict[str, list[str]] = {name: [] for name in stages}
    for name, others in wanted.items():
        for other in others:
            dependants[other].append(name)
    left = {name: len(others) for name, others in wanted.items()}
    order = [name for name, count in left.items() if not count]
    for name in order:  # grows while it is read
        for one in dependants[name]:
            left[one] -= 1
            if not left[one]:
                order.append(one)
    return {name: rank for rank, name in enumerate(dict.fromkeys([*order, *stages]))}


def _plain(totals: Mapping[Part, int]) -> dict[str, int]:
    return {part.value: ns for part, ns in totals.items()}


def _plain_span(span: Span) -> dict[str, Any]:
    return {
        "part": span.part.value,
        "started_ns": span.started_ns,
        "ended_ns": span.ended_ns,
        "attempt": span.attempt,
    }


def _ms(ns: int) -> str:
    return f"{ns / 1e6:g} ms"
