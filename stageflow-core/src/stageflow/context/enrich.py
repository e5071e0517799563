"""Helpers for ENRICH stages: token budgets, truncation, versions of content, conflicting values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from stageflow.context.checks import (
    check_count,
    check_name,
    check_type,
    items_of,
    parse_time,
    require_mapping,
    wrong_value,
)
from stageflow.context.frozen import FrozenDict, FrozenList, freeze, thaw
from stageflow.errors import close_matches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stageflow.protocols import EventSink

__all__ = [
    "ConflictDetector",
    "ConflictResolution",
    "ContextUtilization",
    "TruncationEvent",
    "TruncationTracker",
    "VersionMetadata",
]

_set = object.__setattr__


@dataclass(slots=True)
class ContextUtilization:
    """How full a model's context window is.

    Args:
        max_tokens: The size of the window, in tokens.
        used_tokens: What is used, in tokens; may be assigned, or added to with ``add``.
        reserved_tokens: What is kept free for the answer, in tokens.

    Raises:
        ArgumentTypeError: A count is no int.
        ArgumentValueError: A count is negative.

    ```python
    from stageflow.context import ContextUtilization

    window = ContextUtilization(max_tokens=1000, reserved_tokens=100)
    print(window.add(850), window.available_tokens, window.is_near_limit, window.add(51))
    #> True 50 True False
    ```
    """

    max_tokens: int
    used_tokens: int = 0
    reserved_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("max_tokens", "used_tokens", "reserved_tokens"):
            check_count("ContextUtilization", name, getattr(self, name))

    @property
    def available_tokens(self) -> int:
        """What is still free, in tokens, without what is reserved; never negative."""
        return max(0, self.max_tokens - self.used_tokens - self.reserved_tokens)

    @property
    def utilization(self) -> float:
        """The used part of the window: 0.0 to 1.0, more if it is over-full; 0.0 for a window of no size."""
        try:
            return self.used_tokens / self.max_tokens if self.max_tokens else 0.0
        except OverflowError:  # more than a float can say
            return float("inf")

    @property
    def is_near_limit(self) -> bool:
        """Whether more than four fifths are used."""
        return self.utilization > _NEAR

    @property
    def is_at_limit(self) -> bool:
        """Whether nothing is free."""
        return self.available_tokens <= 0

    def can_fit(self, token_count: int) -> bool:
        """Whether so many more tokens fit."""
        check_count("ContextUtilization.can_fit", "token_count", token_count)
        return token_count <= self.available_tokens

    def add(self, token_count: int) -> bool:
        """Use so many more tokens if they fit; else change nothing and return False."""
        fits = self.can_fit(token_count)
        if fits:
            self.used_tokens += token_count
        return fits

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and what follows from them, as plain data."""
        return {
            "max_tokens": self.max_tokens,
            "used_tokens": self.used_tokens,
            "reserved_tokens": self.reserved_tokens,
            "available_tokens": self.available_tokens,
            "utilization": self.utilization,
            "is_near_limit": self.is_near_limit,
        }


_NEAR = 0.8


