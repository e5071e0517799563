"""Tools for Stageflow: typed functions that a pipeline can call.

```python
import asyncio

from stageflow_tools import ToolFunctions

functions = ToolFunctions()


@functions.register
def add(a: int, b: int = 1) -> int:
    return a + b


print(asyncio.run(functions.call("add", {"a": 41})))
#> 42
```

Names are imported when they are first used: ``import stageflow_tools`` alone costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stageflow_tools.call import ToolCallStage
    from stageflow_tools.errors import (
        FunctionArgumentsError,
        FunctionDefinitionError,
        FunctionNotFoundError,
        ToolCallConfigError,
    )
    from stageflow_tools.functions import ToolFunction, ToolFunctions

__all__ = [
    "FunctionArgumentsError",
    "FunctionDefinitionError",
    "FunctionNotFoundError",
    "ToolCallConfigError",
    "ToolCallStage",
    "ToolFunction",
    "ToolFunctions",
]

_HOMES = {
    "call": ("ToolCallStage",),
    "errors": (
        "FunctionArgumentsError",
        "FunctionDefinitionError",
        "FunctionNotFoundError",
        "ToolCallConfigError",
    ),
    "functions": ("ToolFunction", "ToolFunctions"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first used (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
