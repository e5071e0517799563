"""The lint of whatever the command line names, with the plugins that are there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from stageflow.cli.target import all_pipelines
from stageflow.errors import BuildProblem, PipelineValidationError, StageflowError
from stageflow.pipeline.builder import Pipeline
from stageflow.pipeline.lint import DependencyIssue, DependencyLintResult, IssueSeverity, lint_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Build: TypeAlias = Callable[[Pipeline], object]

__all__ = ["error_issue", "lint_target"]

_MODULE: Final = "<module>"
_NO_PIPELINE: Final = "SF-LINT-NO-PIPELINE"


def lint_target(target: str, *, build: Build | None = None) -> DependencyLintResult:
    """Check every pipeline that *target* means; the stages in issues are named ``pipeline.stage``.

    Args:
        target: As on the command line: ``x.py``, ``x.py:name``, ``package.module`` or ``package.module:name``.
        build: Builds a pipeline, to find also what only that can tell, such as stages of plugins that are missing.

    Raises:
        ConfigurationError: It does not import, or names no pipeline.
    """
    found = all_pipelines(target)
    if not found:
        message = "No Pipeline instances found in file"
        fix = "Define a module-level pipeline, or a function create_pipeline() that returns one"
        issue = DependencyIssue(_MODULE, message, IssueSeverity.WARNING, suggestion=fix, code=_NO_PIPELINE)
        return DependencyLintResult(valid=True, issues=[issue])
    total = DependencyLintResult(valid=True)
    for one in found:
        pipeline = one.pipeline
        problems: Iterable[BuildProblem] | None = None
        if build is not None and isinstance(pipeline, Pipeline):
            problems = _build_problems(pipeline, build)
        result = lint_pipeline(pipeline, problems=problems)
        total.valid &= result.valid
        total.issues += [
            replace(issue, stage_name=f"{one.name}.{issue.stage_name}") for issue in result.issues
        ]
        total.stage_count += result.stage_count
        total.dependency_count += result.dependency_count
    return total


def error_issue(error: StageflowError) -> DependencyIssue:
    """Return an error that kept a module from being looked at, as an issue."""
    return DependencyIssue(
        _MODULE,
        error.what,
        IssueSeverity.ERROR,
        suggestion=error.fix or None,
        code=error.code,
        where=error.where,
    )


def _build_problems(pipeline: Pipeline, build: Build) -> Iterable[BuildProblem]:
    try:
        build(pipeline)
    except PipelineValidationError as error:
        return error.problems
    except StageflowError as error:
        return [BuildProblem(error.code, error.what, fix=error.fix)]
    return ()
