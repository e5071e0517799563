"""Timelines: the parts of a stage's time sum exactly, and every picture shows every stage."""

import asyncio
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import FailureMode, Pipeline, StageKind, StageOutput, StageSpec
from stageflow.cli.pictures import Chart, timeline_lines, timeline_svg
from stageflow.cli.pictures.lettering import columns, duration
from stageflow.cli.pictures.parts import LOOKS, waited_ns, worked_ns
from stageflow.runtime.results import PipelineResults
from stageflow.runtime.timeline import StageStamps, Timeline
from stageflow.stages.part import Part

SVG = "{http://www.w3.org/2000/svg}"


async def quick(ctx):
    return StageOutput.ok()


async def nap(ctx):
    await asyncio.sleep(0.001)
    return StageOutput.ok(reason="none: it went well")


async def fail(ctx):
    raise ValueError("no\nway")


def flaky():
    calls = iter([StageOutput.retry("not yet", retry_after=0.001), StageOutput.ok()])

    async def body(ctx):
        return next(calls)

    return body


async def events_of(pipeline: Pipeline) -> list:
    return [(event.type, event.data) async for event in pipeline.stream(raise_errors=False)]


def from_events(pipeline: Pipeline) -> Chart:
    return Chart.of_events(pipeline.specs, asyncio.run(events_of(pipeline)), pipeline=pipeline.name)


def from_results(pipeline: Pipeline) -> Chart:
    return Chart.of_results(pipeline.specs, asyncio.run(pipeline.run(raise_errors=False)))


both = pytest.mark.parametrize("chart_of", [from_events, from_results])


def various() -> Pipeline:
    return (
        Pipeline("various")
        .with_stage("first", nap, StageKind.GUARD)
        .with_stage("again", flaky(), StageKind.WORK, ["first"])
        .with_stage("off", quick, StageKind.ROUTE, ["first"], when=lambda inputs: False)
        .with_stage("broken", fail, StageKind.AGENT, ["again"])
        .with_stage("never", quick, StageKind.TRANSFORM, ["broken"])
    )


def text_of(chart: Chart, **options) -> str:
    return "\n".join("".join(piece.text for piece in line) for line in timeline_lines(chart, **options))


# --- what a chart knows ---------------------------------------------------------------------------------------------


@both
def test_each_stage_ends_in_its_state(chart_of) -> None:
    chart = chart_of(various())
    assert (chart.pipeline, chart.status) == ("various", "failed")
    assert {stage.name: (stage.status, stage.attempts) for stage in chart.stages} == {
        "first": ("ok", 1),
        "again": ("ok", 2),
        "off": ("skip", 0),
        "broken": ("fail", 1),
        "never": ("skip", 0),
    }
    assert chart.timeline["again"].totals[Part.BACKOFF] > 0
    assert chart.reasons["off"] == "condition_false"
    assert chart.reasons["never"] == "run_stopped"
    assert "no" in chart.reasons["broken"]
    assert "first" not in chart.reasons


@both
def test_the_parts_of_a_stage_join_and_sum_to_the_time_until_its_end(chart_of) -> None:
    for stage in chart_of(various()).stages:
        assert all(one.ended_ns == other.started_ns for one, other in pairwise(stage.spans))
        assert sum(stage.totals.values()) == stage.total_ns == worked_ns(stage) + waited_ns(stage)


def test_a_run_of_which_a_stage_failed_is_not_called_completed() -> None:
    pipeline = Pipeline("p").with_stage("broken", fail, StageKind.WORK)
    graph = pipeline.build(failure_mode=FailureMode.BEST_EFFORT)
    assert Chart.of_results(pipeline.specs, asyncio.run(graph.run())).status == "failed"


def test_a_run_that_a_stage_cancels() -> None:
    async def stop(ctx):
        return StageOutput.cancel("enough")

    chart = from_results(Pipeline("p").with_stage("stop", stop, StageKind.WORK))
    assert (chart.status, chart.reasons) == ("cancelled", {"stop": "enough"})


def test_results_made_by_hand_have_no_times() -> None:
    pipeline = Pipeline().with_stage("one", quick, StageKind.WORK)
    chart = Chart.of_results(pipeline.specs, PipelineResults({"one": StageOutput.ok()}))
    assert "one" in text_of(chart)


# --- what events tell -------------------------------------------------------------------------------------------------


def stage_data(stage: str, status: str, stamp: int, **more) -> dict:
    return {"stage": stage, "status": status, "monotonic_ns": stamp, **more}


def read(specs, *told: tuple[str, str, int] | tuple[str, str, int, dict], now_ns: int | None = None) -> Chart:
    events = [
        (f"stage.{name}.{status}", stage_data(name, status, at, **dict(*more)))
        for name, status, at, *more in told
    ]
    return Chart.of_events(specs, [("pipeline.started", {"monotonic_ns": 100}), *events], now_ns=now_ns)


def spans_of(chart: Chart, stage: str) -> list[tuple[Part, int]]:
    return [(span.part, span.duration_ns) for span in chart.timeline[stage].spans]


