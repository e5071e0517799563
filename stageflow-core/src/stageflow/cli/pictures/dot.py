"""A pipeline in the language of Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.cli.pictures.palette import LINE, hue_of

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        f'    edge [color="{LINE}"]',
    ]
    for spec in specs:
        hue = hue_of(spec.kind.value)
        label = f"{_escaped(spec.name)}\\n{spec.kind.value}"
        style = f'fillcolor="{hue.fill}" color="{hue.solid}" fontcolor="{hue.text}"'
        if spec.conditional or spec.when is not None:
            style += ' style="rounded,filled,dashed"'
        lines.append(f'    {_quoted(spec.name)} [label="{label}" {style}]')
    for spec in specs:
        lines += [f"    {_quoted(one)} -> {_quoted(spec.name)}" for one in dict.fromkeys(spec.dependencies)]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
