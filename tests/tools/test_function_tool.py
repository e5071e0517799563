"""A tool's arguments are what its signature says; whatever else is refused by name, and nothing is called."""

import asyncio
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from stageflow.errors import RunError
from stageflow_tools import (
    FunctionTool,
    ToolArgumentsError,
    ToolConflictError,
    ToolDefinitionError,
    ToolError,
    ToolNotFoundError,
    ToolRegistry,
)

pytestmark = pytest.mark.asyncio


class Order(BaseModel):
    item: str
    count: int


@dataclass
class Point:
    x: float
    y: float = 0.0


async def call(tools: ToolRegistry, name: str, arguments: Any = None) -> Any:
    data = await tools[name].call({} if arguments is None else arguments, None)
    return data["result"]


async def test_sync_and_async_functions_are_called_alike():
    functions = ToolRegistry()

    @functions.register
    def add(a: int, b: int) -> int:
        return a + b

    @functions.register
    async def shout(text: str) -> str:
        return text.upper()

    assert await call(functions, "add", {"a": 1, "b": 2}) == 3
    assert await call(functions, "shout", {"text": "hi"}) == "HI"
    assert add(1, 2) == 3, "the decorator leaves the function as it is"
    assert list(functions) == ["add", "shout"]
    assert len(functions) == 2
    assert "add" in functions
    assert "sub" not in functions
    assert functions.get("sub") is None


async def test_sync_functions_run_in_a_thread_that_sees_the_callers_context():
    variable: ContextVar[str] = ContextVar("variable")

    def where() -> tuple[int, str]:
        return threading.get_ident(), variable.get()

    variable.set("seen")
    ident, seen = await FunctionTool(where).call()
    assert ident != threading.get_ident()
    assert seen == "seen"


async def test_an_object_and_a_partial_are_functions_too():
    class Greeter:
        async def __call__(self, name: str) -> str:
            return f"Hello, {name}"

        def bye(self, name: str) -> str:
            return f"Bye, {name}"

    functions = ToolRegistry()
    functions.register(name="greet")(Greeter())
    functions.register(Greeter().bye)
    assert FunctionTool(Greeter(), name="greet").is_async
    assert await call(functions, "greet", {"name": "Ada"}) == "Hello, Ada"
    assert await call(functions, "bye", {"name": "Ada"}) == "Bye, Ada"

    def power(base: int, exponent: int) -> int:
        return base**exponent

    square = FunctionTool(partial(power, exponent=2), name="square")
    assert await square.call({"base": 3}) == 9


async def test_arguments_are_converted_to_what_the_annotations_say():
    def use(
        day: date, orders: list[Order], at: Point, share: Annotated[float, Field(ge=0, le=1)]
    ) -> list[Any]:
        return [day, orders, at, share]

    arguments = {
        "day": "2026-03-01",
        "orders": [{"item": "tea", "count": "2"}],
        "at": {"x": 1},
        "share": "0.5",
    }
    got = await FunctionTool(use).call(arguments)
    assert got == [date(2026, 3, 1), [Order(item="tea", count=2)], Point(1.0), 0.5]


async def test_defaults_are_the_functions_own_objects():
    sentinel = object()

    def use(thing: Any = sentinel, *, items: list[int] = []) -> Any:  # noqa: B006
        return thing, items

    tool = FunctionTool(use)
    thing, items = await tool.call()
    assert thing is sentinel
    assert items is use.__kwdefaults__["items"]
    assert "default" not in tool.input_schema["properties"]["thing"], "JSON cannot say it"
    assert tool.input_schema["properties"]["items"]["default"] == []


async def test_names_that_models_do_not_allow_are_fine():
    def use(
        copy: int, _private: int, model_config: int, schema: int, json: int = 5, self: int = 6
    ) -> list[int]:
        return [copy, _private, model_config, schema, json, self]

    arguments = {"copy": 1, "_private": 2, "model_config": 3, "schema": 4}
    assert await FunctionTool(use).call(arguments) == [1, 2, 3, 4, 5, 6]


async def test_everything_wrong_with_the_arguments_is_in_one_error():
    def use(count: int, order: Order, at: Point | None = None) -> None:
        raise AssertionError("must not be called")

    with pytest.raises(ToolArgumentsError) as caught:
        await FunctionTool(use).call({"order": {"item": "tea", "count": "two"}, "cuont": 1})
    error = caught.value
    assert isinstance(error, RunError)
    assert isinstance(error, ValueError)
    assert error.code == "SF-TOOLS-ARGUMENTS"
    assert error.tool == "use"
    assert error.problems == {
        "count": "it is missing",
        "order.count": "Input should be a valid integer, unable to parse string as an integer",
        "cuont": "there is no such argument. Did you mean 'count'?",
    }
    assert "tool 'use'" in str(error)
    assert "'order.count'" in str(error)


