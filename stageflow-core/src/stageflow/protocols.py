"""The contracts that others implement: sinks, stores, loggers, executors, and what everything may know of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from stageflow.observability.correlation import CorrelationIds
    from stageflow.stages.effect import Effect

__all__ = [
    "CircuitBreaker",
    "ConfigProvider",
    "CorrelationIds",
    "EventSink",
    "ExecutionContext",
    "Executor",
    "PermissionCheck",
    "PipelineRunLogger",
    "ProviderCallLogger",
    "RunStore",
    "StageResolver",
    "Tool",
    "UndoReceipt",
]


@runtime_checkable
class EventSink(Protocol):
    """Where events go. A run only ever calls ``try_emit``.

    Delivery is in order and at most once per sink. A sink that raises is reported once and never breaks a run,
    but ``try_emit`` runs on the event loop: a sink that waits belongs behind a queue.

    ```python
    from stageflow.protocols import EventSink


    class Printing:
        async def emit(self, *, type, data):
            self.try_emit(type=type, data=data)

        def try_emit(self, *, type, data):
            print(type, data)


    assert isinstance(Printing(), EventSink)
    ```
    """

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:  # noqa: A002 - published keyword
        """Deliver one event, waiting for room if need be."""
        ...

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> object:  # noqa: A002 - published keyword
        """Deliver one event without waiting. Must not raise and must not block."""
        ...


@runtime_checkable
class ExecutionContext(Protocol):
    """What pipeline, stage and tool contexts have in common.

    ```python
    from stageflow import PipelineContext
    from stageflow.protocols import ExecutionContext

    print(isinstance(PipelineContext(), ExecutionContext))
    #> True
    ```
    """

    @property
    def pipeline_run_id(self) -> UUID | None:
        """The run."""
        ...

    @property
    def request_id(self) -> UUID | None:
        """The request that the run answers."""
        ...

    @property
    def execution_mode(self) -> str | None:
        """The mode that the run was started in, such as ``"practice"``."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the context as plain data."""
        ...

    def try_emit_event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - published name
        """Emit an event on the run's own emitter; never raises."""
        ...


class Executor(Protocol):
    """Where the body of a stage runs: on the event loop, or elsewhere.

    ```python
    from stageflow.protocols import Executor


    class Counting:
        name = "counting"

        def __init__(self):
            self.calls = 0

        async def execute(self, body, ctx):
            self.calls += 1
            return await body(ctx)


    executor: Executor = Counting()
    ```
    """

    name: str

    async def execute(self, body: Callable[[Any], Awaitable[object]], ctx: Any) -> object:
        """Run ``body(ctx)`` and return what it returns.

        A cancelled call must not return before the body has stopped, wherever it runs.
        """
        ...


class StageResolver(Protocol):
    """Finds what a pipeline only names: contributed stages and executors."""

    def stage(self, name: str) -> object:
        """Return what runs the stage called *name*: a class, an instance, a stage made with ``@stage``.

        Raises:
            ContributionNotFoundError: Nobody contributes it.
        """
        ...

    def executor(self, name: str) -> Executor:
        """Return the executor called *name*.

        Raises:
            ContributionNotFoundError: Nobody contributes it.
        """
        ...


@runtime_checkable
class PermissionCheck(Protocol):
    """Says who may do what.

    ```python
    import asyncio

    from stageflow.protocols import PermissionCheck


    class OnlyInPractice:
        async def allows(self, permission, ctx, *, resource):
            return ctx.execution_mode == "practice"


    print(isinstance(OnlyInPractice(), PermissionCheck))
    #> True
    ```
    """

    async def allows(self, permission: str, ctx: ExecutionContext, *, resource: str) -> bool:
        """Say whether whoever the run acts for has a permission.

        Args:
            permission: Its name, as whatever asks for it says: ``"mail.send"``.
            ctx: The run: its tenant, its user, its mode.
            resource: What it is to be used on: ``"tool:send_mail"``.
        """
        ...


