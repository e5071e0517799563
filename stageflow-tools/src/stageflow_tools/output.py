"""``ToolOutput``: what a tool has come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast, final

__all__ = ["ToolOutput", "as_tool_output"]


@final
@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool has come to; made by ``ok`` or ``fail``.

    Attributes:
        success: Whether it did what it was asked to.
        data: What it gives back.
        error: Why it did not.
        artifacts: What it made beside its data, one dict each.
        undo_metadata: What undoing it takes; kept if the tool is undoable.

    ```python
    from stageflow_tools import ToolOutput

    print(ToolOutput.ok({"rows": 3}).to_dict())
    #> {'success': True, 'data': {'rows': 3}}
    print(ToolOutput.fail("no such table").error)
    #> no such table
    ```
    """

    success: bool
    data: dict[str, Any] | None = None
    error: str | None = None
    artifacts: list[dict[str, Any]] | None = None
    undo_metadata: dict[str, Any] | None = None

    @classmethod
    def ok(
        cls,
        data: Mapping[str, Any] | None = None,
        *,
        artifacts: list[dict[str, Any]] | None = None,
        undo_metadata: Mapping[str, Any] | None = None,
    ) -> ToolOutput:
        """Return the output of a tool that did what it was asked to."""
        undo = None if undo_metadata is None else dict(undo_metadata)
        return cls(True, None if data is None else dict(data), None, artifacts, undo)

    @classmethod
    def fail(cls, error: str, *, data: Mapping[str, Any] | None = None) -> ToolOutput:
        """Return the output of a tool that did not, and why."""
        return cls(False, None if data is None else dict(data), error)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that is there as plain data."""
        pairs = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: value for name, value in pairs if value is not None}


def as_tool_output(value: object) -> ToolOutput:
    """Return what a function returned as a ``ToolOutput``: a mapping is its data, anything else its ``result``.

    ```python
    from stageflow_tools.output import as_tool_output

    print(as_tool_output({"rows": 3}).data, as_tool_output(3).data, as_tool_output(None).data)
    #> {'rows': 3} {'result': 3} {}
    ```
    """
    if isinstance(value, ToolOutput):
        return value
    if value is None:
        return ToolOutput(True, {})
    if value.__class__ is str or value.__class__ is int:  # what they return most often
        return ToolOutput(True, {"result": value})
    if isinstance(value, Mapping):
        return ToolOutput.ok({str(key): one for key, one in cast("Mapping[object, Any]", value).items()})
    return ToolOutput.ok({"result": value})
