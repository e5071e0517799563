"""``stageflow doctor``: check the installation and say what to repair."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import click

from stageflow.cli import options
from stageflow.cli.installation import read_installation
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put, reserved_stdout
from stageflow.cli.program import FAILED, OK
from stageflow.cli.terminal import coloured
from stageflow.errors import StageflowError
from stageflow.plugins.discovery import CORE_DISTRIBUTION
from stageflow.plugins.report import PluginState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stageflow.cli.installation import Installation
    from stageflow.cli.session import Session
    from stageflow.plugins.contributions import CheckContribution
    from stageflow.plugins.host import PluginHost
    from stageflow.plugins.registry import Entry
    from stageflow.plugins.report import PluginStatus

__all__ = ["command"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that is wrong, and what to do about it."""

    message: str
    fix: str


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A check that a plugin contributes, and what it said."""

    name: str
    summary: str
    problem: str


@click.command("doctor")
@options.as_json
@options.verbose
@click.pass_obj
def command(session: Session) -> int:
    """Check the installation: versions, plugins, extras, and what plugins themselves check.

    Exits with 1 if something is wrong.
    """
    host = session.host
    report = host.report
    found = read_installation(
        CORE_DISTRIBUTION, {status.candidate.distribution for status in report.external}
    )
    with reserved_stdout():
        checks = [_checked(entry) for entry in host.checks().values()]
    problems = list(_problems(host, found, checks))
    if session.as_json:
        put(dump(_record(host, found, checks, problems)))
    else:
        _show(report.plugins, found, checks, problems)
    return FAILED if problems else OK


def _checked(entry: Entry[CheckContribution]) -> Check:
    """Make one check; a check that breaks has found something too."""
    contribution = entry.contribution
    try:
        said: object = entry.resolve()()
    except StageflowError as error:
        problem = error.what
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever it raises is what it found
        problem = f"the check itself raised {type(exc).__name__}: {exc}"
    else:
        problem = "" if said is None else " ".join(str(said).split())
    return Check(name=contribution.key, summary=contribution.summary, problem=problem)


def _problems(host: PluginHost, found: Installation, checks: list[Check]) -> Iterator[Problem]:
    for status in host.report.plugins:
        if status.state not in (PluginState.LOADED, PluginState.DISABLED):
            yield Problem(
                message=f"{status.candidate.provenance} is {status.state}: {status.reason}", fix=status.fix
            )
    for skew in found.skews:
        yield Problem(message=skew, fix="Install both in one call of pip, so that it finds versions that fit")
    for check in checks:
        if check.problem:
            yield Problem(message=f"Check {check.name!r}: {check.problem}", fix="")


def _record(
    host: PluginHost, found: Installation, checks: list[Check], problems: list[Problem]
) -> dict[str, Any]:
    return {
        "status": "failed" if problems else "ok",
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "platform": sys.platform,
        },
        "core": {"name": found.core.name, "version": found.core.version},
        "siblings": [{"name": one.name, "version": one.version} for one in found.siblings],
        "extras": [
            {"name": one.name, "installed": not one.missing, "missing": one.missing} for one in found.extras
        ],
        **host.report.to_dict(builtin=True),
        "checks": [
            {"name": one.name, "summary": one.summary, "problem": one.problem or None} for one in checks
        ],
        "problems": [{"message": one.message, "fix": one.fix} for one in problems],
    }


def _show(
    plugins: tuple[PluginStatus, ...], found: Installation, checks: list[Check], problems: list[Problem]
) -> None:
    _section("Python", [f"{platform.python_version()} on {platform.platform()}", sys.executable])
    versions = [found.core, *found.siblings]
    _section("Versions", _aligned([(one.name, one.version or "unknown") for one in versions]))
    extras = [
        (one.name, f"not installed: pip install 'stageflow-core[{one.name}]'" if one.missing else "installed")
        for one in found.extras
    ]
    _section("Extras", _aligned(extras))
    _section("Plugins", _aligned([(one.candidate.name, one.state.value, one.reason) for one in plugins]))
    if checks:
        _section("Checks", _aligned([(one.name, one.problem or "fine", one.summary) for one in checks]))
    if not problems:
        put(_styled("Nothing is wrong.", "green"))
        return
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    put(_styled(f"Found {count}:", "red"))
    for number, problem in enumerate(problems, 1):
        fix = f" What to do: {problem.fix}." if problem.fix else ""
        put(f"  {number}. {problem.message}.{fix}")


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
