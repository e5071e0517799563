"""One name, one tool: those of this program, of classes, of factories, and of plugins."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any, ClassVar

import pytest
from stageflow import Effect
from stageflow.plugins import Candidate, PluginHost, ToolContribution, hookimpl
from stageflow_tools import (
    BaseTool,
    ToolCall,
    ToolConflictError,
    ToolDefinitionError,
    ToolExecutor,
    ToolInput,
    ToolOutput,
    ToolRegistry,
    clear_tool_registry,
    get_tool_registry,
    register_tool,
    tool,
)


class Length:
    """A tool by core's protocol alone."""

    name = "length"
    description = "Count characters."
    input_schema: ClassVar[dict[str, Any]] = {"type": "object", "properties": {"text": {"type": "string"}}}
    effect = Effect.NONE

    async def call(self, arguments: Any, ctx: Any) -> Any:
        return {"length": len(arguments["text"])}


class Shelf(BaseTool):
    name = "shelf"
    action_type = "PUT_ON_SHELF"
    input_schema: ClassVar[dict[str, Any]] = {"type": "object", "required": ["item"]}

    def __init__(self) -> None:
        self.items: list[str] = []

    async def execute(self, call: ToolInput) -> ToolOutput:
        self.items.append(call.payload["item"])
        return ToolOutput.ok({"count": len(self.items)}, undo_metadata={"item": call.payload["item"]})

    async def undo(self, undo_metadata: Any) -> None:
        self.items.remove(undo_metadata["item"])


@tool(effect=Effect.NONE)
async def shout(text: str) -> str:
    return text.upper()


def make_length() -> Length:
    return Length()


def host_with(**targets: Any) -> PluginHost:
    """Return the plugin ``acme``, with a tool for each target."""

    @hookimpl
    def stageflow_tools() -> list[ToolContribution]:
        return [ToolContribution(name=f"acme.{name}", target=target) for name, target in targets.items()]

    module = ModuleType("acme_tools_plugin")
    module.stageflow_api_version = 1
    module.stageflow_tools = stageflow_tools
    sys.modules[module.__name__] = module
    acme = Candidate(name="acme", module=module.__name__, distribution="dist-acme", version="1.2")
    return PluginHost([acme], strict=True)


@pytest.fixture(autouse=True)
def no_plugin_stays():
    yield
    sys.modules.pop("acme_tools_plugin", None)


def test_plugins_contribute_tools_as_objects_classes_and_factories():
    host = host_with(
        object=f"{__name__}:shout", klass=f"{__name__}:Length", factory=f"{__name__}:make_length", base=Shelf
    )
    tools = ToolRegistry()
    tools.contribute(host)
    assert list(tools) == ["acme.object", "acme.klass", "acme.factory", "acme.base"]
    assert "acme" in tools.origin_of("acme.klass")
    assert "dist-acme 1.2" in tools.origin_of("acme.klass")
    run = ToolExecutor(registry=tools)
    assert asyncio.run(run.execute(ToolCall("acme.object", {"text": "a"}))).data == {"result": "A"}
    for name in ("acme.klass", "acme.factory"):
        assert asyncio.run(run.execute(ToolCall(name, {"text": "abc"}))).data == {"length": 3}
        assert tools[name].effect is Effect.NONE


def test_a_plugin_cannot_take_the_name_of_another_tool():
    tools = ToolRegistry()
    tools.contribute(host_with(length=Length))
    with pytest.raises(ToolConflictError, match=r"taken by .*dist-acme 1\.2"):
        tools.register(name="acme.length")(lambda: 1)
    with pytest.raises(ToolDefinitionError, match="int is no tool"):
        ToolRegistry().contribute(host_with(number=lambda: 7))


def test_a_class_that_overrides_undo_is_undoable():
    shelf = Shelf()
    run = ToolExecutor(registry=ToolRegistry(shelf))
    assert asyncio.run(run.execute(ToolCall("PUT_ON_SHELF", {"item": "vase"}, "call-1"))).data == {"count": 1}
    assert run.get_tool("shelf").effect is Effect.REVERSIBLE
    assert asyncio.run(run.undo_action("call-1"))
    assert shelf.items == []


def test_factories_are_called_once_and_when_needed():
    made: list[int] = []

    def factory() -> Shelf:
        made.append(1)
        return Shelf()

    tools = ToolRegistry()
    tools.register_factory("PUT_ON_SHELF", factory)
    assert (made, len(tools), "PUT_ON_SHELF" in tools) == ([], 1, True)
    assert tools["PUT_ON_SHELF"] is tools["shelf"]
    assert [one.name for one in tools.list_tools()] == ["shelf"]
    assert made == [1]
    with pytest.raises(ToolConflictError):
        tools.register_factory("shelf", factory)
    tools.register_factory("OTHER", factory)
    with pytest.raises(ToolDefinitionError, match="was registered for 'OTHER'"):
        tools.get_tool("OTHER")
    assert "OTHER" in tools, "it can be mended, and asked for again"


@pytest.mark.parametrize("one", [7, Length, object()], ids=["number", "class", "object"])
def test_what_is_no_tool(one):
    with pytest.raises(ToolDefinitionError):
        ToolRegistry().register(one)


def test_the_registry_runs_actions_and_fails_in_words():
    tools = ToolRegistry(shout)
    assert asyncio.run(tools.execute(ToolCall("shout", {"text": "a"}))).data == {"result": "A"}
    assert "Did you mean 'shout'?" in asyncio.run(tools.execute(ToolCall("shot"))).error
    assert "it is missing" in asyncio.run(tools.execute(ToolCall("shout"))).error


def test_the_registry_of_the_process():
    clear_tool_registry()
    try:
        assert register_tool(shout) is shout
        assert get_tool_registry().get_tool("shout") is shout.definition
    finally:
        clear_tool_registry()
    assert "shout" not in get_tool_registry()
