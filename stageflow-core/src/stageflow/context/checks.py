"""Checks of constructor arguments: typed errors with a code, and the few helpers that raise them."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from stageflow.errors import RunError, shown

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "check_count",
    "check_mapping",
    "check_name",
    "check_type",
    "items_of",
    "number_of",
    "parse_time",
    "parse_uuid",
    "require_mapping",
    "shown",
    "text_of",
    "wrong_type",
    "wrong_value",
]


class ArgumentTypeError(RunError, TypeError):
    """An argument has a type that its parameter does not take, or there is no such parameter.

    Args:
        owner: What was called, as ``"RunIdentity"``.
        argument: The parameter's name.
        problem: What is wrong with it, as ``"takes a UUID or None, not str"``.
        fix: What to do.

    ```python
    from stageflow.context import ArgumentTypeError, ContextSnapshot

    try:
        ContextSnapshot(input_text=b"hi")
    except ArgumentTypeError as error:
        print(error.what)
        #> ContextSnapshot(input_text=...) takes a str or None, not bytes
    ```
    """

    code = "SF-RUN-ARGUMENT-TYPE"

    def __init__(self, owner: str, argument: str, problem: str, *, fix: str = "") -> None:
        self.owner = owner
        self.argument = argument
        super().__init__(f"{owner}({argument}=...) {problem}", fix=fix or f"Correct the argument {argument}")


class ArgumentValueError(RunError, ValueError):
    """An argument has the right type, but a value that makes no sense.

    Args:
        owner: What was called, as ``"RunIdentity.from_dict"``.
        argument: The parameter's name.
        problem: What is wrong with it, as ``"must not be negative: -1"``.
        fix: What to do.

    ```python
    from stageflow.context import ArgumentValueError, RunIdentity

    try:
        RunIdentity.from_dict({"user_id": "ada"})
    except ArgumentValueError as error:
        print(error.what)
        #> RunIdentity.from_dict(user_id=...) is not a UUID: 'ada'
    ```
    """

    code = "SF-RUN-ARGUMENT-VALUE"

    def __init__(self, owner: str, argument: str, problem: str, *, fix: str = "") -> None:
        self.owner = owner
        self.argument = argument
        super().__init__(f"{owner}({argument}=...) {problem}", fix=fix or f"Correct the argument {argument}")


_NO_LISTS: Any = (str, bytes, dict)


def wrong_type(owner: str, argument: str, expects: str, value: object, *, fix: str = "") -> ArgumentTypeError:
    """Make the error for a *value* of another type than *expects* says; the caller raises it."""
    problem = f"takes {expects}, not {type(value).__name__}"
    return ArgumentTypeError(owner, argument, problem, fix=fix or f"Pass {expects} as {argument}=")


def wrong_value(
    owner: str, argument: str, problem: str, value: object, *, fix: str = ""
) -> ArgumentValueError:
    """Make the error for a *value* that has the *problem*; the caller raises it."""
    return ArgumentValueError(owner, argument, f"{problem}: {shown(value)}", fix=fix)


def check_type(owner: str, argument: str, value: object, types: Any, expects: str, *, fix: str = "") -> None:
    """Raise unless *value* is an instance of *types*, which *expects* says in words.

    Raises:
        ArgumentTypeError: It is not.
    """
    if not isinstance(value, types):
        raise wrong_type(owner, argument, expects, value, fix=fix)


def check_mapping(owner: str, argument: str, value: object) -> None:
    """Raise unless *value* is a mapping or None.

    Raises:
        ArgumentTypeError: It is neither.
    """
    if value is not None and not isinstance(value, Mapping):
        raise wrong_type(owner, argument, "a mapping or None", value)


def check_count(owner: str, argument: str, value: object, *, least: int = 0) -> None:
    """Raise unless *value* is a whole number of at least *least*.

    Raises:
        ArgumentTypeError: It is no int.
        ArgumentValueError: It is less.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(owner, argument, "an int", value)
    if value < least:
        raise wrong_value(owner, argument, f"must be {least} or more", value)


