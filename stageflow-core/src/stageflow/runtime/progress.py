"""How far a run has come: which stages have settled, which are ready, and which may no longer run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stageflow.runtime.graph import CompiledStage
    from stageflow.stages.output import StageOutput

__all__ = ["Progress", "SkipReason"]


class SkipReason:
    """Why a stage was skipped without being started, as its event says."""

    DEPENDENCY_FAILED: Final = "dependency_failed"
    DEPENDENCY_SKIPPED: Final = "dependency_skipped"
    BRANCH_NOT_TAKEN: Final = "branch_not_taken"
    CONDITION_FALSE: Final = "condition_false"
    VALUE_MISSING: Final = "value_missing"
    RUN_STOPPED: Final = "run_stopped"


class _Marks:
    """What a stage must know of dependencies that did not simply succeed."""

    __slots__ = ("branches_skipped", "failed", "skipped")

    def __init__(self) -> None:
        self.failed = False
        self.skipped = False
        self.branches_skipped = 0


@final
class Progress:
    """Counts, for every stage, the dependencies that have not settled. No asyncio, no events: only the rules.

    Args:
        stages: The compiled stages, by number.

    Attributes:
        outputs: What settled stages left, by number.
    """

    __slots__ = ("_left", "_marks", "_stages", "outputs")

    def __init__(self, stages: Sequence[CompiledStage]) -> None:
        self._stages = stages
        self._left = [len(stage.dependencies) for stage in stages]
        self._marks: dict[int, _Marks] = {}
        self.outputs: list[StageOutput | None] = [None] * len(stages)

    def roots(self) -> Iterator[int]:
        """Yield the stages that wait for nothing."""
        return (stage.number for stage in self._stages if not stage.dependencies)

    def settle(self, stage: CompiledStage, output: StageOutput, *, started: bool = True) -> list[int]:
        """Note how a stage ended, and return the stages that became ready by it.

        Args:
            stage: The stage.
            output: What it left.
            started: False for a stage that was skipped without being started.
        """
        self.outputs[stage.number] = output
        if output.status is not StageStatus.OK:
            self._mark(stage, output.status, started=started)
        left = self._left
        ready: list[int] = []
        for number in stage.dependants:
            left[number] -= 1
            if not left[number]:
                ready.append(number)
        return ready

    def obstacle(self, stage: CompiledStage) -> str | None:
        """Return why a ready stage may not run, or None.

        A failed dependency rules it out, and so does a missing value that the stage needs. A skipped dependency
        rules out a conditional stage. When dependencies were skipped before they started, the stage still runs if
        another of its branches ran: that is what makes it a join.
        """
        marks = self._marks.get(stage.number)
        if marks is None:
            return None
        if marks.failed:
            return SkipReason.DEPENDENCY_FAILED
        if marks.branches_skipped and marks.branches_skipped >= stage.branch_count:
            return SkipReason.BRANCH_NOT_TAKEN
        if stage.spec.conditional and marks.skipped:
            return SkipReason.DEPENDENCY_SKIPPED
        if stage.spec.requires and not self._has_values(stage):
            return SkipReason.VALUE_MISSING
        return None

    def unsettled(self) -> Iterator[CompiledStage]:
        """Yield the stages that have not settled."""
        return (stage for stage, output in zip(self._stages, self.outputs, strict=True) if output is None)

    def _has_values(self, stage: CompiledStage) -> bool:
        for number in stage.dependencies:
            output = self.outputs[number]
            if self._stages[number].name in stage.spec.requires and (
                output is None or output.status is not StageStatus.OK
            ):
                return False
        return True

    def _mark(self, stage: CompiledStage, status: StageStatus, *, started: bool) -> None:
        own = self._marks.get(stage.number)
        failed = status is not StageStatus.SKIP or (not started and own is not None and own.failed)
        for number in stage.dependants:
            marks = self._marks.get(number)
            if marks is None:
                marks = self._marks[number] = _Marks()
            marks.failed |= failed
            marks.skipped = True
            marks.branches_skipped += not started
