"""What can be wrong with a tool or a call of one.

Drawn by who has to act, as the core's tree is::

    ConfigurationError
    ├── FunctionDefinitionError    (also a TypeError) a function cannot be a tool as it is written
    ├── FunctionNotFoundError      (also a KeyError) no tool has that name
    └── ToolCallConfigError        (also a ValueError) the config of a ``tools.call`` stage makes no sense
    RunError
    └── FunctionArgumentsError     (also a ValueError) the arguments of a call do not fit

What a tool itself raises is not wrapped: the stage fails with it, and a note says which tool it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.errors import ConfigurationError, RunError, close_matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "FunctionArgumentsError",
    "FunctionDefinitionError",
    "FunctionNotFoundError",
    "ToolCallConfigError",
]


class FunctionDefinitionError(ConfigurationError, TypeError):
    """A function cannot be a tool as it is written.

    Args:
        tool: The name it should get.
        what: What is wrong with it.
        fix: What to do.
    """

    code = "SF-TOOLS-DEFINITION"

    def __init__(self, tool: str, what: str, *, fix: str) -> None:
        self.tool = tool
        super().__init__(what, where=f"tool {tool!r}", fix=fix)


class FunctionNotFoundError(ConfigurationError, KeyError):
    """No tool has that name.

    Args:
        tool: The name that was asked for.
        known: The names that there are.

    ```python
    from stageflow_tools import FunctionNotFoundError

    error = FunctionNotFoundError("ad", ["add"])
    print(error.what, error.fix)
    #> No tool is named 'ad' Did you mean 'add'?
    ```
    """

    code = "SF-TOOLS-NOT-FOUND"

    def __init__(self, tool: str, known: Iterable[str] = ()) -> None:
        self.tool = tool
        self.known = tuple(known)
        fix = f"Use one of {', '.join(map(repr, self.known))}" if self.known else "Register it first"
        super().__init__(f"No tool is named {tool!r}", fix=close_matches(tool, self.known) or fix)


class ToolCallConfigError(ConfigurationError, ValueError):
    """The config of a ``tools.call`` stage makes no sense.

    Args:
        option: The option that is wrong.
        problem: What is wrong with it.
        fix: What to do.
    """

    code = "SF-TOOLS-CONFIG"

    def __init__(self, option: str, problem: str, *, fix: str) -> None:
        self.option = option
        super().__init__(f"{option!r} of a tools.call stage {problem}", fix=fix)


class FunctionArgumentsError(RunError, ValueError):
    """The arguments of a call do not fit the tool; nothing was called.

    Args:
        tool: The tool.
        problems: What is wrong, by argument; what is inside one is written as ``items.0.name``.

    ```python
    from stageflow_tools import FunctionArgumentsError

    print(FunctionArgumentsError("add", {"b": "it is missing"}).what)
    #> The arguments of tool 'add' do not fit: 'b': it is missing
    ```
    """

    code = "SF-TOOLS-ARGUMENTS"

    def __init__(self, tool: str, problems: Mapping[str, str]) -> None:
        self.tool = tool
        self.problems = dict(problems)
        listed = "; ".join(f"{argument!r}: {problem}" for argument, problem in self.problems.items())
        super().__init__(
            f"The arguments of tool {tool!r} do not fit: {listed}",
            where=f"tool {tool!r}",
            fix="Pass what the tool's signature asks for; its input_schema says it as JSON Schema",
        )
