"""Silence about plugins, for the commands that show what became of them."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stageflow.plugins.host import REPORTED

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["reported_once"]


@contextmanager
def reported_once() -> Generator[None]:
    """Let the host not log what its report says; that a plugin keeps everybody waiting is logged all the same."""
    logger = logging.getLogger("stageflow.plugins")
    logger.addFilter(_is_news)
    try:
        yield
    finally:
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not hasattr(record, REPORTED)
