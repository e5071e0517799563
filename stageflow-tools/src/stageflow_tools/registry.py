"""``ToolRegistry``: tools, by name and by action type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, final, overload

from stageflow.protocols import Tool

from stageflow_tools.definition import ToolDefinition
from stageflow_tools.errors import ToolConflictError, ToolDefinitionError, ToolNotFoundError

if TYPE_CHECKING:
    from stageflow.plugins import PluginHost

    from stageflow_tools.calls import ResolvedToolCall, UnresolvedToolCall
    from stageflow_tools.inputs import Action
    from stageflow_tools.output import ToolOutput

__all__ = ["ToolRegistry", "as_definition", "clear_tool_registry", "get_tool_registry", "register_tool"]

T = TypeVar("T")


@final
class ToolRegistry(Mapping[str, ToolDefinition]):
    """Tools, by name; and by the action types that actions name them by.

    A tool is a ``ToolDefinition``, a typed function, a class with a ``definition``, or anything with core's ``Tool``
    protocol. No name means two tools: the second one is refused.

    ```python
    import asyncio

    from stageflow_tools import ToolNotFoundError, ToolRegistry

    tools = ToolRegistry()


    @tools.register
    async def shout(text: str) -> str:
        '''Say it louder.'''
        return text.upper()


    print(asyncio.run(tools["shout"].call({"text": "hi"}, None)))
    #> {'result': 'HI'}
    try:
        tools["shot"]
    except ToolNotFoundError as error:
        print(error.fix)
    #> Did you mean 'shout'?
    ```
    """

    __slots__ = ("_action_types", "_factories", "_origins", "_tools")

    def __init__(self, *tools: object) -> None:
        self._tools: dict[str, ToolDefinition] = {}
        self._action_types: dict[str, ToolDefinition] = {}
        self._factories: dict[str, Callable[[], object]] = {}  # by action type, until they are needed
        self._origins: dict[str, str] = {}
        for one in tools:
            self.register(one)

    @overload
    def register(self, tool: T, /) -> T: ...

    @overload
    def register(self, tool: None = None, /, **options: Any) -> Callable[[T], T]: ...

    def register(self, tool: T | None = None, /, **options: Any) -> T | Callable[[T], T]:
        """Add a tool, and return it as it is; a decorator for functions, with or without parentheses.

        Args:
            tool: The tool; see the class.
            **options: For a function: what ``stageflow_tools.tool`` takes.

        Raises:
            ToolDefinitionError: It cannot be a tool.
            ToolConflictError: Its name, or its action type, is another tool's.

        ```python
        from stageflow_tools import ToolRegistry

        tools = ToolRegistry()


        @tools.register(name="text.length")
        def length(text: str) -> int:
            return len(text)


        print(list(tools), length("abc"))
        #> ['text.length'] 3
        ```
        """

        def add(one: T) -> T:
            definition = as_definition(one, **options)
            self._add(definition, f"tool {definition.name!r}")
            return one

        return add if tool is None else add(tool)

    def register_factory(self, action_type: str, factory: Callable[[], object]) -> None:
        """Add a tool that is made when it is first needed.

        Args:
            action_type: What actions name it by.
            factory: Makes it.

        Raises:
            ToolConflictError: The action type is another tool's.
        """
        if self.can_execute(action_type):
            raise ToolConflictError(action_type, action_type, f"tool {action_type!r}")
        self._factories[action_type] = factory

    def contribute(self, host: PluginHost) -> None:
        """Add the tools that plugins contribute, each under the name that its plugin gives it.

        Args:
            host: The plugins.

        Raises:
            ToolConflictError: Something here is called like one of them.
            LazyImportError: A plugin's tool cannot be imported.
            ToolDefinitionError: It is none.
        """
        for name, entry in host.tools().items():
            definition = as_definition(_made(entry.resolve()))
            if definition.name != name:
                from dataclasses import replace

                definition = replace(definition, name=name, action_type=name)
            self._add(definition, str(entry.provenance))

    def get_tool(self, name: str) -> ToolDefinition | None:
        """Return the tool of that name or action type; None if there is none."""
        if name in self._factories:
            self._make(name)
        return self._tools.get(name) or self._action_types.get(name)

    def can_execute(self, name: str) -> bool:
        """Say whether there is a tool of that name or action type."""
        return name in self._tools or name in self._action_types or name in self._factories

    def list_tools(self) -> list[ToolDefinition]:
        """Return every tool, those made that nobody has needed yet."""
        for action_type in list(self._factories):
            self.get_tool(action_type)
        return list(self._tools.values())

    def check_arguments(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *arguments* as the tool takes them.

        Raises:
            ToolNotFoundError: There is no such tool.
            ToolArgumentsError: They do not fit.
        """
        from stageflow_tools.arguments import checked

        return checked(self[name], arguments)

    def parse_and_resolve(
        self,
        tool_calls: object,
        *,
        id_field: str = "id",
        name_field: str = "name",
        arguments_field: str = "arguments",
        function_wrapper: str = "function",
    ) -> tuple[list[ResolvedToolCall], list[UnresolvedToolCall]]:
        """Find the tools of what a model wants to have called; see ``stageflow_tools.calls.parse_and_resolve``.

        Args:
            tool_calls: The calls, in the form of any of the usual providers.
            id_field: Where a call says its id.
            name_field: Where it names the tool.
            arguments_field: Where its arguments are.
            function_wrapper: Inside of what the two are, if they are.

        Returns:
            The calls that can be made, and those that cannot, each in their order.
        """
        from stageflow_tools.calls import parse_and_resolve

        return parse_and_resolve(
            tool_calls,
            self.get_tool,
            id_field=id_field,
            name_field=name_field,
            arguments_field=arguments_field,
            function_wrapper=function_wrapper,
            known=tuple(self),
        )

    def origin_of(self, name: str) -> str:
        """Say where a tool comes from: a plugin with its distribution and version, or this program.

        Raises:
            ToolNotFoundError: There is no such tool.
        """
        return self._origins[self[name].name]

    def describe(self) -> list[dict[str, Any]]:
        """Return what a language model is told: the name, description and ``input_schema`` of every tool."""
        return [
            {"name": one.name, "description": one.description, "input_schema": dict(one.input_schema)}
            for one in self.list_tools()
        ]

    async def execute(self, action: Action, ctx: object = None) -> ToolOutput:
        """Run the tool of an action with nothing around it but its checks; see ``ToolExecutor`` for all the rest.

        Args:
            action: What is to be done.
            ctx: Who wants it: an ``ExecutionContext``, a dict, or nothing.

        Returns:
            What it has come to; that nobody can do it, or does not take such arguments, is a failed output.
        """
        from stageflow_tools.arguments import checked
        from stageflow_tools.context import ToolContext, adapt_context
        from stageflow_tools.inputs import ToolInput
        from stageflow_tools.output import ToolOutput

        tool = self.get_tool(action.type)
        if tool is None:
            error = ToolNotFoundError(action.type, self)
            return ToolOutput.fail(f"{error.what}. {error.fix}")
        try:
            payload = checked(tool, action.payload)
        except ValueError as exc:
            return ToolOutput.fail(str(exc))
        execution = adapt_context(ctx)
        call = ToolInput(
            action.id,
            tool.name,
            payload,
            execution.execution_mode,
            execution.pipeline_run_id,
            execution.request_id,
            ToolContext(str(action.id), tool.name, execution),
        )
        return await tool.handler(call)

    def __getitem__(self, name: str) -> ToolDefinition:
        """Return the tool of that name or action type.

        Raises:
            ToolNotFoundError: There is none; also a ``KeyError``.
        """
        tool = self.get_tool(name)
        if tool is None:
            raise ToolNotFoundError(name, [*self._tools, *self._action_types, *self._factories])
        return tool

    def __contains__(self, name: object) -> bool:
        """Say whether there is a tool of that name or action type."""
        return isinstance(name, str) and self.can_execute(name)

    def __iter__(self) -> Iterator[str]:
        return iter([tool.name for tool in self.list_tools()])

    def __len__(self) -> int:
        return len(self._tools) + len(self._factories)

    def __repr__(self) -> str:
        return f"ToolRegistry({[*self._tools, *self._factories]})"

    def _make(self, action_type: str) -> None:
        factory = self._factories.pop(action_type)
        try:
            tool = as_definition(factory())
            _check_type(tool, action_type)
            self._add(tool, f"tool {tool.name!r}")
        except BaseException:
            self._factories[action_type] = factory
            raise

    def _add(self, tool: ToolDefinition, origin: str) -> None:
        for name in dict.fromkeys((tool.name, tool.action_type)):
            taken = self._tools.get(name) or self._action_types.get(name)
            if taken is not None or name in self._factories:
                by = self._origins[taken.name] if taken is not None else f"tool {name!r}"
                raise ToolConflictError(name, tool.name, by)
        self._tools[tool.name] = tool
        self._action_types[tool.action_type] = tool
        self._origins[tool.name] = origin


