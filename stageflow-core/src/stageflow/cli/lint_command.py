"""The command ``stageflow lint``: check pipelines without running them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from stageflow.cli import options
from stageflow.cli.failure import show_error
from stageflow.cli.jsonable import dump
from stageflow.cli.linting import error_issue, lint_target
from stageflow.cli.output import put, reserved_stdout
from stageflow.cli.program import FAILED, OK
from stageflow.cli.terminal import coloured
from stageflow.errors import StageflowError
from stageflow.pipeline.lint import DependencyLintResult, IssueSeverity

if TYPE_CHECKING:
    from stageflow.app import Stageflow
    from stageflow.cli.session import Session
    from stageflow.pipeline.lint import DependencyIssue

__all__ = ["command"]

_COLOURS = {IssueSeverity.ERROR: "red", IssueSeverity.WARNING: "yellow", IssueSeverity.INFO: "blue"}


@click.command("lint", epilog="TARGET is x.py, x.py:name, package.module or package.module:name.")
@options.target_argument(many=True)
@click.option("--strict", is_flag=True, help="Let warnings fail, too.")
@options.as_json
@options.verbose
@click.pass_obj
def command(session: Session, targets: tuple[str, ...], *, strict: bool) -> int:
    """Check every pipeline of each TARGET without running it.

    Looks at what a module holds by public names, and at what its functions without arguments return that are called
    create_pipeline, or end with _pipeline, or are annotated to return a pipeline.
    """
    app = session.app()
    results = {target: _lint(target, app, verbose=session.verbose) for target in dict.fromkeys(targets)}
    passed = {
        target: not (result.errors or (strict and result.warnings)) for target, result in results.items()
    }
    if session.as_json:
        put(dump(_record(results, passed)))
    else:
        for target, result in results.items():
            _show(target, result, passed=passed[target])
    return OK if all(passed.values()) else FAILED


def _lint(target: str, app: Stageflow, *, verbose: bool) -> DependencyLintResult:
    try:
        with reserved_stdout():
            return lint_target(target, build=app.build)
    except StageflowError as error:
        if verbose:
            show_error(error, verbose=True)
        return DependencyLintResult(valid=False, issues=[error_issue(error)])


def _record(results: dict[str, DependencyLintResult], passed: dict[str, bool]) -> dict[str, Any]:
    """Return the report as data: the whole as 0.9 had it for one file, and then each target."""
    return {
        "valid": all(passed.values()),
        "stage_count": sum(result.stage_count for result in results.values()),
        "dependency_count": sum(result.dependency_count for result in results.values()),
        "issues": [
            {"target": target, **issue.to_dict()}
            for target, result in results.items()
            for issue in result.issues
        ],
        "targets": [
            {
                "target": target,
                "valid": passed[target],
                "stage_count": result.stage_count,
                "dependency_count": result.dependency_count,
                "issues": [issue.to_dict() for issue in result.issues],
            }
            for target, result in results.items()
        ],
    }


def _show(target: str, result: DependencyLintResult, *, passed: bool) -> None:
    colour = coloured(sys.stdout)
    verdict = "valid" if passed else "not valid"
    counts = f"{_count(result.stage_count, 'stage')}, {_count(result.dependency_count, 'dependency')}"
    found = f"{_count(len(result.errors), 'error')}, {_count(len(result.warnings), 'warning')}"
    head = click.style(verdict, fg="green" if passed else "red", bold=True) if colour else verdict
    put(f"{target}: {head} ({counts}; {found})")
    for issue in result.issues:
        put(_paragraph(issue, colour=colour))


def _paragraph(issue: DependencyIssue, *, colour: bool) -> str:
    label = issue.severity.value.upper()
    head = click.style(label, fg=_COLOURS[issue.severity], bold=True) if colour else label
    parts = [f"  {head} [{issue.code}] {issue.stage_name}: {issue.message}."]
    if issue.where:
        parts.append(f"Where: {issue.where}.")
    if issue.suggestion:
        end = "" if issue.suggestion.endswith((".", "?", ")")) else "."
        parts.append(f"What to do: {issue.suggestion}{end}")
    return " ".join(parts)


def _count(number: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else many}"
