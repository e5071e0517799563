"""``stageflow doctor``: check the installation and say what to repair."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from stageflow.cli import options
from stageflow.cli.diagnosis import diagnose
from stageflow.cli.finding import Finding
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put
from stageflow.cli.program import FAILED, OK, unloaded_host
from stageflow.cli.terminal import coloured
from stageflow.config.problems import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.cli.diagnosis import Diagnosis
    from stageflow.cli.session import Session
    from stageflow.plugins.trial import Trial

__all__ = ["command"]

_LIMIT: Final = 10.0


@click.command("doctor")
@click.option(
    "--import-timeout",
    type=float,
    default=_LIMIT,
    show_default=True,
    metavar="SECONDS",
    callback=options.seconds,
    help="How long the import of a plugin may take.",
)
@options.as_json
@options.verbose
@click.pass_obj
def command(session: Session, import_timeout: float) -> int:
    """Check the installation: versions, plugins, extras, and what plugins themselves check.

    Each plugin is first imported in a process of its own, with a time limit, so that one that hangs or ends the
    process is named. Exits with 1 if something is wrong; a warning alone is not.
    """
    wrong: list[Finding] = []
    try:
        host = unloaded_host(session)
    except SettingsError as error:
        # It is not known which plugins may be imported: none is.
        wrong = [Finding(message=error.what, fix=error.fix)]
        host = session.core_host
    found = diagnose(host, import_timeout=import_timeout, wrong=wrong)
    if session.as_json:
        put(dump(_record(found)))
    else:
        _show(found)
    return FAILED if found.problems else OK


def _record(found: Diagnosis) -> dict[str, Any]:
    core, siblings = found.installed.core, found.installed.siblings
    return {
        "status": "failed" if found.problems else "ok",
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "platform": sys.platform,
        },
        "core": {"name": core.name, "version": core.version},
        "siblings": [{"name": one.name, "version": one.version} for one in siblings],
        "extras": [
            {"name": one.name, "installed": not one.missing, "missing": one.missing}
            for one in found.installed.extras
        ],
        **found.report.to_dict(builtin=True),
        "imports": [_import_record(one) for one in found.trials],
        "checks": [
            {"name": one.name, "summary": one.summary, "problem": one.problem or None} for one in found.checks
        ],
        "problems": [{"message": one.message, "fix": one.fix} for one in found.problems],
        "warnings": [{"message": one.message, "fix": one.fix} for one in found.warnings],
    }


def _import_record(trial: Trial) -> dict[str, Any]:
    return {
        "plugin": trial.candidate.name,
        "distribution": trial.candidate.distribution,
        "ended": trial.fatal is None,
        "seconds": trial.seconds,
        "modules": sum(trial.modules.values()),
        "packages": dict(trial.modules),
        "effects": trial.effects,
        "patches": trial.patches,
    }


def _show(found: Diagnosis) -> None:
    installed = found.installed
    _section("Python", [f"{platform.python_version()} on {platform.platform()}", sys.executable])
    versions = [installed.core, *installed.siblings]
    _section("Versions", _aligned([(one.name, one.version or "unknown") for one in versions]))
    extras = [
        (one.name, f"not installed: pip install 'stageflow-core[{one.name}]'" if one.missing else "installed")
        for one in installed.extras
    ]
    _section("Extras", _aligned(extras))
    cost = {one.candidate: f"{one.seconds * 1000:.0f} ms" for one in found.trials if one.seconds is not None}
    plugins = found.report.plugins
    rows = [(one.candidate.name, one.state.value, cost.get(one.candidate, ""), one.reason) for one in plugins]
    _section("Plugins", _aligned(rows))
    if found.checks:
        _section("Checks", _aligned([(one.name, one.problem or "fine", one.summary) for one in found.checks]))
    _numbered(found.warnings, "warning", "yellow")
    if found.problems:
        _numbered(found.problems, "problem", "red")
    else:
        put(_styled("Nothing is wrong.", "green"))


def _numbered(findings: Sequence[Finding], noun: str, colour: str) -> None:
    if findings:
        count = f"1 {noun}" if len(findings) == 1 else f"{len(findings)} {noun}s"
        put(_styled(f"Found {count}:", colour))
    for number, finding in enumerate(findings, 1):
        put(f"  {number}. {finding}")


def _section(title: str, lines: list[str]) -> None:
    put(_styled(title, ""))
    for line in lines:
        put(f"  {line}")


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _styled(text: str, colour: str) -> str:
    return click.style(text, fg=colour or None, bold=True) if coloured(sys.stdout) else text
