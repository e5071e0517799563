"""``write_tree``: a folder with all its files, or nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from stageflow.cli.scaffold.writing import tree_of, write_tree
from stageflow.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = {"README.md": "# Made\n", "src/made/__init__.py": "", "src/made/naïve.py": "# 文字\n"}


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_every_file_is_there_with_its_text_and_nothing_else(tmp_path: Path):
    write_tree(tmp_path / "made", TEXTS)
    found = {
        str(path.relative_to(tmp_path / "made")): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert found == {path: text.encode() for path, text in TEXTS.items()}
    assert [*tmp_path.iterdir()] == [tmp_path / "made"]


def test_others_may_read_it_as_they_may_read_any_new_folder(tmp_path: Path):
    (tmp_path / "any").mkdir()
    write_tree(tmp_path / "made", TEXTS)
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "any").stat().st_mode


class Interrupted(Mapping):
    """Files of which one is never given: whoever runs the program has enough."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __getitem__(self, path: str) -> str:
        return TEXTS[path]

    def __len__(self) -> int:
        return len(TEXTS)

    def __iter__(self):
        for number, path in enumerate(TEXTS):
            if number == self.after:
                raise KeyboardInterrupt
            yield path


@pytest.mark.parametrize("after", range(len(TEXTS)))
def test_whoever_is_interrupted_leaves_nothing(tmp_path: Path, after: int):
    with pytest.raises(KeyboardInterrupt):
        write_tree(tmp_path / "made", Interrupted(after))
    assert everything_in(tmp_path) == set()


FULL = """
import json, resource, signal, sys
from pathlib import Path
from stageflow.cli.scaffold.writing import write_tree
from stageflow.errors import ConfigurationError

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a disk with room for a thousand bytes in each file
try:
    write_tree(Path("made"), {"small.md": "x", "src/large.md": "x" * 100_000})
except ConfigurationError as error:
    print(json.dumps([error.code, error.what]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is of POSIX systems")
def test_a_full_disk_leaves_nothing(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-B", "-c", FULL], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    code, what = json.loads(done.stdout)
    assert code == "SF-CLI-OUTPUT"
    assert "'made'" in what
    assert everything_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("file", "a file"),
        ("empty", "an empty folder"),
        ("folder", "a folder with 'a', 'b', 'c' and 1 more"),
        ("link", "a link"),
    ],
)
def test_what_is_there_stays_as_it_is_and_is_said(tmp_path: Path, there: str, said: str):
    made = tmp_path / "made"
    if there == "file":
        made.write_text("precious")
    elif there == "link":
        made.symlink_to(tmp_path / "nowhere")
    else:
        made.mkdir()
        for name in "abcd" if there == "folder" else "":
            (made / name).write_text("precious")
    before = everything_in(tmp_path)
    with pytest.raises(ConfigurationError, match="is there already") as caught:
        write_tree(made, TEXTS)
    assert caught.value.what.endswith(said)
    assert caught.value.code == "SF-CLI-OUTPUT"
    assert everything_in(tmp_path) == before


class Rival(Mapping):
    """Files during whose writing somebody else makes the folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __getitem__(self, path: str) -> str:
        return TEXTS[path]

    def __len__(self) -> int:
        return len(TEXTS)

    def __iter__(self):
        yield from TEXTS
        self.made.mkdir()


def test_somebody_who_was_quicker_keeps_the_folder(tmp_path: Path):
    made = tmp_path / "made"
    with pytest.raises(ConfigurationError, match="an empty folder"):
        write_tree(made, Rival(made))
    assert everything_in(tmp_path) == {"made"}


def test_the_folder_around_it_must_be_there(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="There is no folder"):
        write_tree(tmp_path / "no such" / "made", TEXTS)
    assert everything_in(tmp_path) == set()


def test_a_folder_that_takes_no_files_is_said(tmp_path: Path):
    name = "x" * 300  # longer than file systems take
    with pytest.raises(ConfigurationError, match="Cannot make the folder") as caught:
        write_tree(tmp_path / name, TEXTS)
    assert "name too long" in caught.value.what
    assert everything_in(tmp_path) == set()


def test_the_tree_shows_folders_before_what_is_in_them():
    assert tree_of("made", TEXTS).splitlines() == [
        "made/",
        "├── README.md",
        "└── src/",
        "    └── made/",
        "        ├── __init__.py",
        "        └── naïve.py",
    ]
