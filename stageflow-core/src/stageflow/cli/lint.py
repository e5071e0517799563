"""``stageflow lint`` and, as in 0.9, ``python -m stageflow.cli.lint FILE`` and the functions behind it.

The functions need nothing but the core; only the command needs the extra ``cli``, and is imported when it runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stageflow.pipeline.lint import (
    DependencyIssue,
    DependencyLintResult,
    IssueSeverity,
    analyze_stage_source,
    lint_pipeline,
    lint_pipeline_file,
)

if TYPE_CHECKING:
    from stageflow.cli.lint_command import command

__all__ = [
    "DependencyIssue",
    "DependencyLintResult",
    "IssueSeverity",
    "analyze_stage_source",
    "command",
    "lint_pipeline",
    "lint_pipeline_file",
    "main",
]


def main() -> int:
    """Run ``stageflow lint`` with the arguments of the process, and return its exit code."""
    from stageflow.cli.main import main as run_program

    return run_program(["lint", *sys.argv[1:]])


def __getattr__(name: str) -> object:
    if name == "command":
        from stageflow.cli.lint_command import command

        return command
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


if __name__ == "__main__":
    sys.exit(main())
