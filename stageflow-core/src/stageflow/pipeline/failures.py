"""``FailureCollector``: the failure modes as a book-keeper, for code that runs stages itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.checks import check_type, wrong_value
from stageflow.runtime.failure import FailureMode
from stageflow.stages.output import StageOutput
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FailureCollector"]

_OWNER: Final = "FailureCollector"
_MODES: Final = tuple(FailureMode)


@final
class FailureCollector:
    """Notes which stages failed, and says by the failure mode whether another may run.

    A run needs none: ``build(failure_mode=...)`` does this. It is for code that works through stages by itself, or
    that wants the summary of a run that has ended (``of``).

    Args:
        mode: What a failure means for the others.

    Raises:
        ArgumentTypeError: *mode* is no ``FailureMode``, nor the text of one.
        ArgumentValueError: There is no such mode.

    ```python
    from stageflow import FailureMode
    from stageflow.pipeline.failures import FailureCollector

    collector = FailureCollector(FailureMode.CONTINUE_ON_FAILURE)
    collector.record_failure("fetch", ConnectionError("no route"))
    print(collector.should_continue("parse", ["fetch"]), collector.should_continue("report", []))
    #> False True
    print(collector.get_summary()["not_run"])
    #> ['parse']
    ```
    """

    __slots__ = ("_completed", "_failed", "_not_run", "mode")

    def __init__(self, mode: FailureMode = FailureMode.FAIL_FAST) -> None:
        check_type(_OWNER, "mode", mode, str, "a FailureMode")
        if mode not in _MODES:
            raise wrong_value(_OWNER, "mode", f"is none of {', '.join(_MODES)}", mode)
        self.mode = FailureMode(mode)
        self._failed: dict[str, str] = {}
        self._completed: dict[str, None] = {}
        self._not_run: dict[str, None] = {}

    @classmethod
    def of(
        cls, results: Mapping[str, StageOutput], mode: FailureMode = FailureMode.CONTINUE_ON_FAILURE
    ) -> FailureCollector:
        """Return one that knows how the stages in *results* ended. Skipped stages have not run.

        Raises:
            ArgumentTypeError: *results* is no mapping of stages to their outputs.
        """
        collector = cls(mode)
        check_type(f"{_OWNER}.of", "results", results, Mapping, "a mapping of stages to their outputs")
        for stage, output in results.items():
            check_type(f"{_OWNER}.of", "results", output, StageOutput, "a StageOutput for each stage")
            if output.status is StageStatus.OK:
                collector.record_completion(stage)
            elif output.status is StageStatus.SKIP:
                collector._not_run[stage] = None
            else:
                collector.record_failure(stage, output.error or output.status.value)
        return collector

    def record_failure(self, stage: str, error: BaseException | str) -> None:
        """Note that a stage failed."""
        check_type(_OWNER, "stage", stage, str, "a str")
        check_type(_OWNER, "error", error, (str, BaseException), "an exception or a str")
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._failed[stage] = text
        self._completed.pop(stage, None)

    def record_completion(self, stage: str) -> None:
        """Note that a stage did its work."""
        check_type(_OWNER, "stage", stage, str, "a str")
        self._completed[stage] = None
        self._failed.pop(stage, None)
        self._not_run.pop(stage, None)

    def should_continue(self, stage: str, dependencies: Iterable[str] = ()) -> bool:
        """Say whether a stage may run. If not, it is noted, so that what depends on it may not run either.

        Args:
            stage: The stage.
            dependencies: The stages that it depends on.
        """
        if self.mode is FailureMode.FAIL_FAST:
            may_run = not self._failed
        else:
            may_run = not any(one in self._failed or one in self._not_run for one in dependencies)
        if not may_run:
            self._not_run[stage] = None
        return may_run

    @property
    def has_failures(self) -> bool:
        """Whether a stage failed."""
        return bool(self._failed)

    def get_summary(self) -> dict[str, Any]:
        """Return what is known, as plain data."""
        return {
            "mode": self.mode.value,
            "failed": dict(self._failed),
            "completed": list(self._completed),
            "not_run": list(self._not_run),
        }

    def __repr__(self) -> str:
        counts = f"{len(self._failed)} failed, {len(self._completed)} completed, {len(self._not_run)} not run"
        return f"<FailureCollector {self.mode}: {counts}>"
