"""Describes pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.pipeline.builder import Pipeline

__all__ = [
    "Pipeline",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "builder": ("Pipeline",),
        },
    )
