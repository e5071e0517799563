"""The timeline of a run as data: everything sums exactly, whatever was noted, and what-ifs agree with another run."""

from __future__ import annotations

import copy
import json
import pickle
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow.runtime.timeline import (
    Gain,
    PathStep,
    Span,
    StageStamps,
    Timeline,
    _Schedule,
    spans_of,
)
from stageflow.stages.part import Part

NAMES = ["a", "b", "c", "d", "e"]
OWN = [part for part in Part if part not in (Part.DEPENDENCIES, Part.GATE, Part.STREAM)]

parts = st.sampled_from(list(Part))
stamps_ns = st.integers(-20, 120)
attempts = st.integers(0, 3)
all_stretches = st.lists(st.tuples(parts, stamps_ns, attempts), max_size=6)
all_notes = st.lists(st.tuples(parts, stamps_ns, stamps_ns, attempts), max_size=6)
some_names = st.lists(st.sampled_from([*NAMES, "unknown"]), max_size=3)


@st.composite
def absurd_timelines(draw: st.DrawFn) -> Timeline:
    """Whatever anybody may hand over: circles, stages that nobody knows, stamps that go back, notes of other times."""
    stamps = [
        StageStamps(
            name,
            "work",
            "ok",
            draw(all_stretches),
            draw(all_notes),
            draw(some_names),
            draw(some_names),
            draw(some_names),
            draw(some_names),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    ]
    return Timeline.of_stamps(0, draw(stamps_ns), stamps)


def assert_joined(spans: tuple[Span, ...] | list[Span]) -> None:
    assert all(one.ended_ns == other.started_ns for one, other in pairwise(spans))
    assert all(span.duration_ns > 0 for span in spans)


# --- sums ---------------------------------------------------------------------------------------------------------


@given(absurd_timelines())
def test_the_parts_of_a_stage_sum_exactly(timeline: Timeline) -> None:
    for stage in timeline.values():
        assert_joined(stage.spans)
        assert not stage.spans or stage.spans[0].started_ns == stage.started_ns == timeline.started_ns
        assert (stage.spans[-1].ended_ns if stage.spans else stage.started_ns) == stage.ended_ns
        assert sum(stage.totals.values()) == stage.total_ns == stage.ended_ns - stage.started_ns
        assert 0 <= stage.total_ns <= timeline.total_ns
        assert all(stage.totals.values())


@given(absurd_timelines())
def test_the_critical_path_sums_exactly(timeline: Timeline) -> None:
    path = timeline.critical_path
    assert sum(step.duration_ns for step in path) + timeline.tail_ns == timeline.total_ns
    assert_joined([span for step in path for span in step.spans])
    for step in path:
        owned = timeline[step.stage].spans
        for span in step.spans:
            assert any(
                one.part is span.part and one.started_ns <= span.started_ns and span.ended_ns <= one.ended_ns
                for one in owned
            )


@given(absurd_timelines(), st.integers(0, 9))
def test_gains_are_neither_negative_nor_more_than_there_is(timeline: Timeline, limit: int) -> None:
    gains = timeline.gains(limit)
    assert len(gains) <= limit
    assert [gain.gain_ns for gain in gains] == sorted((gain.gain_ns for gain in gains), reverse=True)
    for gain in gains:
        assert 0 < gain.gain_ns <= timeline[gain.stage].totals[gain.part] <= timeline.total_ns
        assert gain.part is not Part.DEPENDENCIES


@given(absurd_timelines())
def test_to_take_nothing_away_changes_nothing(timeline: Timeline) -> None:
    assert end_without(timeline, "", None) == timeline.ended_ns - timeline.tail_ns


@given(absurd_timelines())
def test_copies_and_json(timeline: Timeline) -> None:
    for other in (pickle.loads(pickle.dumps(timeline)), copy.deepcopy(timeline)):
        assert other == timeline
        assert other.to_dict() == timeline.to_dict()
    record = json.loads(json.dumps(timeline.to_dict()))
    assert list(record["stages"]) == list(timeline)
    for stage in record["stages"].values():
        assert sum(stage["parts_ns"].values()) == stage["total_ns"]
    path = sum(step["duration_ns"] for step in record["critical_path"])
    assert path + record["tail_ns"] == record["total_ns"]


def end_without(timeline: Timeline, stage: str, part: Part | None) -> int:
    """Return when the last stage would have ended without one part of one stage."""
    schedule = timeline._planned
    numbers = [
        number
        for number, (owner, span) in enumerate(schedule._spans, 1)
        if owner.name == stage and span.part is part
    ]
    return schedule.end_without(frozenset(numbers))


# --- notes --------------------------------------------------------------------------------------------------------


@given(all_stretches, all_notes)
def test_a_moment_belongs_to_the_note_that_began_first_and_otherwise_to_its_stretch(stretches, notes) -> None:
    expected: list[tuple[Part, int]] = []
    for part, ended_ns, attempt in stretches:
        for at in range(len(expected), ended_ns):
            covering = [note for note in notes if note[1] <= at < note[2]]
            noted = min(covering, key=lambda note: note[1])[0] if covering else part
            expected.append((noted if part is Part.RUN else part, attempt))
    found = spans_of(0, stretches, notes)
    assert_joined(found)
    assert [(span.part, span.attempt) for span in found for _ in range(span.duration_ns)] == expected


def test_a_note_that_goes_on_into_the_next_stretch_of_running() -> None:
    stretches = [(Part.RUN, 10, 1), (Part.BACKOFF, 20, 2), (Part.RUN, 40, 2)]
    assert spans_of(0, stretches, [(Part.TRANSPORT, 5, 30, 1)]) == [
        (Part.RUN, 0, 5, 1),
        (Part.TRANSPORT, 5, 10, 1),
        (Part.BACKOFF, 10, 20, 2),
        (Part.TRANSPORT, 20, 30, 2),
        (Part.RUN, 30, 40, 2),
    ]


def test_notes_come_in_any_order_and_the_one_that_began_first_keeps_the_time() -> None:
    notes = [(Part.STREAM, 30, 60, 1), (Part.GATE, 20, 40, 1), (Part.APPROVAL, 90, 95, 1)]
    assert spans_of(0, [(Part.RUN, 70, 1)], notes) == [
        (Part.RUN, 0, 20, 1),
        (Part.GATE, 20, 40, 1),
        (Part.STREAM, 40, 60, 1),
        (Part.RUN, 60, 70, 1),
    ]


# --- what a stage says of itself ------------------------------------------------------------------------------------


def test_a_stage_begins_with_its_first_attempt() -> None:
    waits = [(Part.DEPENDENCIES, 10, 1), (Part.QUEUE, 15, 1)]
    timeline = Timeline.of_stamps(
        0,
        50,
        [
            StageStamps("ran", "work", "ok", [*waits, (Part.RUN, 20, 1), (Part.RUN, 40, 2)]),
            StageStamps("in no time", "work", "ok", [*waits, (Part.RUN, 15, 1)]),
            StageStamps("kept", "work", "skip", [*waits, (Part.RUN, 15, 1)]),
            StageStamps("skips", "work", "skip", [*waits, (Part.RUN, 15, 1), (Part.RUN, 16, 2)]),
            StageStamps("waits", "work", "cancel", waits),
        ],
    )
    assert [(stage.begun_ns, stage.attempts) for stage in timeline.values()] == [
        (15, 2),
        (15, 1),
        (None, 0),
        (15, 2),
        (None, 0),
    ]
    assert timeline["ran"].totals == {Part.DEPENDENCIES: 10, Part.QUEUE: 5, Part.RUN: 25}
    sent_back = [(Part.RUN, 5, 1), (Part.DEPENDENCIES, 10, 2), (Part.RUN, 12, 2)]
    (stage,) = Timeline.of_stamps(0, 12, [StageStamps("a", "work", "ok", sent_back)]).values()
    assert list(stage.totals) == [Part.DEPENDENCIES, Part.RUN]  # in the order of the parts


def test_look_ups_and_reprs() -> None:
    timeline = Timeline.of_stamps(
        0, 2_000_000, [StageStamps("fetch", "work", "ok", [(Part.RUN, 1_500_000, 1)])]
    )
    assert repr(timeline) == "<Timeline 1 stage in 2 ms>"
    assert repr(timeline["fetch"]) == "<StageTimeline 'fetch' ok: run 1.5 ms>"
    with pytest.raises(KeyError, match=r"'fetsh'.*'fetch'"):
        timeline["fetsh"]
    assert "fetsh" not in timeline


def test_a_run_without_stages() -> None:
    timeline = Timeline.of_stamps(7, 12, [])
    assert (timeline.critical_path, timeline.tail_ns, timeline.gains()) == ((), 5, [])


# --- what-ifs, against a run that really was otherwise ----------------------------------------------------------------


class Plan(NamedTuple):
    """A stage of a made-up run: what it waits for, how long it takes, and after which fraction it wants each chunk."""

    queue: int
    gated: bool
    work: tuple[int, ...]
    """The stretches that it works. Before each but the first it waits for a chunk, if it reads a stream."""

    dependencies: tuple[str, ...]
    streams: tuple[str, ...]
    chunks: tuple[int, ...]
    """After how many of its own stretches each producer has written the chunk."""


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Plan]:
    found: dict[str, Plan] = {}
    for index in range(draw(st.integers(1, 8))):
        before = list(found)
        work = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
        others = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        streams = draw(st.lists(st.sampled_from(before), unique=True, max_size=2)) if before else []
        found[f"s{index}"] = Plan(
            queue=draw(st.integers(0, 9)),
            gated=bool(before) and draw(st.booleans()),
            work=tuple(work),
            dependencies=tuple(one for one in others if one not in streams),
            streams=tuple(streams),
            chunks=tuple(draw(st.integers(1, 4)) for _ in work[1:]),
        )
    return found


