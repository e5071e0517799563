"""Timelines: the parts of a stage's time sum exactly, and every picture shows every stage."""

import asyncio
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import Pipeline, StageKind, StageOutput
from stageflow.cli.pictures import Timeline, timeline_lines, timeline_svg
from stageflow.cli.pictures.lettering import columns, duration
from stageflow.cli.pictures.timeline import Part


async def quick(ctx):
    return StageOutput.ok()


async def nap(ctx):
    await asyncio.sleep(0.001)
    return StageOutput.ok()


async def fail(ctx):
    raise ValueError("no\nway")


def flaky():
    calls = iter([StageOutput.retry("not yet", retry_after=0.001), StageOutput.ok()])

    async def body(ctx):
        return next(calls)

    return body


async def events_of(pipeline: Pipeline) -> list:
    return [(event.type, event.data) async for event in pipeline.stream(raise_errors=False)]


def timeline_of(pipeline: Pipeline) -> Timeline:
    return Timeline.of(pipeline.specs, asyncio.run(events_of(pipeline)), pipeline=pipeline.name)


def various() -> Pipeline:
    return (
        Pipeline("various")
        .with_stage("first", nap, StageKind.GUARD)
        .with_stage("again", flaky(), StageKind.WORK, ["first"])
        .with_stage("off", quick, StageKind.ROUTE, ["first"], when=lambda inputs: False)
        .with_stage("broken", fail, StageKind.AGENT, ["again"])
        .with_stage("never", quick, StageKind.TRANSFORM, ["broken"])
    )


def test_each_stage_ends_in_its_state() -> None:
    timeline = timeline_of(various())
    assert timeline.status == "failed"
    assert {row.stage: row.status for row in timeline.rows} == {
        "first": "ok",
        "again": "ok",
        "off": "skip",
        "broken": "fail",
        "never": "skip",
    }
    again = timeline.rows[1]
    assert again.attempts == 2
    assert again.total(Part.BACKOFF) > 0


def test_the_parts_of_a_stage_join_and_sum_to_the_time_until_its_end() -> None:
    for row in timeline_of(various()).rows:
        assert not row.spans or row.spans[0].start == 0
        assert all(one.end == other.start for one, other in pairwise(row.spans))
        assert row.total(*Part) == row.end


def test_a_run_that_goes_on_grows_until_now() -> None:
    pipeline = Pipeline().with_stage("one", quick, StageKind.WORK)
    events = [
        ("pipeline.started", {"monotonic_ns": 100}),
        ("stage.one.started", stage_data("one", "started", 110)),
    ]
    (row,) = Timeline.of(pipeline.specs, events, now_ns=160).rows
    assert (row.status, row.total(Part.WORK)) == ("running", 50)


def test_events_that_stages_emit_themselves_are_not_mistaken_for_the_runs() -> None:
    pipeline = Pipeline().with_stage("one", quick, StageKind.WORK)
    events = [
        ("pipeline.started", {"monotonic_ns": 100}),
        ("note", stage_data("one", "completed", 110)),
        ("odd", {}),
    ]
    (row,) = Timeline.of(pipeline.specs, events).rows
    assert row.status == "waiting"


def stage_data(stage: str, status: str, stamp: int) -> dict:
    return {"stage": stage, "status": status, "monotonic_ns": stamp}


@pytest.mark.parametrize("width", [10, 60, 100])
def test_the_bars_name_every_stage_and_stay_within_their_columns(width: int) -> None:
    lines = [
        "".join(piece.text for piece in line) for line in timeline_lines(timeline_of(various()), width=width)
    ]
    assert lines[0].startswith("various: failed in ")
    assert any(line.startswith("✗ broken") for line in lines)
    assert any("skipped: condition false" in line for line in lines) or width < 40
    if width >= 60:
        assert all(columns(line) <= width or "waits" in line for line in lines)


def test_bars_in_ascii() -> None:
    text = "\n".join(
        "".join(p.text for p in line) for line in timeline_lines(timeline_of(various()), unicode=False)
    )
    assert text.isascii()


def test_nothing_has_happened_yet() -> None:
    pipeline = Pipeline().with_stage("one", quick, StageKind.WORK)
    timeline = Timeline.of(pipeline.specs, [])
    assert len(timeline_lines(timeline)) == 2
    ET.fromstring(timeline_svg(timeline))  # noqa: S314 - ours


def test_the_svg_is_xml_and_names_every_stage() -> None:
    timeline = timeline_of(various().with_stage("<&> 日本", nap, StageKind.WORK))
    root = ET.fromstring(timeline_svg(timeline))  # noqa: S314 - ours
    said = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    for row in timeline.rows:
        assert row.stage in said


@given(st.integers(0, 10**13))
def test_a_length_of_time_is_short(ns: int) -> None:
    assert len(duration(ns)) <= 14


@pytest.mark.parametrize(
    ("ns", "said"),
    [
        (0, "0.00 ms"),
        (9_940_000, "9.9 ms"),
        (9_960_000, "10 ms"),
        (999_000_000, "999 ms"),
        (999_600_000, "1.00 s"),
    ],
)
def test_lengths_of_time(ns: int, said: str) -> None:
    assert duration(ns) == said
