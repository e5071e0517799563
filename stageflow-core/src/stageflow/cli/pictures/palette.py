"""The colour of each kind of stage, the same in every picture."""

from __future__ import annotations

from typing import Final, NamedTuple

from stageflow.stages.stage import StageKind

__all__ = ["GREY", "HOLD", "INK", "LINE", "PAPER", "STREAM", "Hue", "hue_of"]

INK: Final = "#1f2933"
LINE: Final = "#9aa5b1"
GREY: Final = "#616e7c"
PAPER: Final = "#ffffff"
STREAM: Final = "#157f85"
HOLD: Final = "#b83232"


class Hue(NamedTuple):
    """One colour in three strengths, and its name for a terminal."""

    fill: str
    solid: str
    text: str
    terminal: str


# Dark text on a light fill: at least 7 to 1 in contrast, also for readers who do not tell red from green.
_HUES: Final = {
    StageKind.GUARD: Hue("#fde8e8", "#d64545", "#7b1e1e", "red"),
    StageKind.ENRICH: Hue("#e3f9e5", "#2f9e6e", "#0f4f33", "green"),
    StageKind.ROUTE: Hue("#fff3c4", "#d9a21b", "#5c3d00", "yellow"),
    StageKind.TRANSFORM: Hue("#dceefb", "#2f7fc2", "#0b3a66", "blue"),
    StageKind.WORK: Hue("#eae2f8", "#7a4fc0", "#3a1d73", "magenta"),
    StageKind.AGENT: Hue("#d9f5f5", "#1f9aa0", "#0b4a4d", "cyan"),
}


def hue_of(kind: str) -> Hue:
    """Return the colour of a kind."""
    return _HUES[StageKind(kind)]