@runtime_checkable
class Tool(Protocol):
    """Something that an agent can call by name, with arguments that a JSON schema describes.

    One object serves many runs at once, so what belongs to a call is in its arguments and its context.

    ```python
    import asyncio

    from stageflow import Effect
    from stageflow.protocols import Tool


    class Length:
        name = "acme.length"
        description = "Count the characters of a text."
        input_schema = {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        }
        effect = Effect.NONE

        async def call(self, arguments, ctx):
            return {"length": len(arguments["text"])}


    tool: Tool = Length()
    print(isinstance(tool, Tool), asyncio.run(tool.call({"text": "Ada"}, None)))
    #> True {'length': 3}
    ```
    """

    @property
    def name(self) -> str:
        """What the tool is called: letters, digits, ``_``, ``-`` and ``.``, 128 of them at most."""
        ...

    @property
    def description(self) -> str:
        """What the tool is for, as a language model is told."""
        ...

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """The arguments, as the JSON schema of an object."""
        ...

    @property
    def effect(self) -> Effect:
        """What a call does to the world."""
        ...

    async def call(self, arguments: Mapping[str, Any], ctx: Any) -> Any:
        """Do what the tool is for, and return what JSON can say.

        Args:
            arguments: The arguments by name. Whoever calls has not checked them, and wants them back unchanged.
            ctx: The context of the stage that calls.

        Raises:
            Exception: The arguments do not fit the schema, or the call went wrong.
        """
        ...


@runtime_checkable
class RunStore(Protocol):
    """Where runs are written down, such as a table of a database.

    ```python
    import asyncio
    from uuid import UUID

    from stageflow.protocols import RunStore


    class InMemory:
        def __init__(self):
            self.runs = {}

        async def create_run(self, run_id, *, service, topology=None, execution_mode=None, status="created", **more):
            self.runs[run_id] = {"service": service, "status": status, **more}
            return self.runs[run_id]

        async def update_status(self, run_id, status, *, error=None, duration_ms=None, **data):
            self.runs[run_id].update(status=status, error=error, duration_ms=duration_ms, **data)

        async def get_run(self, run_id):
            return self.runs.get(run_id)


    store: RunStore = InMemory()
    print(asyncio.run(store.create_run(UUID(int=7), service="chat")))
    #> {'service': 'chat', 'status': 'created'}
    ```
    """

    async def create_run(
        self,
        run_id: UUID,
        *,
        service: str,
        topology: str | None = None,
        execution_mode: str | None = None,
        status: str = "created",
        **metadata: Any,
    ) -> Any:
        """Write down a new run, and return the record of it."""
        ...

    async def update_status(
        self,
        run_id: UUID,
        status: str,
        *,
        error: str | None = None,
        duration_ms: int | None = None,
        **data: Any,
    ) -> None:
        """Write down what has become of a run."""
        ...

    async def get_run(self, run_id: UUID) -> Any | None:
        """Return the record of a run, or None if it is not known."""
        ...


@runtime_checkable
class ConfigProvider(Protocol):
    """Where settings come from. A ``dict`` is one.

    ```python
    from stageflow.protocols import ConfigProvider

    settings: ConfigProvider = {"llm.model": "small"}
    print(settings.get("llm.model"), settings.get("llm.timeout", 30))
    #> small 30
    ```
    """

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return the setting *key*, or *default*."""
        ...


@runtime_checkable
class PipelineRunLogger(Protocol):
    """Told when a run starts and how it ended. One that raises is reported and never breaks a run.

    ```python
    import asyncio

    from stageflow.observability import NoOpPipelineRunLogger
    from stageflow.protocols import PipelineRunLogger


    class OnlyFailures(NoOpPipelineRunLogger):
        async def log_run_failed(self, *, pipeline_run_id, pipeline_name, error, stage, **more):
            print(pipeline_name, "failed in", stage)


    logger: PipelineRunLogger = OnlyFailures()
    asyncio.run(logger.log_run_failed(pipeline_run_id=1, pipeline_name="chat", error="no", stage="llm"))
    #> chat failed in llm
    ```
    """

    async def log_run_started(
        self,
        *,
        pipeline_run_id: UUID,
        pipeline_name: str,
        topology: str | None,
        execution_mode: str | None,
        user_id: UUID | None,
        **more: Any,
    ) -> None:
        """A run starts."""
        ...

    async def log_run_completed(
        self,
        *,
        pipeline_run_id: UUID,
        pipeline_name: str,
        duration_ms: int,
        status: str,
        stage_results: dict[str, Any],
        **more: Any,
    ) -> None:
        """A run has ended without an error."""
        ...

    async def log_run_failed(
        self,
        *,
        pipeline_run_id: UUID,
        pipeline_name: str,
        error: str,
        stage: str | None,
        **more: Any,
    ) -> None:
        """A run has ended with an error, in *stage* if it was one stage's."""
        ...


