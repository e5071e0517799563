"""Text in pictures: how wide it is, how it is shortened, and how it is escaped."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["columns", "duration", "escape", "padded", "shorten", "text_width"]

# What XML 1.0 has no way to write.
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Up to where, in which unit, with how many digits: always about three that count.
_DURATIONS: Final = (
    (1_000_000, 1e6, 2, "ms"),
    (9_950_000, 1e6, 1, "ms"),
    (999_500_000, 1e6, 0, "ms"),
    (9_995_000_000, 1e9, 2, "s"),
    (59_950_000_000, 1e9, 1, "s"),
)
_NARROW: Final = frozenset("fijlrt.,:;'|!()[] -I1")
_BROAD: Final = frozenset("mwMW@%")


def escape(text: str) -> str:
    """Return *text* for the inside of an XML element or of a quoted attribute."""
    text = _NOT_XML.sub("\ufffd", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def columns(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    return sum(_columns_of(character) for character in text)


def padded(text: str, width: int) -> str:
    """Return *text* with spaces up to *width* columns."""
    return text + " " * (width - columns(text))


def shorten(text: str, most: int) -> str:
    """Return *text* in at most *most* columns."""
    if columns(text) <= most:
        return text
    kept, used = "", 0
    for character in text:
        used += _columns_of(character)
        if used > most - 1:
            break
        kept += character
    return kept + "…"


def text_width(text: str, size: float) -> float:
    """Estimate, rather too wide than too narrow, how wide *text* is in a sans-serif font of *size*."""
    return size * sum(_width_of(character) for character in text)


def duration(ns: int) -> str:
    """Return a length of time as it is easy to read.

    ```python
    from stageflow.cli.pictures.lettering import duration

    print(duration(1_234_567), duration(72_000_000_000))
    #> 1.2 ms 1 min 12 s
    ```
    """
    for below, unit, digits, name in _DURATIONS:
        if ns < below:
            return f"{ns / unit:.{digits}f} {name}"
    minutes, seconds = divmod(round(ns / 1e9), 60)
    return f"{minutes} min {seconds} s"


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _width_of(character: str) -> float:
    if _columns_of(character) != 1:
        return 1.05 * _columns_of(character) / 2
    if character in _NARROW:
        return 0.36
    if character in _BROAD:
        return 0.92
    return 0.72 if character.isupper() else 0.59
