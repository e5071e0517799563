"""``ThreadExecutor``: bodies of stages in threads, each with an event loop of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from contextlib import suppress
from functools import partial
from itertools import count
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self, final

from stageflow.context.checks import check_count, check_name
from stageflow.events.sink import NoOpEventSink, get_event_sink, set_event_sink
from stageflow.executors.loops import Visit, to_its_end
from stageflow.executors.places import Places
from stageflow.executors.thread_scope import ThreadScope
from stageflow.executors.worker_errors import WorkerStartError
from stageflow.observability.ambient import settle_step
from stageflow.stages.context import StageContext, context_of
from stageflow.stages.spec import StageSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ThreadExecutor"]

_OWNER = "ThreadExecutor"
_JOIN_S = 0.2
_number = count(1)


@final
class ThreadExecutor:
    """Runs the bodies of stages in threads, so that one that blocks holds up no other.

    A body is the same async function as on the run's own event loop, and is awaited on the loop of its thread. It sees
    the stage's context variables, and whatever its ``ctx`` does is handed over to the run.

    A stage that is cancelled, or over its time limit, is cancelled there and awaited. A thread cannot be stopped: a
    body that blocks without ever awaiting is waited for. ``ctx.raise_if_cancelled()`` in its loops ends it sooner, and
    ``ProcessExecutor`` ends anything.

    Threads are started when they are needed, up to ``max_workers``; further calls wait for one. They are kept for later
    calls until ``aclose()``. After that, the executor may be used again.

    Args:
        max_workers: How many bodies may run at once; by default four more than there are processors, at most 32.
        name: What to call it, also in the names of its threads.

    Raises:
        ArgumentTypeError: ``max_workers`` is no int.
        ArgumentValueError: It is less than 1.

    ```python
    import asyncio
    import time

    from stageflow import Pipeline, stage
    from stageflow.executors import ThreadExecutor

    threads = ThreadExecutor()


    @stage(executor=threads)
    async def resize() -> str:
        time.sleep(0.01)  # blocks its thread, and nothing else
        return "small"


    async def main():
        async with threads:
            results = await Pipeline.from_stages(resize).run()
        print(results.value(resize))


    asyncio.run(main())
    #> small
    ```
    """

    def __init__(self, max_workers: int | None = None, *, name: str = "thread") -> None:
        if max_workers is not None:
            check_count(_OWNER, "max_workers", max_workers, least=1)
        check_name(_OWNER, "name", name)
        self.name = name
        self.max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._places: Places[_WorkerThread] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._lock = threading.Lock()

    async def execute(self, body: Callable[[Any], Awaitable[object]], ctx: Any) -> object:
        """Run ``body(ctx)`` in a thread, and return what it returns.

        Raises:
            WorkerStartError: There is no thread, and none can be started.
            Exception: Whatever the body raises.
        """
        places = self._opened()
        asked_ns = monotonic_ns()
        worker = await places.take()
        taken_ns = monotonic_ns()
        if worker is None:
            worker = self._started(places)
        settle_step()
        there = _moved(ctx)
        visit = Visit(worker.loop, partial(_call, body, there), partial(places.give_back, worker))
        try:
            return await visit.result()
        finally:
            _tell(ctx, (asked_ns, taken_ns), visit)

    async def aclose(self) -> None:
        """Wait for the bodies that run, and end the threads. Cancel what should not be waited for before."""
        with self._lock:
            places, self._places = self._places, None
            finalizer, self._finalizer = self._finalizer, None
        if places is not None and finalizer is not None:
            finalizer.detach()
            await to_its_end(_close(places))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _opened(self) -> Places[_WorkerThread]:
        with self._lock:
            if self._places is None:
                self._places = Places(self.max_workers)
                self._finalizer = weakref.finalize(self, _abandon, self._places)
            return self._places

    def _started(self, places: Places[_WorkerThread]) -> _WorkerThread:
        try:
            worker = _WorkerThread(f"stageflow-{self.name}-{next(_number)}")
        except BaseException as exc:
            places.give_back(None)
            if isinstance(exc, (RuntimeError, OSError)):  # "can't start new thread"; no file descriptors
                raise WorkerStartError(self.name, f"{type(exc).__name__}: {exc}") from exc
            raise
        places.enrol(worker)
        return worker

    def __repr__(self) -> str:
        alive = 0 if self._places is None else len(self._places.workers)
        return f"<{_OWNER} {self.name!r}: {alive} of {self.max_workers} threads>"


@final
class _WorkerThread:
    """A thread with an event loop, which runs until it is stopped."""

    __slots__ = ("_ended", "_runner", "_stopping", "_thread", "loop")

    def __init__(self, name: str) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self._runner.get_loop()
        self._stopping = False
        self._ended: Callable[[], object] | None = None
        # A daemon: a body that blocks for ever must not keep the interpreter from exiting.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self.loop.close()  # it has never run, and another one runs here: Runner.close() would try to
            raise

    def _run(self) -> None:
        with suppress(SystemExit, KeyboardInterrupt), self._runner:
            while not self._stopping:
                # Out of a Task that a body has started beside itself; whoever awaits that gets it as well.
                with suppress(SystemExit, KeyboardInterrupt):
                    self.loop.run_forever()
        if self._ended is not None:
            self._ended()

    def stop(self, ended: Callable[[], object] | None = None) -> None:
        """End the thread; *ended* is called there as the last thing."""
        self._ended = ended
        self._stopping = True
        with suppress(RuntimeError):  # it is stopped already
            self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread, blocking."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)


async def _call(body: Callable[[Any], Awaitable[object]], ctx: Any) -> object:
    sink = get_event_sink()
    if isinstance(ctx, StageContext) and not isinstance(sink, NoOpEventSink):
        scope: Any = ctx.scope
        set_event_sink(scope.sink_of(sink))  # for runs that the body starts
    return await body(ctx)


def _moved(ctx: Any) -> Any:
    """Return a stage's context for use in another thread."""
    if not isinstance(ctx, StageContext):
        return ctx
    return context_of(ThreadScope(ctx.scope), StageSpec(ctx.stage_name, None, ctx.kind), ctx.attempt)


def _tell(ctx: Any, queued: tuple[int, int], visit: Visit[object]) -> None:
    """Tell the run what of the time was not the body's."""
    if not isinstance(ctx, StageContext):
        return
    waited = ctx.scope.waited
    now_ns = monotonic_ns()
    asked_ns, taken_ns = queued
    waited(ctx.stage_name, ctx.attempt, "queue", asked_ns, taken_ns)
    if visit.began_ns is None:
        waited(ctx.stage_name, ctx.attempt, "transport", taken_ns, now_ns)
    else:
        waited(ctx.stage_name, ctx.attempt, "transport", taken_ns, visit.began_ns)
        if visit.ended_ns:
            waited(ctx.stage_name, ctx.attempt, "transport", visit.ended_ns, now_ns)


async def _close(places: Places[_WorkerThread]) -> None:
    loop = asyncio.get_running_loop()
    workers = [worker for _ in range(places.count) if (worker := await places.take()) is not None]
    for worker in workers:
        ended = asyncio.Event()
        worker.stop(partial(_set_on, loop, ended))
        await ended.wait()
        worker.join()
        places.forget(worker)


def _set_on(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(event.set)


def _abandon(places: Places[_WorkerThread]) -> None:
    """Nobody has the executor any more, or the interpreter exits: end the threads that can be ended."""
    for worker in places.workers:
        worker.stop()
    for worker in places.workers:
        worker.join(_JOIN_S)