def as_definition(tool: object, **options: Any) -> ToolDefinition:
    """Return anything that is a tool as a ``ToolDefinition``.

    Args:
        tool: A definition, an object that has one, an object with core's ``Tool`` protocol, or a typed function.
        **options: For a function: what ``stageflow_tools.tool`` takes.

    Raises:
        ToolDefinitionError: It is none of those.
    """
    if isinstance(tool, ToolDefinition):
        return tool
    definition: object = getattr(tool, "definition", None)
    if isinstance(definition, ToolDefinition):
        return definition
    if inspect.isclass(tool):
        fix = "Register an object of the class"
        raise ToolDefinitionError(tool.__name__, "It is a class, and a tool is an object", fix=fix)
    if isinstance(tool, Tool):
        return _of_protocol(tool)
    if callable(tool):
        from stageflow_tools.function_tool import FunctionTool

        return FunctionTool(cast("Callable[..., Any]", tool), **options).definition
    what = f"{type(tool).__name__} is no tool"
    fix = "Pass a ToolDefinition, a typed function, or an object with name, description, input_schema, effect and call"
    raise ToolDefinitionError(str(getattr(tool, "name", tool)), what, fix=fix)


def _made(target: Any) -> object:
    """Return the tool that a plugin names: itself, an object of its class, or what its factory makes."""
    if not inspect.isclass(target) and (hasattr(target, "definition") or isinstance(target, Tool)):
        return cast("object", target)
    made: object = target()
    return made


