"""``leak_check``: what a block of code leaves behind on the event loop."""

from __future__ import annotations

import asyncio
import sys
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, final

from stageflow.events import get_event_sink
from stageflow.testing.whereabouts import describe_task, whereabouts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

__all__ = ["Leak", "LeakWatch", "leak_check"]


@final
class Leak(NamedTuple):
    """One thing that was left behind.

    Attributes:
        kind: ``"task"``, ``"timer"``, ``"async generator"`` or ``"event sink"``.
        what: Which one, and where it waits.
    """

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


@final
class LeakWatch:
    """Knows what is alive on the running event loop now, and tells later what has come since.

    Watches Tasks, timers, async generators that were begun and not finished, and the current event sink. The timers
    are those of asyncio's own loops; of other loops' timers it knows nothing.

    ```python
    import asyncio

    from stageflow.testing import LeakWatch


    async def main():
        with LeakWatch() as watch:
            timer = asyncio.get_running_loop().call_later(60, print)
            print([leak.kind for leak in watch.found()])
            #> ['timer']
            timer.cancel()
            print(watch.found())
            #> []


    asyncio.run(main())
    ```
    """

    __slots__ = ("_generators", "_hooks", "_loop", "_sink", "_tasks", "_timers")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks = asyncio.all_tasks(self._loop)
        self._timers = {id(timer): timer for timer in _timers(self._loop)}
        self._sink = get_event_sink()
        self._generators: list[weakref.ref[AsyncGenerator[Any, Any]]] = []
        self._hooks: Any = None

    def __enter__(self) -> LeakWatch:
        self._hooks = hooks = sys.get_asyncgen_hooks()

        def begun(generator: AsyncGenerator[Any, Any]) -> None:
            self._generators.append(weakref.ref(generator))
            if hooks.firstiter is not None:
                hooks.firstiter(generator)

        sys.set_asyncgen_hooks(firstiter=begun)
        return self

    def __exit__(self, *_: object) -> None:
        sys.set_asyncgen_hooks(firstiter=self._hooks.firstiter)

    def found(self, *, ignore: Iterable[asyncio.Task[Any]] = ()) -> list[Leak]:
        """Return what has come since and is still there, at this very moment.

        Args:
            ignore: Tasks that may be there; the current one always may.
        """
        known = {*self._tasks, *ignore, asyncio.current_task(self._loop)}
        tasks = [task for task in asyncio.all_tasks(self._loop) if task not in known]
        leaks = [Leak("task", text) for text in sorted(map(describe_task, tasks))]
        leaks += [
            Leak("timer", f"{_called(timer)}, due in {timer.when() - self._loop.time():.3g} s")
            for timer in _timers(self._loop)
            if id(timer) not in self._timers
        ]
        for reference in self._generators:
            generator: Any = reference()
            if generator is not None and generator.ag_frame is not None and not generator.ag_running:
                name = generator.__qualname__.replace("<locals>.", "")
                leaks.append(Leak("async generator", f"{name}, at {whereabouts(generator)}"))
        sink = get_event_sink()
        if sink is not self._sink:
            leaks.append(Leak("event sink", f"{sink!r} is set, where {self._sink!r} was"))
        return leaks


@asynccontextmanager
async def leak_check() -> AsyncGenerator[LeakWatch]:
    """Assert that a block leaves nothing behind: no Task, no timer, no async generator, no event sink.

    It looks at the very moment in which the block ends; a run promises to have ended everything by then. If the
    block raises, what it has left behind is noted on that exception.

    Raises:
        AssertionError: Something was left behind.

    ```python
    import asyncio

    from stageflow.testing import leak_check


    async def careless():
        asyncio.create_task(asyncio.sleep(60), name="forgotten")
        await asyncio.sleep(0)


    async def main():
        try:
            async with leak_check():
                await careless()
        except AssertionError as error:
            print(str(error).partition(", at")[0])
            #> 2 things were left behind:
            #>   task: Task 'forgotten' of sleep


    asyncio.run(main())
    ```
    """
    with LeakWatch() as watch:
        try:
            yield watch
        except BaseException as exc:
            if leaks := watch.found():
                exc.add_note(_told(leaks))
            raise
        if leaks := watch.found():
            raise AssertionError(_told(leaks))


def _told(leaks: list[Leak]) -> str:
    head = "1 thing was" if len(leaks) == 1 else f"{len(leaks)} things were"
    return "\n".join([f"{head} left behind:", *(f"  {leak}" for leak in leaks)])


def _timers(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    scheduled: Iterable[asyncio.TimerHandle] = getattr(loop, "_scheduled", ())
    return [timer for timer in scheduled if not timer.cancelled()]


def _called(timer: asyncio.TimerHandle) -> str:
    callback: Callable[..., object] = getattr(timer, "_callback", print)
    function: Any = getattr(callback, "__func__", callback)
    return f"{getattr(function, '__qualname__', repr(callback)).replace('<locals>.', '')}()"
