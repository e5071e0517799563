"""Asks a host of everything that is installed, in a process of its own, and writes what it says as JSON."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from stageflow import Pipeline, Stageflow, StageKind
from stageflow.cli.program import PROGRAM
from stageflow.cli.session import Session
from stageflow.errors import PipelineValidationError
from stageflow.plugins import PluginHost


class Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def built(app: Stageflow, stage: str) -> str:
    """Build a pipeline that names a stage, and return what is wrong with it."""
    try:
        app.build(Pipeline().with_stage("greet", stage, StageKind.TRANSFORM))
    except PipelineValidationError as error:
        return str(error)
    return ""


def called(session: Session, *arguments: str) -> tuple[int, str, str]:
    """Call the program, with what earlier calls have loaded."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = PROGRAM.main([*arguments], prog_name="stageflow", standalone_mode=False, obj=session)
    return code, out.getvalue(), err.getvalue()


def strictly() -> tuple[str, list[str]]:
    """Load strictly, and return what the group says and what each of its errors does."""
    try:
        PluginHost(strict=True).load()
    except ExceptionGroup as group:
        return group.message, [str(error) for error in group.exceptions]
    return "", []


def ask(names: list[str]) -> dict[str, object]:
    logger = logging.getLogger("stageflow.plugins")
    keep = Keep()
    logger.addHandler(keep)
    host = PluginHost()
    stages = list(host.stages())  # one kind is enough to load everything
    report = host.report
    logger.removeHandler(keep)
    app, session = Stageflow(host), Session()
    called(session, "plugins", "list")
    return {
        "stages": stages,
        "logged": keep.messages,
        "statuses": [str(status) for status in report.external],
        "strict": strictly(),
        "built": {name: built(app, f"{name}.greet") for name in names},
        "why": {name: called(session, "plugins", "why", name) for name in names},
        "shown": {name: called(session, "plugins", "show", name) for name in names},
    }


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        found = ask(sys.argv[1:])
    print(json.dumps(found))
