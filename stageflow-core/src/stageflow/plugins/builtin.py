"""The core's own plugin: what Stageflow brings itself, contributed through the hooks that everybody uses."""

from __future__ import annotations

from stageflow.plugins.api_version import HOOK_API
from stageflow.plugins.contributions import (
    CommandContribution,
    ExecutorContribution,
    InterceptorContribution,
    SettingsContribution,
    SinkContribution,
)
from stageflow.plugins.markers import hookimpl
from stageflow.plugins.names import CORE_SECTIONS

__all__ = [
    "stageflow_api_version",
    "stageflow_commands",
    "stageflow_executors",
    "stageflow_interceptors",
    "stageflow_settings",
    "stageflow_sinks",
]

stageflow_api_version = HOOK_API


@hookimpl
def stageflow_interceptors() -> list[InterceptorContribution]:
    """Contribute the interceptors: by default those of ``get_default_interceptors()``, the others by name."""
    return [
        InterceptorContribution(
            name=name, target=f"stageflow.interceptors.{target}", priority=priority, default=default
        )
        for priority, name, target, default in (
            (4, "idempotency", "idempotency:IdempotencyInterceptor", True),
            (5, "timeout", "timeout:TimeoutInterceptor", True),
            (10, "circuit_breaker", "defaults:default_circuit_breaker", True),
            (10, "immutability_check", "hardening:ImmutabilityInterceptor", False),
            (15, "retry", "retry:RetryInterceptor", False),
            (20, "tracing", "tracing:TracingInterceptor", True),
            (40, "metrics", "metrics:MetricsInterceptor", True),
            (42, "context_size", "hardening:ContextSizeInterceptor", False),
            (45, "child_tracker_metrics", "defaults:default_child_tracker_metrics", True),
            (50, "logging", "logging:LoggingInterceptor", True),
        )
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
    """Contribute the executor that stages run in unless they name another, and the two others."""
    return [
        ExecutorContribution(name=name, target=f"stageflow.executors.{target}")
        for name, target in (
            ("inline", "inline:InlineExecutor"),
            ("thread", "thread_pool:ThreadExecutor"),
            ("process", "process:ProcessExecutor"),
        )
    ]


@hookimpl
def stageflow_settings() -> list[SettingsContribution]:
    """Contribute the sections of the core: plugins, interceptors and where events go."""
    return [
        SettingsContribution(
            section=section, model=f"stageflow.config.sections:{section.capitalize()}Settings"
        )
        for section in CORE_SECTIONS
    ]


@hookimpl
def stageflow_commands() -> list[CommandContribution]:
    """Contribute the commands of the ``stageflow`` program."""
    return [
        CommandContribution(name=name, target=f"stageflow.cli.{name}:command", summary=summary)
        for name, summary in (
            ("run", "Run a pipeline and show its progress, answer and timeline."),
            ("graph", "Draw a pipeline as a tree, Mermaid, DOT or SVG."),
            ("lint", "Check pipelines without running them."),
            ("plugins", "Write, list, check and switch off plugins."),
            ("config", "Show the configuration, and where each value comes from."),
            ("doctor", "Check the installation and say what to repair."),
        )
    ]
