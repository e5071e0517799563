"""The pipelines of a Python file, for whoever looks at them without running them."""

from __future__ import annotations

import errno
import importlib.util
import inspect
import sys
import traceback
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

from stageflow.context.checks import wrong_type
from stageflow.errors import ConfigurationError
from stageflow.pipeline.builder import Pipeline
from stageflow.pipeline.builders import PipelineBuilder
from stageflow.runtime.graph import StageGraph

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType

    Runnable: TypeAlias = Pipeline | StageGraph | PipelineBuilder

__all__ = ["PipelineFileError", "PipelineFileNotFoundError", "pipelines_in"]

_PIPELINES = (Pipeline, StageGraph, PipelineBuilder)
_NAMES = tuple(cls.__name__ for cls in _PIPELINES)
_MODULE = "stageflow_linted_file"


@final
class PipelineFileNotFoundError(ConfigurationError, FileNotFoundError):
    """There is no file at that path.

    Args:
        path: The path.
    """

    code = "SF-CONFIG-TARGET"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"Pipeline file not found: {path}",
            fix=f"Check the path: it is looked up from {str(Path.cwd())!r}",
        )


@final
class PipelineFileError(ConfigurationError, ImportError):
    """A file with pipelines is no Python, or raises when it is run.

    Args:
        path: The path.
        reason: What it raised.
        line: The line of the file, if that is known.
    """

    code = "SF-CONFIG-TARGET"

    def __init__(self, path: str, reason: str, line: int | None = None) -> None:
        self.path = path
        self.line = line
        super().__init__(
            f"Error executing module {path}: {reason}",
            where=path if line is None else f"{path}:{line}",
            fix="Correct the file; what only a script should do belongs under: if __name__ == '__main__':",
        )


@contextmanager
def pipelines_in(file_path: str | Path) -> Generator[dict[str, Runnable]]:
    """Run a Python file and give its pipelines by name; its module is there as long as the block lasts.

    Raises:
        PipelineFileNotFoundError: There is no such file.
        PipelineFileError: It is no Python, or it raises.
        ArgumentTypeError: *file_path* is no path.
    """
    if not isinstance(file_path, (str, Path)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise wrong_type("lint_pipeline_file", "file_path", "a path", file_path)
    path = Path(file_path)
    if not _is_file(path):
        raise PipelineFileNotFoundError(str(file_path))
    place = str(path.resolve())
    name = _MODULE
    while name in sys.modules:
        name += "_"
    loader = SourceFileLoader(name, place)
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=place))
    module.__file__ = place
    sys.modules[name] = module  # dataclasses and annotations look their module up
    folder = str(Path(place).parent)
    sys.path.insert(0, folder)
    try:
        try:
            source = loader.source_to_code(loader.get_data(place), place)
            exec(source, module.__dict__)  # noqa: S102 - to run it is what was asked for
            found = _found(module)
        except (Exception, SystemExit) as exc:
            reason = f"{type(exc).__name__}: {exc}"
            raise PipelineFileError(str(file_path), reason, _line(exc, place)) from exc
        yield found
    finally:
        sys.modules.pop(name, None)
        if folder in sys.path:
            sys.path.remove(folder)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:  # no file can have that name
            return False
        raise PipelineFileError(str(path), f"{type(exc).__name__}: {exc}") from exc


def _found(module: ModuleType) -> dict[str, Runnable]:
    found: dict[str, Runnable] = {}
    seen: set[int] = set()
    for name, value in [*vars(module).items()]:
        made = value
        if not isinstance(value, _PIPELINES):
            made = value() if _makes_pipelines(module, name, value) else None
            if inspect.iscoroutine(made):
                made.close()  # nobody will await it
        if isinstance(made, _PIPELINES) and not name.startswith("_") and id(made) not in seen:
            seen.add(id(made))
            found[name] = made
    return found


def _makes_pipelines(module: ModuleType, name: str, value: Any) -> bool:
    if not inspect.isfunction(value) or value.__module__ != module.__name__ or name.startswith("_"):
        return False
    promises = any(one in str(value.__annotations__.get("return", "")) for one in _NAMES)
    if not name.endswith("_pipeline") and not (name.startswith(("create_", "build_")) and promises):
        return False
    return all(
        one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        for one in inspect.signature(value).parameters.values()
    )


def _line(error: BaseException, place: str) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == place:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
    return lines[-1] if lines else None
