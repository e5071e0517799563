"""``StageResult``: what interceptors see of a finished stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from stageflow.stages.output import StageOutput

__all__ = ["StageResult"]

_WORDS = {
    StageStatus.OK: "completed",
    StageStatus.SKIP: "skipped",
    StageStatus.CANCEL: "cancelled",
    StageStatus.FAIL: "failed",
    StageStatus.RETRY: "retry",
}


@final
class StageResult:
    """A finished stage, for ``after`` hooks and ``run_with_interceptors``.

    Attributes:
        name: The stage.
        status: ``"completed"``, ``"skipped"``, ``"failed"``, ``"cancelled"`` or ``"retry"``.
        started_at: When the attempt began, in UTC.
        ended_at: When it ended, in UTC.
        data: The output's data.
        error: Why it failed.
        output: The whole output, if there is one.

    ```python
    from datetime import UTC, datetime

    from stageflow import StageOutput, StageResult

    now = datetime.now(UTC)
    result = StageResult.of("greet", StageOutput.ok(text="hi"), now, now)
    print(result.name, result.status, result.data, result.duration_ms)
    #> greet completed {'text': 'hi'} 0.0
    ```
    """

    __slots__ = ("data", "ended_at", "error", "name", "output", "started_at", "status")

    def __init__(
        self,
        name: str,
        status: str,
        started_at: datetime,
        ended_at: datetime,
        data: Mapping[str, Any] | None = None,
        error: str | None = None,
        output: StageOutput | None = None,
    ) -> None:
        self.name = name
        self.status = status
        self.started_at = started_at
        self.ended_at = ended_at
        self.data: Mapping[str, Any] = data if data is not None else {}
        self.error = error
        self.output = output

    @classmethod
    def of(cls, name: str, output: StageOutput, started_at: datetime, ended_at: datetime) -> StageResult:
        """Describe *output* as the result of stage *name*."""
        return cls(name, _WORDS[output.status], started_at, ended_at, output.data, output.error, output)

    @property
    def duration_ms(self) -> float:
        """How long the attempt took, in milliseconds."""
        return (self.ended_at - self.started_at).total_seconds() * 1000

    def __repr__(self) -> str:
        return f"StageResult({self.name!r}, {self.status!r})"
