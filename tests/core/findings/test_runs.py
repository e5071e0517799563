"""Findings A1.11, A1.13, A1.18, A1.19, A1.24 and A1.28, and BUG-016 of A2: from the description to the run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stageflow
from stageflow import (
    CancellationToken,
    ContextSnapshot,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    StageExecutionError,
    StageInputs,
    StageKind,
    StageOutput,
    StageStatus,
)
from stageflow.errors import (
    AmbiguousKeyError,
    CycleDetectedError,
    MissingInputError,
    PipelineValidationError,
    UndeclaredDependencyError,
)
from stageflow.pipeline.lint import lint_pipeline
from stageflow.pipeline.patterns import with_conditional_branch
from stageflow.testing import (
    ScriptedStage,
    SlowStage,
    create_test_context,
    run_stage,
    run_virtual,
)

K = StageKind.WORK
PACKAGE = str(Path(stageflow.__file__).parent)


# --- A1.11 ---------------------------------------------------------------------------------------------------


def test_a1_11_runs_of_one_graph_share_no_cleanup():
    """A cleanup callback belongs to the run that registered it, and is called at the end of that run."""
    cleaned = []

    async def work(ctx):
        seconds = float(ctx.input_text)

        async def clean():
            cleaned.append((ctx.input_text, asyncio.get_running_loop().time()))

        ctx.register_cleanup(clean)
        await asyncio.sleep(seconds)

    graph = Pipeline().with_stage("work", work, K).build(interceptors=[])

    async def main():
        await asyncio.gather(*(graph.run(input_text=seconds) for seconds in ("3", "1", "2")))

    run_virtual(main())
    assert cleaned == [("1", 1), ("2", 2), ("3", 3)]


def test_a1_11_runs_of_one_graph_share_no_cancellation():
    """A token cancels the runs that it was given to, and no other run of the graph, then or later."""
    graph = Pipeline().with_stage("work", SlowStage(2), K).build(interceptors=[])

    async def main():
        token = CancellationToken()
        asyncio.get_running_loop().call_later(1, token.cancel, "only this one")
        cancelled = graph.run(cancel_token=token, raise_errors=False)
        others = [graph.run(cancel_token=CancellationToken()), graph.run()]
        first, *rest = await asyncio.gather(cancelled, *others)
        later = await graph.run()
        assert isinstance(first.error, PipelineCancelled)
        assert [results["work"].status for results in (*rest, later)] == [StageStatus.OK] * 3

    run_virtual(main())


# --- A1.13 ---------------------------------------------------------------------------------------------------


def test_a1_13_a_pipeline_is_checked_before_anything_runs():
    """All that is wrong is reported at once, each with what to do, and no stage has run."""
    stage = ScriptedStage()
    pipeline = (
        Pipeline()
        .with_stage("greet", stage, K)
        .with_stage("shout", stage, K, ["gret"])
        .with_stage("greet", stage, K)
        .with_stage("itself", stage, K, ["itself"])
        .with_stage("a", stage, K, ["c"])
        .with_stage("b", stage, K, ["a"])
        .with_stage("c", stage, K, ["b"])
    )
    with pytest.raises(PipelineValidationError) as raised:
        run_virtual(pipeline.run())
    problems = {problem.code: problem for problem in raised.value.problems}
    assert len(problems) == len(raised.value.problems) == 4
    assert problems["SF-BUILD-UNKNOWN-DEPENDENCY"].fix == "Did you mean 'greet'?"
    assert problems["SF-BUILD-DUPLICATE"].stages == ("greet",)
    assert problems["SF-BUILD-SELF-DEPENDENCY"].stages == ("itself",)
    assert sorted(problems["SF-BUILD-CYCLE"].stages) == ["a", "b", "c"]
    assert all(problem.fix for problem in problems.values())
    assert stage.calls == []


def test_a1_13_a_cycle_is_told_as_a_path():
    """A cycle is an error of its own, which says how it goes round."""
    stage = ScriptedStage()
    pipeline = Pipeline().with_stage("a", stage, K, ["b"]).with_stage("b", stage, K, ["a"])
    with pytest.raises(CycleDetectedError) as raised:
        pipeline.build()
    assert raised.value.cycle_path == ("a", "b", "a")
    assert "a -> b -> a" in str(raised.value)


# --- A1.18 ---------------------------------------------------------------------------------------------------


def test_a1_18_a_stage_that_declares_nothing_may_read_nothing():
    """Reading is strict whatever a stage declares, also if it declares no dependency at all."""

    async def read(ctx):
        return {"text": ctx.inputs.get_from("greet", "text")}

    pipeline = Pipeline().with_stage("greet", ScriptedStage({"text": "hi"}), K).with_stage("read", read, K)
    with pytest.raises(StageExecutionError) as raised:
        run_virtual(pipeline.run())
    assert isinstance(raised.value.original, UndeclaredDependencyError)

    inputs = StageInputs(ContextSnapshot(), {"greet": StageOutput.ok(text="hi")}, declared_deps=[])
    for look in (inputs.get_output, inputs.has_output):
        with pytest.raises(UndeclaredDependencyError):
            look("greet")
    with pytest.raises(UndeclaredDependencyError):
        inputs.require_from("greet", "text")
    assert inputs.get("text", "nothing") == "nothing"


@pytest.mark.parametrize("seconds", [(1, 2), (2, 1)], ids=["a first", "b first"])
def test_a1_18_what_a_stage_reads_does_not_depend_on_who_ends_first(seconds):
    """Inputs are in the order of declaration, and a key that two dependencies have is an error naming both."""

    async def read(ctx):
        order = list(ctx.inputs.prior_outputs)
        with pytest.raises(AmbiguousKeyError) as raised:
            ctx.inputs.get("text")
        assert "'a'" in str(raised.value)
        assert "'b'" in str(raised.value)
        return {"order": order, "only": ctx.inputs.get("only_a")}

    pipeline = (
        Pipeline()
        .with_stage("b", SlowStage(seconds[1], {"text": "from b"}), K)
        .with_stage("a", SlowStage(seconds[0], {"text": "from a", "only_a": 1}), K)
        .with_stage("read", read, K, ["a", "b"])
    )
    assert run_virtual(pipeline.run())["read"].data == {"order": ["a", "b"], "only": 1}


def test_a1_18_what_is_not_there_is_an_error_for_who_requires_it():
    """``require_from`` raises for a missing key and for a missing output, and never gives None."""

    async def read(ctx):
        return {"text": ctx.inputs.require_from("greet", "txt")}

    with pytest.raises(MissingInputError) as raised:
        run_virtual(run_stage(read, prior_outputs={"greet": {"text": "hi"}}))
    assert isinstance(raised.value, KeyError)
    assert "'text'" in str(raised.value)
    with pytest.raises(MissingInputError):
        StageInputs(ContextSnapshot(), {}, declared_deps=["greet"]).require_from("greet", "text")


# --- A1.19 ---------------------------------------------------------------------------------------------------


def test_a1_19_a_conditional_stage_is_skipped_with_its_dependency():
    """``conditional=True`` looks at whether a dependency was skipped, and at no key of its data."""
    conditional, other, unaffected = ScriptedStage(), ScriptedStage(), ScriptedStage()
    results = run_virtual(
        Pipeline()
        .with_stage("empty", ScriptedStage(StageOutput.skip("nothing to do")), K)
        .with_stage("full", ScriptedStage({"skip_reason": "a key as any other"}), K)
        .with_stage("conditional", conditional, K, ["empty"], conditional=True)
        .with_stage("other", other, K, ["empty"])
        .with_stage("unaffected", unaffected, K, ["full"], conditional=True)
        .run()
    )
    assert (len(conditional.calls), len(other.calls), len(unaffected.calls)) == (0, 1, 1)
    assert results["conditional"].status is StageStatus.SKIP
    assert other.calls[0].inputs["empty"].data == {"reason": "nothing to do"}


def test_a1_19_a_router_selects_its_branch():
    """Only the branch that the router chose runs, and the stage where the branches meet runs after it."""
    stages = {name: ScriptedStage() for name in ("quick", "thorough", "reply")}
    pipeline = with_conditional_branch(
        Pipeline(),
        ("route", ScriptedStage(lambda ctx: StageOutput.ok(route=ctx.input_text))),
        {"short": ("quick", stages["quick"]), "long": ("thorough", stages["thorough"])},
        ("reply", stages["reply"]),
    )
    for label, chosen, other in (("short", "quick", "thorough"), ("long", "thorough", "quick")):
        results = run_virtual(pipeline.run(input_text=label))
        assert results[chosen].status is StageStatus.OK
        assert (results[other].status, results[other].data["reason"]) == (StageStatus.SKIP, "route_not_taken")
        assert results["reply"].status is StageStatus.OK
    assert [len(stage.calls) for stage in stages.values()] == [1, 1, 2]


def test_a1_19_a_condition_decides_whether_a_stage_runs():
    """``when=`` is asked once the dependencies have settled, and keeps the stage from running if it is false."""
    stage = ScriptedStage()
    pipeline = (
        Pipeline()
        .with_stage("score", ScriptedStage(lambda ctx: {"risky": "!" in ctx.input_text}), K)
        .with_stage("review", stage, K, ["score"], when=lambda inputs: inputs.get_from("score", "risky"))
    )
    statuses = [run_virtual(pipeline.run(input_text=text))["review"].status for text in ("hi", "hi!")]
    assert statuses == [StageStatus.SKIP, StageStatus.OK]
    assert len(stage.calls) == 1


def test_a1_19_a_skip_goes_down_its_branch_and_stops_at_a_join():
    """What depends only on what did not run does not run either; behind two branches it takes one that ran."""
    stages = {name: ScriptedStage() for name in ("off", "behind", "further", "on", "join", "nothing")}

    def never(inputs):
        return False

    results = run_virtual(
        Pipeline()
        .with_stage("start", ScriptedStage(), K)
        .with_stage("off", stages["off"], K, ["start"], when=never)
        .with_stage("behind", stages["behind"], K, ["off"])
        .with_stage("further", stages["further"], K, ["behind"])
        .with_stage("on", stages["on"], K, ["start"])
        .with_stage("join", stages["join"], K, ["further", "on"])
        .with_stage("nothing", stages["nothing"], K, ["further", "behind"])
        .run()
    )
    assert [name for name, stage in stages.items() if stage.calls] == ["on", "join"]
    assert {name: results[name].data["reason"] for name in ("off", "behind", "further", "nothing")} == {
        "off": "condition_false",
        "behind": "branch_not_taken",
        "further": "branch_not_taken",
        "nothing": "branch_not_taken",
    }


# --- A1.24 ---------------------------------------------------------------------------------------------------

NO_FILES = """
import asyncio, json, os, sys

