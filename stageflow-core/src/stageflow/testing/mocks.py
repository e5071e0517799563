"""Stores and loggers that keep what they are told, and can be told to be late or to raise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, final
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["RecordedCall", "RecordingProviderCallLogger", "RecordingRunLogger", "RecordingRunStore"]


@final
class RecordedCall(NamedTuple):
    """One call that a recording store or logger got: the method, and its arguments by name."""

    method: str
    arguments: dict[str, Any]


class _Recording:
    """Keeps calls, and behaves as badly as it is told to.

    Args:
        delay: How long every call takes, in seconds on the event loop's clock.
        raises: What every call raises, after it has been kept.
    """

    def __init__(self, *, delay: float = 0.0, raises: Exception | None = None) -> None:
        self.calls: list[RecordedCall] = []
        self.delay = delay
        self.raises = raises

    @property
    def methods(self) -> list[str]:
        """The names of the methods that were called, in order."""
        return [call.method for call in self.calls]

    def _keep(self, method: str, **arguments: Any) -> Awaitable[None]:
        self.calls.append(RecordedCall(method, arguments))
        return self._misbehave()

    async def _misbehave(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.raises is not None:
            raise self.raises


@final
class RecordingRunStore(_Recording):
    """A run store in memory.

    Args:
        delay: How long every call takes, in seconds on the event loop's clock.
        raises: What every call raises, after it has been kept.

    Attributes:
        calls: What it was told, in order.
        runs: The record of every run, by its id.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.runtime.recording import Recording
    from stageflow.testing import RecordingRunStore, ScriptedStage

    store = RecordingRunStore()
    pipeline = Pipeline("greeting").with_stage("greet", ScriptedStage(), StageKind.WORK)
    asyncio.run(pipeline.build(recording=Recording(run_store=store)).run())
    print(store.methods, [run["status"] for run in store.runs.values()])
    #> ['create_run', 'update_status', 'update_status'] ['completed']
    ```
    """

    def __init__(self, *, delay: float = 0.0, raises: Exception | None = None) -> None:
        super().__init__(delay=delay, raises=raises)
        self.runs: dict[UUID, dict[str, Any]] = {}

    async def create_run(
        self,
        run_id: UUID,
        *,
        service: str,
        topology: str | None = None,
        execution_mode: str | None = None,
        status: str = "created",
        **metadata: Any,
    ) -> dict[str, Any]:
        """Write down a new run."""
        record = {
            "run_id": run_id,
            "service": service,
            "topology": topology,
            "execution_mode": execution_mode,
            "status": status,
            **metadata,
        }
        await self._keep("create_run", **record)
        self.runs[run_id] = record
        return record

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
        change = {"status": status, "error": error, "duration_ms": duration_ms, **data}
        await self._keep("update_status", run_id=run_id, **change)
        self.runs.setdefault(run_id, {"run_id": run_id}).update(change)

    async def get_run(self, run_id: UUID) -> dict[str, Any] | None:
        """Return the record of a run, or None if it is not known."""
        await self._keep("get_run", run_id=run_id)
        return self.runs.get(run_id)


@final
class RecordingRunLogger(_Recording):
    """A logger of runs that keeps what it is told.

    Args:
        delay: How long every call takes, in seconds on the event loop's clock.
        raises: What every call raises, after it has been kept.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.runtime.recording import Recording
    from stageflow.testing import FailingStage, RecordingRunLogger

    logger = RecordingRunLogger(raises=OSError("disk full"))  # which harms no run
    pipeline = Pipeline("greeting").with_stage("greet", FailingStage("no"), StageKind.WORK)
    asyncio.run(pipeline.build(recording=Recording(run_logger=logger)).run(raise_errors=False))
    print(logger.methods, logger.calls[-1].arguments["stage"])
    #> ['log_run_started', 'log_run_failed'] greet
    ```
    """

    async def log_run_started(self, **facts: Any) -> None:
        """A run starts."""
        await self._keep("log_run_started", **facts)

    async def log_run_completed(self, **facts: Any) -> None:
        """A run has ended without an error."""
        await self._keep("log_run_completed", **facts)

    async def log_run_failed(self, **facts: Any) -> None:
        """A run has ended with an error."""
        await self._keep("log_run_failed", **facts)


@final
class RecordingProviderCallLogger(_Recording):
    """A logger of provider calls that keeps what it is told.

    Args:
        delay: How long every call takes, in seconds on the event loop's clock.
        raises: What every call raises, after it has been kept.

    Attributes:
        open: The ids of the calls that have not ended.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.runtime.recording import Recording
    from stageflow.testing import RecordingProviderCallLogger


    async def chat(ctx):
        async with ctx.provider_call("chat", "acme") as call:
            call.metrics["tokens"] = 40


    logger = RecordingProviderCallLogger()
    graph = Pipeline().with_stage("chat", chat, StageKind.AGENT).build(recording=Recording(provider_call_logger=logger))
    asyncio.run(graph.run())
    print(logger.methods, logger.calls[-1].arguments["tokens"], logger.open)
    #> ['log_call_start', 'log_call_end'] 40 set()
    ```
    """

    def __init__(self, *, delay: float = 0.0, raises: Exception | None = None) -> None:
        super().__init__(delay=delay, raises=raises)
        self.open: set[UUID] = set()

    async def log_call_start(
        self, *, operation: str, provider: str, model_id: str | None, **context: Any
    ) -> UUID:
        """A call starts."""
        await self._keep(
            "log_call_start", operation=operation, provider=provider, model_id=model_id, **context
        )
        call_id = uuid4()
        self.open.add(call_id)
        return call_id

    async def log_call_end(self, call_id: UUID, **facts: Any) -> None:
        """A call has ended."""
        self.open.discard(call_id)
        await self._keep("log_call_end", call_id=call_id, **facts)
