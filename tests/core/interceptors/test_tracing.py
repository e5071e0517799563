"""TracingInterceptor in real runs: one trace for a run, one span for an attempt."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from stageflow import BaseInterceptor, Pipeline, RetryPolicy, StageKind
from stageflow.interceptors.tracing import TracingInterceptor
from stageflow.observability.correlation import get_correlation_id
from stageflow.observability.trace import TraceContext, get_trace_id
from stageflow.observability.traceparent import parse_traceparent

pytestmark = pytest.mark.asyncio
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Inside(BaseInterceptor):
    """Reads what tracing has left for interceptors further in, before and after the stage."""

    name = "inside"
    priority = 90

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def before(self, stage_name: str, ctx: Any) -> None:
        self.seen.append({key: ctx.data[key] for key in ctx.data if key.startswith("_tracing.")})
        await asyncio.sleep(0)

    async def after(self, stage_name: str, result: Any, ctx: Any) -> None:
        self.seen.append({key: ctx.data[key] for key in ctx.data if key.startswith("_tracing.")})


class Recording:
    def __init__(self) -> None:
        self.seen: dict[str, list[TraceContext]] = {}

    async def __call__(self, ctx: Any) -> None:
        await asyncio.sleep(0)
        self.seen.setdefault(ctx.stage_name, []).append(TraceContext.capture())
        await asyncio.sleep(0)
        assert self.seen[ctx.stage_name][-1] is TraceContext.capture()


async def test_a_run_starts_a_trace_and_every_stage_is_a_span_of_it():
    stage = Recording()
    pipeline = Pipeline()
    for number in range(20):
        pipeline = pipeline.with_stage(f"s{number}", stage, StageKind.TRANSFORM)
    results = await pipeline.build(interceptors=[TracingInterceptor()]).run()
    spans = [span for (span,) in stage.seen.values()]
    assert len({span.span_id for span in spans}) == 20
    root = TraceContext.of_run(results.run_id)
    assert {(span.trace_id, span.parent_span_id) for span in spans} == {(results.run_id.hex, root.span_id)}
    assert {span.pipeline_run_id for span in spans} == {results.run_id}
    assert all(parse_traceparent(span.to_headers()["traceparent"]) for span in spans)
    assert get_trace_id() is None


async def test_a_run_joins_the_trace_of_its_caller():
    stage = Recording()
    graph = Pipeline().with_stage("s", stage, StageKind.TRANSFORM).build(interceptors=[TracingInterceptor()])
    caller = TraceContext(TRACE, SPAN, correlation_id=UUID(int=3), baggage={"tenant": "a"}, trace_flags=0)
    with caller.activate():
        await graph.run()
    ((span,),) = stage.seen.values()
    assert (span.trace_id, span.parent_span_id, span.trace_flags) == (TRACE, SPAN, 0)
    assert (span.correlation_id, span.baggage) == (UUID(int=3), {"tenant": "a"})


async def test_invalid_headers_start_a_new_trace():
    stage = Recording()
    graph = Pipeline().with_stage("s", stage, StageKind.TRANSFORM).build(interceptors=[TracingInterceptor()])
    headers = {
        "traceparent": "00-nonsense",
        "x-correlation-id": str(UUID(int=5)),
        "x-org-id": str(UUID(int=6)),
        "x-baggage-tenant": "a",
    }
    with TraceContext.from_headers(headers).activate():
        results = await graph.run()
    ((span,),) = stage.seen.values()
    assert (span.trace_id, span.correlation_id) == (results.run_id.hex, UUID(int=5))
    assert (span.org_id, span.baggage) == (UUID(int=6), {"tenant": "a"})


async def test_finding_a1_26_parallel_stages_do_not_share_a_slot():
    inside = Inside()
    pipeline = Pipeline()
    for name in ("a", "b", "c"):
        pipeline = pipeline.with_stage(name, Recording(), StageKind.TRANSFORM)
    data: dict[str, Any] = {"mine": 1}
    await pipeline.build(interceptors=[TracingInterceptor(), inside]).run(data=data)
    names = sorted(seen["_tracing.span_name"] for seen in inside.seen)
    assert names == ["a", "a", "b", "b", "c", "c"]
    assert len({seen["_tracing.span_id"] for seen in inside.seen}) == 3
    assert data == {"mine": 1}


async def test_every_attempt_is_a_span():
    spans: list[str | None] = []

    async def flaky(ctx: Any) -> None:
        spans.append(TraceContext.capture().span_id)
        if ctx.attempt < 3:
            raise ConnectionError

    pipeline = Pipeline().with_stage("s", flaky, StageKind.TRANSFORM, retry=RetryPolicy(3, base_delay=0))
    await pipeline.build(interceptors=[TracingInterceptor()]).run()
    assert len(set(spans)) == 3


async def test_a_nested_run_is_part_of_the_stage_that_starts_it():
    stage, outer_spans = Recording(), []
    inner = (
        Pipeline().with_stage("inner", stage, StageKind.TRANSFORM).build(interceptors=[TracingInterceptor()])
    )

    async def outer(ctx: Any) -> None:
        outer_spans.append(TraceContext.capture())
        await inner.run()

    await (
        Pipeline()
        .with_stage("o", outer, StageKind.TRANSFORM)
        .build(interceptors=[TracingInterceptor()])
        .run()
    )
    ((span,),) = stage.seen.values()
    assert (span.trace_id, span.parent_span_id) == (outer_spans[0].trace_id, outer_spans[0].span_id)


async def test_nothing_leaks_when_stages_fail_or_are_cancelled():
    async def fail(ctx: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError

    graph = (
        Pipeline()
        .with_stage("f", fail, StageKind.TRANSFORM)
        .with_stage("h", lambda _: asyncio.sleep(60), StageKind.TRANSFORM)
        .build(interceptors=[TracingInterceptor()])
    )
    await graph.run(raise_errors=False)
    assert get_trace_id() is None
    assert get_correlation_id() is None
