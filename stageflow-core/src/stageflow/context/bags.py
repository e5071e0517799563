"""Bags that several writers fill and that refuse to be overwritten: ``ContextBag``, ``OutputBag``.

Both belong to the published interface. The kernel itself uses neither: a run's results are
``PipelineResults``, and data goes from stage to stage through declared dependencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stageflow.context.checks import check_name, check_type
from stageflow.context.frozen import freeze, thaw
from stageflow.errors import RunError, shown

__all__ = ["ContextBag", "DataConflictError", "OutputBag", "OutputConflictError", "OutputEntry"]


class DataConflictError(RunError):
    """A key of a ``ContextBag`` is written twice.

    Args:
        key: The key.
        existing_writer: The stage that has written it.
        new_writer: The stage that tried to.

    ```python
    from stageflow.context import DataConflictError

    print(DataConflictError("score", "grade", "regrade").what)
    #> Key 'score' already written by 'grade', cannot write from 'regrade'
    ```
    """

    code = "SF-RUN-DATA-CONFLICT"

    def __init__(self, key: str, existing_writer: str, new_writer: str) -> None:
        self.key = key
        self.existing_writer = existing_writer
        self.new_writer = new_writer
        super().__init__(
            f"Key {shown(key)} already written by {shown(existing_writer)}, cannot write from {shown(new_writer)}",
            where=f"stage {shown(new_writer)}",
            fix="Write under a key of its own, as '<stage>.<key>'",
        )


class OutputConflictError(RunError):
    """A stage's output is already in the ``OutputBag``.

    Args:
        stage_name: The stage.
        existing_attempt: The attempt whose output is there, from 1.

    ```python
    from stageflow.context import OutputConflictError

    print(OutputConflictError("grade", 2).what)
    #> Stage 'grade' already has output (attempt 2)
    ```
    """

    code = "SF-RUN-OUTPUT-CONFLICT"

    def __init__(self, stage_name: str, existing_attempt: int) -> None:
        self.stage_name = stage_name
        self.existing_attempt = existing_attempt
        super().__init__(
            f"Stage {shown(stage_name)} already has output (attempt {existing_attempt})",
            where=f"stage {shown(stage_name)}",
            fix="For a further attempt, write with allow_overwrite=True",
        )


class ContextBag:
    """Values by key, each written once; what is written is read-only from then on.

    New code passes data through stage outputs; this bag stays for code written for 0.9.

    ```python
    import asyncio
    from stageflow.context import ContextBag, DataConflictError

    async def main():
        bag = ContextBag()
        await bag.write("score", 7, "grade")
        print(bag.read("score"), bag.get_writer("score"))
        #> 7 grade
        try:
            await bag.write("score", 8, "regrade")
        except DataConflictError as error:
            print(error.existing_writer, error.new_writer)
            #> grade regrade

    asyncio.run(main())
    ```
    """

    __slots__ = ("_values", "_writers")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._writers: dict[str, str] = {}

    async def write(self, key: str, value: Any, stage_name: str) -> None:
        """Write a value once.

        Args:
            key: The key.
            value: The value; its dicts, lists and sets are copied into read-only ones.
            stage_name: Who writes.

        Raises:
            DataConflictError: The key is taken, by whichever stage.
            ArgumentTypeError: The key or the name is no str.
            ArgumentValueError: The key or the name is empty.
            CyclicDataError: The value contains itself.
        """
        check_name("ContextBag.write", "key", key)
        check_name("ContextBag.write", "stage_name", stage_name)
        if key in self._writers:
            raise DataConflictError(key, self._writers[key], stage_name)
        self._values[key] = freeze(value)
        self._writers[key] = stage_name

    def read(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or *default*."""
        check_type("ContextBag.read", "key", key, str, "a str")
        return self._values.get(key, default)

    def has(self, key: str) -> bool:
        """Whether the key was written."""
        check_type("ContextBag.has", "key", key, str, "a str")
        return key in self._values

    def keys(self) -> list[str]:
        """Return the keys in the order in which they were written."""
        return list(self._values)

    def get_writer(self, key: str) -> str | None:
        """Return who wrote a key, or None."""
        check_type("ContextBag.get_writer", "key", key, str, "a str")
        return self._writers.get(key)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain, mutable copy of all values."""
        return thaw(self._values)

    def __repr__(self) -> str:
        return f"ContextBag({self._values!r})"


@dataclass(frozen=True, slots=True)
class OutputEntry:
    """One output in an ``OutputBag``.

    Args:
        output: The stage's output, a ``StageOutput``.
        attempt: The attempt that gave it, from 1.
        timestamp: When it was written, in UTC.
        stage_name: The stage.

    ```python
    from stageflow.context import OutputBag, OutputEntry
    from stageflow.stages.output import StageOutput

    entry: OutputEntry = OutputBag().write_sync("grade", StageOutput.ok({"score": 7}))
    print(entry.stage_name, entry.attempt, entry.to_dict()["status"])
    #> grade 1 ok
    ```
    """

    output: Any
    attempt: int
    timestamp: datetime
    stage_name: str

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain data, with the number of artifacts and events instead of them."""
        output = self.output
        status = getattr(output, "status", None)
        return {
            "stage_name": self.stage_name,
            "attempt": self.attempt,
            "timestamp": self.timestamp.isoformat(),
            "status": getattr(status, "value", status),
            "data": thaw(getattr(output, "data", None)),
            "error": getattr(output, "error", None),
            "duration_ms": getattr(output, "duration_ms", None),
            "artifacts_count": len(getattr(output, "artifacts", ())),
            "events_count": len(getattr(output, "events", ())),
        }


