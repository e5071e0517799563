"""``stageflow plugins list``, ``show`` and ``why``: what is installed, what became of it, where a name comes from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from stageflow.cli import options
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put, reserved_stdout
from stageflow.cli.program import FAILED, OK
from stageflow.cli.silence import reported_once
from stageflow.cli.terminal import coloured
from stageflow.errors import ContributionNotFoundError, close_matches
from stageflow.plugins.report import sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stageflow.cli.session import Session
    from stageflow.plugins.contributions import Contribution
    from stageflow.plugins.host import PluginHost
    from stageflow.plugins.registry import Entry, Registry
    from stageflow.plugins.report import LoadReport, PluginStatus

__all__ = ["list_plugins", "show", "why"]

_COLOURS = {"loaded": "green", "disabled": "yellow"}


@click.command("list")
@options.as_json
@options.verbose
@click.pass_obj
def list_plugins(session: Session) -> int:
    """List the installed plugins with their state, and the reason for it."""
    _, report = _hosted(session)
    if session.as_json:
        put(dump({**report.to_dict(), "notices": report.notices}))
        return OK
    put(_with_colour(report.render(builtin=True)))
    if not report.external:
        put("No other plugins are installed.")
    for notice in report.notices:
        put(f"Note: {notice}")
    return OK


@click.command("show")
@click.argument("name")
@options.as_json
@options.verbose
@click.pass_obj
def show(session: Session, name: str) -> int:
    """Show the plugin NAME and everything that it contributes."""
    host, report = _hosted(session)
    statuses = report.named(name)
    if not statuses:
        known = [status.candidate.name for status in report.plugins]
        fix = close_matches(name, known) or f"Installed are {', '.join(map(repr, known))}"
        msg = f"No plugin is named {name!r}"
        raise ContributionNotFoundError(msg, fix=fix)
    if session.as_json:
        put(dump({"plugins": [_record(status, host) for status in statuses]}))
        return OK
    for status in statuses:
        put(f"{status.candidate.provenance}\n  state: {status.state}\n  module: {status.candidate.module}")
        put(f"  reason: {sentence(status.reason)}")
        if status.fix:
            put(f"  what to do: {sentence(status.fix)}")
        for registry, entry in _contributed(host, status):
            summary = getattr(entry.contribution, "summary", "")
            put(f"  {registry.noun} {entry.contribution.key}{f' - {summary}' if summary else ''}")
    return OK


@click.command("why")
@click.argument("name")
@options.as_json
@options.verbose
@click.pass_obj
def why(session: Session, name: str) -> int:
    """Say where NAME comes from, or why it is not there.

    NAME is a plugin or anything that plugins contribute: a stage, an interceptor, a command and so on.
    """
    host, report = _hosted(session)
    explanation = host.why(name)
    known = bool(report.named(name)) or any(name in registry for registry in host.registries())
    if session.as_json:
        put(dump({"name": name, "found": known, "explanation": explanation}))
    elif known:
        put(explanation)
    else:
        print(explanation, file=sys.stderr)
    return OK if known else FAILED


def _hosted(session: Session) -> tuple[PluginHost, LoadReport]:
    """Return the host after all is asked for; what a plugin prints meanwhile is no result.

    What is wrong with plugins is in the report, so that it is not said on standard error as well.
    """
    with reserved_stdout(), reported_once():
        return session.host, session.host.report


def _contributed(
    host: PluginHost, status: PluginStatus
) -> Iterator[tuple[Registry[Any], Entry[Contribution]]]:
    """Yield what one plugin contributes, each with the registry it is in."""
    for registry in host.registries():
        for entry in registry.values():
            if entry.provenance == status.candidate.provenance:
                yield registry, entry


def _record(status: PluginStatus, host: PluginHost) -> dict[str, Any]:
    contributions = [
        {
            "kind": registry.noun,
            "name": entry.contribution.key,
            "target": str(entry.contribution.source),
            "summary": getattr(entry.contribution, "summary", ""),
        }
        for registry, entry in _contributed(host, status)
    ]
    return {**status.to_dict(), "module": status.candidate.module, "contributions": contributions}


def _with_colour(text: str) -> str:
    """Colour the states in the lines of a report."""
    if not coloured(sys.stdout):
        return text
    lines: list[str] = []
    for line in text.splitlines():
        words = line.split()
        state = next(
            (
                word
                for word in ("loaded", "disabled", "incompatible", "conflicting", "failed")
                if word in words
            ),
            "",
        )
        styled = click.style(state, fg=_COLOURS.get(state, "red"), bold=True)
        lines.append(line.replace(f" {state} ", f" {styled} ", 1) if state and line[:1] != " " else line)
    return "\n".join(lines)
