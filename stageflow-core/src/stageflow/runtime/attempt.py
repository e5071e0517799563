"""``Attempt``: an attempt that has suspended, as the scheduler keeps it."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    import asyncio

__all__ = ["Attempt", "Interruption"]


class Interruption(Enum):
    """Why a stage was asked to stop."""

    STOPPED = auto()
    TIMED_OUT = auto()


@final
class Attempt:
    """An attempt that has suspended; one that never does needs no more than its context.

    Attributes:
        timeout: Its limit, in seconds.
        task: The Task that drives it.
        interrupted: Why it was asked to stop, if it was.
    """

    __slots__ = ("interrupted", "task", "timeout")

    def __init__(self, timeout: float | None, task: asyncio.Task[None]) -> None:
        self.timeout = timeout
        self.task = task
        self.interrupted: Interruption | None = None
