"""What both checkers know of pipelines, graphs, runs and the app. Never run, only checked."""

from __future__ import annotations

from typing import Any, assert_type
from uuid import UUID

from stageflow import (
    CancellationToken,
    ContextSnapshot,
    FailureMode,
    NoOpEventSink,
    Pipeline,
    PipelineContext,
    PipelineResults,
    RetryPolicy,
    StageContext,
    StageExecutionError,
    Stageflow,
    StageGraph,
    StageInputs,
    StageKind,
    StageOutput,
    StageSpec,
    get_default_interceptors,
    stage,
)
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.runtime.limits import ConcurrencyLimit


class Greet:
    """A stage as a class, as the contract ``Stage`` has it."""

    name = "greet"
    kind = StageKind.TRANSFORM

    async def execute(self, ctx: StageContext) -> StageOutput:
        assert_type(ctx.inputs, StageInputs)
        assert_type(ctx.input_text, str | None)
        assert_type(ctx.attempt, int)
        assert_type(ctx.inputs.get_from("other", "text", default=""), Any)
        assert_type(ctx.inputs.get_output("other"), StageOutput | None)
        assert_type(ctx.inputs.has_output("other"), bool)
        return StageOutput.ok(text="hi")


async def shout(ctx: StageContext) -> dict[str, str]:
    return {"text": ctx.inputs.require_from("greet", "text")}


@stage
async def count(ctx: StageContext) -> int:
    return ctx.attempt


pipeline = (
    Pipeline("greeting")
    .with_stage("greet", Greet, StageKind.TRANSFORM)
    .with_stage("again", Greet(), StageKind.TRANSFORM, ["greet"], True, {"loud": True})
    .with_stage(
        "shout",
        shout,
        StageKind.WORK,
        dependencies=("greet",),
        when=lambda inputs: inputs.has_output("greet"),
        timeout=1,
        retry=RetryPolicy(2, base_delay=0.1),
        limit=ConcurrencyLimit(2, max_queued=4),
    )
    .with_stage("routed", shout, StageKind.WORK, ["greet"], route=["left", "right"], executor="inline")
    .compose(Pipeline.from_stages(count, StageSpec("spec", shout, StageKind.WORK)))
)
assert_type(pipeline, Pipeline)

graph = pipeline.build(
    interceptors=get_default_interceptors(),
    failure_mode=FailureMode.BEST_EFFORT,
    cleanup_timeout=2.0,
    guard_retry_strategy=GuardRetryStrategy({"guard": GuardRetryPolicy("greet", max_attempts=3)}),
    max_concurrency=4,
    max_runs=ConcurrencyLimit(2),
)
assert_type(graph, StageGraph)


async def runs(snapshot: ContextSnapshot, context: PipelineContext) -> None:
    assert_type(await pipeline.run(), PipelineResults)
    assert_type(
        await pipeline.run(input_text="hi", metadata={"a": 1}, data={"b": 2}, ports=object()), PipelineResults
    )
    assert_type(await graph.run(snapshot, sink=NoOpEventSink(), timeout=1), PipelineResults)
    assert_type(
        await graph.run(context, cancel_token=CancellationToken(), raise_errors=False), PipelineResults
    )
    results = await graph.run(context)
    assert_type(results.value(count), int)
    assert_type(results.run_id, UUID | None)
    assert_type(results.duration_ms, float)
    if isinstance(results.error, StageExecutionError):
        assert_type(results.error.stage, str)
        assert_type(results.error.original, BaseException)
        assert_type(results.error.recoverable, bool)


async def streams() -> None:
    stream = pipeline.stream(input_text="hi", buffer=16)
    async for event in stream:
        assert_type(event.type, str)
        assert_type(event.stage, str | None)
        assert_type(event.sequence, int)
    assert_type(stream.results, PipelineResults)


async def app() -> None:
    stageflow = Stageflow(
        interceptors=["timeout", *get_default_interceptors()], sinks=[NoOpEventSink(), "acme.sink"]
    )
    assert_type(await stageflow.run(pipeline, input_text="hi"), PipelineResults)
    assert_type((await stageflow.run(pipeline, timeout=1.0)).value(count), int)
    assert_type(stageflow.build(pipeline, failure_mode=FailureMode.FAIL_FAST), StageGraph)
    async for event in stageflow.stream(pipeline):
        assert_type(event.type, str)
