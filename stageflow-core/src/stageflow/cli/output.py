"""Standard output: kept for the result while the user's code runs, and written with a clear word if that fails."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING

from stageflow.cli.files import OUTPUT_CODE, reason_of
from stageflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["finish", "forget_stdout", "put", "reserved_stdout"]


def put(text: str, *, end: str = "\n") -> None:
    """Write *text* to standard output.

    Raises:
        ConfigurationError: It cannot be written, for another reason than that nobody reads it any more.
    """
    with _explained():
        sys.stdout.write(text + end)


def finish() -> None:
    """Write what is left to standard output now, while something can still be said about a failure.

    Raises:
        ConfigurationError: See ``put``.
    """
    with _explained():
        sys.stdout.flush()


def forget_stdout() -> None:
    """Let nothing more be written to a standard output that is gone; the interpreter would complain at its exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _explained() -> Generator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        forget_stdout()
        msg = f"Cannot write to standard output: {reason_of(exc)}"
        fix = "Send it somewhere with room; what was written is not complete"
        raise ConfigurationError(msg, fix=fix, code=OUTPUT_CODE) from exc


@contextmanager
def reserved_stdout() -> Generator[None]:
    """Send everything that is written to standard output to standard error, also by C code and child processes."""
    out, err = sys.stdout, sys.stderr
    try:
        out.flush()
        number, other = out.fileno(), err.fileno()
        kept = os.dup(number)
    except (OSError, ValueError):  # a stand-in without a descriptor, as in tests
        with redirect_stdout(err):
            yield
        return
    try:
        os.dup2(other, number)
        yield
    finally:
        try:
            out.flush()
        finally:
            os.dup2(kept, number)
            os.close(kept)
