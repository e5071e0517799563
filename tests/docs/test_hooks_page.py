"""Each hook has a page: its argument, its records, their fields, an example, and the suite that tries its target."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from stageflow.plugins import hookspecs
from stageflow.plugins.context import PluginContext
from stageflow.testing import conformance

DOCS = Path(__file__).resolve().parents[2] / "docs"
INDEX = (DOCS / "reference" / "hooks.md").read_text("utf-8")
PAGES = {page.stem: page.read_text("utf-8") for page in (DOCS / "plugins" / "hooks").glob("*.md")}


def table(text: str) -> list[tuple[str, bool]]:
    """Return the names in the first column of the tables in *text*, and whether each is in bold."""
    rows = re.findall(r"^\| (\*\*)?`(\w+)`(?:\*\*)? \|", text, re.MULTILINE)
    return [(name, bool(bold)) for bold, name in rows]


def test_every_hook_has_a_page_and_a_row_in_the_index():
    assert set(PAGES) == set(hookspecs.HOOKS)
    rows = re.findall(r"^\| \[`(\w+)`\]\(\.\./plugins/hooks/(\w+)\.md\) \| ([^|]+) \|", INDEX, re.MULTILINE)
    assert {name for name, _, _ in rows} == {page for _, page, _ in rows} == set(hookspecs.HOOKS)
    for name, _, returns in rows:
        assert re.findall(r"`(\w+)`", returns) == [record.__name__ for record in hookspecs.HOOKS[name]]


@pytest.mark.parametrize("hook", PAGES)
def test_a_page_has_the_hook_s_argument_its_records_and_their_fields(hook: str):
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert PAGES[hook].partition("\n")[0] == f"# {hook}({arguments})"
    _, *parts = re.split(r"^## ", PAGES[hook], flags=re.MULTILINE)
    records = hookspecs.HOOKS[hook]
    names = [part.partition("\n")[0] for part in parts]
    assert names == [record.__name__ for record in records] + [
        "Example",
        "What its target promises",
        "If it goes wrong",
    ]
    for part, record in zip(parts, records, strict=False):
        assert table(part) == [(field.name, field.default is MISSING) for field in fields(record)]


@pytest.mark.parametrize("hook", PAGES)
def test_a_page_names_a_suite_that_there_is(hook: str):
    (suite,) = re.findall(r"`(\w+Conformance)`", PAGES[hook])
    assert hasattr(conformance, suite)


def test_the_context_s_attributes_are_listed():
    assert [name for name, _ in table(INDEX)] == [field.name for field in fields(PluginContext)]
