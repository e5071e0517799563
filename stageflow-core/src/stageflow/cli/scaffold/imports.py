"""``import_block``: the imports of a module, in the order and the form that ruff gives them."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["WIDTH", "import_block", "listed"]

WIDTH: Final = 110
"""How wide a line of what is written may be, as its ``pyproject.toml`` says."""


def import_block(wanted: Iterable[str], own: str) -> str:
    """Return the statements that import some names, grouped into Python's own, other people's, and the package's.

    Args:
        wanted: ``module:name`` for a name of a module, ``module`` for the module itself.
        own: The package that the statements stand in.

    ```python
    from stageflow.cli.scaffold.imports import import_block

    print(import_block(["click:Command", "json", "pathlib:Path", "acme.sink:Sink", "acme.sink:open_sink"], "acme"))
    #> import json
    #> from pathlib import Path
    #>
    #> from click import Command
    #>
    #> from acme.sink import Sink, open_sink
    ```
    """
    names: defaultdict[str, set[str]] = defaultdict(set)
    for one in wanted:
        module, _, name = one.partition(":")
        names[module].update([name] if name else [])
    groups: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for module in sorted(names, key=lambda module: (bool(names[module]), module)):
        root = module.partition(".")[0]
        group = 2 if root == own else 0 if root in sys.stdlib_module_names else 1
        groups[group].append(_statement(module, names[module]))
    return "\n\n".join("\n".join(group) for group in groups.values() if group)


def listed(opening: str, items: Iterable[str], closing: str) -> str:
    """Return a list in one line, or with a line for each item where that is too wide.

    ```python
    from stageflow.cli.scaffold.imports import listed

    print(listed("__all__ = [", ['"Greet"'], "]"))
    #> __all__ = ["Greet"]
    ```
    """
    entries = list(items)
    line = f"{opening}{', '.join(entries)}{closing}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([opening, *(f"    {entry}," for entry in entries), closing])


def _statement(module: str, names: set[str]) -> str:
    if not names:
        return f"import {module}"
    # Classes before functions, as ruff sorts them.
    ordered = sorted(names, key=lambda name: (not name[0].isupper(), name))
    line = f"from {module} import {', '.join(ordered)}"
    return line if len(line) <= WIDTH else listed(f"from {module} import (", ordered, ")")
