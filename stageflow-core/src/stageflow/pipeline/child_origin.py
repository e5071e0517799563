"""``Origin``: who starts a child run, as far as the child has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.errors import PipelineCancelled
from stageflow.observability.correlation import get_correlation_id
from stageflow.runtime.run import Run, current_run
from stageflow.stages.context import StageContext
from stageflow.stages.pipeline_context import PipelineContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from uuid import UUID

__all__ = ["Origin"]


@final
class Origin:
    """Who starts a child run: a run, known by the context of one of its stages or by its own.

    Args:
        ctx: The context.
        least_depth: How deep it is at least, whatever its context says.

    Attributes:
        run: The run that the context is of, if it is running here.
        owner: The run whose stage is at work. It is the same, unless somebody hands a stage another run's context.
        run_id: The run's id.
        depth: How many runs there are above it.
        emit: Emits an event of it.
    """

    __slots__ = ("_context", "depth", "emit", "owner", "run", "run_id")

    def __init__(self, ctx: PipelineContext | StageContext, least_depth: int = 0) -> None:
        here = current_run()
        self.run: Run | None
        self.emit: Callable[[str, Mapping[str, Any]], None]
        if isinstance(ctx, StageContext):
            scope = ctx.scope
            # In a thread or a process of its own, a stage's scope stands for the run's.
            self.run = (
                scope
                if isinstance(scope, Run)
                else here
                if here is not None and here.snapshot is scope.snapshot
                else None
            )
            self.emit = scope.emit
            self.run_id = scope.snapshot.pipeline_run_id
            self._context = _context_of(ctx, self.run)
        else:
            self.run = here if here is not None and _is_of(here, ctx) else None
            self.emit = ctx.try_emit_event if self.run is None else self.run.emit
            self.run_id = ctx.pipeline_run_id if self.run is None else self.run.snapshot.pipeline_run_id
            self._context = ctx
        self.owner = self.run if here is None else here
        depths = [run.depth for run in (self.run, self.owner) if run is not None]
        self.depth = max(ctx.depth, least_depth, *depths)

    def fork(
        self,
        child_run_id: UUID,
        parent_stage_id: str,
        correlation_id: UUID | None,
        *,
        topology: str | None,
        execution_mode: str | None,
        input_text: str | None,
        inherit_data: bool | Iterable[str],
        data_overrides: Mapping[str, Any] | None,
    ) -> PipelineContext:
        """Return the context of a child; see ``PipelineContext.fork``."""
        if correlation_id is None and self._context.correlation_id is None:
            correlation_id = get_correlation_id()
        child = self._context.fork(
            child_run_id,
            parent_stage_id,
            correlation_id,
            topology=topology,
            execution_mode=execution_mode,
            input_text=input_text,
            inherit_data=inherit_data,
            data_overrides=data_overrides,
        )
        child.parent_run_id = self.run_id
        child.depth = self.depth + 1
        return child

    def lineage(self) -> Iterator[UUID]:
        """Yield the ids of the run and of those above it, as far as contexts know them."""
        if self.run_id is not None:
            yield self.run_id
        for context in self._context.lineage():
            for run_id in (context.pipeline_run_id, context.parent_run_id):
                if run_id is not None:
                    yield run_id

    @property
    def ending(self) -> str | None:
        """Why the run is ending, or None while it is not."""
        for run in (self.run, self.owner):
            if run is not None and run.cancel_reason is not None:
                return run.cancel_reason
        return "its context was marked as cancelled" if self._context.is_canceled else None

    def stop(self, reason: str) -> None:
        """Cancel the run; if it is not running here, those that were and will be started with its context."""
        if self.run is not None:
            self.run.stop(PipelineCancelled(PipelineCancelled.EXTERNAL, reason, run_id=self.run_id))
        else:
            self._context.mark_canceled()


def _is_of(run: Run, ctx: PipelineContext) -> bool:
    """Say whether *run* was started with *ctx*, or has its id."""
    if run.pipeline_context is ctx:
        return True
    return ctx.pipeline_run_id is not None and ctx.pipeline_run_id == run.snapshot.pipeline_run_id


def _context_of(ctx: StageContext, run: Run | None) -> PipelineContext:
    """Return a context for the run of a stage: what the run was started with, and the ids that it has since."""
    given = None if run is None else run.pipeline_context
    more: dict[str, Any] = {}
    if given is not None:
        more = {
            name: getattr(given, name)
            for name in (
                "configuration",
                "correlation_id",
                "db",
                "parent_run_id",
                "parent_stage_id",
                "service",
            )
        }
    context = PipelineContext.from_snapshot(
        ctx.snapshot, data=ctx.scope.data, event_sink=ctx.event_sink, **more
    )
    context.parent = given  # cancelled with it
    return context
