"""Token budgets, truncation, versions and conflicts."""

import logging
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow.context import (
    ArgumentTypeError,
    ArgumentValueError,
    ConflictDetector,
    ConflictResolution,
    ContextUtilization,
    TruncationTracker,
    VersionMetadata,
)
from stageflow.errors import ReadOnlyDataError

# --- utilization ---------------------------------------------------------------------------------------

COUNTS = st.integers(0, 1000)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_fits_can_be_added_and_nothing_else(maximum: int, used: int, reserved: int, more: int) -> None:
    window = ContextUtilization(maximum, used, reserved)
    free = window.available_tokens
    assert free == max(0, maximum - used - reserved)
    assert window.is_at_limit is (free == 0)
    fits = window.can_fit(more)
    assert fits is (more <= free)
    assert window.add(more) is fits
    assert window.used_tokens == used + (more if fits else 0)


def test_utilization_follows_the_used_tokens() -> None:
    window = ContextUtilization(1000, 800)
    assert (window.utilization, window.is_near_limit) == (0.8, False)
    window.used_tokens = 801
    assert window.is_near_limit
    assert ContextUtilization(0).utilization == 0.0
    assert ContextUtilization(100, 75, 10).to_dict() == {
        "max_tokens": 100, "used_tokens": 75, "reserved_tokens": 10, "available_tokens": 15, "utilization": 0.75,
        "is_near_limit": False,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["max_tokens", "used_tokens", "reserved_tokens"])
def test_counts_are_whole_and_not_negative(name: str) -> None:
    for value in (1.5, "1", None, True, float("nan")):
        with pytest.raises(ArgumentTypeError, match=name):
            ContextUtilization(**{"max_tokens": 1, name: value})
    with pytest.raises(ArgumentValueError, match=name):
        ContextUtilization(**{"max_tokens": 1, name: -1})
    with pytest.raises(ArgumentValueError, match="token_count"):
        ContextUtilization(10).add(-1)


# --- truncation ----------------------------------------------------------------------------------------


