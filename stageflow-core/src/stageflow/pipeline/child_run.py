"""``ChildRun``: a child run from its start event to its end event, and ``Roster``, which knows those that run."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final
from weakref import WeakKeyDictionary

from stageflow.context.checks import ArgumentTypeError
from stageflow.errors import PipelineCancelled
from stageflow.events import vocabulary
from stageflow.pipeline.builder import Pipeline
from stageflow.pipeline.child_events import (
    PipelineCanceledEvent,
    PipelineChildCompletedEvent,
    PipelineChildFailedEvent,
    PipelineSpawnedChildEvent,
)
from stageflow.pipeline.child_result import SubpipelineResult, data_of
from stageflow.pipeline.child_scope import PerLoop
from stageflow.runtime.cancellation import CancellationToken
from stageflow.runtime.graph import StageGraph

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from uuid import UUID

    from stageflow.pipeline.child_events import ChildEvent
    from stageflow.pipeline.child_origin import Origin
    from stageflow.pipeline.child_tracker import ChildRunTracker
    from stageflow.runtime.run import Run
    from stageflow.stages.pipeline_context import PipelineContext

    Runner: TypeAlias = Pipeline | StageGraph | Callable[[PipelineContext], Awaitable[Any]]

__all__ = ["ChildRun", "Roster", "innermost_child", "roster", "wait_for"]

PARENT_CANCELLED: Final = "its parent was cancelled"
PARENT_ENDED: Final = "its parent run has ended"
PARENT_GONE: Final = "whoever waited for it went away"
CONTEXT_CANCELLED: Final = "a context above it was marked as cancelled"
BY_ITSELF: Final = "it raised CancelledError by itself"

_innermost: ContextVar[ChildRun | None] = ContextVar("stageflow_innermost_child", default=None)


def innermost_child() -> ChildRun | None:
    """Return the child run that this code is part of, or None."""
    return _innermost.get()


@final
class ChildRun:
    """One child run. It has a Task of its own, so that it can be cancelled without its parent.

    Its end is told by a callback of that Task and not by whoever waits, so that it is told however the waiting ends.

    Args:
        name: What it runs.
        origin: Who starts it.
        context: Its context; the id of the run is in there.
        runner: What is run.
        tracker: Is told that it runs.
        emits: Whether events are emitted.
    """

    __slots__ = (
        "__weakref__",
        "_disarm",
        "_emits",
        "_ended",
        "_fatal",
        "_home",
        "_loop",
        "_outer",
        "_runner",
        "_started_ns",
        "_task",
        "_token",
        "_tracker",
        "context",
        "name",
        "origin",
        "reason",
        "result",
        "run_id",
    )

    def __init__(
        self,
        name: str,
        run_id: UUID,
        origin: Origin,
        context: PipelineContext,
        runner: Runner,
        tracker: ChildRunTracker,
        *,
        emits: bool,
    ) -> None:
        self.name = name
        self.run_id = run_id
        self.origin = origin
        self.context = context
        self.reason: str | None = None
        """Why it was asked to stop, if it was."""
        self.result: SubpipelineResult | None = None
        """What has become of it, once it has ended."""
        self._runner = runner
        self._tracker = tracker
        self._emits = emits
        self._token = CancellationToken()
        self._outer = _innermost.get()
        self._loop = asyncio.get_running_loop()
        self._home = threading.get_ident()
        self._ended = asyncio.Event()
        self._fatal: BaseException | None = None
        self._disarm: list[Callable[[], None]] = []
        self._task: asyncio.Task[_Ending] | None = None
        self._started_ns = monotonic_ns()

    # --- its life -----------------------------------------------------------------------------------------

    async def execute(self) -> SubpipelineResult:
        """Run, and return what has become of it once it has ended.

        Raises:
            asyncio.CancelledError: The caller was cancelled, and so was the child.
            BaseException: What the child raised that is nobody's to handle, such as ``KeyboardInterrupt``.
        """
        task = self._begin()
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = exc
                self.ask(self.origin.ending or PARENT_CANCELLED)
            except GeneratorExit:  # the caller's coroutine is being closed: nothing can be awaited any more
                with suppress(RuntimeError):  # the loop may be closed already
                    self.ask(PARENT_GONE)
                raise
        self._settle(task)
        if self._fatal is not None:
            raise self._fatal
        if cancelled is not None:
            raise cancelled
        assert self.result is not None  # noqa: S101 - it is settled
        return self.result

    def _begin(self) -> asyncio.Task[_Ending]:
        try:
            if self.origin.run_id is not None:
                self._tracker.add(self.origin.run_id, self.run_id)
            roster.get().enter(self)
            self._disarm = [context.on_cancel(self._context_cancelled) for context in self.context.lineage()]
            self._tell(
                vocabulary.PIPELINE_SPAWNED_CHILD,
                PipelineSpawnedChildEvent(
                    self.origin.run_id,
                    self.run_id,
                    self.context.parent_stage_id or "",
                    self.name,
                    self.context.correlation_id,
                ),
            )
            self._task = task = self._loop.create_task(self._body(), name=f"subpipeline {self.name}")
        except BaseException as exc:  # such as a KeyboardInterrupt out of a sink
            self._end(exc)
            raise
        task.add_done_callback(self._settle)
        return task

    async def _body(self) -> _Ending:
        _innermost.set(self)
        self._task = asyncio.current_task()  # an eager Task is at work before create_task has returned it
        try:
            if isinstance(self._runner, (Pipeline, StageGraph)):
                return None, await self._runner.run(self.context, cancel_token=self._token)
            awaitable: object = self._runner(self.context)
            if not hasattr(awaitable, "__await__"):
                problem = f"must give something to await, not {type(awaitable).__name__}"
                fix = "Write it as 'async def', or pass the pipeline itself"
                return ArgumentTypeError("SubpipelineSpawner.spawn", "runner", problem, fix=fix), None
            return None, await awaitable
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the parent hears of it
            return exc, None

    def _settle(self, task: asyncio.Task[_Ending]) -> None:
        if self.result is not None:
            return
        if task.cancelled():  # before it began
            self._end(asyncio.CancelledError())
            return
        failure = task.exception()
        error, value = task.result() if failure is None else (failure, None)
        self._end(error, value)

    def _end(self, error: BaseException | None, value: object = None) -> None:
        duration_ms = (monotonic_ns() - self._started_ns) / 1e6
        if isinstance(error, asyncio.CancelledError):
            cause, reason = error, self.reason or BY_ITSELF
            error = PipelineCancelled(PipelineCancelled.EXTERNAL, reason, run_id=self.run_id)
            error.__cause__ = cause
        elif error is not None and not isinstance(error, Exception):
            self._fatal = error
        if error is None:
            self.result = SubpipelineResult(True, self.run_id, data_of(value), None, duration_ms)
        else:
            self.result = SubpipelineResult.failed(self.run_id, error, duration_ms)
        for undo in self._disarm:
            undo()
        roster.get().leave(self)
        parent_id = self.origin.run_id
        if parent_id is not None:
            self._tracker.remove(parent_id, self.run_id)
        self._ended.set()
        if error is None:
            self._tell(
                vocabulary.PIPELINE_CHILD_COMPLETED,
                PipelineChildCompletedEvent(parent_id, self.run_id, self.name, duration_ms),
            )
        else:
            message, code = self.result.error or "", self.result.error_code
            self._tell(
                vocabulary.PIPELINE_CHILD_FAILED,
                PipelineChildFailedEvent(
                    parent_id, self.run_id, self.name, duration_ms, message, error_code=code
                ),
            )

    def _tell(self, type: str, event: ChildEvent) -> None:  # noqa: A002 - the event's type
        if self._emits:
            self.origin.emit(type, event.to_dict())

    # --- its early end ------------------------------------------------------------------------------------

    def ask(self, reason: str) -> None:
        """Ask it to stop. The first reason stays; it is asked once. May be called from any thread."""
        if threading.get_ident() != self._home:
            with suppress(RuntimeError):  # the loop is closed, and everything on it has ended
                self._loop.call_soon_threadsafe(self.ask, reason)
            return
        if self.reason is not None or self.over:
            return
        self.reason = reason
        self._token.cancel(reason)  # a pipeline ends by itself then, and what had settled is not lost
        self.context.mark_canceled()
        if self._task is not None and not isinstance(self._runner, (Pipeline, StageGraph)):
            self._task.cancel()

    def announce(self, reason: str, parent_run_id: UUID | None, cascade_depth: int) -> None:
        """Tell that it is about to be asked to stop. It is its own event, not its parent's."""
        if self._emits:
            event = PipelineCanceledEvent(self.run_id, parent_run_id, reason, cascade_depth)
            self.context.try_emit_event(vocabulary.PIPELINE_CANCELED, event.to_dict())

    @property
    def over(self) -> bool:
        """Whether it has ended; that may not have been told yet."""
        return self.result is not None or (self._task is not None and self._task.done())

    @property
    def surroundings(self) -> set[ChildRun]:
        """It, and the child runs that it is part of."""
        found: set[ChildRun] = set()
        child: ChildRun | None = self
        while child is not None:
            found.add(child)
            child = child._outer  # noqa: SLF001 - of the same class
        return found

    async def wait(self) -> None:
        """Wait until its end has been told."""
        await self._ended.wait()

    def _context_cancelled(self) -> None:
        self.ask(CONTEXT_CANCELLED)


