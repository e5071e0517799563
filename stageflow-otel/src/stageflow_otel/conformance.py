"""The conformance suites of what ``stageflow-otel`` contributes."""

from __future__ import annotations

from typing import ClassVar

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from stageflow.testing.conformance import InterceptorConformance

from stageflow_otel.interceptor import OpenTelemetryInterceptor

__all__ = ["TestTracing", "TestTracingForNobody"]


class TestTracing(InterceptorConformance):
    """Spans that somebody takes."""

    contribution: ClassVar[str] = "otel.tracing"

    def make_interceptor(self) -> OpenTelemetryInterceptor:
        """Return the interceptor."""
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
        return OpenTelemetryInterceptor(provider)


class TestTracingForNobody(InterceptorConformance):
    """Spans of the global provider, which is none."""

    contribution: ClassVar[str] = "otel.tracing"

    def make_interceptor(self) -> OpenTelemetryInterceptor:
        """Return the interceptor."""
        return OpenTelemetryInterceptor()
