"""The order of interceptors: priority first, bent by ``before`` and ``after``.

Lower priorities come first, that is, further out; ties are broken by distribution, plugin and name, so the
order never depends on how or when something was installed. ``before`` and ``after`` always hold, and the one
who states the wish is the one who moves: ``before="timeout"`` pulls an interceptor out to where ``timeout``
is, ``after="logging"`` holds it back until ``logging`` is placed.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, TypeAlias

from stageflow.errors import ContributionConflictError, close_matches
from stageflow.plugins.contributions import InterceptorContribution
from stageflow.plugins.names import owner_of
from stageflow.plugins.policy import DENY_VARIABLE
from stageflow.plugins.registry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["order_interceptors", "unknown_names"]

Interceptor: TypeAlias = Entry[InterceptorContribution]
_Key: TypeAlias = "tuple[int, int, str, str, str]"


def order_interceptors(entries: Iterable[Interceptor]) -> tuple[Interceptor, ...]:
    """Return *entries* in the order of the chain, the outermost first.

    Names in ``before`` and ``after`` that are not among the entries are wishes about interceptors that this
    chain does not have; they have no effect here, and ``unknown_names`` tells typing errors.

    Raises:
        ContributionConflictError: The wishes go round in a circle; the error names everybody on it.

    ```python
    from stageflow.plugins import InterceptorContribution, PluginHost
    from stageflow.plugins.ordering import order_interceptors

    contributed = PluginHost(()).interceptors()
    chain = order_interceptors(contributed[name] for name in ("logging", "retry", "timeout"))
    print([entry.contribution.name for entry in chain])
    #> ['timeout', 'retry', 'logging']
    ```
    """
    by_name = {entry.contribution.name: entry for entry in entries}
    inner = _edges(by_name)
    waiting = dict.fromkeys(by_name, 0)
    for names in inner.values():
        for name in names:
            waiting[name] += 1
    ready = [(_key(name, by_name), name) for name in by_name if not waiting[name]]
    heapify(ready)
    ordered: list[Interceptor] = []
    while ready:
        _, placed = heappop(ready)
        ordered.append(by_name[placed])
        for name in inner[placed]:
            waiting[name] -= 1
            if not waiting[name]:
                heappush(ready, (_key(name, by_name), name))
    if len(ordered) < len(by_name):
        raise _circle(by_name, inner, {name for name, count in waiting.items() if count})
    return tuple(ordered)


def unknown_names(entries: Mapping[str, Interceptor], plugins: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each wish about an interceptor that its owner does not contribute.

    Args:
        entries: All contributed interceptors, by name.
        plugins: The names of the installed plugins. A wish about one that is not installed is fine: it says
            where to stand if it ever is.
    """
    installed = set(plugins)
    sentences: list[str] = []
    for entry in entries.values():
        wishes = {"before": entry.contribution.before, "after": entry.contribution.after}
        for wish, names in wishes.items():
            for name in names:
                if name not in entries and owner_of(name) in installed:
                    what = f"The {entry} wants to be {wish} {name!r}, which nobody contributes."
                    sentences.append(f"{what} {close_matches(name, entries)}".rstrip())
    return tuple(sentences)


def _edges(by_name: Mapping[str, Interceptor]) -> dict[str, list[str]]:
    """Map each interceptor to those that must be further in."""
    inner: dict[str, dict[str, None]] = {name: {} for name in by_name}
    for name, (contribution, _) in by_name.items():
        for other in contribution.before:
            if other in by_name:
                inner[name][other] = None
        for other in contribution.after:
            if other in by_name:
                inner[other][name] = None
    return {name: list(names) for name, names in inner.items()}


def _key(name: str, by_name: Mapping[str, Interceptor]) -> _Key:
    contribution, provenance = by_name[name]
    outward = _outermost(name, by_name)
    return (outward, contribution.priority, provenance.distribution, provenance.plugin, name)


def _outermost(name: str, by_name: Mapping[str, Interceptor]) -> int:
    """Return the lowest priority among an interceptor and all that it must be before, however indirectly."""
    seen: set[str] = set()
    stack = [name]
    while stack:
        current = stack.pop()
        if current not in seen and current in by_name:
            seen.add(current)
            stack.extend(by_name[current].contribution.before)
    return min(by_name[other].contribution.priority for other in seen)


def _circle(
    by_name: Mapping[str, Interceptor], inner: Mapping[str, list[str]], stuck: set[str]
) -> ContributionConflictError:
    # What is stuck waits for something stuck, so walking outwards from anywhere ends in a circle.
    outer = {name: min(other for other in stuck if name in inner[other]) for name in stuck}
    path = [min(stuck)]
    while outer[path[-1]] not in path:
        path.append(outer[path[-1]])
    circle = path[path.index(outer[path[-1]]) :][::-1]
    # From its least name on, so that the message does not depend on where the walk began.
    first = circle.index(min(circle))
    circle = circle[first:] + circle[:first]
    parties = [by_name[name] for name in circle]
    steps = " before ".join(map(repr, [*circle, circle[0]]))
    return ContributionConflictError(
        f"The order of interceptors is a circle: {steps} ({'; '.join(map(str, parties))})",
        fix=f"Disable one of their plugins with {DENY_VARIABLE}, "
        "or give build(interceptors=[...]) the order that you want",
    )
