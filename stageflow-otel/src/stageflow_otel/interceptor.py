"""``OpenTelemetryInterceptor``: a span around every attempt of every stage."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from stageflow import BaseInterceptor, StageStatus
from stageflow.interceptors.chain import RetryRequestedError

from stageflow_otel import attributes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from opentelemetry.trace import Span, TracerProvider
    from stageflow import InterceptorContext, StageOutput

__all__ = ["OpenTelemetryInterceptor"]

_logger = logging.getLogger("stageflow.otel")


@final
class OpenTelemetryInterceptor(BaseInterceptor):
    """Opens a span for every attempt of every stage, through the OpenTelemetry API.

    The span's parent is the span that is current where the run is started. It is current itself while the stage
    runs, so what the stage traces becomes its child, also where stages run side by side. It ends with the attempt,
    however that ends:

    - OK, SKIP and CANCEL leave its status unset, as OpenTelemetry asks of instrumentation;
    - FAIL, RETRY and an exception make it an error; the exception is recorded;
    - stopped because the run ended: unset, with ``stageflow.stage.status`` as ``"interrupted"`` and the reason;
    - stopped by its own time limit: an error.

    Without a tracer provider the API does nothing, and so does this. Trouble with the tracing itself is logged and
    never reaches the stage.

    Args:
        tracer_provider: Where spans go; by default the global one, also if it is set later.

    ```python
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from stageflow import Pipeline, StageContext, stage
    from stageflow_otel import OpenTelemetryInterceptor
    import asyncio


    @stage
    async def greet(ctx: StageContext) -> str:
        return f"Hello, {ctx.input_text}"


    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    graph = Pipeline.from_stages(greet).build(interceptors=[OpenTelemetryInterceptor(provider)])
    asyncio.run(graph.run(input_text="Ada"))
    (span,) = exporter.get_finished_spans()
    print(span.name, span.attributes["stageflow.stage.kind"], span.attributes["stageflow.attempt"])
    #> stage greet transform 1
    ```
    """

    name = "otel.tracing"
    priority = 0
    fail_closed: ClassVar[bool] = False

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("stageflow_otel", tracer_provider=tracer_provider)

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        """Run the attempt inside a span.

        Args:
            stage_name: The stage.
            call: The rest of the chain.
            ctx: The run and the attempt.
        """
        span = self._open(stage_name, ctx)
        if span is None:
            return await call()
        with _current(span):
            try:
                output = await call()
            except asyncio.CancelledError:
                with _isolated():
                    _interrupted(span, ctx)
                raise
            except Exception as exc:
                with _isolated():
                    _raised(span, exc)
                raise
            with _isolated():
                _returned(span, output)
            return output

    def _open(self, stage_name: str, ctx: InterceptorContext) -> Span | None:
        with _isolated():
            known = {
                attributes.STAGE: stage_name,
                attributes.STAGE_KIND: ctx.kind.value,
                attributes.ATTEMPT: ctx.attempt,
                attributes.RUN_ID: _text(ctx.pipeline_run_id),
                attributes.TOPOLOGY: ctx.topology,
                attributes.TENANT_ID: _text(ctx.org_id),
            }
            return self._tracer.start_span(
                f"stage {stage_name}",
                kind=SpanKind.INTERNAL,
                attributes={name: value for name, value in known.items() if value is not None},
            )
        return None


@contextmanager
def _current(span: Span) -> Generator[None]:
    """Make *span* the current one, and end it; what is raised inside is not its business."""
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield
    finally:
        with _isolated():
            span.end()


@contextmanager
def _isolated() -> Generator[None]:
    """Log what goes wrong with the tracing: a span processor or a sampler may raise, and no stage should notice."""
    try:
        yield
    except Exception:
        _logger.warning("Tracing failed; the stage is not affected", exc_info=True)


def _returned(span: Span, output: StageOutput) -> None:
    span.set_attribute(attributes.STAGE_STATUS, output.status.value)
    if output.status in (StageStatus.FAIL, StageStatus.RETRY):
        span.set_status(Status(StatusCode.ERROR, output.error))
    elif output.status is StageStatus.CANCEL:
        span.set_attribute(attributes.CANCEL_REASON, str(output.data.get("cancel_reason", "")))


def _raised(span: Span, error: Exception) -> None:
    status = StageStatus.FAIL
    if isinstance(error, RetryRequestedError):  # how an interceptor further in asks for another attempt
        status, error = StageStatus.RETRY, error.original
    span.set_attribute(attributes.STAGE_STATUS, status.value)
    span.set_attribute(attributes.ERROR_TYPE, type(error).__qualname__)
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def _interrupted(span: Span, ctx: InterceptorContext) -> None:
    span.set_attribute(attributes.STAGE_STATUS, "interrupted")
    reason = ctx.stage.scope.cancel_reason
    if reason is not None:
        span.set_attribute(attributes.CANCEL_REASON, reason)
    else:  # the run goes on, so it is this attempt alone that was stopped
        span.set_attribute(attributes.ERROR_TYPE, "CancelledError")
        span.set_status(Status(StatusCode.ERROR, "Stopped by its time limit"))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
