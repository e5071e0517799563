"""Findings A1.22 and A1.23: what is advertised works, through the door that users take."""

from __future__ import annotations

import asyncio
import importlib
import os
import pkgutil
import subprocess
import sys

import pytest
import stageflow
from stageflow import (
    CircuitBreakerInterceptor,
    CircuitBreakerOpenError,
    ContextSnapshot,
    FailureMode,
    Pipeline,
    StageExecutionError,
    StageKind,
    StageStatus,
    get_circuit_breaker,
    get_default_interceptors,
)
from stageflow.errors import MissingExtraError
from stageflow.observability import LocalCircuitBreaker
from stageflow.observability.breaker import clear_circuit_breaker, set_circuit_breaker
from stageflow.pipeline.builder_helpers import FluentPipelineBuilder
from stageflow.pipeline.builders import PipelineBuilder
from stageflow.pipeline.failure_tolerance import (
    BackpressureConfig,
    BackpressureMonitor,
    ConditionalDependency,
)
from stageflow.runner import run_simple_pipeline
from stageflow.runtime.recording import Recording
from stageflow.testing import (
    FailingStage,
    RecordingProviderCallLogger,
    RecordingRunLogger,
    RecordingRunStore,
    ScriptedStage,
    SlowStage,
    create_test_snapshot,
    run_virtual,
    validate_snapshot,
)

K = StageKind.WORK


# --- A1.22 ---------------------------------------------------------------------------------------------------


def test_a1_22_continue_on_failure_continues():
    """In the modes that tolerate failures, what does not depend on one runs to its end."""
    for mode in (FailureMode.CONTINUE_ON_FAILURE, FailureMode.BEST_EFFORT):
        last = ScriptedStage()
        graph = (
            Pipeline()
            .with_stage("failing", FailingStage("no", times=None), K)
            .with_stage("slow", SlowStage(5), K)
            .with_stage("last", last, K, ["slow"])
            .build(failure_mode=mode)
        )
        results = run_virtual(graph.run(raise_errors=False))
        assert {name: output.status.value for name, output in results.items()} == {
            "failing": "fail",
            "slow": "ok",
            "last": "ok",
        }


def test_a1_22_a_conditional_dependency_decides():
    """A ``ConditionalDependency`` given as ``when=`` keeps the stage from running."""
    condition = ConditionalDependency("classify", "classify:risky")
    review = ScriptedStage()
    pipeline = (
        Pipeline()
        .with_stage("classify", ScriptedStage(lambda ctx: {"risky": "!" in ctx.input_text}), K)
        .with_stage("review", review, K, ["classify"], when=condition)
    )
    statuses = [run_virtual(pipeline.run(input_text=text))["review"].status for text in ("hi", "hi!")]
    assert statuses == [StageStatus.SKIP, StageStatus.OK]
    assert len(review.calls) == 1


def test_a1_22_limits_hold_back_what_is_too_much():
    """A limit on a run, on a stage and of a ``BackpressureMonitor`` is never exceeded, and everybody has a turn."""
    busy = most = 0

    async def work(ctx=None):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(1)
        busy -= 1

    async def monitored(monitor):
        async with monitor:
            await work()

    async def elapsed(*work):
        nonlocal most
        most, began = 0, asyncio.get_running_loop().time()
        await asyncio.gather(*work)
        return most, asyncio.get_running_loop().time() - began

    async def main():
        pipeline = Pipeline()
        for name in "abcdef":
            pipeline = pipeline.with_stage(name, work, K)
        run = await elapsed(pipeline.build(max_concurrency=2).run())
        graph = Pipeline().with_stage("a", work, K, limit=2).build()
        stage = await elapsed(*(graph.run() for _ in range(6)))
        monitor = BackpressureMonitor(BackpressureConfig(max_active_stages=2))
        monitoring = await elapsed(*(monitored(monitor) for _ in range(6)))
        return run, stage, monitoring

    assert run_virtual(main()) == ((2, 3), (2, 3), (2, 3))