def simulate(plan: dict[str, Plan], without: tuple[str, Part | None] = ("", None)) -> dict[str, StageStamps]:
    """Run it on a machine with infinitely many places; ``s0`` is the gate."""
    done: dict[str, StageStamps] = {}
    written: dict[str, list[int]] = {}  # when each stretch of a stage's work had ended
    begun: dict[str, int] = {}
    for name, stage in plan.items():

        def takes(part: Part, length: int, name: str = name) -> int:
            return 0 if without == (name, part) else length

        stretches: list[tuple[Part, int, int]] = []
        at = max(
            [
                0,
                *(done[one].stretches[-1][1] for one in stage.dependencies),
                *(begun[one] for one in stage.streams),
            ]
        )
        stretches.append((Part.DEPENDENCIES, at, 1))
        at += takes(Part.QUEUE, stage.queue)
        stretches.append((Part.QUEUE, at, 1))
        if stage.gated:
            at += takes(Part.GATE, max(0, done["s0"].stretches[-1][1] - at))
            stretches.append((Part.GATE, at, 1))
        begun[name] = at
        written[name] = []
        for index, length in enumerate(stage.work):
            if index:
                wanted = [
                    written[one][min(stage.chunks[index - 1], len(written[one])) - 1] for one in stage.streams
                ]
                at += takes(Part.STREAM, max(0, max(wanted, default=at) - at))
                stretches.append((Part.STREAM, at, 1))
            at += takes(Part.RUN, length)
            stretches.append((Part.RUN, at, 1))
            written[name].append(at)
        done[name] = StageStamps(
            name,
            "work",
            "ok",
            stretches,
            dependencies=stage.dependencies,
            streams=stage.streams,
            gates=("s0",) if stage.gated else (),
        )
    return done


