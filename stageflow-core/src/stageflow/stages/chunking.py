"""Cutting a text into chunks that fit, where a reader would cut it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stageflow.context.checks import check_count, check_type, wrong_type, wrong_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["chunk_spans", "chunk_text"]

CHARS_PER_TOKEN: Final = 4
_OWNER: Final = "chunk_text"
# Where to cut, the best place first: after a paragraph, a line, a sentence, a word.
_PLACES: Final = tuple(map(re.compile, (r"\n\s*\n", r"\n", r"[.!?\u2026\u3002]['\")\]]*\s+", r"\s+")))


def chunk_text(
    text: str,
    *,
    max_chars: int | None = None,
    max_tokens: int | None = None,
    overlap: int = 0,
    count_tokens: Callable[[str], int] | None = None,
) -> list[str]:
    """Cut *text* into chunks that fit, at the end of a paragraph, a line, a sentence or a word where there is one.

    Nothing is left out: without an overlap, the chunks in a row are the text.

    Args:
        text: The text.
        max_chars: How long a chunk may be, in characters. Give this or *max_tokens*.
        max_tokens: How long a chunk may be, in tokens.
        overlap: How much of the end of a chunk the next one may repeat, in the same unit.
        count_tokens: Counts the tokens of a text. By default four characters count as one.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: Both limits or none are given, one is below 1, or the overlap is not below the limit.

    ```python
    from stageflow.stages.chunking import chunk_text

    print(chunk_text("One sentence. Another one. The end.", max_chars=20))
    #> ['One sentence. ', 'Another one. ', 'The end.']
    print(chunk_text("a b c d e f", max_chars=4, overlap=2))
    #> ['a b ', 'b c ', 'c d ', 'd e ', 'e f']
    ```
    """
    spans = chunk_spans(
        text, max_chars=max_chars, max_tokens=max_tokens, overlap=overlap, count_tokens=count_tokens
    )
    return [text[start:end] for start, end in spans]


def chunk_spans(
    text: str,
    *,
    max_chars: int | None = None,
    max_tokens: int | None = None,
    overlap: int = 0,
    count_tokens: Callable[[str], int] | None = None,
) -> list[tuple[int, int]]:
    """Return where the chunks of ``chunk_text`` begin and end.

    ```python
    from stageflow.stages.chunking import chunk_spans

    print(chunk_spans("One two three", max_chars=8))
    #> [(0, 8), (8, 13)]
    ```
    """
    check_type(_OWNER, "text", text, str, "a str")
    if (max_chars is None) == (max_tokens is None):
        fix = "Give max_chars= or max_tokens="
        raise wrong_value(_OWNER, "max_chars", "one limit is needed", max_chars, fix=fix)
    argument, limit = ("max_chars", max_chars) if max_tokens is None else ("max_tokens", max_tokens)
    check_count(_OWNER, argument, limit, least=1)
    check_count(_OWNER, "overlap", overlap)
    assert limit is not None  # noqa: S101 - one of the two is given
    if overlap >= limit:
        raise wrong_value(_OWNER, "overlap", f"must be below {argument}", overlap)
    if max_chars is None:
        if count_tokens is not None:
            if not callable(count_tokens):
                raise wrong_type(_OWNER, "count_tokens", "a function of a text", count_tokens)
            return list(_spans(text, _Tokens(text, count_tokens), limit, overlap))
        limit, overlap = limit * CHARS_PER_TOKEN, overlap * CHARS_PER_TOKEN
    return list(_spans(text, _Characters(text), limit, overlap))


class _Characters:
    """Measures in characters."""

    def __init__(self, text: str) -> None:
        self.text = text

    def furthest(self, start: int, limit: int) -> int:
        """Return the furthest end of what begins at *start* and fits."""
        return min(start + limit, len(self.text))

    def earliest(self, start: int, end: int, limit: int) -> int:
        """Return the earliest start, not before *start*, of what ends at *end* and fits."""
        return max(end - limit, start)


class _Tokens(_Characters):
    """Measures in tokens, with as few calls of the counter as it takes to find the place by halving."""

    def __init__(self, text: str, count: Callable[[str], int]) -> None:
        super().__init__(text)
        self._count = count

    def furthest(self, start: int, limit: int) -> int:
        text, length = self.text, len(self.text)
        low = high = start + 1  # a chunk has one character at least, whatever it counts
        step = limit * CHARS_PER_TOKEN
        while high < length and self._count(text[start:high]) <= limit:
            low, high, step = high, min(high + step, length), step * 2
        if self._count(text[start:high]) <= limit:
            return high
        while high - low > 1:
            middle = (low + high) // 2
            if self._count(text[start:middle]) <= limit:
                low = middle
            else:
                high = middle
        return low

    def earliest(self, start: int, end: int, limit: int) -> int:
        low, high = start, end
        while low < high:
            middle = (low + high) // 2
            if self._count(self.text[middle:end]) <= limit:
                high = middle
            else:
                low = middle + 1
        return low


def _spans(text: str, measure: _Characters, limit: int, overlap: int) -> Iterator[tuple[int, int]]:
    start = before = 0
    length = len(text)
    while start < length:
        end = measure.furthest(start, limit)
        if end <= before:  # the tokens of what is repeated leave no room for anything new
            start = before
            continue
        if end < length:
            end = _cut(text, max(start, before) + 1, end)
        yield start, end
        if end == length:
            return
        start, before = _next_start(text, start, end, measure, overlap), end


def _cut(text: str, first: int, last: int) -> int:
    """Return the best place to cut between *first* and *last*, both included."""
    middle = (first + last) // 2
    for place in _PLACES:
        # A short chunk is worth it for the end of a paragraph, but not for one that is nearly empty.
        ends = [
            one.end() for one in place.finditer(text, middle, min(last + 1, len(text))) if one.end() <= last
        ]
        if ends:
            return ends[-1]
    return last


def _next_start(text: str, start: int, end: int, measure: _Characters, overlap: int) -> int:
    if not overlap:
        return end
    earliest = measure.earliest(start + 1, end, overlap)
    if earliest == 0 or text[earliest - 1].isspace():
        return earliest
    # Not in the middle of a word, if the repeated part has more than that.
    word = _PLACES[-1].search(text, earliest, end)
    return earliest if word is None or word.end() >= end else word.end()