async def test_errors_do_not_repeat_the_values():
    def login(pin: int) -> None: ...

    with pytest.raises(ToolArgumentsError) as caught:
        await FunctionTool(login).call({"pin": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("arguments", [[1], "a=1", 5, {1: 2}], ids=repr)
async def test_arguments_that_are_no_mapping_of_names_are_refused(arguments: Any):
    def use(a: int = 0) -> None: ...

    with pytest.raises(ToolArgumentsError):
        await FunctionTool(use).call(arguments)


async def test_what_a_tool_raises_is_not_wrapped_and_names_it():
    def fail() -> None:
        raise ConnectionError("down")

    async def fail_async() -> None:
        raise ConnectionError("down")

    for function in (fail, fail_async):
        with pytest.raises(ConnectionError, match="down") as caught:
            await FunctionTool(function).call()
        assert caught.value.__notes__ == [f"raised by tool {function.__name__!r}"]


async def test_stop_iteration_in_a_thread_does_not_hang():
    def first() -> Any:
        return next(iter([]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await FunctionTool(first).call()


async def test_unknown_name_suggests_the_nearest():
    functions = ToolRegistry()
    functions.register(name="search_docs")(lambda: None)
    with pytest.raises(ToolNotFoundError, match="Did you mean 'search_docs'") as caught:
        await call(functions, "serch_docs")
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ToolError)
    assert caught.value.known == ("search_docs",)
    with pytest.raises(ToolNotFoundError, match="Register it first"):
        ToolRegistry()["any"]


def positional(a: int, /) -> None: ...
def starred(*numbers: int) -> None: ...
def keywords(**numbers: int) -> None: ...
def untyped(a) -> None: ...
def unresolved(a: "Nowhere") -> None: ...  # noqa: F821
def unknown(a: threading.Thread) -> None: ...
def fielded(a: int = Field(3, ge=0)) -> None: ...
def yields(a: int):
    yield a


async def yields_async(a: int):
    yield a


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (positional, "'a: int' cannot be passed by name"),
        (starred, "'\\*numbers: int' cannot be passed by name"),
        (keywords, "'\\*\\*numbers: int' cannot be passed by name"),
        (untyped, "'a' has no type.*Annotate it"),
        (unresolved, "do not resolve: name 'Nowhere' is not defined"),
        (unknown, "pydantic cannot check"),
        (fielded, "default of its parameter 'a' is a pydantic Field"),
        (yields, "It yields"),
        (yields_async, "It yields"),
        (lambda: None, "no name for a tool"),
        (print, "cannot be passed by name"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_function_that_cannot_be_a_tool_is_refused_where_it_is_registered(
    function: Callable[..., Any], says: str
):
    functions = ToolRegistry()
    with pytest.raises(ToolDefinitionError, match=says) as caught:
        functions.register(function)
    assert caught.value.code == "SF-TOOLS-DEFINITION"
    assert isinstance(caught.value, TypeError)
    assert not functions


async def test_a_name_is_given_once():
    functions = ToolRegistry()
    functions.register(name="now")(lambda: 1)
    with pytest.raises(ToolConflictError, match="'now' is taken by tool 'now'"):
        functions.register(name="now")(lambda: 2)
    assert await call(functions, "now") == 1


async def test_describe_says_what_a_language_model_is_told():
    functions = ToolRegistry()

    @functions.register
    def add(a: Annotated[int, Field(description="The first.")], b: int = 1) -> int:
        """Add two
        numbers.

        Not told.
        """
        return a + b

    assert functions.describe() == [
        {
            "name": "add",
            "description": "Add two numbers.",
            "input_schema": {
                "type": "object",
                "title": "add",
                "additionalProperties": False,
                "properties": {
                    "a": {"type": "integer", "title": "A", "description": "The first."},
                    "b": {"type": "integer", "title": "B", "default": 1},
                },
                "required": ["a"],
            },
        }
    ]


async def test_cancelled_call_waits_for_the_thread_and_a_waiting_one_never_begins():
    begun, finish, log = asyncio.Event(), threading.Event(), []

    def work(name: str) -> None:
        log.append(f"{name} begins")
        loop.call_soon_threadsafe(begun.set)
        finish.wait(10)
        log.append(f"{name} ends")

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    tool = FunctionTool(work)
    first = asyncio.create_task(tool.call({"name": "first"}))
    await begun.wait()
    second = asyncio.create_task(tool.call({"name": "second"}))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0.01)
    assert not first.done(), "its thread is still running"
    first.cancel()
    finish.set()
    assert [type(one) for one in await asyncio.gather(first, second, return_exceptions=True)] == [
        asyncio.CancelledError,
        asyncio.CancelledError,
    ]
    assert log == ["first begins", "first ends"]


@pytest.mark.parametrize(
    "error",
    [
        ToolArgumentsError("add", {"a": "it is missing"}),
        ToolNotFoundError("ad", ["add"]),
        ToolDefinitionError("add", "what", fix="fix"),
    ],
    ids=lambda error: error.code,
)
async def test_errors_pickle(error: Exception):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