def end_of(stamps: dict[str, StageStamps]) -> int:
    return max(one.stretches[-1][1] for one in stamps.values())


@given(plans())
def test_without_a_part_the_run_ends_when_it_would_have_ended(plan: dict[str, Plan]) -> None:
    stamps = simulate(plan)
    timeline = Timeline.of_stamps(0, end_of(stamps), stamps.values())
    for name in plan:
        for part in (Part.QUEUE, Part.GATE, Part.STREAM, Part.RUN):
            would = end_of(simulate(plan, (name, part)))
            found = end_without(timeline, name, part)
            if any(stage.streams for stage in plan.values()):
                # Who was not waiting for a chunk then may have to now, and that is in no stamp.
                assert found <= timeline.ended_ns
            else:
                assert found == would, (name, part)


@given(plans())
def test_the_critical_path_holds_no_time_in_which_somebody_else_was_waited_for(plan: dict[str, Plan]) -> None:
    stamps = simulate(plan)
    timeline = Timeline.of_stamps(0, end_of(stamps), stamps.values())
    assert {span.part for step in timeline.critical_path for span in step.spans} <= {Part.QUEUE, Part.RUN}
    assert timeline.tail_ns == 0


def test_a_stream_leads_to_its_producer() -> None:
    speak = [
        (Part.DEPENDENCIES, 10, 1),
        (Part.STREAM, 40, 1),
        (Part.RUN, 45, 1),
        (Part.STREAM, 100, 1),
        (Part.RUN, 115, 1),
    ]
    timeline = Timeline.of_stamps(
        0,
        120,
        [
            StageStamps("llm", "agent", "ok", [(Part.QUEUE, 10, 1), (Part.RUN, 102, 1)]),
            StageStamps("speak", "work", "ok", speak, streams=["llm"]),
        ],
    )
    assert timeline.critical_path == (
        PathStep("llm", (Span(Part.QUEUE, 0, 10, 1), Span(Part.RUN, 10, 100, 1))),
        PathStep("speak", (Span(Part.RUN, 100, 115, 1),)),
    )
    assert timeline.tail_ns == 5
    # Without the model's time, the reader goes from chunk to chunk; that it waits for them is no change to make.
    assert timeline.gains() == [
        Gain("llm", Part.RUN, 85),
        Gain("speak", Part.RUN, 13),
        Gain("llm", Part.QUEUE, 10),
    ]


