"""``EventReader``: makes the timeline of a run out of its events, while it goes on or later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from stageflow.cli.pictures.links import held_by
from stageflow.events import vocabulary
from stageflow.runtime.stamps import Stretch
from stageflow.runtime.timeline import StageStamps, Timeline
from stageflow.stages.part import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["EventReader"]

_ENDS: Final = {
    vocabulary.STAGE_COMPLETED: "ok",
    vocabulary.STAGE_SKIPPED: "skip",
    vocabulary.STAGE_FAILED: "fail",
    vocabulary.STAGE_CANCELLED: "cancel",
}
_RUN_ENDS: Final = {
    vocabulary.PIPELINE_COMPLETED: "completed",
    vocabulary.PIPELINE_FAILED: "failed",
    vocabulary.PIPELINE_CANCELLED: "cancelled",
}


@final
class EventReader:
    """Reads the events of one run, one by one.

    Args:
        specs: The stages.

    Attributes:
        status: How the run ended: ``completed``, ``failed``, ``cancelled``; or ``running``.
        reasons: Why stages were skipped, or what they failed of.
    """

    def __init__(self, specs: Sequence[StageSpec]) -> None:
        self.status = "running"
        self.reasons: dict[str, str] = {}
        self._stages = {spec.name: _Stage(spec) for spec in specs}
        self._gates = held_by(specs)
        self._start: int | None = None
        self._last = 0

    def read(self, type_: str, data: Mapping[str, Any]) -> None:
        """Read the next event."""
        at = data.get("monotonic_ns")
        if not isinstance(at, int):
            return
        if self._start is None:
            self._start = at
        self._last = at
        self.status = _RUN_ENDS.get(type_, self.status)
        stage, status = self._stages.get(str(data.get("stage"))), data.get("status")
        # A stage's own events also say whose they are; the run's have a type that is made of name and status.
        if (
            stage is None
            or not isinstance(status, str)
            or type_ != vocabulary.stage_event(stage.spec.name, status)
        ):
            return
        if status == vocabulary.STAGE_STARTED:
            self._wait(stage, at)
            stage.start(at)
        elif status == vocabulary.STAGE_RETRYING:
            stage.retry(at, data)
        elif status in _ENDS:
            if stage.status == "waiting":  # it was never started
                self._wait(stage, at)
            stage.finish(at, _ENDS[status])
            if reason := data.get("reason") or data.get("error"):
                self.reasons[stage.spec.name] = str(reason)

    def timeline(self, now_ns: int | None = None) -> Timeline:
        """Return the timeline so far; stages that run count as running until *now_ns*, or the last event."""
        if self._start is None:
            return Timeline.of_stamps(0, 0, [self._stamps(stage, 0) for stage in self._stages.values()])
        end = max(self._last, now_ns or 0)
        stamps = [self._stamps(stage, end) for stage in self._stages.values()]
        return Timeline.of_stamps(self._start, end, stamps)

    def _stamps(self, stage: _Stage, now_ns: int) -> StageStamps:
        spec = stage.spec
        return StageStamps(
            spec.name,
            spec.kind.value,
            stage.status,
            [*stage.stretches, Stretch(Part.RUN, now_ns, stage.attempt)]
            if stage.status == "running"
            else stage.stretches,
            dependencies=spec.dependencies,
            streams=[edge.producer for edge in spec.streams],
            gates=self._gates.get(spec.name, ()),
        )

    def _wait(self, stage: _Stage, at: int) -> None:
        """Split the time before a stage's start, or before it was skipped."""
        spec = stage.spec
        others = self._stages
        ends = [others[name].end for name in spec.dependencies if name in others]
        starts = [others[edge.producer].begun for edge in spec.streams if edge.producer in others]
        gates = [others[name].end for name in self._gates.get(spec.name, ())]
        stage.add(Part.DEPENDENCIES, min(at, max([0, *ends, *starts])))
        stage.add(Part.GATE, min(at, max([0, *gates])))
        stage.add(Part.QUEUE, at)


@final
class _Stage:
    """How far one stage has come."""

    def __init__(self, spec: StageSpec) -> None:
        self.spec = spec
        self.status = "waiting"
        self.attempt = 1
        self.begun = 0
        self.stretches: list[Stretch] = []

    @property
    def end(self) -> int:
        """When its last stretch ended."""
        return self.stretches[-1].ended_ns if self.stretches else 0

    def add(self, part: Part, until: int) -> None:
        self.stretches.append(Stretch(part, max(until, self.end), self.attempt))

    def start(self, at: int) -> None:
        self.status = "running"
        self.begun = at

    def retry(self, at: int, data: Mapping[str, Any]) -> None:
        """Another attempt follows; or, if it had ended, a guard has sent it back."""
        self.add(Part.RUN if self.status == "running" else Part.DEPENDENCIES, at)
        self.attempt = int(data.get("attempt", self.attempt + 1))
        self.add(Part.BACKOFF, at + int(float(data.get("delay_ms", 0.0)) * 1e6))
        self.status = "running"

    def finish(self, at: int, status: str) -> None:
        if self.end > at:  # given up before the next attempt
            self.stretches[-1] = self.stretches[-1]._replace(ended_ns=at)
        if self.status == "running":
            self.add(Part.RUN, at)
        self.status = status
