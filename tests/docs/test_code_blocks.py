"""Every Python block of every page and docstring runs by itself, and prints what its `#>` comments say.

A block that is no whole program is fenced as `text`, or as what it is: `python` promises that it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pytest_examples import CodeExample, find_examples

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    ROOT / "README.md",
    ROOT / "docs",
    *ROOT.glob("stageflow-*/README.md"),
    *ROOT.glob("stageflow-*/src"),
]
EXAMPLES = sorted(
    find_examples(*(source for source in SOURCES if source.exists())),
    key=lambda example: (str(example.path), example.start_line),
)
PAGES = sorted({example.path for example in EXAMPLES})


def name_of(value: object) -> str:
    """Return a test's name: the file, and the line of a block."""
    if isinstance(value, CodeExample):
        return f"{value.path.relative_to(ROOT)}:{value.start_line}"
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else ""


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_block_runs_and_prints_what_it_says(
    example: CodeExample, run_block: Callable[[CodeExample], None], capsys: pytest.CaptureFixture[str]
):
    run_block(example)
    lines = (line.lstrip() for line in example.source.splitlines())
    said = [line[2:].removeprefix(" ") for line in lines if line.startswith("#>")]
    assert capsys.readouterr().out.splitlines() == said


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_are_fenced_as_python(page: Path):
    assert {example.prefix for example in EXAMPLES if example.path == page} == {"python"}