@runtime_checkable
class ProviderCallLogger(Protocol):
    """Told of every call of a provider: models, speech engines, search. See ``stageflow.observability``.

    ```python
    import asyncio
    from uuid import UUID

    from stageflow.protocols import ProviderCallLogger


    class Bill:
        def __init__(self):
            self.tokens = 0

        async def log_call_start(self, *, operation, provider, model_id, **context):
            return UUID(int=1)

        async def log_call_end(self, call_id, *, success, latency_ms, error=None, **metrics):
            self.tokens += metrics.get("tokens", 0)


    bill: ProviderCallLogger = Bill()
    asyncio.run(bill.log_call_end(UUID(int=1), success=True, latency_ms=12, tokens=40))
    print(bill.tokens)
    #> 40
    ```
    """

    async def log_call_start(
        self, *, operation: str, provider: str, model_id: str | None, **context: Any
    ) -> UUID:
        """A call starts; returns the id to end it with."""
        ...

    async def log_call_end(
        self,
        call_id: UUID,
        *,
        success: bool,
        latency_ms: int,
        error: str | None = None,
        **metrics: Any,
    ) -> None:
        """A call has ended, however it did."""
        ...


@runtime_checkable
class CircuitBreaker(Protocol):
    """Knows which operations of which providers are not to be called for a while.

    Ask ``is_open`` before every call, and say afterwards how it went, once; say nothing of calls that were not made.

    ```python
    import asyncio

    from stageflow.protocols import CircuitBreaker


    class Maintenance:
        async def is_open(self, *, operation, provider):
            return provider == "old"

        async def record_success(self, *, operation, provider): ...

        async def record_failure(self, *, operation, provider, reason): ...


    breaker: CircuitBreaker = Maintenance()
    print(asyncio.run(breaker.is_open(operation="llm.complete", provider="old")))
    #> True
    ```
    """

    async def is_open(self, *, operation: str, provider: str) -> bool:
        """Say whether the call must not be made."""
        ...

    async def record_success(self, *, operation: str, provider: str) -> None:
        """A call went well."""
        ...

    async def record_failure(self, *, operation: str, provider: str, reason: str) -> None:
        """A call went wrong."""
        ...


@runtime_checkable
class UndoReceipt(Protocol):
    """What it takes to undo an effect: plain data, good enough for another process, later.

    A stage with ``effect=Effect.REVERSIBLE`` leaves one, by ``ctx.leave_receipt``, before it counts as done.

    ```python
    import asyncio
    from dataclasses import asdict, dataclass

    from stageflow import Effect, Pipeline, StageKind


    @dataclass
    class Booked:
        receipt_id: str
        seat: str

        def to_dict(self):
            return {"undo": "cancel_booking", **asdict(self)}


    async def book(ctx):
        ctx.leave_receipt(Booked("r-1", seat="12A"))


    async def main():
        pipeline = Pipeline().with_stage("book", book, StageKind.WORK, effect=Effect.REVERSIBLE)
        async for event in pipeline.stream():
            if event.type == "effect.receipt":
                print(event.data["receipt"])


    asyncio.run(main())
    #> {'undo': 'cancel_booking', 'receipt_id': 'r-1', 'seat': '12A'}
    ```
    """

    @property
    def receipt_id(self) -> str:
        """What the receipt is called, to undo an effect once."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain data."""
        ...


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Look up the one name that 0.9 had here and that is no contract: the room of its value lies above this one."""
        if name == "CorrelationIds":
            from importlib import import_module

            return import_module("stageflow.observability.correlation").CorrelationIds
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
