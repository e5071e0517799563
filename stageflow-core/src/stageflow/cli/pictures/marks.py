"""What is said of a stage besides its name and kind, the same in every picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stageflow.stages.effect import Effect

if TYPE_CHECKING:
    from stageflow.stages.spec import StageSpec

__all__ = ["effect_said", "executor_of", "is_conditional", "kind_said", "remarks"]

_SIGNS: Final = {
    Effect.NONE: ("", ""),
    Effect.IDEMPOTENT: ("=", "="),
    Effect.REVERSIBLE: ("↺", "<"),
    Effect.IRREVERSIBLE: ("!", "!"),
}


def is_conditional(spec: StageSpec) -> bool:
    """Say whether a stage may be skipped by what it says of itself."""
    return spec.conditional or spec.when is not None


def effect_said(spec: StageSpec, *, unicode: bool = True) -> str:
    """Return a stage's effect as a sign and a word; nothing, if it has none."""
    sign, plain = _SIGNS[spec.effect]
    return f"{sign if unicode else plain} {spec.effect.value}" if sign else ""


def executor_of(spec: StageSpec) -> str:
    """Return the name of the executor of a stage; nothing, if it runs on the event loop."""
    executor: Any = spec.executor
    name = executor if isinstance(executor, str) else getattr(executor, "name", "")
    return "" if name == "inline" else str(name)


def remarks(spec: StageSpec, *, unicode: bool = True) -> list[str]:
    """Return what makes a stage more than one of its kind: that it is a gate, and what it does to the world."""
    said = ["gate" if spec.gates_effects else "", effect_said(spec, unicode=unicode)]
    if spec.effect is not Effect.NONE and not spec.gated:
        said.append("ungated")
    return [one for one in said if one]


def kind_said(spec: StageSpec) -> str:
    """Return a stage's kind with its remarks, on one line."""
    return " · ".join([spec.kind.value, *remarks(spec)])
