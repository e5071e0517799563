"""``size_of``: about how many bytes a value would take as JSON, without writing it."""

from __future__ import annotations

from sys import getsizeof
from typing import Any, Final

from stageflow.context.record import Record

__all__ = ["size_of"]

_MAPPINGS: Any = dict  # Any, so that the checkers do not narrow to containers of they know not what
_OTHERS: Any = (list, tuple, set, frozenset)
_NUMBER: Final = 8
_FRAME: Final = 2  # the quotes of a text, the brackets of a container


def size_of(value: object) -> int:
    """Return the size of *value* in bytes, about as JSON would need. What is in it twice counts once.

    ```python
    from stageflow.interceptors.sizing import size_of

    print(size_of({"text": "x" * 1000}))
    #> 1010
    ```
    """
    seen: set[int] = set()
    stack: list[Any] = [value]
    size = 0
    while stack:
        one = stack.pop()
        if one is None or isinstance(one, (bool, int, float)):
            size += _NUMBER
        elif isinstance(one, str):
            size += _FRAME + (len(one) if one.isascii() else len(one.encode("utf-8", "replace")))
        elif id(one) not in seen:
            seen.add(id(one))
            size += _own_size(one, stack)
    return size


def _own_size(one: Any, stack: list[Any]) -> int:
    """Return the size of *one* itself, and put what it holds on the stack."""
    nbytes = getattr(one, "nbytes", None)  # arrays and memoryviews
    if isinstance(nbytes, int):
        return nbytes
    if isinstance(one, (bytes, bytearray)):
        return len(one)
    attributes: dict[str, Any] | None = getattr(one, "__dict__", None)
    if isinstance(one, _MAPPINGS):
        stack.extend(one)
        stack.extend(one.values())
    elif isinstance(one, _OTHERS):
        stack.extend(one)
    elif isinstance(one, Record):
        stack.extend(getattr(one, name) for name in one.__match_args__)
    elif attributes and not isinstance(one, type):
        stack.extend(attributes.values())
    else:
        return getsizeof(one)
    return _FRAME
