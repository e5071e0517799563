"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final, NoReturn

from stageflow.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OUTPUT_CODE", "check_writable", "reason_of", "write_whole"]

OUTPUT_CODE: Final = "SF-CLI-OUTPUT"


def write_whole(path: Path, text: str) -> None:
    """Write *text* to *path*, or leave everything as it was.

    The text goes into a new file beside it, which then takes its place.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced, only written to
            path.write_text(text, "utf-8")
            return
        place = path.resolve()
        beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            with beside.open("x", encoding="utf-8", newline="\n") as file:
                if place.exists():  # before there is anything to read: a file may hold secrets
                    shutil.copymode(place, beside)
                file.write(text)
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as exc:
        _refuse(path, exc)


def check_writable(path: Path) -> None:
    """Find out now whether *path* can be written later.

    Raises:
        ConfigurationError: It cannot.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory", str(path))
        place = path.resolve()
        beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            beside.open("x").close()
        finally:
            beside.unlink(missing_ok=True)
    except OSError as exc:
        _refuse(path, exc)


def reason_of(error: OSError) -> str:
    """Return what the operating system says, without its number and path."""
    return (error.strerror or type(error).__name__).lower()


def _refuse(path: Path, error: OSError) -> NoReturn:
    msg = f"Cannot write {str(path)!r}: {reason_of(error)}"
    fix = "Name a file in a folder that exists and that you may write to; nothing was written"
    raise ConfigurationError(msg, fix=fix, code=OUTPUT_CODE) from error
