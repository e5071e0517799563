"""What writes down runs and provider calls as log lines, and what writes down nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from stageflow.observability.structured import StructuredLog
from stageflow.protocols import PipelineRunLogger, ProviderCallLogger

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "LoggingPipelineRunLogger",
    "LoggingProviderCallLogger",
    "NoOpPipelineRunLogger",
    "NoOpProviderCallLogger",
    "PipelineRunLogger",
    "ProviderCallLogger",
]

# A failed run or call is raised to whoever started it; where nobody set up logging it need not be printed as well.
_runs = StructuredLog("stageflow.runs", quiet=True)
_calls = StructuredLog("stageflow.provider_calls", quiet=True)


class NoOpPipelineRunLogger:
    """Writes down nothing; a base for loggers that want only some of what there is.

    ```python
    import asyncio
    from uuid import UUID

    from stageflow.observability import NoOpPipelineRunLogger


    class Alarm(NoOpPipelineRunLogger):
        async def log_run_failed(self, *, pipeline_name, error, **more):
            print(f"{pipeline_name}: {error}")


    failed = {"pipeline_run_id": UUID(int=7), "pipeline_name": "chat", "error": "no answer", "stage": "llm"}
    asyncio.run(Alarm().log_run_failed(**failed))
    #> chat: no answer
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
        """Do nothing."""

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
        """Do nothing."""

    async def log_run_failed(
        self,
        *,
        pipeline_run_id: UUID,
        pipeline_name: str,
        error: str,
        stage: str | None,
        **more: Any,
    ) -> None:
        """Do nothing."""


class LoggingPipelineRunLogger(NoOpPipelineRunLogger):
    """Writes to the logger ``stageflow.runs``, at INFO, and at ERROR when a run failed.

    ```python
    import asyncio
    import logging
    from uuid import UUID

    from stageflow.observability import LoggingPipelineRunLogger

    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("stageflow.runs").addHandler(handler)

    failed = LoggingPipelineRunLogger().log_run_failed(
        pipeline_run_id=UUID(int=7), pipeline_name="chat", error="no answer", stage="llm"
    )
    asyncio.run(failed)
    print(records[0].getMessage(), "-", records[0].stage)
    #> Run failed: chat: no answer - llm
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
        """Log that a run starts."""
        fields = _fields(
            more,
            pipeline_run_id=pipeline_run_id,
            pipeline_name=pipeline_name,
            topology=topology,
            execution_mode=execution_mode,
            user_id=user_id,
        )
        _runs.write(logging.INFO, f"Run started: {pipeline_name}", fields)

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
        """Log how a run ended; of what its stages gave only their names, since the rest may be anything."""
        fields = _fields(
            more,
            pipeline_run_id=pipeline_run_id,
            pipeline_name=pipeline_name,
            duration_ms=duration_ms,
            status=status,
            stages=list(stage_results),
        )
        _runs.write(logging.INFO, f"Run {status}: {pipeline_name}", fields)

    async def log_run_failed(
        self,
        *,
        pipeline_run_id: UUID,
        pipeline_name: str,
        error: str,
        stage: str | None,
        **more: Any,
    ) -> None:
        """Log why a run failed."""
        fields = _fields(
            more, pipeline_run_id=pipeline_run_id, pipeline_name=pipeline_name, error=error, stage=stage
        )
        _runs.write(logging.ERROR, f"Run failed: {pipeline_name}: {error}", fields)


class NoOpProviderCallLogger:
    """Writes down nothing; a base for loggers that want only some of what there is.

    ```python
    import asyncio

    from stageflow.observability import NoOpProviderCallLogger

    logger = NoOpProviderCallLogger()
    call_id = asyncio.run(logger.log_call_start(operation="chat", provider="acme", model_id="small"))
    print(type(call_id).__name__)
    #> UUID
    ```
    """

    async def log_call_start(
        self, *, operation: str, provider: str, model_id: str | None, **context: Any
    ) -> UUID:
        """Return a new id."""
        from uuid import uuid4  # importing uuid asks what platform this is; that can wait until it is needed

        return uuid4()

    async def log_call_end(
        self,
        call_id: UUID,
        *,
        success: bool,
        latency_ms: int,
        error: str | None = None,
        **metrics: Any,
    ) -> None:
        """Do nothing."""


class LoggingProviderCallLogger(NoOpProviderCallLogger):
    """Writes to the logger ``stageflow.provider_calls``, at INFO, and at WARNING when a call failed.

    ```python
    import asyncio
    import logging

    from stageflow.observability import LoggingProviderCallLogger

    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("stageflow.provider_calls").addHandler(handler)


    async def call():
        logger = LoggingProviderCallLogger()
        call_id = await logger.log_call_start(operation="llm.complete", provider="acme", model_id="small")
        await logger.log_call_end(call_id, success=False, latency_ms=12, error="429")


    asyncio.run(call())
    print(records[0].getMessage() if records else "below WARNING nothing is logged here")
    #> Provider call failed after 12 ms: 429
    ```
    """

    async def log_call_start(
        self, *, operation: str, provider: str, model_id: str | None, **context: Any
    ) -> UUID:
        """Log that a call starts; returns a new id, which both lines of the call have."""
        call_id = await super().log_call_start(operation=operation, provider=provider, model_id=model_id)
        fields = _fields(context, call_id=call_id, operation=operation, provider=provider, model_id=model_id)
        _calls.write(logging.INFO, f"Provider call started: {operation} at {provider}", fields)
        return call_id

    async def log_call_end(
        self,
        call_id: UUID,
        *,
        success: bool,
        latency_ms: int,
        error: str | None = None,
        **metrics: Any,
    ) -> None:
        """Log how a call ended."""
        fields = _fields(metrics, call_id=call_id, success=success, latency_ms=latency_ms, error=error)
        if success:
            _calls.write(logging.INFO, f"Provider call completed in {latency_ms} ms", fields)
        else:
            _calls.write(logging.WARNING, f"Provider call failed after {latency_ms} ms: {error}", fields)


def _fields(more: dict[str, Any], **own: object) -> dict[str, Any]:
    """Put together what a line says: ids as text, nothing that is not known, and what is ours over what is added."""
    return {
        **more,
        **{
            name: value if isinstance(value, (str, int, float, list)) else str(value)
            for name, value in own.items()
            if value is not None
        },
    }
