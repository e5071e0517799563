"""A timeline for the terminal: a bar per stage, and how long it worked and waited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stageflow.cli.pictures.lettering import columns, duration, padded, shorten
from stageflow.cli.pictures.palette import hue_of
from stageflow.cli.pictures.timeline import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stageflow.cli.pictures.timeline import Row, Timeline

__all__ = ["Piece", "timeline_lines"]

_LONGEST: Final = 28
_LEAST_BAR: Final = 12
_MOST_BAR: Final = 72
_UNICODE: Final = {Part.WORK: "█", Part.DEPENDENCIES: "·", Part.QUEUE: "░", Part.BACKOFF: "~"}
_ASCII: Final = {Part.WORK: "#", Part.DEPENDENCIES: ".", Part.QUEUE: ":", Part.BACKOFF: "~"}
_LEGEND: Final = {
    Part.WORK: "work",
    Part.DEPENDENCIES: "waits for dependencies",
    Part.QUEUE: "waits to be started",
    Part.BACKOFF: "waits for another attempt",
}
_MARKS: Final = {"ok": ("✓", "+"), "fail": ("✗", "x"), "cancel": ("■", "!"), "skip": ("-", "-")}
_STYLES: Final = {"ok": "green", "fail": "bold red", "cancel": "yellow", "skip": "dim"}


class Piece(NamedTuple):
    """Some text, and how it looks: a style of the library ``rich``."""

    text: str
    style: str = ""


def timeline_lines(timeline: Timeline, *, width: int = 100, unicode: bool = True) -> list[list[Piece]]:
    """Return the lines of the picture, each as pieces; joined, their texts are the picture without colours.

    Args:
        timeline: The timeline.
        width: How many columns there are.
        unicode: Whether it may be drawn with characters beyond ASCII.
    """
    symbols = _UNICODE if unicode else _ASCII
    names = [shorten(row.stage, _LONGEST) if unicode else row.stage[:_LONGEST] for row in timeline.rows]
    name_width = max(map(columns, names), default=0)
    times = [_times(row) for row in timeline.rows]
    work_width = max((len(work) for work, _ in times), default=0)
    wait_width = max((len(wait) for _, wait in times), default=0)
    room = width - 2 - name_width - 2 - work_width - 2 - wait_width - 2
    bar = max(_LEAST_BAR, min(_MOST_BAR, room))
    drawn: set[str] = set()
    lines = [[Piece(f"{timeline.pipeline}: {timeline.status} in {duration(timeline.total)}", "bold")]]
    for row, name, (work, wait) in zip(timeline.rows, names, times, strict=True):
        mark, plain = _MARKS.get(row.status, ("?", "?"))
        line = [
            Piece(f"{mark if unicode else plain} ", _STYLES.get(row.status, "")),
            Piece(f"{padded(name, name_width)}  "),
        ]
        note = _note(row)
        if row.was_started:
            pieces = _bar(row, timeline.total, bar, symbols)
            drawn.update(*(piece.text for piece in pieces))
            line += pieces
            line += [Piece(f"  {work:>{work_width}}"), Piece(f"  {wait:>{wait_width}}", "dim")]
        else:
            line.append(Piece(shorten(note, width - name_width - 4), "dim"))
        lines.append(_trimmed(line))
        if note and row.was_started:
            indent = " " * (2 + name_width + 2)
            lines.append([Piece(indent + shorten(note, width - len(indent)), "dim")])
    legend = "   ".join(f"{symbols[part]} {said}" for part, said in _LEGEND.items() if symbols[part] in drawn)
    return [*lines, [Piece(f"  {legend}", "dim")]] if legend else lines


def _times(row: Row) -> tuple[str, str]:
    """Return how long a stage worked and waited, in words."""
    if not row.was_started:
        return "", ""
    waited = row.total(Part.DEPENDENCIES, Part.QUEUE, Part.BACKOFF)
    return duration(row.total(Part.WORK)), f"waited {duration(waited)}" if waited else ""


def _bar(row: Row, total: int, width: int, symbols: Mapping[Part, str]) -> list[Piece]:
    """Draw the spans of a row; whatever worked shows at least one mark."""
    total = max(total, 1)
    cells = [" "] * width
    for span in row.spans:
        first = min(span.start * width // total, width - 1)
        last = min(-(-span.end * width // total), width)
        for index in range(first, last):
            # Spans meet inside a cell; there work shows, and otherwise the later one.
            if span.part is Part.WORK or cells[index] != symbols[Part.WORK]:
                cells[index] = symbols[span.part]
    colour = hue_of(row.kind).terminal
    return _grouped(cells, {symbols[Part.WORK]: colour})


def _grouped(cells: Sequence[str], styles: Mapping[str, str]) -> list[Piece]:
    pieces: list[Piece] = []
    for cell in cells:
        style = styles.get(cell, "dim")
        if pieces and pieces[-1].style == style:
            pieces[-1] = Piece(pieces[-1].text + cell, style)
        else:
            pieces.append(Piece(cell, style))
    return pieces


def _note(row: Row) -> str:
    """Return what else there is to say of a stage."""
    notes: list[str] = []
    if not row.was_started:
        notes.append("skipped" if row.status == "skip" else row.status)
    if row.attempts > 1:
        notes.append(f"{row.attempts} attempts")
    if row.reason:
        notes.append(row.spoken_reason)
    return ": ".join(notes) if not row.was_started else "; ".join(notes)


def _trimmed(line: list[Piece]) -> list[Piece]:
    """Drop the spaces at the end of a line."""
    while line and not line[-1].text.strip():
        line.pop()
    if line:
        line[-1] = Piece(line[-1].text.rstrip(), line[-1].style)
    return line
