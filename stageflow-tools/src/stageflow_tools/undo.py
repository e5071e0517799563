"""Undo records: what it takes to undo what a tool has done, and where that is kept."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, final, runtime_checkable

from stageflow.context.checks import check_name, number_of, wrong_value
from stageflow.errors import RunError, shown

from stageflow_tools.canonical_json import canonical_json, plain_copy
from stageflow_tools.identifier import read_identifier
from stageflow_tools.loop_clock import LoopClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from stageflow_tools.identifier import Identifier

__all__ = [
    "InMemoryUndoStore",
    "UndoRecord",
    "UndoRecordExistsError",
    "UndoStatus",
    "UndoStore",
    "clear_undo_store",
    "get_undo_store",
    "set_undo_store",
]

CLEAN_EVERY: Final = 60.0  # seconds
_OWNER: Final = "UndoStore"
_MOST_SECONDS: Final = 3_200_000_000.0  # a hundred years


class UndoRecordExistsError(RunError):
    """An action has left an undo record before, and another one.

    Args:
        action_id: The action.
        tool_name: The tool of the record that is kept.
    """

    code = "SF-TOOLS-UNDO-EXISTS"

    def __init__(self, action_id: Identifier, tool_name: str) -> None:
        self.action_id = action_id
        self.tool_name = tool_name
        super().__init__(
            f"The action {shown(str(action_id))} has an undo record already, and another one",
            where=f"tool {shown(tool_name)}",
            fix="Give each execution an action id of its own, or delete the record that does not count any more",
        )


class UndoStatus(StrEnum):
    """What has become of an undo record.

    Attributes:
        KEPT: The action can be undone.
        UNDOING: Somebody is at it, and holds a lease.
        UNDONE: It is undone. Final.
        FAILED: The handler has raised, or was cancelled. It can be tried again.
        UNKNOWN: The lease has run out: whoever was at it has gone, and nobody knows how far they came.
    """

    KEPT = "kept"
    UNDOING = "undoing"
    UNDONE = "undone"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def is_claimed(self) -> bool:
        """Whether somebody has begun, and has not said how it ended."""
        return self in {UndoStatus.UNDOING, UndoStatus.UNKNOWN}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRecord:
    """What it takes to undo one action. A value: each change makes a new one. Also an ``UndoReceipt`` of the core.

    Attributes:
        action_id: The action. Unique for its tenant.
        tool_name: The tool that undoes it.
        undo_data: What the tool needs for that.
        created_at: When it was kept, in UTC.
        expires_at: Until when the action can be undone.
        action_type: The type of the action.
        run_id: The run that the action was part of.
        tenant: Whose action it was.
        status: What has become of it.
        claimed_by: Who is, or was, at it.
        claimed_until: How long they count as alive; renewed meanwhile.
        settled_at: When it was undone, failed or was resolved.
        error: What the handler has raised, in words.
        attempts: How often it was tried.
        number: Its place in the order in which the store has got its records.
        version: How often it was changed.

    ```python
    import asyncio

    from stageflow.protocols import UndoReceipt
    from stageflow_tools.undo import InMemoryUndoStore


    async def main():
        record = await InMemoryUndoStore().store("call-7", "files.write", {"path": "a.txt", "before": ""})
        print(isinstance(record, UndoReceipt), record.receipt_id, record.status)
        #> True call-7 kept


    asyncio.run(main())
    ```
    """

    action_id: Identifier
    tool_name: str
    undo_data: Any
    created_at: datetime
    expires_at: datetime
    action_type: str | None = None
    run_id: Identifier | None = None
    tenant: str | None = None
    status: UndoStatus = UndoStatus.KEPT
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    settled_at: datetime | None = None
    error: str | None = None
    attempts: int = 0
    number: int = 0
    version: int = 1

    @property
    def receipt_id(self) -> str:
        """The action, as text."""
        return str(self.action_id)

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over. One that somebody has begun with stays until it is known how that ended."""
        return self.expires_at <= now and not self.status.is_claimed

    def as_of(self, now: datetime) -> UndoRecord:
        """Return it as it is at a time: a claim whose lease has run out by then has an unknown outcome."""
        lost = (
            self.status is UndoStatus.UNDOING and self.claimed_until is not None and self.claimed_until <= now
        )
        return replace(self, status=UndoStatus.UNKNOWN) if lost else self

    def same_work(self, other: UndoRecord) -> bool:
        """Whether both say the same about how to undo the same action, and nobody has begun with either."""
        return {self.status, other.status} == {UndoStatus.KEPT} and self._work() == other._work()

    def _work(self) -> tuple[object, ...]:
        data = canonical_json(self.undo_data, owner=_OWNER, argument="undo_data")
        return self.action_id, self.tool_name, self.action_type, self.run_id, self.tenant, data

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "action_id": str(self.action_id),
            "tool_name": self.tool_name,
            "undo_data": self.undo_data,
            "created_at": self.created_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
            "action_type": self.action_type,
            "run_id": None if self.run_id is None else str(self.run_id),
            "tenant": self.tenant,
            "status": self.status.value,
            "claimed_by": self.claimed_by,
            "claimed_until": None if self.claimed_until is None else self.claimed_until.isoformat(),
            "settled_at": None if self.settled_at is None else self.settled_at.isoformat(),
            "error": self.error,
            "attempts": self.attempts,
            "number": self.number,
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` has written.

        Raises:
            Exception: It is something else.
        """
        times = ("created_at", "expires_at", "claimed_until", "settled_at")
        ids = ("action_id", "run_id")
        given: dict[str, Any] = dict(data)
        given |= {name: datetime.fromisoformat(data[name]) for name in times if data[name] is not None}
        given |= {name: read_identifier(_OWNER, name, data[name]) for name in ids if data[name] is not None}
        given["status"] = UndoStatus(data["status"])
        return cls(**given)

    @classmethod
    def new(
        cls,
        action_id: Identifier,
        tool_name: str,
        undo_data: Any,
        ttl_seconds: float,
        *,
        now: float,
        action_type: str | None,
        run_id: Identifier | None,
        tenant: str | None,
    ) -> Self:
        """Return a record of what ``UndoStore.store`` is given, checked.

        Raises:
            ArgumentTypeError: An argument has another type, or ``undo_data`` is no JSON.
            ArgumentValueError: An argument is empty, or ``ttl_seconds`` makes no sense.
        """
        for argument, value in (("tool_name", tool_name), ("action_type", action_type), ("tenant", tenant)):
            if value is not None or argument == "tool_name":
                check_name(_OWNER, argument, value)
                if not str(value).isprintable():  # no database keeps a lone surrogate or a NUL as it is
                    raise wrong_value(_OWNER, argument, "must be printable text", value)
        created_at = datetime.fromtimestamp(now, UTC)
        return cls(
            action_id=read_identifier(_OWNER, "action_id", action_id),
            tool_name=tool_name,
            undo_data=plain_copy(undo_data, owner=_OWNER, argument="undo_data"),
            created_at=created_at,
            expires_at=created_at + timedelta(seconds=checked_ttl("ttl_seconds", ttl_seconds)),
            action_type=action_type,
            run_id=None if run_id is None else read_identifier(_OWNER, "run_id", run_id),
            tenant=tenant,
        )


@runtime_checkable
class UndoStore(Protocol):
    """Keeps undo records, for one process or many. Each method is atomic.

    As with ``ApprovalStore``, a store knows none of the rules: a record is only replaced by its next version.

    ```python
    from stageflow_tools.undo import InMemoryUndoStore, UndoStore

    print(isinstance(InMemoryUndoStore(), UndoStore))
    #> True
    ```
    """

    def now(self) -> float:
        """Return the time by which records expire, in seconds since the epoch."""
        ...

    async def store(
        self,
        action_id: Identifier,
        tool_name: str,
        undo_data: Any,
        ttl_seconds: float | None = None,
        *,
        action_type: str | None = None,
        run_id: Identifier | None = None,
        tenant: str | None = None,
    ) -> UndoRecord:
        """Keep what it takes to undo an action, before the action counts as done.

        Returns:
            The record; the one that is kept already, if it says the same.

        Raises:
            UndoRecordExistsError: The action has a record that says something else.
        """
        ...

    async def get(self, action_id: Identifier, *, tenant: str | None = None) -> UndoRecord | None:
        """Return the record of an action, unless its time is over."""
        ...

    async def replace(self, record: UndoRecord) -> bool:
        """Keep the next version of a record; False, changing nothing, unless the one before it is kept now."""
        ...

    async def delete(self, action_id: Identifier, *, tenant: str | None = None) -> bool:
        """Forget the record of an action; False if there is none."""
        ...

    async def cleanup_expired(self) -> int:
        """Forget all records whose time is over, and return how many."""
        ...

    async def get_all(
        self, *, run_id: Identifier | None = None, tenant: str | None = None
    ) -> list[UndoRecord]:
        """Return the records of a tenant, or of one run of it, whose time is not over, in the order they came."""
        ...

    def __len__(self) -> int:
        """Return how many records are kept, of all tenants."""
        ...


@final
class InMemoryUndoStore:
    """Keeps undo records in this process, for any number of event loops and threads.

    Records whose time is over are removed at most once a minute, when another comes.

    Args:
        default_ttl_seconds: How long an action can be undone.
        clock: The time by which records expire, in seconds since the epoch. None: the wall clock as the event loop
            counts it, so that a virtual clock is one here, too.

    Raises:
        ArgumentTypeError: ``default_ttl_seconds`` is no number.
        ArgumentValueError: It is not positive, or more than a hundred years.

    ```python
    import asyncio

    from stageflow_tools.undo import InMemoryUndoStore


    async def main():
        store = InMemoryUndoStore()
        await store.store("call-7", "files.write", {"path": "a.txt"}, ttl_seconds=60)
        print((await store.get("call-7")).undo_data, len(store))
        #> {'path': 'a.txt'} 1


    asyncio.run(main())
    ```
    """

    __slots__ = ("_clean_at", "_clock", "_lock", "_number", "_records", "_ttl")

    def __init__(
        self, default_ttl_seconds: float = 3600, *, clock: Callable[[], float] | None = None
    ) -> None:
        self._ttl = checked_ttl("default_ttl_seconds", default_ttl_seconds)
        self._clock: Callable[[], float] = LoopClock() if clock is None else clock
        self._lock = threading.Lock()
        self._records: dict[tuple[str | None, Identifier], str] = {}  # as text, which nobody else can change
        self._number = 0
        self._clean_at = -inf

    def __len__(self) -> int:
        """Return how many records are kept."""
        with self._lock:
            return len(self._records)

    def now(self) -> float:
        """Return the time by which records expire."""
        return self._clock()

    async def store(
        self,
        action_id: Identifier,
        tool_name: str,
        undo_data: Any,
        ttl_seconds: float | None = None,
        *,
        action_type: str | None = None,
        run_id: Identifier | None = None,
        tenant: str | None = None,
    ) -> UndoRecord:
        """Keep what it takes to undo an action."""
        now = self.now()
        record = UndoRecord.new(
            action_id,
            tool_name,
            undo_data,
            self._ttl if ttl_seconds is None else ttl_seconds,
            now=now,
            action_type=action_type,
            run_id=run_id,
            tenant=tenant,
        )
        if now >= self._clean_at:
            self._clean_at = now + CLEAN_EVERY
            await self.cleanup_expired()
        key = (tenant, record.action_id)
        with self._lock:
            kept = self._valid(key)
            if kept is not None:
                if kept.same_work(record):
                    return kept
                raise UndoRecordExistsError(record.action_id, kept.tool_name)
            self._number += 1
            record = replace(record, number=self._number)
            self._records.pop(key, None)  # an expired one has another place in the order
            self._records[key] = json.dumps(record.to_dict())
        return record

    async def get(self, action_id: Identifier, *, tenant: str | None = None) -> UndoRecord | None:
        """Return the record of an action."""
        with self._lock:
            return self._valid((tenant, read_identifier(_OWNER, "action_id", action_id)))

    async def replace(self, record: UndoRecord) -> bool:
        """Keep the next version of a record."""
        key = (record.tenant, record.action_id)
        with self._lock:
            text = self._records.get(key)
            if text is None or json.loads(text)["version"] != record.version - 1:
                return False
            self._records[key] = json.dumps(record.to_dict())
            return True

    async def delete(self, action_id: Identifier, *, tenant: str | None = None) -> bool:
        """Forget the record of an action."""
        key = (tenant, read_identifier(_OWNER, "action_id", action_id))
        with self._lock:
            return self._records.pop(key, None) is not None

    async def cleanup_expired(self) -> int:
        """Forget all records whose time is over."""
        with self._lock:
            old = [key for key in self._records if self._valid(key) is None]
            for key in old:
                del self._records[key]
            return len(old)

    async def get_all(
        self, *, run_id: Identifier | None = None, tenant: str | None = None
    ) -> list[UndoRecord]:
        """Return the records of a tenant, or of one run of it."""
        run = None if run_id is None else read_identifier(_OWNER, "run_id", run_id)
        with self._lock:
            found = [self._valid(key) for key in self._records if key[0] == tenant]
        return [one for one in found if one is not None and (run is None or one.run_id == run)]

    def _valid(self, key: tuple[str | None, Identifier]) -> UndoRecord | None:
        text = self._records.get(key)
        if text is None:
            return None
        now = datetime.fromtimestamp(self.now(), UTC)
        record = UndoRecord.from_dict(json.loads(text)).as_of(now)
        return None if record.is_expired(now) else record


_lock = threading.Lock()
_shared: UndoStore | None = None


def get_undo_store() -> UndoStore:
    """Return the store of this process, which is made, in memory, when it is first asked for.

    ```python
    from stageflow_tools.undo import clear_undo_store, get_undo_store

    print(get_undo_store() is get_undo_store())
    #> True
    clear_undo_store()
    ```
    """
    global _shared  # noqa: PLW0603 - one for the process is what it is
    with _lock:
        if _shared is None:
            _shared = InMemoryUndoStore()
        return _shared


def set_undo_store(store: UndoStore) -> None:
    """Make *store* the one of this process.

    Args:
        store: The store.
    """
    global _shared  # noqa: PLW0603 - one for the process is what it is
    with _lock:
        _shared = store


def clear_undo_store() -> None:
    """Forget the store of this process; the next one who asks gets a new one."""
    global _shared  # noqa: PLW0603 - one for the process is what it is
    with _lock:
        _shared = None


def checked_ttl(argument: str, value: float) -> float:
    """Return a time to live in seconds.

    Raises:
        ArgumentTypeError: It is no number.
        ArgumentValueError: It is not positive, or more than a hundred years.
    """
    expects, problem = "seconds as a number", "must be more than zero seconds"
    number = number_of(_OWNER, argument, value, expects=expects, problem=problem, positive=True)
    if number > _MOST_SECONDS:
        raise wrong_value(_OWNER, argument, "must be at most a hundred years", value)
    return number
