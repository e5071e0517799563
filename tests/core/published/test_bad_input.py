"""Bad input to every published constructor, method and function: it works, or the error is typed and has a code.

The names come from the published lists below, their parameters from the signatures, so a new method is tried as
soon as it is there, and one whose parameters nothing good is known for fails. Each parameter in turn is given each bad
value; what comes of it is then used, as a program would use it. What counts as wrong:

- an exception that is no `StageflowError`, other than Python's own `TypeError` for a call that does not fit;
- a failed run whose cause is such an exception, because a value was accepted that the run then stumbles over;
- a call that does not come back.

The quick tier gives each parameter a third of the bad values, the deep tier all of them: see `bad_values`.
"""

from __future__ import annotations

import asyncio
import enum
import importlib
import inspect
import logging
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import settings
from stageflow import (
    BaseInterceptor,
    CancellationToken,
    CircuitBreakerInterceptor,
    ContextSnapshot,
    ErrorAction,
    FailureMode,
    IdempotencyInterceptor,
    NoOpEventSink,
    Pipeline,
    PipelineContext,
    PipelineResults,
    PipelineTimer,
    RunIdentity,
    StageArtifact,
    StageContext,
    StageEvent,
    StageflowError,
    StageGraph,
    StageInputs,
    StageKind,
    StageOutput,
    StageResult,
    StageSpec,
    StageStatus,
    create_stage_inputs,
)
from stageflow.context import (
    Conversation,
    DocumentEnrichment,
    Enrichments,
    MemoryEnrichment,
    Message,
    OutputBag,
    ProfileEnrichment,
    RoutingDecision,
)
from stageflow.errors import PermanentError, StageError
from stageflow.events import BackpressureAwareEventSink, WideEventEmitter
from stageflow.interceptors import CachedStageResult
from stageflow.observability import LocalCircuitBreaker
from stageflow.pipeline.backpressure import BackpressureConfig
from stageflow.pipeline.builders import PipelineBuilder, PipelineSpec
from stageflow.pipeline.subpipeline import ChildRunTracker, SubpipelineSpawner
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.runtime.recording import Recording
from stageflow.stages.inputs import create_stage_ports
from stageflow.stages.ports import create_audio_ports, create_core_ports, create_llm_ports
from stageflow.stages.retry import RetryPolicy
from stageflow.testing import EventRecorder, create_test_snapshot, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PUBLISHED = {
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
        " BackpressureAwareEventSink RetryInterceptor IdempotencyInterceptor CancellationToken PipelineResults"
        " RetryPolicy FanOutEventSink PipelineCancelled"
    ),
    "stageflow.context": (
        "ContextSnapshot ContextBag DataConflictError Message RoutingDecision ProfileEnrichment MemoryEnrichment"
        " DocumentEnrichment RunIdentity Conversation Enrichments OutputBag"
        " ContextUtilization TruncationTracker VersionMetadata ConflictDetector"
    ),
    "stageflow.stages.inputs": (
        "StageInputs create_stage_inputs StagePorts create_stage_ports UndeclaredDependencyError"
    ),
    "stageflow.stages.ports": "CorePorts LLMPorts AudioPorts create_core_ports create_llm_ports create_audio_ports",
    "stageflow.pipeline.subpipeline": (
        "SubpipelineSpawner SubpipelineResult ChildRunTracker get_child_tracker PipelineSpawnedChildEvent"
        " PipelineChildCompletedEvent PipelineChildFailedEvent PipelineCanceledEvent"
    ),
    # what the list of features names
    "stageflow.context.timestamps": "*",
    "stageflow.events.wide": "WideEventEmitter",
    "stageflow.interceptors": (
        "ImmutabilityInterceptor ContextSizeInterceptor InMemoryIdempotencyStore CachedStageResult"
    ),
    "stageflow.pipeline.backpressure": "*",
    "stageflow.pipeline.builders": "PipelineBuilder PipelineSpec",
    "stageflow.pipeline.conditions": "ConditionalDependency",
    "stageflow.pipeline.failures": "*",
    "stageflow.pipeline.fluent": "*",
    "stageflow.pipeline.lint": "lint_pipeline lint_pipeline_file analyze_stage_source",
    "stageflow.pipeline.patterns": "*",
    "stageflow.pipeline.registry": "PipelineRegistry",
    "stageflow.runner": "ObservableEventSink PipelineRunner run_simple_pipeline setup_logging",
    "stageflow.runtime.cancellation": "*",
    "stageflow.runtime.guard_retry": "GuardRetryPolicy GuardRetryStrategy",
    "stageflow.runtime.limits": "ConcurrencyLimit",
    "stageflow.runtime.recording": "Recording",
    "stageflow.stages.chunking": "*",
    "stageflow.stages.experiment": "*",
    "stageflow.testing": (
        "create_test_snapshot create_test_stage_context create_test_pipeline_context validate_snapshot"
        " validate_snapshot_strict snapshot_from_dict_strict"
    ),
}

HOOKS = ("before", "after", "around", "on_error", "fallback", "stage_timeout", "stage_retry")
EXEMPT = {
    **{
        f"*Interceptor.{hook}": "a hook: the executor calls it, with what it has made itself"
        for hook in HOOKS
    },
    "*Interceptor.attach": "called by the executor, with a run of its own",
    "*Interceptor.facts": "called by the executor, with an attempt of its own",
    "*Interceptor.failed": "called by the executor",
    "InterceptorContext": "made by the executor",
    "InterceptorContext.*": "lives in a run only: see test_what_interceptors_and_stages_say_in_a_run",
    "StageContext.stream": "only in a run: see test_a_stage_context_that_belongs_to_no_run",
    "StageContext.register_cleanup": "only in a run: see test_a_stage_context_that_belongs_to_no_run",
    "StageOutput.settled": "called by the executor, when a stage has ended",
    "StageGraph.active_in": "called by a run",
    "StageGraph.calls": "called by a run",
    "StageSpec.placed": "called by the compiler",
    "GuardRetryStrategy.problems": "called by the compiler",
    "ConcurrencyLimit.*": "called by the scheduler",
    "PipelineContext.lineage": "takes nothing, and yields contexts",
    "ABRouter.execute": "called by the executor",
    "StageResult.of": "made by the executor, from readings of its clock",
}

