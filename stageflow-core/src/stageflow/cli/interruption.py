"""Ctrl-C and SIGTERM: the first cancels the run and lets it clean up, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

__all__ = ["INTERRUPTED", "Interruption"]

INTERRUPTED: Final = 130
"""The exit code of an interrupted program."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@final
class Interruption:
    """While entered, takes the signals that ask the process to stop.

    These are handlers of Python's and not of the event loop: they also run while a stage blocks the loop.

    Args:
        on_first: Called with the signal's name when the first one comes; from within a signal handler.
        on_second: Called before the second one ends the process.

    Attributes:
        name: The signal that came, or None.
    """

    def __init__(self, on_first: Callable[[str], None], on_second: Callable[[], None]) -> None:
        self.name: str | None = None
        self._on_second = on_second
        self._on_first = on_first
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # What the parent chose to ignore (nohup, a shell's background job) stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.name is not None:
            self._on_second()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.name = signal.Signals(number).name
        self._on_first(self.name)
