"""``stageflow plugins new``: writes the package of a new plugin."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from stageflow.cli import options
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put
from stageflow.cli.program import FAILED, OK
from stageflow.cli.scaffold.kinds import KINDS
from stageflow.cli.scaffold.naming import PluginName
from stageflow.cli.terminal import speaks_unicode
from stageflow.errors import close_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stageflow.cli.scaffold.kinds import Kind
    from stageflow.cli.scaffold.rendering import NewPlugin
    from stageflow.cli.session import Session

__all__ = ["new"]

T = TypeVar("T")

_ALL: Final = "all"
_DEFAULT: Final = "stage"
_LONGEST: Final = 200
_ASCII: Final = str.maketrans({"├": "|", "└": "`", "─": "-", "│": "|"})
_NEXT: Final = """
Next, with uv:

  cd {folder}
  uv pip install -e . --group dev
  pytest -q
  stageflow plugins check {distribution}

or with pip (25.1 or newer) in place of 'uv pip'. README.md says the rest."""


def _kind_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each kind, in the order of ``KINDS``."""
    for kind in reversed(KINDS.values()):
        option = click.option(
            f"--{kind.name}", _parameter(kind), is_flag=True, help=f"Write {kind.phrase} that {kind.does}."
        )
        function = option(function)
    return function


def _parameter(kind: Kind) -> str:
    return f"with_{kind.name.replace('-', '_')}"


def _line(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return None if value is None else _checked_line(value)


def _checked_line(text: str) -> str:
    """Refuse what is no line of text: it goes into TOML, Markdown and the licence."""
    line = text.strip()
    if not line or not line.isprintable() or len(line) > _LONGEST:
        msg = f"{text!r} is no line of text of at most {_LONGEST} characters."
        raise click.BadParameter(msg)
    return line


@click.command("new", epilog="Without an option that says what it contributes, it asks.")
@click.argument("name")
@_kind_options
@click.option("--all", "everything", is_flag=True, help="Write all of these.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Make the plugin's folder in DIR instead of here.",
)
@click.option("--author", metavar="TEXT", callback=_line, help="Who holds the copyright.")
@click.option("--description", metavar="TEXT", callback=_line, help="What the plugin is for, in a line.")
@click.option("--no-input", is_flag=True, help=f"Ask nothing; write a {_DEFAULT} if nothing else is said.")
@options.as_json
@options.verbose
@click.pass_obj
def new(
    session: Session,
    /,
    name: str,
    directory: Path,
    author: str | None,
    description: str | None,
    *,
    everything: bool,
    no_input: bool,
    **chosen: bool,
) -> int:
    """Write the package of a new plugin into a folder of its own.

    NAME is one word, as demo: the distribution is then called stageflow-demo, the package stageflow_demo, and what it
    contributes demo.something. Nothing is ever overwritten.
    """
    from stageflow.cli.scaffold.writing import check_free

    names = PluginName.parse(name)
    folder = directory / names.distribution
    check_free(folder)
    kinds = [kind for kind in KINDS.values() if everything or chosen[_parameter(kind)]]
    asks = not kinds and not no_input
    if asks:
        kinds = _asked_kinds()
    plugin = _plugin(names, kinds or [KINDS[_DEFAULT]], author, description, asks=asks)
    if asks and not _agreed(plugin, folder):
        return FAILED
    return _write(session, plugin, folder)


def _plugin(
    names: PluginName, kinds: Iterable[Kind], author: str | None, description: str | None, *, asks: bool
) -> NewPlugin:
    from datetime import UTC, datetime

    from stageflow.cli.scaffold.rendering import NewPlugin
    from stageflow.plugins.discovery import core_version

    if description is None:
        description = f"The Stageflow plugin {names.plugin}."
        description = _asked_line("What is it for, in a line?", description) if asks else description
    if author is None:
        author = f"The {names.distribution} authors"
        author = _asked_line("Who holds the copyright?", author) if asks else author
    return NewPlugin(
        name=names,
        kinds=tuple(kinds),
        description=description,
        author=author,
        year=datetime.now(UTC).year,
        core_version=core_version(),
    )


# --- questions --------------------------------------------------------------------------------------


def _asked_kinds() -> list[Kind]:
    """Ask what the plugin shall contribute."""
    for kind in KINDS.values():
        click.echo(f"  {kind.name:11}  {kind.phrase} that {kind.does}", err=True)
    question = f"What shall it contribute? Several with commas, or {_ALL!r}"
    return _asked(question, default=_DEFAULT, value_proc=_kinds_of)


def _kinds_of(text: str) -> list[Kind]:
    words = [word.strip().lower().replace(" ", "-") for word in text.split(",") if word.strip()]
    for word in words:
        if word not in (*KINDS, _ALL):
            hint = close_matches(word, [*KINDS, _ALL]) or f"There are {', '.join(KINDS)} and {_ALL}."
            msg = f"{word!r} is none of these. {hint}"
            raise click.UsageError(msg)
    if not words:
        msg = "Name at least one."
        raise click.UsageError(msg)
    return [kind for name, kind in KINDS.items() if name in words or _ALL in words]


def _asked_line(question: str, default: str) -> str:
    return _asked(question, default=default, value_proc=_checked_line)


def _asked(question: str, *, default: str, value_proc: Callable[[str], T]) -> T:
    """Ask a question on standard error, where whoever redirects the answer still sees it."""
    try:
        answer: T = click.prompt(question, default=default, value_proc=value_proc, err=True)
    except click.Abort as exc:
        if isinstance(exc.__context__, EOFError):
            msg = "There is nobody to ask: say what it contributes, as --stage, or --no-input."
            raise click.UsageError(msg) from exc
        raise
    return answer


def _agreed(plugin: NewPlugin, folder: Path) -> bool:
    """Say what is going to be made, and ask whether that is right."""
    *most, last = (kind.phrase for kind in plugin.kinds)
    contributed = f"{', '.join(most)} and {last}" if most else last
    click.echo(f"This makes {folder}: the plugin {plugin.name.plugin!r} with {contributed}.", err=True)
    agreed = _asked("Make it?", default="yes", value_proc=_yes)
    if not agreed:
        click.echo("Nothing was made.", err=True)
    return agreed


def _yes(text: str) -> bool:
    return bool(click.BOOL.convert(text, None, None))


# --- the answer -------------------------------------------------------------------------------------


def _write(session: Session, plugin: NewPlugin, folder: Path) -> int:
    from stageflow.cli.scaffold.rendering import render
    from stageflow.cli.scaffold.writing import tree_of, write_tree

    texts = render(plugin)
    write_tree(folder, texts)
    names = plugin.name
    if session.as_json:
        record = {
            "plugin": names.plugin,
            "distribution": names.distribution,
            "package": names.package,
            "directory": str(folder),
            "contributes": [kind.name for kind in plugin.kinds],
            "files": list(texts),
        }
        put(dump(record))
        return OK
    tree = tree_of(str(folder), texts)
    put(tree if speaks_unicode(sys.stdout) else tree.translate(_ASCII))
    put(_NEXT.format(folder=shlex.quote(str(folder)), distribution=names.distribution))
    return OK
