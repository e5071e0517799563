"""What can be known to be wrong with pipelines without running them, as a report.

```python
from stageflow import Pipeline, StageKind
from stageflow.pipeline.lint import lint_pipeline


async def greet(ctx): ...


result = lint_pipeline(Pipeline().with_stage("greet", greet, StageKind.TRANSFORM, dependencies=["ask"]))
print(result.valid, result.errors[0].message)
#> False Stage 'greet' depends on 'ask', which is not in the pipeline
```
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, final

from stageflow.context.checks import items_of, wrong_type
from stageflow.errors import BuildProblem, close_matches
from stageflow.pipeline.builder import Pipeline
from stageflow.pipeline.builders import PipelineBuilder
from stageflow.pipeline.conditions import ConditionalDependency
from stageflow.pipeline.source_reads import SourceReads, analyze_stage_source
from stageflow.runtime.compilation import compile_stages, order_problems
from stageflow.runtime.graph import StageGraph
from stageflow.runtime.validation import find_problems
from stageflow.stages.effect import Effect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from stageflow.stages.spec import StageSpec

__all__ = [
    "DependencyIssue",
    "DependencyLintResult",
    "IssueSeverity",
    "analyze_stage_source",
    "lint_pipeline",
    "lint_pipeline_file",
]

_MODULE: Final = "<module>"
_ISOLATED: Final = "SF-LINT-ISOLATED"
_NO_PIPELINE: Final = "SF-LINT-NO-PIPELINE"
_UNGATED: Final = "SF-LINT-UNGATED"
_UNDECLARED: Final = "SF-RUN-UNDECLARED-DEPENDENCY"  # what the run would raise
_MOST_HINTS: Final = 10


@final
class IssueSeverity(StrEnum):
    """How much an issue matters.

    Attributes:
        ERROR: The pipeline does not build, or a stage of it will fail.
        WARNING: Probably a mistake.
        INFO: Good to know.

    ```python
    from stageflow import IssueSeverity, Pipeline, lint_pipeline

    print(lint_pipeline(Pipeline()).issues[0].severity is IssueSeverity.ERROR)
    #> True
    ```
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@final
@dataclass(frozen=True, slots=True)
class DependencyIssue:
    """One thing that is wrong.

    Attributes:
        stage_name: The stage to look at; for a file, behind the name of its pipeline: ``pipeline.stage``.
        message: What is wrong.
        severity: How much it matters.
        accessed_stage: The other stage that has to do with it.
        suggestion: What to do.
        line_number: The line in the file, where it is known.
        code: The stable code, which has a page in ``docs/reference/errors``.
        where: The file and line, where they are known.

    ```python
    from stageflow import DependencyIssue, IssueSeverity

    print(DependencyIssue("greet", "It waits for nobody", IssueSeverity.INFO))
    #> [INFO] greet: It waits for nobody
    ```
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
        dependency_count: How many stages others depend on.

    ```python
    from stageflow import DependencyLintResult, Pipeline, StageKind, lint_pipeline


    async def greet(ctx): ...


    result: DependencyLintResult = lint_pipeline(Pipeline().with_stage("greet", greet, StageKind.TRANSFORM))
    print(result.valid, result.stage_count, result.dependency_count)
    #> True 1 0
    ```
    """

    valid: bool
    issues: list[DependencyIssue] = field(default_factory=list[DependencyIssue])
    stage_count: int = 0
    dependency_count: int = 0

    @property
    def errors(self) -> list[DependencyIssue]:
        """The issues that keep the pipeline, or a stage of it, from running."""
        return [issue for issue in self.issues if issue.severity is IssueSeverity.ERROR]

    @property
    def warnings(self) -> list[DependencyIssue]:
        """The issues that are probably mistakes."""
        return [issue for issue in self.issues if issue.severity is IssueSeverity.WARNING]

    def __str__(self) -> str:
        head = "Pipeline dependencies are valid" if self.valid else f"Found {len(self.errors)} error(s)"
        counts = f"  Stages: {self.stage_count}\n  Dependencies: {self.dependency_count}"
        return "\n".join([head, counts, *(str(issue) for issue in self.issues)])


def lint_pipeline(
    pipeline: Pipeline | StageGraph | PipelineBuilder, *, problems: Iterable[BuildProblem] | None = None
) -> DependencyLintResult:
    """Check one pipeline, in time linear in its stages, its dependencies and its source.

    Errors are all that ``build()`` would report, and dependencies that the source of a stage, or its ``when=``, reads
    without declaring them. Stages that have to do with no other are warnings. Effects that the gates of the pipeline do
    not hold, since they say ``gated=False``, are listed.

    Args:
        pipeline: The pipeline.
        problems: What a build has found already; by default what can be found without plugins.

    Raises:
        ArgumentTypeError: It is no pipeline, or *problems* is no list of ``BuildProblem``.
    """
    specs = _specs(pipeline)
    known = (
        _build_problems(specs)
        if problems is None
        else items_of("lint_pipeline", "problems", problems, BuildProblem)
    )
    issues = [_issue(problem) for problem in known]
    hints = _Hints(specs)
    reads = SourceReads()
    for spec in specs:
        issues += _undeclared(spec, hints, reads)
    needed = {name for spec in specs for name in spec.dependencies}
    gated = any(spec.gates_effects for spec in specs)
    if gated:
        issues += [_ungated(spec) for spec in specs if spec.effect is not Effect.NONE and not spec.gated]
    if len(specs) > 1:  # a lone stage has nobody to depend on
        read = {edge.producer for spec in specs for edge in spec.streams}
        issues += [
            _isolated(spec.name)
            for spec in specs
            if not spec.dependencies
            and not spec.streams
            and spec.name not in needed
            and spec.name not in read
            and not (gated and (spec.gates_effects or spec.effect is not Effect.NONE))
        ]
    return DependencyLintResult(
        valid=not any(issue.severity is IssueSeverity.ERROR for issue in issues),
        issues=issues,
        stage_count=len(specs),
        dependency_count=len(needed),
    )


