"""The stage ``tools.call``: in a pipeline, by its class and by its name."""

import asyncio
import threading
from typing import Any

import pytest
from stageflow import (
    Pipeline,
    StageExecutionError,
    Stageflow,
    StageKind,
    StageOutput,
    StageStatus,
)
from stageflow.errors import LazyImportError, MissingInputError, StageTimeoutError, UndeclaredDependencyError
from stageflow.plugins import PluginHost, PluginPolicy, discover
from stageflow_tools import (
    ToolArgumentsError,
    ToolCallConfigError,
    ToolCallStage,
    ToolNotFoundError,
    ToolRegistry,
)

pytestmark = pytest.mark.asyncio

functions = ToolRegistry()


@functions.register
def add(a: int, b: int) -> int:
    return a + b


@functions.register
async def total(numbers: list[int]) -> dict[str, Any]:
    numbers.append(0)  # a tool may change what it is given
    return {"sum": sum(numbers), "of": numbers}


async def source(ctx: Any) -> StageOutput:
    return StageOutput.ok(b=2, numbers=[1, 2, 3], call={"a": 5, "b": 6}, text="no mapping")


def pipeline(runner: Any, **config: Any) -> Pipeline:
    return (
        Pipeline()
        .with_stage("source", source, StageKind.TRANSFORM)
        .with_stage("call", runner, StageKind.WORK, ["source"], config=config or None)
    )


@pytest.fixture
def app() -> Stageflow:
    found = [candidate for candidate in discover() if candidate.name == "tools"]
    assert [candidate.distribution for candidate in found] == ["stageflow-tools"]
    return Stageflow(PluginHost(found, policy=PluginPolicy(environ={}), strict=True))


@pytest.mark.parametrize(
    ("config", "data"),
    [
        ({"tool": "add", "arguments": {"a": 1, "b": 2}}, {"result": 3}),
        ({"tool": "add", "arguments": {"a": 1}, "arguments_from": {"b": "source:b"}}, {"result": 3}),
        ({"tool": "add", "arguments_from": "source:call"}, {"result": 11}),
        ({"tool": "total", "arguments_from": {"numbers": "source:numbers"}}, {"sum": 6, "of": [1, 2, 3, 0]}),
    ],
    ids=["fixed", "wired", "whole", "mutable"],
)
async def test_named_stage_calls_the_tool(app: Stageflow, config: dict[str, Any], data: dict[str, Any]):
    results = await app.run(pipeline("tools.call", tools=functions, **config))
    assert results["call"].data == {"tool": config["tool"], **data}
    assert results["source"].data["numbers"] == [1, 2, 3]


async def test_registry_is_found_by_text(app: Stageflow, monkeypatch: pytest.MonkeyPatch):
    import math

    monkeypatch.setattr(math, "registry", functions, raising=False)
    config = {"tools": "math:registry", "tool": "add", "arguments": {"a": 1, "b": 1}}
    assert (await app.run(pipeline("tools.call", **config)))["call"].data["result"] == 2
    with pytest.raises(LazyImportError, match=r"tools= of a tools\.call stage"):
        ToolCallStage("math:nowhere", "add")
    with pytest.raises(ToolCallConfigError, match="is float, neither a ToolExecutor nor a ToolRegistry"):
        ToolCallStage("math:pi", "add")


async def test_whole_output_of_a_stage_is_the_arguments():
    async def numbers(ctx: Any) -> StageOutput:
        return StageOutput.ok(a=1, b=2)

    stages = (
        Pipeline()
        .with_stage("numbers", numbers, StageKind.TRANSFORM)
        .with_stage(
            "call", ToolCallStage(functions, "add", arguments_from="numbers"), StageKind.WORK, ["numbers"]
        )
    )
    assert (await stages.run())["call"].data == {"tool": "add", "result": 3}


async def test_two_runs_of_one_stage_do_not_meet():
    stages = pipeline(ToolCallStage(functions, "total", arguments_from={"numbers": "source:numbers"}))
    graph = stages.build()
    both = await asyncio.gather(graph.run(), graph.run())
    assert [results["call"].data["of"] for results in both] == [[1, 2, 3, 0]] * 2


