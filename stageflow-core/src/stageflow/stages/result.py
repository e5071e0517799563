"""``StageResult``: what interceptors see of a finished stage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import check_type
from stageflow.stages.output import PLAIN, StageOutput
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StageResult", "result_of", "wall_time"]

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

    __slots__ = ("_ended", "_started", "data", "error", "name", "output", "status")

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
        self._started: datetime | int = started_at  # an int is nanoseconds of the monotonic clock
        self._ended: datetime | int = ended_at
        self.data: Mapping[str, Any] = data if data is not None else {}
        self.error = error
        self.output = output

    @classmethod
    def of(cls, name: str, output: StageOutput, started_ns: int, ended_ns: int) -> StageResult:
        """Describe *output* as the result of stage *name*; the times are of the monotonic clock, in nanoseconds."""
        check_type("StageResult.of", "output", output, StageOutput, "a StageOutput")
        return result_of(name, output, started_ns, ended_ns)

    @property
    def started_at(self) -> datetime:
        """When the attempt began, in UTC."""
        if isinstance(self._started, int):
            self._started = wall_time(self._started)
        return self._started

    @started_at.setter
    def started_at(self, value: datetime) -> None:
        self._started = value

    @property
    def ended_at(self) -> datetime:
        """When the attempt ended, in UTC."""
        if isinstance(self._ended, int):
            self._ended = wall_time(self._ended)
        return self._ended

    @ended_at.setter
    def ended_at(self, value: datetime) -> None:
        self._ended = value

    @property
    def duration_ms(self) -> float:
        """How long the attempt took, in milliseconds."""
        if isinstance(self._started, int) and isinstance(self._ended, int):
            return (self._ended - self._started) / 1e6
        return (self.ended_at - self.started_at).total_seconds() * 1000

    def __repr__(self) -> str:
        return f"StageResult({self.name!r}, {self.status!r})"


_new = object.__new__


def result_of(name: str, output: StageOutput, started_ns: int, ended_ns: int) -> StageResult:
    """Return what ``StageResult.of`` does, unchecked: for those who made the output."""
    result: Any = _new(StageResult)
    form = output.form
    result.name = name
    result.status = "completed" if form is PLAIN else _WORDS[form.status]
    result._started = started_ns  # noqa: SLF001 - its own, in the making
    result._ended = ended_ns  # noqa: SLF001 - its own, in the making
    result.data = output.data
    result.error = form.error
    result.output = output
    made: StageResult = result
    return made


def wall_time(then_ns: int) -> datetime:
    """Return the time of day, in UTC, that a reading of the monotonic clock stands for.

    Args:
        then_ns: The reading, in nanoseconds.
    """
    return datetime.now(UTC) - timedelta(microseconds=(monotonic_ns() - then_ns) / 1000)
