"""``Stepped``: a coroutine with somebody who is told of every suspension."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Self

__all__ = ["Stepped"]

T = TypeVar("T")


@final
class Stepped(Coroutine[Any, Any, T]):
    """Passes ``send``, ``throw`` and ``close`` on to a coroutine, and tells when it suspends and when it ends.

    It can be awaited, and a Task can be made of it.

    Args:
        coro: The coroutine.
        suspends: Called with what it waits for, at every suspension, before that reaches the event loop.
        ends: Called when it has returned or raised, before the event loop knows.

    ```python
    import asyncio

    from stageflow.testing.stepping import Stepped


    async def twice():
        await asyncio.sleep(0)
        await asyncio.sleep(0)


    suspensions = []
    asyncio.run(Stepped(twice(), suspensions.append))
    print(len(suspensions))
    #> 2
    ```
    """

    __slots__ = ("__name__", "__qualname__", "__weakref__", "_coro", "_ends", "_suspends")

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        suspends: Callable[[object], object],
        ends: Callable[[], object] | None = None,
    ) -> None:
        self._coro = coro
        self._suspends = suspends
        self._ends = ends
        self.__name__: str = getattr(coro, "__name__", type(coro).__name__)
        self.__qualname__: str = getattr(coro, "__qualname__", self.__name__)

    def send(self, value: Any, /) -> Any:
        """Go on with *value*."""
        return self._told(self._coro.send, value)

    def throw(self, kind: Any, value: Any = None, trace: Any = None, /) -> Any:
        """Go on with an exception."""
        if value is None and trace is None:  # the long form warns since Python 3.12
            return self._told(self._coro.throw, kind)
        return self._told(self._coro.throw, kind, value, trace)

    def close(self) -> None:
        """End it."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return cast("Generator[Any, Any, T]", self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def _told(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            waiting = step(*args)
        except BaseException:
            if self._ends is not None:
                self._ends()
            raise
        self._suspends(waiting)
        return waiting

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cr_"):  # what asyncio and inspect ask of a coroutine, for reports
            return getattr(self._coro, name)
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"<Stepped {self.__qualname__}>"