def test_a_run_that_goes_on_grows_until_now() -> None:
    chart = read([StageSpec("one", quick)], ("one", "started", 110), now_ns=160)
    assert chart.status == chart.timeline["one"].status == "running"
    assert spans_of(chart, "one") == [(Part.QUEUE, 10), (Part.RUN, 50)]
    assert chart.critical == frozenset()
    assert chart.gains == []


def test_what_a_stage_waited_for_follows_from_the_ends_of_others(guarded_stream) -> None:
    chart = read(
        guarded_stream,
        *[("listen", "started", 101), ("listen", "completed", 110), ("intent", "started", 110)],
        *[("moderate", "started", 112), ("intent", "completed", 120)],
        *[("lookup", "skipped", 121, {"reason": "route_not_taken"}), ("llm", "started", 130)],
        *[("captions", "started", 131), ("moderate", "completed", 150), ("speak", "started", 153)],
        ("speak", "cancelled", 160),
    )
    assert spans_of(chart, "captions") == [(Part.DEPENDENCIES, 30), (Part.QUEUE, 1), (Part.RUN, 29)]
    assert spans_of(chart, "speak") == [
        (Part.DEPENDENCIES, 30),
        (Part.GATE, 20),
        (Part.QUEUE, 3),
        (Part.RUN, 7),
    ]
    assert spans_of(chart, "lookup") == [(Part.DEPENDENCIES, 20), (Part.QUEUE, 1)]
    assert chart.reasons == {"lookup": "route_not_taken"}


def test_attempts_that_events_tell_of() -> None:
    specs = [StageSpec("one", quick)]
    told = [("one", "started", 110), ("one", "retrying", 120, {"attempt": 2, "delay_ms": 0.00001})]
    chart = read(specs, *told, ("one", "completed", 150))
    assert spans_of(chart, "one") == [
        (Part.QUEUE, 10),
        (Part.RUN, 10),
        (Part.BACKOFF, 10),
        (Part.RUN, 20),
    ]
    assert chart.timeline["one"].attempts == 2
    # Cancelled before the next attempt; another stage goes on.
    specs.append(StageSpec("two", quick))
    more = [("one", "cancelled", 125), ("two", "failed", 190, {"error": "its when= has raised"})]
    chart = read(specs, *told, *more)
    assert spans_of(chart, "one")[-1] == (Part.BACKOFF, 5)
    assert (chart.timeline["two"].attempts, chart.reasons) == (0, {"two": "its when= has raised"})
    # Sent back by a guard after it had ended.
    again = [("one", "started", 110), ("one", "completed", 120), ("one", "retrying", 140, {"round": 2})]
    chart = read(specs, *again, ("one", "completed", 150))
    assert spans_of(chart, "one")[1:] == [(Part.RUN, 10), (Part.DEPENDENCIES, 20), (Part.RUN, 10)]
    assert chart.timeline["one"].attempts == 2


def test_events_that_stages_emit_themselves_are_not_mistaken_for_the_runs() -> None:
    pipeline = Pipeline().with_stage("one", quick, StageKind.WORK)
    events = [
        ("pipeline.started", {"monotonic_ns": 100}),
        ("note", stage_data("one", "completed", 110)),
        ("odd", {}),
    ]
    (stage,) = Chart.of_events(pipeline.specs, events).stages
    assert stage.status == "waiting"


def test_nothing_has_happened_yet() -> None:
    pipeline = Pipeline().with_stage("one", quick, StageKind.WORK)
    chart = Chart.of_events(pipeline.specs, [])
    assert len(timeline_lines(chart)) == 2
    ET.fromstring(timeline_svg(chart))  # noqa: S314 - ours


# --- bars ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("width", [10, 60, 100])
def test_the_bars_name_every_stage_and_stay_within_their_columns(chart_of, width: int) -> None:
    lines = text_of(chart_of(various()), width=width).splitlines()
    assert lines[0].startswith("various: failed in ")
    assert any(line.startswith("✗ broken") for line in lines)
    assert any("skipped: condition false" in line for line in lines) or width < 40
    if width >= 60:
        assert all(columns(line) <= width for line in lines)


@both
def test_bars_in_ascii(chart_of) -> None:
    assert text_of(chart_of(various()), unicode=False).isascii()


PICTURE = """\
guarded-stream: cancelled in 1.18 s
✓ listen    ◆ ▒█████▒                                                          118 ms  waited 2.0 ms
✓ moderate  ◆ ······█████████████████████                                      380 ms  waited 120 ms
✓ intent      ······░███~~~~██                                                  80 ms  waited 220 ms
              2 attempts
✓ llm       ◆ ················░░████≈≈≈≈≈██████████████                        335 ms  waited 425 ms
- lookup      skipped: route not taken
✓ captions    ··················≈≈≈█≈≈≈≈≈≈█≈≈≈≈≈≈≈≈≈≈≈█                         37 ms  waited 733 ms
✓ speak     ◆ ··················|||||||||█████≈≈█████████████████              398 ms  waited 542 ms
- refund      skipped: branch not taken
✓ save      ◆ ··················································█?????????██    50 ms  waited 1.10 s
■ count     ◆ ·····························································██   30 ms  waited 1.15 s
  █ runs   ▒ moves its data   ≈ waits on a stream   ? waits for approval   | waits at the gate
  ~ waits for another attempt   ░ waits for its turn   · waits for dependencies
  ◆ on the critical path
  sooner by 303 ms  if speak took no time
            160 ms  if save needed no approval
             88 ms  if listen took no time
"""


