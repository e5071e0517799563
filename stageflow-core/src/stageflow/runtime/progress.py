"""How far a run has come: which stages have settled, which are ready, and which may no longer run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.frozen import FrozenDict
from stageflow.runtime.stamps import Stamps
from stageflow.stages.output import PLAIN, StageOutput, output_of
from stageflow.stages.part import Part
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator, Sequence

    from stageflow.runtime.compilation import CompiledStage
    from stageflow.runtime.timeline import Timeline

__all__ = ["OutputsByName", "Progress", "SkipReason"]

_OK, _SKIP = StageStatus.OK, StageStatus.SKIP


class SkipReason:
    """Why a stage was skipped without being started, as its event says."""

    DEPENDENCY_FAILED: Final = "dependency_failed"
    DEPENDENCY_SKIPPED: Final = "dependency_skipped"
    BRANCH_NOT_TAKEN: Final = "branch_not_taken"
    CONDITION_FALSE: Final = "condition_false"
    ROUTE_NOT_TAKEN: Final = "route_not_taken"
    OVERLOADED: Final = "overloaded"
    GATE_CLOSED: Final = "gate_closed"
    VALUE_MISSING: Final = "value_missing"
    RUN_STOPPED: Final = "run_stopped"


@final
class Progress:
    """Counts, for every stage, the dependencies that have not settled. No asyncio, no events: only the rules.

    Args:
        stages: The compiled stages, by number.
        waits: How many others each of them waits for.
        started_ns: When the run began, on the monotonic clock.

    Attributes:
        left: How many of those that each stage waits for have not settled, by number.
        settled: What settled stages left, by number: an output, or, of those that ended well and brought nothing else,
            the data alone, of which ``output`` makes one when somebody asks.
        stamps: When they became ready, began and ended.
    """

    __slots__ = ("_flows", "_irregular", "_kept", "_stages", "left", "settled", "stamps")

    def __init__(self, stages: Sequence[CompiledStage], waits: Sequence[int], started_ns: int) -> None:
        self._stages = stages
        self.stamps = Stamps(len(stages), started_ns)
        self.left = list(waits)
        self._kept: dict[int, str] = {}  # why stages were kept from starting
        # For whom streams flow, once their producers have started. Few runs have any: it is made when needed.
        self._flows: dict[int, set[int]] | None = None
        self._irregular: dict[int, None] = {}  # stages behind something that did not simply succeed
        self.settled: list[StageOutput | FrozenDict[str, Any] | None] = [None] * len(stages)

    def settle(
        self, stage: CompiledStage, output: StageOutput, ready: deque[int], kept: str | None = None
    ) -> None:
        """Note how a stage ended; its stamps have been noted before.

        Args:
            stage: The stage.
            output: What it left.
            ready: Gets the stages that became ready by it.
            kept: Why it was kept from starting, if it was.
        """
        waiting = stage.dependants
        if output.status is not _OK:
            if stage.readers and not self.has_started(stage.number):
                waiting += stage.readers
            self._irregular.update(dict.fromkeys(waiting))
            if kept is not None:
                self._kept[stage.number] = kept
        self.settled[stage.number] = output
        self._release(waiting, self.stamps.ended_ns[stage.number], ready)

    def started(self, producer: CompiledStage, now_ns: int, ready: deque[int]) -> None:
        """Note that a stage whose stream is read has started: its readers need not wait for it any more."""
        if self._flows is None:
            self._flows = {}
        flows = self._flows.setdefault(producer.number, set())
        waiting = [reader for reader in producer.readers if reader not in flows]
        flows.update(waiting)
        self._release(waiting, now_ns, ready)

    def has_started(self, producer: int) -> bool:
        """Say whether a stage whose stream is read has started."""
        return self._flows is not None and producer in self._flows

    def _release(self, waiting: Sequence[int], now_ns: int, ready: deque[int]) -> None:
        left = self.left
        for number in waiting:
            left[number] = waits = left[number] - 1
            if not waits:
                ready.append(number)
                self.stamps.ready_ns[number] = now_ns

    def output(self, number: int) -> StageOutput | None:
        """Return what a stage left; None if it has not settled."""
        output = self.settled[number]
        if isinstance(output, FrozenDict):
            output = self.settled[number] = output_of(PLAIN, output, self.stamps.duration_ms(number))
        return output

    def counts(self) -> dict[str, int]:
        """Return how many stages have settled in each way."""
        counts: dict[str, int] = {}
        for output in self.settled:
            if output is not None:
                status = _OK if isinstance(output, FrozenDict) else output.status
                counts[status] = counts.get(status, 0) + 1
        return counts

    def obstacle(self, stage: CompiledStage) -> str | None:
        """Return why a ready stage may not start, or None: rules 1 to 4 of ``docs/explanation/outcomes.md``."""
        return self._irregularity(stage) if stage.number in self._irregular else None

    def _irregularity(self, stage: CompiledStage) -> str | None:
        skipped = missing = closed = False
        kept_count = 0
        never_started = [number for number, _ in stage.streams if not self.has_started(number)]
        for number in (*stage.dependencies, *stage.holders, *never_started):
            output = self.output(number)
            if output is None or output.status is _OK:
                continue
            kept = self._kept.get(number)
            if output.status is not _SKIP or kept == SkipReason.DEPENDENCY_FAILED:
                return SkipReason.DEPENDENCY_FAILED
            closed |= kept == SkipReason.GATE_CLOSED
            if number in stage.holders:  # it only had to pass, and it had nothing to object
                continue
            skipped = True
            name = self._stages[number].name
            kept_count += kept is not None and name not in stage.spec.optional
            missing |= name in stage.spec.requires
        if closed:
            return SkipReason.GATE_CLOSED
        if kept_count and kept_count == stage.needed:
            return SkipReason.BRANCH_NOT_TAKEN
        if skipped and stage.spec.conditional:
            return SkipReason.DEPENDENCY_SKIPPED
        return SkipReason.VALUE_MISSING if missing else None

    def route_of(self, stage: CompiledStage) -> object:
        """Return what the router of *stage* chose: a label, several, or (of one that was skipped) none."""
        output = None if stage.router is None else self.output(stage.router)
        if output is None or output.status is not _OK:
            return ()
        return output.data["route"] if "route" in output.data else output.data.get("value")

    def reset(self, members: frozenset[int]) -> None:
        """Take back that *members* settled, so that they run again.

        Nobody outside has become ready by them: a guard loop holds their other dependants until the guard passes.
        """
        for number in members:
            stage = self._stages[number]
            streams = [producer for producer, _ in stage.streams]
            self.left[number] = sum(one in members for one in (*stage.dependencies, *stage.holders, *streams))
            if self._flows is not None and number in self._flows:
                self._flows[number] -= members
            if self.settled[number] is not None:
                for dependant in stage.dependants:
                    self.left[dependant] += dependant not in members
            self._kept.pop(number, None)
        for number in members:
            self.settled[number] = None

    def unsettled(self) -> Iterator[CompiledStage]:
        """Yield the stages that have not settled."""
        return (stage for stage, output in zip(self._stages, self.settled, strict=True) if output is None)


@final
class OutputsByName(Mapping[str, StageOutput]):
    """The outputs of the stages that have settled, in the order of the pipeline.

    Args:
        progress: Knows them by number.
        stages: The stages by name.
    """

    __slots__ = ("_progress", "_stages")

    def __init__(self, progress: Progress, stages: Mapping[str, CompiledStage]) -> None:
        self._progress = progress
        self._stages = stages

    def __getitem__(self, name: str) -> StageOutput:
        output = self._progress.output(self._stages[name].number)
        if output is None:
            raise KeyError(name)
        return output

    def __iter__(self) -> Iterator[str]:
        settled = self._progress.settled
        return (name for name, stage in self._stages.items() if settled[stage.number] is not None)

    def __len__(self) -> int:
        settled = self._progress.settled
        return len(settled) - settled.count(None)

    def timeline(self) -> Timeline:
        """Return how the stages that have come to anything spent their time."""
        from stageflow.runtime.timeline import StageStamps, Timeline

        stamps, stages = self._progress.stamps, tuple(self._stages.values())
        gates = [stage.name for stage in stages if stage.spec.gates_effects]
        noted: list[StageStamps] = []
        for stage in stages:
            stretches = stamps.stretches(stage.number)
            output = self._progress.output(stage.number)
            if not stretches:
                continue
            held = any(stretch.part is Part.GATE for stretch in stretches)
            ran = any(stretch.part is Part.RUN for stretch in stretches)
            unsettled = "cancel" if ran else "waiting"
            noted.append(
                StageStamps(
                    stage.name,
                    stage.kind,
                    unsettled if output is None else output.status.value,
                    stretches,
                    stamps.notes(stage.number),
                    [stages[number].name for number in stage.dependencies],
                    [stages[number].name for number in stage.holders],
                    [edge.producer for _, edge in stage.streams],
                    gates if held else (),
                )
            )
        return Timeline.of_stamps(stamps.started_ns, stamps.over_ns, noted)
