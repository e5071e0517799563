"""The arguments of a call, as plain data of its own: read from JSON text or copied from a mapping, within limits.

What is refused here is what the JSON parser of the standard library lets pass, and what two readers of the same text
could take differently: duplicated keys, NaN and infinity, halves of surrogate pairs. An approval is bound to arguments,
so there must be no second way to read them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple, NoReturn, cast, final

from stageflow.errors import shown

from stageflow_tools.call_problem import CallProblem, UnresolvedReason

__all__ = ["ArgumentLimits", "plain_json", "read_arguments"]

_BRACKETS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)
_HALF_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_MOST_BITS: Final = 14_000  # Python turns an int of 4300 digits into text, and refuses one that is longer


class ArgumentLimits(NamedTuple):
    """How large the arguments of one call may be.

    Attributes:
        most_bytes: The size of the JSON text in UTF-8, or of what a mapping would be as such.
        most_depth: How deep objects and lists may be nested; the arguments themselves are the first level.
    """

    most_bytes: int = 1_000_000
    most_depth: int = 64


class _RefusedError(Exception):
    """Carries a problem out of a callback or a recursion; never leaves this module."""

    def __init__(self, reason: UnresolvedReason, error: str) -> None:
        super().__init__(error)
        self.problem = CallProblem(reason, error)


def read_arguments(value: object, limits: ArgumentLimits) -> dict[str, Any] | CallProblem:
    """Return the arguments as a dict that nobody else has, or what is wrong with them. Never raises.

    Args:
        value: JSON text of an object, or a mapping. None and empty text are a call without arguments.
        limits: How large they may be.
    """
    made: Any = {} if value is None else plain_json(value, limits)
    if isinstance(made, (dict, CallProblem)):
        return cast("dict[str, Any] | CallProblem", made)
    problem = f"The arguments must be a JSON object, not {_kind(made)}"
    return CallProblem(UnresolvedReason.NOT_AN_OBJECT, problem)


def plain_json(value: object, limits: ArgumentLimits) -> Any:
    """Return JSON text as what it says, and anything else as a copy in plain dicts and lists.

    Args:
        value: The text or the value. Empty text is an empty object.
        limits: How large it may be.

    Returns:
        The value, or a ``CallProblem`` if it is no JSON. Never raises.
    """
    try:
        return _from_text(value, limits) if isinstance(value, str) else _Copy(limits).of(value, 1)
    except _RefusedError as refused:
        return refused.problem
    except RecursionError:
        return CallProblem(UnresolvedReason.TOO_DEEP, "The arguments are nested too deep")
    except Exception as exc:  # noqa: BLE001 - a mapping of somebody else's may raise anything
        return CallProblem(UnresolvedReason.MALFORMED, f"The arguments cannot be read: {type(exc).__name__}")


def _from_text(text: str, limits: ArgumentLimits) -> Any:
    if len(text) > limits.most_bytes:
        raise _too_large(limits)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _half_a_pair() from None
    if size > limits.most_bytes:
        raise _too_large(limits)
    if not text.strip(" \t\n\r"):
        return {}
    _check_depth(text, limits)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse_constant
        )
    except ValueError as exc:
        raise _broken(text, exc) from None
    if _HALF_ESCAPE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _half_a_pair() from None
    return value


def _check_depth(text: str, limits: ArgumentLimits) -> None:
    """Refuse text that is nested too deep, before the parser recurses into it."""
    if text.count("[") + text.count("{") <= limits.most_depth:
        return
    depth = 0
    for token in _BRACKETS.finditer(text):
        if token[1]:
            depth += 1
            if depth > limits.most_depth:
                raise _too_deep(limits)
        elif token[2]:
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        # a dict keeps the order of first appearance, so it goes out of step with the keys at the first repetition
        keys = [key for key, _ in pairs]
        twice = next((key for once, key in zip(made, keys, strict=False) if once != key), keys[-1])
        raise _RefusedError(
            UnresolvedReason.DUPLICATE_KEY, f"The arguments have the key {shown(twice)} twice in one object"
        )
    return made


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise _RefusedError(
            UnresolvedReason.NOT_JSON, f"The arguments hold {shown(digits)}, which is infinite"
        )
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedError(UnresolvedReason.NOT_JSON, f"The arguments hold {name}, which JSON does not have")


def _broken(text: str, error: ValueError) -> _RefusedError:
    from pydantic_core import from_json  # only for arguments that are wrong anyway

    where = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
    try:
        from_json(text, allow_partial="trailing-strings", allow_inf_nan=False)
    except ValueError:
        pass
    else:
        # The lenient parser takes what stands before a stray end for a beginning; such text is no beginning of JSON.
        if _ends_open(text):
            return _RefusedError(
                UnresolvedReason.HALF_STREAMED, "The arguments end before their JSON is complete"
            )
    return _RefusedError(UnresolvedReason.INVALID_JSON, f"The arguments are no JSON: {where}")


def _ends_open(text: str) -> bool:
    """Say whether brackets or a string are open at the end of a text, and none was closed by the wrong one."""
    expected: list[str] = []
    end = 0
    for token in _BRACKETS.finditer(text):
        end = token.end()
        if token[1]:
            expected.append("]" if token[1] == "[" else "}")
        elif token[2]:
            if not expected or expected.pop() != token[2]:
                return False
            if not expected:
                return False  # the document is complete here, and whatever follows is too much
    return bool(expected) or (bool(end) and text.lstrip(" \t\n\r").startswith('"'))


def _kind(value: object) -> str:
    names: dict[type, str] = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _too_large(limits: ArgumentLimits) -> _RefusedError:
    problem = f"The arguments are larger than {limits.most_bytes} bytes"
    return _RefusedError(UnresolvedReason.TOO_LARGE, problem)


def _too_deep(limits: ArgumentLimits) -> _RefusedError:
    problem = f"The arguments are nested deeper than {limits.most_depth} levels"
    return _RefusedError(UnresolvedReason.TOO_DEEP, problem)


def _half_a_pair() -> _RefusedError:
    problem = "The arguments hold half of a surrogate pair, which is no character"
    return _RefusedError(UnresolvedReason.NOT_JSON, problem)


@final
class _Copy:
    """Copies one value and counts what it would take as JSON, so that neither a cycle nor sharing goes on for ever."""

    __slots__ = ("_left", "_limits")

    def __init__(self, limits: ArgumentLimits) -> None:
        self._limits = limits
        self._left = limits.most_bytes

    def of(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return self._scalar(value)
        if depth > self._limits.most_depth:
            raise _too_deep(self._limits)
        self._take(1)  # the brackets, and a comma less than items
        if isinstance(value, Mapping):
            made: dict[str, Any] = {}
            for key, one in cast("Mapping[object, object]", value).items():
                if not isinstance(key, str):
                    problem = f"The arguments have the key {shown(key)}, which is no text"
                    raise _RefusedError(UnresolvedReason.NOT_JSON, problem)
                self._take(2)  # the colon and the comma
                made[self._scalar(key)] = self.of(one, depth + 1)
            return made
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
            items: list[Any] = []
            for one in cast("Sequence[object]", value):
                self._take(1)
                items.append(self.of(one, depth + 1))
            return items
        problem = f"The arguments hold {shown(value)}, which JSON cannot say"  # pyright: ignore[reportUnknownArgumentType] - a memoryview of whatever
        raise _RefusedError(UnresolvedReason.NOT_JSON, problem)

    def _scalar(self, value: Any) -> Any:
        """Return a value of the plain type, not of a subclass such as an enum, whose methods are somebody else's."""
        self._take(1)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            self._take(len(value) + 1)
            return self._text(str.__str__(value))
        if isinstance(value, int):
            number = int.__pos__(value)
            if number.bit_length() > _MOST_BITS:
                problem = "The arguments hold a number with too many digits"
                raise _RefusedError(UnresolvedReason.NOT_JSON, problem)
            return number
        if not isfinite(value):
            problem = f"The arguments hold {shown(value)}, which JSON does not have"
            raise _RefusedError(UnresolvedReason.NOT_JSON, problem)
        return float.__pos__(value)

    def _text(self, text: str) -> str:
        try:
            self._take(len(text.encode()) - len(text))
        except UnicodeEncodeError:
            raise _half_a_pair() from None
        return text

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _too_large(self._limits)
