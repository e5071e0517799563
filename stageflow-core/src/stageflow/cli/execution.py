"""Running a pipeline in a process of its own: with an event loop, progress, and signals that cancel the run."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from stageflow.cli.failure import user_line
from stageflow.cli.interruption import Interruption
from stageflow.cli.pictures.chart import Chart
from stageflow.cli.pictures.lettering import duration
from stageflow.cli.pictures.parts import worked_ns
from stageflow.cli.recorder import Recorder
from stageflow.cli.terminal import lively
from stageflow.errors import ConfigurationError
from stageflow.events.sink import FanOutEventSink, get_event_sink
from stageflow.pipeline.builder import Pipeline
from stageflow.runtime.cancellation import CancellationToken

if TYPE_CHECKING:
    from stageflow.app import Stageflow
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
        chart: How its time was spent.
        signal: The signal that ended it, or None.
    """

    results: PipelineResults
    chart: Chart
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
    recorder = Recorder(found.specs, pipeline.name) if show_progress and lively(sys.stderr) else None
    progress = None if recorder is None else _progress(recorder)
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
        more: dict[str, Any] = {"cancel_token": token}
        if recorder is not None:  # the module that defines the pipeline may have set a sink of its own
            more["sink"] = FanOutEventSink(get_event_sink(), recorder)
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
    return Outcome(results, Chart.of_results(found.specs, results), signal)


def _progress(recorder: Recorder) -> Progress:
    from stageflow.cli.progress import Progress  # the library rich, which only a terminal needs

    return Progress(recorder)


def interruption_report(outcome: Outcome) -> str:
    """Say what an interrupted run had done and what not."""
    stages = outcome.chart.stages
    cancelled = [
        f"{stage.name!r} (after {duration(worked_ns(stage))})" for stage in stages if stage.status == "cancel"
    ]
    pending = [
        repr(stage.name) for stage in stages if stage.name not in outcome.results and not stage.attempts
    ]
    settled = [f"{name!r} ({output.status.value})" for name, output in outcome.results.items()]
    return (
        f"Interrupted by {outcome.signal}. Cancelled: {_listed(cancelled)}. "
        f"Never started: {_listed(pending)}. Had settled: {_listed(settled)}. Nothing is left running."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
