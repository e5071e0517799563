"""The little of PEP 440 that doctor needs, held against the library that defines it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from stageflow.cli.versions import is_within, parse_requirement

numbers = st.integers(0, 3).map(str)
releases = st.lists(numbers, min_size=1, max_size=3).map(".".join)
suffixes = st.sampled_from(["", "a1", "b2", "rc1", ".post1", ".dev1", "a1.dev2", ".post1.dev1", "a1.post2"])
versions = st.tuples(releases, suffixes).map("".join)
clauses = st.one_of(
    st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), versions).map("".join),
    st.tuples(st.sampled_from(["==", "!="]), releases).map(lambda pair: f"{pair[0]}{pair[1]}.*"),
    st.lists(numbers, min_size=2, max_size=3).map(lambda parts: f"~={'.'.join(parts)}"),
)


@given(versions, st.lists(clauses, min_size=1, max_size=2).map(",".join))
def test_ranges_mean_what_the_library_says(version: str, wanted: str) -> None:
    assert is_within(version, wanted) is SpecifierSet(wanted).contains(version, prereleases=True)


@pytest.mark.parametrize(
    "line",
    [
        "pluggy<2,>=1.7",
        'click>=8.1; extra == "cli"',
        "stageflow-core[cli,tools]; extra == 'all'",
        "A.b_c (>=1.0)",
        "typing-extensions>=4; python_version < '3.12' and extra == 'x-y'",
        "plain",
    ],
)
def test_requirements_are_taken_apart_as_the_library_does(line: str) -> None:
    mine, theirs = parse_requirement(line), Requirement(line)
    assert mine is not None
    assert mine.name == theirs.name
    assert SpecifierSet(mine.range) == theirs.specifier


def test_what_cannot_be_read() -> None:
    assert is_within("nonsense", ">=1") is None
    assert is_within("1.0", "=>1") is None
    assert parse_requirement("; nothing") is None