class OutputBag:
    """Stage outputs by stage, each written once unless a further attempt replaces it.

    ```python
    from stageflow.context import OutputBag
    from stageflow.stages.output import StageOutput

    bag = OutputBag()
    bag.write_sync("grade", StageOutput.ok({"score": 7}))
    entry = bag.write_sync("grade", StageOutput.ok({"score": 8}), allow_overwrite=True)
    print(entry.attempt, bag.get_value("grade", "score"), bag.get_retry_stages())
    #> 2 8 ['grade']
    ```
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[str, OutputEntry] = {}

    async def write(self, stage_name: str, output: Any, *, allow_overwrite: bool = False) -> OutputEntry:
        """Write a stage's output; see ``write_sync``, which does the same."""
        return self.write_sync(stage_name, output, allow_overwrite=allow_overwrite)

    def write_sync(self, stage_name: str, output: Any, *, allow_overwrite: bool = False) -> OutputEntry:
        """Write a stage's output.

        Args:
            stage_name: The stage.
            output: Its ``StageOutput``.
            allow_overwrite: Let this further attempt replace the output that is there.

        Raises:
            OutputConflictError: There is an output of the stage, and it may not be replaced.
            ArgumentTypeError: The name is no str.
            ArgumentValueError: The name is empty.
        """
        check_name("OutputBag.write", "stage_name", stage_name)
        existing = self._entries.get(stage_name)
        if existing is not None and not allow_overwrite:
            raise OutputConflictError(stage_name, existing.attempt)
        attempt = 1 if existing is None else existing.attempt + 1
        entry = self._entries[stage_name] = OutputEntry(output, attempt, datetime.now(UTC), stage_name)
        return entry

    def get(self, stage_name: str) -> OutputEntry | None:
        """Return a stage's entry, or None."""
        check_type("OutputBag", "stage_name", stage_name, str, "a str")
        return self._entries.get(stage_name)

    def get_output(self, stage_name: str) -> Any:
        """Return a stage's output, or None."""
        entry = self.get(stage_name)
        return None if entry is None else entry.output

    def get_value(self, stage_name: str, key: str, default: Any = None) -> Any:
        """Return one value of a stage's output, or *default* when the output or the key is not there."""
        check_type("OutputBag.get_value", "key", key, str, "a str")
        data = getattr(self.get_output(stage_name), "data", None)
        return data.get(key, default) if data else default

    def has(self, stage_name: str) -> bool:
        """Whether there is an output of the stage."""
        return self.get(stage_name) is not None

    def keys(self) -> list[str]:
        """Return the stages in the order in which they first wrote."""
        return list(self._entries)

    def entries(self) -> list[OutputEntry]:
        """Return all entries, in the order of ``keys()``."""
        return list(self._entries.values())

    def outputs(self) -> dict[str, Any]:
        """Return the outputs by stage."""
        return {name: entry.output for name, entry in self._entries.items()}

    def get_attempt_count(self, stage_name: str) -> int:
        """Return how often the stage wrote; 0 if never."""
        entry = self.get(stage_name)
        return 0 if entry is None else entry.attempt

    def get_retry_stages(self) -> list[str]:
        """Return the stages that wrote more than once."""
        return [name for name, entry in self._entries.items() if entry.attempt > 1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: ``entries`` by stage, ``stage_count`` and ``total_attempts``."""
        return {
            "entries": {name: entry.to_dict() for name, entry in self._entries.items()},
            "stage_count": len(self._entries),
            "total_attempts": sum(entry.attempt for entry in self._entries.values()),
        }

    def __contains__(self, stage_name: object) -> bool:
        return stage_name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"OutputBag({', '.join(self._entries)})"
