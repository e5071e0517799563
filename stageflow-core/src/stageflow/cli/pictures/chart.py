"""``Chart``: what the timeline pictures show of a run, which has ended or still goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stageflow.cli.pictures.event_reader import EventReader
from stageflow.errors import PipelineCancelled
from stageflow.runtime.progress import SkipReason
from stageflow.runtime.timeline import StageTimeline, Timeline
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stageflow.runtime.results import PipelineResults
    from stageflow.runtime.timeline import Gain, PathStep
    from stageflow.stages.output import StageOutput
    from stageflow.stages.spec import StageSpec

__all__ = ["Chart"]

_MOST_GAINS: Final = 3
_LEAST_SHARE: Final = 100


class Chart(NamedTuple):
    """A run's timeline, and what else its pictures say.

    Attributes:
        pipeline: The pipeline's name.
        status: How the run ended: ``completed``, ``failed``, ``cancelled``; or ``running``.
        timeline: How its time was spent.
        reasons: Why stages were skipped, or what they failed of.
    """

    pipeline: str
    status: str
    timeline: Timeline
    reasons: Mapping[str, str]

    @classmethod
    def of_results(cls, specs: Sequence[StageSpec], results: PipelineResults) -> Chart:
        """Make the chart of a run that has ended.

        Args:
            specs: The stages; those that the run did not come to are shown as skipped.
            results: What the run left behind.

        ```python
        import asyncio

        from stageflow import Pipeline, stage
        from stageflow.cli.pictures import Chart, timeline_svg


        @stage
        async def greet() -> str:
            return "hi"


        pipeline = Pipeline.from_stages(greet, name="greeting")
        chart = Chart.of_results(pipeline.specs, asyncio.run(pipeline.run()))
        print(chart.status, "greet" in timeline_svg(chart))
        #> completed True
        ```
        """
        error, timeline = results.error, results.timeline
        status = "completed" if error is None else "failed"
        if isinstance(error, PipelineCancelled):
            status = "cancelled"
        stages = [_row(spec, timeline) for spec in specs]
        reasons = {stage.name: _reason(stage, results.get(stage.name)) for stage in stages}
        return cls(
            results.pipeline,
            status,
            Timeline(timeline.started_ns, timeline.ended_ns, stages),
            {name: said for name, said in reasons.items() if said},
        )

    @classmethod
    def of_events(
        cls,
        specs: Sequence[StageSpec],
        events: Iterable[tuple[str, Mapping[str, Any]]],
        *,
        pipeline: str = "pipeline",
        now_ns: int | None = None,
    ) -> Chart:
        """Make the chart of a run, however far it has come, out of its events.

        What a stage waited for before it started follows from the ends of others. What it waited for while it ran is
        no event, so it counts as running.

        Args:
            specs: The stages.
            events: The events, as ``(type, data)``, in the order in which they came.
            pipeline: The pipeline's name.
            now_ns: Until when stages that have not ended count as running; the last event by default.

        ```python
        import asyncio

        from stageflow import Pipeline, stage
        from stageflow.cli.pictures import Chart


        @stage
        async def greet() -> str:
            return "hi"


        async def main() -> None:
            pipeline = Pipeline.from_stages(greet, name="greeting")
            events = [(event.type, event.data) async for event in pipeline.stream()]
            chart = Chart.of_events(pipeline.specs, events, pipeline=pipeline.name)
            print(chart.status, chart.timeline["greet"].status, chart.timeline["greet"].attempts)


        asyncio.run(main())
        #> completed ok 1
        ```
        """
        reader = EventReader(specs)
        for type_, data in events:
            reader.read(type_, data)
        return cls(pipeline, reader.status, reader.timeline(now_ns), reader.reasons)

    @property
    def stages(self) -> list[StageTimeline]:
        """The stages, in the order of their declaration."""
        return list(self.timeline.values())

    @property
    def critical(self) -> frozenset[str]:
        """The stages whose time makes up that of the run; none while it still goes on."""
        return frozenset(step.stage for step in self._path)

    @property
    def gains(self) -> list[Gain]:
        """What would have let the run end sooner by at least a hundredth; at most three, and none while it goes on."""
        if not self._path:
            return []
        gains = self.timeline.gains(_MOST_GAINS)
        return [gain for gain in gains if gain.gain_ns * _LEAST_SHARE >= self.timeline.total_ns]

    @property
    def _path(self) -> Sequence[PathStep]:
        return () if self.status == "running" else self.timeline.critical_path

    def spoken_reason(self, stage: StageTimeline) -> str:
        """Return a stage's reason on one line. Those of the core are words joined by underscores."""
        text = " ".join(self.reasons.get(stage.name, "").split())
        return text.replace("_", " ") if stage.status == StageStatus.SKIP and " " not in text else text


def _row(spec: StageSpec, timeline: Timeline) -> StageTimeline:
    """Return how a stage spent its time; one that was left behind spent none, or only waited."""
    found = timeline.get(spec.name)
    if found is None:
        at = timeline.started_ns
        return StageTimeline(spec.name, spec.kind.value, StageStatus.SKIP.value, at, None, at, 0, ())
    return found.__replace__(status=StageStatus.SKIP.value) if found.status == "waiting" else found


def _reason(stage: StageTimeline, output: StageOutput | None) -> str:
    if output is None:
        return "" if stage.attempts else SkipReason.RUN_STOPPED
    if output.status is StageStatus.OK:
        return ""
    key = "cancel_reason" if output.status is StageStatus.CANCEL else "reason"
    return str(output.error or output.data.get(key) or "")
