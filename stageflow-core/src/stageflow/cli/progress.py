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
from stageflow.cli.pictures.parts import worked_ns
from stageflow.cli.terminal import speaks_unicode

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from stageflow.cli.pictures.chart import Chart
    from stageflow.cli.recorder import Recorder
    from stageflow.runtime.timeline import StageTimeline

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
        chart = self._recorder.chart(monotonic_ns())
        table = Table.grid(padding=(0, 1))
        for stage in _visible(chart, max(self._console.height - _FRAME_LINES, 1)):
            table.add_row(self._mark(stage), Text(shorten(stage.name, _LONGEST)), _said(stage))
        outer = Table.grid()
        outer.add_row(_heading(chart))
        outer.add_row(table)
        if self.notice:
            outer.add_row(Text(self.notice, "yellow"))
        return outer

    def _mark(self, stage: StageTimeline) -> RenderableType:
        if stage.status == "running":
            name = "dots" if self._unicode else "line"
            # One spinner per stage: it turns by the time since it was first drawn.
            return self._spinners.setdefault(stage.name, Spinner(name, style=hue_of(stage.kind).terminal))
        mark, plain, style = _MARKS[stage.status]
        return Text(mark if self._unicode else plain, style)


def _said(stage: StageTimeline) -> Text:
    if stage.status == "waiting":
        return Text(stage.kind, "dim")
    if not stage.attempts:
        return Text("skipped", "dim")
    said = duration(worked_ns(stage))
    if stage.attempts > 1:
        said += f", attempt {stage.attempts}"
    return Text(said, "" if stage.status == "running" else "dim")


def _visible(chart: Chart, most: int) -> list[StageTimeline]:
    """Choose the stages that fit: all, or those that run and then those that ended last; in order of declaration."""
    stages = chart.stages
    if len(stages) <= most:
        return stages
    running = [stage for stage in stages if stage.status == "running"]
    ended = sorted(
        (stage for stage in stages if stage.status not in ("running", "waiting")),
        key=lambda stage: -stage.ended_ns,
    )
    chosen = {stage.name for stage in [*running, *ended, *stages][:most]}
    return [stage for stage in stages if stage.name in chosen]


def _heading(chart: Chart) -> Text:
    done = sum(stage.status not in ("running", "waiting") for stage in chart.stages)
    text = Text(chart.pipeline, "bold")
    text.append(f"  {done}/{len(chart.stages)} stages  {duration(chart.timeline.total_ns)}", "dim")
    return text
