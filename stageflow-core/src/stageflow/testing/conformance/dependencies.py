"""What a distribution needs: what its files import, and what its metadata says."""

from __future__ import annotations

import ast
import json
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stageflow.plugins.names import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import importlib_metadata

__all__ = ["Import", "imports_of", "providers_of", "required_by", "root_folder", "undeclared"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_GUARDS: Final = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException", "OSError"}


@final
class Import(NamedTuple):
    """An import in a file.

    Attributes:
        module: The module, without those inside it.
        place: The file and the line.
        guarded: Whether the file goes on without it, since it catches the ``ImportError``.
    """

    module: str
    place: str
    guarded: bool


def root_folder(package: str) -> Path | None:
    """Return the folder of a package or the file of a module, without importing it; None if it is not there."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    return path.parent if path.name == "__init__.py" else path


def imports_of(root: Path) -> Iterator[Import]:
    """Yield what the files of a package import from outside, but for the checks of types alone.

    Args:
        root: The folder of the package, or the one file of a module.
    """
    files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    for file in files:
        tree = ast.parse(file.read_text("utf-8"), str(file))
        name = file.relative_to(root.parent)
        for module, line, guarded in _imports_in(tree.body, guarded=False):
            yield Import(module, f"{name}:{line}", guarded)


def _imports_in(body: Iterable[ast.AST], *, guarded: bool) -> Iterator[tuple[str, int, bool]]:
    for node in body:
        match node:
            case ast.Import(names=names, lineno=line):
                for alias in names:
                    yield alias.name.partition(".")[0], line, guarded
            case ast.ImportFrom(module=str(module), level=0, lineno=line):
                yield module.partition(".")[0], line, guarded
            case ast.Call(args=[ast.Constant(value=str(module)), *_], lineno=line) if _is_import_module(
                node.func
            ):
                yield module.partition(".")[0], line, guarded
                yield from _imports_in(ast.iter_child_nodes(node), guarded=guarded)
            case ast.If(test=test, orelse=orelse) if _is_for_checkers(test):
                yield from _imports_in(orelse, guarded=guarded)
            case ast.Try(body=tried, handlers=handlers, orelse=orelse, finalbody=final):
                caught = guarded or any(map(_catches_import_error, handlers))
                yield from _imports_in(tried, guarded=caught)
                yield from _imports_in([*handlers, *orelse, *final], guarded=guarded)
            case _:
                yield from _imports_in(ast.iter_child_nodes(node), guarded=guarded)


def _is_import_module(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__"}


def _is_for_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(getattr(kind, "id", getattr(kind, "attr", "")) in _GUARDS for kind in kinds)


def required_by(distribution: importlib_metadata.Distribution) -> Mapping[str, str]:
    """Return the requirements of a distribution, those of its extras too, by their names."""
    found: dict[str, str] = {}
    for line in distribution.requires or []:
        name = _NAME.match(line.strip())
        if name is not None:
            found.setdefault(canonical(name.group()), line)
    return found


def providers_of(module: str) -> frozenset[str]:
    """Return the installed distributions that a module is of, also of those that are installed editable."""
    found = {canonical(name) for name in _providers().get(module, ())}
    root = root_folder(module)
    if root is not None:
        found |= {name for name, folder in _editable().items() if root.is_relative_to(folder)}
    return frozenset(found)


@cache
def _providers() -> Mapping[str, list[str]]:
    import importlib_metadata

    return importlib_metadata.packages_distributions()


@cache
def _editable() -> Mapping[str, Path]:
    import importlib_metadata

    folders: dict[str, Path] = {}
    for one in importlib_metadata.distributions():  # pyright: ignore[reportUnknownMemberType] - **kwargs is untyped
        about: dict[str, Any] = json.loads(one.read_text("direct_url.json") or "{}")
        if about.get("dir_info", {}).get("editable"):
            folders[canonical(str(one.name))] = Path(url2pathname(urlsplit(str(about["url"])).path))
    return folders


def undeclared(distribution: importlib_metadata.Distribution, packages: Iterable[str]) -> list[str]:
    """Return a sentence for each module that a distribution imports and does not require.

    Args:
        distribution: The distribution.
        packages: The packages and modules that are its own.
    """
    own = set(packages)
    required = required_by(distribution)
    places: dict[str, list[Import]] = {}
    for package in sorted(own):
        root = root_folder(package)
        for one in imports_of(root) if root is not None else ():
            if one.module not in own and one.module not in sys.stdlib_module_names:
                places.setdefault(one.module, []).append(one)
    problems: list[str] = []
    for module, imports in sorted(places.items()):
        needed = [one for one in imports if not one.guarded]
        providers = providers_of(module)
        if not needed or providers & set(required) or canonical(module) in required:
            continue
        if canonical(str(distribution.name)) in providers:
            continue
        by = f"is of {' or '.join(sorted(providers))}" if providers else "is of no installed distribution"
        problems.append(f"{needed[0].place} imports {module!r}, which {by} and not in Requires-Dist")
    return problems
