"""The hook index: everything that a plugin can be asked for.

Every hook is sync, declarative and free of side effects: it is given the context, returns an iterable of
frozen records, and touches nothing. A hook is asked at most once per host, when its kind of contribution is
first needed; whatever is async lives in what the records name. An implementation may leave ``context`` out.

What goes wrong stays with the plugin: a hook that raises, or returns something else than documented,
contributes nothing, its plugin is reported as ``failed`` with hook, distribution, version and fix, and
everything else goes on. In strict mode (``STAGEFLOW_STRICT_PLUGINS=1``) it is raised instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
from stageflow.plugins.markers import hookspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.plugins.context import PluginContext

__all__ = [
    "HOOKS",
    "stageflow_commands",
    "stageflow_executors",
    "stageflow_interceptors",
    "stageflow_run_stores",
    "stageflow_settings",
    "stageflow_sinks",
    "stageflow_stages",
    "stageflow_tools",
]

# --- what pipelines are made of ----------------------------------------------------------------------


@hookspec
def stageflow_stages(context: PluginContext) -> Iterable[StageContribution]:
    """Contribute stages that pipelines can name.

    Called when a pipeline that names a stage by ``owner.name`` is built, and to list stages.

    Args:
        context: What the core tells the plugin.

    Returns:
        The stages; an empty iterable for none.

    If it raises or returns anything else, the plugin is ``failed``, and a pipeline that names one of its
    stages does not build, with an error that says why.

    ```python
    from stageflow.plugins import PluginContext, StageContribution, hookimpl


    @hookimpl
    def stageflow_stages(context: PluginContext) -> list[StageContribution]:
        return [StageContribution(name="acme.greet", target="acme.stages:Greet", kind="transform")]


    print(stageflow_stages(PluginContext(api_version=1, plugin="acme", core_version="2.0.0"))[0].name)
    #> acme.greet
    ```
    """
    raise NotImplementedError


@hookspec
def stageflow_interceptors(context: PluginContext) -> Iterable[InterceptorContribution]:
    """Contribute interceptors.

    Called when the app composes the chain around the stages. The chain is ordered by priority, then by
    ``before`` and ``after``; those with ``default=True`` are in every chain that nobody spelled out.

    Args:
        context: What the core tells the plugin.

    Returns:
        The interceptors; an empty iterable for none.

    If it raises or returns anything else, the plugin is ``failed`` and the chain has none of its
    interceptors. A circle of ``before`` and ``after`` is an error when the chain is composed.

    ```python
    from stageflow.plugins import InterceptorContribution, hookimpl


    @hookimpl
    def stageflow_interceptors() -> list[InterceptorContribution]:
        return [InterceptorContribution(name="acme.audit", target="acme.audit:Audit", priority=20, default=True)]


    print(stageflow_interceptors()[0].priority)
    #> 20
    ```
    """
    raise NotImplementedError


@hookspec
def stageflow_tools(context: PluginContext) -> Iterable[ToolContribution]:
    """Contribute tools.

    Called when a tool registry is filled.

    Args:
        context: What the core tells the plugin.

    Returns:
        The tools; an empty iterable for none.

    If it raises or returns anything else, the plugin is ``failed`` and none of its tools can be called.

    ```python
    from stageflow.plugins import ToolContribution, hookimpl


    @hookimpl
    def stageflow_tools() -> list[ToolContribution]:
        return [ToolContribution(name="acme.search", target="acme.tools:search", summary="Search Acme.")]


    print(stageflow_tools()[0].summary)
    #> Search Acme.
    ```
    """
    raise NotImplementedError


# --- what runs stand on ------------------------------------------------------------------------------


@hookspec
def stageflow_sinks(context: PluginContext) -> Iterable[SinkContribution]:
    """Contribute event sinks.

    Called when the app opens the sinks that its configuration names.

    Args:
        context: What the core tells the plugin.

    Returns:
        The sinks; an empty iterable for none.

    If it raises or returns anything else, the plugin is ``failed``, and an app that names one of its sinks
    does not start, with an error that says why.

    ```python
    from stageflow.plugins import SinkContribution, hookimpl


    @hookimpl
    def stageflow_sinks() -> list[SinkContribution]:
        return [SinkContribution(name="acme.kafka", target="acme.kafka:KafkaSink")]


    print(stageflow_sinks()[0].target)
    #> acme.kafka:KafkaSink
    ```
    """
    raise NotImplementedError


@hookspec
def stageflow_executors(context: PluginContext) -> Iterable[ExecutorContribution]:
    """Contribute executors.

    Called when a pipeline whose stage names an executor is built.

    Args:
        context: What the core tells the plugin.

    Returns:
        The executors; an empty iterable for none.

    If it raises or returns anything else, the plugin is ``failed``, and a pipeline that names one of its
    executors does not build, with an error that says why.

    ```python
    from stageflow.plugins import ExecutorContribution, hookimpl


    @hookimpl
    def stageflow_executors() -> list[ExecutorContribution]:
        return [ExecutorContribution(name="acme.gpu", target="acme.gpu:GpuExecutor")]


    print(stageflow_executors()[0].name)
    #> acme.gpu
    ```
    """
    raise NotImplementedError


@hookspec
def stageflow_run_stores(context: PluginContext) -> Iterable[RunStoreContribution]:
    """Contribute run stores.

    Called when the configuration names a store by URL; the scheme picks the store.

    Args:
        context: What the core tells the plugin.

    Returns:
        The stores; an empty iterable for none.

    If it raises or returns anything else, the plugin is ``failed``. If two plugins claim one scheme, both
    are refused and named, and an app that needs the scheme does not start.

    ```python
    from stageflow.plugins import RunStoreContribution, hookimpl


    @hookimpl
    def stageflow_run_stores() -> list[RunStoreContribution]:
        return [RunStoreContribution(scheme="acme", target="acme.store:open_store")]


    print(stageflow_run_stores()[0].scheme)
    #> acme
    ```
    """
    raise NotImplementedError


# --- what people see ---------------------------------------------------------------------------------


@hookspec
def stageflow_settings(context: PluginContext) -> Iterable[SettingsContribution]:
    """Contribute sections of the configuration.

    Called when the configuration is read.

    Args:
        context: What the core tells the plugin.

    Returns:
        The sections, each with its pydantic model; an empty iterable for none.

    If it raises or returns anything else, the plugin is ``failed`` and its sections are not read.

    ```python
    from stageflow.plugins import SettingsContribution, hookimpl


    @hookimpl
    def stageflow_settings() -> list[SettingsContribution]:
        return [SettingsContribution(section="acme", model="acme.settings:AcmeSettings")]


    print(stageflow_settings()[0].section)
    #> acme
    ```
    """
    raise NotImplementedError


@hookspec
def stageflow_commands(context: PluginContext) -> Iterable[CommandContribution | CheckContribution]:
    """Contribute commands of the ``stageflow`` program, and checks of ``stageflow doctor``.

    Called by ``stageflow --help-all``, for a command that is not the core's, and by ``doctor``. The target is
    imported only when the command or the check runs.

    Args:
        context: What the core tells the plugin.

    Returns:
        The commands and checks, in any order; an empty iterable for none.

    If it raises or returns anything else, the plugin is ``failed``; help and every other command work.

    ```python
    from stageflow.plugins import CheckContribution, CommandContribution, hookimpl


    @hookimpl
    def stageflow_commands() -> list[CommandContribution | CheckContribution]:
        return [
            CommandContribution(name="acme.sync", target="acme.cli:sync", summary="Copy runs to Acme."),
            CheckContribution(name="acme.reach", target="acme.checks:reach", summary="Is Acme reachable?"),
        ]


    print([record.key for record in stageflow_commands()])
    #> ['acme.sync', 'acme.reach']
    ```
    """
    raise NotImplementedError


HOOKS: Final[Mapping[str, tuple[type[Contribution], ...]]] = {
    "stageflow_commands": (CommandContribution, CheckContribution),
    "stageflow_executors": (ExecutorContribution,),
    "stageflow_interceptors": (InterceptorContribution,),
    "stageflow_run_stores": (RunStoreContribution,),
    "stageflow_settings": (SettingsContribution,),
    "stageflow_sinks": (SinkContribution,),
    "stageflow_stages": (StageContribution,),
    "stageflow_tools": (ToolContribution,),
}
"""Each hook with the records that it may return."""
