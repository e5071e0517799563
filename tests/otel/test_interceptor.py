"""A span per attempt, with the right parent, the right end and the right status, through the real SDK."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from stageflow import (
    BaseInterceptor,
    CancellationToken,
    ContextSnapshot,
    ErrorAction,
    InterceptorResult,
    Pipeline,
    PipelineCancelled,
    RetryPolicy,
    RunIdentity,
    StageExecutionError,
    Stageflow,
    StageKind,
    StageOutput,
    get_default_interceptors,
)
from stageflow.plugins import PluginHost, PluginPolicy, discover
from stageflow_otel import OpenTelemetryInterceptor, attributes

pytestmark = pytest.mark.asyncio


class Traced:
    """A tracer provider of the real SDK, and what it was given."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")
        self.interceptor = OpenTelemetryInterceptor(self.provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def build(self, pipeline: Pipeline, *more: BaseInterceptor):
        return pipeline.build(interceptors=[self.interceptor, *more])


@pytest.fixture
def traced() -> Traced:
    return Traced()


def said(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def own(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def one(body: Any, **options: Any) -> Pipeline:
    return Pipeline().with_stage("work", body, StageKind.TRANSFORM, **options)


async def test_span_says_whose_attempt_it_was(traced: Traced):
    async def body(ctx: Any) -> StageOutput:
        return StageOutput.ok(x=1)

    ids = RunIdentity(pipeline_run_id=UUID(int=1), org_id=UUID(int=2))
    results = await traced.build(one(body)).run(ContextSnapshot(ids, topology="chat_fast"))
    assert results["work"].data == {"x": 1}
    (span,) = traced.spans
    assert span.name == "stage work"
    assert span.status.status_code is StatusCode.UNSET
    assert parent(span) is None
    assert said(span) == {
        attributes.STAGE: "work",
        attributes.STAGE_KIND: "transform",
        attributes.STAGE_STATUS: "ok",
        attributes.ATTEMPT: 1,
        attributes.RUN_ID: str(UUID(int=1)),
        attributes.TENANT_ID: str(UUID(int=2)),
        attributes.TOPOLOGY: "chat_fast",
    }


async def test_parent_is_the_callers_span_and_the_caller_keeps_it(traced: Traced):
    async def body(ctx: Any) -> None:
        await asyncio.sleep(0)

    graph = traced.build(one(body))
    with traced.tracer.start_as_current_span("request") as request:
        await graph.run()
        assert trace.get_current_span() is request
    assert parent(traced.named("stage work")) == own(traced.named("request"))


async def test_stages_side_by_side_keep_their_spans_apart(traced: Traced):
    count = 20
    everyone = asyncio.Barrier(count)

    async def body(ctx: Any) -> StageOutput:
        name = ctx.stage_name
        mine = trace.get_current_span()
        with traced.tracer.start_as_current_span(f"outer {name}"):
            await everyone.wait()
            with traced.tracer.start_as_current_span(f"inner {name}"):
                await asyncio.sleep(0.001)

        async def task() -> None:
            with traced.tracer.start_as_current_span(f"task {name}"):
                await asyncio.sleep(0)

        await asyncio.gather(task(), asyncio.to_thread(in_thread, name))
        assert trace.get_current_span() is mine
        return StageOutput.ok()

    def in_thread(name: str) -> None:
        traced.tracer.start_span(f"thread {name}").end()

    names = [f"s{number}" for number in range(count)]
    pipeline = Pipeline()
    for name in names:
        pipeline = pipeline.with_stage(name, body, StageKind.ENRICH)

    async def last(ctx: Any) -> None:
        traced.tracer.start_span("inside last").end()

    pipeline = pipeline.with_stage("last", last, StageKind.TRANSFORM, names)
    with traced.tracer.start_as_current_span("request"):
        await traced.build(pipeline).run()
    request = own(traced.named("request"))
    for name in names:
        stage = traced.named(f"stage {name}")
        assert parent(stage) == request
        assert parent(traced.named(f"outer {name}")) == own(stage)
        assert parent(traced.named(f"inner {name}")) == own(traced.named(f"outer {name}"))
        assert parent(traced.named(f"task {name}")) == own(stage)
        assert parent(traced.named(f"thread {name}")) == own(stage)
    assert parent(traced.named("stage last")) == request
    assert parent(traced.named("inside last")) == own(traced.named("stage last"))
    assert len({span.context.trace_id for span in traced.spans if span.context}) == 1


async def test_two_runs_at_once_are_two_traces(traced: Traced):
    async def body(ctx: Any) -> None:
        await asyncio.sleep(0.001)

    graph = traced.build(one(body))
    await asyncio.gather(graph.run(), graph.run())
    first, second = traced.spans
    assert first.context is not None
    assert second.context is not None
    assert first.context.trace_id != second.context.trace_id
    assert said(first)[attributes.RUN_ID] != said(second)[attributes.RUN_ID]


@pytest.mark.parametrize(
    ("output", "status", "code", "description", "more"),
    [
        (StageOutput.skip("nothing to do"), "skip", StatusCode.UNSET, None, {}),
        (
            StageOutput.cancel("enough"),
            "cancel",
            StatusCode.UNSET,
            None,
            {attributes.CANCEL_REASON: "enough"},
        ),
        (StageOutput.fail("broken"), "fail", StatusCode.ERROR, "broken", {}),
    ],
    ids=["skip", "cancel", "fail"],
)
async def test_status_follows_what_the_stage_returns(
    traced: Traced,
    output: StageOutput,
    status: str,
    code: StatusCode,
    description: str | None,
    more: dict[str, str],
):
    async def body(ctx: Any) -> StageOutput:
        return output

    await traced.build(one(body)).run(raise_errors=False)
    (span,) = traced.spans
    assert said(span)[attributes.STAGE_STATUS] == status
    assert more.items() <= said(span).items()
    assert (span.status.status_code, span.status.description) == (code, description)


async def test_exception_is_recorded_and_reaches_the_caller(traced: Traced):
    boom = ValueError("boom")

    async def body(ctx: Any) -> None:
        raise boom

    with pytest.raises(StageExecutionError) as caught:
        await traced.build(one(body)).run()
    assert caught.value.original is boom
    (span,) = traced.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "ValueError: boom"
    assert said(span)[attributes.ERROR_TYPE] == "ValueError"
    assert said(span)[attributes.STAGE_STATUS] == "fail"
    (event,) = span.events
    assert event.name == "exception"
    assert (event.attributes or {})["exception.message"] == "boom"


async def test_every_attempt_is_a_span(traced: Traced):
    async def body(ctx: Any) -> StageOutput:
        if ctx.attempt == 1:
            raise ConnectionError("down")
        return StageOutput.retry("busy") if ctx.attempt == 2 else StageOutput.ok()

    await traced.build(one(body, retry=RetryPolicy(5, base_delay=0))).run()
    assert [said(span)[attributes.ATTEMPT] for span in traced.spans] == [1, 2, 3]
    assert [said(span)[attributes.STAGE_STATUS] for span in traced.spans] == ["fail", "retry", "ok"]
    codes = [span.status.status_code for span in traced.spans]
    assert codes == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]


async def test_attempt_that_an_interceptor_wants_again_is_told_as_what_it_was(traced: Traced):
    class Again(BaseInterceptor):
        name = "again"

        async def on_error(self, stage_name: str, error: Exception, ctx: Any) -> ErrorAction:
            return ErrorAction.RETRY

    async def body(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise ValueError("boom")

    await traced.build(one(body, retry=RetryPolicy(base_delay=0)), Again()).run()
    first, _ = traced.spans
    assert said(first)[attributes.STAGE_STATUS] == "retry"
    assert said(first)[attributes.ERROR_TYPE] == "ValueError"
    assert first.status.description == "ValueError: boom"


async def test_refusal_by_a_guard_is_traced(traced: Traced):
    class Guard(BaseInterceptor):
        name = "guard"
        priority = 2

        async def before(self, stage_name: str, ctx: Any) -> InterceptorResult:
            return InterceptorResult(stage_ran=False, error="not you")

    async def body(ctx: Any) -> None:
        raise AssertionError("must not run")

    await traced.build(one(body), Guard()).run(raise_errors=False)
    (span,) = traced.spans
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "not you")


async def test_time_limit_is_an_error(traced: Traced):
    async def body(ctx: Any) -> None:
        await asyncio.sleep(10)

    await traced.build(one(body, timeout=0.01)).run(raise_errors=False)
    (span,) = traced.spans
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        "Stopped by its time limit",
    )
    assert span.end_time is not None


async def test_stage_stopped_by_anothers_failure_is_interrupted_and_no_error(traced: Traced):
    started = asyncio.Event()

    async def waits(ctx: Any) -> None:
        with traced.tracer.start_as_current_span("inside"):
            started.set()
            await asyncio.sleep(10)

    async def fails(ctx: Any) -> None:
        await started.wait()
        raise ValueError("boom")

    pipeline = one(waits).with_stage("fails", fails, StageKind.WORK)
    await traced.build(pipeline).run(raise_errors=False)
    span = traced.named("stage work")
    assert said(span)[attributes.STAGE_STATUS] == "interrupted"
    assert "boom" in said(span)[attributes.CANCEL_REASON]
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
    assert parent(traced.named("inside")) == own(span)


@pytest.mark.parametrize("how", ["token", "deadline", "caller"])
async def test_span_is_closed_however_the_run_is_cancelled(traced: Traced, how: str):
    started = asyncio.Event()

    async def body(ctx: Any) -> None:
        started.set()
        await asyncio.sleep(10)

    token = CancellationToken()
    run = asyncio.ensure_future(
        traced.build(one(body)).run(cancel_token=token, timeout=0.02 if how == "deadline" else None)
    )
    await started.wait()
    if how == "token":
        token.cancel("the user left")
    elif how == "caller":
        run.cancel()
    with pytest.raises((PipelineCancelled, asyncio.CancelledError)):
        await run
    (span,) = traced.spans
    assert said(span)[attributes.STAGE_STATUS] == "interrupted"
    assert said(span)[attributes.CANCEL_REASON]
    assert span.status.status_code is StatusCode.UNSET
    assert not trace.get_current_span().is_recording()


class Broken(SpanProcessor):
    """Raises in one of its hooks."""

    def __init__(self, hook: str):
        self.hook = hook

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.hook == "start":
            raise OSError("no room for spans")

    def on_end(self, span: ReadableSpan) -> None:
        if self.hook == "end":
            raise OSError("no room for spans")


@pytest.mark.parametrize("hook", ["start", "end"])
async def test_trouble_with_the_tracing_never_reaches_the_stage(hook: str, caplog: pytest.LogCaptureFixture):
    boom = ValueError("boom")

    async def fine(ctx: Any) -> StageOutput:
        return StageOutput.ok(x=1)

    async def fails(ctx: Any) -> None:
        raise boom

    provider = TracerProvider()
    provider.add_span_processor(Broken(hook))
    interceptors = [OpenTelemetryInterceptor(provider)]
    with caplog.at_level(logging.WARNING, "stageflow.otel"):
        results = await one(fine).build(interceptors=interceptors).run()
        assert results["work"].data == {"x": 1}
        with pytest.raises(StageExecutionError) as caught:
            await one(fails).build(interceptors=interceptors).run()
    assert caught.value.original is boom
    assert caplog.text.count("Tracing failed; the stage is not affected") == 2
    assert "no room for spans" in caplog.text


async def test_without_a_provider_it_does_nothing():
    async def body(ctx: Any) -> StageOutput:
        return StageOutput.ok(recording=trace.get_current_span().is_recording())

    results = await one(body).build(interceptors=[OpenTelemetryInterceptor()]).run()
    assert results["work"].data == {"recording": False}


async def test_app_has_it_in_the_default_chain_outermost(monkeypatch: pytest.MonkeyPatch, traced: Traced):
    found = [candidate for candidate in discover() if candidate.name == "otel"]
    app = Stageflow(PluginHost(found, policy=PluginPolicy(environ={}), strict=True))
    names = [one.name for one in app.interceptors()]
    assert names == ["otel.tracing", *(one.name for one in get_default_interceptors())]
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", traced.provider)

    async def body(ctx: Any) -> None: ...

    await app.run(one(body))
    assert [span.name for span in traced.spans] == ["stage work"]


async def test_attribute_names_are_listed_once():
    names = [getattr(attributes, name) for name in attributes.__all__]
    assert len(set(names)) == len(names)
    assert all(name.startswith("stageflow.") for name in names if name != attributes.ERROR_TYPE)