@pytest.mark.parametrize(
    ("arguments", "arguments_from", "error", "says"),
    [
        ({"a": 1}, None, ToolArgumentsError, "'b': it is missing"),
        ({"a": "x"}, {"b": "source:b"}, ToolArgumentsError, "'a': Input should be a valid integer"),
        ({"a": 1}, "source:call", ToolArgumentsError, "'a': the pipeline fixes it"),
        (None, "source:text", ToolArgumentsError, "'text' of stage 'source' is str, not a mapping"),
        (None, {"a": "source:nothing"}, MissingInputError, "no key 'nothing'"),
        (None, {"a": "sauce:b"}, UndeclaredDependencyError, "Did you mean 'source'"),
    ],
    ids=["missing", "type", "fixed", "no-mapping", "no-key", "undeclared"],
)
async def test_what_does_not_fit_fails_the_stage_by_name(
    arguments: Any, arguments_from: Any, error: type[Exception], says: str
):
    with pytest.raises(StageExecutionError) as caught:
        await pipeline(ToolCallStage(functions, "add", arguments, arguments_from)).run()
    assert caught.value.stage == "call"
    assert isinstance(caught.value.original, error)
    assert says in str(caught.value.original)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"tool": "ad"}, ToolNotFoundError, "Did you mean 'add'"),
        ({"tool": ""}, ToolCallConfigError, "'tool'"),
        ({"tool": ["add"]}, ToolCallConfigError, "'tool'"),
        ({"tools": {}}, ToolCallConfigError, "is dict, neither a ToolExecutor nor a ToolRegistry"),
        ({"arguments": [1]}, ToolCallConfigError, "'arguments'"),
        ({"arguments": {1: 2}}, ToolCallConfigError, "'arguments'"),
        ({"arguments_from": ":b"}, ToolCallConfigError, "names no place"),
        ({"arguments_from": "source:"}, ToolCallConfigError, "names no place"),
        ({"arguments_from": {"a": 1}}, ToolCallConfigError, "names no place"),
        ({"arguments_from": 1}, ToolCallConfigError, "'arguments_from'"),
        ({"arguments": {"a": 1}, "arguments_from": {"a": "source:b"}}, ToolCallConfigError, "fixes already"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
async def test_config_that_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[Exception], says: str
):
    with pytest.raises(error, match=says):
        ToolCallStage(**{"tools": functions, "tool": "add", **options})


async def test_config_with_a_misspelt_option_does_not_build(app: Stageflow):
    with pytest.raises(ValueError, match="unexpected keyword argument 'tol'"):
        app.build(pipeline("tools.call", tools=functions, tool="add", tol="add"))


async def test_stage_over_its_time_limit_ends_when_the_function_has_returned():
    done = threading.Event()
    finish = threading.Event()
    slow = ToolRegistry()

    @slow.register
    def wait() -> None:
        finish.wait(0.1)
        done.set()

    stages = Pipeline().with_stage("call", ToolCallStage(slow, "wait"), StageKind.WORK, timeout=0.01)
    with pytest.raises(StageExecutionError) as caught:
        await stages.run()
    assert isinstance(caught.value.original, StageTimeoutError)
    assert done.is_set(), "nothing that the run started outlives it"
    assert len(asyncio.all_tasks()) == 1


async def test_where_the_plugin_is_not_allowed_the_pipeline_says_so_when_it_is_built():
    policy = PluginPolicy(environ={"STAGEFLOW_DISABLED_PLUGINS": "*"})
    app = Stageflow(PluginHost([one for one in discover() if one.name == "tools"], policy=policy))
    with pytest.raises(ValueError, match=r"tools\.call") as caught:
        app.build(pipeline("tools.call", tools=functions, tool="add"))
    assert "STAGEFLOW_DISABLED_PLUGINS" in str(caught.value)


async def test_status_is_ok():
    results = await pipeline(ToolCallStage(functions, "add", {"a": 1, "b": 1})).run()
    assert results["call"].status is StageStatus.OK
