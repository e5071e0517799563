"""The import paths that users of 0.9 know resolve to the new things."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
import stageflow

SOURCES = Path(stageflow.__file__).parent

# Modules that only re-export, and their names; "old = new" where the name itself is old.
RE_EXPORTS = {
    "stageflow.core": (
        "PipelineTimer Stage StageArtifact StageContext StageEvent StageKind StageOutput StageStatus"
        " create_stage_context"
    ),
    "stageflow.pipeline.builder_helpers": (
        "FluentPipelineBuilder with_conditional_branch with_fan_out_fan_in with_linear_chain with_parallel_stages"
    ),
    "stageflow.pipeline.cancellation": (
        "CancellationToken CleanupRegistry StructuredTaskGroup cleanup_on_cancel run_with_cleanup"
    ),
    "stageflow.pipeline.dag": (
        "StageError StageExecutionError StageGraph StageSpec UnifiedPipelineCancelled=PipelineCancelled"
        " UnifiedStageExecutionError=StageExecutionError UnifiedStageGraph=StageGraph UnifiedStageSpec=StageSpec"
    ),
    "stageflow.pipeline.failure_tolerance": (
        "BackpressureConfig BackpressureMonitor ConditionalDependency FailureCollector FailureMode"
    ),
    "stageflow.pipeline.guard_retry": "GuardRetryPolicy GuardRetryStrategy",
    "stageflow.pipeline.idempotency": (
        "CachedStageResult IdempotencyInterceptor IdempotencyParamMismatch IdempotencyStore InMemoryIdempotencyStore"
    ),
    "stageflow.pipeline.interceptors": (
        "BaseInterceptor ChildTrackerMetricsInterceptor CircuitBreakerInterceptor CriticalInterceptorError ErrorAction"
        " InterceptorContext InterceptorResult LoggingInterceptor MetricsInterceptor TimeoutInterceptor"
        " TracingInterceptor get_default_interceptors run_with_interceptors"
    ),
    "stageflow.pipeline.retry": (
        "BackoffStrategy JitterStrategy RateLimitError RetryInterceptor ServiceUnavailableError TransientError"
    ),
}

# Rooms and modules that have the path of 0.9 themselves.
ROOMS = {
    "stageflow.cli.lint": (
        "DependencyIssue DependencyLintResult IssueSeverity analyze_stage_source lint_pipeline lint_pipeline_file main"
    ),
    "stageflow.context": "ContextBag ContextSnapshot Conversation DataConflictError Message OutputBag RunIdentity",
    "stageflow.events": "LoggingEventSink NoOpEventSink clear_event_sink get_event_sink set_event_sink",
    "stageflow.extensions": "ExtensionHelper ExtensionRegistry TypedExtension",
    "stageflow.observability": "CircuitBreakerOpenError get_circuit_breaker summarize_pipeline_error",
    "stageflow.pipeline.registry": "PipelineRegistry pipeline_registry",
    "stageflow.protocols": "ConfigProvider CorrelationIds EventSink ExecutionContext RunStore",
    "stageflow.stages.context": "StageContext create_stage_context",
    "stageflow.stages.inputs": "StageInputs UndeclaredDependencyError create_stage_inputs",
    "stageflow.stages.result": "StageResult",
}


def pairs(text: str) -> list[tuple[str, str]]:
    return [(old, new or old) for old, _, new in (word.partition("=") for word in text.split())]


@pytest.mark.parametrize("path", RE_EXPORTS)
def test_a_re_export_says_what_it_offers_and_nothing_else(path):
    module = importlib.import_module(path)
    assert module.__all__ == [old for old, _ in pairs(RE_EXPORTS[path])]
    for old, new in pairs(RE_EXPORTS[path]):
        value = getattr(module, old)
        assert value.__name__ == new
        assert getattr(importlib.import_module(value.__module__), new) is value
        assert value.__module__ != path


@pytest.mark.parametrize("path", RE_EXPORTS)
def test_a_re_export_is_ten_statements_at_most_and_has_no_code(path):
    file = SOURCES.joinpath(*path.split(".")[1:]).with_suffix(".py")
    docstring, *imports, names = ast.parse(file.read_text("utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(one, ast.ImportFrom) for one in imports)
    assert isinstance(names, ast.Assign)
    assert len(imports) + 2 <= 10


@pytest.mark.parametrize("path", ROOMS)
def test_a_room_has_the_names_of_0_9(path):
    module = importlib.import_module(path)
    missing = [name for name, _ in pairs(ROOMS[path]) if not hasattr(module, name)]
    assert not missing


def test_one_error_is_caught_under_both_names():
    from stageflow.errors import StageExecutionError
    from stageflow.pipeline.dag import UnifiedStageExecutionError

    with pytest.raises(UnifiedStageExecutionError):
        raise StageExecutionError("a", ValueError("no"))
