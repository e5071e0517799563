"""``PluginContext``: what a hook is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["PluginContext"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PluginContext:
    """The one argument of every hook: read-only, and free to grow attributes.

    An implementation that needs none of it may leave the argument out.

    ```python
    from stageflow.plugins import PluginContext

    context = PluginContext(api_version=1, plugin="acme", core_version="2.0.0a1")
    print(context.plugin)
    #> acme
    ```
    """

    api_version: int
    """The hook API that the core speaks."""

    plugin: str
    """The name that the plugin is installed under; what it contributes is named ``<plugin>.<thing>``."""

    core_version: str
    """The version of ``stageflow-core``."""
