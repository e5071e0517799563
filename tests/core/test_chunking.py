"""Chunks fit, lose nothing, and are cut where a reader would cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.stages.chunking import chunk_spans, chunk_text

TEXTS = st.text(st.sampled_from("ab .\n!?'é\u3002\U0001f600"), max_size=200)


def words(text: str) -> int:
    return len(text.split())


@given(TEXTS, st.integers(1, 30), st.integers(0, 29))
def test_chunks_fit_follow_each_other_and_lose_nothing(text, limit, overlap):
    overlap = min(overlap, limit - 1)
    spans = chunk_spans(text, max_chars=limit, overlap=overlap)
    assert chunk_text(text, max_chars=limit, overlap=overlap) == [text[a:b] for a, b in spans]
    assert all(0 < b - a <= limit for a, b in spans)
    assert ([a for a, _ in spans[:1]], [b for _, b in spans[-1:]]) == (
        ([0], [len(text)]) if text else ([], [])
    )
    for (a, b), (c, d) in pairwise(spans):
        assert a < c <= b < d
        assert b - c <= overlap


@given(TEXTS, st.integers(1, 10), st.integers(0, 9))
def test_chunks_of_tokens_fit_by_the_counter_given(text, limit, overlap):
    overlap = min(overlap, limit - 1)
    spans = chunk_spans(text, max_tokens=limit, overlap=overlap, count_tokens=words)
    assert all(words(text[a:b]) <= limit for a, b in spans)
    for (a, b), (c, d) in pairwise(spans):
        assert a < c <= b < d
        assert words(text[c:b]) <= overlap
    if not overlap:
        assert "".join(text[a:b] for a, b in spans) == text


@given(TEXTS, st.integers(1, 10))
def test_by_default_four_characters_are_a_token(text, limit):
    assert chunk_text(text, max_tokens=limit) == chunk_text(text, max_chars=limit * 4)


def test_the_best_place_to_cut():
    assert chunk_text("One para.\n\nTwo. Three. Four", max_chars=18) == ["One para.\n\n", "Two. Three. Four"]
    assert chunk_text("a line here\nand two. more", max_chars=20) == ["a line here\n", "and two. more"]
    assert chunk_text('He said "no." Then he left.', max_chars=20) == ['He said "no." ', "Then he left."]
    assert chunk_text("one two three", max_chars=9) == ["one two ", "three"]
    assert chunk_text("abcdefgh", max_chars=3) == ["abc", "def", "gh"]


def test_an_overlap_begins_with_a_whole_word():
    assert chunk_text("alpha beta gamma delta", max_chars=12, overlap=7) == [
        "alpha beta ",
        "beta gamma ",
        "gamma delta",
    ]


def test_an_overlap_of_tokens():
    assert chunk_text("a b c d e f", max_tokens=3, overlap=1, count_tokens=words) == [
        "a b c ",
        "c d e ",
        "e f",
    ]


def test_an_overlap_that_leaves_no_room_is_left_out():
    twice = chunk_text("abc def ghi", max_tokens=3, overlap=2, count_tokens=lambda text: 2 * words(text))
    assert twice == ["abc ", "def ", "ghi"]


def test_where_the_overlap_holds_one_word_only_it_is_cut():
    assert chunk_text("abcdefgh", max_chars=4, overlap=2) == ["abcd", "cdef", "efgh"]


def test_a_counter_that_never_fits_still_comes_to_an_end():
    assert chunk_text("abc", max_tokens=1, count_tokens=lambda text: 5) == ["a", "b", "c"]


def test_a_megabyte_takes_a_counter_few_calls():
    calls = []

    def count(text):
        calls.append(len(text))
        return len(text) // 4

    text = "word " * 200_000
    chunks = chunk_text(text, max_tokens=1000, count_tokens=count)
    assert "".join(chunks) == text
    assert len(calls) < 20 * len(chunks)
    assert max(calls) < 20_000


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ArgumentValueError),
        ({"max_chars": 1, "max_tokens": 1}, ArgumentValueError),
        ({"max_chars": 0}, ArgumentValueError),
        ({"max_tokens": -1}, ArgumentValueError),
        ({"max_chars": 2.0}, ArgumentTypeError),
        ({"max_chars": float("nan")}, ArgumentTypeError),
        ({"max_chars": True}, ArgumentTypeError),
        ({"max_chars": 5, "overlap": 5}, ArgumentValueError),
        ({"max_chars": 5, "overlap": -1}, ArgumentValueError),
        ({"max_chars": 5, "overlap": "1"}, ArgumentTypeError),
        ({"max_tokens": 5, "count_tokens": 3}, ArgumentTypeError),
    ],
    ids=str,
)
def test_bad_limits(arguments, error):
    with pytest.raises(error):
        chunk_text("text", **arguments)


def test_only_text_is_cut():
    for wrong in (None, b"text", 7):
        with pytest.raises(ArgumentTypeError):
            chunk_text(wrong, max_chars=3)
