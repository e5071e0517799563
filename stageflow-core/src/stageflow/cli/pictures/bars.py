"""A timeline for the terminal: a bar per stage, how long it worked and waited, and what would have been quicker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stageflow.cli.pictures.lettering import columns, duration, padded, shorten
from stageflow.cli.pictures.palette import hue_of
from stageflow.cli.pictures.parts import LOOKS, gain_said, waited_ns, worked_ns
from stageflow.stages.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.cli.pictures.chart import Chart
    from stageflow.runtime.timeline import StageTimeline

__all__ = ["Piece", "timeline_lines"]

_LONGEST: Final = 28
_LEAST_BAR: Final = 12
_MOST_BAR: Final = 72
_MARKS: Final = {"ok": ("✓", "+"), "fail": ("✗", "x"), "cancel": ("■", "!"), "skip": ("-", "-")}
_STYLES: Final = {"ok": "green", "fail": "bold red", "cancel": "yellow", "skip": "dim"}
_CRITICAL: Final = ("◆", "*")
_CRITICAL_SAID: Final = "on the critical path"


class Piece(NamedTuple):
    """Some text, and how it looks: a style of the library ``rich``."""

    text: str
    style: str = ""


def timeline_lines(chart: Chart, *, width: int = 100, unicode: bool = True) -> list[list[Piece]]:
    """Return the lines of the picture, each as pieces; joined, their texts are the picture without colours.

    Args:
        chart: The run.
        width: How many columns there are.
        unicode: Whether it may be drawn with characters beyond ASCII.
    """
    return _Drawing(chart, width, unicode=unicode).lines()


class _Drawing:
    """Draws one picture."""

    def __init__(self, chart: Chart, width: int, *, unicode: bool) -> None:
        self._chart = chart
        self._width = width
        self._unicode = unicode
        self._critical = chart.critical
        self._mark = _CRITICAL[not unicode]
        self._signs = {part: look.sign if unicode else look.plain for part, look in LOOKS.items()}
        self._drawn: set[Part] = set()

    def lines(self) -> list[list[Piece]]:
        chart, stages = self._chart, self._chart.stages
        total = chart.timeline.total_ns
        names = [self._short(stage.name, _LONGEST) for stage in stages]
        name_width = max(map(columns, names), default=0)
        times = [_times(stage) for stage in stages]
        work_width = max((len(work) for work, _ in times), default=0)
        wait_width = max((len(wait) for _, wait in times), default=0)
        indent = 2 + name_width + 2 + (2 if self._critical else 0)
        room = self._width - indent - 2 - work_width - 2 - wait_width
        bar = max(_LEAST_BAR, min(_MOST_BAR, room))
        lines = [[Piece(f"{chart.pipeline}: {chart.status} in {duration(total)}", "bold")]]
        for stage, name, (work, wait) in zip(stages, names, times, strict=True):
            mark, plain = _MARKS.get(stage.status, ("?", "?"))
            line = [
                Piece(f"{mark if self._unicode else plain} ", _STYLES.get(stage.status, "")),
                Piece(f"{padded(name, name_width)}  "),
            ]
            if self._critical:
                line.append(Piece(f"{self._mark if stage.name in self._critical else ' '} ", "bold"))
            note = self._note(stage)
            if stage.attempts:
                line += self._bar(stage, bar)
                line += [Piece(f"  {work:>{work_width}}"), Piece(f"  {wait:>{wait_width}}", "dim")]
            else:
                line.append(Piece(self._short(note, self._width - indent), "dim"))
            lines.append(_trimmed(line))
            if note and stage.attempts:
                lines.append([Piece(" " * indent + self._short(note, self._width - indent), "dim")])
        return [*lines, *self._legend(), *self._gains()]

    def _short(self, text: str, most: int) -> str:
        return shorten(text, most) if self._unicode else text[:most]

    def _bar(self, stage: StageTimeline, width: int) -> list[Piece]:
        """Draw the spans of a stage: in each cell what took most of it, and at least one cell in which it ran."""
        started_ns, total = self._chart.timeline.started_ns, max(self._chart.timeline.total_ns, 1)
        shares: list[dict[Part, int]] = [{} for _ in range(width)]
        for span in stage.spans:
            # In units of which a cell has `total`, so that all of it is exact.
            start, end = ((at - started_ns) * width for at in (span.started_ns, span.ended_ns))
            for index in range(start // total, min(-(-end // total), width)):
                share = min(end, (index + 1) * total) - max(start, index * total)
                shares[index][span.part] = shares[index].get(span.part, 0) + share
        cells = [max(share, key=share.__getitem__, default=None) for share in shares]
        ran = [share.get(Part.RUN, 0) for share in shares]
        if Part.RUN not in cells and any(ran):
            cells[ran.index(max(ran))] = Part.RUN
        self._drawn.update(part for part in cells if part is not None)
        return self._grouped(cells, hue_of(stage.kind).terminal)

    def _grouped(self, cells: Sequence[Part | None], colour: str) -> list[Piece]:
        pieces: list[Piece] = []
        for part in cells:
            sign = " " if part is None else self._signs[part]
            style = "dim" if part is None else LOOKS[part].style or colour
            if pieces and pieces[-1].style == style:
                pieces[-1] = Piece(pieces[-1].text + sign, style)
            else:
                pieces.append(Piece(sign, style))
        return pieces

    def _note(self, stage: StageTimeline) -> str:
        """Return what else there is to say of a stage."""
        reason = self._chart.spoken_reason(stage)
        if not stage.attempts:
            status = "skipped" if stage.status == "skip" else stage.status
            return f"{status}: {reason}" if reason else status
        attempts = f"{stage.attempts} attempts" if stage.attempts > 1 else ""
        return "; ".join(one for one in (attempts, reason) if one)

    def _legend(self) -> list[list[Piece]]:
        """Return the lines that say what the signs mean, as many as they need."""
        said = [f"{self._signs[part]} {look.said}" for part, look in LOOKS.items() if part in self._drawn]
        if self._critical:
            said.append(f"{self._mark} {_CRITICAL_SAID}")
        lines: list[str] = []
        for one in said:
            if lines and columns(lines[-1]) + 3 + columns(one) <= self._width:
                lines[-1] += f"   {one}"
            else:
                lines.append(f"  {one}")
        return [[Piece(line, "dim")] for line in lines]

    def _gains(self) -> list[list[Piece]]:
        """Return the lines that say how the run would have ended sooner."""
        gains = self._chart.gains
        took = max((len(duration(gain.gain_ns)) for gain in gains), default=0)
        lines: list[list[Piece]] = []
        for index, gain in enumerate(gains):
            lead = "  sooner by " if index == 0 else " " * 12
            said = gain_said(gain, self._short(gain.stage, _LONGEST))
            lines.append(
                [
                    Piece(lead, "dim"),
                    Piece(f"{duration(gain.gain_ns):>{took}}"),
                    Piece(f"  {self._short(said, self._width - 14 - took)}", "dim"),
                ]
            )
        return lines


def _times(stage: StageTimeline) -> tuple[str, str]:
    """Return how long a stage worked and waited, in words."""
    if not stage.attempts:
        return "", ""
    waited = waited_ns(stage)
    return duration(worked_ns(stage)), f"waited {duration(waited)}" if waited else ""


def _trimmed(line: list[Piece]) -> list[Piece]:
    """Drop the spaces at the end of a line."""
    while line and not line[-1].text.strip():
        line.pop()
    if line:
        line[-1] = Piece(line[-1].text.rstrip(), line[-1].style)
    return line
