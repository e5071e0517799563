"""A timeline as an SVG picture: a bar per stage over one axis of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stageflow.cli.pictures.lettering import duration, escape, shorten, text_width
from stageflow.cli.pictures.palette import GREY, INK, LINE, hue_of
from stageflow.cli.pictures.svg import document, heading, kind_legend, legend_width, number, text
from stageflow.cli.pictures.timeline import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.cli.pictures.timeline import Row, Timeline

__all__ = ["timeline_svg"]

_ROW: Final = 26.0
_BAR: Final = 14.0
_AXIS: Final = 640.0
_MARGIN: Final = 24.0
_HEADER: Final = 72.0
_FOOTER: Final = 62.0
_LONGEST: Final = 28
_LONGEST_TITLE: Final = 60
_LEAST_BAR: Final = 2.0
_TICKS: Final = 8
_MARKS: Final = {
    "ok": ("✓", "#2f9e6e"),
    "fail": ("✗", "#d64545"),
    "cancel": ("■", "#b7791f"),
    "skip": ("-", GREY),
}
_WAITS: Final = {
    Part.DEPENDENCIES: ("waits for dependencies", f'fill="none" stroke="{LINE}" stroke-dasharray="1.5 3.5"'),
    Part.QUEUE: ("waits to be started", f'fill="none" stroke="{GREY}" stroke-width="2"'),
    Part.BACKOFF: (
        "waits for another attempt",
        'fill="none" stroke="#d9a21b" stroke-width="2" stroke-dasharray="6 3"',
    ),
}


def timeline_svg(timeline: Timeline) -> str:
    """Return the picture."""
    names = [shorten(row.stage, _LONGEST) for row in timeline.rows]
    notes = [_note(row) for row in timeline.rows]
    left = _MARGIN + 20 + max((text_width(name, 12) for name in names), default=0.0) + 14
    right = 10 + max((text_width(note, 11) for note in notes), default=0.0)
    kinds = list(dict.fromkeys(row.kind for row in timeline.rows))
    seen = timeline.total / _AXIS  # what is shorter than a pixel needs no explanation
    waits = [
        part for part in _WAITS if any(row.total(part) > seen for row in timeline.rows if row.was_started)
    ]
    width = max(left + _AXIS + right, _MARGIN + max(legend_width(kinds), _waits_width(waits))) + _MARGIN
    bottom = _HEADER + _ROW * len(timeline.rows)
    name = shorten(timeline.pipeline, _LONGEST_TITLE)
    said = f"{timeline.status} in {duration(timeline.total)}"
    body = [heading(_MARGIN, 28, name, said), *_axis(timeline.total, left, bottom)]
    for index, (row, name, note) in enumerate(zip(timeline.rows, names, notes, strict=True)):
        body += _row(row, name, note, left=left, middle=_HEADER + _ROW * (index + 0.5), total=timeline.total)
    body += kind_legend(_MARGIN, bottom + 32, kinds, solid=True)
    body += _wait_legend(_MARGIN, bottom + 52, waits)
    summary = "; ".join(
        f"{row.stage}: {row.status}, {note}" for row, note in zip(timeline.rows, notes, strict=True)
    )
    title = f"{timeline.pipeline}: {said}"
    return document(width, bottom + _FOOTER + 8, title=title, summary=summary, body=body)


def _axis(total: int, left: float, bottom: float) -> list[str]:
    """Return the axis with round steps, and a thin line down from each."""
    parts: list[str] = []
    for at in _ticks(total):
        x = left + _AXIS * at / max(total, 1)
        line = f'x1="{number(x)}" y1="{number(_HEADER - 8)}" x2="{number(x)}" y2="{number(bottom + 4)}"'
        parts.append(f'<line {line} stroke="#e4e7eb"/>')
        parts.append(text(x, _HEADER - 14, _tick_label(at, total), size=10, fill=GREY, anchor="middle"))
    return parts


def _ticks(total: int) -> list[int]:
    """Return round times, about as many as the axis has room for."""
    if total <= 0:
        return [0]
    step = 1
    while total // step > _TICKS:
        # 1, 2, 5, 10, 20, 50 ...
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    return list(range(0, total + 1, step))


def _tick_label(at: int, total: int) -> str:
    if total < 2_000_000:  # noqa: PLR2004 - below two milliseconds the steps are microseconds
        return f"{at / 1e3:g} µs"
    return f"{at / 1e6:g} ms" if total < 2_000_000_000 else f"{at / 1e9:g} s"  # noqa: PLR2004 - two seconds


def _row(row: Row, name: str, note: str, *, left: float, middle: float, total: int) -> list[str]:
    mark, colour = _MARKS.get(row.status, ("?", GREY))
    hue = hue_of(row.kind)
    faded = INK if row.was_started else GREY
    parts = [
        f"<g><title>{escape(row.stage)} ({row.kind}): {escape(_spoken(row))}</title>",
        text(_MARGIN, middle + 4, mark, fill=colour, weight="600"),
        text(_MARGIN + 20, middle + 4, name, fill=faded),
    ]
    end = left
    for span in row.spans if row.was_started else ():
        start, end = (left + _AXIS * at / max(total, 1) for at in (span.start, span.end))
        if span.part is Part.WORK:
            size = f'x="{number(start)}" y="{number(middle - _BAR / 2)}" width="{number(max(end - start, _LEAST_BAR))}"'
            parts.append(f'<rect {size} height="{number(_BAR)}" rx="3" fill="{hue.solid}"/>')
            end = max(end, start + _LEAST_BAR)
        else:
            line = f'd="M{number(start)} {number(middle)}H{number(end)}"'
            parts.append(f"<path {line} {_WAITS[span.part][1]}/>")
    # Behind the bar; where that would leave the page there is room to the right of the axis.
    parts.append(
        text(end + 8, middle + 4, note, size=11, fill=colour if row.status in ("fail", "cancel") else GREY)
    )
    return [*parts, "</g>"]


def _note(row: Row) -> str:
    if not row.was_started:
        return f"skipped: {shorten(row.spoken_reason, 32)}" if row.reason else "skipped"
    took = duration(row.total(Part.WORK))
    if row.attempts > 1:
        took += f" in {row.attempts} attempts"
    return {"fail": f"failed after {took}", "cancel": f"cancelled after {took}"}.get(row.status, took)


def _spoken(row: Row) -> str:
    parts = [f"{part} {duration(row.total(part))}" for part in Part if row.total(part)]
    return ", ".join([row.status, *parts]) + (f"; {row.reason}" if row.reason else "")


def _waits_width(waits: Sequence[Part]) -> float:
    return sum(text_width(_WAITS[part][0], 11) + 50 for part in waits)


def _wait_legend(x: float, y: float, waits: Sequence[Part]) -> list[str]:
    parts: list[str] = []
    for part in waits:
        label, style = _WAITS[part]
        parts.append(f'<path d="M{number(x)} {number(y - 4)}h22" {style}/>')
        parts.append(text(x + 28, y, label, size=11, fill=GREY))
        x += text_width(label, 11) + 50
    return parts
