"""``Watchdog``: says which plugin keeps everybody waiting, while it still does."""

from __future__ import annotations

import logging
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["PATIENCE", "Watchdog"]

PATIENCE: Final = 5.0
"""For how many seconds a plugin may do something before that is worth a word."""

_logger = logging.getLogger("stageflow.plugins")


@final
class Watchdog:
    """Warns, from a thread of its own, of a step that takes long and may never end.

    A plugin that waits in its import for a lock, a licence server or a terminal stops the program without a
    trace. Nothing in Python can end it from outside but Ctrl-C; what can be done is to name it. Each step is
    warned about once, by the ``stageflow.plugins`` logger. The thread ends with the ``with`` block.

    Args:
        patience: For how long, in seconds, a step may go on silently; None for ``PATIENCE``.

    ```python
    from stageflow.plugins.watchdog import Watchdog

    with Watchdog(patience=60.0) as watchdog:
        watchdog.step("The example is still counting", fix="wait")
        total = sum(range(10))
    print(total)
    #> 45
    ```
    """

    __slots__ = ("_began", "_changed", "_ended", "_fix", "_patience", "_thread", "_what")

    def __init__(self, patience: float | None = None) -> None:
        self._patience = PATIENCE if patience is None else patience
        self._changed = Condition()
        self._what = self._fix = ""
        self._began = monotonic()
        self._ended = False
        self._thread = Thread(target=self._watch, name="stageflow-plugin-watchdog", daemon=True)

    def step(self, what: str, *, fix: str) -> None:
        """Begin a step.

        Args:
            what: What to say if it takes long, up to *"after 5 s"*.
            fix: What to do then.
        """
        with self._changed:
            self._what, self._fix, self._began = what, fix, monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._ended:
                left = self._began + self._patience - monotonic()
                if left > 0 or not self._what:
                    # A step that begins meanwhile is due later than the one waited for.
                    self._changed.wait(max(left, 0) or self._patience)
                    continue
                what, self._what = self._what, ""
                self._changed.release()  # a handler that is slow delays nobody
                try:
                    _logger.warning("%s after %g s. What to do: %s.", what, self._patience, self._fix)
                finally:
                    self._changed.acquire()
