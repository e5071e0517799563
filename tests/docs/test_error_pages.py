"""Every error code has a page whose example raises it, and every page is about a code that exists."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pytest_examples import CodeExample, find_examples
from stageflow.errors import BuildProblem, StageflowError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference" / "errors"
CODE = re.compile(r"SF(-[A-Z]+)+")
PAGES = sorted(path.stem for path in FOLDER.glob("SF-*.md"))
EXAMPLES = [one for code in PAGES for one in find_examples(FOLDER / f"{code}.md")]
PACKAGES = {path.name for path in ROOT.glob("stageflow-*/src/stageflow*") if path.is_dir()}
PARTS = ("## Example", "## What to do")


def codes_in_the_sources() -> set[str]:
    """Return every string in the packages that is a code and nothing else, however it becomes an error's."""
    found: set[str] = set()
    for source in ROOT.glob("stageflow-*/src/**/*.py"):
        with source.open(
            "rb"
        ) as file:  # by tokens: `ast` of 3.11 may fail in a process that has met RecursionErrors
            texts = [one.string for one in tokenize.tokenize(file.readline) if one.type == tokenize.STRING]
        found.update(text[1:-1] for text in texts if CODE.fullmatch(text[1:-1]))
    return found


def test_codes_and_pages_are_the_same():
    assert set(PAGES) == codes_in_the_sources()


def test_every_error_class_has_a_code_with_a_page():
    def tree(cls: type[StageflowError]) -> set[type[StageflowError]]:
        return {cls}.union(*(tree(sub) for sub in cls.__subclasses__()))

    # What the program, or a test, has loaded from a file may be called like us, and is none of our packages.
    ours = {cls for cls in tree(StageflowError) if cls.__module__.partition(".")[0] in PACKAGES}
    assert {cls.code for cls in ours} <= set(PAGES)


@pytest.mark.parametrize("code", PAGES)
def test_page_has_its_parts(code: str):
    lines = (FOLDER / f"{code}.md").read_text("utf-8").splitlines()
    assert lines[0].startswith(f"# {code}: ")
    assert [line for line in lines if line.startswith("## ")] == list(PARTS)
    assert len([one for one in EXAMPLES if one.path.stem == code]) == 1


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.path.stem)
def test_the_example_raises_its_code(
    example: CodeExample,
    run_block: Callable[[CodeExample], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    raised: set[str] = set()
    for cls in (StageflowError, BuildProblem):

        def recording(self, *args, _init=cls.__init__, **kwargs) -> None:
            _init(self, *args, **kwargs)
            raised.add(self.code)

        monkeypatch.setattr(cls, "__init__", recording)
    run_block(example)
    # What another process raises, or a linter finds, is at least shown.
    shown = {match.group() for match in CODE.finditer(capsys.readouterr().out)}
    assert example.path.stem in raised | shown


def test_the_index_lists_every_page_with_its_title():
    rows = re.findall(r"^\| \[(SF-[A-Z-]+)\]\((SF-[A-Z-]+)\.md\) \| (.+?) \|$", index(), re.MULTILINE)
    titles = {code: (FOLDER / f"{code}.md").read_text("utf-8").splitlines()[0] for code in PAGES}
    assert {(code, link, f"# {code}: {title}") for code, link, title in rows} == {
        (code, code, title) for code, title in titles.items()
    }
    assert len(rows) == len(PAGES)


def index() -> str:
    return (FOLDER / "index.md").read_text("utf-8")
