"""Blocking work beside the event loop, with nothing left running behind."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function* in a thread that sees the caller's context variables, and return what it returns.

    A thread cannot be stopped, and nothing may outlive a run. So a cancelled call of a function that has begun waits
    for its end, and one that has not begun never begins. ``asyncio.to_thread`` does neither.

    Args:
        function: A plain function; for long work, let it ask ``ctx.raise_if_cancelled()`` now and then.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Raises:
        Exception: Whatever the function raises.
        RuntimeError: The function raised ``StopIteration``, which no coroutine may raise.

    ```python
    import asyncio

    from stageflow.executors import run_in_thread

    print(asyncio.run(run_in_thread(sorted, [3, 1, 2], reverse=True)))
    #> [3, 2, 1]
    ```
    """
    loop = asyncio.get_running_loop()
    call = partial(copy_context().run, function, *args, **kwargs)
    given_up = threading.Event()

    def body() -> T:
        if given_up.is_set():
            raise asyncio.CancelledError
        try:
            return call()
        except StopIteration as exc:
            # No future takes a StopIteration: Python 3.11 would wait for this one for ever.
            msg = f"{function!r} raised StopIteration"
            raise RuntimeError(msg) from exc

    future = loop.run_in_executor(None, body)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as exc:
            cancelled = exc
            given_up.set()
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # it is nobody's any more, and asyncio would complain
        raise cancelled
    return future.result()
