"""A pipeline as data for JSON: what the pictures show of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stageflow.cli.pictures.links import held_by
from stageflow.cli.pictures.marks import executor_of, is_conditional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["graph_record"]


def graph_record(specs: Sequence[StageSpec], *, title: str = "pipeline") -> dict[str, Any]:
    """Return the stages, in the order of their declaration.

    Args:
        specs: The stages.
        title: The pipeline's name.
    """
    held = held_by(specs)
    return {"pipeline": title, "stages": {spec.name: _stage(spec, held.get(spec.name, ())) for spec in specs}}


def _stage(spec: StageSpec, gates: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": spec.kind.value,
        "dependencies": list(dict.fromkeys(spec.dependencies)),
        "streams": [
            {"producer": edge.producer, "size": edge.size, "overflow": edge.overflow.value}
            for edge in spec.streams
        ],
        "route": list(spec.route),
        "conditional": is_conditional(spec),
        "effect": spec.effect.value,
        "gates_effects": spec.gates_effects,
        "held_by": list(gates),
        "executor": executor_of(spec) or "inline",
    }
