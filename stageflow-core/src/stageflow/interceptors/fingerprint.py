"""``fingerprint``: tells whether somebody has changed a value in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stageflow.context.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fingerprint"]

_SCALARS: Final = frozenset({str, int, float, bool, type(None), bytes, complex})
_MAPPINGS: Any = dict  # Any, so that the checkers do not narrow to containers of they know not what
_SEQUENCES: Any = (list, tuple)
_SETS: Any = (set, frozenset)
_IN_HERE: Final = object()


def fingerprint(value: object) -> int:
    """Return a number that changes when *value*, or anything that it holds, is changed in place.

    Containers, records, the public attributes of other objects and the bytes of arrays count. Private attributes and
    cached properties do not, as reading alone may fill those; handles such as locks and connections count as what they
    are, whatever happens behind them. Good within one process.

    ```python
    from stageflow.interceptors.fingerprint import fingerprint

    order = {"items": ["tea"]}
    before = fingerprint(order)
    order["items"].append("milk")
    print(fingerprint(order) == before)
    #> False
    ```
    """
    return hash(tuple(_parts(value)))


def _parts(value: object) -> Iterator[object]:
    """Walk over everything in *value*; a stack of its own, so that depth is no limit."""
    seen: set[int] = set()
    stack: list[Any] = [value]
    while stack:
        one = stack.pop()
        kind = one.__class__
        yield kind
        if kind in _SCALARS:
            yield repr(one) if kind is float else one  # NaN differs from itself
            continue
        if id(one) in seen:
            yield _IN_HERE
            continue
        seen.add(id(one))
        inside = _inside(one)
        if inside is None:
            yield _identity(one)
            continue
        yield len(inside)
        stack.extend(reversed(inside))


def _inside(one: Any) -> list[Any] | None:
    """Return what *one* holds, in a fixed order, or None if nothing can be seen in it."""
    if isinstance(one, _MAPPINGS):
        return [part for item in one.items() for part in item]
    if isinstance(one, _SEQUENCES):
        return list(one)
    if isinstance(one, _SETS):
        return sorted(one, key=hash)
    if isinstance(one, Record):
        return [getattr(one, name) for name in one.__match_args__]
    if isinstance(one, type) or callable(one):
        return None
    cls = one.__class__
    attributes: dict[str, Any] = getattr(one, "__dict__", {})
    slots: list[str] = [
        name for base in cls.__mro__ for name in _names(getattr(base, "__slots__", ())) if hasattr(one, name)
    ]
    found = [
        part
        for name in [*attributes, *slots]
        if not name.startswith("_") and not _cached(cls, name)
        for part in (name, getattr(one, name))
    ]
    return found or None


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _cached(cls: type, name: str) -> bool:
    """Say whether an attribute is a ``cached_property`` or the like: a name that the class computes."""
    return hasattr(getattr(cls, name, None), "attrname")


def _identity(one: Any) -> object:
    """Return what tells *one* from its earlier self: its bytes if it has some, else only which object it is."""
    try:
        with memoryview(one) as view:
            return hash((view.format, view.shape, view.tobytes()))
    except (TypeError, ValueError, BufferError):
        return id(one)
