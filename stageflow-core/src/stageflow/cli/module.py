"""Importing what a user names: a file or a module, with errors that point at the user's own line."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stageflow.cli.failure import user_line
from stageflow.cli.files import reason_of
from stageflow.errors import ConfigurationError, StageflowError

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType

__all__ = ["TARGET_CODE", "is_path", "load_file", "load_module", "user_code"]

TARGET_CODE: Final = "SF-CONFIG-TARGET"


def is_path(text: str) -> bool:
    """Say whether *text* means a file rather than a module."""
    path = Path(text)
    # A folder may be a package, which is a module.
    return (
        text.endswith(".py")
        or "/" in text
        or "\\" in text
        or path.is_file()
        or (path.is_dir() and not text.isidentifier())
    )


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own and return it; its folder comes first on ``sys.path``.

    Raises:
        ConfigurationError: It is not there, not Python, or raises.
    """
    source = _read(path)
    place = path.resolve()
    _put_first(place.parent)
    name = _free_name(place.stem)
    loader = SourceFileLoader(name, str(place))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(place)))
    module.__file__ = str(place)
    sys.modules[name] = module  # dataclasses and annotations look their module up
    try:
        with user_code(str(path), place):
            exec(loader.source_to_code(source, str(place)), module.__dict__)  # noqa: S102 - to run it is what was asked for
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def load_module(name: str) -> ModuleType:
    """Import a module by its name, from the current folder or from what is installed.

    Raises:
        ConfigurationError: There is none, or it raises.
    """
    _put_first(Path.cwd())
    if not all(part.isidentifier() for part in name.split(".")):
        msg = f"There is no file {name!r}, and it is not the name of a module either"
        raise ConfigurationError(msg, fix=_nearest(Path(name)), code=TARGET_CODE)
    try:
        with user_code(name):
            return importlib.import_module(name)
    except ConfigurationError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{name}.".startswith(f"{missing.name}."):
            msg = f"There is neither a file nor a module {name!r}"
            beside = Path(f"{name}.py")
            fix = f"Did you mean '{beside}'?" if beside.is_file() else _nearest(beside)
            raise ConfigurationError(msg, fix=fix, code=TARGET_CODE) from missing
        raise


@contextmanager
def user_code(shown: str, file: Path | None = None, *, doing: str = "Importing") -> Generator[None]:
    """Turn whatever the user's code raises into an error that names its line.

    Args:
        shown: What is being imported or called.
        file: The file, if there is only one.
        doing: What is being done with it.

    Raises:
        ConfigurationError: The code raised; errors of ours pass, as they say what to do.
    """
    try:
        yield
    except StageflowError as error:
        error.where = error.where or user_line(error)
        raise
    except (Exception, SystemExit) as exc:
        text = " ".join(str(exc).split())
        said = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
        if isinstance(exc, SyntaxError) and exc.filename:
            said = f"{type(exc).__name__}: {exc.msg}"
            where = (
                f"{shown if file is not None and Path(exc.filename) == file else exc.filename}:{exc.lineno}"
            )
        else:
            where = (user_line(exc, file) if file is not None else "") or user_line(exc) or shown
        msg = f"{doing} {shown!r} raised {said}"
        raise ConfigurationError(msg, where=where, fix=_cure(exc), code=TARGET_CODE) from exc


def _read(path: Path) -> bytes:
    if path.is_dir():
        msg = f"{str(path)!r} is a folder"
        fix = f"Name a file in it, such as '{path / 'pipeline.py'}'"
        raise ConfigurationError(msg, fix=fix, code=TARGET_CODE)
    if not path.exists():
        msg = f"There is no file {str(path)!r}"
        raise ConfigurationError(msg, fix=_nearest(path), code=TARGET_CODE)
    if path.suffix != ".py":
        msg = f"{str(path)!r} is not a Python file"
        fix = "Name a file that ends with .py and defines a pipeline, such as 'x.py' or 'x.py:pipeline'"
        raise ConfigurationError(msg, fix=fix, code=TARGET_CODE)
    try:
        return path.read_bytes()
    except OSError as exc:
        msg = f"Cannot read {str(path)!r}: {reason_of(exc)}"
        raise ConfigurationError(msg, fix="Check its permissions", code=TARGET_CODE) from exc


def _nearest(path: Path) -> str:
    """Name the Python files that *path* may have meant."""
    folder = path.parent
    # Without the suffix, which alone would make short names alike.
    found = {one.stem: one for one in sorted(folder.glob("*.py"))} if folder.is_dir() else {}
    near = [str(found[stem]) for stem in get_close_matches(path.stem, found)]
    return (
        f"Did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"Check the path: it is looked up from {str(Path.cwd())!r}"
    )


def _cure(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"Install what provides the module {error.name!r}, or correct the import; -v shows the traceback"
        )
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "A file in a package is named as a module: stageflow run package.module:pipeline"
    if isinstance(error, SystemExit):
        return "Put what only the script should do under: if __name__ == '__main__':"
    return "Correct the line, or run it again with -v for the traceback"


def _free_name(stem: str) -> str:
    """Return a module name that nobody has, so that a file called json.py replaces nothing."""
    base = "stageflow_target_" + re.sub(r"\W", "_", stem)
    name, number = base, 1
    while name in sys.modules:
        number += 1
        name = f"{base}_{number}"
    return name


def _put_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
