"""How the parts of a stage's time look: each has a sign of its own, so that pictures read without colours, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stageflow.cli.pictures.palette import GREY, LINE
from stageflow.stages.part import Part

if TYPE_CHECKING:
    from stageflow.runtime.timeline import Gain, StageTimeline

__all__ = ["LOOKS", "Look", "gain_said", "waited_ns", "worked_ns"]

_WORK: Final = (Part.RUN, Part.TRANSPORT)


class Look(NamedTuple):
    """How one part looks.

    Attributes:
        sign: What its bar is made of on a terminal.
        plain: The same in ASCII.
        style: Its colour on a terminal; that of RUN is the colour of the stage's kind.
        colour: Its colour in SVG.
        said: What a legend says of it.
        without: What one would have to change for it to take no time; ``{}`` is the stage.
    """

    sign: str
    plain: str
    style: str
    colour: str
    said: str
    without: str


LOOKS: Final = {
    Part.RUN: Look("█", "#", "", "#1f2933", "runs", "{} took no time"),
    Part.TRANSPORT: Look("▒", ">", "", "#1f2933", "moves its data", "{} moved no data"),
    Part.STREAM: Look("≈", "=", "cyan", "#1f9aa0", "waits on a stream", "{} did not wait on a stream"),
    Part.APPROVAL: Look("?", "?", "yellow", "#b7791f", "waits for approval", "{} needed no approval"),
    Part.GATE: Look("|", "|", "red", "#c53030", "waits at the gate", "{} did not wait at the gate"),
    Part.BACKOFF: Look(
        "~", "~", "yellow", "#d9a21b", "waits for another attempt", "{} did not wait between attempts"
    ),
    Part.QUEUE: Look("░", ":", "dim", GREY, "waits for its turn", "{} did not queue"),
    Part.DEPENDENCIES: Look("·", ".", "dim", LINE, "waits for dependencies", "{} waited for nobody"),
}
"""All parts, in the order of a legend: work first, then waits."""


def worked_ns(stage: StageTimeline) -> int:
    """Return how long a stage was at work, in nanoseconds: it ran, or its data were on their way."""
    totals = stage.totals
    return sum(totals.get(part, 0) for part in _WORK)


def waited_ns(stage: StageTimeline) -> int:
    """Return how long a stage waited, for whatever it was, in nanoseconds."""
    return stage.total_ns - worked_ns(stage)


def gain_said(gain: Gain, stage: str) -> str:
    """Say under which condition a run would have ended sooner.

    Args:
        gain: What would have been gained.
        stage: What the stage is called in this picture.
    """
    return f"if {LOOKS[gain.part].without.format(stage)}"
