"""What can be known to be wrong with pipelines without running them, as a report.

```python
from stageflow import Pipeline, StageKind
from stageflow.cli.linting import lint_pipeline


async def greet(ctx): ...


result = lint_pipeline(Pipeline().with_stage("greet", greet, StageKind.TRANSFORM, dependencies=["ask"]))
print(result.valid, result.errors[0].message)
#> False Stage 'greet' depends on 'ask', which is not in the pipeline
```
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, final

from stageflow.cli.target import all_pipelines
from stageflow.errors import BuildProblem, ConfigurationError, PipelineValidationError, StageflowError
from stageflow.pipeline.builder import Pipeline
from stageflow.runtime.validation import find_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stageflow.cli.target import Runnable
    from stageflow.stages.spec import StageSpec

    Build: TypeAlias = Callable[[Pipeline], object]

__all__ = [
    "DependencyIssue",
    "DependencyLintResult",
    "IssueSeverity",
    "analyze_stage_source",
    "error_issue",
    "lint_pipeline",
    "lint_pipeline_file",
    "lint_target",
]

_MODULE: Final = "<module>"
_ISOLATED: Final = "SF-LINT-ISOLATED"
_NO_PIPELINE: Final = "SF-LINT-NO-PIPELINE"
_READS: Final = frozenset({"get_from", "require_from", "get_output", "has_output"})


@final
class IssueSeverity(Enum):
    """How much an issue matters."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@final
@dataclass(frozen=True, slots=True)
class DependencyIssue:
    """One thing that is wrong.

    Attributes:
        stage_name: The stage to look at, behind the name of its pipeline where that is known.
        message: What is wrong.
        severity: How much it matters.
        accessed_stage: The other stage that has to do with it.
        suggestion: What to do.
        line_number: The line in the file, where it is known.
        code: The stable code.
        where: The file and line, where they are known.
    """

    stage_name: str
    message: str
    severity: IssueSeverity
    accessed_stage: str | None = None
    suggestion: str | None = None
    line_number: int | None = None
    code: str = ""
    where: str = ""

    def __str__(self) -> str:
        code = f" [{self.code}]" if self.code else ""
        lines = [f"[{self.severity.value.upper()}]{code} {self.stage_name}: {self.message}"]
        if self.where:
            lines.append(f"  Where: {self.where}")
        if self.suggestion:
            lines.append(f"  What to do: {self.suggestion}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | int | None]:
        """Return the issue as plain data."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "stage_name": self.stage_name,
            "message": self.message,
            "accessed_stage": self.accessed_stage,
            "suggestion": self.suggestion,
            "line_number": self.line_number,
            "where": self.where,
        }


@final
@dataclass(slots=True)
class DependencyLintResult:
    """What was found.

    Attributes:
        valid: Whether there is no error; warnings are fine.
        issues: Everything that was found.
        stage_count: How many stages were looked at.
        dependency_count: How many dependencies they declare.
    """

    valid: bool
    issues: list[DependencyIssue] = field(default_factory=list[DependencyIssue])
    stage_count: int = 0
    dependency_count: int = 0

    @property
    def errors(self) -> list[DependencyIssue]:
        """The issues that keep the pipeline from running."""
        return [issue for issue in self.issues if issue.severity is IssueSeverity.ERROR]

    @property
    def warnings(self) -> list[DependencyIssue]:
        """The issues that are probably mistakes."""
        return [issue for issue in self.issues if issue.severity is IssueSeverity.WARNING]

    def __str__(self) -> str:
        head = "Pipeline dependencies are valid" if self.valid else f"Found {len(self.errors)} error(s)"
        counts = f"  Stages: {self.stage_count}\n  Dependencies: {self.dependency_count}"
        return "\n".join([head, counts, *(str(issue) for issue in self.issues)])


def lint_pipeline(pipeline: Runnable, *, build: Build | None = None) -> DependencyLintResult:
    """Check one pipeline.

    Args:
        pipeline: The pipeline; a graph is sound, or it would not be there.
        build: Builds a pipeline, to find also what only that can tell, such as stages of plugins that are missing.
    """
    specs = pipeline.specs if isinstance(pipeline, Pipeline) else pipeline.stage_specs
    problems: Iterable[BuildProblem] = find_problems(specs)
    if build is not None and isinstance(pipeline, Pipeline):
        problems = _build_problems(pipeline, build)
    issues = [_issue(problem) for problem in problems]
    issues += [_isolated(name) for name in _isolated_stages(specs)]
    return _result(issues, specs)


def lint_pipeline_file(file_path: str | Path) -> DependencyLintResult:
    """Check every pipeline that a file defines.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: The file is no Python, or raises.
    """
    if not Path(file_path).is_file():
        msg = f"Pipeline file not found: {file_path}"
        raise FileNotFoundError(msg)
    try:
        return lint_target(str(file_path))
    except ConfigurationError as error:
        msg = f"Error executing module {file_path}: {error.what}"
        raise ImportError(msg) from error


def lint_target(target: str, *, build: Build | None = None) -> DependencyLintResult:
    """Check every pipeline that *target* means; the stages in issues are named ``pipeline.stage``.

    Args:
        target: As on the command line: ``x.py``, ``x.py:name``, ``package.module`` or ``package.module:name``.
        build: See ``lint_pipeline``.

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
        result = lint_pipeline(one.pipeline, build=build)
        total.valid &= result.valid
        total.issues += [
            replace(issue, stage_name=f"{one.name}.{issue.stage_name}") for issue in result.issues
        ]
        total.stage_count += result.stage_count
        total.dependency_count += result.dependency_count
    return total


def analyze_stage_source(source: str) -> list[tuple[str, int]]:
    """Return the stages that some source code reads by name, each with the line; nothing if it does not parse."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _READS:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.append((first.value, node.lineno))
    return found


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


def _issue(problem: BuildProblem) -> DependencyIssue:
    return DependencyIssue(
        problem.stages[0] if problem.stages else _MODULE,
        problem.message,
        IssueSeverity.ERROR,
        accessed_stage=problem.stages[1] if len(problem.stages) > 1 else None,
        suggestion=problem.fix,
        code=problem.code,
    )


def _isolated_stages(specs: Sequence[StageSpec]) -> list[str]:
    """Return the stages that have to do with no other, if there are others."""
    if len(specs) < 2:  # noqa: PLR2004 - a lone stage has nobody to depend on
        return []
    needed = {name for spec in specs for name in spec.dependencies}
    return [spec.name for spec in specs if not spec.dependencies and spec.name not in needed]


def _isolated(name: str) -> DependencyIssue:
    return DependencyIssue(
        name,
        f"Stage {name!r} depends on no stage, and none depends on it",
        IssueSeverity.WARNING,
        suggestion="Declare the dependency that is missing, or run the stage in a pipeline of its own",
        code=_ISOLATED,
    )


def _result(issues: list[DependencyIssue], specs: Sequence[StageSpec]) -> DependencyLintResult:
    return DependencyLintResult(
        valid=not any(issue.severity is IssueSeverity.ERROR for issue in issues),
        issues=issues,
        stage_count=len(specs),
        dependency_count=len({name for spec in specs for name in spec.dependencies}),
    )
