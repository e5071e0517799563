"""A timeline as an SVG picture: a bar per stage over one axis of time, the critical path, and what it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stageflow.cli.pictures.lettering import duration, escape, shorten, text_width
from stageflow.cli.pictures.palette import GREY, INK, PAPER, hue_of
from stageflow.cli.pictures.parts import LOOKS, gain_said, worked_ns
from stageflow.cli.pictures.svg import (
    BOLD,
    document,
    heading,
    kind_legend,
    legend_width,
    moved,
    number,
    sample_rows,
    text,
)
from stageflow.runtime.timeline import Span
from stageflow.stages.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.cli.pictures.chart import Chart
    from stageflow.runtime.timeline import StageTimeline

__all__ = ["timeline_svg"]

_ROW: Final = 28.0
_BAR: Final = 14.0
_AXIS: Final = 640.0
_MARGIN: Final = 24.0
_HEADER: Final = 72.0
_LINE: Final = 20.0
_LONGEST: Final = 28
_LONGEST_TITLE: Final = 60
_LEAST_BAR: Final = 2.0
_TICKS: Final = 8
_LETTERED: Final = 15.0
_BELOW: Final = 4.0  # how far below its bar the critical path runs
_MARKS: Final = {
    "ok": ("✓", "#2f9e6e"),
    "fail": ("✗", "#d64545"),
    "cancel": ("■", "#b7791f"),
    "skip": ("-", GREY),
}
_LINES: Final = {Part.DEPENDENCIES: (1.0, "1.5 3.5"), Part.QUEUE: (2.0, ""), Part.BACKOFF: (2.0, "6 3")}
"""Waits of which nobody asks what they are for: their width, and how they are dashed."""

_LETTERS: Final = {Part.GATE: "G", Part.APPROVAL: "A", Part.STREAM: "S", Part.TRANSPORT: "T"}
# What fills a bar, drawn in a tile of 8 by 8: a fence, dots, waves, stripes.
_TILES: Final = {
    Part.GATE: "M1.5 0V8M5.5 0V8",
    Part.APPROVAL: "M1 2h2M5 6h2",
    Part.STREAM: "M0 3.2C2 -0.6 2 -0.6 4 3.2S6 7 8 3.2",
    Part.TRANSPORT: "M-2 10L10 -2M-6 6L6 -6M2 14L14 2",
}
_SUMMARY_SIZE: Final = 11


def timeline_svg(chart: Chart) -> str:
    """Return the picture.

    Args:
        chart: The run.
    """
    return _Drawing(chart).document()


class _Drawing:
    """Draws one picture."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._stages = chart.stages
        self._names = [shorten(stage.name, _LONGEST) for stage in self._stages]
        self._notes = [self._note(stage) for stage in self._stages]
        names = max((text_width(name, 12) for name in self._names), default=0.0)
        self._left = _MARGIN + 20 + names * BOLD + 14
        self._bottom = _HEADER + _ROW * len(self._stages)
        self._total = chart.timeline.total_ns
        self._critical = chart.critical

    def document(self) -> str:
        chart, left, bottom = self._chart, self._left, self._bottom
        kinds = list(dict.fromkeys(stage.kind for stage in self._stages))
        samples = sample_rows(self._samples(), left + _AXIS)
        gains = self._gains()
        widths = [
            left + _AXIS,
            *(
                self._end(stage) + 10 + text_width(note, 11)
                for stage, note in zip(self._stages, self._notes, strict=True)
            ),
            _MARGIN + legend_width(kinds),
            _MARGIN + max((text_width(line, _SUMMARY_SIZE) for line in gains), default=0.0),
        ]
        said = f"{chart.status} in {duration(self._total)}"
        body = [
            self._tiles(),
            heading(_MARGIN, 28, shorten(chart.pipeline, _LONGEST_TITLE), said),
            *self._axis(),
        ]
        body += self._path()
        for index in range(len(self._stages)):
            body += self._row(index)
        at = bottom + 32
        body += kind_legend(_MARGIN, at, kinds, solid=True)
        for row in samples:
            at += _LINE
            body.append(moved(_MARGIN, at, row))
        for line in gains:
            at += _LINE if line is gains[0] else _LINE - 3
            body.append(text(_MARGIN, at, line, size=_SUMMARY_SIZE, fill=INK))
        pairs = zip(self._stages, self._notes, strict=True)
        summary = "; ".join(f"{stage.name}: {stage.status}, {note}" for stage, note in pairs)
        title = f"{chart.pipeline}: {said}"
        return document(max(widths) + _MARGIN, at + 18, title=title, summary=summary, body=body)

    def _x(self, at_ns: int) -> float:
        return self._left + _AXIS * (at_ns - self._chart.timeline.started_ns) / max(self._total, 1)

    def _y(self, index: int) -> float:
        return _HEADER + _ROW * (index + 0.5)

    def _axis(self) -> list[str]:
        """Return the axis with round steps, and a thin line down from each."""
        parts: list[str] = []
        for at in _ticks(self._total):
            x = self._x(at + self._chart.timeline.started_ns)
            line = f'x1="{number(x)}" y1="{number(_HEADER - 8)}" x2="{number(x)}" y2="{number(self._bottom + 4)}"'
            parts.append(f'<line {line} stroke="#e4e7eb"/>')
            label = _tick_label(at, self._total)
            parts.append(text(x, _HEADER - 14, label, size=10, fill=GREY, anchor="middle"))
        return parts

    def _row(self, index: int) -> list[str]:
        stage, note, middle = self._stages[index], self._notes[index], self._y(index)
        mark, colour = _MARKS.get(stage.status, ("?", GREY))
        faded = INK if stage.attempts else GREY
        weight = "600" if stage.name in self._critical else ""
        parts = [
            f"<g><title>{escape(stage.name)} ({stage.kind}): {escape(self._spoken(stage))}</title>",
            text(_MARGIN, middle + 4, mark, fill=colour, weight="600"),
            text(_MARGIN + 20, middle + 4, self._names[index], fill=faded, weight=weight),
        ]
        if stage.attempts:
            # Lines first: what is at work lies on them.
            spans = _visible(stage.spans, self._total / _AXIS)
            for span in sorted(spans, key=lambda span: span.part not in _LINES):
                start, stop = self._x(span.started_ns), self._x(span.ended_ns)
                drawn = max(stop, start + _LEAST_BAR) if span.part is Part.RUN else stop
                parts.append(_span(span.part, start, drawn, middle, hue_of(stage.kind).solid))
        fill = colour if stage.status in ("fail", "cancel") else GREY
        # Behind the bar; where that would leave the page there is room to the right of the axis.
        return [*parts, text(self._end(stage) + 8, middle + 4, note, size=11, fill=fill, halo=True), "</g>"]

    def _end(self, stage: StageTimeline) -> float:
        """Return where a stage's bar ends."""
        return self._x(stage.ended_ns) + _LEAST_BAR if stage.attempts else self._left

    def _path(self) -> list[str]:
        """Return the critical path: a line below the bars that it goes through, and down or up to the next."""
        if not self._critical:
            return []
        row = {stage.name: index for index, stage in enumerate(self._stages)}
        way, first = "", True
        for step in self._chart.timeline.critical_path:
            y = self._y(row[step.stage]) + _BAR / 2 + _BELOW
            start, stop = self._x(step.spans[0].started_ns), self._x(step.spans[-1].ended_ns)
            way += f"{'M' if first else 'L'}{number(start)} {number(y)}H{number(stop)}"
            first = False
        return [_critical_line(way)]

    def _samples(self) -> list[tuple[str, list[str]]]:
        """Return the legend of what occurs; what is shorter than a pixel needs no explanation."""
        seen = self._total / _AXIS
        samples = [
            (look.said, [_span(part, 0, 26, 0, GREY)])
            for part, look in LOOKS.items()
            if part is not Part.RUN and any(self._length(stage, part) > seen for stage in self._stages)
        ]
        if self._critical:
            samples.append(("critical path", [_critical_line("M0 0H26")]))
        return samples

    def _length(self, stage: StageTimeline, part: Part) -> int:
        return stage.totals.get(part, 0) if stage.attempts else 0

    def _gains(self) -> list[str]:
        return [
            f"{duration(gain.gain_ns)} sooner {gain_said(gain, shorten(gain.stage, _LONGEST))}"
            for gain in self._chart.gains
        ]

    def _note(self, stage: StageTimeline) -> str:
        if not stage.attempts:
            reason = self._chart.spoken_reason(stage)
            return f"skipped: {shorten(reason, 32)}" if reason else "skipped"
        took = duration(worked_ns(stage))
        if stage.attempts > 1:
            took += f" in {stage.attempts} attempts"
        return {"fail": f"failed after {took}", "cancel": f"cancelled after {took}"}.get(stage.status, took)

    def _spoken(self, stage: StageTimeline) -> str:
        reason = self._chart.reasons.get(stage.name, "")
        parts = [f"{part} {duration(ns)}" for part, ns in stage.totals.items()]
        return ", ".join([stage.status, *parts]) + (f"; {reason}" if reason else "")

    def _tiles(self) -> str:
        """Return the patterns that fill bars, each with the colour of its part."""
        tiles = "".join(
            f'<pattern id="{part}" width="8" height="8" patternUnits="userSpaceOnUse">'
            f'<path d="{path}" fill="none" stroke="{PAPER if part is Part.TRANSPORT else LOOKS[part].colour}" '
            f'stroke-width="1.6"/></pattern>'
            for part, path in _TILES.items()
        )
        return f"<defs>{tiles}</defs>"


