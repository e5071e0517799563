"""The console script: one clear line if the extra is missing, otherwise the program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_NEEDED = ("click", "packaging", "rich")


def main(arguments: Sequence[str] | None = None, *, program_name: str = "stageflow") -> int:
    """Run the ``stageflow`` program and return its exit code.

    Args:
        arguments: The command line without the program; what the process was started with by default.
        program_name: What the program is called in its help.
    """
    try:
        _require_extra()
    except ImportError as exc:
        print(exc, file=sys.stderr)
        return 1
    from stageflow.cli.program import execute

    return execute(sys.argv[1:] if arguments is None else arguments, program_name=program_name)


def _require_extra() -> None:
    """Look for what the program needs, without importing it.

    Raises:
        MissingExtraError: It is not there.
    """
    from importlib.util import find_spec

    for name in _NEEDED:
        try:
            found = find_spec(name) is not None
        except ValueError:  # what sys.modules holds under this name is no module
            found = False
        if not found:
            from stageflow.errors import MissingExtraError

            feature = f"The stageflow command (which needs {name!r})"
            raise MissingExtraError(feature, extra="cli")
