"""Reading points in time from whatever form they come in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

from stageflow.context.checks import check_type, wrong_type, wrong_value

__all__ = ["detect_unix_precision", "normalize_to_utc", "parse_timestamp"]

_OWNER: Final = "parse_timestamp"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
# How many digits before the point a Unix time has, up to the year 2286, and what it counts then.
_PRECISIONS: Final = (
    (10, "seconds", 1),
    (13, "milliseconds", 10**3),
    (16, "microseconds", 10**6),
    (19, "nanoseconds", 10**9),
)
_LONGEST: Final = 64
_FIX: Final = "Pass a number of up to 19 digits"


def parse_timestamp(value: Any, *, default_tz: tzinfo = UTC) -> datetime:
    """Read a point in time, as an aware ``datetime`` in UTC.

    Args:
        value: A ``datetime``; a Unix time, as a number or text, in whichever precision its digits say; or text in the
            form of ISO 8601 or of mail headers (RFC 5322).
        default_tz: The time zone of what says none.

    Raises:
        ArgumentTypeError: It is nothing of that kind.
        ArgumentValueError: It is no point in time, or one that ``datetime`` cannot hold.

    ```python
    from stageflow.context.timestamps import parse_timestamp

    print(parse_timestamp("2024-05-01T12:00:00+02:00"))
    #> 2024-05-01 10:00:00+00:00
    print(parse_timestamp(1714557600), parse_timestamp("1714557600000"))
    #> 2024-05-01 10:00:00+00:00 2024-05-01 10:00:00+00:00
    print(parse_timestamp("Wed, 01 May 2024 10:00:00 GMT"))
    #> 2024-05-01 10:00:00+00:00
    ```
    """
    if isinstance(value, datetime):
        return normalize_to_utc(value, default_tz=default_tz)
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        return _from_text(value.strip(), default_tz)
    number = _number(_OWNER, value)
    _, per_second = _precision(_OWNER, number)
    # Decimal, as a float has not enough digits for microseconds.
    return _EPOCH + timedelta(microseconds=int(number * 10**6 / per_second))


def detect_unix_precision(value: float | str) -> str:
    """Say what a Unix time counts, by its digits: ``seconds`` (up to 10), ``milliseconds`` (13), ``microseconds`` (16)
    or ``nanoseconds`` (19).

    Raises:
        ArgumentTypeError: It is neither a number nor text.
        ArgumentValueError: It is no number, or has more digits.

    ```python
    from stageflow.context.timestamps import detect_unix_precision

    print(detect_unix_precision(1714557600), detect_unix_precision(1714557600123))
    #> seconds milliseconds
    ```
    """
    owner = "detect_unix_precision"
    return _precision(owner, _number(owner, value))[0]


def normalize_to_utc(value: datetime, *, default_tz: tzinfo = UTC) -> datetime:
    """Return the same point in time in UTC.

    Args:
        value: The point in time.
        default_tz: Its time zone, if it says none.

    Raises:
        ArgumentTypeError: It is no ``datetime``.
        ArgumentValueError: In UTC, it is out of the range of ``datetime``.

    ```python
    from datetime import datetime, timedelta, timezone

    from stageflow.context.timestamps import normalize_to_utc

    print(normalize_to_utc(datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))))
    #> 2024-05-01 10:00:00+00:00
    ```
    """
    owner = "normalize_to_utc"
    check_type(owner, "value", value, datetime, "a datetime")
    check_type(owner, "default_tz", default_tz, tzinfo, "a time zone")
    try:
        return (value if value.tzinfo is not None else value.replace(tzinfo=default_tz)).astimezone(UTC)
    except OverflowError as exc:
        raise wrong_value(owner, "value", "is out of range in UTC", value) from exc


def _number(owner: str, value: Any) -> Decimal:
    """Read a number, exactly.

    Raises:
        ArgumentTypeError: It is neither a number nor text.
        ArgumentValueError: It is no finite number, or has too many digits.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise wrong_type(owner, "value", "a number or a str", value)
    if isinstance(value, str):
        text = value.strip()
        if len(text) <= _LONGEST and _NUMBER.fullmatch(text):
            return Decimal(text)
    elif isinstance(value, float):
        number = Decimal(repr(value))
        if number.is_finite():
            return number
    elif value.bit_length() <= _LONGEST:
        return Decimal(value)
    problem = "is no Unix time"
    raise wrong_value(
        owner, "value", problem, f"{value.bit_length()} bits" if isinstance(value, int) else value, fix=_FIX
    )


def _precision(owner: str, number: Decimal) -> tuple[str, int]:
    for digits, name, per_second in _PRECISIONS:
        if abs(number) < 10**digits:
            return name, per_second
    raise wrong_value(owner, "value", "is no Unix time", number, fix=_FIX)


def _from_text(text: str, default_tz: tzinfo) -> datetime:
    try:
        return normalize_to_utc(datetime.fromisoformat(text), default_tz=default_tz)
    except ValueError as exc:
        if not text[:1].isalpha():
            raise wrong_value(_OWNER, "value", "is no point in time", text) from exc
    from email.utils import parsedate_to_datetime  # only for mail and HTTP headers

    try:
        return normalize_to_utc(parsedate_to_datetime(text), default_tz=default_tz)
    except (ValueError, TypeError, IndexError) as exc:
        raise wrong_value(_OWNER, "value", "is no point in time", text) from exc