if TYPE_CHECKING:
    _Ending: TypeAlias = tuple[BaseException | None, object]


async def wait_for(children: Iterable[ChildRun]) -> None:
    """Wait until *children* have ended, except for those that the caller itself is part of."""
    here = innermost_child()
    mine: set[ChildRun] = set() if here is None else here.surroundings
    for child in children:
        if child not in mine:
            await child.wait()


@final
class Roster:
    """The child runs of one event loop. Nothing is in it of what has ended."""

    __slots__ = ("_below", "_owned", "running")

    def __init__(self) -> None:
        self.running: dict[UUID, ChildRun] = {}
        """The children, by their own ids."""
        self._below: dict[UUID, dict[UUID, ChildRun]] = {}
        self._owned: WeakKeyDictionary[Run, set[ChildRun]] = WeakKeyDictionary()

    def below(self, run_id: UUID) -> tuple[ChildRun, ...]:
        """Return the running children of a run."""
        return tuple(self._below.get(run_id, {}).values())

    def enter(self, child: ChildRun) -> None:
        """A child starts. If a run owns it, it will not outlive that, whoever waits for it or does not."""
        self.running[child.run_id] = child
        origin = child.origin
        if origin.run_id is not None:
            self._below.setdefault(origin.run_id, {})[child.run_id] = child
        owner = origin.owner
        if owner is None:
            return
        owned = self._owned.get(owner)
        if owned is None:
            owned = self._owned[owner] = set()

            async def end_children() -> None:
                await self._end_owned(owner)

            owner.register_cleanup(end_children, "subpipelines")
        owned.add(child)

    def leave(self, child: ChildRun) -> None:
        """A child has ended."""
        self.running.pop(child.run_id, None)
        origin = child.origin
        if origin.run_id is not None:
            siblings = self._below.get(origin.run_id, {})
            siblings.pop(child.run_id, None)
            if not siblings:
                self._below.pop(origin.run_id, None)
        if origin.owner is not None:
            self._owned.get(origin.owner, set[Any]()).discard(child)

    async def _end_owned(self, owner: Run) -> None:
        left = tuple(self._owned.pop(owner, ()))
        for child in left:
            child.ask(PARENT_ENDED)
        await wait_for(left)


roster: Final[PerLoop[Roster]] = PerLoop(Roster)
"""The child runs of the running event loop."""
