"""``StageContext``: what a stage gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast, final

from stageflow.context.checks import check_mapping, shown, text_of, wrong_type
from stageflow.context.frozen import FrozenDict
from stageflow.errors import PipelineCancelled, RunStateError
from stageflow.stages.pipeline_context import PipelineContext, as_payload, ids_of
from stageflow.stages.spec import StageSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
    from uuid import UUID

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.protocols import EventSink, ProviderCallLogger, UndoReceipt
    from stageflow.stages.inputs import StageInputs
    from stageflow.stages.provider_call import ProviderCall
    from stageflow.stages.stage import StageKind
    from stageflow.stages.timer import PipelineTimer
    from stageflow.stages.typed import StageDef

__all__ = ["PipelineContext", "RunScope", "StageContext", "context_of", "create_stage_context"]

_logger = logging.getLogger("stageflow.events")


class RunScope(Protocol):
    """What a stage's context needs to know of the run it belongs to."""

    @property
    def snapshot(self) -> ContextSnapshot:
        """What the run was started with."""
        ...

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        ...

    @property
    def depth(self) -> int:
        """How many runs there are above this one."""
        ...

    @property
    def timer(self) -> PipelineTimer:
        """The run's clock."""
        ...

    @property
    def event_sink(self) -> EventSink | None:
        """The sink that the run was given."""
        ...

    @property
    def data(self) -> dict[str, Any]:
        """What the caller handed to interceptors."""
        ...

    @property
    def cancel_reason(self) -> str | None:
        """Why the run is being cancelled, or None while it is not."""
        ...

    def inputs_of(self, stage: str) -> StageInputs:
        """Return what *stage* may read."""
        ...

    def facts(self, stage: StageContext, started_ns: int) -> Sequence[MutableMapping[str, Any]]:
        """Return what interceptors know of an attempt that began at *started_ns*, the outermost's first."""
        ...

    def emit(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002 - the event's type
        """Emit an event of the run."""
        ...

    @property
    def provider_call_logger(self) -> ProviderCallLogger | None:
        """Who is told of the calls that stages make to providers."""
        ...

    def register_cleanup(self, callback: Callable[[], Awaitable[None]], name: str | None) -> None:
        """Call *callback* when the run ends."""
        ...

    async def publish(self, stage: str, attempt: int, chunk: object) -> bool:
        """Hand a chunk to everybody who reads the stream of *stage*, and say whether that is anybody."""
        ...

    def stream(self, stage: str, producer: str) -> AsyncIterator[Any]:
        """Return what *stage* reads of the stream of *producer*."""
        ...

    async def gate(self, stage: str, attempt: int) -> None:
        """Wait until an effect of *stage*, which is running, may happen."""
        ...

    def leave_receipt(self, stage: str, attempt: int, receipt: Mapping[str, Any]) -> None:
        """Put the undo receipt of an attempt of *stage* on record."""
        ...

    def has_receipt(self, stage: str, attempt: int) -> bool:
        """Say whether an attempt of *stage* has left an undo receipt."""
        ...

    def waited(self, stage: str, attempt: int, part: str, started_ns: int, ended_ns: int) -> None:
        """Note that *stage*, which is running, did not work for a while but waited: for whoever made it wait.

        Args:
            stage: The stage.
            attempt: Its attempt.
            part: What the time went to, a ``Part``.
            started_ns: When it began to wait, on the monotonic clock.
            ended_ns: When that was over.
        """
        ...


class _DetachedScope:
    """Stands in for the run in a context that somebody made by hand, mostly in tests."""

    __slots__ = (
        "_inputs",
        "_receipts",
        "cancel_reason",
        "data",
        "depth",
        "event_sink",
        "pipeline",
        "provider_call_logger",
        "snapshot",
        "timer",
    )

    def __init__(
        self,
        snapshot: ContextSnapshot,
        inputs: StageInputs,
        timer: PipelineTimer,
        event_sink: EventSink | None,
    ) -> None:
        self.snapshot = snapshot
        self.timer = timer
        self.event_sink = event_sink
        self.data: dict[str, Any] = {}
        self.cancel_reason: str | None = None
        self.depth = 0
        self.pipeline = "pipeline"
        self.provider_call_logger: ProviderCallLogger | None = None
        self._inputs = inputs
        self._receipts: dict[str, int] = {}

    def inputs_of(self, stage: str) -> StageInputs:
        return self._inputs

    def facts(self, stage: StageContext, started_ns: int) -> Sequence[MutableMapping[str, Any]]:
        return ()

    def emit(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002 - the event's type
        if self.event_sink is None:
            return
        try:
            self.event_sink.try_emit(type=type, data={**ids_of(self.snapshot), **data})
        except Exception:
            what = "The event sink %s raised on %s"
            _logger.warning(what, shown(self.event_sink), shown(type), exc_info=True)

    def register_cleanup(self, callback: Callable[[], Awaitable[None]], name: str | None) -> None:
        what = text_of(name or getattr(callback, "__name__", callback))
        msg = f"Cannot register {what!r}: this context belongs to no run, so nothing would call it"
        raise RunStateError(msg, fix="Register it in a stage, with the ctx that the stage is given")

    async def publish(self, stage: str, attempt: int, chunk: object) -> bool:
        """Say that nobody reads: without a run there is nobody."""
        return False

    def stream(self, stage: str, producer: str) -> AsyncIterator[Any]:
        msg = f"Cannot read the stream of {text_of(producer)!r}: this context belongs to no run"
        raise RunStateError(msg, fix="Read it in a stage, with the ctx that the stage is given")

    async def gate(self, stage: str, attempt: int) -> None:
        """Return at once: without a run there are no gates."""

    def leave_receipt(self, stage: str, attempt: int, receipt: Mapping[str, Any]) -> None:
        self._receipts[stage] = attempt
        self.emit("effect.receipt", {"stage": stage, "attempt": attempt, "receipt": dict(receipt)})

    def has_receipt(self, stage: str, attempt: int) -> bool:
        return self._receipts.get(stage) == attempt

    def waited(self, stage: str, attempt: int, part: str, started_ns: int, ended_ns: int) -> None:
        """Forget it: without a run there is no timeline."""


@final
class StageContext:
    """What a stage gets: what the run was started with, what its dependencies left, and a way to speak up.

    Args:
        snapshot: What the run was started with.
        inputs: What the stage may read.
        stage_name: The stage.
        timer: The run's clock.
        event_sink: Where events go.

    ```python
    from stageflow import ContextSnapshot, PipelineTimer, StageContext, StageInputs

    snapshot = ContextSnapshot(input_text="Ada")
    ctx = StageContext(snapshot, StageInputs(snapshot), "greet", PipelineTimer())
    print(ctx.stage_name, ctx.input_text)
    #> greet Ada
    ```
    """

    __slots__ = ("_attempt", "_data", "_inputs", "_scope", "_spec")

    _data: FrozenDict[str, Any]  # not there before it is first read
    _scope: RunScope
    _spec: StageSpec
    _inputs: StageInputs | None
    _attempt: int

    def __init__(
        self,
        snapshot: ContextSnapshot,
        inputs: StageInputs,
        stage_name: str,
        timer: PipelineTimer,
        event_sink: EventSink | None = None,
    ) -> None:
        if not hasattr(snapshot, "input_text"):
            raise wrong_type("StageContext", "snapshot", "a ContextSnapshot", snapshot)
        if not hasattr(inputs, "ports"):
            raise wrong_type("StageContext", "inputs", "StageInputs", inputs)
        if not hasattr(timer, "elapsed_ms"):
            raise wrong_type("StageContext", "timer", "a PipelineTimer", timer)
        self._scope = _DetachedScope(snapshot, inputs, timer, event_sink)
        self._spec = StageSpec(stage_name, None)
        self._inputs = inputs
        self._attempt = 1

    @property
    def snapshot(self) -> ContextSnapshot:
        """What the run was started with."""
        return self._scope.snapshot

    @property
    def inputs(self) -> StageInputs:
        """What the stage may read of its dependencies."""
        if self._inputs is None:
            self._inputs = self._scope.inputs_of(self._spec.name)
        return self._inputs

    @property
    def data(self) -> FrozenDict[str, Any]:
        """What the caller handed over as ``run(data=...)``, or in a ``PipelineContext``: a read-only copy.

        Dicts, lists and sets in it are read-only as well; every other object is the caller's own. What interceptors
        write into their ``ctx.data`` is not in it.

        ```python
        import asyncio

        from stageflow import Pipeline, StageContext, stage


        @stage
        async def greet(ctx: StageContext) -> str:
            return f"{ctx.data['greeting']}, {ctx.input_text}"


        results = asyncio.run(Pipeline.from_stages(greet).run(input_text="Ada", data={"greeting": "Hello"}))
        print(results.value(greet))
        #> Hello, Ada
        ```
        """
        if not hasattr(self, "_data"):
            self._data = FrozenDict(self._scope.data)
        return self._data

    @property
    def stage_name(self) -> str:
        """The stage."""
        return self._spec.name

    @property
    def kind(self) -> StageKind:
        """What the stage is for."""
        return self._spec.kind

    @property
    def pipeline(self) -> str:
        """The name of the pipeline that the stage runs in."""
        return self._scope.pipeline

    @property
    def depth(self) -> int:
        """How many runs there are above this one."""
        return self._scope.depth

    @property
    def attempt(self) -> int:
        """Which attempt of the stage this is, from 1."""
        return self._attempt

    @property
    def timer(self) -> PipelineTimer:
        """The run's clock."""
        return self._scope.timer

    @property
    def event_sink(self) -> EventSink | None:
        """The sink that the run was given. To emit in order, use ``try_emit_event``."""
        return self._scope.event_sink

    @property
    def scope(self) -> RunScope:
        """The run, as far as contexts know it."""
        return self._scope

    @property
    def input_text(self) -> str | None:
        """The text that the run was started with."""
        return self._scope.snapshot.input_text

    @property
    def pipeline_run_id(self) -> UUID | None:
        """The run."""
        return self._scope.snapshot.pipeline_run_id

    @property
    def request_id(self) -> UUID | None:
        """The request that the run answers."""
        return self._scope.snapshot.request_id

    @property
    def execution_mode(self) -> str | None:
        """The mode that the run was started in."""
        return self._scope.snapshot.execution_mode

    @property
    def started_at(self) -> datetime:
        """When the run started, in UTC."""
        return self._scope.timer.started_at

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as plain data, with the stage's name and the start of the run."""
        return {
            **self.snapshot.to_dict(),
            "stage_name": self._spec.name,
            "started_at": self.started_at.isoformat(),
        }

    def try_emit_event(self, type: str, data: Mapping[str, Any] | None = None) -> None:  # noqa: A002 - published
        """Emit an event of the run; keys of *data* win over the run's ids. Never raises."""
        self._scope.emit(type, {"stage": self._spec.name, **as_payload(data)})

    def record_stage_event(self, stage: str, status: str, **data: Any) -> None:
        """Emit ``stage.<status>`` about *stage*."""
        self._scope.emit(
            f"stage.{text_of(status)}",
            {"stage": stage, "status": status, "stage_name": self._spec.name, **data},
        )

    def register_cleanup(self, callback: Callable[[], Awaitable[None]], *, name: str | None = None) -> None:
        """Call *callback* when the run ends, however it ends; the last registered is called first.

        Raises:
            RunStateError: The context belongs to no run. Also a ``RuntimeError``.
        """
        self._scope.register_cleanup(callback, name)

    async def publish(self, chunk: object) -> bool:
        """Hand a chunk to everybody who reads this stage's stream, before the stage ends.

        Readers are the stages with ``streams=(this stage,)``, and whoever reads ``pipeline.stream()``. While a
        reader whose edge blocks has no room, this waits; the stage holds no place under concurrency limits
        meanwhile. A stage that has published is not attempted again, unless it says ``restartable=True``.

        Args:
            chunk: Anything. Dicts, lists and sets in it are copied into read-only ones.

        Returns:
            Whether anybody still reads.

        Raises:
            StreamClosedError: The attempt has ended: somebody publishes who has outlived it.
            CyclicDataError: The chunk contains itself.

        ```python
        import asyncio

        from stageflow import Pipeline, StageContext, stage


        @stage
        async def model(ctx: StageContext) -> str:
            for token in ("Hel", "lo"):
                await ctx.publish(token)
            return "Hello"


        @stage(streams=[model])
        async def speak(ctx: StageContext) -> list[str]:
            return [token async for token in ctx.stream(model)]


        print(asyncio.run(Pipeline.from_stages(model, speak).run()).value(speak))
        #> ['Hel', 'lo']
        ```
        """
        return await self._scope.publish(self._spec.name, self._attempt, chunk)

    def stream(self, producer: str | StageDef[Any]) -> AsyncIterator[Any]:
        """Return an iterator over what another stage publishes; this stage names it in ``streams=``.

        Between the chunks there may be a ``StreamGap``, where this stage was too slow for an edge that drops, and a
        ``StreamRestart``, where the other one begins anew. The iterator ends when the other stage has ended well.

        Args:
            producer: The stage.

        Raises:
            UndeclaredDependencyError: This stage does not name it in ``streams=``.
            StreamBrokenError: While iterating: the other stage has failed, or was cancelled.
            RunStateError: While iterating: two Tasks of this stage wait for a chunk at once.
        """
        name = producer if isinstance(producer, str) else getattr(producer, "name", None)
        if not isinstance(name, str):
            expects = "the name of a stage, or a stage made with @stage"
            raise wrong_type("StageContext.stream", "producer", expects, producer)
        return self._scope.stream(self._spec.name, name)

    async def gate(self) -> None:
        """Wait until an effect of this stage may happen: until every gate of the pipeline has opened.

        For whoever does something to the world inside a stage, such as an agent's tools. A stage that as a whole
        has an effect need not call it. While it waits, the stage holds no place under concurrency limits, and its time
        limit does not run.

        Raises:
            EffectGateClosed: A gate has closed. A stage that lets this pass ends as skipped.
            EffectGateDeadlock: A gate waits for this stage.

        ```python
        import asyncio

        from stageflow import Pipeline, StageContext, StageKind, stage


        @stage(kind=StageKind.GUARD, gates_effects=True)
        async def check(ctx: StageContext) -> bool:
            return True


        @stage
        async def act(ctx: StageContext) -> str:
            await ctx.gate()
            return "done"


        print(asyncio.run(Pipeline.from_stages(check, act).run()).value(act))
        #> done
        ```
        """
        await self._scope.gate(self._spec.name, self._attempt)

    def leave_receipt(self, receipt: UndoReceipt) -> None:
        """Put on record how to undo what this stage has just done; see ``stageflow.protocols.UndoReceipt``.

        Raises:
            ArgumentTypeError: It has no ``to_dict``, or that gives no mapping.
        """
        to_dict = getattr(receipt, "to_dict", None)
        data = to_dict() if callable(to_dict) else None
        if not isinstance(data, Mapping):
            expects = "an UndoReceipt, whose to_dict() gives a mapping"
            raise wrong_type("StageContext.leave_receipt", "receipt", expects, receipt)
        self._scope.leave_receipt(self._spec.name, self._attempt, FrozenDict(cast("Mapping[str, Any]", data)))

    def provider_call(
        self, operation: str, provider: str, model_id: str | None = None, **context: Any
    ) -> ProviderCall:
        """Wrap a call to a model or another provider: ``async with ctx.provider_call("chat", "acme") as call:``.

        The run's provider-call logger hears of it, with the time it took and what is put into ``call.metrics``.
        The current circuit breaker (``get_circuit_breaker``) may refuse it.

        Args:
            operation: What is asked for.
            provider: Whom.
            model_id: The model.
            **context: Further facts for the logger.
        """
        from stageflow.observability.breaker import get_circuit_breaker
        from stageflow.stages.provider_call import ProviderCall

        facts = {"pipeline_run_id": self.pipeline_run_id, "stage": self._spec.name, **context}
        return ProviderCall(operation, provider, model_id, self._scope, get_circuit_breaker(), facts)

    @property
    def is_cancelled(self) -> bool:
        """Whether the run is being cancelled."""
        return self._scope.cancel_reason is not None

    def raise_if_cancelled(self) -> None:
        """Stop here if the run is being cancelled; for long work that never awaits.

        Raises:
            PipelineCancelled: The run is being cancelled.
        """
        reason = self._scope.cancel_reason
        if reason is not None:
            raise PipelineCancelled(PipelineCancelled.EXTERNAL, reason, run_id=self.pipeline_run_id)

    async def cancellation_checkpoint(self) -> None:
        """Let others run, and stop here if the run is being cancelled.

        Raises:
            PipelineCancelled: The run is being cancelled.
        """
        await asyncio.sleep(0)
        self.raise_if_cancelled()

    def as_pipeline_context(
        self,
        *,
        data: Mapping[str, Any] | None = None,
        configuration: Mapping[str, Any] | None = None,
        service: str | None = None,
        db: Any = None,
    ) -> PipelineContext:
        """Return a new ``PipelineContext`` with the same ids, sink, input and depth.

        Raises:
            ArgumentTypeError: *data* or *configuration* is no mapping.
        """
        for argument, value in (("data", data), ("configuration", configuration)):
            check_mapping("StageContext.as_pipeline_context", argument, value)
        context = PipelineContext.from_snapshot(
            self.snapshot,
            data=dict(data or {}),
            configuration=dict(configuration or {}),
            service=service or "pipeline",
            db=db,
            event_sink=self.event_sink,
        )
        context.depth = self.depth
        return context

    @staticmethod
    def now() -> datetime:
        """Now, in UTC."""
        return datetime.now(UTC)

    def __repr__(self) -> str:
        return f"StageContext(stage_name={self._spec.name!r}, run={self.pipeline_run_id}, attempt={self._attempt})"


_new = object.__new__


def context_of(scope: RunScope, spec: StageSpec, attempt: int) -> StageContext:
    """Make the context of one attempt of a stage in a run; its inputs are put together when first read."""
    self: Any = _new(StageContext)
    self._scope = scope
    self._spec = spec
    self._inputs = None
    self._attempt = attempt
    made: StageContext = self
    return made


def create_stage_context(
    snapshot: ContextSnapshot,
    inputs: StageInputs,
    stage_name: str,
    timer: PipelineTimer,
    event_sink: EventSink | None = None,
) -> StageContext:
    """Make a ``StageContext``; see the class.

    ```python
    from stageflow import ContextSnapshot, PipelineTimer, create_stage_context, create_stage_inputs

    snapshot = ContextSnapshot(input_text="Ada")
    ctx = create_stage_context(snapshot, create_stage_inputs(snapshot), "greet", PipelineTimer())
    print(ctx.stage_name, ctx.input_text)
    #> greet Ada
    ```
    """
    return StageContext(snapshot, inputs, stage_name, timer, event_sink)
