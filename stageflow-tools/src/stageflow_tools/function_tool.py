"""``FunctionTool`` and ``tool``: a typed function as a tool; pydantic checks what goes in and what comes out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, cast, final, overload

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from stageflow.errors import close_matches
from stageflow.executors import run_in_thread

from stageflow_tools.context import ToolContext
from stageflow_tools.definition import ToolDefinition
from stageflow_tools.errors import ToolArgumentsError, ToolDefinitionError, ToolOutputError
from stageflow_tools.output import ToolOutput, as_tool_output

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from stageflow import Effect, RetryPolicy

    from stageflow_tools.definition import UndoHandler
    from stageflow_tools.inputs import ToolInput

__all__ = ["FunctionTool", "tool"]

P = ParamSpec("P")
R = TypeVar("R")

_REQUIRED: Final[Any] = ...


@final
class FunctionTool(Generic[P, R]):
    """A typed function as a tool; ``tool`` makes them. Called as a function, it is the function.

    Args:
        function: The function, async or not. Every parameter has a type and can be passed by name; one whose type is
            ``ToolContext`` gets the way back to the run, and is no argument.
        name: What the tool is called; the function's name by default.
        description: What the tool is for; by default the first paragraph of its docstring.
        action_type: What actions name it by; its name by default.
        options: Further fields of its ``ToolDefinition``: ``effect``, ``timeout``, ``requires_approval`` and so on.

    Raises:
        ToolDefinitionError: The function cannot be a tool as it is written.

    Attributes:
        definition: What an executor has to know of it.
        function: The function.
        is_async: Whether it runs on the event loop. One that is not async runs in a thread.

    ```python
    from stageflow_tools import FunctionTool


    def add(a: int, b: int = 1) -> int:
        '''Add two numbers.

    Args:
            a: The first.
            b: The second.
        '''
        return a + b


    tool = FunctionTool(add)
    print(tool.name, tool.description, tool.input_schema["required"])
    #> add Add two numbers. ['a']
    print(tool.input_schema["properties"]["a"]["description"], tool(1, 2))
    #> The first. 3
    ```
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        action_type: str | None = None,
        **options: Any,
    ) -> None:
        called = _name_of(function) if name is None else name
        self.function = function
        call: object = getattr(function, "__call__", None)  # noqa: B004 - an object's, which may be async
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
        parameters, returns = _signature_of(called, function)
        self._context = next((one for one, it in parameters.items() if it.annotation is ToolContext), None)
        parameters.pop(self._context or "", None)
        self._parameters = parameters
        told, of_arguments = _docstring_of(function)
        self._arguments = _arguments_model(called, parameters, of_arguments)
        self._fields = tuple(zip(self._arguments.model_fields, parameters, strict=True))
        self._result = _result_type(called, returns)
        self.definition = ToolDefinition(
            called,
            called if action_type is None else action_type,
            self._handle,
            told if description is None else description,
            self._arguments.model_json_schema(schema_generator=_Schema),
            check=self.check,
            **options,
        )
        update_wrapper(cast("Any", self), function)

    @property
    def name(self) -> str:
        """What the tool is called."""
        return self.definition.name

    @property
    def description(self) -> str:
        """What the tool is for."""
        return self.definition.description

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """The arguments as JSON Schema, as language models are told of tools."""
        return self.definition.input_schema

    @property
    def effect(self) -> Effect:
        """What a call does to the world."""
        return self.definition.effect

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself: nothing is checked."""
        return self.function(*args, **kwargs)

    async def call(self, arguments: Mapping[str, Any] | None = None, ctx: Any = None) -> Any:
        """Check *arguments*, call the function, check its result and return it.

        A cancelled call of a function that runs in a thread waits until it returns: a thread cannot be stopped.

        Args:
            arguments: The arguments by name.
            ctx: Who calls: a ``StageContext``, a dict, or nothing.

        Raises:
            ToolArgumentsError: They do not fit; the function is not called.
            ToolOutputError: It returned something else than its annotation says.
            Exception: Whatever the function raises, with a note that names the tool.
        """
        from uuid import uuid4

        from stageflow_tools.context import adapt_context

        checked = self.check({} if arguments is None else arguments)
        return await self._called(checked, ToolContext(str(uuid4()), self.name, adapt_context(ctx)))

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return *arguments* as the function takes them: checked, and converted where pydantic converts.

        Args:
            arguments: The arguments by name. The function's own defaults stand for those that are left out.

        Raises:
            ToolArgumentsError: They do not fit; everything that is wrong is in one error.

        ```python
        from stageflow_tools import FunctionTool, ToolArgumentsError


        def repeat(text: str, times: int = 2) -> str:
            return text * times


        tool = FunctionTool(repeat)
        print(tool.check({"text": "ab", "times": "3"}))
        #> {'text': 'ab', 'times': 3}
        try:
            tool.check({"text": "ab", "time": 3})
        except ToolArgumentsError as error:
            print(error.problems)
        #> {'time': "there is no such argument. Did you mean 'times'?"}
        ```
        """
        if arguments.__class__ is not dict and not isinstance(arguments, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - they come from anywhere
            problem = f"they must be a mapping of names to values, not {type(arguments).__name__}"
            raise ToolArgumentsError(self.name, {"arguments": problem})
        try:
            model = self._arguments.model_validate(dict(arguments))
        except ValidationError as exc:
            raise ToolArgumentsError(self.name, self._problems(exc)) from exc
        # Only what was passed, so that a default is the function's own object and not a copy of it.
        given = model.model_fields_set
        return {name: getattr(model, field) for field, name in self._fields if field in given}

    async def _handle(self, call: ToolInput) -> ToolOutput:
        context = call.context or ToolContext(str(call.action_id), self.name, _nowhere())
        return as_tool_output(await self._called(call.payload, context))

    async def _called(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        function: Callable[..., Any] = self.function
        passed = arguments if self._context is None else {**arguments, self._context: context}
        try:
            if self.is_async:
                result = await function(**passed)
            else:
                result = await run_in_thread(partial(function, **passed))
        except Exception as exc:
            exc.add_note(f"raised by tool {self.name!r}")
            raise
        if self._result is None or isinstance(result, ToolOutput):
            return result
        try:
            return self._result.validate_python(result)
        except ValidationError as exc:
            what = f"It returned something else than it says: {_first(exc)}"
            raise ToolOutputError(
                what, self.name, fix="Return what its annotation says, or change that"
            ) from exc

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
        return f"<FunctionTool {self.name!r}>"


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...


@overload
def tool(
    action_type: str | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect | None = None,
    allowed_behaviors: tuple[str, ...] = (),
    requires_approval: bool = False,
    approval_message: str | None = None,
    undo: UndoHandler | None = None,
    timeout: float | None = None,
    retry: RetryPolicy | None = None,
    max_concurrency: int | None = None,
    permissions: tuple[str, ...] = (),
    max_output_bytes: int = 1_000_000,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...


def tool(
    first: Callable[P, R] | str | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    undo: UndoHandler | None = None,
    **options: Any,
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a tool of a typed function. A decorator, with or without parentheses.

    Args:
        first: The function; or what actions name the tool by, which is its name otherwise.
        name: What the tool is called; the function's name by default.
        description: What the tool is for; by default the first paragraph of its docstring.
        undo: Undoes a call, given what the function kept with ``ctx.keep_for_undo``; makes the tool undoable.
        **options: See ``ToolDefinition``: ``effect``, ``timeout``, ``retry``, ``max_concurrency``,
            ``requires_approval``, ``approval_message``, ``allowed_behaviors``, ``permissions``, ``max_output_bytes``.

    Raises:
        ToolDefinitionError: The function cannot be a tool as it is written.

    ```python
    import asyncio

    from stageflow import Effect
    from stageflow_tools import tool


    @tool(effect=Effect.NONE, timeout=5)
    async def weather(city: str) -> str:
        '''Say what the weather is like.'''
        return f"It is sunny in {city}."


    print(weather.description, asyncio.run(weather.call({"city": "Oslo"})))
    #> Say what the weather is like. It is sunny in Oslo.
    ```
    """
    given = {option: value for option, value in options.items() if value is not None}
    if undo is not None:
        given |= {"undoable": True, "undo_handler": undo}
    action_type = first if isinstance(first, str) else None

    def make(function: Callable[P, R]) -> FunctionTool[P, R]:
        if inspect.isclass(function):
            fix = "Derive the class from BaseTool, and register an object of it"
            raise ToolDefinitionError(function.__name__, "It is a class, and a tool is an object", fix=fix)
        return FunctionTool(function, name=name, description=description, action_type=action_type, **given)

    return make(first) if callable(first) else make


class _Schema(GenerateJsonSchema):
    """Leaves out of the schema, without a word, a default that JSON cannot say."""

    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 - as the base has it


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _docstring_of(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of the function, and of each argument, in whichever of the usual forms."""
    # A class's docstring would come up for any object without one of its own, such as a partial.
    text = inspect.getdoc(function) if inspect.isroutine(function) else None
    if not text:
        return "", {}
    from docstring_parser import ParseError, parse

    try:
        described = {one.arg_name: one.description for one in parse(text).params}
    except ParseError:
        described = {}
    first = " ".join(text.partition("\n\n")[0].split())
    return first, {name: " ".join(told.split()) for name, told in described.items() if told}


def _signature_of(tool: str, function: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], Any]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        fix = "Return one result; a list, if there are several"
        raise ToolDefinitionError(tool, "It yields, and a tool returns", fix=fix)
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError) as exc:
        fix = "Import the types where the function is defined, not under TYPE_CHECKING"
        raise ToolDefinitionError(tool, f"Its annotations do not resolve: {exc}", fix=fix) from exc
    except (TypeError, ValueError) as exc:
        what = f"It does not say what it takes: {exc}"
        raise ToolDefinitionError(tool, what, fix="Wrap it in a function with annotations") from exc
    parameters = dict(signature.parameters)
    for name, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            what = f"Its parameter '{parameter}' cannot be passed by name"
            raise ToolDefinitionError(tool, what, fix="Give each argument a name and a type of its own")
        if parameter.annotation is parameter.empty:
            what = f"Its parameter {name!r} has no type"
            raise ToolDefinitionError(tool, what, fix=f"Annotate it, as {name}: str")
        if isinstance(parameter.default, FieldInfo):
            what = (
                f"The default of its parameter {name!r} is a pydantic Field, which a plain call would pass on"
            )
            fix = f"Write {name}: Annotated[the type, Field(...)], and a plain default"
            raise ToolDefinitionError(tool, what, fix=fix)
    return parameters, signature.return_annotation


def _arguments_model(
    tool: str, parameters: Mapping[str, inspect.Parameter], described: Mapping[str, str]
) -> type[BaseModel]:
    """Return a model with one field per parameter.

    The parameters' names are aliases, because a field may be called neither ``copy`` nor ``_x``.
    """
    fields: dict[str, Any] = {}
    for number, (name, parameter) in enumerate(parameters.items()):
        default = _REQUIRED if parameter.default is parameter.empty else parameter.default
        told: dict[str, Any] = {"description": described[name]} if described.get(name) else {}
        fields[f"argument_{number}"] = (parameter.annotation, Field(default, alias=name, **told))
    config = ConfigDict(extra="forbid", protected_namespaces=())
    try:
        model: type[BaseModel] = create_model(tool, __config__=config, **fields)
        model.model_json_schema(schema_generator=_Schema)
    except (PydanticUserError, TypeError) as exc:
        what = f"pydantic cannot check its parameters: {str(exc).partition(chr(10))[0]}"
        fix = "Use types that pydantic knows, such as int, str, list[...], or a model"
        raise ToolDefinitionError(tool, what, fix=fix) from exc
    return model


def _result_type(tool: str, returns: Any) -> TypeAdapter[Any] | None:
    """Return what checks results; None if there is nothing to check."""
    if returns in (inspect.Signature.empty, Any, None, ToolOutput):
        return None
    try:
        return TypeAdapter(returns)
    except PydanticUserError as exc:
        what = f"pydantic cannot check what it returns: {str(exc).partition(chr(10))[0]}"
        fix = "Use a type that pydantic knows, such as str, list[...], or a model"
        raise ToolDefinitionError(tool, what, fix=fix) from exc


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else detail["msg"]


def _nowhere() -> Any:
    from stageflow_tools.context import adapt_context

    return adapt_context(None)
