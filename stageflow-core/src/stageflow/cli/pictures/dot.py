"""A pipeline in the language of Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.cli.pictures.links import Bond, links_of
from stageflow.cli.pictures.marks import executor_of, is_conditional, kind_said
from stageflow.cli.pictures.palette import GREY, HOLD, LINE, STREAM, hue_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.cli.pictures.links import Link
    from stageflow.stages.spec import StageSpec

__all__ = ["dot"]


def dot(specs: Sequence[StageSpec], *, title: str = "pipeline") -> str:
    """Return the digraph.

    Args:
        specs: The stages.
        title: The pipeline's name.
    """
    lines = [
        f"digraph {_quoted(title)} {{",
        "    rankdir=LR",
        '    node [shape=box style="rounded,filled" fontname="sans-serif" fontsize=12]',
        f'    edge [color="{LINE}" fontcolor="{GREY}" fontname="sans-serif" fontsize=10]',
    ]
    for spec in specs:
        hue = hue_of(spec.kind.value)
        label = f"{_escaped(spec.name)}\\n{_escaped(kind_said(spec))}"
        if executor := executor_of(spec):
            label += f"\\non {_escaped(executor)}"
        style = f'fillcolor="{hue.fill}" color="{hue.solid}" fontcolor="{hue.text}"'
        if spec.gates_effects:
            style += " shape=octagon penwidth=2"
        outline = ",dashed" if is_conditional(spec) else ""
        if outline or spec.gates_effects:  # corners that are cut off cannot be rounded as well
            style += f' style="{"" if spec.gates_effects else "rounded,"}filled{outline}"'
        lines.append(f'    {_quoted(spec.name)} [label="{label}" {style}]')
    lines += [
        f"    {_quoted(link.source)} -> {_quoted(link.target)}{_look(link)}" for link in links_of(specs)
    ]
    return "\n".join([*lines, "}"]) + "\n"


def _look(link: Link) -> str:
    """Return the attributes of an edge that is no plain dependency."""
    if link.bond is Bond.STREAM:
        label = f"stream {link.label}".rstrip()
        return f' [label={_quoted(label)} color="{STREAM}:white:{STREAM}" fontcolor="{STREAM}"]'
    if link.bond is Bond.HOLD:
        return f' [label="holds back" style=dotted arrowhead=tee color="{HOLD}" fontcolor="{HOLD}"]'
    return f" [label={_quoted(link.label)}]" if link.label else ""


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
