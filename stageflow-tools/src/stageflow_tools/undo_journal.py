"""``UndoJournal``: undoes an action, or all of a run in reverse order, each once.

```text
            undo                          the handler returns
  KEPT ------------> UNDOING (leased) ---------------------------> UNDONE
    ^                 |  ^   |
    |                 |  |   +-- it raises, or is cancelled -----> FAILED -- undo --> UNDOING
    |      lease over v  | renewed
    +-- resolve --- UNKNOWN --- resolve ----------------------> UNDONE
```
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final
from uuid import uuid4

from stageflow.context.checks import number_of, wrong_type

from stageflow_tools.identifier import read_identifier
from stageflow_tools.lease import kept_alive, outwait, to_the_end
from stageflow_tools.undo import UndoRecord, UndoStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stageflow_tools.identifier import Identifier
    from stageflow_tools.undo import UndoStore

    UndoHandler: TypeAlias = Callable[[Any], Awaitable[object]]

__all__ = ["UndoJournal", "UndoOutcome", "UndoReport", "UndoResult"]

_OWNER: Final = "UndoJournal"
_POLL_SECONDS: Final = 0.05
_LONGEST_POLL_SECONDS: Final = 1.0
_logger = logging.getLogger("stageflow.tools")


class UndoOutcome(StrEnum):
    """What became of the wish to undo an action.

    Attributes:
        UNDONE: The handler has undone it.
        ALREADY_UNDONE: It was undone before; the handler was not called.
        FAILED: The handler has raised.
        NO_HANDLER: Nobody knows how to undo what this tool does.
        NOT_FOUND: There is no record: none was kept, its time is over, or it is another tenant's.
        IN_PROGRESS: Somebody else is at it.
        UNKNOWN: Somebody else was at it, and has gone without a word.
    """

    UNDONE = "undone"
    ALREADY_UNDONE = "already_undone"
    FAILED = "failed"
    NO_HANDLER = "no_handler"
    NOT_FOUND = "not_found"
    IN_PROGRESS = "in_progress"
    UNKNOWN = "unknown"

    @property
    def is_undone(self) -> bool:
        """Whether the action is undone now."""
        return self in {UndoOutcome.UNDONE, UndoOutcome.ALREADY_UNDONE}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UndoResult:
    """What became of the wish to undo one action.

    Attributes:
        action_id: The action.
        outcome: What became of it.
        record: What is kept of it; None if nothing is.
        error: What the handler has raised now.
    """

    action_id: Identifier
    outcome: UndoOutcome
    record: UndoRecord | None = None
    error: Exception | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UndoReport:
    """What became of the wish to undo a run.

    Attributes:
        run_id: The run.
        results: One for each action that has a record, in the order in which they were undone: the last one first.
    """

    run_id: Identifier
    results: tuple[UndoResult, ...]

    @property
    def ok(self) -> bool:
        """Whether all of it is undone now."""
        return not self.not_undone

    @property
    def not_undone(self) -> tuple[UndoResult, ...]:
        """What is not."""
        return tuple(one for one in self.results if not one.outcome.is_undone)


@final
class UndoJournal:
    """Undoes what tools have done, as far as they have left records of how to.

    Each action is undone once, however many processes ask: one claims the record and calls the handler, and writes down
    how it ended. A handler that raises can be called again. If a process dies with a claim, its outcome is unknown: the
    action is neither undone again by itself nor forgotten.

    Args:
        store: Where the records are.
        handlers: Returns what undoes the calls of a tool, by its name: an async callable that takes the ``undo_data``.
            None if there is nothing.
        lease_seconds: How long whoever undoes counts as alive without renewing its claim.

    Raises:
        ArgumentTypeError: ``handlers`` is no callable, or ``lease_seconds`` no number.
        ArgumentValueError: ``lease_seconds`` is not positive.

    ```python
    import asyncio

    from stageflow_tools.undo import InMemoryUndoStore
    from stageflow_tools.undo_journal import UndoJournal

    files = {"a.txt": "new", "b.txt": "new"}


    async def restore(undo_data):
        files[undo_data["path"]] = undo_data["before"]


    async def main():
        store = InMemoryUndoStore()
        for number, path in enumerate(files):
            await store.store(f"call-{number}", "files.write", {"path": path, "before": "old"}, run_id="run-1")
        journal = UndoJournal(store, {"files.write": restore}.get)
        report = await journal.undo_run("run-1")
        print(files, [str(one.action_id) for one in report.results])
        #> {'a.txt': 'old', 'b.txt': 'old'} ['call-1', 'call-0']
        print((await journal.undo("call-0")).outcome)
        #> already_undone


    asyncio.run(main())
    ```
    """

    __slots__ = ("_handlers", "_lease", "_store")

    def __init__(
        self,
        store: UndoStore,
        handlers: Callable[[str], UndoHandler | None],
        *,
        lease_seconds: float = 60,
    ) -> None:
        if not callable(handlers):
            raise wrong_type(_OWNER, "handlers", "a callable, such as the get of a dict", handlers)
        self._store = store
        self._handlers = handlers
        self._lease = number_of(
            _OWNER,
            "lease_seconds",
            lease_seconds,
            expects="seconds as a number",
            problem="must be more than zero seconds",
            positive=True,
        )

    async def undo(self, action_id: Identifier, *, tenant: str | None = None) -> UndoResult:
        """Undo one action, unless it is undone, or somebody is or was at it.

        A cancelled call cancels the handler and writes down that it failed.

        Args:
            action_id: The action.
            tenant: Whose action it was.

        Raises:
            StoreError: The store cannot be used.
        """
        action_id = read_identifier(_OWNER, "action_id", action_id)
        owner = uuid4().hex
        while True:
            record = await self._store.get(action_id, tenant=tenant)
            if record is None:
                return UndoResult(action_id=action_id, outcome=UndoOutcome.NOT_FOUND)
            outcome = _CANNOT.get(record.status)
            if outcome is not None:
                return UndoResult(action_id=action_id, outcome=outcome, record=record)
            handler, error = self._handler(record.tool_name)
            if handler is None:
                return UndoResult(
                    action_id=action_id, outcome=UndoOutcome.NO_HANDLER, record=record, error=error
                )
            claimed = replace(
                record,
                status=UndoStatus.UNDOING,
                claimed_by=owner,
                claimed_until=self._after(self._lease),
                attempts=record.attempts + 1,
                version=record.version + 1,
            )
            if await self._claim(claimed, before=record):
                return await self._call(handler, claimed, owner)

    async def undo_run(self, run_id: Identifier, *, tenant: str | None = None) -> UndoReport:
        """Undo all actions of a run, the last one first, going on past those that cannot be undone.

        What somebody else is undoing is waited for, so that the order holds.

        Args:
            run_id: The run.
            tenant: Whose run it was.

        Raises:
            StoreError: The store cannot be used.
        """
        run = read_identifier(_OWNER, "run_id", run_id)
        records = await self._store.get_all(run_id=run, tenant=tenant)
        results: list[UndoResult] = []
        for record in reversed(records):
            result = await self.undo(record.action_id, tenant=tenant)
            pause = _POLL_SECONDS
            while result.outcome is UndoOutcome.IN_PROGRESS:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_POLL_SECONDS)
                result = await self.undo(record.action_id, tenant=tenant)
            results.append(result)
        return UndoReport(run_id=run, results=tuple(results))

    async def resolve(self, action_id: Identifier, *, undone: bool, tenant: str | None = None) -> bool:
        """Write down what somebody has found out about an undo with an unknown outcome.

        Args:
            action_id: The action.
            undone: Whether it is undone. If not, it can be tried again.
            tenant: Whose action it was.

        Returns:
            False if the outcome is not unknown, or if there is no such record.

        Raises:
            StoreError: The store cannot be used.
        """
        while True:
            record = await self._store.get(action_id, tenant=tenant)
            if record is None or record.status is not UndoStatus.UNKNOWN:
                return False
            resolved = replace(
                record,
                status=UndoStatus.UNDONE if undone else UndoStatus.KEPT,
                claimed_by=None,
                claimed_until=None,
                settled_at=self._after(0),
                version=record.version + 1,
            )
            if await self._store.replace(resolved):
                return True

    def _handler(self, tool_name: str) -> tuple[UndoHandler | None, Exception | None]:
        try:
            return self._handlers(tool_name), None
        except Exception as exc:  # noqa: BLE001 - a registry says so by raising; other records can still be undone
            return None, exc

    async def _claim(self, claimed: UndoRecord, *, before: UndoRecord) -> bool:
        """Take the record; who is cancelled meanwhile gives it back, as the handler was not called."""
        claim = asyncio.ensure_future(self._store.replace(claimed))
        cancelled = await outwait(claim)
        if cancelled is None:
            return claim.result()
        if not claim.cancelled() and claim.exception() is None and claim.result():
            free = replace(before, version=claimed.version + 1)
            given_back = asyncio.ensure_future(self._store.replace(free))
            await outwait(given_back)
            given_back.exception()  # then the outcome is unknown: that is safe, and visible
        raise cancelled

    async def _call(self, handler: UndoHandler, claimed: UndoRecord, owner: str) -> UndoResult:
        error: Exception | None = None

        async def renew() -> None:
            await self._change(
                claimed, owner, claimed_until=self._after(self._lease), status=UndoStatus.UNDOING
            )

        async with kept_alive(renew, self._lease):
            try:
                await handler(claimed.undo_data)
            except asyncio.CancelledError:
                await to_the_end(self._settle(claimed, owner, UndoStatus.FAILED, "cancelled"))
                raise
            except Exception as exc:  # noqa: BLE001 - it is reported, and what else is to be undone goes on
                error = exc
            status = UndoStatus.UNDONE if error is None else UndoStatus.FAILED
            words = None if error is None else f"{type(error).__name__}: {error}"
            record = await to_the_end(self._settle(claimed, owner, status, words))
        outcome = UndoOutcome.UNDONE if error is None else UndoOutcome.FAILED
        return UndoResult(action_id=claimed.action_id, outcome=outcome, record=record, error=error)

    async def _settle(
        self, claimed: UndoRecord, owner: str, status: UndoStatus, error: str | None
    ) -> UndoRecord | None:
        settled = await self._change(
            claimed,
            owner,
            status=status,
            claimed_by=None,
            claimed_until=None,
            settled_at=self._after(0),
            error=error,
        )
        if settled is None:
            _logger.warning(
                "The undo of action %s has ended (%s) after somebody took its process for dead",
                claimed.action_id,
                status.value,
            )
        return settled

    async def _change(self, claimed: UndoRecord, owner: str, **changes: Any) -> UndoRecord | None:
        """Change a record for as long as the claim on it is this owner's; None if it is not any more."""
        while True:
            record = await self._store.get(claimed.action_id, tenant=claimed.tenant)
            if record is None or record.claimed_by != owner:
                return None
            changed = replace(record, **changes, version=record.version + 1)
            if await self._store.replace(changed):
                return changed

    def _after(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self._store.now(), UTC) + timedelta(seconds=seconds)


_CANNOT: Final = {
    UndoStatus.UNDONE: UndoOutcome.ALREADY_UNDONE,
    UndoStatus.UNDOING: UndoOutcome.IN_PROGRESS,
    UndoStatus.UNKNOWN: UndoOutcome.UNKNOWN,
}