def lint_pipeline_file(file_path: str | Path) -> DependencyLintResult:
    """Run a Python file and check every pipeline that it holds or makes.

    These are the pipelines that have a public name, and those that its functions return. Functions are called if they
    need no arguments and have a name like ``chat_pipeline``, or one like ``create_chat`` or ``build_chat`` and a
    pipeline as annotated result.

    Raises:
        PipelineFileNotFoundError: There is no such file. Also a ``FileNotFoundError``.
        PipelineFileError: The file is no Python, or raises. Also an ``ImportError``.

    ```python
    from pathlib import Path

    from stageflow.pipeline.lint import lint_pipeline_file

    Path("chat.py").write_text('''
    from stageflow import Pipeline, StageKind

    async def draft(ctx): ...

    async def review(ctx):
        return {"length": len(ctx.inputs.require_from("draft", "text"))}

    chat = (
        Pipeline("chat")
        .with_stage("draft", draft, StageKind.WORK)
        .with_stage("review", review, StageKind.GUARD)
    )
    ''')
    (error,) = lint_pipeline_file("chat.py").errors
    print(error.stage_name, error.line_number)
    #> chat.review 7
    print(error.message)
    #> Stage 'review' reads 'draft', on which it does not depend
    ```
    """
    from stageflow.pipeline.file_pipelines import pipelines_in

    total = DependencyLintResult(valid=True)
    with pipelines_in(file_path) as found:
        for name, pipeline in found.items():
            result = lint_pipeline(pipeline)
            total.valid &= result.valid
            total.issues += [
                replace(issue, stage_name=f"{name}.{issue.stage_name}") for issue in result.issues
            ]
            total.stage_count += result.stage_count
            total.dependency_count += result.dependency_count
    if not found:
        message = "No Pipeline instances found in file"
        fix = "Define a module-level pipeline, or a function create_pipeline() that returns one"
        issue = DependencyIssue(_MODULE, message, IssueSeverity.WARNING, suggestion=fix, code=_NO_PIPELINE)
        total.issues.append(issue)
    return total


def _specs(pipeline: object) -> Sequence[StageSpec]:
    if isinstance(pipeline, PipelineBuilder):
        pipeline = pipeline.pipeline()
    if isinstance(pipeline, Pipeline):
        return pipeline.specs
    if isinstance(pipeline, StageGraph):
        return pipeline.stage_specs
    raise wrong_type("lint_pipeline", "pipeline", "a Pipeline, a PipelineBuilder or a StageGraph", pipeline)


def _issue(problem: BuildProblem) -> DependencyIssue:
    return DependencyIssue(
        problem.stages[0] if problem.stages else _MODULE,
        problem.message,
        IssueSeverity.ERROR,
        accessed_stage=problem.unknown or (problem.stages[1] if len(problem.stages) > 1 else None),
        suggestion=problem.fix,
        code=problem.code,
    )


def _undeclared(spec: StageSpec, hints: _Hints, reads: SourceReads) -> Iterator[DependencyIssue]:
    declared = set(spec.dependencies)
    if isinstance(spec.when, ConditionalDependency):
        for name in spec.when.stages:
            if name not in declared:
                yield _undeclared_issue(spec, name, hints, f"The condition of stage {spec.name!r}")
    for read in reads.of(spec.runner):
        if read.stage not in declared:
            issue = _undeclared_issue(spec, read.stage, hints, f"Stage {spec.name!r}")
            yield replace(issue, line_number=read.line, where=f"{read.file}:{read.line}")


def _undeclared_issue(spec: StageSpec, name: str, hints: _Hints, who: str) -> DependencyIssue:
    return DependencyIssue(
        spec.name,
        f"{who} reads {name!r}, on which it does not depend",
        IssueSeverity.ERROR,
        accessed_stage=name,
        suggestion=hints.to_depend_on(name, spec.name),
        code=_UNDECLARED,
    )


class _Hints:
    """Says what to do about names. Only the first unknown ones are compared with all names, which takes its time."""

    def __init__(self, specs: Sequence[StageSpec]) -> None:
        self._known = {spec.name for spec in specs}
        self._unknown: dict[str, str] = {}

    def to_depend_on(self, name: str, stage: str) -> str:
        if name in self._known:
            return f"Add {name!r} to the dependencies of {stage!r}"
        hint = self._unknown.get(name)
        if hint is None:
            near = close_matches(name, self._known) if len(self._unknown) < _MOST_HINTS else ""
            hint = self._unknown[name] = near or f"Correct the name: the pipeline has no stage {name!r}"
        return hint


def _build_problems(specs: Sequence[StageSpec]) -> list[BuildProblem]:
    """Return all that can be found without plugins."""
    return find_problems(specs) or list(order_problems(compile_stages(specs, ())))


def _ungated(spec: StageSpec) -> DependencyIssue:
    return DependencyIssue(
        spec.name,
        f"The effect of stage {spec.name!r} ({spec.effect}) does not wait for the gates of the pipeline",
        IssueSeverity.INFO,
        suggestion="Nothing, if it may come before them; else drop gated=False",
        code=_UNGATED,
    )


def _isolated(name: str) -> DependencyIssue:
    return DependencyIssue(
        name,
        f"Stage {name!r} depends on no stage, and none depends on it",
        IssueSeverity.WARNING,
        suggestion="Declare the dependency that is missing, or run the stage in a pipeline of its own",
        code=_ISOLATED,
    )
