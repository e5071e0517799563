"""``FailureCollector``: the failure modes as a book-keeper, for code that runs stages itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.runtime.failure import FailureMode
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.stages.output import StageOutput

__all__ = ["FailureCollector"]


@final
class FailureCollector:
    """Notes which stages failed, and says by the failure mode whether another may run.

    A run needs none: ``build(failure_mode=...)`` does this. It is for code that works through stages by itself, or
    that wants the summary of a run that has ended (``of``).

    Args:
        mode: What a failure means for the others.

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
        self.mode = FailureMode(mode)
        self._failed: dict[str, str] = {}
        self._completed: dict[str, None] = {}
        self._not_run: dict[str, None] = {}

    @classmethod
    def of(
        cls, results: Mapping[str, StageOutput], mode: FailureMode = FailureMode.CONTINUE_ON_FAILURE
    ) -> FailureCollector:
        """Return one that knows how the stages in *results* ended. Skipped stages have not run."""
        collector = cls(mode)
        for stage, output in results.items():
            if output.status is StageStatus.OK:
                collector.record_completion(stage)
            elif output.status is StageStatus.SKIP:
                collector._not_run[stage] = None
            else:
                collector.record_failure(stage, output.error or output.status.value)
        return collector

    def record_failure(self, stage: str, error: BaseException | str) -> None:
        """Note that a stage failed."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._failed[stage] = text
        self._completed.pop(stage, None)

    def record_completion(self, stage: str) -> None:
        """Note that a stage did its work."""
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
