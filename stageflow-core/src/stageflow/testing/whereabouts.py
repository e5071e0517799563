"""Where a Task waits: the innermost of the coroutines that it awaits."""

from __future__ import annotations

from inspect import CORO_SUSPENDED, getcoroutinestate, iscoroutine
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from types import CodeType, FrameType

__all__ = ["describe_task", "innermost", "shown", "whereabouts"]

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
    return shown(innermost(awaitable))


def shown(place: tuple[CodeType, int] | None) -> str:
    """Return what ``innermost`` has found as text."""
    if place is None:
        return "nowhere"
    code, line = place
    name = getattr(code, "co_qualname", code.co_name).replace("<locals>.", "")
    return f"{name} ({'/'.join(PurePath(code.co_filename).parts[-_PARTS:])}:{line})"


def innermost(awaitable: Any) -> tuple[CodeType, int] | None:
    """Return the code and the line at which a suspended coroutine, generator or Task waits, if it does."""
    place: tuple[CodeType, int] | None = None
    of_task: Any = getattr(awaitable, "get_coro", None)
    current: Any = awaitable if of_task is None else of_task()
    while current is not None:
        frame: FrameType | None = _first(current, "cr_frame", "gi_frame", "ag_frame")
        if frame is None:
            break
        place = frame.f_code, frame.f_lineno
        current = _first(current, "cr_await", "gi_yieldfrom", "ag_await") or _stepped_by_hand(frame)
    return place


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