from stageflow import Pipeline, RetryPolicy, StageGraph, StageKind, StageSpec
from stageflow.pipeline.subpipeline import SubpipelineSpawner
from stageflow.testing import EventRecorder, FailingStage, ScriptedStage

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
K = StageKind.WORK
written = None


def audit(event, arguments):
    if written is None:
        return
    if event == "open" and arguments[2] & WRITES or event in ("os.mkdir", "os.rename", "os.symlink", "os.link"):
        written.append(str(arguments[0]))


async def main():
    async def nest(ctx):
        await SubpipelineSpawner().spawn("child", ctx, None, "nest", fine)

    fine = Pipeline().with_stage("a", ScriptedStage(), K).with_stage("b", ScriptedStage(), K, ["a"])
    broken = Pipeline().with_stage("a", FailingStage("no", times=3), K, retry=RetryPolicy(2, base_delay=0))
    for run in range(2):
        await fine.run(sink=EventRecorder())
        await broken.run(sink=EventRecorder(), raise_errors=False)
        await StageGraph([StageSpec("a", ScriptedStage())]).run()
        await Pipeline().with_stage("nest", nest, K).run()
        async for event in fine.stream():
            pass


sys.addaudithook(audit)
with asyncio.Runner() as runner:
    runner.get_loop()
    written = []
    runner.run(main())
    found, written = written, None
