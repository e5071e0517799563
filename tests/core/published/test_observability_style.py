"""Run stores, run and provider-call loggers, correlation, error summaries: as 0.9 documented them, but called."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from stageflow import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    ConfigProvider,
    CorrelationIds,
    Pipeline,
    PipelineContext,
    PipelineRunLogger,
    ProviderCallLogger,
    RunStore,
    StageContext,
    StageExecutionError,
    StageKind,
    StageOutput,
    get_circuit_breaker,
    summarize_pipeline_error,
)
from stageflow.observability import (
    NoOpPipelineRunLogger,
    NoOpProviderCallLogger,
    TraceContext,
    clear_correlation_id,
    ensure_correlation_id,
    error_summary_to_stages_patch,
    error_summary_to_string,
    get_correlation_id,
    get_span_id,
    get_trace_context_dict,
    get_trace_id,
    set_correlation_id,
)
from stageflow.protocols import ExecutionContext
from stageflow.runtime.recording import Recording
from stageflow.testing import (
    FailingStage,
    ScriptedStage,
    create_test_pipeline_context,
    create_test_stage_context,
    run_virtual,
)

RUN, USER = UUID(int=1), UUID(int=2)


class TableOfRuns:
    """A run store as 0.9 defined it."""

    def __init__(self) -> None:
        self.rows: dict[UUID, dict[str, Any]] = {}
        self.history: list[str] = []

    async def create_run(
        self, run_id, *, service, topology=None, execution_mode=None, status="created", **metadata
    ):
        self.rows[run_id] = {
            "service": service,
            "topology": topology,
            "mode": execution_mode,
            "status": status,
        }
        self.history.append(status)
        return self.rows[run_id]

    async def update_status(self, run_id, status, *, error=None, duration_ms=None, **data):
        self.rows[run_id].update(status=status, error=error, duration_ms=duration_ms)
        self.history.append(status)

    async def get_run(self, run_id):
        return self.rows.get(run_id)


class LogOfRuns:
    """A run logger as 0.9 defined it."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    async def log_run_started(
        self, *, pipeline_run_id, pipeline_name, topology, execution_mode, user_id, **more
    ):
        self.lines.append(
            (
                "started",
                {"run": pipeline_run_id, "pipeline": pipeline_name, "topology": topology, "user": user_id},
            )
        )

    async def log_run_completed(
        self, *, pipeline_run_id, pipeline_name, duration_ms, status, stage_results, **more
    ):
        self.lines.append(
            ("completed", {"run": pipeline_run_id, "status": status, "stages": list(stage_results)})
        )

    async def log_run_failed(self, *, pipeline_run_id, pipeline_name, error, stage, **more):
        self.lines.append(("failed", {"run": pipeline_run_id, "error": error, "stage": stage}))


def context() -> PipelineContext:
    return PipelineContext(
        pipeline_run_id=RUN, user_id=USER, topology="chat_fast", execution_mode="practice", service="chat"
    )


def test_a_run_is_written_down():
    # Findings A1.22: no executor called them in 0.9.
    store, log = TableOfRuns(), LogOfRuns()
    assert isinstance(store, RunStore)
    assert isinstance(log, PipelineRunLogger)
    graph = (
        Pipeline("chat")
        .with_stage("a", ScriptedStage({"n": 1}), StageKind.WORK)
        .build(recording=Recording(run_store=store, run_logger=log))
    )
    run_virtual(graph.run(context()))
    row = store.rows[RUN]
    assert (row["service"], row["topology"], row["mode"]) == ("chat", "chat_fast", "practice")
    assert (row["status"], row["error"]) == ("completed", None)
    assert row["duration_ms"] >= 0
    assert log.lines == [
        ("started", {"run": RUN, "pipeline": "chat", "topology": "chat_fast", "user": USER}),
        ("completed", {"run": RUN, "status": "completed", "stages": ["a"]}),
    ]


def test_a_failed_run_is_written_down():
    store, log = TableOfRuns(), LogOfRuns()
    graph = (
        Pipeline("chat")
        .with_stage("a", FailingStage(ValueError("no")), StageKind.WORK)
        .build(recording=Recording(run_store=store, run_logger=log))
    )
    with pytest.raises(StageExecutionError):
        run_virtual(graph.run(context()))
    assert store.rows[RUN]["status"] == "failed"
    assert "no" in store.rows[RUN]["error"]
    (_, started), (word, failed) = log.lines
    assert (word, failed["run"], failed["stage"]) == ("failed", RUN, "a")
    assert started["run"] == RUN
    assert "no" in failed["error"]


class LogOfCalls:
    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []

    async def log_call_start(self, *, operation, provider, model_id, **more):
        call = uuid4()
        self.lines.append(("start", call, operation, provider, model_id))
        return call

    async def log_call_end(self, call_id, *, success, latency_ms, error=None, **metrics):
        self.lines.append(("end", call_id, success, latency_ms >= 0, error, metrics.get("tokens")))


