"""``show_values``: lets assertions of the suites that fail show their values, as those in a module of tests do."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["show_values"]

_PACKAGE: Final = __name__.rpartition(".")[0]
_SUITES: Final = (
    "body",
    "breaker",
    "command",
    "executor",
    "interceptor",
    "plugin",
    "run_store",
    "settings",
    "sink",
    "stage",
    "tool",
)


def show_values() -> None:
    """Tell pytest, which runs, that the modules of the suites have assertions; those that are imported already stay."""
    import pytest

    pytest.register_assert_rewrite(
        *(name for suite in _SUITES if (name := f"{_PACKAGE}.{suite}") not in sys.modules)
    )