def _visible(spans: Sequence[Span], pixel_ns: float) -> list[Span]:
    """Return spans that can be seen: of several within a pixel, the one part that took most; and where it ran at all.

    So a stage that reads a million chunks is no million shapes.
    """
    found: list[Span] = []
    crowd: list[Span] = []
    for span in spans:
        crowd.append(span)
        if span.ended_ns - crowd[0].started_ns >= pixel_ns:
            found += crowd if len(crowd) == 1 else _merged(crowd)
            crowd = []
    found += _merged(crowd)
    if not any(span.part is Part.RUN for span in found):
        ran = [span for span in spans if span.part is Part.RUN]
        found += sorted(ran, key=lambda span: span.duration_ns)[-1:]
    return found


def _merged(crowd: Sequence[Span]) -> list[Span]:
    if not crowd:
        return []
    *tiny, last = crowd
    # The last one may be long: then the tiny ones before it stand for themselves.
    if tiny and last.duration_ns > last.started_ns - tiny[0].started_ns:
        return [*_merged(tiny), last]
    shares: dict[Part, int] = {}
    for span in crowd:
        shares[span.part] = shares.get(span.part, 0) + span.duration_ns
    most = max(shares, key=shares.__getitem__)
    return [Span(most, crowd[0].started_ns, last.ended_ns, last.attempt)]


