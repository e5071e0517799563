"""``BlockingWatch``: what would hold up the event loop, seen by what Python says of itself."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

__all__ = ["BlockingWatch"]

_HARMLESS: Final = ("asyncio.unix_events", "asyncio.windows_events", "asyncio.base_subprocess")
"""The modules that start processes and connect for whoever awaits it."""

_SAID: Final = {
    "os.system": "os.system(...)",
    "socket.getaddrinfo": "socket.getaddrinfo(...), which asks the network for a name",
    "subprocess.Popen": "subprocess, of which nobody awaits anything",
    "urllib.Request": "urllib.request, which waits for the answer",
}
"""The audit events that tell of a wait, and what to say of them."""


@final
class BlockingWatch:
    """Notes which calls block the thread that enters it; other threads may block as they like.

    Known are ``time.sleep``, sockets that wait, look-ups of names, child processes and ``urllib``, whichever library
    calls them. What only computes for long is not noticed, nor a lock that somebody else holds.

    Attributes:
        calls: What blocked, in order, with the line that did it.

    ```python
    import time

    from stageflow.testing.conformance.blocking import BlockingWatch

    with BlockingWatch() as watch:
        time.sleep(0)
    print(watch.calls[0].partition(" at ")[0])
    #> time.sleep(0)
    ```
    """

    __slots__ = ("_sleep", "_thread", "calls")

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._thread = 0
        self._sleep = time.sleep

    def __enter__(self) -> Self:
        _listen()
        self._thread = threading.get_ident()
        self._sleep = original = time.sleep

        def sleep(seconds: Any, /) -> None:
            self._note(f"time.sleep({seconds})")
            original(seconds)

        # Python says so itself only since 3.13.
        time.sleep = sleep
        _watches.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watches.remove(self)
        time.sleep = self._sleep

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Note an audit event that tells of a wait."""
        if event == "socket.connect":
            if args[0].gettimeout() != 0:
                self._note(f"connect({args[1]!r}) of a socket that waits")
        elif event in _SAID and not _is_awaited(sys._getframe(2)):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as inspect does
            self._note(_SAID[event])

    def _note(self, what: str) -> None:
        if threading.get_ident() == self._thread:
            self.calls.append(f"{what} at {_place(sys._getframe(2))}")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above


_watches: list[BlockingWatch] = []
_listening: list[bool] = []


def _listen() -> None:
    """Let the interpreter tell us; for as long as it lives, as there is no way to take that back."""
    if not _listening:
        _listening.append(True)
        sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    for watch in _watches:
        watch.hear(event, args)


def _is_awaited(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _HARMLESS:
            return True
        frame = frame.f_back
    return False


def _place(frame: FrameType | None) -> str:
    """Return the innermost line outside the standard library and outside this kit."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name != __name__ and name.partition(".")[0] not in sys.stdlib_module_names:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"
        frame = frame.f_back
    return "a place that nobody knows"
