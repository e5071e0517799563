"""Running a pipeline in a process of its own: with an event loop, progress, and signals that cancel the run."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from stageflow.cli.failure import user_line
from stageflow.cli.interruption import Interruption
from stageflow.cli.pictures.lettering import duration
from stageflow.cli.pictures.timeline import Part
from stageflow.cli.recorder import Recorder
from stageflow.cli.terminal import lively
from stageflow.errors import ConfigurationError
from stageflow.events.sink import FanOutEventSink, get_event_sink
from stageflow.pipeline.builder import Pipeline
from stageflow.runtime.cancellation import CancellationToken

if TYPE_CHECKING:
    from stageflow.app import Stageflow
    from stageflow.cli.pictures.timeline import Timeline
    from stageflow.cli.progress import Progress
    from stageflow.cli.target import Found
    from stageflow.runtime.results import PipelineResults

__all__ = ["Outcome", "conduct", "interruption_report"]

_NOTICE = "Cancelling the run and cleaning up; once more ends it at once."
_CURSOR = b"\x1b[?25h\n"  # shows the cursor again, which progress hides


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        results: What it left behind, also if it did not end well.
        timeline: How its time was spent.
        signal: The signal that ended it, or None.
    """

    results: PipelineResults
    timeline: Timeline
    signal: str | None


def conduct(app: Stageflow, found: Found, *, show_progress: bool, **request: Any) -> Outcome:
    """Run a pipeline to its end.

    Args:
        app: Runs it.
        found: The pipeline.
        show_progress: Whether to show progress, where that is possible.
        **request: What ``Pipeline.run`` takes.
    """
    pipeline = found.pipeline
    recorder = Recorder(found.specs, pipeline.name)
    progress = _progress(recorder) if show_progress and lively(sys.stderr) else None
    token = CancellationToken()
    loop: asyncio.AbstractEventLoop | None = None

    def on_signal(name: str) -> None:
        notice = f"{name}: {_NOTICE}"
        if progress is not None:
            progress.notice = notice
        else:
            # Not print: this may run in the middle of a write to the same stream, which cannot be entered twice.
            os.write(2, f"{notice}\n".encode())
        if loop is not None:
            # Also wakes a loop that waits for something else.
            loop.call_soon_threadsafe(token.cancel, f"interrupted ({name})")

    def on_second_signal() -> None:
        if progress is not None:
            os.write(2, _CURSOR)

    async def main() -> PipelineResults:
        nonlocal loop
        loop = asyncio.get_running_loop()
        # The module that defines the pipeline may have set a sink of its own.
        more: dict[str, Any] = {"sink": FanOutEventSink(get_event_sink(), recorder), "cancel_token": token}
        if isinstance(pipeline, Pipeline):
            return await app.run(pipeline, **request, **more, raise_errors=False)
        return await pipeline.run(**request, **more, raise_errors=False)

    with Interruption(on_signal, on_second_signal) as interruption, progress or nullcontext():
        try:
            results = asyncio.run(main())
        except SystemExit as exc:
            msg = f"A stage called sys.exit({exc.code!r})"
            fix = "Raise an exception instead, or return StageOutput.cancel(reason): only the program itself exits"
            raise ConfigurationError(msg, where=user_line(exc), fix=fix) from exc
    signal = interruption.name if results.error is not None else None
    return Outcome(results, recorder.timeline(), signal)


def _progress(recorder: Recorder) -> Progress:
    from stageflow.cli.progress import Progress  # the library rich, which only a terminal needs

    return Progress(recorder)


def interruption_report(outcome: Outcome) -> str:
    """Say what an interrupted run had done and what not."""
    rows = outcome.timeline.rows
    cancelled = [
        f"{row.stage!r} (after {duration(row.total(Part.WORK))})" for row in rows if row.status == "cancel"
    ]
    pending = [repr(row.stage) for row in rows if row.stage not in outcome.results and not row.was_started]
    settled = [f"{name!r} ({output.status.value})" for name, output in outcome.results.items()]
    return (
        f"Interrupted by {outcome.signal}. Cancelled: {_listed(cancelled)}. "
        f"Never started: {_listed(pending)}. Had settled: {_listed(settled)}. Nothing is left running."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