def _span(part: Part, start: float, stop: float, middle: float, solid: str) -> str:
    """Return a stretch of time: work as a bar, waits as a line or as a bar with a pattern and a letter."""
    if part in _LINES:
        width, dashes = _LINES[part]
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        line = f'd="M{number(start)} {number(middle)}H{number(stop)}" fill="none"'
        return f'<path {line} stroke="{LOOKS[part].colour}" stroke-width="{number(width)}"{dashed}/>'
    size = f'x="{number(start)}" y="{number(middle - _BAR / 2)}" width="{number(stop - start)}" height="{number(_BAR)}"'
    if part is Part.RUN:
        return f'<rect {size} rx="3" fill="{solid}"/>'
    colour = LOOKS[part].colour
    under = solid if part is Part.TRANSPORT else PAPER
    edge = solid if part is Part.TRANSPORT else colour
    drawn = f'<rect {size} rx="3" fill="{under}"/><rect {size} rx="3" fill="url(#{part})" stroke="{edge}"/>'
    if stop - start < _LETTERED:
        return drawn
    x = (start + stop) / 2
    # On a plate of its own, so that the pattern does not cross it.
    plate = f'x="{number(x - 5)}" y="{number(middle - 5.5)}" width="10" height="11" rx="2" fill="{PAPER}"'
    return f"{drawn}<rect {plate}/>" + text(
        x, middle + 3.5, _LETTERS[part], size=9, fill=edge, anchor="middle", weight="700"
    )


def _critical_line(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.8" stroke-linejoin="round"/>'


def _ticks(total: int) -> Sequence[int]:
    """Return round times, about as many as the axis has room for."""
    if total <= 0:
        return [0]
    step = 1
    while total // step > _TICKS:
        # 1, 2, 5, 10, 20, 50 ...
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    return range(0, total + 1, step)


def _tick_label(at: int, total: int) -> str:
    if total < 2_000_000:  # noqa: PLR2004 - below two milliseconds the steps are microseconds
        return f"{at / 1e3:g} µs"
    return f"{at / 1e6:g} ms" if total < 2_000_000_000 else f"{at / 1e9:g} s"  # noqa: PLR2004 - two seconds
