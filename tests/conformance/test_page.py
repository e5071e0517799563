"""The page about the kit says of every test what it promises, in the words of the test, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stageflow.testing import conformance
from stageflow.testing.conformance.body import BodySuite

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins" / "conformance.md").read_text("utf-8")
_, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
PROMISES = {
    section.partition("\n")[0]: re.findall(r"^- `(test_\w+)`: (.+)$", section, re.MULTILINE)
    for section in SECTIONS
}
SUITES = {
    "What stages and tools have in common": BodySuite,
    **{name: getattr(conformance, name) for name in conformance.__all__ if name.endswith("Conformance")},
}


def promises(suite: type) -> list[tuple[str, str]]:
    """Return the tests of a suite, but for those that it inherits, with the first paragraph of each docstring."""
    return [
        (name, " ".join((test.__doc__ or "").partition("\n\n")[0].split()).replace("``", "`"))
        for name, test in vars(suite).items()
        if name.startswith("test_")
    ]


@pytest.mark.parametrize("heading", SUITES)
def test_a_section_says_what_each_test_promises(heading: str):
    assert PROMISES[heading] == promises(SUITES[heading])
    assert all(said.endswith(".") for _, said in PROMISES[heading])


def test_there_are_no_other_promises():
    assert {heading for heading, found in PROMISES.items() if found} == set(SUITES)


def test_the_table_has_every_suite_and_what_its_authors_say():
    rows = dict(re.findall(r"^\| `(\w+Conformance)` \| [^|]+ \| (.+) \|$", PAGE, re.MULTILINE))
    assert set(rows) == set(SUITES) - {"What stages and tools have in common"}
    for name, said in rows.items():
        suite = SUITES[name]
        for attribute in re.findall(r"`(\w+)(?:\(\))?`", said):
            assert hasattr(suite, attribute) or attribute in suite.__annotations__, f"{name}.{attribute}"
