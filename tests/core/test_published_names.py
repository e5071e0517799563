"""Every published name imports from where users look for it, and its docstring shows an example.

That the examples run, and print what they say, `tests/docs` checks: it runs every block of every docstring.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from typing import Any

import pytest

NAMES = {
    "stageflow": (
        "Stage StageKind StageStatus StageOutput StageContext StageArtifact StageEvent PipelineTimer"
        " create_stage_context Pipeline UnifiedStageSpec StageGraph StageSpec StageExecutionError PipelineRegistry"
        " pipeline_registry PipelineContext StageResult StageError extract_service BaseInterceptor InterceptorResult"
        " InterceptorContext ErrorAction get_default_interceptors run_with_interceptors TimeoutInterceptor"
        " CircuitBreakerInterceptor LoggingInterceptor MetricsInterceptor ChildTrackerMetricsInterceptor"
        " TracingInterceptor EventSink NoOpEventSink LoggingEventSink get_event_sink set_event_sink clear_event_sink"
        " RunStore ConfigProvider CorrelationIds CircuitBreaker CircuitBreakerOpenError PipelineRunLogger"
        " ProviderCallLogger summarize_pipeline_error get_circuit_breaker ExtensionRegistry ExtensionHelper"
        " TypedExtension"
        # of this version
        " stage use StageDef Stageflow StageflowError FailureMode PipelineResults PipelineCancelled RunIdentity"
        " ContextSnapshot CancellationToken RetryPolicy thaw FanOutEventSink PipelineBuilder"
        # beside the index in 0.9
        " StageInputs create_stage_inputs StagePorts CorePorts LLMPorts AudioPorts create_stage_ports create_core_ports"
        " create_llm_ports create_audio_ports CycleDetectedError PipelineValidationError UndeclaredDependencyError"
        " SubpipelineSpawner SubpipelineResult ChildRunTracker MaxDepthExceededError get_child_tracker"
        " get_subpipeline_spawner lint_pipeline lint_pipeline_file DependencyIssue DependencyLintResult IssueSeverity"
        " create_test_snapshot create_test_stage_context create_test_context create_test_pipeline_context"
        " error_summary_to_string error_summary_to_stages_patch"
        # its key features and what was new in 0.9.1
        " BackpressureAwareEventSink WideEventEmitter RetryInterceptor IdempotencyInterceptor ContextBag OutputBag"
        " Conversation Message"
    ),
    "stageflow.context": (
        "ContextSnapshot ContextBag DataConflictError Message RoutingDecision ProfileEnrichment MemoryEnrichment"
        " DocumentEnrichment RunIdentity Conversation Enrichments OutputBag OutputConflictError OutputEntry"
        " ContextUtilization TruncationTracker TruncationEvent VersionMetadata ConflictDetector ConflictResolution"
        " ExtensionBundle parse_timestamp detect_unix_precision normalize_to_utc freeze thaw"
    ),
    "stageflow.stages.inputs": (
        "StageInputs create_stage_inputs StagePorts create_stage_ports UndeclaredDependencyError"
    ),
    "stageflow.stages.ports": (
        "CorePorts LLMPorts AudioPorts StagePorts create_core_ports create_llm_ports create_audio_ports"
        " create_stage_ports"
    ),
    "stageflow.stages": "chunk_text chunk_spans ABRouter ab_route ProviderCall BackoffStrategy JitterStrategy",
    "stageflow.pipeline": (
        "Pipeline PipelineBuilder PipelineSpec FluentPipelineBuilder with_linear_chain with_parallel_stages"
        " with_fan_out_fan_in with_conditional_branch FailureMode FailureCollector ConditionalDependency"
        " BackpressureConfig BackpressureMonitor lint_pipeline lint_pipeline_file analyze_stage_source"
        " PipelineRegistry pipeline_registry SubpipelineSpawner GuardRetryStrategy GuardRetryPolicy StageGraph"
        " StageSpec CancellationToken CleanupRegistry StructuredTaskGroup"
    ),
    "stageflow.pipeline.subpipeline": (
        "SubpipelineSpawner SubpipelineResult ChildRunTracker get_child_tracker PipelineSpawnedChildEvent"
        " PipelineChildCompletedEvent PipelineChildFailedEvent PipelineCanceledEvent MaxDepthExceededError"
        " set_child_tracker clear_child_tracker get_subpipeline_spawner set_subpipeline_spawner"
        " clear_subpipeline_spawner"
    ),
    "stageflow.pipeline.cancellation": (
        "CancellationToken CleanupRegistry StructuredTaskGroup cleanup_on_cancel run_with_cleanup"
    ),
    "stageflow.pipeline.registry": "PipelineRegistry pipeline_registry PipelineNotFoundError PipelineNameTakenError",
    "stageflow.runtime.limits": "ConcurrencyLimit Overload",
    "stageflow.events": (
        "EventSink NoOpEventSink LoggingEventSink FanOutEventSink BackpressureAwareEventSink BackpressureMetrics"
        " ObservableEventSink WideEventEmitter RunEvent get_event_sink set_event_sink clear_event_sink"
        " wait_for_event_sink_tasks"
    ),
    "stageflow.interceptors": (
        "BaseInterceptor InterceptorResult InterceptorContext ErrorAction CriticalInterceptorError"
        " get_default_interceptors TimeoutInterceptor RetryInterceptor CircuitBreakerInterceptor LoggingInterceptor"
        " MetricsInterceptor ChildTrackerMetricsInterceptor TracingInterceptor IdempotencyInterceptor"
        " IdempotencyParamMismatch IdempotencyStore InMemoryIdempotencyStore CachedStageResult"
        " ImmutabilityInterceptor ContextSizeInterceptor"
    ),
    "stageflow.observability": (
        "CorrelationIds get_correlation_id set_correlation_id ensure_correlation_id clear_correlation_id CircuitBreaker"
        " CircuitBreakerOpenError LocalCircuitBreaker NoOpCircuitBreaker get_circuit_breaker set_circuit_breaker"
        " clear_circuit_breaker PipelineRunLogger ProviderCallLogger NoOpPipelineRunLogger NoOpProviderCallLogger"
        " LoggingPipelineRunLogger LoggingProviderCallLogger summarize_pipeline_error error_summary_to_string"
        " error_summary_to_stages_patch ErrorClass classify is_retryable TraceContext get_trace_id get_span_id"
        " get_trace_context_dict setup_logging JsonLogFormatter"
    ),
    "stageflow.protocols": (
        "EventSink ExecutionContext RunStore ConfigProvider CorrelationIds CircuitBreaker PipelineRunLogger"
        " ProviderCallLogger"
    ),
    "stageflow.extensions": "ExtensionRegistry ExtensionHelper TypedExtension",
    "stageflow.runner": (
        "PipelineRunner RunResult run_simple_pipeline ObservableEventSink setup_logging JsonLogFormatter"
    ),
    "stageflow.errors": (
        "StageflowError ErrorClass TransientError PermanentError LogicError SystemicError PolicyError RateLimitError"
        " ServiceUnavailableError"
    ),
    "stageflow.testing": (
        "create_test_snapshot create_test_stage_context create_test_context create_test_pipeline_context"
        " validate_snapshot validate_snapshot_strict snapshot_from_dict_strict run_stage EventRecorder ScriptedStage"
        " FailingStage SlowStage HangingStage FaultyStage fault cancel_at cancel_everywhere leak_check run_virtual"
    ),
    "stageflow.cli.lint": "lint_pipeline lint_pipeline_file analyze_stage_source",
}
EVERY = [(place, name) for place, names in NAMES.items() for name in names.split()]

# What runs beside the names: methods that the index names on their own.
METHODS = {
    "stageflow:StageContext": (
        "record_stage_event try_emit_event raise_if_cancelled cancellation_checkpoint register_cleanup"
    ),
    "stageflow:PipelineContext": "record_stage_event fork mark_canceled get_parent_data",
    "stageflow:PipelineResults": "value",
    "stageflow.pipeline.subpipeline:SubpipelineSpawner": "spawn cancel_with_children is_canceled",
}


def found(place: str, name: str) -> Any:
    return getattr(importlib.import_module(place), name)


def docstrings(place: str, name: str) -> tuple[str, str]:
    """Return the docstring of what has the name, or of its class if it is an object; and that of its module."""
    value = found(place, name)
    documented = value if hasattr(value, "__name__") else type(value)
    own = vars(documented).get("__doc__") if isinstance(documented, type) else documented.__doc__
    return own or "", sys.modules[documented.__module__].__doc__ or ""


def names_of(name: str, value: Any) -> set[str]:
    """Return what an example may call it: two names of 0.9 are one thing now."""
    return {name, getattr(value, "__name__", name)}


@pytest.mark.parametrize(("place", "name"), EVERY, ids=lambda value: value)
def test_it_imports_and_has_a_docstring_with_an_example(place, name):
    own, around = docstrings(place, name)
    assert own.strip(), "has no docstring"
    assert not own.startswith(f"{name}("), "has the docstring that a dataclass makes up"
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", f"{own}\n{around}", re.MULTILINE | re.DOTALL)
    words = "|".join(map(re.escape, names_of(name, found(place, name))))
    assert any(re.search(rf"\b({words})\b", block) for block in blocks), "no example uses it"


@pytest.mark.parametrize("owner", METHODS)
def test_methods_are_there_and_have_docstrings(owner):
    cls = found(*owner.split(":"))
    assert [name for name in METHODS[owner].split() if not (getattr(cls, name).__doc__ or "").strip()] == []


def test_no_name_is_listed_twice():
    for place, names in NAMES.items():
        assert len(names.split()) == len(set(names.split())), place


def test_everything_at_once():
    """``from stageflow import *`` of the index works, in a process that has imported nothing else."""
    program = "from stageflow import *\nprint(len([Stage, Pipeline, create_test_snapshot, UnifiedStageSpec]))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"


def test_the_root_lists_what_is_published_there():
    import stageflow

    assert set(NAMES["stageflow"].split()) <= set(stageflow.__all__)
    assert stageflow.__version__.startswith("2.")
