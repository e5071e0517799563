"""``stageflow plugins check``: runs the conformance suites of distributions, and prints what they found."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from stageflow.cli import options
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put
from stageflow.cli.program import FAILED, OK
from stageflow.cli.terminal import coloured, lively

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.cli.session import Session
    from stageflow.testing.conformance.checking import CheckedTest, CheckReport

__all__ = ["check"]


@click.command("check")
@click.argument("distributions", metavar="[DIST]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Check everything that brings plugins, the core too.")
@click.option(
    "--only",
    multiple=True,
    metavar="TEXT",
    help="Run only suites whose contract or contribution contains TEXT; may be given several times.",
)
@click.option(
    "--timeout",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    callback=options.seconds,
    help="How long one test may take.",
)
@options.as_json
@options.verbose
@click.pass_obj
def check(
    session: Session,
    distributions: tuple[str, ...],
    only: tuple[str, ...],
    timeout: float,
    *,
    everything: bool,
) -> int:
    """Run the conformance suites of the distributions DIST.

    DIST brings plugins; a plugin's own name will do, too. Each suite states what a contract promises, a test per
    promise. Exits with 1 if a test fails.
    """
    from stageflow.testing.conformance.checking import check_distribution, require_pytest
    from stageflow.testing.conformance.installed import distributions as installed
    from stageflow.testing.conformance.installed import plugins_of

    if everything == bool(distributions):
        msg = "Name the distributions to check, or say --all."
        raise click.UsageError(msg)
    require_pytest()
    names = installed() if everything else list(dict.fromkeys(plugins_of(name)[0] for name in distributions))
    progress = _Progress(shown=not session.as_json and lively(sys.stderr))
    reports: list[CheckReport] = []
    for name in names:
        progress.about(name)
        reports.append(check_distribution(name, only=only, limit=timeout, on_test=progress.ended))
        progress.clear()
        if not session.as_json:
            put(_shown(reports[-1]))
    passed = all(report.passed for report in reports)
    if session.as_json:
        record = {"status": "ok" if passed else "failed", "distributions": [one.to_dict() for one in reports]}
        put(dump(record))
    elif len(reports) > 1:
        put(_matrix(reports))
    return OK if passed else FAILED


def _shown(report: CheckReport) -> str:
    """Return what the suites of one distribution have found: a line per suite, then what failed."""
    lines = [_styled(f"{report.distribution} {report.version or '(version unknown)'}", "")]
    suites = dict.fromkeys((one.contract, one.contribution) for one in report.tests)
    rows: list[tuple[str, ...]] = [("suite", "contribution", "passed", "failed", "skipped")]
    for contract, contribution in suites:
        counts = (
            report.count(*outcomes, contract=contract, contribution=contribution)
            for outcomes in (("passed",), ("failed", "not run"), ("skipped",))
        )
        rows.append((contract, contribution, *map(str, counts)))
    lines += [f"  {line}" for line in _aligned(rows)]
    for one in report.failures:
        lines.append(_styled(f"  {one.outcome}: {one.contract} {one.contribution}, {one.test}", "red"))
        lines.append(f"    promised: {one.promise}")
        lines += [f"    {line}" for line in one.message.splitlines()]
    if report.error:
        lines.append(_styled("  error:", "red"))
        lines += [f"    {line}" for line in report.error.splitlines()]
    lines.append(_styled(f"  {_verdict(report)}.", "green" if report.passed else "red"))
    return "\n".join(lines)


def _verdict(report: CheckReport) -> str:
    if report.passed:
        return f"{report.count('passed')} tests passed"
    if not report.tests:
        return "No tests were run"
    return f"{len(report.failures)} of {len(report.tests)} tests failed or were not run"


def _matrix(reports: Sequence[CheckReport]) -> str:
    """Return the table of suites and distributions: how many tests passed, or how many of how many failed."""
    contracts = sorted({one.contract for report in reports for one in report.tests})
    rows = [("suite", *(report.distribution for report in reports))]
    rows += [(contract, *(_cell(report, contract) for report in reports)) for contract in contracts]
    return "\n".join(_aligned(rows))


def _cell(report: CheckReport, contract: str) -> str:
    everything = report.count("passed", "failed", "skipped", "not run", contract=contract)
    failed = report.count("failed", "not run", contract=contract)
    if not everything:
        return "-"
    return (
        f"{failed} of {everything} failed"
        if failed
        else f"{report.count('passed', contract=contract)} passed"
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _styled(text: str, colour: str) -> str:
    return click.style(text, fg=colour or None, bold=True) if coloured(sys.stdout) else text


class _Progress:
    """A line on a terminal that says how far it is."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._name = ""
        self._count = 0

    def about(self, name: str) -> None:
        self._name, self._count = name, 0
        self._draw()

    def ended(self, _: CheckedTest) -> None:
        self._count += 1
        self._draw()

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _draw(self) -> None:
        if self._shown:
            click.echo(f"\r\x1b[K{self._name}: {self._count} tests", nl=False, err=True)
