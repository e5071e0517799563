"""The edges between stages: who depends on whom, who reads whose stream, and which gate holds whose effect."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from stageflow.stages.effect import Effect
from stageflow.stages.stage import StageKind
from stageflow.stages.stream_edge import Overflow, StreamEdge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["Bond", "Link", "held_by", "links_of", "stream_said", "waits_of"]


class Bond(Enum):
    """What kind of edge it is."""

    DEPENDENCY = "depends on"
    STREAM = "streams"
    HOLD = "is held by"


class Link(NamedTuple):
    """An edge.

    Attributes:
        source: The stage that comes first.
        target: The stage that waits for it.
        bond: What kind of edge it is.
        label: What stands beside it; of most, nothing.
    """

    source: str
    target: str
    bond: Bond
    label: str = ""


def links_of(specs: Sequence[StageSpec]) -> list[Link]:
    """Return the edges that a picture shows, one at most between two stages.

    A stage that comes after a gate anyway, or after another stage that the gate holds, gets no edge from the gate.

    Args:
        specs: The stages, which do not wait for each other in a circle.
    """
    kinds = {spec.name: spec.kind for spec in specs}
    links: dict[tuple[str, str], Link] = {}
    for spec in specs:
        routes = _routes(spec, [one for one in spec.dependencies if kinds[one] is StageKind.ROUTE])
        for one in spec.dependencies:
            links[one, spec.name] = Link(one, spec.name, Bond.DEPENDENCY, routes.get(one, ""))
        for edge in spec.streams:
            links[edge.producer, spec.name] = Link(edge.producer, spec.name, Bond.STREAM, stream_said(edge))
    dependants: dict[str, list[str]] = {spec.name: [] for spec in specs}
    for source, target in links:
        dependants[source].append(target)
    for gate, held in _by_gate(specs).items():
        after = _reached(dependants[gate], dependants)
        behind = _reached([one for name in held for one in dependants[name]], dependants)
        for name in held:
            if name not in after and name not in behind:
                links[gate, name] = Link(gate, name, Bond.HOLD)
    return list(links.values())


def waits_of(specs: Sequence[StageSpec]) -> dict[str, list[str]]:
    """Return for every stage those it waits for, to depend on them or to read their streams."""
    return {
        spec.name: list(dict.fromkeys([*spec.dependencies, *(edge.producer for edge in spec.streams)]))
        for spec in specs
    }


def held_by(specs: Sequence[StageSpec]) -> dict[str, list[str]]:
    """Return, for every stage whose effect gates hold, the gates."""
    gates = [spec.name for spec in specs if spec.gates_effects]
    if not gates:
        return {}
    return {
        spec.name: gates
        for spec in specs
        if spec.effect is not Effect.NONE and spec.gated and not spec.gates_effects
    }


def stream_said(edge: StreamEdge) -> str:
    """Return what is unusual about a stream's bounds; nothing, if nothing is."""
    usual = StreamEdge(edge.producer)
    if edge.size == usual.size and edge.overflow is Overflow.BLOCK:
        return ""
    policy = "" if edge.overflow is Overflow.BLOCK else f", {edge.overflow.value.replace('_', ' ')}"
    return f"{edge.size}{policy}"


def _by_gate(specs: Sequence[StageSpec]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, gates in held_by(specs).items():
        for gate in gates:
            found.setdefault(gate, []).append(name)
    return found


def _reached(roots: Sequence[str], dependants: Mapping[str, Sequence[str]]) -> set[str]:
    """Return all stages from these on."""
    found = dict.fromkeys(roots)
    pending = list(found)
    for name in pending:  # grows while it is read
        for one in dependants[name]:
            if one not in found:
                found[one] = None
                pending.append(one)
    return set(found)


def _routes(spec: StageSpec, routers: Sequence[str]) -> dict[str, str]:
    """Return the labels that must be chosen, by router. Without a prefix, the first router is meant."""
    found: dict[str, list[str]] = {}
    for text in spec.route:
        prefix, colon, label = text.partition(":")
        if colon and prefix in routers:
            found.setdefault(prefix, []).append(label)
        elif routers:
            found.setdefault(routers[0], []).append(text)
    return {router: " | ".join(labels) for router, labels in found.items()}
