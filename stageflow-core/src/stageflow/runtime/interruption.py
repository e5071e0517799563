"""``Interruption``: why a stage was asked to stop."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["Interruption"]


class Interruption(Enum):
    """Why a stage was asked to stop."""

    STOPPED = auto()
    TIMED_OUT = auto()
