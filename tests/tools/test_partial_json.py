"""The beginning of a document says what it says, at every split, and what it has said stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow_tools.partial_json import parse_partial_json

DEEP = settings().max_examples > 100

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)))
    | st.sampled_from(['"', "\\", "\\u00e9", "😀", "\x00\x1f", "1e5", "a: 12", "[{", "é" * 3])
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def continues(before: Any, after: Any) -> bool:
    """Say whether *after* is *before* and more: strings and lists longer, objects with more keys, the rest equal."""
    if isinstance(before, str) and isinstance(after, str):
        return after.startswith(before)
    if isinstance(before, list) and isinstance(after, list):
        return len(before) <= len(after) and all(map(continues, before, after))
    if isinstance(before, dict) and isinstance(after, dict):
        return list(after)[: len(before)] == list(before) and all(
            continues(before[key], after[key]) for key in before
        )
    return type(before) is type(after) and before == after


@pytest.mark.timeout(300)
@settings(max_examples=2_000 if DEEP else 250, deadline=None)
@given(document=DOCUMENTS, indent=st.sampled_from([None, 1]), escaped=st.booleans())
def test_every_split_point_shows_a_beginning_of_the_whole(
    document: Any, indent: int | None, *, escaped: bool
):
    text = json.dumps(document, ensure_ascii=escaped, indent=indent)
    shown: list[Any] = [parse_partial_json(text[:end]) for end in range(len(text) + 1)]

    assert shown[-1] == json.loads(text)
    assert type(shown[-1]) is type(document)
    if isinstance(document, (int, float)):
        return  # a bare number is all there is, and so shows as far as it has come
    seen = [one for one in shown if one is not None]
    assert all(map(continues, seen, seen[1:]))
    if isinstance(document, (dict, list, str)):
        assert None not in shown[1:]  # from the first bracket or quote on there is something to show


@pytest.mark.timeout(300)
@settings(max_examples=2_000 if DEEP else 250, deadline=None)
@given(st.text() | st.text(st.sampled_from('{}[]",:\\u0d8e1-+. \n')))
def test_no_text_raises(text: str):
    for end in range(len(text) + 1):
        parse_partial_json(text[:end])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("  ", None),
        ("nul", None),
        ('{"a', {}),
        ('{"a": ', {}),
        ('{"a": 12', {}),
        ('{"a": 12,', {"a": 12}),
        ('{"a": 12 ', {"a": 12}),
        ('{"a": -', {}),
        ('{"a": 1.5e', {}),
        ('{"a": tru', {}),
        ("[1, 2", [1]),
        ("12", 12),
        ('{"a": "12', {"a": "12"}),
        ('{"a": "\\"12', {"a": '"12'}),
        ('{"a\\\\": "x", "b": 12', {"a\\": "x"}),
        ('{"a": "x\\', {"a": "x"}),
        ('{"a": "x\\u00', {"a": "x"}),
        ('{"a": "x\\ud83d', {"a": "x"}),
        ('{"a": "x\\ud83d\\ude0', {"a": "x"}),
        ('{"a": "x\\ud83d\\ude00', {"a": "x😀"}),
        ("{a", None),
        ('{"a": NaN', None),
        ("[" * 10_000, None),
        ('{"a": "\ud800', None),
    ],
)
def test_what_shows(text: str, value: Any):
    assert parse_partial_json(text) == value


@pytest.mark.parametrize("value", [None, 1, object(), ["{"]])
def test_what_is_no_text_shows_nothing(value: Any):
    assert parse_partial_json(value) in (None, {})


def test_quotes_and_digits_take_linear_time():
    # Each of these makes a backtracking pattern quadratic: the test would then run into its time-out.
    for text in ('"' * 1_000_001 + "1", '{"a": "' + '\\"' * 500_000 + "1", '{"a": ' + "1" * 1_000_000):
        parse_partial_json(text)
