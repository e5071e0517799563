"""``stageflow run``: run a pipeline and show its progress, its timeline and its answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stageflow.cli import options
from stageflow.cli.answer import record_of, text_of
from stageflow.cli.execution import conduct, interruption_report
from stageflow.cli.failure import show_error
from stageflow.cli.files import check_writable, write_whole
from stageflow.cli.intake import read_input
from stageflow.cli.interruption import INTERRUPTED
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put, reserved_stdout
from stageflow.cli.pictures.bars import timeline_lines
from stageflow.cli.pictures.timeline_svg import timeline_svg
from stageflow.cli.program import FAILED, OK
from stageflow.cli.target import one_pipeline
from stageflow.cli.terminal import coloured, speaks_unicode, width_of
from stageflow.errors import ConfigurationError

if TYPE_CHECKING:
    from stageflow.cli.execution import Outcome
    from stageflow.cli.pictures.chart import Chart
    from stageflow.cli.session import Session

__all__ = ["command"]

_EPILOG: Final = (
    "TARGET is x.py, x.py:name, package.module or package.module:name; without a name the module holds exactly one "
    "pipeline, or a function create_pipeline() or build_pipeline(). Exit codes: 0 the run ended well (also if it found "
    "nothing); 1 it failed, was cancelled by a stage or passed its limit; 2 the command line is wrong; 130 it was "
    "interrupted. Ctrl-C cancels the run and lets it clean up; a second Ctrl-C ends it at once."
)


@click.command("run", epilog=_EPILOG)
@options.target_argument()
@click.option("--input", "text", metavar="TEXT", help="The text to work on. Without it, what is piped in.")
@click.option(
    "--input-file",
    "file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Read the text from a file in UTF-8; - is standard input.",
)
@click.option(
    "--set",
    "metadata",
    metavar="KEY=VALUE",
    multiple=True,
    callback=options.set_pairs,
    help="Put a text into the run's metadata. May be repeated.",
)
@click.option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    callback=options.seconds,
    help="Cancel the run after this long.",
)
@options.output_file(
    "--timeline", callback=options.not_dash, help="Write the timeline as SVG; also of a run that failed."
)
@click.option("--no-plugins", is_flag=True, help="Load no plugin but the core's own.")
@click.option("-q", "--quiet", is_flag=True, help="Show neither progress nor timeline.")
@options.as_json
@options.verbose
@click.pass_obj
def command(
    session: Session,
    target: str,
    text: str | None,
    file: Path | None,
    metadata: dict[str, str],
    timeout: float | None,
    timeline: Path | None,
    *,
    no_plugins: bool,
    quiet: bool,
) -> int:
    """Run the pipeline TARGET and show its progress, timeline and answer.

    The answer goes to standard output, everything else to standard error.
    """
    if text is not None and file is not None:
        msg = "--input and --input-file exclude each other."
        raise click.UsageError(msg)
    if timeline is not None:
        check_writable(timeline)  # now, and not after a run of an hour
    input_text = read_input(text, file)
    with reserved_stdout():
        found = one_pipeline(target)
        session.no_plugins = session.no_plugins or no_plugins
        app = session.app()
        outcome = conduct(
            app, found, show_progress=not quiet, input_text=input_text, metadata=metadata, timeout=timeout
        )
    if not quiet and not session.as_json:
        _show_timeline(outcome.chart)
    kept = timeline is None or _keep_timeline(timeline, outcome.chart, session)
    code = _show_end(outcome, session)
    if session.as_json:
        put(dump(record_of(found.specs, outcome.results, outcome.chart)))
    elif outcome.results.error is None and (said := text_of(found.specs, outcome.results)):
        put(said)
    return code if kept else code or FAILED


def _show_end(outcome: Outcome, session: Session) -> int:
    """Say on standard error why a run did not end well, and return the exit code."""
    error = outcome.results.error
    if error is None:
        return OK
    if outcome.signal is not None:
        print(interruption_report(outcome), file=sys.stderr)
        return INTERRUPTED
    show_error(error, verbose=session.verbose)
    return FAILED


def _keep_timeline(path: Path, chart: Chart, session: Session) -> bool:
    """Write the timeline, and say whether that went well: the run is worth showing in any case."""
    try:
        write_whole(path, timeline_svg(chart))
    except ConfigurationError as error:
        show_error(error, verbose=session.verbose)
        return False
    return True


def _show_timeline(chart: Chart) -> None:
    from rich.console import Console
    from rich.text import Text

    stream = sys.stderr
    lines = timeline_lines(chart, width=width_of(stream), unicode=speaks_unicode(stream))
    console = Console(file=stream, highlight=False, no_color=not coloured(stream), soft_wrap=True)
    for line in lines:
        console.print(Text.assemble(*line))
    console.print()
