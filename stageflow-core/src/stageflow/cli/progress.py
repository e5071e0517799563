"""Live progress: a line per stage while a run goes on; it is gone when the run has ended."""

from __future__ import annotations

import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, final

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from stageflow.cli.pictures.lettering import duration, shorten
from stageflow.cli.pictures.palette import hue_of
from stageflow.cli.pictures.timeline import Part
from stageflow.cli.terminal import speaks_unicode

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from stageflow.cli.pictures.timeline import Row, Timeline
    from stageflow.cli.recorder import Recorder

__all__ = ["Progress"]

_LONGEST: Final = 40
_FRAME_LINES: Final = 4
_PER_SECOND: Final = 10
_MARKS: Final = {
    "ok": ("✓", "+", "green"),
    "skip": ("-", "-", "dim"),
    "fail": ("✗", "x", "bold red"),
    "cancel": ("■", "!", "yellow"),
    "waiting": ("·", ".", "dim"),
}


@final
class Progress:
    """While entered, shows on a terminal how far a run has come.

    It draws from a thread of its own, so it goes on moving while a stage blocks the event loop.

    Args:
        recorder: Knows the run's events.

    Attributes:
        notice: One more line below the stages, if there is something to say.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.notice = ""
        self._recorder = recorder
        self._spinners: dict[str, Spinner] = {}
        self._unicode = speaks_unicode(sys.stderr)
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            transient=True,
            refresh_per_second=_PER_SECOND,
            redirect_stdout=sys.stdout.isatty(),
            get_renderable=self._render,
        )

    def __enter__(self) -> Progress:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        timeline = self._recorder.timeline(monotonic_ns())
        table = Table.grid(padding=(0, 1))
        for row in _visible(timeline, max(self._console.height - _FRAME_LINES, 1)):
            table.add_row(self._mark(row), Text(shorten(row.stage, _LONGEST)), self._said(row))
        outer = Table.grid()
        outer.add_row(_heading(timeline))
        outer.add_row(table)
        if self.notice:
            outer.add_row(Text(self.notice, "yellow"))
        return outer

    def _mark(self, row: Row) -> RenderableType:
        if row.status == "running":
            name = "dots" if self._unicode else "line"
            # One spinner per stage: it turns by the time since it was first drawn.
            return self._spinners.setdefault(row.stage, Spinner(name, style=hue_of(row.kind).terminal))
        mark, plain, style = _MARKS[row.status]
        return Text(mark if self._unicode else plain, style)

    def _said(self, row: Row) -> Text:
        if row.status == "waiting":
            return Text(row.kind, "dim")
        if not row.was_started:
            return Text("skipped", "dim")
        said = duration(row.total(Part.WORK))
        if row.attempts > 1:
            said += f", attempt {row.attempts}"
        return Text(said, "" if row.status == "running" else "dim")


def _visible(timeline: Timeline, most: int) -> list[Row]:
    """Choose the rows that fit: all of them, or what runs and then what ended last, in the order of declaration."""
    rows = timeline.rows
    if len(rows) <= most:
        return rows
    running = [row for row in rows if row.status == "running"]
    ended = sorted(
        (row for row in rows if row.status not in ("running", "waiting")), key=lambda row: -row.end
    )
    chosen = {row.stage for row in [*running, *ended, *rows][:most]}
    return [row for row in rows if row.stage in chosen]


def _heading(timeline: Timeline) -> Text:
    done = sum(row.status not in ("running", "waiting") for row in timeline.rows)
    text = Text(timeline.pipeline, "bold")
    text.append(f"  {done}/{len(timeline.rows)} stages  {duration(timeline.total)}", "dim")
    return text
