"""Writing and hosting plugins.

A plugin is a light module that an entry point of the group ``stageflow`` names. It states the hook API it
was written for and implements some of the hooks of ``stageflow.plugins.hookspecs``::

    [project.entry-points.stageflow]
    acme = "stageflow_acme.plugin"

```python
from stageflow.plugins import PluginContext, StageContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages(context: PluginContext) -> list[StageContribution]:
    return [StageContribution(name=f"{context.plugin}.greet", target="acme.stages:Greet", kind="transform")]
```

Every name here is imported when it is first used, so that an author's one import costs neither pluggy nor
the reading of metadata, and a program that hosts nothing pays for nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stageflow.plugins.api_version import HOOK_API, OLDEST_HOOK_API
    from stageflow.plugins.context import PluginContext
    from stageflow.plugins.contributions import (
        CheckContribution,
        CommandContribution,
        Contribution,
        ExecutorContribution,
        InterceptorContribution,
        RunStoreContribution,
        SettingsContribution,
        SinkContribution,
        StageContribution,
        ToolContribution,
    )
    from stageflow.plugins.discovery import Candidate, discover
    from stageflow.plugins.host import PluginHost
    from stageflow.plugins.markers import hookimpl
    from stageflow.plugins.ordering import order_interceptors
    from stageflow.plugins.policy import PluginPolicy
    from stageflow.plugins.provenance import Provenance
    from stageflow.plugins.registry import Entry, Registry
    from stageflow.plugins.report import LoadReport, PluginState, PluginStatus

__all__ = [
    "HOOK_API",
    "OLDEST_HOOK_API",
    "Candidate",
    "CheckContribution",
    "CommandContribution",
    "Contribution",
    "Entry",
    "ExecutorContribution",
    "InterceptorContribution",
    "LoadReport",
    "PluginContext",
    "PluginHost",
    "PluginPolicy",
    "PluginState",
    "PluginStatus",
    "Provenance",
    "Registry",
    "RunStoreContribution",
    "SettingsContribution",
    "SinkContribution",
    "StageContribution",
    "ToolContribution",
    "discover",
    "hookimpl",
    "order_interceptors",
]

_MODULES = {
    "api_version": ("HOOK_API", "OLDEST_HOOK_API"),
    "context": ("PluginContext",),
    "contributions": (
        "CheckContribution",
        "CommandContribution",
        "Contribution",
        "ExecutorContribution",
        "InterceptorContribution",
        "RunStoreContribution",
        "SettingsContribution",
        "SinkContribution",
        "StageContribution",
        "ToolContribution",
    ),
    "discovery": ("Candidate", "discover"),
    "host": ("PluginHost",),
    "markers": ("hookimpl",),
    "ordering": ("order_interceptors",),
    "policy": ("PluginPolicy",),
    "provenance": ("Provenance",),
    "registry": ("Entry", "Registry"),
    "report": ("LoadReport", "PluginState", "PluginStatus"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