def test_the_whole_picture(guarded_chart) -> None:
    assert text_of(guarded_chart) + "\n" == PICTURE


def test_every_part_has_a_sign_of_its_own_with_and_without_unicode() -> None:
    assert set(LOOKS) == set(Part)
    for signs in zip(
        *((look.sign, look.plain, look.said, look.without) for look in LOOKS.values()), strict=True
    ):
        assert len(set(signs)) == len(Part)
    for look in LOOKS.values():
        assert columns(look.sign) == columns(look.plain) == 1
        assert look.plain.isascii()


@pytest.mark.parametrize("part", [part for part in Part if part is not Part.DEPENDENCIES])
def test_what_would_be_gained_is_said_of_every_part(part: Part) -> None:
    stretches = [(Part.RUN, 50, 1)] if part is Part.RUN else [(Part.RUN, 1, 1), (part, 50, 1)]
    timeline = Timeline.of_stamps(0, 50, [StageStamps("fetch", "work", "ok", stretches)])
    chart = Chart("p", "completed", timeline, {})
    assert f"  if {LOOKS[part].without.format('fetch')}" in text_of(chart)
    assert f"sooner if {LOOKS[part].without.format('fetch')}" in timeline_svg(chart)


def test_what_is_less_than_a_hundredth_is_not_worth_a_word() -> None:
    stamps = [StageStamps("fetch", "work", "ok", [(Part.QUEUE, 9, 1), (Part.RUN, 1000, 1)])]
    chart = Chart("p", "completed", Timeline.of_stamps(0, 1000, stamps), {})
    assert [gain.part for gain in chart.gains] == [Part.RUN]


# --- SVG ----------------------------------------------------------------------------------------------------------


def texts_of(root: ET.Element) -> list[str | None]:
    return [text.text for text in root.iter(f"{SVG}text")]


@both
def test_the_svg_is_xml_and_names_every_stage(chart_of) -> None:
    chart = chart_of(various().with_stage("<&> 日本", nap, StageKind.WORK))
    said = texts_of(ET.fromstring(timeline_svg(chart)))  # noqa: S314 - ours
    for stage in chart.stages:
        assert stage.name in said


def test_the_svg_shows_each_part_the_path_and_the_gains(guarded_chart) -> None:
    svg = timeline_svg(guarded_chart)
    root = ET.fromstring(svg)  # noqa: S314 - ours
    said = texts_of(root)
    for part in Part:
        if part is not Part.RUN:
            assert LOOKS[part].said in said
    for letter in "GAST":
        assert letter in said
    assert "critical path" in said
    assert "160 ms sooner if save needed no approval" in said
    patterns = {pattern.get("id") for pattern in root.iter(f"{SVG}pattern")}
    assert patterns == {"gate", "approval", "stream", "transport"}
    assert all(svg.count(f"url(#{name})") > 1 for name in patterns)


def test_no_text_leaves_the_page(guarded_chart) -> None:
    root = ET.fromstring(timeline_svg(guarded_chart))  # noqa: S314 - ours
    width, height = (float(root.get(side)) for side in ("width", "height"))
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) < width
        assert 0 <= float(text.get("y")) < height


def chunky() -> Chart:
    """A stage that reads ten thousand chunks, works on each for a tenth of the time, and writes something at last."""
    stretches = [
        stretch
        for at in range(0, 1_000_000, 100)
        for stretch in ((Part.STREAM, at + 90, 1), (Part.RUN, at + 100, 1))
    ]
    stamps = [StageStamps("read", "work", "ok", [*stretches, (Part.APPROVAL, 1_500_000, 1)])]
    return Chart("p", "completed", Timeline.of_stamps(0, 1_500_000, stamps), {})


def test_a_stage_that_waits_for_a_million_chunks_is_no_million_shapes() -> None:
    svg = timeline_svg(chunky())
    assert len(svg) < 300_000
    rects = [rect for rect in ET.fromstring(svg).iter(f"{SVG}rect") if rect.get("fill") == "#7a4fc0"]  # noqa: S314 - ours
    assert len(rects) == 2  # where it ran longest, and in the legend of kinds


def test_a_cell_shows_what_took_most_of_it_and_one_that_the_stage_ran() -> None:
    (bar,) = [line for line in text_of(chunky()).splitlines() if line.startswith("✓ read")]
    assert bar.count("█") == 1
    assert bar.count("≈") > bar.count("?") > 10


# --- lengths of time ------------------------------------------------------------------------------------------------


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
