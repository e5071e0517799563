"""The changelog of a package, made of the fragments in its ``changes`` folder by towncrier."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KINDS", "build_changelog", "fragments", "misnamed"]

KINDS = ("removed", "deprecated", "added", "changed", "fixed")
CONFIGURATION = Path(__file__).with_name("towncrier.toml")
NAME = re.compile(rf"\+[a-z0-9-]+\.({'|'.join(KINDS)})\.md")


def fragments(package: Path) -> dict[Path, str]:
    """Return a package's fragments with their types, by name."""
    found = {file: NAME.fullmatch(file.name) for file in _files(package)}
    return {file: match[1] for file, match in found.items() if match is not None}


def misnamed(package: Path) -> list[str]:
    """Return the names of files that towncrier would leave out, or not understand."""
    return [file.name for file in _files(package) if not NAME.fullmatch(file.name)]


def build_changelog(package: Path, version: str, date: str) -> None:
    """Move a package's fragments into its CHANGELOG.md.

    Args:
        package: The package's folder.
        version: The version of the release.
        date: Its day, as ``2026-12-01``.
    """
    command = [sys.executable, "-m", "towncrier", "build", "--yes", "--dir", str(package)]
    command += ["--config", str(CONFIGURATION), "--name", package.name, "--version", version, "--date", date]
    subprocess.run(command, capture_output=True, text=True, check=True)


def _files(package: Path) -> Iterable[Path]:
    folder = package / "changes"
    return sorted(file for file in folder.glob("*") if file.name != "README.md")