EXEMPT_VALUES = {
    ("*.count", "a huge int"): "asks for that many stages",
    ("with_*.count", "a huge int"): "asks for that many stages",
    ("*.factory", "an async function"): "is refused, and Python warns that nobody has awaited the coroutine",
    ("IdempotencyInterceptor.*_extractor", "an async function"): "has a test of its own beside its others",
}


# --- bad values ---------------------------------------------------------------------------------------------


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


AMBIGUOUS = "the truth value of an array is ambiguous"


class Array:
    """As arrays are: neither true nor false, and equal to nothing in particular."""

    def __bool__(self) -> bool:
        raise ValueError(AMBIGUOUS)

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]


class AnyClass:
    """A class that is content with whatever it is called with."""

    def __init__(self, *_: object, **__: object) -> None: ...


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(20_000):
        value = [value]
    return value


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


async def an_async_function(*_: object, **__: object) -> None:
    return None


BAD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a bool": lambda: True,
    "an int": lambda: 7,
    "zero": lambda: 0,
    "a negative int": lambda: -1,
    "a huge int": lambda: 10**400,
    "a float": lambda: 1.5,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "negative infinity": lambda: float("-inf"),
    "a negative float": lambda: -0.5,
    "a Decimal NaN": lambda: Decimal("NaN"),
    "bytes": lambda: b"bytes",
    "an empty text": lambda: "",
    "a blank text": lambda: " \t ",
    "a text with dots": lambda: "a.b.c",
    "a unicode text": lambda: "naïve 🐋 名前",
    "a text with control characters": lambda: "a\x00b\n\x1b[31m",
    "a lone surrogate": lambda: "\ud800",
    "1 MB of text": lambda: "x" * 1_000_000,
    "an empty list": list,
    "a list of ints": lambda: [1, 2],
    "a list of unhashables": lambda: [[1], {}],
    "a tuple of texts": lambda: ("a", "b"),
    "a set": lambda: {1, 2},
    "an empty dict": dict,
    "a dict of int keys": lambda: {1: 2},
    "a dict with a None key": lambda: {None: None},
    "a nested dict": lambda: {"a": {"b": [1, {"c": None}]}},
    "a very deep list": deep,
    "a dict that holds itself": cyclic,
    "an unhashable": Unhashable,
    "an array": Array,
    "an object": object,
    "a class": lambda: AnyClass,
    "a function": lambda: lambda *_, **__: None,
    "an async function": lambda: an_async_function,
    "an exception": lambda: ValueError("bad"),
    "a UUID": lambda: UUID(int=9),
    "a datetime without a zone": lambda: datetime(2026, 1, 1),  # noqa: DTZ001 - bad on purpose
    "a generator": lambda: (n for n in range(3)),
    "a snapshot": ContextSnapshot,
    "an output": StageOutput.ok,
}

DEEP = settings().max_examples > 100
SHARES = 1 if DEEP else 3


