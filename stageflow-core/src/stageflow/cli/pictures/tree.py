"""A pipeline as a tree of text: every stage once, below the last of the stages that it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stageflow.cli.pictures.layers import depths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["stage_tree"]

_MOST_NAMED: Final = 6


def stage_tree(specs: Sequence[StageSpec], *, title: str = "pipeline", unicode: bool = True) -> str:
    """Return the tree.

    Args:
        specs: The stages, which depend on each other without circles.
        title: The pipeline's name.
        unicode: Whether the lines may be drawn with characters beyond ASCII.
    """
    elbow, tee, bar = ("└─ ", "├─ ", "│  ") if unicode else ("`- ", "|- ", "|  ")
    depth = depths({spec.name: spec.dependencies for spec in specs})
    below: dict[str | None, list[StageSpec]] = {}
    for spec in specs:
        # Of several the last one declared: what a join waits for then stands above it.
        deepest = max(reversed(spec.dependencies), key=lambda one: depth[one], default=None)
        below.setdefault(deepest, []).append(spec)
    count = "1 stage" if len(specs) == 1 else f"{len(specs)} stages"
    lines = [f"{title}: {count}"]
    # A stack and not recursion: a chain may be longer than the interpreter's limit.
    work = [(spec, "", "", "") for spec in reversed(below.get(None, []))]
    while work:
        spec, indent, branch, parent = work.pop()
        lines.append(f"{indent}{branch}{_described(spec, parent)}")
        inner = indent + ("" if not branch else bar if branch == tee else "   ")
        children = below.get(spec.name, [])
        branches = [tee] * (len(children) - 1) + [elbow]
        work += [
            (one, inner, mark, spec.name) for one, mark in reversed([*zip(children, branches, strict=False)])
        ]
    return "\n".join(lines)


def _described(spec: StageSpec, parent: str) -> str:
    others = [name for name in dict.fromkeys(spec.dependencies) if name != parent]
    notes = [str(spec.kind.value)]
    if others:
        more = [f"{len(others) - _MOST_NAMED} more"] if len(others) > _MOST_NAMED else []
        notes.append(f"also after {', '.join([*others[:_MOST_NAMED], *more])}")
    if spec.conditional or spec.when is not None:
        notes.append("conditional")
    return f"{spec.name} ({'; '.join(notes)})"
