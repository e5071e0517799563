"""Whether a value of one annotated type may go where another is wanted."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, is_typeddict

__all__ = ["accepts", "assignable", "shown", "without"]


def assignable(source: Any, target: Any) -> bool:  # noqa: PLR0911 - a list of cases
    """Say whether every value of *source* is also one of *target*.

    This is the part of the typing rules that signatures of stages need: classes, unions, ``Literal``,
    ``Annotated`` and parametrised generics, whose arguments are compared covariantly since outputs are read-only.
    What it does not know (protocols, type variables) it lets pass: the type checkers know better.

    ```python
    from stageflow.stages.annotations import assignable

    print(assignable(bool, int), assignable(list[bool], list[int]), assignable(int | None, int))
    #> True True False
    ```
    """
    source, target = _plain(source), _plain(target)
    if target is Any or target is object or source is Any or source == target:
        return True
    if _is_union(source):
        return all(assignable(member, target) for member in get_args(source))
    if _is_union(target):
        return any(assignable(source, member) for member in get_args(target))
    if isinstance(source, TypeVar) or isinstance(target, TypeVar):
        return True
    if get_origin(source) is Literal:
        values = get_args(source)
        if get_origin(target) is Literal:
            return set(values) <= set(get_args(target))
        return all(assignable(type(value), target) for value in values)
    if get_origin(target) is Literal:
        return False
    return _class_assignable(source, target)


def _class_assignable(source: Any, target: Any) -> bool:
    if is_typeddict(target):
        return False  # the same one has been let pass already, and no other class is known to fit
    if is_typeddict(source):
        source = dict
    source_class, target_class = get_origin(source) or source, get_origin(target) or target
    if not isinstance(source_class, type) or not isinstance(target_class, type):
        return True
    if getattr(target_class, "_is_protocol", False):
        return True
    if not issubclass(source_class, target_class):
        return target_class in (float, complex) and issubclass(source_class, (int, float))
    wanted, given = get_args(target), get_args(source)
    if not wanted or not given or len(wanted) != len(given):
        return True
    return all(assignable(one, other) for one, other in zip(given, wanted, strict=True))


def accepts(annotation: Any, value: object) -> bool:  # noqa: PLR0911 - a list of cases
    """Say whether *value* looks like one of *annotation*: its class is checked, not what it contains."""
    annotation = _plain(annotation)
    if annotation is Any or isinstance(annotation, TypeVar):
        return True
    if _is_union(annotation):
        return any(accepts(member, value) for member in get_args(annotation))
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    wanted = get_origin(annotation) or annotation
    if is_typeddict(wanted):
        return isinstance(value, dict)
    if not isinstance(wanted, type) or getattr(wanted, "_is_protocol", False):
        return True
    if wanted in (float, complex) and isinstance(value, int):
        return True
    return isinstance(value, wanted)


def without(annotation: Any, kind: type) -> Any:
    """Return a union without one of its members; anything else as it is."""
    annotation = _plain(annotation)
    if not _is_union(annotation):
        return annotation
    members = tuple(member for member in get_args(annotation) if member is not kind)
    return Union[members] if members else annotation  # noqa: UP007 - of a tuple


def shown(annotation: Any) -> str:
    """Return an annotation as an author would write it."""
    if isinstance(annotation, type) and not get_args(annotation):
        return "None" if annotation is NoneType else annotation.__qualname__.rpartition("<locals>.")[2]
    return str(annotation).replace("typing.", "")


def _plain(annotation: Any) -> Any:
    """Take off what says nothing about values: ``Annotated`` and the names given by ``type`` and ``NewType``."""
    while True:
        if annotation is None:
            return NoneType
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # ``type X = ...``, from Python 3.12 on
            annotation = annotation.__value__
        else:
            return annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)