def test_provider_calls_are_written_down():
    calls = LogOfCalls()
    assert isinstance(calls, ProviderCallLogger)

    async def agent(ctx: StageContext) -> StageOutput:
        async with ctx.provider_call("llm.complete", "acme", "m1") as call:
            call.metrics["tokens"] = 7
        return StageOutput.ok()

    graph = (
        Pipeline("chat")
        .with_stage("agent", agent, StageKind.AGENT)
        .build(recording=Recording(provider_call_logger=calls))
    )
    run_virtual(graph.run(context()))
    (start, end) = calls.lines
    assert (start[0], start[2:]) == ("start", ("llm.complete", "acme", "m1"))
    assert end == ("end", start[1], True, True, None, 7)


def test_the_quiet_loggers():
    async def program():
        log, calls = NoOpPipelineRunLogger(), NoOpProviderCallLogger()
        await log.log_run_started(
            pipeline_run_id=RUN, pipeline_name="p", topology=None, execution_mode=None, user_id=None
        )
        await log.log_run_completed(
            pipeline_run_id=RUN, pipeline_name="p", duration_ms=1, status="completed", stage_results={}
        )
        await log.log_run_failed(pipeline_run_id=RUN, pipeline_name="p", error="no", stage=None)
        call = await calls.log_call_start(operation="o", provider="p", model_id=None)
        await calls.log_call_end(call, success=True, latency_ms=1)
        return call

    assert isinstance(run_virtual(program()), UUID)


def test_correlation_ids():
    ids = CorrelationIds(run_id=RUN, user_id=USER, trace_id="t", extra={"shard": 3})
    assert ids.to_dict() == {"pipeline_run_id": str(RUN), "user_id": str(USER), "trace_id": "t", "shard": 3}
    with pytest.raises((AttributeError, TypeError)):
        ids.trace_id = "other"
    assert CorrelationIds().to_dict() == {}


def test_the_current_correlation_id_reaches_stages():
    async def reads(ctx: StageContext) -> StageOutput:
        return StageOutput.ok(id=get_correlation_id())

    async def program():
        assert get_correlation_id() is None
        made = ensure_correlation_id()
        assert ensure_correlation_id() == made
        set_correlation_id(RUN)
        results = await Pipeline().with_stage("reads", reads, StageKind.WORK).run()
        clear_correlation_id()
        return results["reads"].data["id"], get_correlation_id()

    assert run_virtual(program()) == (RUN, None)


def test_trace_contexts_travel_in_headers():
    async def program():
        trace = TraceContext(
            trace_id="0af7651916cd43dd8448eb211c80319c",
            span_id="b7ad6b7169203331",
            correlation_id=USER,
            pipeline_run_id=RUN,
        )
        headers = trace.to_headers()
        assert headers["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        assert headers["x-correlation-id"] == str(USER)
        assert headers["x-pipeline-run-id"] == str(RUN)
        again = TraceContext.from_headers(headers)
        assert (again.trace_id, again.span_id, again.correlation_id) == (trace.trace_id, trace.span_id, USER)
        with again.activate():
            assert (get_trace_id(), get_span_id()) == (trace.trace_id, trace.span_id)
            assert get_trace_context_dict()["trace_id"] == trace.trace_id
            assert TraceContext.capture().trace_id == trace.trace_id
        return get_trace_id(), get_span_id()

    assert run_virtual(program()) == (None, None)


def test_error_summaries():
    summary = summarize_pipeline_error(TimeoutError("slow"))
    assert (summary["code"], summary["retryable"]) == ("TIMEOUT", True)
    assert (summary["type"], summary["message"]) == ("TimeoutError", "slow")
    opened = summarize_pipeline_error(CircuitBreakerOpenError("llm.complete", "acme"))
    assert (opened["code"], opened["retryable"]) == ("CIRCUIT_OPEN", True)

    class Odd(Exception):  # noqa: N818 - as applications name them
        pass

    unknown = summarize_pipeline_error(Odd("x" * 1000))
    assert (unknown["code"], unknown["retryable"], len(unknown["message"])) == ("UNKNOWN", False, 500)
    assert error_summary_to_string(summary) == "TIMEOUT: slow"
    assert error_summary_to_stages_patch(summary) == {"failure": {"error": summary}}


def test_the_error_of_a_run_in_a_summary():
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(Pipeline().with_stage("a", FailingStage(TimeoutError("slow")), StageKind.WORK).run())
    summary = summarize_pipeline_error(caught.value)
    assert (summary["code"], summary["message"], summary["stage"]) == ("TIMEOUT", "slow", "a")


def test_the_circuit_breaker_of_nobody_never_opens():
    async def program():
        breaker = get_circuit_breaker()
        assert isinstance(breaker, CircuitBreaker)
        for _ in range(100):
            await breaker.record_failure(operation="o", provider="p", reason="no")
        await breaker.record_success(operation="o", provider="p")
        return await breaker.is_open(operation="o", provider="p")

    assert run_virtual(program()) is False


def test_contexts_are_execution_contexts():
    assert isinstance(create_test_pipeline_context(), ExecutionContext)
    assert isinstance(create_test_stage_context(), ExecutionContext)


def test_a_dict_is_a_config_provider():
    config: ConfigProvider = {"model": "m1"}
    assert (config.get("model"), config.get("missing"), config.get("missing", 7)) == ("m1", None, 7)
    assert isinstance(config, ConfigProvider)
