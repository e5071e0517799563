"""Tools that are safe as they are: a calculator that evaluates no code, and files of one folder.

```python
import asyncio

from stageflow_tools import ToolCall, ToolExecutor, ToolRegistry
from stageflow_tools.builtin import calculator

tools = ToolExecutor(registry=ToolRegistry(calculator))
print(asyncio.run(tools.execute(ToolCall("calculator", {"expression": "2 * (3 + 4)"}))).data)
#> {'result': 14}
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow_tools.builtin.calculator import calculator
    from stageflow_tools.builtin.folder import Folder

__all__ = ["Folder", "calculator"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, {"calculator": ("calculator",), "folder": ("Folder",)})
