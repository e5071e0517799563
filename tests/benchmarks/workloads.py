"""The graphs that every system runs: plain data, the same on every machine, for our own code and for peers alike.

Only the standard library is imported here: this module also runs inside the peers' environments. Names are Python
identifiers, of which some peers make functions, and come in a topological order, which some peers need.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

Dag = dict[str, tuple[str, ...]]
"""The names of the stages, each with those of its dependencies."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A graph, and how many runs of it go on at once."""

    name: str
    dag: Dag
    runs: int = 1

    @property
    def stages(self) -> int:
        return len(self.dag) * self.runs


def chain(length: int) -> Dag:
    """Every stage depends on the one before it."""
    return {f"s{i}": (f"s{i - 1}",) if i else () for i in range(length)}


def fan(width: int) -> Dag:
    """One stage, *width* stages that depend on it, and one that depends on all of these."""
    middle = tuple(f"m{i}" for i in range(width))
    return {"first": (), **dict.fromkeys(middle, ("first",)), "last": middle}


def layered(depth: int, width: int) -> Dag:
    """Layers in which every stage depends on two neighbours of the layer before."""
    dag: Dag = {f"l0_{i}": () for i in range(width)}
    for layer in range(1, depth):
        above = [f"l{layer - 1}_{i}" for i in range(width)]
        dag.update({f"l{layer}_{i}": (above[i], above[(i + 1) % width]) for i in range(width)})
    return dag


def random_dag(size: int) -> Dag:
    """Every stage depends on three earlier ones (the first few on fewer), drawn with a fixed seed."""
    draw = random.Random(20_260)
    return {f"r{i}": tuple(f"r{j}" for j in sorted(draw.sample(range(i), min(i, 3)))) for i in range(size)}


def diamond() -> Dag:
    """Ten stages, as in a small request handler: it opens to three, crosses, and closes again."""
    return {
        "receive": (),
        "guard": ("receive",),
        "profile": ("receive",),
        "memory": ("receive",),
        "facts": ("guard", "profile"),
        "history": ("profile", "memory"),
        "policy": ("memory", "guard"),
        "route": ("facts", "history", "policy"),
        "answer": ("route",),
        "reply": ("answer",),
    }


_FAMILIES = {"chain": chain, "fan": fan, "layered": layered, "random": random_dag}


def workload(name: str) -> Workload:
    """Make a workload by its name, of any size: ``chain-100``, ``layered-20x50``; ``diamond-7`` is 7 runs at once."""
    family, *sizes = re.split("[-x]", name)
    numbers = [int(size) for size in sizes]
    if family == "diamond":
        return Workload(name, diamond(), *numbers)
    return Workload(name, _FAMILIES[family](*numbers))
