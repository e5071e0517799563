"""Runs below runs: a stage starts a pipeline, with a context below its own, and it ends with its parent.

Depth, tenant, ids, deadline and cancellation travel in the context; what a child works on is always said. The events
go to the sink of the context, through the emitter of its run if that is running.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, final
from uuid import UUID, uuid4

from stageflow.context.checks import check_count, check_name, check_type, items_of, wrong_type
from stageflow.events import vocabulary
from stageflow.pipeline.builder import Pipeline
from stageflow.pipeline.child_errors import MaxDepthExceededError, SpawnRefusedError
from stageflow.pipeline.child_events import (
    PipelineCanceledEvent,
    PipelineChildCompletedEvent,
    PipelineChildFailedEvent,
    PipelineSpawnedChildEvent,
)
from stageflow.pipeline.child_origin import Origin
from stageflow.pipeline.child_result import SubpipelineResult
from stageflow.pipeline.child_run import ChildRun, innermost_child, roster, wait_for
from stageflow.pipeline.child_scope import Current
from stageflow.pipeline.child_tracker import (
    ChildRunTracker,
    clear_child_tracker,
    get_child_tracker,
    set_child_tracker,
)
from stageflow.runtime.graph import StageGraph
from stageflow.stages.context import StageContext
from stageflow.stages.pipeline_context import PipelineContext

if TYPE_CHECKING:
    from stageflow.pipeline.child_run import Runner

__all__ = [
    "DEFAULT_MAX_SUBPIPELINE_DEPTH",
    "ChildRunTracker",
    "MaxDepthExceededError",
    "PipelineCanceledEvent",
    "PipelineChildCompletedEvent",
    "PipelineChildFailedEvent",
    "PipelineSpawnedChildEvent",
    "SpawnRefusedError",
    "SubpipelineResult",
    "SubpipelineSpawner",
    "clear_child_tracker",
    "clear_subpipeline_spawner",
    "get_child_tracker",
    "get_subpipeline_spawner",
    "set_child_tracker",
    "set_subpipeline_spawner",
]

DEFAULT_MAX_SUBPIPELINE_DEPTH: Final = 5
"""How many runs there may be above a child, unless a spawner says otherwise."""

_REMEMBERED: Final = 4096
_SPAWN: Final = "SubpipelineSpawner.spawn"
_CANCEL: Final = "SubpipelineSpawner.cancel_with_children"


@final
class SubpipelineSpawner:
    """Starts pipelines from within stages.

    It keeps nothing of a run that has ended, but for the ids of the last 4096 runs that it was asked to cancel.

    Args:
        child_tracker: Is told of every child. None means the current one, see ``get_child_tracker``.
        emit_events: Whether the start and the end of children are events.
        max_depth: How many runs there may be above a child; 0 allows none. Depth travels in contexts: another
            spawner begins no count of its own.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: *max_depth* is negative.

    ```python
    import asyncio

    from stageflow import Pipeline, StageContext, stage
    from stageflow.pipeline.subpipeline import SubpipelineSpawner

    spawner = SubpipelineSpawner()


    @stage
    async def greet(ctx: StageContext) -> str:
        return f"Hello, {ctx.input_text}"


    greeting = Pipeline.from_stages(greet, name="greeting")


    @stage
    async def plan(ctx: StageContext) -> str:
        child = await spawner.spawn("greeting", ctx, None, ctx.stage_name, greeting, input_text="Ada")
        return child.data["greet"]["value"] if child.success else child.error


    print(asyncio.run(Pipeline.from_stages(plan).run()).value(plan))
    #> Hello, Ada
    ```
    """

    __slots__ = ("_canceled", "_tracker", "emit_events", "max_depth")

    def __init__(
        self,
        child_tracker: ChildRunTracker | None = None,
        emit_events: bool = True,  # noqa: FBT001, FBT002 - the published signature is positional
        max_depth: int = DEFAULT_MAX_SUBPIPELINE_DEPTH,
    ) -> None:
        owner = "SubpipelineSpawner"
        expects = "a ChildRunTracker or None"
        check_type(owner, "child_tracker", child_tracker, (ChildRunTracker, type(None)), expects)
        check_type(owner, "emit_events", emit_events, bool, "a bool")
        check_count(owner, "max_depth", max_depth)
        self.emit_events = emit_events
        self.max_depth = max_depth
        self._tracker = child_tracker
        self._canceled: dict[UUID, str] = {}  # with the reasons; the latest last

    @property
    def child_tracker(self) -> ChildRunTracker:
        """Who is told of children: the tracker that was given, else the current one."""
        return get_child_tracker() if self._tracker is None else self._tracker

    async def spawn(
        self,
        pipeline_name: str,
        ctx: PipelineContext | StageContext,
        correlation_id: UUID | None,
        parent_stage_id: str,
        runner: Runner,
        *,
        topology: str | None = None,
        execution_mode: str | None = None,
        input_text: str | None = None,
        inherit_data: bool | Iterable[str] = False,
        data_overrides: Mapping[str, Any] | None = None,
    ) -> SubpipelineResult:
        """Run a child of the run that *ctx* belongs to, and return what has become of it.

        ``pipeline.spawned_child`` is followed by exactly one of ``pipeline.child_completed`` and
        ``pipeline.child_failed``, however the child ends. It ends before its parent does; when the caller is cancelled,
        it is cancelled, and awaited.

        Args:
            pipeline_name: What the child is called.
            ctx: The context of the stage that starts it, or that of the run.
            correlation_id: What ties the child to others; when None, the parent's, or else the current one.
            parent_stage_id: The stage that starts it.
            runner: A pipeline, a built graph, or an async callable that takes the child's context. A dict that the
                callable returns is the result's data; anything else is put under ``"result"``.
            topology: Another topology than the parent's.
            execution_mode: Another mode than the parent's.
            input_text: What the child works on.
            inherit_data: True copies all of the parent's data, names copy these.
            data_overrides: More data, which wins over what is inherited.

        Raises:
            MaxDepthExceededError: The parent is as deep as runs may be.
            SpawnRefusedError: The parent was cancelled, or is ending. Also a ``PipelineCancelled``.
            asyncio.CancelledError: The caller was cancelled.
            ArgumentTypeError, ArgumentValueError: An argument makes no sense.
        """
        _check_spawn(pipeline_name, ctx, correlation_id, parent_stage_id, runner, input_text, data_overrides)
        if not isinstance(inherit_data, bool):
            inherit_data = items_of(_SPAWN, "inherit_data", inherit_data, str)
        here = innermost_child()
        origin = Origin(ctx, 0 if here is None else here.context.depth)
        self._refuse_if_ending(pipeline_name, origin, here)
        if origin.depth >= self.max_depth:
            raise MaxDepthExceededError(origin.depth, self.max_depth, origin.run_id)
        child_run_id = uuid4()
        context = origin.fork(
            child_run_id,
            parent_stage_id,
            correlation_id,
            topology=topology,
            execution_mode=execution_mode,
            input_text=input_text,
            inherit_data=inherit_data,
            data_overrides=data_overrides,
        )
        child = ChildRun(
            pipeline_name,
            child_run_id,
            origin,
            context,
            runner,
            self.child_tracker,
            emits=self.emit_events,
        )
        return await child.execute()

    async def cancel_with_children(
        self,
        run_id: UUID,
        reason: str = "user_requested",
        contexts: Mapping[UUID, PipelineContext] | None = None,
    ) -> list[UUID]:
        """Cancel a run and every run below it, children before their parents, and wait until the children have ended.

        From then on the run starts no children. Whoever is part of one of these runs does not wait for itself. Only
        children on the running event loop are stopped, and the run itself if it has one of them; for others, give
        their contexts.

        Args:
            run_id: The run.
            reason: Why.
            contexts: Contexts by run; those of cancelled runs are marked as cancelled.

        Returns:
            The runs that have been cancelled by this, children before their parents.

        Raises:
            ArgumentTypeError: An argument has the wrong type.

        ```python
        import asyncio
        from uuid import uuid4

        from stageflow import PipelineContext
        from stageflow.pipeline.subpipeline import SubpipelineSpawner


        async def main():
            spawner, parent = SubpipelineSpawner(), PipelineContext(pipeline_run_id=uuid4())
            spawning = asyncio.create_task(
                spawner.spawn("nap", parent, None, "plan", lambda child: asyncio.sleep(60))
            )
            await asyncio.sleep(0.01)
            canceled = await spawner.cancel_with_children(parent.pipeline_run_id, "the user left")
            print(len(canceled), (await spawning).error)
            #> 2 Pipeline cancelled from outside: the user left


        asyncio.run(main())
        ```
        """
        check_type(_CANCEL, "run_id", run_id, UUID, "a UUID")
        check_type(_CANCEL, "reason", reason, str, "a str")
        check_type(_CANCEL, "contexts", contexts, (Mapping, type(None)), "a mapping of run ids to contexts")
        known, running = contexts or {}, roster.get()
        canceled: list[UUID] = []
        children: list[ChildRun] = []
        for one, parent_id, depth in reversed(self._tree(run_id)):
            child = running.running.get(one)
            if child is not None:
                children.append(child)
            if one in self._canceled:
                continue
            self._remember(one, reason)
            canceled.append(one)
            self._cancel(one, child, known.get(one), PipelineCanceledEvent(one, parent_id, reason, depth))
        await wait_for(children)
        return canceled

    def is_canceled(self, run_id: UUID) -> bool:
        """Say whether this spawner was asked to cancel a run, itself or one above it."""
        check_type("SubpipelineSpawner.is_canceled", "run_id", run_id, (UUID, type(None)), "a UUID")
        return run_id in self._canceled

    def _cancel(
        self,
        run_id: UUID,
        child: ChildRun | None,
        context: PipelineContext | None,
        event: PipelineCanceledEvent,
    ) -> None:
        """Tell, and ask whoever is known of the run to stop."""
        origins = [one.origin for one in roster.get().below(run_id)]
        told = False
        if child is not None and not child.over:
            told = True
            child.announce(event.reason, event.parent_run_id, event.cascade_depth)
            child.ask(event.reason)
        elif child is None and origins:
            told = True
            self._tell(origins[0].emit, event)
            for origin in origins:
                origin.stop(event.reason)
        if context is not None:
            if not told and child is None:
                self._tell(context.try_emit_event, event)
            context.mark_canceled()

    def _tell(self, emit: Any, event: PipelineCanceledEvent) -> None:
        if self.emit_events:
            emit(vocabulary.PIPELINE_CANCELED, event.to_dict())

    def _tree(self, run_id: UUID) -> list[tuple[UUID, UUID | None, int]]:
        """Return a run and those below it, parents before their children, each with its parent and its depth."""
        tracker, running = self.child_tracker, roster.get()
        found: list[tuple[UUID, UUID | None, int]] = []
        seen = {run_id}
        ahead: list[tuple[UUID, UUID | None, int]] = [(run_id, None, 0)]
        while ahead:
            found.append(ahead.pop())
            one, _, depth = found[-1]
            below = dict.fromkeys(
                (*tracker.children_of(one), *(child.run_id for child in running.below(one)))
            )
            fresh = [child_id for child_id in below if child_id not in seen]
            seen.update(fresh)
            ahead += [(child_id, one, depth + 1) for child_id in fresh]
        return found

    def _remember(self, run_id: UUID, reason: str) -> None:
        self._canceled[run_id] = reason
        if len(self._canceled) > _REMEMBERED:
            del self._canceled[next(iter(self._canceled))]

    def _refuse_if_ending(self, pipeline_name: str, origin: Origin, here: ChildRun | None) -> None:
        reason = next((self._canceled[one] for one in origin.lineage() if one in self._canceled), None)
        if reason is not None:  # the run was not known when it was cancelled; it is now
            origin.stop(reason)
        else:
            reason = origin.ending
        if reason is None and here is not None:
            reason = here.reason
        if reason is not None:
            raise SpawnRefusedError(pipeline_name, reason, origin.run_id)


def _check_spawn(
    pipeline_name: object,
    ctx: object,
    correlation_id: object,
    parent_stage_id: object,
    runner: object,
    input_text: object,
    data_overrides: object,
) -> None:
    """Refuse what no type checker was there to refuse.

    Raises:
        ArgumentTypeError, ArgumentValueError: Naming the argument.
    """
    check_name(_SPAWN, "pipeline_name", pipeline_name)
    check_type(
        _SPAWN,
        "ctx",
        ctx,
        (PipelineContext, StageContext),
        "a PipelineContext or the StageContext of a stage",
    )
    check_type(_SPAWN, "correlation_id", correlation_id, (UUID, type(None)), "a UUID or None")
    check_name(_SPAWN, "parent_stage_id", parent_stage_id)
    if not callable(runner) and not isinstance(runner, (Pipeline, StageGraph)):
        expects = "a Pipeline, a StageGraph or an async callable that takes the child's context"
        raise wrong_type(_SPAWN, "runner", expects, runner)
    check_type(_SPAWN, "input_text", input_text, (str, type(None)), "a str or None")
    check_type(_SPAWN, "data_overrides", data_overrides, (Mapping, type(None)), "a mapping or None")


_current: Current[SubpipelineSpawner] = Current("stageflow_subpipeline_spawner", SubpipelineSpawner)


def get_subpipeline_spawner() -> SubpipelineSpawner:
    """Return the current spawner: the one set in this context, else the one of the running event loop.

    Every event loop has one of its own, which goes with it. Where no loop runs, a new one is set, so that loops started
    from there have it.

    ```python
    from stageflow.pipeline.subpipeline import clear_subpipeline_spawner, get_subpipeline_spawner

    print(get_subpipeline_spawner().max_depth)
    #> 5
    clear_subpipeline_spawner()
    ```
    """
    return _current.get()


def set_subpipeline_spawner(spawner: SubpipelineSpawner) -> None:
    """Make *spawner* the current one in this context and those copied from it.

    Raises:
        ArgumentTypeError: It is no ``SubpipelineSpawner``.

    ```python
    from stageflow.pipeline.subpipeline import (
        SubpipelineSpawner,
        clear_subpipeline_spawner,
        get_subpipeline_spawner,
        set_subpipeline_spawner,
    )

    mine = SubpipelineSpawner(max_depth=2)
    set_subpipeline_spawner(mine)
    print(get_subpipeline_spawner() is mine)
    #> True
    clear_subpipeline_spawner()
    print(get_subpipeline_spawner() is mine)
    #> False
    clear_subpipeline_spawner()
    ```
    """
    check_type("set_subpipeline_spawner", "spawner", spawner, SubpipelineSpawner, "a SubpipelineSpawner")
    _current.set(spawner)


def clear_subpipeline_spawner() -> None:
    """Forget the spawner set in this context, and the one of the running event loop.

    ```python
    from stageflow.pipeline.subpipeline import (
        SubpipelineSpawner,
        clear_subpipeline_spawner,
        get_subpipeline_spawner,
        set_subpipeline_spawner,
    )

    mine = SubpipelineSpawner(max_depth=2)
    set_subpipeline_spawner(mine)
    print(get_subpipeline_spawner() is mine)
    #> True
    clear_subpipeline_spawner()
    print(get_subpipeline_spawner() is mine)
    #> False
    clear_subpipeline_spawner()
    ```
    """
    _current.clear()
