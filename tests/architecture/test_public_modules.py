"""Public means listed: every public module says what it offers, in a sorted, literal `__all__` that resolves."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def public_modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for source in sorted(ROOT.glob("stageflow-*/src")):
        for file in sorted(source.rglob("*.py")):
            parts = file.relative_to(source).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not any(part.startswith("_") for part in parts):
                found[".".join(parts)] = file
    return found


MODULES = public_modules()


def listed(file: Path) -> list[str] | None:
    """Read a module's `__all__` without running it; None unless it is one literal list or tuple of strings."""
    values: list[ast.expr | None] = []
    for statement in ast.parse(file.read_text("utf-8")).body:
        if isinstance(statement, ast.Assign):
            values += [statement.value for target in statement.targets if names_all(target)]
        elif isinstance(statement, ast.AnnAssign | ast.AugAssign) and names_all(statement.target):
            values.append(statement.value)
    try:
        (value,) = values
        return list(ast.literal_eval(value or ""))
    except (SyntaxError, ValueError):
        return None


def names_all(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "__all__"


def sort_key(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Order as ruff's RUF022 does: constants, classes, the rest; digits by value."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name.lstrip("_")[:1].isupper() else 2
    return kind, [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@pytest.mark.parametrize("name", MODULES)
def test_all_is_literal_sorted_and_resolves(name: str) -> None:
    names = listed(MODULES[name])
    assert names is not None, "say `__all__` once, as a literal list"
    assert names == sorted(set(names), key=sort_key)
    module = importlib.import_module(name)
    assert not [entry for entry in names if not hasattr(module, entry)]
