"""What a run is given to work on: the text of ``--input``, of a file, or of standard input."""

from __future__ import annotations

import os
import select
import shlex
import stat
import sys
from typing import TYPE_CHECKING, BinaryIO, Final

from stageflow.cli.files import reason_of
from stageflow.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MOST_BYTES", "read_input"]

MOST_BYTES: Final = 10_000_000
"""An input is shorter than this."""

_CODE: Final = "SF-CLI-INPUT"
_PATIENCE: Final = 2.0
_MARKS: Final = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def read_input(text: str | None, file: Path | None) -> str | None:
    """Return the input; None if there is none.

    Without a text and a file, standard input is read if something is connected to it: a pipe or a file, but not
    a terminal and not ``/dev/null``. A line end at the very end of a file or of standard input is dropped.

    Args:
        text: The text itself.
        file: Where to read it; ``-`` is standard input.

    Raises:
        ConfigurationError: It is empty, too long, unreadable or not UTF-8.
    """
    if text is not None:
        # The command line came as bytes; those that are no UTF-8 were smuggled through by the interpreter.
        return _checked(os.fsencode(text) if not _is_clean(text) else text.encode(), "--input")
    if file is not None and str(file) != "-":
        return _without_line_end(_checked(_read_file(file), f"--input-file {file}", shlex.quote(str(file))))
    if file is None and not _is_connected():
        return None
    _say_if_waiting()
    return _without_line_end(_checked(_read_some(sys.stdin.buffer), "standard input"))


def _read_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return _read_some(opened)
    except OSError as exc:
        msg = f"Cannot read the input file {str(file)!r}: {reason_of(exc)}"
        fix = "Check the path and its permissions, or pass the text with --input TEXT"
        raise ConfigurationError(msg, fix=fix, code=_CODE) from exc


def _read_some(source: BinaryIO) -> bytes:
    """Read up to the limit, so that an endless source does not fill the memory."""
    return source.read(MOST_BYTES)


def _checked(data: bytes, source: str, file: str = "") -> str:
    megabytes = MOST_BYTES // 1_000_000
    if len(data) >= MOST_BYTES:
        msg = f"The input is too long: it has {megabytes} MB or more"
        fix = f"Pass less than {megabytes} MB, or pass the path with --set file=PATH and let a stage read the file"
        raise ConfigurationError(msg, where=source, fix=fix, code=_CODE)
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as exc:
        encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "LATIN1")
        msg = f"The input is not UTF-8 text: the byte 0x{data[exc.start]:02x} at offset {exc.start} starts no character"
        fix = f"Convert it, for example with: iconv -f {encoding} -t UTF-8 {file}".rstrip()
        raise ConfigurationError(msg, where=source, fix=fix, code=_CODE) from exc
    if not text.strip():
        fix = "Pass a text with --input TEXT, name a file with --input-file FILE, or pipe one in"
        if source == "standard input":
            fix += "; for a pipeline that needs none, add </dev/null"
        msg = "The input is empty"
        raise ConfigurationError(msg, where=source, fix=fix, code=_CODE)
    return text


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _is_clean(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_connected() -> bool:
    """Say whether standard input is something that a person or a script connected to the program."""
    stdin = sys.stdin
    if stdin is None or stdin.closed or stdin.isatty():  # None without a console
        return False
    try:
        mode = os.fstat(stdin.fileno()).st_mode
    except (OSError, ValueError):
        return True  # a stand-in of a test or of an embedding program, which holds what it was given
    return not stat.S_ISCHR(mode)


def _say_if_waiting() -> None:
    """Say what the program waits for, if nothing comes for a while: a pipe that nobody closes looks like a hang."""
    try:
        ready, _, _ = select.select([sys.stdin], [], [], _PATIENCE)
    except (OSError, ValueError):
        return
    if not ready:
        print(
            "Waiting for the input on standard input; use --input TEXT or </dev/null instead.",
            file=sys.stderr,
        )