@dataclass(frozen=True, slots=True)
class TruncationEvent:
    """One time that content was cut to fit. Read-only; ``TruncationTracker`` makes it.

    Args:
        timestamp: When, in UTC.
        original_tokens: The size before, in tokens.
        truncated_tokens: The size after, in tokens.
        strategy: How it was cut, as ``"tail"``.
        content_type: What was cut, as ``"document"``.
        reason: Why, as ``"context_limit"``.
        preserved_ratio: The part that is left, 0.0 to 1.0.
        metadata: Anything else, by name.

    ```python
    from stageflow.context import TruncationEvent, TruncationTracker

    event: TruncationEvent = TruncationTracker().record_truncation(1000, 400, "tail", "document", "context_limit")
    print(event.tokens_removed, event.to_dict()["strategy"])
    #> 600 tail
    ```
    """

    timestamp: datetime
    original_tokens: int
    truncated_tokens: int
    strategy: str
    content_type: str
    reason: str
    preserved_ratio: float
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict[str, Any])

    def __post_init__(self) -> None:
        _set(self, "metadata", freeze(require_mapping("TruncationEvent", "metadata", self.metadata)))

    @property
    def tokens_removed(self) -> int:
        """What was cut off, in tokens."""
        return self.original_tokens - self.truncated_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain data, the time in ISO 8601."""
        return {
            "timestamp": self.timestamp.isoformat(),
            "original_tokens": self.original_tokens,
            "truncated_tokens": self.truncated_tokens,
            "tokens_removed": self.tokens_removed,
            "strategy": self.strategy,
            "content_type": self.content_type,
            "reason": self.reason,
            "preserved_ratio": self.preserved_ratio,
            "metadata": thaw(self.metadata),
        }


class TruncationTracker:
    """Counts what was cut to fit, and emits an event ``context.truncation`` each time.

    Args:
        event_sink: Where the events go; nowhere without one. A sink that raises is not heard: a report about
            truncation must not break the stage.

    ```python
    from stageflow.context import TruncationTracker

    class Collecting(list):
        async def emit(self, *, type, data):
            self.try_emit(type=type, data=data)

        def try_emit(self, *, type, data):
            self.append((type, data["tokens_removed"]))

    sink = Collecting()
    tracker = TruncationTracker(sink)
    event = tracker.record_truncation(1000, 400, "tail", "document", "context_limit")
    print(event.preserved_ratio, tracker.total_tokens_removed, sink)
    #> 0.4 600 [('context.truncation', 600)]
    ```
    """

    __slots__ = ("_events", "_sink")

    def __init__(self, event_sink: EventSink | None = None) -> None:
        self._sink = event_sink
        self._events: list[TruncationEvent] = []

    def record_truncation(
        self,
        original_tokens: int,
        truncated_tokens: int,
        strategy: str,
        content_type: str,
        reason: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> TruncationEvent:
        """Record that content was cut, and emit the event.

        Args:
            original_tokens: The size before, in tokens.
            truncated_tokens: The size after, in tokens.
            strategy: How it was cut, as ``"tail"``, ``"head"`` or ``"semantic"``.
            content_type: What was cut, as ``"document"`` or ``"conversation"``.
            reason: Why, as ``"context_limit"``.
            metadata: Anything else, by name.

        Raises:
            ArgumentTypeError: A count is no int, or a name no str.
            ArgumentValueError: A count is negative, or the size after is more than the size before.
        """
        owner = "TruncationTracker.record_truncation"
        check_count(owner, "original_tokens", original_tokens)
        check_count(owner, "truncated_tokens", truncated_tokens)
        if truncated_tokens > original_tokens:
            problem = f"must not be more than original_tokens ({original_tokens})"
            raise wrong_value(owner, "truncated_tokens", problem, truncated_tokens)
        for name, text in (("strategy", strategy), ("content_type", content_type), ("reason", reason)):
            check_type(owner, name, text, str, "a str")
        event = TruncationEvent(
            datetime.now(UTC),
            original_tokens,
            truncated_tokens,
            strategy,
            content_type,
            reason,
            truncated_tokens / original_tokens if original_tokens else 1.0,
            metadata or {},
        )
        self._events.append(event)
        if self._sink is not None:
            try:
                self._sink.try_emit(type="context.truncation", data=event.to_dict())
            except Exception:  # a sink is not ours, and a report must not break the stage
                import logging

                logging.getLogger(__name__).warning("The sink of a TruncationTracker raised", exc_info=True)
        return event

    @property
    def events(self) -> list[TruncationEvent]:
        """All events so far, oldest first (a copy)."""
        return list(self._events)

    @property
    def event_count(self) -> int:
        """How often content was cut."""
        return len(self._events)

    @property
    def total_tokens_removed(self) -> int:
        """What was cut off in all, in tokens."""
        return sum(event.tokens_removed for event in self._events)

    def get_summary(self) -> dict[str, Any]:
        """Return plain data: how often, how much, by which strategies, of which types, and what part is left.

        ``avg_preserved_ratio`` is the mean over the events, 1.0 without any.
        """
        events = self._events
        ratios = sum(event.preserved_ratio for event in events)
        return {
            "event_count": len(events),
            "total_tokens_removed": self.total_tokens_removed,
            "strategies_used": list(dict.fromkeys(event.strategy for event in events)),
            "content_types": list(dict.fromkeys(event.content_type for event in events)),
            "avg_preserved_ratio": ratios / len(events) if events else 1.0,
        }


@dataclass(frozen=True, slots=True)
class VersionMetadata:
    """Which version of a piece of content was retrieved, when and from where. Read-only.

    Args:
        content_id: The content.
        version: Its version.
        retrieved_at: When it was retrieved, with a time zone.
        source: Where it comes from, as ``"vector_db"``.
        checksum: The first 16 hexadecimal digits of the content's SHA-256.
        ttl_seconds: How long it is good for, in seconds; for ever without.
        tags: Anything to find it by.

    Raises:
        ArgumentTypeError: A field has another type.
        ArgumentValueError: The time has no time zone, or the time to live is negative or no number.

    ```python
    from stageflow.context import VersionMetadata

    version = VersionMetadata.create("doc-1", "v2", "vector_db", content="Once", ttl_seconds=60)
    print(version.checksum, version.is_stale)
    #> d88f6d8372f4d54e False
    ```
    """

    content_id: str
    version: str
    retrieved_at: datetime
    source: str
    checksum: str | None = None
    ttl_seconds: float | None = None
    tags: list[str] = field(default_factory=FrozenList[str])

    def __post_init__(self) -> None:
        owner = "VersionMetadata"
        for name in ("content_id", "version", "source"):
            check_name(owner, name, getattr(self, name))
        check_type(owner, "retrieved_at", self.retrieved_at, datetime, "a datetime")
        if self.retrieved_at.tzinfo is None:
            raise wrong_value(owner, "retrieved_at", "needs a time zone", self.retrieved_at)
        check_type(owner, "checksum", self.checksum, str | None, "a str or None")
        check_type(owner, "ttl_seconds", self.ttl_seconds, float | int | None, "a number of seconds or None")
        if self.ttl_seconds is not None and not self.ttl_seconds >= 0:
            raise wrong_value(owner, "ttl_seconds", "must be 0 or more", self.ttl_seconds)
        _set(self, "tags", freeze(items_of(owner, "tags", self.tags)))

    @classmethod
    def create(
        cls,
        content_id: str,
        version: str,
        source: str,
        content: str | bytes | None = None,
        ttl_seconds: float | None = None,
        tags: list[str] | None = None,
    ) -> VersionMetadata:
        """Describe content that was retrieved just now.

        Args:
            content_id: The content.
            version: Its version.
            source: Where it comes from.
            content: The content itself, for the checksum; text counts as UTF-8.
            ttl_seconds: How long it is good for, in seconds; for ever without.
            tags: Anything to find it by.

        Raises:
            ArgumentTypeError: An argument has another type.
            ArgumentValueError: The time to live is negative or no number.
        """
        check_type("VersionMetadata.create", "content", content, str | bytes | None, "a str, bytes or None")
        checksum = None
        if content is not None:
            from hashlib import sha256

            raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
            checksum = sha256(raw).hexdigest()[:16]
        return cls(content_id, version, datetime.now(UTC), source, checksum, ttl_seconds, tags or [])

    @property
    def age_seconds(self) -> float:
        """How long ago it was retrieved, in seconds."""
        return (datetime.now(UTC) - self.retrieved_at).total_seconds()

    @property
    def is_stale(self) -> bool:
        """Whether it is older than its time to live."""
        return self.ttl_seconds is not None and self.age_seconds > self.ttl_seconds

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and what follows from them, as plain data, the time in ISO 8601."""
        return {
            "content_id": self.content_id,
            "version": self.version,
            "retrieved_at": self.retrieved_at.isoformat(),
            "source": self.source,
            "checksum": self.checksum,
            "ttl_seconds": self.ttl_seconds,
            "age_seconds": self.age_seconds,
            "is_stale": self.is_stale,
            "tags": thaw(self.tags),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VersionMetadata:
        """Read what ``to_dict`` gives; what follows from the fields, and unknown keys, are ignored.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is missing or of another type.
            ArgumentValueError: The time is no time or has no time zone, or the time to live is negative.
        """
        owner = "VersionMetadata.from_dict"
        data = require_mapping(owner, "data", data)
        values: Any = {
            name: data.get(name)
            for name in ("content_id", "version", "source", "checksum", "ttl_seconds", "tags")
        }
        return cls(
            retrieved_at=cast("datetime", parse_time(owner, "retrieved_at", data.get("retrieved_at"))),
            **values,
        )


@dataclass(frozen=True, slots=True)
class ConflictResolution:
    """What became of two values for one field. ``ConflictDetector`` makes it.

    Args:
        has_conflict: Whether the values differ.
        field: The field.
        old_value: The value that was there.
        new_value: The value that came.
        resolution: The strategy that decided, or None without a conflict.
        merged_value: The value to go on with; None if the strategy is ``"error"``.

    ```python
    from stageflow.context import ConflictDetector, ConflictResolution

    result: ConflictResolution = ConflictDetector("error").check_and_resolve("age", 7, 8)
    print(result.has_conflict, result.resolution, result.merged_value)
    #> True error None
    ```
    """

    has_conflict: bool
    field: str | None = None
    old_value: Any = None
    new_value: Any = None
    resolution: str | None = None
    merged_value: Any = None


_STRATEGIES = ("keep_old", "keep_new", "merge", "error")


class ConflictDetector:
    """Compares an old and a new value of a field, and says which to go on with.

    The strategies: ``keep_new``; ``keep_old``; ``merge`` (lists: the old elements, then the new ones that are
    not there yet; dicts: key by key, down to the bottom; texts: joined by a newline; else the new value);
    ``error`` (no value: the caller decides).

    Args:
        default_strategy: The strategy of all fields without one of their own.
        merge_strategies: Strategies by field.

    Raises:
        ArgumentValueError: A strategy is not one of the four.

    ```python
    from stageflow.context import ConflictDetector

    detector = ConflictDetector(merge_strategies={"tags": "merge", "name": "keep_old"})
    print(detector.check_and_resolve("tags", ["a", "b"], ["b", "c"]).merged_value)
    #> ['a', 'b', 'c']
    print(detector.check_and_resolve("name", "Ada", "Ada L.").merged_value)
    #> Ada
    ```
    """

    __slots__ = ("default_strategy", "merge_strategies")

    def __init__(
        self, default_strategy: str = "keep_new", merge_strategies: Mapping[str, str] | None = None
    ) -> None:
        owner = "ConflictDetector"
        _check_strategy(owner, "default_strategy", default_strategy)
        strategies = require_mapping(owner, "merge_strategies", merge_strategies or {})
        for name in strategies.values():
            _check_strategy(owner, "merge_strategies", name)
        self.default_strategy = default_strategy
        self.merge_strategies: dict[str, str] = dict(strategies)

    def check_and_resolve(self, field: str, old_value: Any, new_value: Any) -> ConflictResolution:
        """Compare two values of a field; no old value (None) and equal values are no conflict.

        Args:
            field: The field, which chooses the strategy.
            old_value: The value that was there, or None.
            new_value: The value that came.

        Raises:
            ArgumentTypeError: The field is no str.
        """
        check_type("ConflictDetector.check_and_resolve", "field", field, str, "a str")
        if old_value is None or _same(old_value, new_value):
            return ConflictResolution(False, field, old_value, new_value, None, new_value)
        strategy = self.merge_strategies.get(field, self.default_strategy)
        if strategy == "merge":
            value = _merge(old_value, new_value)
        else:
            value = {"keep_old": old_value, "keep_new": new_value, "error": None}[strategy]
        return ConflictResolution(True, field, old_value, new_value, strategy, value)


def _check_strategy(owner: str, argument: str, value: object) -> None:
    check_type(owner, argument, value, str, "the name of a strategy")
    if value not in _STRATEGIES:
        hint = close_matches(str(value), _STRATEGIES)
        fix = hint or f"Choose one of {', '.join(_STRATEGIES)}"
        raise wrong_value(owner, argument, "is not the name of a strategy", value, fix=fix)


def _same(old: object, new: object) -> bool:
    """Whether two values are equal; arrays, whose comparison gives an array, are if they are one object."""
    if old is new:
        return True
    try:
        return bool(old == new)
    except Exception:  # noqa: BLE001 - values are the user's, and so is what their == does
        return False


_dict: Any = dict  # Any, for users' values: isinstance is to say nothing of what is inside
_list: Any = list


def _merge(old: Any, new: Any) -> Any:
    """Merge two values; nested dicts on a stack of our own, since values may be deep."""
    if not (isinstance(old, _dict) and isinstance(new, _dict)):
        return _merge_flat(old, new)
    merged: dict[Any, Any] = {**old}
    pending: list[tuple[dict[Any, Any], dict[Any, Any]]] = [(merged, new)]
    while pending:
        target, source = pending.pop()
        for key, value in source.items():
            if key not in target:
                target[key] = value
            elif isinstance(target[key], _dict) and isinstance(value, _dict):
                target[key] = below = {**target[key]}
                pending.append((below, value))
            else:
                target[key] = _merge_flat(target[key], value)
    return merged


def _merge_flat(old: Any, new: Any) -> Any:
    if isinstance(old, _list) and isinstance(new, _list):
        return _union(old, new)
    if isinstance(old, str) and isinstance(new, str):
        return old if old == new else f"{old}\n{new}"
    return new


def _union(old: list[Any], new: list[Any]) -> list[Any]:
    """Return *old* and what of *new* is not in it; linear for elements that have a hash."""
    merged, known, others = list(old), set[Any](), list[Any]()
    for item in old:
        _known(item, known, others)
    merged.extend(item for item in new if not _known(item, known, others))
    return merged


def _known(item: Any, known: set[Any], others: list[Any]) -> bool:
    """Whether an element was seen before; it is from now on."""
    try:
        if item in known:
            return True
        known.add(item)
    except TypeError:  # no hash
        if any(_same(other, item) for other in others):
            return True
        others.append(item)
    return False