class Sink:
    """A sink as the protocol wants it: keyword-only."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any] | None]] = []

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> object:
        self.seen.append((type, data))
        return None


class BrokenSink(Sink):
    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> object:
        raise OSError("disk full")


def test_a_truncation_reaches_a_conforming_sink() -> None:
    """Finding A1.15: 0.9 emitted positionally, so a keyword-only sink never saw it."""
    sink = Sink()
    event = TruncationTracker(sink).record_truncation(1000, 500, "tail", "document", "limit", {"a": [1]})
    assert sink.seen == [("context.truncation", event.to_dict())]
    data = sink.seen[0][1]
    assert data is not None
    assert data["tokens_removed"] == 500
    assert data["preserved_ratio"] == 0.5
    data["metadata"]["a"].append(2)
    assert event.metadata == {"a": [1]}
    with pytest.raises(ReadOnlyDataError):
        event.metadata["a"].append(2)


def test_a_broken_sink_breaks_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tracker = TruncationTracker(BrokenSink())
    with caplog.at_level(logging.WARNING):
        tracker.record_truncation(10, 5, "tail", "document", "limit")
    assert tracker.event_count == 1
    assert "TruncationTracker" in caplog.text
    assert "disk full" in caplog.text


def test_the_summary_adds_up() -> None:
    tracker = TruncationTracker()
    assert tracker.get_summary() == {
        "event_count": 0, "total_tokens_removed": 0, "strategies_used": [], "content_types": [],
        "avg_preserved_ratio": 1.0,
    }  # fmt: skip
    tracker.record_truncation(1000, 500, "tail", "document", "limit")
    tracker.record_truncation(800, 200, "head", "document", "limit")
    assert tracker.record_truncation(0, 0, "tail", "text", "limit").preserved_ratio == 1.0
    assert tracker.get_summary() == {
        "event_count": 3, "total_tokens_removed": 1100, "strategies_used": ["tail", "head"],
        "content_types": ["document", "text"], "avg_preserved_ratio": 1.75 / 3,
    }  # fmt: skip
    assert [event.strategy for event in tracker.events] == ["tail", "head", "tail"]
    tracker.events.clear()
    assert tracker.event_count == 3


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((1, 2, "s", "t", "r"), ArgumentValueError),
        ((-1, 0, "s", "t", "r"), ArgumentValueError),
        ((1.5, 1, "s", "t", "r"), ArgumentTypeError),
        ((2, 1, None, "t", "r"), ArgumentTypeError),
        ((2, 1, "s", "t", "r", [1]), ArgumentTypeError),
    ],
)
def test_nonsense_is_not_recorded(args: Any, error: Any) -> None:
    sink = Sink()
    tracker = TruncationTracker(sink)
    with pytest.raises(error):
        tracker.record_truncation(*args)
    assert (tracker.event_count, sink.seen) == (0, [])


# --- versions ------------------------------------------------------------------------------------------


def test_create_takes_the_checksum_of_the_content() -> None:
    made = VersionMetadata.create("doc", "v1", "db", "Grüße", 60, ["a"])
    assert made.checksum == sha256("Grüße".encode()).hexdigest()[:16]
    assert VersionMetadata.create("doc", "v1", "db", b"x").checksum == sha256(b"x").hexdigest()[:16]
    assert VersionMetadata.create("doc", "v1", "db", "\ud800").checksum  # a lone surrogate has no UTF-8
    assert VersionMetadata.create("doc", "v1", "db").checksum is None
    assert (made.content_id, made.version, made.source, made.ttl_seconds, made.tags) == (
        "doc",
        "v1",
        "db",
        60,
        ["a"],
    )
    with pytest.raises(ReadOnlyDataError):
        made.tags.append("b")


@pytest.mark.parametrize(
    ("age", "ttl", "stale"), [(120, 60, True), (30, 60, False), (10**6, None, False), (1, 0, True)]
)
def test_staleness(age: float, ttl: float | None, *, stale: bool) -> None:
    made = VersionMetadata("doc", "v1", datetime.now(UTC) - timedelta(seconds=age), "db", ttl_seconds=ttl)
    assert made.is_stale is stale
    assert age <= made.age_seconds <= age + 10


def test_version_data_and_back() -> None:
    made = VersionMetadata.create("doc", "v1", "db", "x", 60, ["a"])
    data = made.to_dict()
    assert list(data) == [
        "content_id", "version", "retrieved_at", "source", "checksum", "ttl_seconds", "age_seconds", "is_stale",
        "tags",
    ]  # fmt: skip
    assert VersionMetadata.from_dict(data) == made


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"content_id": ""}, ArgumentValueError),
        ({"version": None}, ArgumentTypeError),
        ({"retrieved_at": "now"}, ArgumentTypeError),
        ({"retrieved_at": datetime(2020, 1, 1)}, ArgumentValueError),  # noqa: DTZ001 - what is refused
        ({"ttl_seconds": -1}, ArgumentValueError),
        ({"ttl_seconds": float("nan")}, ArgumentValueError),
        ({"ttl_seconds": "60"}, ArgumentTypeError),
        ({"checksum": 7}, ArgumentTypeError),
        ({"tags": "a"}, ArgumentTypeError),
    ],
)
def test_wrong_versions_are_typed_errors(changes: dict[str, Any], error: Any) -> None:
    good = {"content_id": "doc", "version": "v1", "retrieved_at": datetime.now(UTC), "source": "db"}
    with pytest.raises(error, match=next(iter(changes))):
        VersionMetadata(**{**good, **changes})


def test_wrong_version_data_is_a_typed_error() -> None:
    for data in (None, {}, {"content_id": "a", "version": "b", "source": "c"}):
        with pytest.raises(ArgumentTypeError):
            VersionMetadata.from_dict(data)
    with pytest.raises(ArgumentTypeError, match="content"):
        VersionMetadata.create("doc", "v1", "db", 7)


# --- conflicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "value"), [("keep_new", "new"), ("keep_old", "old"), ("merge", "old\nnew"), ("error", None)]
)
def test_each_strategy(strategy: str, value: Any) -> None:
    result = ConflictDetector(strategy).check_and_resolve("f", "old", "new")
    assert result == ConflictResolution(True, "f", "old", "new", strategy, value)
    own = ConflictDetector("keep_new", {"f": strategy})
    assert own.check_and_resolve("f", "old", "new").merged_value == value
    assert own.check_and_resolve("g", "old", "new").merged_value == "new"


@pytest.mark.parametrize(("old", "new"), [(None, 1), (1, 1), ([1], [1]), (None, None)])
def test_nothing_and_the_same_are_no_conflict(old: Any, new: Any) -> None:
    result = ConflictDetector("error").check_and_resolve("f", old, new)
    assert result == ConflictResolution(False, "f", old, new, None, new)


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        (["a", "b"], ["b", "c"], ["a", "b", "c"]),
        (["a", "a"], ["c", "c"], ["a", "a", "c"]),
        ([{"a": 1}], [{"a": 1}, {"b": 2}], [{"a": 1}, {"b": 2}]),
        ([1, [2]], [[2], 1, [3]], [1, [2], [3]]),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        (
            {"a": {"x": [1]}, "t": "u"},
            {"a": {"x": [2], "y": 1}, "t": "v"},
            {"a": {"x": [1, 2], "y": 1}, "t": "u\nv"},
        ),
        ({"a": {"x": 1}, "t": "u"}, {"a": 7, "t": "u"}, {"a": 7, "t": "u"}),
        (1, 2, 2),
        ("a", ["b"], ["b"]),
        (1, None, None),
    ],
)
def test_merging(old: Any, new: Any, merged: Any) -> None:
    before = repr(old), repr(new)
    assert ConflictDetector("merge").check_and_resolve("f", old, new).merged_value == merged
    assert (repr(old), repr(new)) == before


def test_merging_is_linear_in_lists_and_has_no_depth_limit() -> None:
    merged = ConflictDetector("merge").check_and_resolve("f", list(range(50_000)), list(range(1, 50_001)))
    assert merged.merged_value == list(range(50_001))
    old: dict[str, Any] = {"x": 1}
    new: dict[str, Any] = {"x": 2}
    for _ in range(100_000):
        old, new = {"d": old, "o": 1}, {"d": new}
    value = ConflictDetector("merge").check_and_resolve("f", old, new).merged_value
    assert list(value) == ["d", "o"]


class Array:
    """Compares as arrays do: element by element, to something that is no truth value."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_values_whose_comparison_is_no_truth_value() -> None:
    one, two = Array(), Array()
    assert not ConflictDetector().check_and_resolve("f", one, one).has_conflict
    assert ConflictDetector().check_and_resolve("f", one, two).merged_value is two
    assert len(ConflictDetector("merge").check_and_resolve("f", [one], [one, two]).merged_value) == 2


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"default_strategy": "keep_newer"}, ArgumentValueError),
        ({"merge_strategies": {"f": "mergee"}}, ArgumentValueError),
        ({"default_strategy": 7}, ArgumentTypeError),
        ({"merge_strategies": [1]}, ArgumentTypeError),
    ],
    ids=str,
)
def test_unknown_strategies_are_refused_when_the_detector_is_made(options: Any, error: Any) -> None:
    with pytest.raises(error, match=next(iter(options))):
        ConflictDetector(**options)


def test_a_misspelt_strategy_says_what_was_meant() -> None:
    with pytest.raises(ArgumentValueError, match="Did you mean 'keep_new'"):
        ConflictDetector("keep_newer")
