"""A package says its lazy names three times, to type checkers, in ``__all__`` and to the interpreter: one list."""

import ast
import importlib
from importlib.util import resolve_name
from pathlib import Path

import pytest
import stageflow

SOURCES = Path(stageflow.__file__).parent
PACKAGES = {
    ".".join(("stageflow", *file.parent.relative_to(SOURCES).parts)): ast.parse(file.read_text("utf-8"))
    for file in sorted(SOURCES.rglob("__init__.py"))
    if "lazy_exports(" in file.read_text("utf-8")
}


def served(package: str, tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Read the table given to ``lazy_exports``: each name's module, and its name there."""
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy_exports"
    )
    homes: dict[str, tuple[str, ...]] = ast.literal_eval(call.args[1])
    found = {
        name: (resolve_name(f".{home}", package), name) for home, names in homes.items() for name in names
    }
    for alias in call.keywords:
        found[alias.arg or ""] = found[ast.literal_eval(alias.value)]
    return found


def seen_by_checkers(tree: ast.Module) -> dict[str, tuple[str, str]]:
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_there_are_such_packages() -> None:
    rooms = {"context", "events", "interceptors", "observability", "pipeline", "stages", "testing"}
    assert {"stageflow", *(f"stageflow.{room}" for room in rooms)} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_and_the_run_time_see_the_same_names(package: str) -> None:
    tree = PACKAGES[package]
    table, module = served(package, tree), importlib.import_module(package)
    assert table == seen_by_checkers(tree)
    assert set(table) == set(module.__all__)
    assert set(table) <= set(dir(module))
    for name, (home, source) in table.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), source)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        module.Nothing  # noqa: B018 - the look-up is what is tested
