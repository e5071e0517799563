"""``stageflow graph``: draw a pipeline."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from stageflow.cli import options
from stageflow.cli.files import write_whole
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put, reserved_stdout
from stageflow.cli.pictures.dot import dot
from stageflow.cli.pictures.graph_record import graph_record
from stageflow.cli.pictures.graph_svg import graph_svg
from stageflow.cli.pictures.mermaid import mermaid
from stageflow.cli.pictures.tree import stage_tree
from stageflow.cli.program import OK
from stageflow.cli.target import one_pipeline
from stageflow.cli.terminal import speaks_unicode
from stageflow.runtime.validation import validate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stageflow.cli.session import Session
    from stageflow.stages.spec import StageSpec

__all__ = ["command"]

_BY_SUFFIX: Final = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".mermaid": "mermaid"}


@click.command("graph", epilog="TARGET is x.py, x.py:name, package.module or package.module:name.")
@options.target_argument()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "dot", "svg"]),
    help="What to draw; by default what the name of the file says, and otherwise text.",
)
@options.output_file("-o", "--output", help="Write to a file instead of standard output.")
@options.as_json
@options.verbose
@click.pass_obj
def command(session: Session, target: str, form: str | None, output: Path | None) -> int:
    """Draw the pipeline TARGET as a tree of text, Mermaid, DOT or SVG; or print it as JSON."""
    if session.as_json and (form is not None or output is not None):
        msg = "--json prints on standard output; --format and --output are for pictures."
        raise click.UsageError(msg)
    with reserved_stdout():
        found = one_pipeline(target)
    name = found.pipeline.name
    validate(found.specs, pipeline=name)
    if session.as_json:
        put(dump(graph_record(found.specs, title=name)))
        return OK
    if form is None:
        form = _BY_SUFFIX.get(output.suffix.lower(), "text") if output is not None else "text"
    picture = _draw(found.specs, name, form, unicode=output is not None or speaks_unicode(sys.stdout))
    if output is None or str(output) == "-":
        put(picture, end="")
    else:
        write_whole(output, picture)
    return OK


def _draw(specs: Sequence[StageSpec], name: str, form: str, *, unicode: bool) -> str:
    if form == "svg":
        return graph_svg(specs, title=name)
    if form == "dot":
        return dot(specs, title=name)
    if form == "mermaid":
        return mermaid(specs, title=name)
    return stage_tree(specs, title=name, unicode=unicode) + "\n"
