"""Where a Task waits: the innermost of the coroutines that it awaits."""

from __future__ import annotations

import asyncio
from inspect import CORO_SUSPENDED, getcoroutinestate, iscoroutine
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["describe_task", "whereabouts"]

_PARTS = 3  # of a path that are shown


def whereabouts(awaitable: Any) -> str:
    """Say where a suspended coroutine, generator or Task waits, as ``function (file:line)``.

    ```python
    import asyncio

    from stageflow.testing.whereabouts import whereabouts


    async def sleeper():
        await asyncio.Event().wait()


    async def main():
        task = asyncio.create_task(sleeper())
        await asyncio.sleep(0)
        print(whereabouts(task).partition(" (")[0])
        #> Event.wait
        task.cancel()


    asyncio.run(main())
    ```
    """
    frame: FrameType | None = None
    current: Any = awaitable.get_coro() if isinstance(awaitable, asyncio.Future) else awaitable
    while current is not None:
        found = _first(current, "cr_frame", "gi_frame", "ag_frame")
        if found is None:
            break
        frame = found
        current = _first(current, "cr_await", "gi_yieldfrom", "ag_await") or _stepped_by_hand(found)
    if frame is None:
        return "nowhere"
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name).replace("<locals>.", "")
    return f"{name} ({'/'.join(PurePath(code.co_filename).parts[-_PARTS:])}:{frame.f_lineno})"


def describe_task(task: asyncio.Task[Any]) -> str:
    """Return a Task in one line: its name, its coroutine, and where it waits."""
    coro: Any = task.get_coro()
    name = getattr(coro, "__qualname__", type(coro).__name__).replace("<locals>.", "")
    return f"Task {task.get_name()!r} of {name}, at {whereabouts(task)}"


def _first(value: Any, *attributes: str) -> Any:
    return next(
        (found for name in attributes if (found := getattr(value, name, None)) is not None),
        None,
    )


def _stepped_by_hand(frame: FrameType) -> Any:
    """Return the coroutine that a frame drives by ``send``: nothing but its variables tells."""
    for value in tuple(frame.f_locals.values()):
        if iscoroutine(value) and getcoroutinestate(value) == CORO_SUSPENDED:
            return value
    return None
