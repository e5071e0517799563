"""Options that several commands have, and what they share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stageflow.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "as_json",
    "config_file",
    "no_plugins",
    "not_dash",
    "output_file",
    "seconds",
    "set_pairs",
    "target_argument",
    "verbose",
]


def _note_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click calls it
    ctx.ensure_object(Session).as_json = value
    return value


def _note_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click calls it
    ctx.ensure_object(Session).verbose = value
    return value


def _note_config(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    ctx.ensure_object(Session).config_file = value
    return value


def _note_no_plugins(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click calls it
    ctx.ensure_object(Session).no_plugins = value
    return value


as_json: Final = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_note_json,
    help="Print JSON and nothing else on standard output.",
)
verbose: Final = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_note_verbose,
    help="Show the traceback of an error.",
)


config_file: Final = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_note_config,
    help="Read this file as the configuration, in place of the nearest stageflow.toml and pyproject.toml.",
)
no_plugins: Final = click.option(
    "--no-plugins",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_note_no_plugins,
    help="Load no plugin but the core's own.",
)


def target_argument(*, many: bool = False) -> Callable[[Any], Any]:
    """Return the argument that names a pipeline, or several."""
    if many:
        return click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
    return click.argument("target", metavar="TARGET")


def output_file(flag: str, *more: str, **details: Any) -> Callable[[Any], Any]:
    """Return an option that takes a path to write to."""
    return click.option(flag, *more, type=click.Path(path_type=Path), metavar="FILE", **details)


def set_pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Take ``key=value`` apart."""
    pairs: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            msg = f"{value!r} does not have the form key=value."
            raise click.BadParameter(msg)
        pairs[key.strip()] = text
    return pairs


def not_dash(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    """Refuse standard output, which is for something else."""
    if str(value) == "-":
        msg = "name a file: standard output is for the answer."
        raise click.BadParameter(msg)
    return value


def seconds(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Refuse what is no length of time."""
    if value is not None and not (value > 0 and math.isfinite(value)):
        msg = f"{value:g} is not a positive number of seconds."
        raise click.BadParameter(msg)
    return value
