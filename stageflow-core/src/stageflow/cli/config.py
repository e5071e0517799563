"""``stageflow config``: what is configured, and where each value comes from."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import click

from stageflow.cli import options
from stageflow.cli.failure import show_error
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put, reserved_stdout
from stageflow.cli.program import FAILED, OK
from stageflow.config.origin import shown_path
from stageflow.config.problems import SettingsError
from stageflow.plugins.host import STRICT_VARIABLE
from stageflow.plugins.policy import ALLOW_VARIABLE, DENY_VARIABLE
from stageflow.plugins.sections import Sections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stageflow.cli.session import Session
    from stageflow.config import Setting, SettingsProblem

__all__ = ["command", "show"]

_SWITCHES: Final = {
    ALLOW_VARIABLE: "in place of plugins.enabled",
    DENY_VARIABLE: "besides plugins.disabled",
    STRICT_VARIABLE: "in place of plugins.strict",
}


@click.command("show")
@click.argument("section", required=False, default="")
@options.as_json
@options.verbose
@click.pass_obj
def show(session: Session, section: str) -> int:
    """Show each value of the configuration, or of one SECTION, and where it comes from.

    Secrets are masked. Exits with 1 if something is wrong with the configuration.
    """
    with reserved_stdout():  # what a plugin prints while it is imported is no result
        sections = Sections(session.config, session.host)
        problems = _problems(session, sections)
        settings = tuple(sections.settings(section))
    if section:
        problems = [one for one in problems if not one.path or f"{one.path}.".startswith(f"{section}.")]
        if not settings and not problems:
            sections.read(section)  # raises, and says what there is
    if session.as_json:
        put(dump(_record(session, settings, problems)))
    else:
        for line in _lines(session, settings):
            put(line)
    if problems:
        show_error(SettingsError(problems), verbose=session.verbose)
    return FAILED if problems else OK


@click.group("config", commands=[show])
def command() -> None:
    """Show the configuration, and where each value comes from."""


def _problems(session: Session, sections: Sections) -> list[SettingsProblem]:
    for error in session.errors:
        if isinstance(error, SettingsError):  # the plugins are not known, and so neither are their sections
            return [*error.problems]
    return [*sections.problems()]


def _switches() -> dict[str, str]:
    return {name: os.environ[name] for name in _SWITCHES if name in os.environ}


def _record(
    session: Session, settings: Sequence[Setting], problems: Sequence[SettingsProblem]
) -> dict[str, Any]:
    return {
        "status": "failed" if problems else "ok",
        "files": [str(path) for path in session.config.files],
        "switches": _switches(),
        "settings": [setting.to_dict() for setting in settings],
        "problems": [problem.to_dict() for problem in problems],
    }


def _lines(session: Session, settings: Sequence[Setting]) -> Iterator[str]:
    files = [shown_path(path) for path in session.config.files]
    yield f"Files, the strongest first: {', '.join(files)}" if files else "No configuration file was found."
    for name, text in _switches().items():
        yield f"{name}={text} is set, {_SWITCHES[name]}."
    rows = [(one.path, _shown(one.value), str(one.origin)) for one in settings]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    for path, value, origin in rows:
        yield f"{path.ljust(widths[0])}  {value.ljust(widths[1])}  {origin}"


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
