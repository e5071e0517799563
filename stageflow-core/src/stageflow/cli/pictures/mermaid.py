"""A pipeline as a Mermaid flowchart, as GitHub and many documentation tools draw it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.cli.pictures.palette import hue_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["mermaid"]

_ENTITIES = {'"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "&": "#amp;", "`": "#96;", "\\": "#92;"}


def mermaid(specs: Sequence[StageSpec], *, title: str = "pipeline") -> str:
    """Return the flowchart.

    Args:
        specs: The stages.
        title: The pipeline's name.
    """
    ids = {spec.name: f"s{number}" for number, spec in enumerate(specs)}
    lines = ["---", f"title: {_quoted_yaml(title)}", "---", "flowchart LR"]
    for spec in specs:
        kind = spec.kind.value
        lines.append(f'    {ids[spec.name]}["{_label(spec.name)}<br/><small>{kind}</small>"]:::{kind}')
    for spec in specs:
        arrow = "-.->" if spec.conditional or spec.when is not None else "-->"
        lines += [f"    {ids[one]} {arrow} {ids[spec.name]}" for one in dict.fromkeys(spec.dependencies)]
    for kind in dict.fromkeys(spec.kind.value for spec in specs):
        hue = hue_of(kind)
        lines.append(f"    classDef {kind} fill:{hue.fill},stroke:{hue.solid},color:{hue.text}")
    return "\n".join(lines) + "\n"


def _label(name: str) -> str:
    return "".join(_ENTITIES.get(character, character) for character in name)


def _quoted_yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
