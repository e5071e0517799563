"""A virtual clock: an event loop whose time jumps to the next timer instead of passing."""

from __future__ import annotations

import asyncio
import selectors
from math import ulp
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack, final

from stageflow.testing.whereabouts import describe_task

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Executor

__all__ = ["StalledError", "VirtualClockLoop", "run_virtual"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_RESOLUTION = 1e-9  # of the clock that asyncio believes in


class StalledError(AssertionError):
    """Under a virtual clock, everything waits and nothing is set to happen: a test would hang here.

    Args:
        tasks: The Tasks that wait, described.

    ```python
    import asyncio

    from stageflow.testing import StalledError, run_virtual

    try:
        run_virtual(asyncio.Event().wait(), patience=0.01)
    except StalledError as error:
        print(str(error).partition(":")[0])
        #> Nothing is ready, no timer is set, and no thread, socket or process is at work
    ```
    """

    def __init__(self, tasks: list[str]) -> None:
        self.tasks = tasks
        head = "Nothing is ready, no timer is set, and no thread, socket or process is at work"
        super().__init__(f"{head}: this would wait for ever\n" + "\n".join(f"  {task}" for task in tasks))


@final
class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while something is ready, and jumps to the next timer when nothing is.

    So a time limit of 30 s or a wait between attempts takes no time, and what happens in which order depends on the
    program alone. ``loop.time()``, and with it ``asyncio.sleep``, ``asyncio.timeout``, ``call_later`` and every
    limit and wait of a run, are on this clock. ``time.monotonic()`` and ``time.time()`` are not: durations in events
    and results say what the machine really took, and whatever reads the clock by itself needs to be given another,
    as in ``InMemoryIdempotencyStore(clock=loop.time)``.

    While a thread (``asyncio.to_thread``), a socket or a pipe of the loop is open, time passes as on the wall, because
    nobody knows how long that takes. Of threads that were not started through the loop it knows nothing, and a child
    process counts only as long as a pipe to it is open: its end is reported by such a thread. Run what starts child
    processes on an ordinary loop.

    One thing in a run goes by the real clock: a lane that has run stages inline for more than a millisecond lets others
    have a turn. So on a slow machine stages that are ready at the same time may start in another order.

    Args:
        start: What ``time()`` says at first.
        patience: How long to wait, in real seconds, for somebody outside when everything waits and no timer is set.

    Attributes:
        jumps: How often time has jumped.
        before_jump: Called when time is about to jump; if it returns True, the loop has another look instead, as
            something may have become ready. Fault injection uses it.

    ```python
    import asyncio

    from stageflow.testing import VirtualClockLoop


    async def main():
        await asyncio.sleep(3600)
        print(asyncio.get_running_loop().time())


    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main())
        #> 3600.0
    ```
    """

    def __init__(self, *, start: float = 0.0, patience: float = 1.0) -> None:
        self._now = start
        self._at_work = 0
        self.patience = patience
        self.jumps = 0
        self.before_jump: Callable[[], bool] | None = None
        self._watched = _JumpingSelector(self)
        super().__init__(self._watched)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass at once; timers that come due by it fire in the next turn of the loop."""
        self._now += seconds

    @property
    def waits_for_the_world(self) -> bool:
        """Whether a thread is at work or a socket or pipe is open, so that time passes as on the wall."""
        return (
            self._at_work > 0 or len(self._watched.get_map()) > 1
        )  # one is the loop's own way of being woken

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call *func* in a thread; time passes as on the wall until it has ended."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._at_work += 1
        future.add_done_callback(self._work_done)
        return future

    def _work_done(self, _: asyncio.Future[Any]) -> None:
        self._at_work -= 1

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the threads, in real time: asyncio's own limit for it must not jump."""
        self._at_work += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._at_work -= 1


@final
class _JumpingSelector(selectors.BaseSelector):
    """What an event loop asks for I/O and lets wait for its next timer; this one lets the time jump instead."""

    def __init__(self, loop: VirtualClockLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what I/O is ready; *timeout* is the time to the next timer, 0 if something is ready, None without."""
        loop = self._loop
        events = self._real.select(0)
        if loop.time() + _RESOLUTION == loop.time():
            # So late that a float cannot tell a timer's time from the moment after it, for which asyncio looks.
            loop.advance(ulp(loop.time()))
        if events or (timeout is not None and timeout <= 0):
            return events
        if loop.waits_for_the_world:
            before = monotonic()
            events = self._real.select(timeout)
            loop.advance(monotonic() - before)
            return events
        if timeout is None:
            events = self._real.select(loop.patience)
            if not events:
                raise StalledError(sorted(map(describe_task, asyncio.all_tasks(loop))))
            return events
        if loop.before_jump is not None and loop.before_jump():
            return []
        loop.jumps += 1
        loop.advance(timeout)
        return []


def run_virtual(coro: Coroutine[Any, Any, T], *, patience: float = 1.0, debug: bool | None = None) -> T:
    """Run a coroutine like ``asyncio.run``, on a virtual clock.

    Args:
        coro: What to run.
        patience: See ``VirtualClockLoop``.
        debug: Whether asyncio runs in debug mode.

    Raises:
        StalledError: Everything waits, and nothing is set to happen.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.testing import HangingStage, run_virtual

    pipeline = Pipeline().with_stage("slow", HangingStage(), StageKind.WORK, timeout=30)
    results = run_virtual(pipeline.run(raise_errors=False))
    print(type(results.error.original).__name__)
    #> StageTimeoutError
    ```
    """
    with asyncio.Runner(loop_factory=lambda: VirtualClockLoop(patience=patience), debug=debug) as runner:
        return runner.run(coro)