def number_of(
    owner: str,
    argument: str,
    value: object,
    *,
    expects: str,
    problem: str,
    least: float = -inf,
    positive: bool = False,
    infinite: bool = False,
) -> float:
    """Return *value* as a float, if it is an int or a float that is large enough.

    Args:
        owner: What was called.
        argument: The parameter's name.
        value: What it was given.
        expects: What it takes, in words, as ``"a number of seconds"``.
        problem: What is wrong with any other number, as ``"must be zero or more seconds"``.
        least: The smallest number that it takes.
        positive: Whether the number has to be above zero.
        infinite: Whether it takes infinity; an int too large for a float is that.

    Raises:
        ArgumentTypeError: It is no int and no float.
        ArgumentValueError: It is too small, NaN, or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type(owner, argument, expects, value)
    try:
        number = float(value)
    except OverflowError:
        number = inf if value > 0 else -inf
    fits = least <= number and not (positive and number <= 0)  # NaN compares as false
    if not fits or (number == inf and not infinite):
        raise wrong_value(owner, argument, problem, value)
    return number


def check_name(owner: str, argument: str, value: object) -> None:
    """Raise unless *value* is a str that is not empty.

    Raises:
        ArgumentTypeError: It is no str.
        ArgumentValueError: It is empty.
    """
    if not isinstance(value, str):
        raise wrong_type(owner, argument, "a str", value)
    if not value:
        raise wrong_value(owner, argument, "must not be empty", value)


def items_of(owner: str, argument: str, value: Any, kind: type | None = None) -> list[Any]:
    """Return *value* as a list; None is an empty one. With *kind*, every element must be one.

    Raises:
        ArgumentTypeError: It is a str, a mapping or no iterable at all, or an element is no *kind*.
    """
    expects = "a list" if kind is None else f"a list of {kind.__name__}"
    if value is None:
        return []
    if isinstance(value, _NO_LISTS) or not hasattr(value, "__iter__"):
        raise wrong_type(owner, argument, expects, value)
    items: list[Any] = list(value)
    if kind is not None:
        for item in items:
            if not isinstance(item, kind):
                raise wrong_type(owner, argument, f"{expects}, all of it", item)
    return items


def require_mapping(owner: str, argument: str, value: Any) -> dict[str, Any]:
    """Return *value* if it is a dict with str keys or anything else that has ``keys()``, as a dict.

    Raises:
        ArgumentTypeError: It is not a mapping.
    """
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType] - its keys are what the caller reads
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return dict(value)
    raise wrong_type(owner, argument, "a mapping", value)


def text_of(value: object) -> str:
    """Return the ``str`` of a value that is nobody's to refuse here; of one that has none, the name of its type."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - somebody else's __str__, or a list too deep for Python's own
        return f"<{type(value).__name__}>"


def parse_uuid(owner: str, argument: str, value: object) -> UUID | None:
    """Read a UUID, its text, or None.

    Raises:
        ArgumentTypeError: Another type.
        ArgumentValueError: Text that is no UUID.
    """
    from uuid import UUID

    if value is None or isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise wrong_type(owner, argument, "a UUID, its text or None", value)
    try:
        return UUID(value)
    except ValueError as exc:
        raise wrong_value(owner, argument, "is not a UUID", value) from exc


def parse_time(owner: str, argument: str, value: object) -> datetime | None:
    """Read a datetime, its ISO 8601 text, or None.

    Raises:
        ArgumentTypeError: Another type.
        ArgumentValueError: Text that is no ISO 8601 date and time.
    """
    from datetime import datetime

    if value is None or isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise wrong_type(owner, argument, "a datetime, its ISO 8601 text or None", value)
    try:
        return datetime.fromisoformat(value)
    except ValueError as exc:
        raise wrong_value(owner, argument, "is not an ISO 8601 time", value) from exc
