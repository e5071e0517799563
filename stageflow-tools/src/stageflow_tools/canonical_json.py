"""Canonical JSON: one text for one value, so that its hash stands for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from math import isfinite
from typing import Any, cast

from stageflow.context.checks import ArgumentTypeError, shown

__all__ = ["arguments_hash", "canonical_json", "plain_copy"]

_MOST_DEPTH = 100  # far from Python's own limit, and what takes a power of the depth stays quick
_MOST_BITS = 14_000  # the 4300 digits up to which Python turns an int into text


def canonical_json(value: object, *, owner: str, argument: str) -> str:
    """Return the one text of a JSON value: keys sorted by code point, no white space, ASCII only.

    Values that differ in JSON differ in the text: ``True`` is not ``1``, and ``1.0`` is not ``1``. That is stricter
    than RFC 8785, where two large integers may have the same text because both are rounded to a double.

    Args:
        value: Dicts with str keys, lists, tuples, str, int, float, bool and None.
        owner: Who asks, for the message.
        argument: What it is called there.

    Raises:
        ArgumentTypeError: It holds something that JSON cannot say, such as NaN or a set, or more than 100 levels.

    ```python
    from stageflow_tools.canonical_json import canonical_json

    print(canonical_json({"b": 1, "a": [True, 1.0]}, owner="example", argument="value"))
    #> {"a":[true,1.0],"b":1}
    ```
    """
    return _text(plain_copy(value, owner=owner, argument=argument))


def arguments_hash(tool_name: str, arguments: Mapping[str, Any]) -> str:
    """Return what an approval is bound to: the SHA-256 of the canonical JSON of a tool's name and arguments.

    Args:
        tool_name: The tool.
        arguments: Its arguments, by name.

    Raises:
        ArgumentTypeError: The arguments are no JSON.

    ```python
    from stageflow_tools.canonical_json import arguments_hash

    first = arguments_hash("mail.send", {"to": "ada", "urgent": True})
    print(first == arguments_hash("mail.send", {"urgent": True, "to": "ada"}))
    #> True
    print(first == arguments_hash("mail.send", {"urgent": 1, "to": "ada"}))
    #> False
    ```
    """
    text = canonical_json([tool_name, dict(arguments)], owner="arguments_hash", argument="arguments")
    return sha256(text.encode()).hexdigest()


def plain_copy(value: object, *, owner: str, argument: str) -> Any:
    """Return a JSON value as dicts, lists and scalars of its own, which nobody else can change.

    Args:
        value: The value.
        owner: Who asks, for the message.
        argument: What it is called there.

    Raises:
        ArgumentTypeError: It holds something that JSON cannot say, or is nested deeper than 100 levels.
    """
    try:
        return _copy(value, _MOST_DEPTH)
    except _NoJsonError as error:
        fix = "Pass what JSON can say: dicts with str keys, lists, text, finite numbers, booleans and None"
        raise ArgumentTypeError(owner, argument, str(error), fix=fix) from None


class _NoJsonError(Exception):
    """Carries out of the recursion what is wrong; never leaves this module."""


def _copy(value: object, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return _scalar(value)
    if depth == 0:
        msg = f"is nested deeper than {_MOST_DEPTH} levels"
        raise _NoJsonError(msg)
    if isinstance(value, Mapping):
        made: dict[str, Any] = {}
        for key, one in cast("Mapping[object, object]", value).items():
            if not isinstance(key, str):
                msg = f"has the key {shown(key)}, which is no str"
                raise _NoJsonError(msg)
            made[str.__str__(key)] = _copy(one, depth - 1)
        return made
    if isinstance(value, (list, tuple)):
        return [_copy(one, depth - 1) for one in cast("list[object]", value)]
    msg = f"holds {shown(value)}, which JSON cannot say"
    raise _NoJsonError(msg)


def _scalar(value: float | str | None) -> Any:
    """Return the plain value of a subclass, such as the text of a StrEnum."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if value.bit_length() > _MOST_BITS:
            msg = "holds a number with too many digits"
            raise _NoJsonError(msg)
        return int.__pos__(value)
    if not isfinite(value):
        msg = f"holds {value!r}, which JSON does not have"
        raise _NoJsonError(msg)
    return float.__pos__(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
