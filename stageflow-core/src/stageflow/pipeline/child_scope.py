"""What is current: per event loop, or set for a context. Nothing is kept for the process."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, TypeVar, final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Current", "PerLoop"]

T = TypeVar("T")


@final
class PerLoop(Generic[T]):
    """One value per event loop, made when it is first asked for, and gone with the loop.

    Args:
        make: Makes the value.

    ```python
    import asyncio

    from stageflow.pipeline.child_scope import PerLoop

    lists = PerLoop(list)


    async def main():
        lists.get().append(1)
        return lists.get()


    print(asyncio.run(main()), asyncio.run(main()))
    #> [1] [1]
    ```
    """

    __slots__ = ("_make", "_values")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def get(self) -> T:
        """Return the value of the running loop.

        Raises:
            RuntimeError: No loop is running.
        """
        loop = asyncio.get_running_loop()
        value = self._values.get(loop)
        if value is None:
            value = self._values[loop] = self._make()
        return value

    def forget(self) -> None:
        """Drop the value of the running loop, if there is one."""
        self._values.pop(asyncio.get_running_loop(), None)


@final
class Current(Generic[T]):
    """The value that was set in this context, else the one of the running event loop.

    Where no loop runs, the first ``get`` sets a new one, so that loops started from there have it too.

    Args:
        name: The name of the context variable.
        make: Makes a value.

    ```python
    from stageflow.pipeline.child_scope import Current

    names = Current("names", list)
    names.set(["mine"])
    print(names.get())
    #> ['mine']
    names.clear()
    print(names.get())
    #> []
    ```
    """

    __slots__ = ("_chosen", "_make", "_of_loop")

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._chosen: ContextVar[T | None] = ContextVar(name, default=None)
        self._of_loop = PerLoop(make)
        self._make = make

    def get(self) -> T:
        """Return what is current."""
        chosen = self._chosen.get()
        if chosen is not None:
            return chosen
        try:
            return self._of_loop.get()
        except RuntimeError:  # no loop is running
            chosen = self._make()
            self._chosen.set(chosen)
            return chosen

    def set(self, value: T) -> None:
        """Make *value* current in this context and those copied from it."""
        self._chosen.set(value)

    def clear(self) -> None:
        """Drop what was set in this context, and what the running loop has."""
        self._chosen.set(None)
        try:
            self._of_loop.forget()
        except RuntimeError:  # no loop is running
            return
