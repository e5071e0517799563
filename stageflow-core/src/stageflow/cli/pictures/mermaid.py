"""A pipeline as a Mermaid flowchart, as GitHub and many documentation tools draw it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.cli.pictures.links import Bond, links_of
from stageflow.cli.pictures.marks import executor_of, is_conditional, kind_said
from stageflow.cli.pictures.palette import hue_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["mermaid"]

_ARROWS = {Bond.DEPENDENCY: "-->", Bond.STREAM: "==>", Bond.HOLD: "-.-x"}
_ENTITIES = {
    '"': "#quot;",
    "<": "#lt;",
    ">": "#gt;",
    "#": "#35;",
    "&": "#amp;",
    "`": "#96;",
    "\\": "#92;",
    "|": "#124;",
}


def mermaid(specs: Sequence[StageSpec], *, title: str = "pipeline") -> str:
    """Return the flowchart.

    Args:
        specs: The stages.
        title: The pipeline's name.
    """
    ids = {spec.name: f"s{number}" for number, spec in enumerate(specs)}
    lines = ["---", f"title: {_quoted_yaml(title)}", "---", "flowchart LR"]
    conditional = {spec.name for spec in specs if is_conditional(spec)}
    for spec in specs:
        said = _label(kind_said(spec))
        if executor := executor_of(spec):
            said += f"<br/>on {_label(executor)}"
        label = f'"{_label(spec.name)}<br/><small>{said}</small>"'
        shape = f"{{{{{label}}}}}" if spec.gates_effects else f"[{label}]"  # a gate is a hexagon
        lines.append(f"    {ids[spec.name]}{shape}:::{spec.kind.value}")
    for link in links_of(specs):
        arrow = _ARROWS[link.bond]
        if link.bond is Bond.DEPENDENCY and link.target in conditional:
            arrow = "-.->"
        said = {Bond.STREAM: "stream", Bond.HOLD: "holds back"}.get(link.bond, "")
        label = " ".join(one for one in (said, link.label) if one)
        text = f'|"{_label(label)}"|' if label else ""
        lines.append(f"    {ids[link.source]} {arrow}{text} {ids[link.target]}")
    for kind in dict.fromkeys(spec.kind.value for spec in specs):
        hue = hue_of(kind)
        lines.append(f"    classDef {kind} fill:{hue.fill},stroke:{hue.solid},color:{hue.text}")
    return "\n".join(lines) + "\n"


def _label(name: str) -> str:
    return "".join(_ENTITIES.get(character, character) for character in name)


def _quoted_yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
