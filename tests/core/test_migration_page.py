"""Every row of the page about migrating from 0.9 is true."""

from __future__ import annotations

import asyncio
import importlib
import io
import logging
import re
from pathlib import Path

import pytest
from stageflow import (
    AudioPorts,
    BaseInterceptor,
    ContextSnapshot,
    CorePorts,
    FailureMode,
    InterceptorResult,
    LLMPorts,
    NoOpEventSink,
    Pipeline,
    PipelineContext,
    PipelineResults,
    RetryPolicy,
    StageExecutionError,
    StageKind,
    StageOutput,
    StagePorts,
    get_default_interceptors,
    get_event_sink,
    run_with_interceptors,
    thaw,
)
from stageflow.errors import PipelineValidationError, ReadOnlyDataError, UndeclaredDependencyError
from stageflow.pipeline.conditions import ConditionalDependency
from stageflow.pipeline.patterns import with_conditional_branch
from stageflow.pipeline.registry import PipelineNameTakenError, PipelineRegistry
from stageflow.runner import PipelineRunner, setup_logging

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "migrating-from-0.9.md").read_text("utf-8")
W = StageKind.WORK


def rows(title: str) -> list[list[str]]:
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


NAMES = [(old.strip("`"), new.strip("`"), fate) for old, new, fate in rows("Names")]
MOVED = [(new.strip("`"), extra.strip("`")) for _, new, extra in rows("What moved to packages of its own")]
BEHAVIOUR = [before for before, _ in rows("Behaviour")]


def found(place: str) -> object:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def test_the_tables_were_read():
    assert len(NAMES) > 40
    assert len(MOVED) == 3
    assert len({old for old, _, _ in NAMES}) == len(NAMES)


@pytest.mark.parametrize(("old", "new", "fate"), NAMES, ids=lambda value: value)
def test_the_row_about_a_name_is_true(old, new, fate):
    value = found(new)
    assert fate in {"works", "gone"}
    if fate == "works":
        assert found(old) is value
    else:
        with pytest.raises(ImportError):
            found(old)


@pytest.mark.parametrize(("new", "extra"), MOVED, ids=lambda value: value)
def test_the_row_about_a_package_is_true(new, extra):
    assert callable(found(new))
    core = (ROOT / "stageflow-core" / "pyproject.toml").read_text("utf-8")
    assert re.search(rf"^{extra} = \[", core, re.MULTILINE)


# --- behaviour ------------------------------------------------------------------------------------------------------


async def ok(ctx):
    return {"list": [1]}


async def bad(ctx):
    return StageOutput.fail("no")


async def reads_a(ctx):
    return {"x": ctx.inputs.get_from("a", "list")}


def two(first, second, dependencies=("a",), **options):
    return Pipeline().with_stage("a", first, W).with_stage("b", second, W, dependencies, **options)


def run(pipeline, **options):
    return asyncio.run(pipeline.build(**options).run())


def build_validates():
    with pytest.raises(PipelineValidationError) as caught:
        two(ok, ok, ["x"]).with_stage("c", ok, W, ["d"]).with_stage("d", ok, W, ["c"]).build()
    assert len(caught.value.problems) == 2


def duplicates():
    with pytest.raises(PipelineValidationError):
        two(ok, ok).with_stage("a", bad, W).build()


def one_graph():
    graph = two(ok, ok).build()

    async def main():
        for context in (None, ContextSnapshot(), PipelineContext()):
            results = await graph.run(context)
            assert isinstance(results, PipelineResults)
            assert isinstance(results["a"], StageOutput)

    asyncio.run(main())


def dependants_of_a_failure():
    for mode in FailureMode:
        results = asyncio.run(two(bad, ok).build(failure_mode=mode).run(raise_errors=False))
        assert "b" not in results or results["b"].status == "skip"


def partial_results():
    with pytest.raises(StageExecutionError) as caught:
        run(two(ok, bad))
    assert caught.value.results["a"].data == {"list": [1]}


def retry():
    attempts = []

    async def again(ctx):
        attempts.append(ctx.attempt)
        return StageOutput.retry("not yet") if ctx.attempt < 2 else {}

    assert run(Pipeline().with_stage("a", again, W, retry=RetryPolicy(base_delay=0)))["a"].status == "ok"
    assert attempts == [1, 2]


def repeated_work():
    async def lost(ctx):
        attempts.append(ctx.attempt)
        raise ConnectionError

    pipeline = Pipeline().with_stage("a", lost, W, retry=RetryPolicy(3, base_delay=0))
    for data, made in ((None, [1]), ({"idempotency_key": "k"}, [1, 2, 3])):
        attempts: list[int] = []
        with pytest.raises(StageExecutionError):
            asyncio.run(pipeline.run(data=data))
        assert attempts == made


