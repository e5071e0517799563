"""A repository of its own, with what this working tree holds as its one commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a release is made of, and what makes it.
PARTS = ("LICENSE", "README.md", ".gitignore", "api", "scripts", "stageflow-*")


class Clone:
    """A copy of the working tree, committed in a repository that may be written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listing = self.git(
            "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS, at=ROOT
        )
        for name in filter(None, listing.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, root / name)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit("the working tree")

    def git(self, *arguments: str, at: Path | None = None) -> str:
        identity = (
            "-c",
            "user.name=A tester",
            "-c",
            "user.email=tester@example.org",
            "-c",
            "commit.gpgsign=false",
        )
        command = ["git", "-C", str(at or self.root), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(text, "utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text("utf-8")
        assert old in text
        self.write(path, text.replace(old, new))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clone(tmp_path_factory.mktemp("template")).root


@pytest.fixture
def clone(template: Path, tmp_path: Path) -> Clone:
    """The copy, as if just made."""
    made = object.__new__(Clone)
    made.root = tmp_path / "clone"
    shutil.copytree(template, made.root)
    return made
