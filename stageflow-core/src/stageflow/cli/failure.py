"""How errors are shown: a paragraph for people, a record for machines, never a traceback unless asked for."""

from __future__ import annotations

import linecache
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from stageflow.cli.terminal import coloured
from stageflow.config.problems import SettingsError
from stageflow.errors import (
    ConfigurationError,
    PipelineCancelled,
    PipelineValidationError,
    RunTimeoutError,
    StageError,
    StageflowError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["as_stageflow_error", "error_record", "leaves", "show_error", "show_warning", "user_line"]

_BOLD: Final = "\x1b[1m"
_RED: Final = "\x1b[1;31m"
_YELLOW: Final = "\x1b[1;33m"
_RESET: Final = "\x1b[0m"

_OURS: Final = Path(__file__).resolve().parents[1]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, or the errors that a group of them holds."""
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from leaves(one)
    else:
        yield error


def as_stageflow_error(error: BaseException) -> StageflowError:
    """Return *error*, or an error of ours that stands for one that nobody foresaw."""
    if isinstance(error, StageflowError):
        return error
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    found = ConfigurationError(
        f"Stageflow stopped at an error that it did not expect: {said}",
        where=user_line(error),
        fix="Run it again with -v for the traceback, and report it if the fault is not yours",
        code="SF-ERROR",
    )
    found.__cause__ = error
    return found


def show_error(error: BaseException, *, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Print *error* as one paragraph.

    Args:
        error: What went wrong; a group is printed one by one.
        verbose: Whether the traceback comes first.
        stream: Where to; standard error by default.
    """
    where_to = stream or sys.stderr
    if verbose:
        traceback.print_exception(error, file=where_to)
    for one in leaves(error):
        print(_paragraph(as_stageflow_error(one), colour=coloured(where_to), verbose=verbose), file=where_to)


def show_warning(message: str, *, stream: TextIO) -> None:
    """Print one line about something that does not stop anything."""
    label = f"{_YELLOW}Warning:{_RESET}" if coloured(stream) else "Warning:"
    print(f"{label} {message}", file=stream)


def error_record(error: StageflowError) -> dict[str, Any]:
    """Return *error* as plain data, for JSON."""
    record: dict[str, Any] = {
        "code": error.code,
        "message": error.what,
        "where": _where(error),
        "fix": _fix(error),
        "docs": error.docs,
    }
    if isinstance(error, PipelineValidationError) and error.problems:
        record["problems"] = error.to_dict()["problems"]
    if isinstance(error, SettingsError):
        record["problems"] = [problem.to_dict() for problem in error.problems]
    return record


def user_line(error: BaseException, file: Path | None = None) -> str:
    """Return ``file:line`` of the deepest step into the user's code, or an empty string.

    Args:
        error: The error.
        file: The only file to consider; otherwise any that is neither ours nor of an installed package.
    """
    found = ""
    step: TracebackType | None = error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if Path(name) == file if file is not None else _is_users(name):
            found = f"{_shown(Path(name))}:{step.tb_lineno}"
        step = step.tb_next
    return found


def _is_users(name: str) -> bool:
    if name.startswith(("<", f"{sys.base_prefix}/lib")) or "site-packages" in name:
        return False
    return not Path(name).is_relative_to(_OURS) and bool(linecache.getline(name, 1))


def _shown(path: Path) -> str:
    """Return the path as it is short to read: relative to where the user is, if it is below that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _where(error: StageflowError) -> str:
    """Say where it happened, with the line of the user's code that raised, if one did."""
    line = user_line(error.original) if isinstance(error, StageError) else ""
    return ", ".join(part for part in (error.where, line) if part)


def _fix(error: StageflowError, *, verbose: bool = False) -> str:
    """Say what to do in the words of the command line, where the error speaks to whoever wrote ``await``."""
    if isinstance(error, StageError):
        return getattr(error.original, "fix", "") or (
            "" if verbose else "Run it again with -v for the traceback"
        )
    if isinstance(error, RunTimeoutError):
        return "Raise --timeout, or give the slow stages limits of their own"
    if isinstance(error, PipelineCancelled):
        return "Nothing is left running; the timeline shows what had settled"
    return error.fix


def _paragraph(error: StageflowError, *, colour: bool, verbose: bool) -> str:
    listed = isinstance(error, PipelineValidationError) and bool(error.problems)
    if listed or (isinstance(error, SettingsError) and len(error.problems) > 1):
        return _red_code(str(error), error.code, colour=colour)
    shown = StageflowError(error.what, where=_where(error), fix=_fix(error, verbose=verbose), code=error.code)
    text = _red_code(str(shown), error.code, colour=colour)
    if colour:
        for label in ("Where:", "What to do:", "Docs:"):
            text = text.replace(f" {label} ", f" {_BOLD}{label}{_RESET} ", 1)
    return text


def _red_code(text: str, code: str, *, colour: bool) -> str:
    return text.replace(f"[{code}]", f"{_RED}[{code}]{_RESET}", 1) if colour else text
