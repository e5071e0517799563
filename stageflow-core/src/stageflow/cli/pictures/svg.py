"""The pieces that every SVG picture is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stageflow.cli.pictures.lettering import escape, text_width
from stageflow.cli.pictures.palette import GREY, INK, PAPER, hue_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "BOLD",
    "FONT",
    "document",
    "heading",
    "heading_width",
    "kind_legend",
    "legend_width",
    "moved",
    "number",
    "sample_rows",
    "text",
]

FONT: Final = "Inter, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
BOLD: Final = 1.08
"""How much wider bold text is."""

_LEGEND_SIZE: Final = 11
_SAMPLE: Final = 26.0
_TITLE_SIZE: Final = 16
_SAID_SIZE: Final = 12


def number(value: float) -> str:
    """Return a coordinate with as many digits as a picture needs."""
    return f"{value:.1f}".removesuffix(".0")


def text(
    x: float,
    y: float,
    content: str,
    *,
    size: float = 12,
    fill: str = INK,
    anchor: str = "start",
    weight: str = "",
    halo: bool = False,
) -> str:
    """Return one line of text; *x* and *y* are its baseline's start, middle or end; a halo keeps lines out of it."""
    bold = f' font-weight="{weight}"' if weight else ""
    bold += f' stroke="{PAPER}" stroke-width="4" stroke-linejoin="round" paint-order="stroke"' if halo else ""
    where = f'x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"'
    return f'<text {where} font-size="{number(size)}" fill="{fill}"{bold}>{escape(content)}</text>'


def heading(x: float, y: float, title: str, said: str) -> str:
    """Return a title with something smaller behind it; the reader's own fonts decide where that begins."""
    large = f'<tspan font-size="{_TITLE_SIZE}" font-weight="600" fill="{INK}">{escape(title)}</tspan>'
    small = f'<tspan dx="10" font-size="{_SAID_SIZE}" fill="{GREY}">{escape(said)}</tspan>'
    return f'<text x="{number(x)}" y="{number(y)}">{large}{small}</text>'


def heading_width(title: str, said: str) -> float:
    """Return how wide a heading is."""
    return text_width(title, _TITLE_SIZE) * BOLD + text_width(said, _SAID_SIZE) + 10


def legend_width(kinds: Iterable[str]) -> float:
    """Return how wide the legend of *kinds* is."""
    return sum(text_width(kind, _LEGEND_SIZE) + 34 for kind in kinds)


def kind_legend(x: float, y: float, kinds: Sequence[str], *, solid: bool = False) -> list[str]:
    """Return the legend of *kinds*, on one line whose baseline is *y*; *solid* as bars are, or light as boxes."""
    parts: list[str] = []
    for kind in kinds:
        hue = hue_of(kind)
        square = f'x="{number(x)}" y="{number(y - 9)}" width="11" height="11" rx="3"'
        parts.append(f'<rect {square} fill="{hue.solid if solid else hue.fill}" stroke="{hue.solid}"/>')
        parts.append(text(x + 16, y, kind, size=_LEGEND_SIZE, fill=GREY))
        x += text_width(kind, _LEGEND_SIZE) + 34
    return parts


def sample_rows(samples: Iterable[tuple[str, Sequence[str]]], width: float) -> list[list[str]]:
    """Return a legend in as many rows as it needs; one row is 20 pixels high, and its baseline is at 0.

    Args:
        samples: For each a word, and a piece of a picture, drawn from 0, 0 to the right.
        width: How wide a row may be.
    """
    rows: list[list[str]] = []
    x = width
    for said, drawn in samples:
        size = text_width(said, _LEGEND_SIZE) + _SAMPLE + 24
        if x + size > width:
            rows.append([])
            x = 0.0
        rows[-1].append(moved(x, -4, drawn))
        rows[-1].append(text(x + _SAMPLE + 6, 0, said, size=_LEGEND_SIZE, fill=GREY))
        x += size
    return rows


def moved(x: float, y: float, drawn: Iterable[str]) -> str:
    """Return pieces of a picture, moved."""
    return f'<g transform="translate({number(x)} {number(y)})">{"".join(drawn)}</g>'


def document(width: float, height: float, *, title: str, summary: str, body: Iterable[str]) -> str:
    """Return a whole SVG file on white paper, which also shows on a dark page."""
    size = f'width="{number(width)}" height="{number(height)}" viewBox="0 0 {number(width)} {number(height)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(summary)}</desc>",
        f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>',
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
