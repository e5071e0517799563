"""``ToolFunctions``: functions by name, each with its arguments checked by pydantic."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from stageflow.errors import close_matches
from stageflow.executors import run_in_thread

from stageflow_tools.errors import FunctionArgumentsError, FunctionDefinitionError, FunctionNotFoundError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["ToolFunction", "ToolFunctions"]

F = TypeVar("F", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REQUIRED: Final[Any] = ...


@final
class ToolFunction:
    """One function as a tool. ``ToolFunctions.register`` makes them.

    Args:
        function: The function, async or not. Every parameter has a type and can be passed by name.
        name: What the tool is called; the function's name by default.
        description: What the tool is for; the first paragraph of the function's docstring by default.

    Raises:
        FunctionDefinitionError: The function cannot be a tool as it is written.

    Attributes:
        name: What the tool is called.
        description: What the tool is for.
        function: The function.
        is_async: Whether it runs on the event loop. One that is not async runs in a thread.

    ```python
    from stageflow_tools import ToolFunction


    def add(a: int, b: int = 1) -> int:
        '''Add two numbers.'''
        return a + b


    tool = ToolFunction(add)
    print(tool.name, tool.description, tool.input_schema["required"])
    #> add Add two numbers. ['a']
    ```
    """

    __slots__ = ("_arguments", "_parameters", "description", "function", "is_async", "name")

    def __init__(
        self, function: Callable[..., Any], *, name: str | None = None, description: str | None = None
    ) -> None:
        self.name = _name_of(function) if name is None else name
        if not _NAME.fullmatch(self.name):
            fix = "Give one of letters, digits, '_', '-' and '.': register(name='...')"
            raise FunctionDefinitionError(self.name, f"{self.name!r} is not a name for a tool", fix=fix)
        self.description = _first_paragraph(function) if description is None else description
        self.function = function
        call: object = getattr(function, "__call__", None)  # noqa: B004 - an object's, which may be async
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
        self._parameters = _parameters_of(self.name, function)
        self._arguments = _arguments_model(self.name, self._parameters)

    @property
    def input_schema(self) -> dict[str, Any]:
        """The arguments as JSON Schema, as language models are told of tools."""
        return self._arguments.model_json_schema(schema_generator=_Schema)

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return *arguments* as the function takes them: checked, and converted where pydantic converts.

        Args:
            arguments: The arguments by name. The function's own defaults stand for those that are left out.

        Raises:
            FunctionArgumentsError: They do not fit; everything that is wrong is in one error.

        ```python
        from stageflow_tools import FunctionArgumentsError, ToolFunction


        def repeat(text: str, times: int = 2) -> str:
            return text * times


        tool = ToolFunction(repeat)
        print(tool.check({"text": "ab", "times": "3"}))
        #> {'text': 'ab', 'times': 3}
        try:
            tool.check({"text": "ab", "time": 3})
        except FunctionArgumentsError as error:
            print(error.problems)
        #> {'time': "there is no such argument. Did you mean 'times'?"}
        ```
        """
        if not isinstance(arguments, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - they come from anywhere
            problem = f"they must be a mapping of names to values, not {type(arguments).__name__}"
            raise FunctionArgumentsError(self.name, {"arguments": problem})
        try:
            model = self._arguments.model_validate(dict(arguments))
        except ValidationError as exc:
            raise FunctionArgumentsError(self.name, self._problems(exc)) from exc
        # Only what was passed, so that a default is the function's own object and not a copy of it.
        given = model.model_fields_set
        return {
            name: getattr(model, field)
            for field, name in zip(type(model).model_fields, self._parameters, strict=True)
            if field in given
        }

    async def call(self, arguments: Mapping[str, Any] | None = None) -> Any:
        """Check *arguments* and call the function.

        A cancelled call of a function that runs in a thread waits until it returns: a thread cannot be stopped.

        Args:
            arguments: The arguments by name.

        Raises:
            FunctionArgumentsError: They do not fit; the function is not called.
            Exception: Whatever the function raises, with a note that names the tool.
        """
        checked = self.check({} if arguments is None else arguments)
        try:
            if self.is_async:
                return await self.function(**checked)
            return await run_in_thread(partial(self.function, **checked))
        except Exception as exc:
            exc.add_note(f"raised by tool {self.name!r}")
            raise

    def _problems(self, error: ValidationError) -> dict[str, str]:
        problems: dict[str, str] = {}
        for detail in error.errors(include_url=False, include_input=False):
            where = ".".join(str(part) for part in detail["loc"])
            problems.setdefault(where, self._problem(where, detail))
        return problems

    def _problem(self, where: str, detail: ErrorDetails) -> str:
        if len(detail["loc"]) == 1 and detail["type"] == "extra_forbidden":
            return f"there is no such argument. {close_matches(where, self._parameters)}".rstrip()
        return "it is missing" if detail["type"] == "missing" else detail["msg"]

    def __repr__(self) -> str:
        return f"<ToolFunction {self.name!r}>"


@final
class ToolFunctions(Mapping[str, ToolFunction]):
    """Functions by name, for the stage ``tools.call``.

    ```python
    import asyncio

    from stageflow_tools import FunctionNotFoundError, ToolFunctions

    functions = ToolFunctions()


    @functions.register
    async def shout(text: str) -> str:
        return text.upper()


    print(asyncio.run(functions.call("shout", {"text": "hi"})))
    #> HI
    try:
        functions["shot"]
    except FunctionNotFoundError as error:
        print(error.fix)
    #> Did you mean 'shout'?
    ```
    """

    __slots__ = ("_tools",)

    def __init__(self) -> None:
        self._tools: dict[str, ToolFunction] = {}

    @overload
    def register(self, function: F, /) -> F: ...

    @overload
    def register(
        self, function: None = None, /, *, name: str | None = None, description: str | None = None
    ) -> Callable[[F], F]: ...

    def register(
        self, function: F | None = None, /, *, name: str | None = None, description: str | None = None
    ) -> F | Callable[[F], F]:
        """Make a tool of a function, which itself stays as it is. A decorator, with or without parentheses.

        Args:
            function: The function, when the decorator is used bare; see ``ToolFunction``.
            name: What the tool is called; the function's name by default.
            description: What the tool is for; the first paragraph of the function's docstring by default.

        Raises:
            FunctionDefinitionError: The function cannot be a tool, or the name is taken.

        ```python
        from stageflow_tools import ToolFunctions

        functions = ToolFunctions()


        @functions.register(name="text.length")
        def length(text: str) -> int:
            return len(text)


        print(list(functions), length("abc"))
        #> ['text.length'] 3
        ```
        """

        def add(function: F) -> F:
            tool = ToolFunction(function, name=name, description=description)
            if tool.name in self._tools:
                what = f"A tool is already called {tool.name!r}"
                raise FunctionDefinitionError(tool.name, what, fix="Give another: register(name='...')")
            self._tools[tool.name] = tool
            return function

        return add if function is None else add(function)

    async def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call the tool called *name*; see ``ToolFunction.call``.

        Args:
            name: The tool.
            arguments: The arguments by name.

        Raises:
            FunctionNotFoundError: There is no such tool.
            FunctionArgumentsError: The arguments do not fit.
        """
        return await self[name].call(arguments)

    def describe(self) -> list[dict[str, Any]]:
        """Return what a language model is told: the name, description and ``input_schema`` of every tool.

        ```python
        from stageflow_tools import ToolFunctions

        functions = ToolFunctions()


        @functions.register(description="Count letters.")
        def length(text: str) -> int:
            return len(text)


        (told,) = functions.describe()
        print(told["name"], told["description"], list(told["input_schema"]["properties"]))
        #> length Count letters. ['text']
        ```
        """
        return [
            {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
            for tool in self._tools.values()
        ]

    def __getitem__(self, name: str) -> ToolFunction:
        """Return the tool called *name*.

        Raises:
            FunctionNotFoundError: There is none; also a ``KeyError``.
        """
        try:
            return self._tools[name]
        except KeyError:
            raise FunctionNotFoundError(name, self._tools) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        return f"ToolFunctions({list(self._tools)})"


class _Schema(GenerateJsonSchema):
    """Leaves out of the schema, without a word, a default that JSON cannot say."""

    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 - as the base has it


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _first_paragraph(function: Callable[..., Any]) -> str:
    # A class's docstring would come up for any object without one of its own, such as a partial.
    text = inspect.getdoc(function) if inspect.isroutine(function) else None
    return " ".join((text or "").partition("\n\n")[0].split())


def _parameters_of(tool: str, function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        fix = "Return one result; a list, if there are several"
        raise FunctionDefinitionError(tool, "It yields, and a tool returns", fix=fix)
    try:
        parameters = dict(inspect.signature(function, eval_str=True).parameters)
    except (NameError, AttributeError, SyntaxError) as exc:
        fix = "Import the types where the function is defined, not under TYPE_CHECKING"
        raise FunctionDefinitionError(tool, f"Its annotations do not resolve: {exc}", fix=fix) from exc
    except (TypeError, ValueError) as exc:
        what = f"It does not say what it takes: {exc}"
        raise FunctionDefinitionError(tool, what, fix="Wrap it in a function with annotations") from exc
    for name, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            what = f"Its parameter '{parameter}' cannot be passed by name"
            raise FunctionDefinitionError(tool, what, fix="Give each argument a name and a type of its own")
        if parameter.annotation is parameter.empty:
            what = f"Its parameter {name!r} has no type"
            raise FunctionDefinitionError(tool, what, fix=f"Annotate it, as {name}: str")
        if isinstance(parameter.default, FieldInfo):
            what = (
                f"The default of its parameter {name!r} is a pydantic Field, which a plain call would pass on"
            )
            fix = f"Write {name}: Annotated[the type, Field(...)], and a plain default"
            raise FunctionDefinitionError(tool, what, fix=fix)
    return parameters


def _arguments_model(tool: str, parameters: Mapping[str, inspect.Parameter]) -> type[BaseModel]:
    """Return a model with one field per parameter.

    The parameters' names are aliases, because a field may be called neither ``copy`` nor ``_x``.
    """
    fields: dict[str, Any] = {}
    for number, (name, parameter) in enumerate(parameters.items()):
        default = _REQUIRED if parameter.default is parameter.empty else parameter.default
        fields[f"argument_{number}"] = (parameter.annotation, Field(default, alias=name))
    config = ConfigDict(extra="forbid", protected_namespaces=())
    try:
        model: type[BaseModel] = create_model(tool, __config__=config, **fields)
        model.model_json_schema(schema_generator=_Schema)
    except (PydanticUserError, TypeError) as exc:
        what = f"pydantic cannot check its parameters: {str(exc).partition(chr(10))[0]}"
        fix = "Use types that pydantic knows, such as int, str, list[...], or a model"
        raise FunctionDefinitionError(tool, what, fix=fix) from exc
    return model
