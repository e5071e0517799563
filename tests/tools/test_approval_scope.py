"""Patterns of scopes, against a slow and plain reading of what they promise."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow_tools.approval_scope import ApprovalScope, pattern_matches

DEEP = settings().max_examples > 100
EXAMPLES = 50_000 if DEEP else 500
PARTS = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "*a*", "a*b*a", "**", "", ".", "..", "*."])
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
SEGMENTS = st.sampled_from(["a", "b", "ab", "aba", "abab", "", ".", "..", "a.", "a\\..", "...", "**"])
TEXTS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)


def wild(segment: str) -> bool:
    return bool(segment) and segment not in {".", ".."} and ".." not in segment.split("\\")


def segment_fits(pattern: str, text: str) -> bool:
    if "*" not in pattern:
        return pattern == text
    return wild(text) and letters_fit(pattern, text)


def letters_fit(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(letters_fit(pattern[1:], text[count:]) for count in range(len(text) + 1))
    return text[:1] == pattern[0] and letters_fit(pattern[1:], text[1:])


def fits(pattern: list[str], text: list[str]) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "**":
        runs = itertools.takewhile(lambda count: wild(text[count - 1]), range(1, len(text) + 1))
        return any(fits(pattern[1:], text[count:]) for count in runs)
    return bool(text) and segment_fits(pattern[0], text[0]) and fits(pattern[1:], text[1:])


@pytest.mark.timeout(600 if DEEP else 60)
@settings(max_examples=EXAMPLES)
@given(pattern=PATTERNS, text=TEXTS)
def test_patterns_match_what_they_promise(pattern: str, text: str):
    expected = pattern == "**" or fits(pattern.split("/"), text.split("/"))
    assert pattern_matches(pattern, text) == expected


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("docs/**", "docs/../secrets"),
        ("docs/*", "docs/.."),
        ("docs/**", "docs/a/../../secrets"),
        ("docs/*", "docs/..\\secrets"),
        ("docs/*", "docs/"),
        ("docs/**", "docs"),
        ("docs/*", "Docs/a"),
        ("*@acme.com", "a/b@acme.com"),
        ("a", "a\n"),
        ("", "a"),
    ],
)
def test_what_must_not_match(pattern: str, text: str):
    assert not pattern_matches(pattern, text)


def test_matching_takes_no_power_of_the_length():
    assert not pattern_matches("*a" * 200 + "b", "a" * 100_000)
    assert not pattern_matches("**/a/" * 50 + "b", "a/" * 2_000)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"of": "twice"}, ArgumentValueError),
        ({"of": "tenant:"}, ArgumentValueError),
        ({"of": ""}, ArgumentValueError),
        ({"of": 7}, ArgumentTypeError),
        ({"max_uses": 2}, ArgumentValueError),
        ({"of": "run", "max_uses": 0}, ArgumentValueError),
        ({"of": "run", "max_uses": 1001}, ArgumentValueError),
        ({"of": "run", "max_uses": True}, ArgumentTypeError),
        ({"arguments": ["a"]}, ArgumentTypeError),
        ({"arguments": {"a": ""}}, ArgumentValueError),
        ({"arguments": {"a": 7}}, ArgumentTypeError),
        ({"arguments": {7: "a"}}, ArgumentTypeError),
    ],
    ids=str,
)
def test_scopes_are_checked(options: dict[str, object], error: type[Exception]):
    with pytest.raises(error):
        ApprovalScope(**options)


def test_a_scope_does_not_change():
    patterns = {"path": "docs/*"}
    scope = ApprovalScope("run", arguments=patterns)
    patterns["path"] = "**"
    assert dict(scope.arguments) == {"path": "docs/*"}
    assert scope == ApprovalScope("run", arguments={"path": "docs/*"})


def test_an_open_argument_may_be_anything_or_nothing():
    scope = ApprovalScope("run", arguments={"path": "**"})
    for arguments in ({}, {"path": 7}, {"path": None}, {"path": "../.."}, {"path": [1]}):
        assert scope.allows_arguments(arguments, {"path": "a"})
    assert not scope.allows_arguments({"mode": "x"}, {"path": "a"})
