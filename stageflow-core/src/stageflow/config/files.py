"""The files of a configuration: where they are, and what stands in them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.config.layers import Layer, table_of
from stageflow.config.origin import Origin, OriginKind, shown_path
from stageflow.config.positions import key_lines
from stageflow.config.problems import FILE_CODE, SettingsProblem
from stageflow.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stageflow.config.layers import ValuePath

__all__ = ["FILE_NAME", "PYPROJECT_NAME", "TABLE", "ConfigFile", "find_files", "is_planted", "read_file"]

FILE_NAME: Final = "stageflow.toml"
PYPROJECT_NAME: Final = "pyproject.toml"
TABLE: Final = ("tool", "stageflow")
"""The table of a ``pyproject.toml`` that is the configuration."""

_LARGEST: Final = 1_000_000  # bytes; a thousand times what thirty plugins need
_BOM: Final = b"\xef\xbb\xbf"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFile:
    """A file that takes part, what it says, and what is wrong with it."""

    path: Path
    kind: OriginKind
    layer: Layer | None = None
    """None where it cannot be read, or says nothing."""

    problem: SettingsProblem | None = None


def find_files(folder: Path) -> tuple[ConfigFile, ...]:
    """Read the nearest ``pyproject.toml`` and ``stageflow.toml`` in *folder* or above, the stronger last.

    A ``pyproject.toml`` without a table ``[tool.stageflow]`` is not among them, and one in which the word does not
    occur is not even parsed: what is wrong with it is for others to say.
    """
    found: list[ConfigFile] = []
    pyproject = _nearest(folder, PYPROJECT_NAME)
    if pyproject is not None:
        read = read_file(pyproject)
        if read.layer is not None or read.problem is not None:
            found.append(read)
    file = _nearest(folder, FILE_NAME)
    if file is not None:
        found.append(read_file(file))
    return tuple(found)


def read_file(path: Path) -> ConfigFile:
    """Read one file; what is wrong with it is in the result."""
    kind = OriginKind.PYPROJECT if path.name == PYPROJECT_NAME else OriginKind.FILE
    file = ConfigFile(path=path, kind=kind)
    try:
        content = _content(path)
    except _UnreadableError as exc:
        return replace(file, problem=_unreadable(path, exc))
    if kind is OriginKind.PYPROJECT and TABLE[-1].encode() not in content:
        return file
    try:
        text = content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        what = f"is not in UTF-8: the byte 0x{content[exc.start]:02x} at position {exc.start}"
        return replace(file, problem=_malformed(file, what, line, fix="Save it in UTF-8"))
    return _parsed(file, text)


class _UnreadableError(Exception):
    """Why a file cannot be read, and what to do."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


def _nearest(folder: Path, name: str) -> Path | None:
    """Return the nearest file of that name, also one that cannot be read: it is meant all the same."""
    for parent in (folder, *folder.parents):
        path = parent / name
        if os.path.lexists(path) and not is_planted(path):
            return path
    return None


def is_planted(path: Path) -> bool:
    """Say whether somebody else has put a file into a folder that is open to everybody, as ``/tmp`` is.

    A configuration decides which code runs, so one that anybody could have left there is not taken unasked.
    """
    try:
        folder, file = path.parent.stat(), path.lstat()
    except OSError:
        return False
    return bool(folder.st_mode & stat.S_IWOTH) and os.name == "posix" and file.st_uid not in (0, os.geteuid())


def _content(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _UnreadableError("it is a folder", "Name a file")  # noqa: TRY003 - what it is made of
        if not stat.S_ISREG(mode):  # a pipe would be waited on for ever
            raise _UnreadableError("it is no ordinary file", "Name a file on a disk")  # noqa: TRY003 - as above
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as exc:  # a ValueError for a name with a NUL
        reason = (getattr(exc, "strerror", None) or str(exc)).lower()
        link = (
            " (it is a link to nothing)" if path.is_symlink() and isinstance(exc, FileNotFoundError) else ""
        )
        msg = f"{reason}{link}"
        raise _UnreadableError(msg, "Check the path and its permissions") from exc
    if len(content) > _LARGEST:
        msg = f"it is larger than {_LARGEST:,} bytes"
        raise _UnreadableError(msg, "Keep data elsewhere: it is for settings")
    return content


def _parsed(file: ConfigFile, text: str) -> ConfigFile:
    import tomllib  # a program without a configuration does not need it

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        reason, _, place = str(exc).removesuffix(")").rpartition(" (at ")
        line = _line_of(place, text)
        return replace(
            file, problem=_malformed(file, f"is not valid TOML: {_lower(reason or str(exc))}", line)
        )
    except (ValueError, RecursionError) as exc:  # a number of too many digits, arrays in arrays
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        return replace(file, problem=_malformed(file, f"is not valid TOML: {_lower(reason)}", None))
    lines = key_lines(text)
    prefix: ValuePath = TABLE if file.kind is OriginKind.PYPROJECT else ()
    found: Any = document
    for part in prefix:
        table = table_of(found)
        found = None if table is None else table.get(part)
    if found is None:
        return file
    tree = table_of(found)
    if tree is None:
        what = f"has no table at [{'.'.join(prefix)}], but {shown(found)}"
        return replace(file, problem=_malformed(file, what, lines.get(prefix), fix="Make it a table"))
    origins = {
        path[len(prefix) :]: Origin(kind=file.kind, file=file.path, line=line)
        for path, line in lines.items()
        if path[: len(prefix)] == prefix and len(path) > len(prefix)
    }
    whole = Origin(kind=file.kind, file=file.path, line=lines.get(prefix) if prefix else None)
    return replace(file, layer=Layer(tree, whole, origins))


def _line_of(place: str, text: str) -> int | None:
    """Return the line in "line 3, column 5"; of "end of document", the last."""
    if place.startswith("end of"):
        return text.rstrip("\n").count("\n") + 1
    digits = "".join(_digits(place.partition(",")[0]))
    return int(digits) if digits else None


def _digits(text: str) -> Iterator[str]:
    return (sign for sign in text if sign.isdecimal())


def _unreadable(path: Path, error: _UnreadableError) -> SettingsProblem:
    kind = OriginKind.PYPROJECT if path.name == PYPROJECT_NAME else OriginKind.FILE
    return SettingsProblem(
        code=FILE_CODE,
        message=f"Cannot read {shown_path(path)!r}: {error.reason}",
        fix=error.fix,
        origin=Origin(kind=kind, file=path),
    )


def _malformed(file: ConfigFile, what: str, line: int | None, *, fix: str = "") -> SettingsProblem:
    origin = Origin(kind=file.kind, file=file.path, line=line)
    return SettingsProblem(
        code=FILE_CODE, message=f"{origin} {what}", fix=fix or "Correct that line", origin=origin
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