def test_a_full_stream_leads_to_its_reader() -> None:
    timeline = Timeline.of_stamps(
        0,
        100,
        [
            StageStamps("write", "work", "ok", [(Part.RUN, 10, 1), (Part.STREAM, 80, 1), (Part.RUN, 100, 1)]),
            StageStamps("read", "work", "ok", [(Part.RUN, 90, 1)], streams=["write"]),
        ],
    )
    assert [(step.stage, step.duration_ns) for step in timeline.critical_path] == [
        ("read", 80),
        ("write", 20),
    ]
    assert timeline.gains() == [
        Gain("read", Part.RUN, 70),
        Gain("write", Part.STREAM, 10),  # with room for the chunks; then the reader is the last
        Gain("write", Part.RUN, 10),
    ]


def test_the_gate_that_ended_last_releases_an_effect() -> None:
    timeline = Timeline.of_stamps(
        0,
        100,
        [
            StageStamps("quick guard", "guard", "ok", [(Part.RUN, 20, 1)]),
            StageStamps("slow guard", "guard", "ok", [(Part.RUN, 70, 1)]),
            StageStamps("llm", "agent", "ok", [(Part.RUN, 40, 1)]),
            StageStamps(
                "mail",
                "work",
                "ok",
                [(Part.DEPENDENCIES, 40, 1), (Part.GATE, 70, 1), (Part.RUN, 100, 1)],
                dependencies=["llm"],
                gates=["quick guard", "slow guard"],
            ),
        ],
    )
    assert [step.stage for step in timeline.critical_path] == ["slow guard", "mail"]
    assert timeline.gains() == [
        Gain("slow guard", Part.RUN, 30),
        Gain("mail", Part.RUN, 30),
        Gain("mail", Part.GATE, 30),
    ]


def test_a_stage_that_was_kept_from_starting_and_waited_for_its_turn_is_not_to_blame() -> None:
    branches = [
        StageStamps("route", "route", "ok", [(Part.RUN, 10, 1)]),
        StageStamps(
            "taken", "work", "ok", [(Part.DEPENDENCIES, 10, 1), (Part.RUN, 60, 1)], dependencies=["route"]
        ),
        # The other branch is skipped as soon as the one that computes lets go of the event loop.
        StageStamps(
            "other",
            "work",
            "skip",
            [(Part.DEPENDENCIES, 10, 1), (Part.QUEUE, 61, 1), (Part.RUN, 61, 1)],
            dependencies=["route"],
        ),
        StageStamps(
            "join",
            "work",
            "ok",
            [(Part.DEPENDENCIES, 62, 1), (Part.RUN, 80, 1)],
            dependencies=["taken", "other"],
        ),
    ]
    timeline = Timeline.of_stamps(0, 80, branches)
    assert [step.stage for step in timeline.critical_path] == ["route", "taken", "join"]


