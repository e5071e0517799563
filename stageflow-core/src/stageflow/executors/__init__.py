"""Where the body of a stage runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.executors.inline import InlineExecutor
    from stageflow.executors.thread import run_in_thread

__all__ = [
    "InlineExecutor",
    "run_in_thread",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "inline": ("InlineExecutor",),
            "thread": ("run_in_thread",),
        },
    )
