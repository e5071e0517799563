"""``Origin``: where a value of the configuration was written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import final

__all__ = ["Origin", "OriginKind", "shown_path"]


@final
class OriginKind(StrEnum):
    """What a value may come from, the strongest first."""

    CODE = "code"
    ENVIRONMENT = "environment"
    FILE = "stageflow.toml"
    PYPROJECT = "pyproject.toml"
    DEFAULT = "default"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a value was written, down to the line or the variable.

    ```python
    from stageflow.config import Origin, OriginKind

    print(Origin(kind=OriginKind.ENVIRONMENT, variable="STAGEFLOW_ACME__RETRIES"))
    #> STAGEFLOW_ACME__RETRIES
    print(Origin(kind=OriginKind.DEFAULT))
    #> default
    ```
    """

    kind: OriginKind

    variable: str = ""
    """The environment variable."""

    file: Path | None = None
    """The file, as an absolute path."""

    line: int | None = None
    """The line in the file, from 1."""

    def __str__(self) -> str:
        if self.file is None:
            return self.variable or self.kind.value
        return shown_path(self.file) if self.line is None else f"{shown_path(self.file)}:{self.line}"

    def to_dict(self) -> dict[str, str | int | None]:
        """Return the origin as plain data, for JSON."""
        return {
            "kind": self.kind.value,
            "variable": self.variable or None,
            "file": None if self.file is None else str(self.file),
            "line": self.line,
        }


def shown_path(path: Path) -> str:
    """Return *path* for a message: from the working directory on if it is in there, else as it is."""
    try:
        return str(path.relative_to(Path(os.path.abspath(os.curdir))))  # noqa: PTH100 - cwd() may raise, this may not
    except (OSError, ValueError):
        return str(path)