def undeclared():
    with pytest.raises(StageExecutionError) as caught:
        run(two(ok, reads_a, ()))
    assert isinstance(caught.value.original, UndeclaredDependencyError)


def read_only():
    async def changes(ctx):
        mine = thaw(ctx.inputs.get_from("a", "list"))
        mine.append(2)
        ctx.inputs.get_from("a", "list").append(2)

    with pytest.raises(StageExecutionError) as caught:
        run(two(ok, changes))
    assert isinstance(caught.value.original, ReadOnlyDataError)


def conditional():
    async def skip(ctx):
        return StageOutput.skip("nothing")

    async def reason(ctx):
        return {"skip_reason": "nothing"}

    assert run(two(skip, ok, conditional=True))["b"].status == "skip"
    assert run(two(reason, ok, conditional=True))["b"].status == "ok"


def branches():
    async def route(ctx):
        return {"route": "x"}

    results = run(with_conditional_branch(Pipeline(), ("r", route), [("x", ok), ("y", ok)]))
    assert [results[name].status for name in "xy"] == ["ok", "skip"]


def no_interceptors():
    assert two(ok, ok).build(interceptors=[]).interceptors == ()
    assert all(isinstance(one, BaseInterceptor) for one in two(ok, ok).build().interceptors)
    assert two(ok, ok).build().interceptors


def condition():
    assert run(two(ok, ok, when=ConditionalDependency("a", "a:missing")))["b"].status == "skip"


def condition_that_raises():
    with pytest.raises(StageExecutionError):
        run(two(ok, ok, when=ConditionalDependency("a", lambda data: data["missing"])))


def registry():
    registry = PipelineRegistry()
    registry.register("a", two(ok, ok))
    with pytest.raises(PipelineNameTakenError):
        registry.register("a", two(ok, ok))
    registry.register("a", two(ok, ok), replace=True)


def runner():
    stream = io.StringIO()
    asyncio.run(PipelineRunner(stream=stream).run(two(ok, ok)))
    assert stream.getvalue() == ""
    assert isinstance(get_event_sink(), NoOpEventSink)
    asyncio.run(PipelineRunner(stream=stream, verbose=True).run(two(ok, ok)))
    assert stream.getvalue()


def logging_setup():
    logger = logging.getLogger("stageflow.tests.migration")
    theirs = logging.NullHandler()
    logger.addHandler(theirs)
    for _ in range(2):
        handler = setup_logging(logger=logger.name)
    assert logger.handlers == [theirs, handler]
    logger.handlers.clear()


def default_chain():
    chain = Pipeline().with_stage("a", ok, W).build().interceptors
    assert {"idempotency", "timeout", "circuit_breaker"} <= {one.name for one in chain}


def refusal():
    class Refuses(BaseInterceptor):
        async def before(self, stage_name, ctx):
            return InterceptorResult(stage_ran=False, error="no") if stage_name == "a" else None

    results = asyncio.run(two(ok, ok).build(interceptors=[Refuses()]).run(raise_errors=False))
    assert results["a"].status == "fail"
    assert "b" not in results

    async def work():
        return {}

    assert asyncio.run(run_with_interceptors("a", work, PipelineContext(), [Refuses()])).status == "failed"


def auth():
    assert get_default_interceptors(include_auth=True)[0].name == "auth.tenant"


def ports():
    every = StagePorts(db=1, llm_provider=2, tts_provider=3)
    assert isinstance(every, CorePorts)
    assert isinstance(every, LLMPorts)
    assert isinstance(every, AudioPorts)
    assert [every.db, every.llm_provider, every.tts_provider] == [1, 2, 3]


# Which check is about which row, by words of its first column.
CHECKS = {
    "missing or circular": build_validates,
    "two stages with one name": duplicates,
    "two graphs": one_graph,
    "Dependants of a failed stage": dependants_of_a_failure,
    "lost with the error": partial_results,
    "StageOutput.retry": retry,
    "WORK stage was attempted again": repeated_work,
    "declared no dependencies": undeclared,
    "change what others read": read_only,
    "conditional=True": conditional,
    "with_conditional_branch": branches,
    "interceptors=[]": no_interceptors,
    "without interceptors": default_chain,
    "refused": refusal,
    "include_auth": auth,
    "CorePorts": ports,
    "ConditionalDependency": condition,
    "condition that raised": condition_that_raises,
    "pipeline_registry": registry,
    "PipelineRunner": runner,
    "setup_logging": logging_setup,
}


def test_every_row_has_a_check():
    assert [[words for words in CHECKS if words in row] for row in BEHAVIOUR] == [[words] for words in CHECKS]


@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.__name__)
def test_the_row_about_behaviour_is_true(check):
    check()
