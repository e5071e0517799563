"""What git knows of this checkout. Nothing here changes it."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Repository"]


@final
class Repository:
    """A checkout, read with git.

    Args:
        root: Its root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str) -> str:
        """Return what a git command that only reads prints."""
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    @property
    def branch(self) -> str:
        """The branch that is checked out; empty where none is."""
        return self.git("branch", "--show-current").strip()

    @property
    def changed_files(self) -> list[str]:
        """What differs from the last commit, or is in none."""
        return [line[3:] for line in self.git("status", "--porcelain").splitlines()]

    @property
    def commit_time(self) -> str:
        """When the last commit was made, in seconds since 1970."""
        return self.git("log", "-1", "--format=%ct").strip()

    def tags(self, prefix: str) -> list[str]:
        """Return the tags that begin with *prefix*."""
        return self.git("tag", "--list", f"{prefix}*").split()

    def text(self, tag: str, path: str) -> str | None:
        """Return a file as it was at a tag; None if it was not there."""
        if not self.git("ls-tree", "--name-only", tag, "--", path).strip():
            return None
        return self.git("show", f"{tag}:{path}")

    def export(self, commit: str, folder: Path, *paths: str) -> None:
        """Write files and folders as a commit has them, below *folder*."""
        command = ["git", "-C", str(self.root), "archive", commit, "--", *paths]
        done = subprocess.run(command, capture_output=True, check=True)
        with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