def test_a1_22_the_run_store_and_the_run_logger_are_told():
    """A run that is recorded calls its store and its logger, from its start to its end."""
    store, logger = RecordingRunStore(), RecordingRunLogger()
    recording = Recording(run_store=store, run_logger=logger)
    pipeline = Pipeline("chat").with_stage("a", ScriptedStage(None, RuntimeError("no")), K)
    graph = pipeline.build(recording=recording)
    run_virtual(graph.run())
    run_virtual(graph.run(raise_errors=False))
    assert store.methods == ["create_run", "update_status", "update_status"] * 2
    assert [run["status"] for run in store.runs.values()] == ["completed", "failed"]
    assert logger.methods == [
        "log_run_started",
        "log_run_completed",
        "log_run_started",
        "log_run_failed",
    ]


def test_a1_22_the_provider_call_logger_is_told():
    """A stage that wraps a call in ``ctx.provider_call`` reports it to the logger of the run."""

    async def chat(ctx):
        async with ctx.provider_call("chat", "acme", "small") as call:
            call.metrics["tokens"] = 40

    logger = RecordingProviderCallLogger()
    recording = Recording(provider_call_logger=logger)
    run_virtual(Pipeline().with_stage("chat", chat, K).build(recording=recording).run())
    assert logger.methods == ["log_call_start", "log_call_end"]
    assert logger.calls[0].arguments["model_id"] == "small"
    assert (logger.calls[1].arguments["success"], logger.calls[1].arguments["tokens"]) == (True, 40)


def test_a1_22_the_circuit_breaker_that_is_set_is_the_one_that_is_asked():
    """``get_circuit_breaker()`` returns the graph's, or the one that was set, and calls of providers ask it."""
    breaker, found = LocalCircuitBreaker(failure_threshold=1), []

    async def chat(ctx):
        found.append(get_circuit_breaker())
        async with ctx.provider_call("chat", "acme"):
            raise ConnectionError("down")

    pipeline = Pipeline().with_stage("chat", chat, K)

    def errors(graph):
        return [type(run_virtual(graph.run(raise_errors=False)).error.original) for _ in range(2)]

    interceptor = CircuitBreakerInterceptor(5, breaker=breaker)
    graph = pipeline.build(interceptors=[interceptor])
    assert errors(graph) == [ConnectionError, CircuitBreakerOpenError]
    assert found[0] is breaker
    found.clear()
    own = LocalCircuitBreaker(failure_threshold=1)
    set_circuit_breaker(own)
    try:
        assert errors(pipeline.build()) == [ConnectionError, CircuitBreakerOpenError]
    finally:
        clear_circuit_breaker()
    assert found == [own, own]


# --- A1.23 ---------------------------------------------------------------------------------------------------


class Echo:
    """A stage as a class, which is made for each attempt."""

    name = "echo"
    kind = StageKind.TRANSFORM

    def __init__(self, suffix=""):
        self.suffix = suffix

    async def execute(self, ctx):
        return {"text": (ctx.input_text or "") + self.suffix}


def test_a1_23_what_the_builders_build_runs():
    """The graphs of ``PipelineBuilder`` and ``FluentPipelineBuilder`` run their stages with a context."""
    stages = {"class": Echo, "instance": Echo(), "function": Echo().execute}
    for runner in stages.values():
        graph = PipelineBuilder().with_stage("a", runner).with_stage("b", runner, ["a"]).build()
        assert [output.data for output in run_virtual(graph.run(input_text="hi")).values()] == [
            {"text": "hi"}
        ] * 2
    with_args = PipelineBuilder().with_stage("a", Echo, args={"suffix": "!"}).build()
    assert run_virtual(with_args.run(input_text="hi"))["a"].data == {"text": "hi!"}
    fluent = (
        FluentPipelineBuilder("report")
        .stage("fetch", Echo)
        .parallel(2, lambda number: (f"part_{number}", Echo))
        .fan_out_fan_in(("out", Echo), 2, lambda number: (f"fan_{number}", Echo), ("in", Echo))
        .build()
    )
    results = run_virtual(fluent.run(input_text="hi"))
    assert len(results) == 7
    assert {output.data["text"] for output in results.values()} == {"hi"}


