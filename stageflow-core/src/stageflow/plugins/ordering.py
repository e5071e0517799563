"""The order of interceptors: priority first, bent by ``before`` and ``after``, and what the configuration says.

Lower priorities come first, that is, further out; ties are broken by distribution, plugin and name, so the
order never depends on how or when something was installed. ``before`` and ``after`` always hold, and the one
who states the wish is the one who moves: ``before="timeout"`` pulls an interceptor out to where ``timeout``
is, ``after="logging"`` holds it back until ``logging`` is placed. A list of the configuration is stronger than
both: what it names stands in its order, and no wish about the order of two of them counts.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from stageflow.errors import ContributionConflictError, close_matches
from stageflow.plugins.contributions import InterceptorContribution
from stageflow.plugins.names import owner_of
from stageflow.plugins.policy import DENY_VARIABLE
from stageflow.plugins.registry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["order_interceptors", "unknown_names"]

Interceptor: TypeAlias = Entry[InterceptorContribution]
_Key: TypeAlias = "tuple[int, int, str, str, str]"


def order_interceptors(
    entries: Iterable[Interceptor], order: Sequence[str] = (), *, order_in: str = "interceptors.order"
) -> tuple[Interceptor, ...]:
    """Return *entries* in the order of the chain, the outermost first.

    Args:
        entries: The interceptors.
        order: Names of some of them, the outermost first; it wins over what they wish.
        order_in: Where that list was written, for messages.

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
    listed = [name for name in dict.fromkeys(order) if name in by_name]
    successor = dict(pairwise(listed))
    inner = _edges(by_name, listed)
    # Who wants to be after somebody moves itself, and so draws nobody out.
    outer_of = {
        name: [other for other in (*entry.contribution.before, successor.get(name)) if other in inner[name]]
        for name, entry in by_name.items()
    }
    waiting = dict.fromkeys(by_name, 0)
    for names in inner.values():
        for name in names:
            waiting[name] += 1
    keys = {name: _key(name, by_name, outer_of) for name in by_name}
    ready = [(keys[name], name) for name in by_name if not waiting[name]]
    heapify(ready)
    ordered: list[Interceptor] = []
    while ready:
        _, placed = heappop(ready)
        ordered.append(by_name[placed])
        for name in inner[placed]:
            waiting[name] -= 1
            if not waiting[name]:
                heappush(ready, (keys[name], name))
    if len(ordered) < len(by_name):
        stuck = {name for name, count in waiting.items() if count}
        raise _circle(by_name, inner, stuck, successor, order_in)
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


def _edges(by_name: Mapping[str, Interceptor], listed: Sequence[str]) -> dict[str, list[str]]:
    """Map each interceptor to those that must be further in."""
    inner: dict[str, dict[str, None]] = {name: {} for name in by_name}
    configured = set(listed)
    for outer, then in pairwise(listed):
        inner[outer][then] = None
    for name, (contribution, _) in by_name.items():
        for other in contribution.before:
            if other in by_name and not {name, other} <= configured:
                inner[name][other] = None
        for other in contribution.after:
            if other in by_name and not {name, other} <= configured:
                inner[other][name] = None
    return {name: list(names) for name, names in inner.items()}


def _key(name: str, by_name: Mapping[str, Interceptor], outer_of: Mapping[str, list[str]]) -> _Key:
    contribution, provenance = by_name[name]
    outward = _outermost(name, by_name, outer_of)
    return (outward, contribution.priority, provenance.distribution, provenance.plugin, name)


def _outermost(name: str, by_name: Mapping[str, Interceptor], outer_of: Mapping[str, list[str]]) -> int:
    """Return the lowest priority among an interceptor and all that it is outer of, however indirectly."""
    seen: set[str] = set()
    stack = [name]
    while stack:
        current = stack.pop()
        if current not in seen:
            seen.add(current)
            stack += outer_of[current]
    return min(by_name[other].contribution.priority for other in seen)


def _circle(
    by_name: Mapping[str, Interceptor],
    inner: Mapping[str, list[str]],
    stuck: set[str],
    successor: Mapping[str, str],
    order_in: str,
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
    steps = " before ".join(map(repr, [*circle, circle[0]]))
    parties = [str(by_name[name]) for name in circle]
    if any(successor.get(name) == then for name, then in pairwise([*circle, circle[0]])):
        parties.append(order_in)
    return ContributionConflictError(
        f"The order of interceptors is a circle: {steps} ({'; '.join(parties)})",
        fix=f"List them all in {order_in}, in the order that you want, or disable one of their plugins "
        f"with {DENY_VARIABLE}",
    )