def test_a_skip_that_is_passed_on_at_once_leads_to_what_was_waited_for() -> None:
    waits = (Part.DEPENDENCIES, 10, 1)
    stamps = [
        StageStamps("join", "work", "ok", [waits, (Part.RUN, 30, 1)], dependencies=["off"]),
        StageStamps("off", "work", "skip", [waits], dependencies=["a"]),
        StageStamps("a", "work", "ok", [(Part.RUN, 10, 1)]),
    ]
    path = Timeline.of_stamps(0, 30, stamps).critical_path
    assert [(step.stage, step.duration_ns) for step in path] == [("a", 10), ("join", 20)]


def test_a_guard_that_holds_a_stage_releases_it() -> None:
    stamps = [
        StageStamps("a", "work", "ok", [(Part.RUN, 10, 1)]),
        StageStamps(
            "guard", "guard", "ok", [(Part.DEPENDENCIES, 10, 1), (Part.RUN, 25, 1)], dependencies=["a"]
        ),
        StageStamps(
            "b",
            "work",
            "ok",
            [(Part.DEPENDENCIES, 25, 1), (Part.RUN, 30, 1)],
            dependencies=["a"],
            holders=["guard"],
        ),
    ]
    assert [step.stage for step in Timeline.of_stamps(0, 30, stamps).critical_path] == ["a", "guard", "b"]


def test_a_reader_that_starts_later_than_its_producer_was_not_waiting_for_it() -> None:
    stamps = [
        StageStamps("write", "work", "ok", [(Part.QUEUE, 10, 1), (Part.RUN, 100, 1)]),
        StageStamps("load", "work", "ok", [(Part.RUN, 50, 1)]),
        StageStamps(
            "read",
            "work",
            "ok",
            [(Part.DEPENDENCIES, 50, 1), (Part.RUN, 120, 1)],
            dependencies=["load"],
            streams=["write"],
        ),
    ]
    timeline = Timeline.of_stamps(0, 120, stamps)
    assert [step.stage for step in timeline.critical_path] == ["load", "read"]
    # Without the load the reader begins with its producer, at 10; then the producer is the last to end.
    assert end_without(timeline, "load", Part.RUN) == 100


def test_what_is_long_is_not_what_gains_most() -> None:
    waits = (Part.DEPENDENCIES, 50, 1)
    stamps = [
        StageStamps("long", "work", "ok", [(Part.RUN, 50, 1)]),
        StageStamps("beside", "work", "ok", [(Part.RUN, 45, 1)]),
        StageStamps("join", "work", "ok", [waits, (Part.RUN, 70, 1)], dependencies=["long", "beside"]),
    ]
    gains = Timeline.of_stamps(0, 70, stamps).gains()
    assert gains == [Gain("join", Part.RUN, 20), Gain("long", Part.RUN, 5)]


def test_only_the_longest_parts_are_asked_about_and_nobody_recurses(monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = [
        StageStamps(
            f"s{index}",
            "work",
            "ok",
            [(Part.DEPENDENCIES, index * 10, 1), (Part.RUN, index * 10 + 10, 1)],
            dependencies=[f"s{index - 1}"] if index else [],
        )
        for index in range(3000)
    ]
    timeline = Timeline.of_stamps(0, 30_000, stamps)
    assert len(timeline.critical_path) == 3000
    asked: list[frozenset[int]] = []
    ask = _Schedule.end_without
    monkeypatch.setattr(_Schedule, "end_without", lambda self, parts: asked.append(parts) or ask(self, parts))
    assert [gain.gain_ns for gain in timeline.gains(3)] == [10, 10, 10]
    assert len(asked) <= 12
