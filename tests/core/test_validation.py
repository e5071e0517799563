"""What is wrong with a pipeline is told at build, all at once; what is wrong with an argument, where it is passed."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import (
    CancellationToken,
    ContextSnapshot,
    Pipeline,
    PipelineResults,
    RetryPolicy,
    StageContext,
    StageflowError,
    StageGraph,
    StageInputs,
    StageKind,
    StageOutput,
    StageSpec,
    TimeoutInterceptor,
)
from stageflow.errors import BuildProblem, CycleDetectedError, PipelineValidationError
from stageflow.runtime.validation import find_cycles
from stageflow.testing import leak_check

K = StageKind.TRANSFORM


async def ok(ctx):
    return None


def problems(*specs: StageSpec) -> tuple[BuildProblem, ...]:
    with pytest.raises(PipelineValidationError) as caught:
        StageGraph(specs)
    return caught.value.problems


def codes(*specs: StageSpec) -> list[str]:
    return [problem.code for problem in problems(*specs)]


# --- pipelines ---------------------------------------------------------------------------------------------------


def test_an_empty_pipeline():
    assert codes() == ["SF-BUILD-EMPTY"]


def test_two_stages_of_one_name():
    assert codes(StageSpec("a", ok, K), StageSpec("a", ok, K), StageSpec("b", ok, K)) == [
        "SF-BUILD-DUPLICATE"
    ]
    assert codes(*[StageSpec("a", ok, K)] * 2) == ["SF-BUILD-DUPLICATE"]


def test_an_unknown_dependency_with_a_hint():
    (problem,) = problems(StageSpec("greet", ok, K), StageSpec("shout", ok, K, ["gret"]))
    assert problem.code == "SF-BUILD-UNKNOWN-DEPENDENCY"
    assert problem.stages == ("shout",)
    assert "Did you mean 'greet'?" in problem.fix


def test_a_stage_that_depends_on_itself():
    assert codes(StageSpec("a", ok, K, ["a"])) == ["SF-BUILD-SELF-DEPENDENCY"]


def test_a_cycle_is_told_with_its_path():
    with pytest.raises(CycleDetectedError) as caught:
        StageGraph([StageSpec("a", ok, K, ["c"]), StageSpec("b", ok, K, ["a"]), StageSpec("c", ok, K, ["b"])])
    assert caught.value.code == "SF-BUILD-CYCLE"
    path = caught.value.cycle_path
    assert path[0] == path[-1]
    assert set(path) == set(caught.value.stages) == {"a", "b", "c"}
    assert "c -> b -> a" in str(caught.value) or "a -> c -> b" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_every_problem_is_reported_at_once():
    found = codes(
        StageSpec("a", ok, K, ["b"]),
        StageSpec("b", ok, K, ["a"]),
        StageSpec("c", ok, K, ["c"]),
        StageSpec("d", ok, K, ["nobody"]),
        StageSpec("d", ok, K),
        StageSpec("", ok, K),
        StageSpec("e", 5, K),
        StageSpec("f", lambda: None, "transform"),
        StageSpec("g", ok, K, timeout=-1),
        StageSpec("h", ok, K, config={"x": 1}),
        StageSpec("i", "owner.name", K),
        StageSpec("j", ok, K, executor="nowhere"),
    )
    assert sorted(set(found)) == [
        "SF-BUILD-CONFIG",
        "SF-BUILD-CYCLE",
        "SF-BUILD-DUPLICATE",
        "SF-BUILD-KIND",
        "SF-BUILD-NAME",
        "SF-BUILD-NO-RESOLVER",
        "SF-BUILD-RUNNER",
        "SF-BUILD-SELF-DEPENDENCY",
        "SF-BUILD-TIMEOUT",
        "SF-BUILD-UNKNOWN-DEPENDENCY",
    ]


def test_each_problem_has_a_fix_and_its_page_is_named():
    with pytest.raises(PipelineValidationError) as caught:
        StageGraph([StageSpec("a", ok, K, ["x"]), StageSpec("a", ok, K)], name="mine")
    text = str(caught.value)
    assert "'mine'" in text
    for problem in caught.value.problems:
        assert problem.fix
        assert problem.message in text
        assert f"docs/reference/errors/{problem.code}.md" in text
    plain = caught.value.to_dict()
    assert plain["pipeline"] == "mine"
    assert [one["code"] for one in plain["problems"]] == [one.code for one in caught.value.problems]


@pytest.mark.parametrize("name", ["a", "llm.answer", "größe", "名前", "with space", "a/b", "x" * 1_000])
def test_names_with_dots_spaces_and_unicode_are_fine(name):
    assert StageGraph([StageSpec(name, ok, K)]).stages[0].name == name


@pytest.mark.parametrize(
    "name", ["", " ", "\n", "a\nb", "a\x00", None, 5, ["a"], b"a", 1.5, ("a",)], ids=repr
)
def test_other_names_are_told(name):
    assert "SF-BUILD-NAME" in codes(StageSpec(name, ok, K))


class NoExecute:
    pass


class SyncExecute:
    def execute(self, ctx):
        return None


def sync(ctx):
    return None


async def generator(ctx):
    yield


@pytest.mark.parametrize(
    ("runner", "code"),
    [
        (None, "SF-BUILD-RUNNER"),
        (5, "SF-BUILD-RUNNER"),
        (NoExecute, "SF-BUILD-RUNNER"),
        (NoExecute(), "SF-BUILD-RUNNER"),
        (sync, "SF-BUILD-NOT-ASYNC"),
        (generator, "SF-BUILD-NOT-ASYNC"),
        (SyncExecute, "SF-BUILD-NOT-ASYNC"),
        (SyncExecute(), "SF-BUILD-NOT-ASYNC"),
    ],
    ids=[
        "None",
        "int",
        "class",
        "instance",
        "sync",
        "generator",
        "class with sync execute",
        "instance of it",
    ],
)
def test_runners_that_cannot_run(runner, code):
    assert codes(StageSpec("a", runner, K)) == [code]


def test_no_stage_is_made_and_nothing_is_run_by_a_build():
    class Loud:
        def __init__(self, **config):
            raise AssertionError("made at build")

        async def execute(self, ctx): ...

    StageGraph([StageSpec("a", Loud, K), StageSpec("b", Loud, K, config={"x": 1})])


# --- cycles --------------------------------------------------------------------------------------------------------


@st.composite
def edges(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [str(number) for number in range(draw(st.integers(1, 12)))]
    return {name: draw(st.lists(st.sampled_from(names), max_size=4)) for name in names}


def knots(graph: dict[str, list[str]]) -> set[frozenset[str]]:
    """Find the strongly connected components by closure, slowly and surely."""
    reach = {name: set(wanted) for name, wanted in graph.items()}
    for _ in graph:
        for name in graph:
            for one in tuple(reach[name]):
                reach[name] |= reach[one]
    return {frozenset(b for b in graph if b in reach[a] and a in reach[b]) for a in graph} - {frozenset()}


@given(edges())
def test_one_cycle_is_found_per_knot(graph):
    found = find_cycles({name: [one for one in wanted if one != name] for name, wanted in graph.items()})
    bare = {name: [one for one in wanted if one != name] for name, wanted in graph.items()}
    expected = {knot for knot in knots(bare) if len(knot) > 1}
    assert len(found) == len(expected)
    for cycle in found:
        assert len(set(cycle)) == len(cycle) > 1
        assert all(after in bare[name] for name, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        assert sum(set(cycle) <= knot for knot in expected) == 1


def test_a_very_long_cycle_needs_no_recursion():
    count = 20_000
    graph = {str(n): [str((n + 1) % count)] for n in range(count)}
    (cycle,) = find_cycles(graph)
    assert len(cycle) == count


# --- arguments -------------------------------------------------------------------------------------------------------
#
# A typed error with a code, never whatever happens to break inside.


def with_stage(**options):
    return Pipeline().with_stage("a", ok, K, **options)


class Stage:
    execute = ok


BAD_BUILDS = {
    "timeout: text": lambda: with_stage(timeout="x").build(),
    "timeout: zero": lambda: with_stage(timeout=0).build(),
    "timeout: negative": lambda: with_stage(timeout=-1).build(),
    "timeout: NaN": lambda: with_stage(timeout=math.nan).build(),
    "timeout: list": lambda: with_stage(timeout=[1]).build(),
    "dependencies: int": lambda: with_stage(dependencies=5).build(),
    "dependencies: int inside": lambda: with_stage(dependencies=[5]).build(),
    "dependencies: unhashable inside": lambda: with_stage(dependencies=[["a"]]).build(),
    "retry: int": lambda: with_stage(retry=5).build(),
    "when: text": lambda: with_stage(when="x").build(),
    "when: async": lambda: with_stage(when=ok).build(),
    "executor: int": lambda: with_stage(executor=5).build(),
    "config: list": lambda: Pipeline().with_stage("a", Stage, K, config=["x"]).build(),
    "config: unknown keyword": lambda: Pipeline().with_stage("a", Stage, K, config={5: 1}).build(),
    "kind: text": lambda: Pipeline().with_stage("a", ok, "transform").build(),
    "interceptors: object": lambda: with_stage().build(interceptors=[object()]),
    "interceptors: class": lambda: with_stage().build(interceptors=[TimeoutInterceptor]),
    "interceptors: int": lambda: with_stage().build(interceptors=5),
    "interceptors: None inside": lambda: with_stage().build(interceptors=[None]),
    "failure_mode: unknown": lambda: with_stage().build(failure_mode="zzz"),
    "failure_mode: None": lambda: with_stage().build(failure_mode=None),
    "cleanup_timeout: text": lambda: with_stage().build(cleanup_timeout="x"),
    "cleanup_timeout: NaN": lambda: with_stage().build(cleanup_timeout=math.nan),
    "cleanup_timeout: negative": lambda: with_stage().build(cleanup_timeout=-1),
    "resolver: int": lambda: Pipeline().with_stage("a", "x.y", K).build(resolver=5),
    "Pipeline(name: int)": lambda: Pipeline(5),
    "Pipeline(name: empty)": lambda: Pipeline("").with_stage("a", ok, K).build(),
    "Pipeline(stages: list)": lambda: Pipeline("x", [1]),
    "Pipeline(stages: no specs)": lambda: Pipeline("x", {"a": 5}).build(),
    "Pipeline(stages: another name)": lambda: Pipeline("x", {"a": StageSpec("b", ok, K)}).build(),
    "compose: text": lambda: Pipeline().compose("x"),
    "from_stages: int": lambda: Pipeline.from_stages(5),
    "from_stages: function": lambda: Pipeline.from_stages(ok),
    "StageGraph(int)": lambda: StageGraph(5),
    "StageGraph([int])": lambda: StageGraph([1]),
    "StageSpec(requires: int)": lambda: StageSpec("a", ok, requires=5),
    "RetryPolicy(text)": lambda: RetryPolicy("3"),
    "RetryPolicy(0)": lambda: RetryPolicy(0),
    "RetryPolicy(1.5)": lambda: RetryPolicy(1.5),
    "RetryPolicy(base_delay: negative)": lambda: RetryPolicy(base_delay=-1),
    "RetryPolicy(base_delay: NaN)": lambda: RetryPolicy(base_delay=math.nan),
    "RetryPolicy(max_delay: NaN)": lambda: RetryPolicy(max_delay=math.nan),
    "RetryPolicy(base_delay: text)": lambda: RetryPolicy(base_delay="1"),
    "RetryPolicy(retry_on: text)": lambda: RetryPolicy(retry_on="x"),
    "RetryPolicy(retry_on: no class)": lambda: RetryPolicy(retry_on=(5,)),
    "TimeoutInterceptor(text)": lambda: TimeoutInterceptor("x"),
    "TimeoutInterceptor(NaN)": lambda: TimeoutInterceptor(math.nan),
    "stream(buffer: 0)": lambda: with_stage().stream(buffer=0),
    "stream(buffer: text)": lambda: with_stage().stream(buffer="x"),
    "StageOutput.ok(int)": lambda: StageOutput.ok(5),
    "StageOutput.skip(data: int)": lambda: StageOutput.skip("x", 5),
    "StageOutput(status: unknown)": lambda: StageOutput("zzz"),
    "StageInputs.get(int)": lambda: StageInputs(ContextSnapshot()).get(5),
    "StageInputs.get(empty)": lambda: StageInputs(ContextSnapshot()).get(""),
    "StageInputs.get_from(int)": lambda: StageInputs(ContextSnapshot()).get_from(5, "x"),
    "StageInputs.get_from(list)": lambda: StageInputs(ContextSnapshot()).get_from([], "x"),
    "PipelineResults.value(int)": lambda: PipelineResults({}).value(5),
    "StageGraph.stage(unknown)": lambda: with_stage().build().stage("x"),
    "CancellationToken.on_cancel(int)": lambda: CancellationToken().on_cancel(5),
    "StageContext(int, ...)": lambda: repr(StageContext(5, 5, 5, 5)),
}


@pytest.mark.parametrize("name", BAD_BUILDS)
def test_a_bad_argument_is_a_typed_error(name):
    with pytest.raises(StageflowError) as caught:
        BAD_BUILDS[name]()
    assert caught.value.code.startswith("SF-")


BAD_RUNS = {
    "timeout: text": {"timeout": "x"},
    "timeout: NaN": {"timeout": math.nan},
    "timeout: negative": {"timeout": -1},
    "cancel_token: object": {"cancel_token": object()},
    "sink: object": {"sink": object()},
    "data: text": {"data": "abc"},
    "data: list": {"data": [1]},
    "metadata: int": {"metadata": 5},
    "metadata: int key": {"metadata": {1: 1}},
    "_timeout_ms: text": {"data": {"_timeout_ms": "x"}},
    "_timeout_ms: NaN": {"data": {"_timeout_ms": math.nan}},
    "context: int": {"context": 5},
    "context: text": {"context": "hello"},
    "input_text: int": {"input_text": 5},
    "input_text: bytes": {"input_text": b"x"},
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD_RUNS)
async def test_a_bad_argument_of_a_run_is_a_typed_error(name, sink):
    """Best before the first event; at worst the run that was started is told to have ended, too."""
    async with leak_check():
        with pytest.raises(StageflowError) as caught:
            await with_stage().run(**{"sink": sink, **BAD_RUNS[name]})
    assert caught.value.code.startswith("SF-")
    assert sink.types.count("pipeline.started") == len(
        [
            type
            for type in sink.types
            if type in {"pipeline.completed", "pipeline.failed", "pipeline.cancelled"}
        ]
    )
    await asyncio.sleep(0)
    assert [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["self", "data", "run_id", "input_text", "größe", "a b"])
async def test_any_text_is_a_key_of_the_metadata(name):
    seen = []

    async def look(ctx):
        seen.append(ctx.snapshot.metadata[name])

    await Pipeline().with_stage("a", look, K).run(metadata={name: 1})
    assert seen == [1]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text", ["", " ", "x" * 1_000_000, "\x00", "\ud800"], ids=["empty", "blank", "1 MB", "NUL", "surrogate"]
)
async def test_any_text_is_an_input(text):
    async def look(ctx):
        return {"length": len(ctx.input_text)}

    assert (await Pipeline().with_stage("a", look, K).run(input_text=text))["a"].data == {"length": len(text)}
