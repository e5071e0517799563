"""Suites that prove that somebody's part keeps the contract of its kind: to pass one is to be one.

A suite is a class of tests. A module of tests derives from it and says how the part is made; pytest does the rest.
``stageflow plugins check DIST`` runs the suites of an installed distribution.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports
from stageflow.extras import require_extra

if TYPE_CHECKING:
    from stageflow.testing.conformance.breaker import CircuitBreakerConformance
    from stageflow.testing.conformance.command import CommandConformance
    from stageflow.testing.conformance.executor import ExecutorConformance
    from stageflow.testing.conformance.interceptor import InterceptorConformance
    from stageflow.testing.conformance.plugin import PluginConformance
    from stageflow.testing.conformance.run_store import RunStoreConformance
    from stageflow.testing.conformance.settings import SettingsConformance
    from stageflow.testing.conformance.sink import EventSinkConformance
    from stageflow.testing.conformance.stage import StageConformance
    from stageflow.testing.conformance.suite import Suite
    from stageflow.testing.conformance.tool import ToolConformance

__all__ = [
    "CircuitBreakerConformance",
    "CommandConformance",
    "EventSinkConformance",
    "ExecutorConformance",
    "InterceptorConformance",
    "PluginConformance",
    "RunStoreConformance",
    "SettingsConformance",
    "StageConformance",
    "Suite",
    "ToolConformance",
]

require_extra(
    "testing", "pytest", feature="stageflow.testing.conformance"
)  # before a module below imports it

if "pytest" in sys.modules:
    from stageflow.testing.conformance.assertions import show_values

    show_values()

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "breaker": ("CircuitBreakerConformance",),
            "command": ("CommandConformance",),
            "executor": ("ExecutorConformance",),
            "interceptor": ("InterceptorConformance",),
            "plugin": ("PluginConformance",),
            "run_store": ("RunStoreConformance",),
            "settings": ("SettingsConformance",),
            "sink": ("EventSinkConformance",),
            "stage": ("StageConformance",),
            "suite": ("Suite",),
            "tool": ("ToolConformance",),
        },
    )
