"""The core's own plugin: what Stageflow brings itself, contributed through the hooks that everybody uses."""

from __future__ import annotations

from stageflow.plugins.api_version import HOOK_API
from stageflow.plugins.contributions import (
    CommandContribution,
    ExecutorContribution,
    InterceptorContribution,
    SinkContribution,
)
from stageflow.plugins.markers import hookimpl

__all__ = [
    "stageflow_api_version",
    "stageflow_commands",
    "stageflow_executors",
    "stageflow_interceptors",
    "stageflow_sinks",
]

stageflow_api_version = HOOK_API


@hookimpl
def stageflow_interceptors() -> list[InterceptorContribution]:
    """Contribute the interceptors that every chain has unless somebody spells it out."""
    return [
        InterceptorContribution(
            name="timeout",
            target="stageflow.interceptors.timeout:TimeoutInterceptor",
            priority=5,
            default=True,
        ),
        InterceptorContribution(
            name="logging",
            target="stageflow.interceptors.logging:LoggingInterceptor",
            priority=50,
            default=True,
        ),
    ]


@hookimpl
def stageflow_sinks() -> list[SinkContribution]:
    """Contribute the sinks that need nothing else."""
    return [
        SinkContribution(name="noop", target="stageflow.events.sink:NoOpEventSink"),
        SinkContribution(name="logging", target="stageflow.events.sink:LoggingEventSink"),
    ]


@hookimpl
def stageflow_executors() -> list[ExecutorContribution]:
    """Contribute the executor that stages run in unless they name another."""
    return [ExecutorContribution(name="inline", target="stageflow.executors.inline:InlineExecutor")]


@hookimpl
def stageflow_commands() -> list[CommandContribution]:
    """Contribute the commands of the ``stageflow`` program."""
    return [
        CommandContribution(name=name, target=f"stageflow.cli.{name}:command", summary=summary)
        for name, summary in (
            ("run", "Run a pipeline and show its progress, answer and timeline."),
            ("graph", "Draw a pipeline as a tree, Mermaid, DOT or SVG."),
            ("lint", "Check pipelines without running them."),
            ("plugins", "List the installed plugins, and say where a name comes from."),
            ("doctor", "Check the installation and say what to repair."),
        )
    ]
