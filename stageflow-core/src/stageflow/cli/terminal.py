"""What the streams can show: colour, live progress, characters beyond ASCII, and how wide they are."""

from __future__ import annotations

import io
import os
import shutil
import sys
from typing import Final, TextIO

__all__ = ["coloured", "lively", "prepare_streams", "speaks_unicode", "width_of"]

_NARROW: Final = 40
_WIDE: Final = 120


def coloured(stream: TextIO) -> bool:
    """Say whether *stream* is a terminal that shows colours, and nobody asked for none (``NO_COLOR``)."""
    return lively(stream) and not os.environ.get("NO_COLOR")


def lively(stream: TextIO) -> bool:
    """Say whether *stream* is a terminal on which a line can be drawn again."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def speaks_unicode(stream: TextIO) -> bool:
    """Say whether *stream* can carry any character."""
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def width_of(stream: TextIO) -> int:
    """Return how many columns a picture on *stream* may have."""
    columns = shutil.get_terminal_size((100, 24)).columns if stream.isatty() else 100
    return max(_NARROW, min(columns, _WIDE))


def prepare_streams() -> None:
    """Make sure that no character can end the program: what a stream cannot carry is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
