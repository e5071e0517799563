"""A layered layout of a DAG: every edge goes forward, few edges cross, long ones bend around what is between.

The steps are those of Sugiyama, Tagawa and Toda (1981): layers by the longest way, a waypoint where an edge crosses
a layer, an order within each layer that the neighbours' middle suggests, and then places as near to the
neighbours as the distances allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Edge", "Layout", "depths", "lay_out"]

_SWEEPS: Final = 12
_ROUNDS: Final = 16
_STRAIGHT: Final = 4.0  # how much more a waypoint wants to stay in line than a stage does


class Edge(NamedTuple):
    """An edge, and the places of its waypoints: one per layer that it crosses."""

    source: str
    target: str
    waypoints: tuple[float, ...]


class Layout(NamedTuple):
    """Where everything is: its layer, and its place across the layers."""

    layer: Mapping[str, int]
    place: Mapping[str, float]
    edges: Sequence[Edge]
    extent: float
    """The places go from 0 to this."""

    layers: int
    """How many layers there are."""


def depths(dependencies: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return for every stage the length of the longest way to it."""
    left = {name: len(set(wanted)) for name, wanted in dependencies.items()}
    dependants: dict[str, list[str]] = {name: [] for name in dependencies}
    for name, wanted in dependencies.items():
        for one in dict.fromkeys(wanted):
            dependants[one].append(name)
    depth = dict.fromkeys(dependencies, 0)
    ready = [name for name, count in left.items() if not count]
    for name in ready:  # grows while it is read
        for one in dependants[name]:
            depth[one] = max(depth[one], depth[name] + 1)
            left[one] -= 1
            if not left[one]:
                ready.append(one)
    return depth


def lay_out(dependencies: Mapping[str, Sequence[str]], *, size: float = 1.0, thread: float = 0.4) -> Layout:
    """Give every stage a layer and a place.

    Args:
        dependencies: For every stage, the stages it waits for, without circles.
        size: The distance between two stages of one layer, from middle to middle.
        thread: The room that a passing edge takes.
    """
    layer = depths(dependencies)
    net = _Net(dependencies, layer)
    net.order()
    places = net.places(size, thread)
    edges = [Edge(source, target, tuple(places[one] for one in chain)) for source, target, chain in net.edges]
    names = list(net.name_of)
    place = {name: places[net.name_of[name]] for name in names}
    return Layout(layer, place, edges, max(places, default=0.0), len(net.rows))


@final
class _Net:
    """The stages and waypoints by number, layer by layer."""

    def __init__(self, dependencies: Mapping[str, Sequence[str]], layer: Mapping[str, int]) -> None:
        self.name_of = {name: number for number, name in enumerate(dependencies)}
        self.before: list[list[int]] = [[] for _ in dependencies]
        self.after: list[list[int]] = [[] for _ in dependencies]
        self.rows: list[list[int]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
        self.edges: list[tuple[str, str, list[int]]] = []
        self._stages = len(dependencies)
        for name, number in self.name_of.items():
            self.rows[layer[name]].append(number)
        for name, wanted in dependencies.items():
            for one in dict.fromkeys(wanted):
                self._connect(one, name, layer)

    def _connect(self, source: str, target: str, layer: Mapping[str, int]) -> None:
        chain: list[int] = []
        last = self.name_of[source]
        for row in range(layer[source] + 1, layer[target]):
            waypoint = len(self.before)
            self.before.append([])
            self.after.append([])
            self.rows[row].append(waypoint)
            self._join(last, waypoint)
            chain.append(waypoint)
            last = waypoint
        self._join(last, self.name_of[target])
        self.edges.append((source, target, chain))

    def _join(self, one: int, other: int) -> None:
        self.after[one].append(other)
        self.before[other].append(one)

    def order(self) -> None:
        """Sort each layer by the middle of its neighbours, forwards and backwards, and keep the best order."""
        best, fewest = [list(row) for row in self.rows], self._crossings()
        for sweep in range(_SWEEPS):
            if not fewest:
                break
            forward = sweep % 2 == 0
            rows = self.rows[1:] if forward else self.rows[-2::-1]
            neighbours = self.before if forward else self.after
            for row in rows:
                rank = {number: index for one in self.rows for index, number in enumerate(one)}
                row.sort(key=lambda number: _middle([rank[n] for n in neighbours[number]], rank[number]))
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best

    def _crossings(self) -> int:
        """Count the pairs of edges that cross between neighbouring layers."""
        total = 0
        for row, following in zip(self.rows, self.rows[1:], strict=False):
            rank = {number: index for index, number in enumerate(following)}
            ends = [
                rank[other] for number in row for other in sorted(self.after[number], key=rank.__getitem__)
            ]
            total += _inversions(ends)
        return total

    def places(self, size: float, thread: float) -> list[float]:
        """Return the place of every number, the smallest being 0."""
        room = [size if number < self._stages else thread for number in range(len(self.before))]
        weight = [1.0 if number < self._stages else _STRAIGHT for number in range(len(self.before))]
        place = [0.0] * len(self.before)
        for row in self.rows:
            for index, gap in enumerate(_offsets(row, room)):
                place[row[index]] = gap
        for turn in range(_ROUNDS):
            forward = turn % 2 == 0
            for row in self.rows if forward else self.rows[::-1]:
                wanted = [self._wanted(number, place, forward=forward) for number in row]
                for number, value in zip(row, _settle(row, wanted, room, weight), strict=True):
                    place[number] = value
        least = min(place, default=0.0)
        return [value - least for value in place]

    def _wanted(self, number: int, place: Sequence[float], *, forward: bool) -> float:
        first, second = (self.before, self.after) if forward else (self.after, self.before)
        near = first[number] or second[number]
        if number >= self._stages:  # a waypoint wants to be in line with both its neighbours
            near = [*self.before[number], *self.after[number]]
        return sum(place[one] for one in near) / len(near) if near else place[number]


def _middle(ranks: list[int], own: int) -> float:
    return sum(ranks) / len(ranks) if ranks else own


def _offsets(row: Sequence[int], room: Sequence[float]) -> list[float]:
    """Return the closest places that keep the distances."""
    places: list[float] = []
    for index, number in enumerate(row):
        places.append(places[-1] + (room[row[index - 1]] + room[number]) / 2 if index else 0.0)
    return places


def _settle(
    row: Sequence[int], wanted: Sequence[float], room: Sequence[float], weight: Sequence[float]
) -> Iterable[float]:
    """Return the places that are nearest to the wanted ones, in this order and with these distances.

    Without the distances this is isotonic regression, which pooling neighbours that are out of order solves.
    """
    offsets = _offsets(row, room)
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    for number, wish, offset in zip(row, wanted, offsets, strict=True):
        pools.append((wish - offset, weight[number], 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, heft, length = pools.pop()
            other_mean, other_heft, other_length = pools.pop()
            total = heft + other_heft
            pools.append(((mean * heft + other_mean * other_heft) / total, total, length + other_length))
    levels = [mean for mean, _, length in pools for _ in range(length)]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]


def _inversions(values: list[int]) -> int:
    """Count the pairs that are out of order, by merging."""
    if len(values) < 2:  # noqa: PLR2004 - one value is in order
        return 0
    middle = len(values) // 2
    left, right = values[:middle], values[middle:]
    total = _inversions(left) + _inversions(right)
    left.sort()
    right.sort()
    at = 0
    for value in right:
        while at < len(left) and left[at] <= value:
            at += 1
        total += len(left) - at
    return total
