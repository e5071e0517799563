"""A pipeline as a tree of text: every stage once, below the last of the stages that it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stageflow.cli.pictures.layers import depths
from stageflow.cli.pictures.links import held_by, stream_said, waits_of
from stageflow.cli.pictures.marks import executor_of, is_conditional, remarks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    waits = waits_of(specs)
    held = held_by(specs)
    depth = depths(waits)
    below: dict[str | None, list[StageSpec]] = {}
    for spec in specs:
        # Of several the last one declared: what a join waits for then stands above it.
        deepest = max(reversed(waits[spec.name]), key=lambda one: depth[one], default=None)
        below.setdefault(deepest, []).append(spec)
    count = "1 stage" if len(specs) == 1 else f"{len(specs)} stages"
    lines = [f"{title}: {count}"]
    # A stack and not recursion: a chain may be longer than the interpreter's limit.
    work = [(spec, "", "", "") for spec in reversed(below.get(None, []))]
    while work:
        spec, indent, branch, parent = work.pop()
        notes = _notes(spec, parent, held.get(spec.name, ()), unicode=unicode)
        lines.append(f"{indent}{branch}{spec.name} ({'; '.join(notes)})")
        inner = indent + ("" if not branch else bar if branch == tee else "   ")
        children = below.get(spec.name, [])
        branches = [tee] * (len(children) - 1) + [elbow]
        work += [
            (one, inner, mark, spec.name) for one, mark in reversed([*zip(children, branches, strict=False)])
        ]
    return "\n".join(lines)


def _notes(spec: StageSpec, parent: str, gates: Iterable[str], *, unicode: bool) -> list[str]:
    others = [name for name in dict.fromkeys(spec.dependencies) if name != parent]
    notes = [str(spec.kind.value), *remarks(spec, unicode=unicode)]
    if others:
        notes.append(f"also after {_listed(others)}")
    if spec.streams:
        streams = [(edge.producer, stream_said(edge)) for edge in spec.streams]
        notes.append(f"streams {_listed([f'{name} ({said})' if said else name for name, said in streams])}")
    if spec.route:
        notes.append(f"route {' | '.join(spec.route)}")
    if is_conditional(spec):
        notes.append("conditional")
    if gates:
        notes.append(f"held by {_listed(list(gates))}")
    if executor := executor_of(spec):
        notes.append(f"on {executor}")
    return notes


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return ", ".join([*names[:_MOST_NAMED], *more])
