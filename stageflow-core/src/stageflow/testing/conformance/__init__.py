"""Suites that prove that somebody's part keeps the contract of its kind: to pass one is to be one.

A suite is a class of tests. A test module derives from it and says how the part is made; pytest and pytest-asyncio do
the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.testing.conformance.executor import ExecutorConformance

__all__ = ["ExecutorConformance"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, {"executor": ("ExecutorConformance",)})
