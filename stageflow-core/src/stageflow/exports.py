"""Public names of a package that are imported when they are first used (PEP 562).

A package states its names twice: under ``TYPE_CHECKING``, for type checkers and readers, and here, for the
interpreter. ``tests/architecture`` holds the two against each other.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, homes: Mapping[str, tuple[str, ...]], **aliases: str
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``.

    Args:
        package: The package's ``__name__``.
        homes: Which of its modules gives which names; ``".protocols"`` is the module beside the package.
        **aliases: Further names for names in *homes*.

    ```python
    from stageflow.exports import lazy_exports

    find, _ = lazy_exports("stageflow.events", {"sink": ("NoOpEventSink",)}, Silence="NoOpEventSink")
    print(find("Silence").__name__)
    #> NoOpEventSink
    ```
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def find(name: str) -> object:
        source = aliases.get(name, name)
        module = home_of.get(source)
        if module is None:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        from importlib import import_module

        value: object = getattr(import_module(f".{module}", package), source)
        setattr(sys.modules[package], name, value)  # the next look-up does not come here any more
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of, *aliases})

    return find, names