def bad_values(place: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the bad values that a parameter is given: all in the deep tier, else every third, from a place of its own.

    So every parameter is tried each time, and every value with a third of the parameters, always the same ones.
    """
    for number, named in enumerate(BAD.items(), crc32(place.encode())):
        if number % SHARES == 0:
            yield named


# --- good values, by the name of the parameter --------------------------------------------------------------


class Body:
    name = "a"
    kind = StageKind.TRANSFORM

    async def execute(self, ctx: StageContext) -> StageOutput:
        return StageOutput.ok(n=1)


class Says:
    """A stage that answers what it was made with."""

    name = "a"
    kind = StageKind.TRANSFORM

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    async def execute(self, ctx: StageContext) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def now() -> datetime:
    return datetime.now(UTC)


def a_stage_context() -> StageContext:
    snapshot = create_test_snapshot(input_text="hi")
    return StageContext(snapshot, create_stage_inputs(snapshot), "a", PipelineTimer())


def a_result() -> StageResult:
    return StageResult(name="a", status="completed", started_at=now(), ended_at=now(), data={"n": 1})


def some_results() -> PipelineResults:
    return PipelineResults({"a": StageOutput.ok(n=1)})


def a_factory(index: int) -> tuple[str, Any]:
    return f"s{index}", Body


async def a_child(ctx: PipelineContext) -> dict[str, Any]:
    return {}


async def a_stage_run() -> StageResult:
    return a_result()


def a_pipeline() -> Pipeline:
    return Pipeline("good").with_stage("a", Body, StageKind.TRANSFORM)


def a_uuid() -> UUID:
    return UUID(int=5)


def each(names: str, make: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    return dict.fromkeys(names.split(), make)


GOOD: dict[str, Callable[[], Any]] = {
    **each(
        "child_run_id correlation_id interaction_id org_id parent_run_id pipeline_run_id request_id run_id session_id"
        " user_id",
        a_uuid,
    ),
    **each(
        "accessing_stage agent_id content_id content_type display_name document_id document_type error_code"
        " error_message existing_writer experiment extra field fix interaction_history_summary interceptor_name key"
        " model_id name new_writer operation owner parent_stage_id pipeline_name provider reason role service source"
        " stage stage_name strategy text topology trace_id type version where writer what execution_mode input_text"
        " content checksum response line",
        lambda: "a",
    ),
    **each("created_at ended_at retrieved_at started_at timestamp", now),
    **each(
        "attempt attempts cascade_depth count max_attempts max_tokens original_tokens token_count truncated_tokens"
        " used_tokens reserved_tokens existing_attempt max_active index buffer",
        lambda: 3,
    ),
    **each("duration_ms timeout timeout_ms ttl_seconds retry_after", lambda: 5.0),
    **each("data metadata payload preferences", lambda: {"n": 1}),
    **each("emit_events recoverable success", lambda: True),
    "arguments": dict,
    "bag": OutputBag,
    "branches": lambda: [("left", Body), ("right", Body)],
    "breaker": LocalCircuitBreaker,
    "builder": lambda: Pipeline("p"),
    "callback": lambda: an_async_function,
    "child_tracker": ChildRunTracker,
    "config": BackpressureConfig,
    "context": PipelineContext,
    "conversation": Conversation,
    "ctx": PipelineContext,
    "declared_deps": lambda: ["a"],
    "dependencies": lambda: ["a"],
    "documents": lambda: [DocumentEnrichment(document_id="d")],
    "enrichments": Enrichments,
    "entry": lambda: CachedStageResult(StageOutput.ok()),
    "error": lambda: ValueError("no"),
    "exc": lambda: ValueError("no"),
    "extension_type": lambda: dict,
    "extensions": lambda: {"n": 1},
    "factory": lambda: a_factory,
    "failure_mode": lambda: FailureMode.FAIL_FAST,
    "fan_in": lambda: ("in", Body),
    "fan_out": lambda: ("out", Body),
    "file_path": lambda: "no_such_file.py",
    "inputs": lambda: create_stage_inputs(create_test_snapshot()),
    "interceptors": list,
    "kind": lambda: StageKind.TRANSFORM,
    "memory": MemoryEnrichment,
    "message": lambda: Message("user", "hi"),
    "messages": lambda: [Message("user", "hi")],
    "new_value": lambda: 2,
    "old_value": lambda: 1,
    "original": lambda: ValueError("no"),
    "other": lambda: Pipeline("other"),
    "output": lambda: StageOutput.ok(n=1),
    "output_bag": OutputBag,
    "outputs": lambda: {"a": StageOutput.ok(n=1)},
    "owner_id": lambda: "me",
    "params_hash": lambda: "hash",
    "pipeline": a_pipeline,
    "policies": lambda: {"guard": GuardRetryPolicy("a")},
    "predicate": lambda: "a:n",
    "profile": ProfileEnrichment,
    "recording": Recording,
    "result": a_result,
    "results": lambda: {"a": StageOutput.ok(n=1)},
    "retry": RetryPolicy,
    "retry_stage": lambda: "a",
    "router": lambda: ("router", Says),
    "routing_decision": lambda: RoutingDecision("a", "p", "t"),
    "runner": lambda: Body,
    "sink": NoOpEventSink,
    "snapshot": lambda: create_test_snapshot(input_text="hi"),
    "specs": lambda: [StageSpec("a", Body)],
    "stage_results": lambda: {"a": a_result()},
    "stage_run": lambda: a_stage_run,
    "stages": dict,
    "status": lambda: "completed",
    "strict": lambda: True,
    "timer": PipelineTimer,
    "value": lambda: 1,
    "variants": lambda: ["x", "y"],
}
# what a parameter means in one place, where it is something else elsewhere
GOOD_FOR: dict[str, Callable[[], Any]] = {
    "ContextSnapshot.run_id": RunIdentity,
    "ContextSnapshot.with_run_id.run_id": RunIdentity,
    "ContextSnapshot.from_dict.data": lambda: create_test_snapshot(input_text="hi").to_dict(),
    "Conversation.from_dict.data": dict,
    "ConditionalDependency.evaluate.outputs": lambda: {"a": StageOutput.ok(n=1)},
    "CorrelationIds.extra": lambda: {"n": 1},
    "DocumentEnrichment.from_dict.data": dict,
    "Enrichments.from_dict.data": dict,
    "ExtensionHelper.get.data": lambda: {"a": {"n": 1}},
    "ExtensionHelper.has.data": lambda: {"a": {"n": 1}},
    "MemoryEnrichment.from_dict.data": dict,
    "Message.from_dict.data": lambda: {"role": "user", "content": "hi"},
    "PipelineBuilder.compose.other": PipelineBuilder,
    "PipelineRunner.run.pipeline": a_pipeline,
    "PipelineSpec.inputs": lambda: ["n"],
    "PipelineBuilder.with_stage.inputs": lambda: ["n"],
    "PipelineBuilder.with_stage.outputs": lambda: ["n"],
    "PipelineSpec.outputs": lambda: ["n"],
    "PipelineSpec.name": lambda: "b",
    "PipelineBuilder.with_stage.name": lambda: "b",
    "FluentPipelineBuilder.stage.name": lambda: "b",
    "StageSpec.name": lambda: "b",
    "Pipeline.with_stage.name": lambda: "b",
    "ProfileEnrichment.from_dict.data": dict,
    "RoutingDecision.from_dict.data": lambda: {"agent_id": "a", "pipeline_name": "p", "topology": "t"},
    "RunIdentity.from_dict.data": dict,
    "AudioPorts.require.port": lambda: "tts_provider",
    "CorePorts.require.port": lambda: "db",
    "LLMPorts.require.port": lambda: "llm_provider",
    "StagePorts.require.port": lambda: "db",
    "RetryPolicy.wants_status.status": lambda: StageStatus.FAIL,
    "StageContext.publish.chunk": lambda: "a",
    "StageContext.stream.producer": lambda: "a",
    "StageContext.leave_receipt.receipt": create_test_snapshot,
    "StageOutput.status": lambda: StageStatus.OK,
    "SubpipelineSpawner.spawn.runner": lambda: a_child,
    "VersionMetadata.from_dict.data": lambda: {
        "content_id": "a",
        "version": "1",
        "retrieved_at": now().isoformat(),
        "source": "s",
    },
    "analyze_stage_source.source": lambda: "x = 1",
    "ab_route.key": lambda: "user 1",
    "error_summary_to_string.error_summary": dict,
    "normalize_to_utc.value": now,
    "parse_timestamp.value": lambda: "2026-01-02T03:04:05Z",
    "setup_logging.logger": lambda: "app.of.bad.input",
    "snapshot_from_dict_strict.data": lambda: create_test_snapshot().to_dict(),
    "with_conditional_branch.router": lambda: ("router", Says),
}
ALWAYS = {"setup_logging": ["logger"]}  # optional parameters that a call is not made without

INSTANCES: dict[str, Callable[[], Any]] = {
    "AudioPorts": lambda: create_audio_ports(tts_provider="engine"),
    "CorePorts": lambda: create_core_ports(db="handle"),
    "LLMPorts": lambda: create_llm_ports(llm_provider="model"),
    "StagePorts": lambda: create_stage_ports(db="handle"),
    "ABRouter": lambda: importlib.import_module("stageflow.stages.experiment").ABRouter(["x", "y"]),
    "BackpressureAwareEventSink": lambda: BackpressureAwareEventSink(NoOpEventSink()),
    "ConditionalDependency": lambda: importlib.import_module(
        "stageflow.pipeline.conditions"
    ).ConditionalDependency("a", "a:n"),
    "ContextSnapshot": create_test_snapshot,
    "ContextUtilization": lambda: importlib.import_module("stageflow.context").ContextUtilization(100),
    "DocumentEnrichment": lambda: DocumentEnrichment(document_id="d"),
    "FanOutEventSink": lambda: importlib.import_module("stageflow.events").FanOutEventSink(NoOpEventSink()),
    "Message": lambda: Message("user", "hi"),
    "Pipeline": a_pipeline,
    "PipelineBuilder": lambda: PipelineBuilder().with_stage("a", Body),
    "FluentPipelineBuilder": lambda: (
        importlib.import_module("stageflow.pipeline.fluent").FluentPipelineBuilder().stage("a", Body)
    ),
    "PipelineResults": some_results,
    "PipelineSpec": lambda: PipelineSpec("a", Body),
    "StageContext": a_stage_context,
    "StageGraph": lambda: a_pipeline().build(),
    "StageInputs": lambda: create_stage_inputs(
        create_test_snapshot(), prior_outputs={"a": StageOutput.ok(a=1)}
    ),
    "StageOutput": StageOutput.ok,
    "StageResult": a_result,
    "StageSpec": lambda: StageSpec("a", Body),
}


# --- what is tried ------------------------------------------------------------------------------------------


def subjects() -> Iterator[tuple[str, type | None, Any]]:
    """Yield every constructor, method and function of the published names: its name, its class, and the callable."""
    seen: set[int] = set()
    for module, names in PUBLISHED.items():
        found = importlib.import_module(module)
        for name in found.__all__ if names == "*" else names.split():
            value = getattr(found, name, None)
            if value is None or id(value) in seen:  # that a name is there is another test's business
                continue
            seen.add(id(value))
            if inspect.isclass(value):
                if issubclass(value, enum.Enum) or getattr(value, "_is_protocol", False):
                    continue
                yield value.__name__, None, value
                for method in sorted(dir(value)):
                    static = inspect.getattr_static(value, method)
                    inherited = any(
                        method in vars(base) for base in (Exception, dict, list, logging.Formatter)
                    )
                    if method.startswith("_") or inherited:
                        continue
                    if inspect.isfunction(static) or isinstance(static, (classmethod, staticmethod)):
                        yield f"{value.__name__}.{method}", value, method
            elif callable(value):
                yield name, None, value


def exempt(name: str) -> str | None:
    return next((reason for pattern, reason in EXEMPT.items() if fnmatchcase(name, pattern)), None)


SUBJECTS = {name: (owner, value) for name, owner, value in subjects() if exempt(name) is None}


def fresh(name: str) -> Any:
    """Return the callable, of a new object if it is a method."""
    owner, value = SUBJECTS[name]
    if owner is None:
        return value
    static = inspect.getattr_static(owner, value)
    if isinstance(static, (classmethod, staticmethod)):
        return getattr(owner, value)
    make = INSTANCES.get(owner.__name__)
    return getattr(make() if make is not None else owner(**arguments(owner.__name__, owner)), value)


def parameters(target: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(target).parameters.values())


def good(name: str, parameter: str) -> Any:
    make = GOOD_FOR.get(f"{name}.{parameter}") or GOOD.get(parameter)
    if make is None:
        pytest.fail(f"{name}({parameter}=...): no good value is known for it: add one to GOOD or GOOD_FOR")
    return make()


def arguments(name: str, target: Any) -> dict[str, Any]:
    """Return the arguments of a good call: what is required, and nothing else."""
    return {
        parameter.name: good(name, parameter.name)
        for parameter in parameters(target)
        if parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}
        and (parameter.default is parameter.empty or parameter.name in ALWAYS.get(name, ()))
    }


def call(target: Any, values: dict[str, Any], *extra: Any) -> Any:
    positional = [
        values.pop(parameter.name)
        for parameter in parameters(target)
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in values
    ]
    return target(*positional, *extra, **values)


# --- and what comes of it is used ---------------------------------------------------------------------------


async def run_body(**options: Any) -> None:
    """Run a small pipeline with something of ours in it."""
    build = {key: options.pop(key) for key in list(options) if key in BUILD}
    stage = {key: options.pop(key) for key in list(options) if key in STAGE}
    runner = options.pop("runner", Body)
    pipeline = (
        Pipeline("used")
        .with_stage("a", runner, StageKind.WORK, **stage)
        .with_stage("b", Body, StageKind.TRANSFORM, dependencies=["a"])
    )
    await pipeline.build(**build).run(**options)


BUILD = set(inspect.signature(Pipeline.build).parameters)
STAGE = set(inspect.signature(Pipeline.with_stage).parameters) - {"name", "runner", "kind"}


class Answers(BaseInterceptor):
    name = "answers"

    def __init__(self, result: Any) -> None:
        self.result = result

    async def before(self, stage_name: str, ctx: Any) -> Any:
        return self.result


async def use_context(value: PipelineContext) -> None:
    value.to_dict()
    value.try_emit_event("app.hello", {"n": 1})
    value.record_stage_event(stage="a", status="done")
    await run_body(context=value)
    await run_body(context=value.fork())


async def use_snapshot(value: ContextSnapshot[Any]) -> None:
    value.to_dict()
    await run_body(context=value)


async def use_stage_context(value: StageContext) -> None:
    value.to_dict()
    value.try_emit_event("app.hello", {"n": 1})
    await run_body(context=value)


async def use_inputs(value: StageInputs) -> None:
    value.get("n")
    value.has_output("a")
    value.get_from("a", "n")


async def use_sink(value: Any) -> None:
    await run_body(sink=value)
    await run_body(sink=value)
    stop = getattr(value, "stop", None)
    if stop is not None:
        await stop(timeout=1)


async def use_spawner(value: SubpipelineSpawner) -> None:
    await value.spawn("p", PipelineContext(), None, "a", a_child)


async def use_guard_retry(value: GuardRetryStrategy) -> None:
    pipeline = a_pipeline().with_stage(
        "guard", Says(StageOutput.fail("no")), StageKind.GUARD, dependencies=["a"]
    )
    await pipeline.build(guard_retry_strategy=value).run()


async def use_retry(value: RetryPolicy) -> None:
    class Flaky(Says):
        async def execute(self, ctx: StageContext) -> Any:
            return StageOutput.retry("busy") if ctx.attempt == 1 else None

    await run_body(retry=value, runner=Flaky)


async def use_artifact(value: StageArtifact) -> None:
    await run_body(runner=Says(StageOutput(StageStatus.OK, artifacts=[value])))


async def use_event(value: StageEvent) -> None:
    await run_body(runner=Says(StageOutput(StageStatus.OK, events=[value])), sink=Listens())


class Listens:
    async def emit(self, *, type: str, data: Any) -> None: ...

    def try_emit(self, *, type: str, data: Any) -> None: ...


async def use_output(value: StageOutput) -> None:
    if value.status in {StageStatus.OK, StageStatus.SKIP}:
        await run_body(runner=Says(value), sink=Listens())


async def use_wide(value: WideEventEmitter) -> None:
    await run_body(
        wide_event_emitter=value, emit_stage_wide_events=True, emit_pipeline_wide_event=True, sink=Listens()
    )


async def use_stream(value: Any) -> None:
    async for _ in value:
        pass


USES: dict[str, Callable[[Any], Any]] = {
    "BackpressureAwareEventSink": use_sink,
    "BackpressureConfig": lambda value: run_body(limit=_monitor(value).limit),
    "BaseInterceptor": lambda value: run_body(interceptors=[value]),
    "CancellationToken": lambda value: run_body(cancel_token=value),
    "ConcurrencyLimit": lambda value: run_body(limit=value),
    "ContextSnapshot": use_snapshot,
    "FanOutEventSink": use_sink,
    "FluentPipelineBuilder": lambda value: value.build().run(),
    "GuardRetryPolicy": lambda value: use_guard_retry(GuardRetryStrategy({"guard": value})),
    "GuardRetryStrategy": use_guard_retry,
    "InterceptorResult": lambda value: run_body(interceptors=[Answers(value)]),
    "LoggingEventSink": use_sink,
    "NoOpEventSink": use_sink,
    "ObservableEventSink": use_sink,
    "Pipeline": lambda value: value.build().run(),
    "PipelineBuilder": lambda value: value.build().run(),
    "PipelineContext": use_context,
    "PipelineSpec": lambda value: Pipeline("used", {value.name: value.stage_spec()}).build().run(),
    "Recording": lambda value: run_body(recording=value),
    "RetryPolicy": use_retry,
    "RunStream": use_stream,
    "StageArtifact": use_artifact,
    "StageContext": use_stage_context,
    "StageEvent": use_event,
    "StageGraph": lambda value: value.run(),
    "StageInputs": use_inputs,
    "StageOutput": use_output,
    "StageSpec": lambda value: StageGraph([StageSpec("a", Body), value]).run(),
    "SubpipelineSpawner": use_spawner,
    "WideEventEmitter": use_wide,
}


def _monitor(config: Any) -> Any:
    return importlib.import_module("stageflow.pipeline.backpressure").BackpressureMonitor(config)


def use_of(value: Any) -> Callable[[Any], Any] | None:
    return next((USES[base.__name__] for base in type(value).__mro__ if base.__name__ in USES), None)


def forgiven(parameter: inspect.Parameter, error: BaseException | None) -> bool:
    """Tell whether the value itself has raised, where another type of value was asked for."""
    if not isinstance(error, ValueError) or AMBIGUOUS not in str(error):
        return False
    return str(parameter.annotation) not in {"Any", "object"}


async def attempt(target: Any, values: dict[str, Any], *extra: Any) -> None:
    """Call it, await it, and use what comes of it; what is wrong is raised as an AssertionError."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    try:
        async with asyncio.timeout(10_000):  # on the virtual clock
            result = call(target, values, *extra)
            if inspect.isawaitable(result):
                result = await result
            to_dict = getattr(result, "to_dict", None)
            if to_dict is not None and not inspect.isclass(result):
                to_dict()
            use = use_of(result)
            if use is not None:
                await use(result)
    except BaseException as error:
        complaint = complaint_about(error)
        if complaint is not None:
            raise AssertionError(complaint) from error
    assert loop.time() - begin < 9_999, "it does not come back"


def complaint_about(error: BaseException) -> str | None:
    """Say what is wrong with an error, or None."""
    if isinstance(error, StageError) and type(error.original) is not RuntimeError:
        # a failed run: its cause counts. (RuntimeError is how an output says that its stage failed.)
        return complaint_about(error.original)
    if isinstance(error, StageflowError):
        assert isinstance(error.code, str)
        assert error.code
        text = str(error)
        return None if error.code in text else f"{type(error).__name__} does not name its code: {text[:200]}"
    if isinstance(error, TypeError) and call_does_not_fit(error):
        return None
    if isinstance(error, (KeyboardInterrupt, SystemExit, asyncio.CancelledError)):
        raise error
    return f"{type(error).__name__}: {str(error)[:200]}"


def root_of(error: BaseException) -> BaseException:
    """Return what was raised in the stage, if a run has failed."""
    while isinstance(error, StageError):
        error = error.original
    return error


def call_does_not_fit(error: TypeError) -> bool:
    """Tell whether Python refused the call itself, in the frame of `call`, or one that it was passed on to."""
    if str(error).endswith("got an unexpected keyword argument 'no_such_argument'"):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is call.__code__


def told(wrong: dict[str, list[str]]) -> str:
    return "\n".join(f"{kind}: {', '.join(values)}" for kind, values in wrong.items())


async def try_all(name: str) -> dict[str, list[str]]:
    """Return what is wrong: for each kind of error of a parameter, the values that lead to it."""
    wrong: dict[str, list[str]] = {}

    async def attempt_with(
        label: str, what: str, change: Callable[[dict[str, Any]], tuple[Any, ...]]
    ) -> None:
        target = fresh(name)
        values = arguments(name, target)
        try:
            await attempt(target, values, *change(values))
        except AssertionError as complaint:
            parameter = known.get(label)
            cause = root_of(complaint.__cause__ or complaint)
            if parameter is None or not forgiven(parameter, cause):
                kind = type(cause).__name__
                found = wrong.setdefault(f"{label}: {kind}", [])
                found.append(what if found else f"{what} ({complaint})")

    known = {parameter.name: parameter for parameter in parameters(fresh(name))}
    for parameter in known.values():
        place = f"{name}.{parameter.name}"
        for what, bad in bad_values(place):
            if any(fnmatchcase(place, pattern) and what == value for pattern, value in EXEMPT_VALUES):
                continue

            def put(values: dict[str, Any], parameter=parameter, bad=bad) -> tuple[Any, ...]:
                if parameter.kind is parameter.VAR_POSITIONAL:
                    return (bad(),)
                key = "no_such_argument" if parameter.kind is parameter.VAR_KEYWORD else parameter.name
                values[key] = bad()
                return ()

            await attempt_with(parameter.name, what, put)

    def unknown(values: dict[str, Any]) -> tuple[Any, ...]:
        values["no_such_argument"] = 1
        return ()

    def nothing(values: dict[str, Any]) -> tuple[Any, ...]:
        values.clear()
        return ()

    def too_many(values: dict[str, Any]) -> tuple[Any, ...]:
        values.clear()
        return (1,) * 40

    await attempt_with("the call", "an unknown keyword", unknown)
    await attempt_with("the call", "nothing", nothing)
    await attempt_with("the call", "too many arguments", too_many)
    return wrong


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SUBJECTS)
def test_bad_values(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logging.getLogger("app.of.bad.input").handlers.clear()

    async def program() -> str:
        await attempt(fresh(name), arguments(name, fresh(name)))  # the good call, or the rest says nothing
        return told(await try_all(name))

    assert run_virtual(program()) == ""


def test_every_exemption_is_of_something():
    names = [name for name, _, _ in subjects()]
    assert [pattern for pattern in EXEMPT if not any(fnmatchcase(name, pattern) for name in names)] == []
    assert len(SUBJECTS) > 250


# --- names --------------------------------------------------------------------------------------------------

NAMES = ["a.b.c", "stage.x.started", "naïve 🐋 名前", "a b", "-", "x" * 10_000, "<external>"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_stage_may_have_any_printable_name(name):
    sink = EventRecorder()
    pipeline = (
        Pipeline(name)
        .with_stage(name, Body, StageKind.WORK)
        .with_stage("after", Body, StageKind.WORK, dependencies=[name])
    )
    results = run_virtual(pipeline.run(sink=sink))
    assert list(results) == [name, "after"]
    assert [event.type for event in sink.events if event.data.get("stage") == name] == [
        f"stage.{name}.started",
        f"stage.{name}.completed",
    ]
    assert {event.data["pipeline"] for event in sink.events} == {name}
    sink.assert_paired(end="completed")


@pytest.mark.parametrize(
    "name", ["", " ", "\t\n", "a\nb", "a\x00", "\u202e", "\ud800", None, 7, b"a", ["a"]], ids=ascii
)
def test_a_stage_without_a_usable_name_does_not_build(name):
    with pytest.raises(StageflowError) as caught:
        Pipeline("named").with_stage(name, Body, StageKind.WORK).build()
    assert caught.value.code.startswith("SF-BUILD")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_failed_stage_of_any_name_is_told(name):
    async def fails(ctx: StageContext) -> None:
        raise ValueError(name)

    async def program() -> StageflowError:
        with pytest.raises(StageflowError) as caught:
            await Pipeline().with_stage(name, fails, StageKind.WORK).run()
        return caught.value

    error = run_virtual(program())
    assert (error.stage, error.code) == (name, "SF-RUN-STAGE-FAILED")
    assert pickle.loads(pickle.dumps(error)).stage == name


# --- what stages and interceptors say in a run --------------------------------------------------------------


async def nonsense(make: Callable[[Any], dict[str, Any]], *but: str) -> str:
    """Run a small pipeline with each bad value, and return what is wrong: the values by kind of error."""
    wrong: dict[str, list[str]] = {}
    for what, bad in BAD.items():
        if what in but:
            continue
        sink = EventRecorder()
        try:
            await attempt(run_body, {"sink": sink, **make(bad())})
            if sink.events:  # not if it was given another, or did not get so far as to run
                sink.assert_paired()
        except AssertionError as complaint:
            found = wrong.setdefault(type(root_of(complaint.__cause__ or complaint)).__name__, [])
            found.append(what if found else f"{what} ({complaint})")
    return told(wrong)


@pytest.mark.parametrize("hook", HOOKS)
def test_an_interceptor_that_answers_nonsense(hook):
    """It ends the stage with a typed error, if it changes anything at all."""

    def make(value: Any) -> dict[str, Any]:
        async def answer(self: BaseInterceptor, *_: object) -> Any:
            return value

        async def falls_back(self: BaseInterceptor, *_: object) -> ErrorAction:
            return ErrorAction.FALLBACK

        def declare(self: BaseInterceptor, *_: object) -> Any:
            return value

        hooks: dict[str, Any] = {hook: declare if hook.startswith("stage_") else answer}
        if hook == "fallback":
            hooks["on_error"] = falls_back
        runner = Says(PermanentError("as it must")) if hook in {"on_error", "fallback"} else Body
        return {
            "interceptors": [type("Odd", (BaseInterceptor,), {"name": "odd", **hooks})()],
            "runner": runner,
        }

    assert run_virtual(nonsense(make)) == ""


def test_a_stage_that_returns_nonsense():
    assert run_virtual(nonsense(lambda value: {"runner": Says(value)}, "an exception")) == ""


def test_a_stage_that_hands_over_nonsense():
    """As a value in its data, anything goes."""
    assert run_virtual(nonsense(lambda value: {"runner": Says({"value": value, "list": [value]})})) == ""


def test_a_condition_that_answers_nonsense():
    """An array says itself that it is neither true nor false; everything else is one of them."""
    assert run_virtual(nonsense(lambda value: {"when": lambda _: value}, "an array")) == ""


def test_a_router_that_names_nonsense():
    def make(value: Any) -> dict[str, Any]:
        async def runs_a_router(ctx: StageContext) -> None:
            pipeline = (
                Pipeline()
                .with_stage("router", Says({"route": value}), StageKind.ROUTE)
                .with_stage("branch", Body, StageKind.WORK, dependencies=["router"], route="x")
            )
            await pipeline.run()

        return {"runner": runs_a_router}

    assert run_virtual(nonsense(make)) == ""


IN_A_STAGE = [
    "as_pipeline_context",
    "inputs.get",
    "inputs.get_from",
    "inputs.get_output",
    "inputs.has_output",
    "inputs.require_from",
    "provider_call",
    "leave_receipt",
    "record_stage_event",
    "register_cleanup",
    "stream",
    "try_emit_event",
]
IN_AN_INTERCEPTOR = ["add_observation", "get_observation", "try_emit_event"]


async def ask(target: Callable[..., Any], value: Any) -> None:
    """Call it with the value for each parameter in turn; good values for the others."""
    for parameter in parameters(target):
        values = {
            other.name: good(target.__qualname__, other.name)
            for other in parameters(target)
            if other.default is other.empty and other.kind is not other.VAR_KEYWORD
        }
        values["x" if parameter.kind is parameter.VAR_KEYWORD else parameter.name] = value
        try:
            result = call(target, values)
            if hasattr(result, "__aenter__"):
                async with result:
                    pass
        except Exception as error:
            if not forgiven(parameter, error) and complaint_about(error) is not None:
                raise


@pytest.mark.parametrize("method", IN_A_STAGE)
def test_a_stage_that_asks_for_nonsense(method):
    def make(value: Any) -> dict[str, Any]:
        async def asks(ctx: StageContext) -> None:
            await ask(attrgetter(method)(ctx), value)

        return {"runner": asks, "sink": Listens()}

    assert run_virtual(nonsense(make)) == ""


@pytest.mark.parametrize("method", IN_AN_INTERCEPTOR)
def test_an_interceptor_that_asks_for_nonsense(method):
    def make(value: Any) -> dict[str, Any]:
        class Asks(BaseInterceptor):
            name = "asks"

            async def before(self, stage_name: str, ctx: Any) -> None:
                await ask(getattr(ctx, method), value)

        return {"interceptors": [Asks()], "sink": Listens()}

    assert run_virtual(nonsense(make)) == ""


def test_emitting_never_raises():
    """Whatever the type and the data are, in a stage, in an interceptor, and with a context outside a run."""

    class Emits(BaseInterceptor):
        name = "emits"

        async def before(self, stage_name: str, ctx: Any) -> None:
            ctx.try_emit_event(self.value, self.value)

        def __init__(self, value: Any) -> None:
            self.value = value

    async def program() -> list[str]:
        wrong: list[str] = []
        for what, bad in BAD.items():

            async def emits(ctx: StageContext, bad: Callable[[], Any] = bad) -> None:
                ctx.try_emit_event(bad())
                ctx.try_emit_event("app.hello", bad())

            for place, emit in {
                "stage": lambda emits=emits: run_body(runner=emits, sink=Listens()),
                "interceptor": lambda bad=bad: run_body(interceptors=[Emits(bad())], sink=Listens()),
                "pipeline context": lambda bad=bad: PipelineContext(event_sink=Listens()).try_emit_event(
                    bad(), bad()
                ),
                "stage context": lambda bad=bad: a_stage_context().try_emit_event(bad(), bad()),
            }.items():
                try:
                    result = emit()
                    if result is not None:
                        await result
                except Exception as error:
                    wrong.append(f"{place}, {what}: {type(root_of(error)).__name__}")
        return wrong

    assert run_virtual(program()) == []


def test_a_stage_context_that_belongs_to_no_run():
    for wrong in (
        lambda: a_stage_context().register_cleanup(an_async_function),
        lambda: a_stage_context().stream("a"),
    ):
        with pytest.raises(StageflowError) as caught:
            wrong()
        assert caught.value.code.startswith("SF-")


# --- look-ups and read-only things --------------------------------------------------------------------------


def test_results_of_a_stage_that_is_not_there():
    results = run_virtual(a_pipeline().run())
    for ask in (lambda: results["aa"], lambda: results.value("aa")):
        with pytest.raises(KeyError) as caught:
            ask()
        assert isinstance(caught.value, StageflowError)
        assert "'a'" in str(caught.value)
    with pytest.raises(StageflowError):
        results[["a"]]


FROZEN: dict[str, Callable[[], Any]] = {
    "ContextSnapshot.input_text": create_test_snapshot,
    "LLMPorts.llm_provider": create_llm_ports,
    "Message.role": lambda: Message("user", "hi"),
    "PipelineResults.error": some_results,
    "RunIdentity.user_id": RunIdentity,
    "StageArtifact.type": lambda: StageArtifact("t", 1),
    "StageContext.stage_name": a_stage_context,
    "StageEvent.type": lambda: StageEvent("t", {}),
    "StageGraph.failure_mode": lambda: a_pipeline().build(),
    "StageInputs.strict": lambda: create_stage_inputs(create_test_snapshot()),
    "StageOutput.status": StageOutput.ok,
    "StageSpec.name": lambda: StageSpec("a", Body),
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_does_not_change_says_so(name):
    make, field = FROZEN[name], name.rpartition(".")[2]
    thing = make()
    with pytest.raises((StageflowError, AttributeError)):
        setattr(thing, field, "other")
    with pytest.raises((StageflowError, AttributeError)):
        delattr(thing, field)


# --- used again, after it was closed or ended, and in another event loop ------------------------------------


def test_a_queue_that_was_stopped():
    kept: list[str] = []

    class Keeps(Listens):
        async def emit(self, *, type: str, data: Any) -> None:
            kept.append(type)

    async def program() -> None:
        sink = BackpressureAwareEventSink(Keeps())
        await sink.emit(type="one", data={})
        await sink.stop()
        await sink.stop()
        assert sink.try_emit(type="two", data={}) is False
        with pytest.raises(StageflowError) as caught:
            await sink.emit(type="three", data={})
        assert caught.value.code == "SF-RUN-SINK-CLOSED"
        await sink.flush()
        await a_pipeline().run(sink=sink)  # no run minds
        await sink.start()
        await sink.start()
        assert sink.try_emit(type="four", data={}) is True
        await sink.stop()

    run_virtual(program())
    assert kept == ["one", "four"]


def test_a_queue_in_a_second_event_loop():
    kept: list[str] = []

    class Keeps(Listens):
        async def emit(self, *, type: str, data: Any) -> None:
            kept.append(type)

    sink = BackpressureAwareEventSink(Keeps())

    async def program(*, stop: bool) -> None:
        await a_pipeline().run(sink=sink)
        if stop:
            await sink.stop()
        else:
            await sink.flush()

    asyncio.run(program(stop=False))  # its worker goes with the loop
    asyncio.run(program(stop=True))
    assert [type for type in kept if type.startswith("pipeline.")] == [
        "pipeline.started",
        "pipeline.completed",
    ] * 2


def test_a_stream_that_has_been_read():
    async def program() -> None:
        stream = a_pipeline().stream()
        async with stream:
            types = [event.type async for event in stream]
        assert types[-1] == "pipeline.completed"
        with pytest.raises(RuntimeError) as caught:
            _ = [event async for event in stream]
        assert stream.results["a"].data == {"n": 1}
        assert isinstance(caught.value, StageflowError)

    run_virtual(program())


def test_a_stream_that_nobody_has_read():
    async def program() -> None:
        async with a_pipeline().stream() as stream:
            pass
        with pytest.raises(RuntimeError) as caught:
            _ = stream.results
        assert isinstance(caught.value, StageflowError)

    run_virtual(program())


def test_the_results_of_a_stream_before_its_end():
    async def program() -> None:
        async with a_pipeline().stream() as stream:
            async for _ in stream:
                with pytest.raises(RuntimeError) as caught:
                    _ = stream.results
                break
        assert isinstance(caught.value, StageflowError)

    run_virtual(program())


def test_a_token_and_a_registry_that_have_been_used():
    async def program() -> None:
        token = CancellationToken()
        token.cancel("first")
        for _ in range(2):
            with pytest.raises(StageflowError) as caught:
                await a_pipeline().run(cancel_token=token)
            assert caught.value.code == "SF-RUN-CANCELLED"
        registry = importlib.import_module("stageflow.runtime.cancellation").CleanupRegistry()
        registry.register(an_async_function, name="once")
        assert await registry.run_all() == (["once"], [])
        assert await registry.run_all() == ([], [])

    run_virtual(program())


def test_a_provider_call_is_entered_once():
    async def calls(ctx: StageContext) -> dict[str, str]:
        call = ctx.provider_call("chat", "acme")
        async with call:
            pass
        try:
            async with call:
                pass
        except StageflowError as error:
            return {"code": error.code}
        return {"code": "none"}

    async def program() -> Any:
        return (await Pipeline().with_stage("calls", calls, StageKind.AGENT).run())["calls"].data["code"]

    assert run_virtual(program()).startswith(("SF-", "none"))


def test_a_context_that_ran_twice():
    async def program() -> None:
        context = PipelineContext(pipeline_run_id=UUID(int=1))
        first = await a_pipeline().run(context)
        second = await a_pipeline().run(context)
        assert first.run_id == second.run_id == UUID(int=1)

    run_virtual(program())


def everything() -> StageGraph:
    """Return a graph with all that is shared between runs."""
    strategy = GuardRetryStrategy({"guard": GuardRetryPolicy("a")})
    return (
        a_pipeline()
        .with_stage("guard", Body, StageKind.GUARD, dependencies=["a"], limit=1)
        .with_stage("work", Body, StageKind.WORK, dependencies=["guard"], limit=1)
        .build(
            interceptors=[
                CircuitBreakerInterceptor(),
                IdempotencyInterceptor(),
                importlib.import_module("stageflow").TimeoutInterceptor(),
            ],
            guard_retry_strategy=strategy,
            max_concurrency=1,
            max_runs=1,
            recording=Recording(),
        )
    )


def test_a_graph_in_a_second_event_loop():
    graph = everything()

    async def program() -> None:
        await asyncio.gather(
            *(
                graph.run(data={"idempotency_key": n % 2}, context=PipelineContext(org_id=a_uuid()))
                for n in range(6)
            )
        )

    for _ in range(3):
        asyncio.run(program())


def test_a_graph_whose_runs_were_abandoned_with_their_event_loop():
    """A loop that ends in the middle of a run leaves no place of a limit occupied, and no claim."""
    graph = everything()

    async def hangs() -> None:
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        await asyncio.gather(*(graph.run(data={"idempotency_key": 1}) for _ in range(3)))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(hangs())
    asyncio.run(graph.run(data={"idempotency_key": 1}))


def test_a_spawner_and_a_tracker_in_a_second_event_loop():
    spawner = SubpipelineSpawner(child_tracker=ChildRunTracker())

    async def program() -> bool:
        return (await spawner.spawn("p", PipelineContext(), None, "a", a_pipeline())).success

    assert [asyncio.run(program()) for _ in range(2)] == [True, True]


def test_a_monitor_that_is_released_too_often():
    async def program() -> None:
        monitor = _monitor(BackpressureConfig(max_active_stages=1))
        with pytest.raises(StageflowError):
            await monitor.release()
        await monitor.acquire()
        await monitor.release()
        assert monitor.active == 0

    run_virtual(program())
