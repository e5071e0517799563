"""Watching runs and learning from it: loggers, the circuit breaker, correlation, traces, kinds of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.observability.breaker import (
        CircuitBreaker,
        CircuitBreakerOpenError,
        CircuitState,
        LocalCircuitBreaker,
        NoOpCircuitBreaker,
        Permit,
        clear_circuit_breaker,
        get_circuit_breaker,
        set_circuit_breaker,
    )
    from stageflow.observability.correlation import (
        CorrelationIds,
        clear_correlation_id,
        ensure_correlation_id,
        get_correlation_id,
        set_correlation_id,
    )
    from stageflow.observability.error_summary import (
        error_summary_to_stages_patch,
        error_summary_to_string,
        summarize_pipeline_error,
    )
    from stageflow.observability.log_setup import JsonLogFormatter, setup_logging
    from stageflow.observability.loggers import (
        LoggingPipelineRunLogger,
        LoggingProviderCallLogger,
        NoOpPipelineRunLogger,
        NoOpProviderCallLogger,
        PipelineRunLogger,
        ProviderCallLogger,
    )
    from stageflow.observability.taxonomy import ErrorClass, classify, is_retryable
    from stageflow.observability.trace import TraceContext, get_span_id, get_trace_context_dict, get_trace_id

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerOpenError",
    "CircuitState",
    "CorrelationIds",
    "ErrorClass",
    "JsonLogFormatter",
    "LocalCircuitBreaker",
    "LoggingPipelineRunLogger",
    "LoggingProviderCallLogger",
    "NoOpCircuitBreaker",
    "NoOpPipelineRunLogger",
    "NoOpProviderCallLogger",
    "Permit",
    "PipelineRunLogger",
    "ProviderCallLogger",
    "TraceContext",
    "classify",
    "clear_circuit_breaker",
    "clear_correlation_id",
    "ensure_correlation_id",
    "error_summary_to_stages_patch",
    "error_summary_to_string",
    "get_circuit_breaker",
    "get_correlation_id",
    "get_span_id",
    "get_trace_context_dict",
    "get_trace_id",
    "is_retryable",
    "set_circuit_breaker",
    "set_correlation_id",
    "setup_logging",
    "summarize_pipeline_error",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "breaker": (
                "CircuitBreaker",
                "CircuitBreakerOpenError",
                "CircuitState",
                "LocalCircuitBreaker",
                "NoOpCircuitBreaker",
                "Permit",
                "clear_circuit_breaker",
                "get_circuit_breaker",
                "set_circuit_breaker",
            ),
            "correlation": (
                "CorrelationIds",
                "clear_correlation_id",
                "ensure_correlation_id",
                "get_correlation_id",
                "set_correlation_id",
            ),
            "error_summary": (
                "error_summary_to_stages_patch",
                "error_summary_to_string",
                "summarize_pipeline_error",
            ),
            "log_setup": ("JsonLogFormatter", "setup_logging"),
            "loggers": (
                "LoggingPipelineRunLogger",
                "LoggingProviderCallLogger",
                "NoOpPipelineRunLogger",
                "NoOpProviderCallLogger",
                "PipelineRunLogger",
                "ProviderCallLogger",
            ),
            "taxonomy": ("ErrorClass", "classify", "is_retryable"),
            "trace": ("TraceContext", "get_span_id", "get_trace_context_dict", "get_trace_id"),
        },
    )
