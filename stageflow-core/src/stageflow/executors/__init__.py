"""Where the body of a stage runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.executors.inline import InlineExecutor

__all__ = [
    "InlineExecutor",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "inline": ("InlineExecutor",),
        },
    )
