"""The page about hooks has a section for each hook, with its argument, its records and their fields."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from stageflow.plugins import hookspecs
from stageflow.plugins.context import PluginContext

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "hooks.md").read_text("utf-8")
INTRODUCTION, *_REST = re.split(r"^## ", PAGE, flags=re.MULTILINE)
SECTIONS = {section.partition("\n")[0]: section for section in _REST}


def table(text: str) -> list[tuple[str, bool]]:
    """Return the names in the first column of the tables in *text*, and whether each is in bold."""
    rows = re.findall(r"^\| (\*\*)?`(\w+)`(?:\*\*)? \|", text, re.MULTILINE)
    return [(name, bool(bold)) for bold, name in rows]


def test_every_hook_has_a_section_with_its_arguments():
    def heading(hook: str) -> str:
        return f"{hook}({', '.join(inspect.signature(getattr(hookspecs, hook)).parameters)})"

    assert set(SECTIONS) == {heading(hook) for hook in hookspecs.HOOKS}


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_has_the_hook_s_records_and_their_fields(heading: str):
    records = hookspecs.HOOKS[heading.partition("(")[0]]
    _, *parts = re.split(r"^### ", SECTIONS[heading], flags=re.MULTILINE)
    assert [part.partition("\n")[0] for part in parts] == [record.__name__ for record in records]
    for part, record in zip(parts, records, strict=True):
        assert table(part) == [(field.name, field.default is MISSING) for field in fields(record)]


def test_the_context_s_attributes_are_listed():
    assert [name for name, _ in table(INTRODUCTION)] == [field.name for field in fields(PluginContext)]