def modules_of_ours():
    """Return the names of all modules."""
    names = (module.name for module in pkgutil.walk_packages(stageflow.__path__, "stageflow."))
    return ["stageflow", *names]


def test_a1_23_every_module_has_what_it_exports():
    """Every module imports, and every name in its ``__all__`` is there, so that ``import *`` works."""
    missing, lacking = [], []
    for name in modules_of_ours():
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", None)
        if exported is None:
            lacking.append(name)
        else:
            missing += [f"{name}.{one}" for one in exported if not hasattr(module, one)]
    assert (missing, lacking) == ([], [])


def test_a1_23_import_star_works():
    """``from stageflow import *`` gives what the package exports."""
    namespace = {}
    exec("from stageflow import *", namespace)  # noqa: S102 - the statement is what is tested
    assert set(stageflow.__all__) <= set(namespace)


def test_a1_23_the_command_works_where_only_the_package_is(tmp_path):
    """``python -m stageflow.cli.lint`` needs nothing but the installed package and the file that it is given."""
    source = """
from stageflow import Pipeline, StageKind

async def greet(ctx): ...

pipeline = Pipeline().with_stage("greet", greet, StageKind.TRANSFORM{more})
"""
    codes = []
    for more in ("", ', ["ask"]'):
        file = tmp_path / "pipelines.py"
        file.write_text(source.format(more=more), "utf-8")
        command = [sys.executable, "-W", "error", "-m", "stageflow.cli.lint", file.name]
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        codes.append(done.returncode)
        assert "Traceback" not in done.stderr
    assert codes == [0, 1]


def test_a1_23_the_default_chain_takes_authentication(monkeypatch):
    """``include_auth=True`` puts what ``stageflow-auth`` has into the chain, or says that it is not installed."""
    chain = get_default_interceptors(include_auth=True)
    added = [one for one in chain if type(one).__module__.startswith("stageflow_auth")]
    assert added
    assert len(chain) == len(added) + len(get_default_interceptors())
    denied = ScriptedStage()
    with pytest.raises(StageExecutionError):
        run_virtual(Pipeline().with_stage("a", denied, K).build(interceptors=chain).run())
    assert denied.calls == []
    monkeypatch.setitem(sys.modules, "stageflow_auth", None)
    with pytest.raises(MissingExtraError):
        get_default_interceptors(include_auth=True)


def test_a1_23_run_simple_pipeline_takes_metadata():
    """The metadata that it is given is what the stages find in the snapshot."""
    stage = ScriptedStage(lambda ctx: {"tone": ctx.snapshot.metadata["tone"]})
    pipeline = Pipeline().with_stage("a", stage, K)
    result = run_virtual(run_simple_pipeline(pipeline, "hi", metadata={"tone": "calm"}))
    assert result.success, result.error
    assert result.stages["a"]["data"] == {"tone": "calm"}


@pytest.mark.parametrize("extensions", [None, {"plan": "pro"}], ids=["none", "dict"])
def test_a1_23_a_normal_snapshot_is_valid(extensions):
    """``validate_snapshot`` finds nothing wrong with a snapshot as everybody makes them."""
    snapshot = create_test_snapshot(input_text="hi", extensions=extensions)
    assert validate_snapshot(snapshot, require_user_id=True) == []
    assert validate_snapshot(snapshot, require_org_id=True) == ["org_id is missing"]


def test_a1_23_extensions_may_be_a_dict():
    """A snapshot with a dict as its extensions can be written down, and read again."""
    snapshot = ContextSnapshot(extensions={"plan": {"name": "pro"}})
    assert snapshot.to_dict()["extensions"] == {"plan": {"name": "pro"}}
