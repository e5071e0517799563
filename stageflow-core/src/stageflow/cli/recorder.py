"""``Recorder``: keeps the events of a run, for whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.cli.pictures.chart import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["Recorder"]


@final
class Recorder:
    """An event sink that forgets nothing.

    Args:
        specs: The stages of the pipeline that will run.
        pipeline: Its name.
    """

    def __init__(self, specs: Sequence[StageSpec], pipeline: str) -> None:
        self.specs = specs
        self.pipeline = pipeline
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Keep the event."""
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Keep the event."""
        self.events.append((type, data or {}))

    def chart(self, now_ns: int | None = None) -> Chart:
        """Return what is known so far; stages that run count as running until *now_ns*."""
        # A copy, as another thread may draw while the run goes on.
        return Chart.of_events(self.specs, list(self.events), pipeline=self.pipeline, now_ns=now_ns)
