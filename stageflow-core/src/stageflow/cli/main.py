"""The console script: one clear line if the extra is missing, otherwise the program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stageflow.extras import require_extra

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, *, program_name: str = "stageflow") -> int:
    """Run the ``stageflow`` program and return its exit code.

    Args:
        arguments: The command line without the program; what the process was started with by default.
        program_name: What the program is called in its help.
    """
    try:
        require_extra("cli", "click", "packaging", "rich", "tomlkit", feature="The stageflow command")
    except ImportError as exc:
        print(exc, file=sys.stderr)
        return 1
    from stageflow.cli.program import execute

    return execute(sys.argv[1:] if arguments is None else arguments, program_name=program_name)
