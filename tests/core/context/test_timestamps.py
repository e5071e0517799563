"""Points in time are read exactly, in every form, and come out in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.context.timestamps import detect_unix_precision, normalize_to_utc, parse_timestamp

NOON = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
EAST = timezone(timedelta(hours=2))
MICROS = st.integers(10**15, 10**16 - 1)  # in microseconds: from 2001 to 2286


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        NOON.astimezone(EAST),
        NOON.replace(tzinfo=None),
        "2024-05-01T12:00:00.123456Z",
        " 2024-05-01 14:00:00.123456+02:00\n",
        "2024-05-01T12:00:00.123456",
        1714564800.123456,
        "1714564800.123456",
        1714564800123456,
        "1714564800123456",
        1714564800123456789,
        1714564800123.456,
    ],
    ids=repr,
)
def test_every_form_of_one_moment(value):
    found = parse_timestamp(value)
    assert found == NOON
    assert found.tzinfo is UTC


def test_mail_headers_and_dates():
    assert parse_timestamp("Wed, 01 May 2024 14:00:00 +0200") == NOON.replace(microsecond=0)
    assert parse_timestamp("2024-05-01") == datetime(2024, 5, 1, tzinfo=UTC)


def test_a_time_zone_for_what_says_none():
    assert parse_timestamp("2024-05-01T14:00:00.123456", default_tz=EAST) == NOON
    assert normalize_to_utc(NOON.astimezone(EAST).replace(tzinfo=None), default_tz=EAST) == NOON
    assert parse_timestamp(NOON, default_tz=EAST) == NOON
    with pytest.raises(ArgumentTypeError):
        normalize_to_utc(NOON, default_tz="UTC")


def test_before_1970():
    assert parse_timestamp(-1.5) == datetime(1969, 12, 31, 23, 59, 58, 500000, tzinfo=UTC)
    assert parse_timestamp("-1") == datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)


@given(MICROS)
def test_there_and_back(micros):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert parse_timestamp(micros) == parse_timestamp(str(micros)) == moment
    assert parse_timestamp(micros * 1000) == moment
    assert parse_timestamp(f"{micros // 10**6}.{micros % 10**6:06d}") == moment
    assert parse_timestamp(moment.isoformat()) == moment


@pytest.mark.parametrize(
    ("value", "precision"),
    [
        (0, "seconds"),
        (9_999_999_999, "seconds"),
        ("9999999999.9", "seconds"),
        (10**10, "milliseconds"),
        (10**13 - 1, "milliseconds"),
        (-(10**13), "microseconds"),
        (" 1000000000000000 ", "microseconds"),
        (10**16, "nanoseconds"),
        (10**19 - 1, "nanoseconds"),
        (1.5, "seconds"),
    ],
)
def test_the_precision_is_in_the_digits(value, precision):
    assert detect_unix_precision(value) == precision


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 1e300, 10**19, 10**6000, "1" * 70, "1" * 5000],
    ids=["nan", "inf", "huge", "digits", "bits", "text", "long"],
)
def test_what_is_no_unix_time(value):
    for function in (parse_timestamp, detect_unix_precision):
        with pytest.raises(ArgumentValueError):
            function(value)


@pytest.mark.parametrize(
    "value",
    ["", "x", "tomorrow", "Mon, 99 Foo", "2024-13-01", "0001-01-01T00:00+05:00", "١٢", "x" * 10**6],
    ids=lambda value: ascii(value[:20]),
)
def test_what_is_no_time_at_all(value):
    with pytest.raises(ArgumentValueError):
        parse_timestamp(value)


@pytest.mark.parametrize("value", [None, True, b"1", [], {}], ids=str)
def test_other_types(value):
    with pytest.raises(ArgumentTypeError):
        parse_timestamp(value)
    with pytest.raises(ArgumentTypeError):
        detect_unix_precision(value)
    with pytest.raises(ArgumentTypeError):
        normalize_to_utc(value)


def test_out_of_range_in_utc():
    with pytest.raises(ArgumentValueError):
        normalize_to_utc(datetime.min.replace(tzinfo=EAST))