print(json.dumps(found))
"""


def test_a1_24_a_run_writes_no_file(tmp_path):
    """A run opens no file to write, in the folder for temporary files or elsewhere."""
    dropped = ("COVERAGE_", "COV_")  # the coverage of a process is written into files, too
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", NO_FILES]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert list(tmp_path.iterdir()) == []


# --- A1.28 ---------------------------------------------------------------------------------------------------


def lines_of_ours(work) -> int:
    """Count the lines of Stageflow that *work* executes: what it costs, on any machine."""
    lines = 0

    def trace(frame, event, argument):
        return count if frame.f_code.co_filename.startswith(PACKAGE) else None

    def count(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


async def nothing(ctx):
    return None


@pytest.mark.parametrize("shape", ["chain", "fan"])
def test_a1_28_a_run_costs_as_much_as_it_has_stages(shape):
    """Twice the stages are twice the work, to build and to run: nothing looks at all stages for each of them."""

    def build_and_run(size):
        pipeline = Pipeline().with_stage("0", nothing, K)
        for number in range(1, size):
            dependency = str(number - 1) if shape == "chain" else "0"
            pipeline = pipeline.with_stage(str(number), nothing, K, [dependency])
        run_virtual(pipeline.build(interceptors=[]).run())

    build_and_run(2)  # what happens once, such as imports
    assert lines_of_ours(lambda: build_and_run(600)) < 2.2 * lines_of_ours(lambda: build_and_run(300))


def test_a1_28_a_layered_graph_is_linted_in_linear_time():
    """Twice the layers are twice the work, though there are far more than twice the paths."""

    def lint(layers):
        layered, below = [], []
        for layer in range(layers):
            names = [f"{layer}.{number}" for number in range(3)]
            layered += [(name, below) for name in names]
            below = names
        pipeline = Pipeline()
        for name, dependencies in reversed(layered):  # in order, there would be no cycle to look for
            pipeline = pipeline.with_stage(name, nothing, K, dependencies)
        assert lint_pipeline(pipeline).valid

    lint(2)
    assert lines_of_ours(lambda: lint(8)) < 2.2 * lines_of_ours(lambda: lint(4))


# --- A2 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context",
    [
        PipelineContext(input_text="hi", execution_mode="practice"),
        ContextSnapshot(input_text="hi", execution_mode="practice"),
        create_test_context("hi", execution_mode="practice"),
    ],
    ids=lambda context: type(context).__name__,
)
def test_a2_bug_016_a_stage_sees_the_same_whatever_context_the_run_is_given(context):
    """Every context starts a run of every graph, and its stages find the input, the ids and the run's clock."""

    async def look(ctx):
        assert ctx.timer.elapsed_ms() >= 0
        assert ctx.pipeline_run_id is not None
        return {"input": ctx.input_text, "mode": ctx.execution_mode, "name": ctx.stage_name}

    results = run_virtual(Pipeline().with_stage("look", look, K).run(context))
    assert results["look"].data == {"input": "hi", "mode": "practice", "name": "look"}