def _check_type(tool: ToolDefinition, action_type: str) -> None:
    if tool.action_type != action_type:
        what = f"Its factory was registered for {action_type!r}, and made one for {tool.action_type!r}"
        raise ToolDefinitionError(tool.name, what, fix="Register it for the action type that it has")


def _of_protocol(tool: Tool) -> ToolDefinition:
    from stageflow_tools.output import as_tool_output

    async def handle(call: Any) -> ToolOutput:
        execution = None if call.context is None else call.context.execution
        return as_tool_output(await tool.call(call.payload, execution))

    return ToolDefinition(
        tool.name, tool.name, handle, tool.description, tool.input_schema, effect=tool.effect
    )


_registry: ToolRegistry | None = None


def get_tool_registry() -> ToolRegistry:
    """Return the registry of this process, for programs that want one; nothing else uses it by itself."""
    global _registry  # noqa: PLW0603 - the published interface
    if _registry is None:
        _registry = ToolRegistry()
    return _registry


def clear_tool_registry() -> None:
    """Let the next ``get_tool_registry`` return an empty one."""
    global _registry  # noqa: PLW0603 - as above
    _registry = None


def register_tool(tool: T, /) -> T:
    """Add a tool to the registry of this process, and return it; also a decorator."""
    return get_tool_registry().register(tool)
