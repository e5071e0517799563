"""``Suite``: what all suites have in common, and the time within which each of their tests has to end."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from contextvars import copy_context
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from stageflow.testing.clock import VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Suite", "bounded", "close"]

T = TypeVar("T")

_SHOWN: Final = 6  # frames of a thread that hangs


class Suite:
    """A class of tests that somebody's part has to pass; derive from one of its subclasses, never from itself.

    Attributes:
        contract: What the part is, in the words of contributions: ``"stage"``, ``"event sink"``.
        contribution: The name under which a plugin contributes the part. ``stageflow plugins check`` runs the class in
            the place of the plain suite that it would have made for that name.
        patience: How long one test may take before it counts as hanging, in seconds. It is no measure of speed.

    ```python
    from stageflow.testing.conformance import ExecutorConformance, Suite

    print(issubclass(ExecutorConformance, Suite), ExecutorConformance.contract)
    #> True executor
    ```
    """

    contract: ClassVar[str] = ""
    contribution: ClassVar[str] = ""
    patience: ClassVar[float] = 30.0

    def _bounded(self, call: Callable[[], T]) -> T:
        """Call something, and fail if it hangs."""
        return bounded(call, self.patience)

    def _drive(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on an event loop of its own, and fail if it hangs."""
        return self._bounded(lambda: asyncio.run(main()))

    def _drive_virtual(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do the same on a virtual clock, so that waits take no time."""

        def run() -> T:
            with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
                return runner.run(main())

        return self._bounded(run)


def bounded(call: Callable[[], T], patience: float) -> T:
    """Call something in a thread of its own, and return what it returns.

    A thread that hangs is left behind, as nothing can end it; that it is one is what the failure says.

    Args:
        call: What to call.
        patience: How long to wait for it, in seconds.

    Raises:
        AssertionError: It has not ended by then; the message shows where it is.

    ```python
    import threading

    from stageflow.testing.conformance.suite import bounded

    print(bounded(lambda: 6 * 7, patience=30))
    #> 42
    try:
        bounded(threading.Event().wait, patience=0.01)
    except AssertionError as error:
        print(str(error).partition(":")[0])
        #> It has not ended after 0.01 s
    ```
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as exc:  # noqa: BLE001 - raised below, also what pytest skips with
            errors.append(exc)

    thread = threading.Thread(target=copy_context().run, args=(work,), name="conformance", daemon=True)
    thread.start()
    thread.join(patience)
    if errors:
        raise errors[0]
    if results:
        return results[0]
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - published for debuggers
    place = "".join(traceback.format_stack(frame)[-_SHOWN:]) if frame is not None else ""
    msg = (
        f"It has not ended after {patience:g} s: it hangs, or it blocks its event loop. It is here:\n{place}"
    )
    raise AssertionError(msg)


async def close(part: object) -> None:
    """Close a part that can be closed: by ``aclose()``, or else by ``close()``, which may be async or not."""
    for name in ("aclose", "close"):
        method: Any = getattr(part, name, None)
        if callable(method):
            closing = method()
            if isawaitable(closing):
                await closing
            return
