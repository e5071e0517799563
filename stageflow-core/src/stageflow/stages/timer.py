"""``PipelineTimer``: one clock for a whole run."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic_ns, time_ns
from typing import final

__all__ = ["PipelineTimer"]


@final
class PipelineTimer:
    """Measures from the start of a run on the monotonic clock, and knows when that was by the wall clock.

    ```python
    from stageflow import PipelineTimer

    timer = PipelineTimer()
    assert timer.elapsed_ms() >= 0
    ```
    """

    __slots__ = ("start_ns", "started_ns")

    def __init__(self) -> None:
        self.started_ns = monotonic_ns()
        self.start_ns = time_ns()

    @property
    def pipeline_start_ms(self) -> int:
        """When the run started, in milliseconds since the epoch."""
        return self.start_ns // 1_000_000

    def now_ms(self) -> int:
        """Now, in milliseconds since the epoch, on a clock that never goes back within the run."""
        return (self.start_ns + monotonic_ns() - self.started_ns) // 1_000_000

    def elapsed_ms(self) -> int:
        """Milliseconds since the run started."""
        return (monotonic_ns() - self.started_ns) // 1_000_000

    @property
    def started_at(self) -> datetime:
        """When the run started, in UTC."""
        return datetime.fromtimestamp(self.start_ns / 1e9, UTC)
