"""What ``SubpipelineSpawner.spawn`` raises instead of starting a child."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.errors import ErrorClass, PipelineCancelled, RunError

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["MaxDepthExceededError", "SpawnRefusedError"]


class MaxDepthExceededError(RunError):
    """A run as deep as runs may be wants to start a child.

    Args:
        current_depth: How many runs there are above the one that wants a child.
        max_depth: How many there may be.
        parent_run_id: The run that wants a child.

    ```python
    from stageflow.pipeline.subpipeline import MaxDepthExceededError

    print(MaxDepthExceededError(5, 5, None).what)
    #> A run at depth 5 cannot start a child: 5 is the limit
    ```
    """

    code = "SF-RUN-DEPTH"
    error_class = ErrorClass.LOGIC

    def __init__(self, current_depth: int, max_depth: int, parent_run_id: UUID | None = None) -> None:
        self.current_depth = current_depth
        self.max_depth = max_depth
        self.parent_run_id = parent_run_id
        super().__init__(
            f"A run at depth {current_depth} cannot start a child: {max_depth} is the limit",
            where="" if parent_run_id is None else f"run {parent_run_id}",
            fix="End the recursion, or raise max_depth= of the SubpipelineSpawner",
        )


class SpawnRefusedError(PipelineCancelled):
    """A run that has been cancelled, or is ending, wants to start a child.

    Args:
        pipeline_name: What it wants to start.
        reason: Why the run is ending.
        run_id: The run.

    ```python
    from stageflow.pipeline.subpipeline import SpawnRefusedError

    print(SpawnRefusedError("search", "the user left").what)
    #> Subpipeline 'search' was not started, because its parent run is ending: the user left
    ```
    """

    code = "SF-RUN-SPAWN-REFUSED"

    def __init__(self, pipeline_name: str, reason: str, run_id: UUID | None = None) -> None:
        super().__init__(
            self.EXTERNAL,
            reason,
            run_id=run_id,
            fix="Let the error pass: a run that is ending starts nothing more",
        )
        self.pipeline_name = pipeline_name
        self.what = (
            f"Subpipeline {pipeline_name!r} was not started, because its parent run is ending: {reason}"
        )
        self.args = (self.what,)
