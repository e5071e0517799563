"""The run, as a stage sees it from another thread: what must happen on the run's event loop is handed over to it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

from stageflow.executors.loops import await_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.protocols import EventSink, ProviderCallLogger
    from stageflow.stages.context import RunScope, StageContext
    from stageflow.stages.inputs import StageInputs
    from stageflow.stages.timer import PipelineTimer

__all__ = ["ThreadScope", "ThreadSink"]

T = TypeVar("T")


@final
class _Home:
    """The event loop of the run, seen from other threads."""

    __slots__ = ("_ident", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()

    def tell(self, function: Callable[[], object]) -> None:
        """Call *function* there; what is told first is called first."""
        if threading.get_ident() == self._ident:
            function()
            return
        with suppress(RuntimeError):  # the loop is closed: nobody is left who would listen
            self.loop.call_soon_threadsafe(function)

    def ask(self, function: Callable[[], T]) -> T:
        """Call *function* there, and wait for what it returns; this thread is blocked meanwhile."""
        if threading.get_ident() == self._ident:
            return function()
        from concurrent.futures import Future

        answer: Future[T] = Future()

        def call() -> None:
            try:
                answer.set_result(function())
            except BaseException as exc:  # noqa: BLE001 - it is the asking thread's
                answer.set_exception(exc)

        self.loop.call_soon_threadsafe(call)
        return answer.result()


@final
class ThreadSink:
    """An event sink for other threads than the one of its event loop.

    Args:
        sink: The sink.
        home: The event loop that it belongs to.
    """

    __slots__ = ("_home", "_sink")

    def __init__(self, sink: EventSink, home: _Home) -> None:
        self._sink = sink
        self._home = home

    async def emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Deliver one event, waiting for room if need be."""
        await await_on(self._home.loop, partial(self._sink.emit, type=type, data=data))

    def try_emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - as above
        """Deliver one event without waiting."""
        self._home.tell(partial(self._sink.try_emit, type=type, data=data))


@final
class ThreadScope:
    """A ``RunScope`` for the body of a stage that runs in another thread.

    What is only read is read where it is. Events, cleanup callbacks, receipts, streams and gates are the business of
    the run's event loop: they are handed over, in order.

    Args:
        scope: The run.
    """

    __slots__ = ("_home", "_scope")

    def __init__(self, scope: RunScope) -> None:
        self._scope = scope
        self._home = _Home()

    @property
    def snapshot(self) -> ContextSnapshot:
        """What the run was started with."""
        return self._scope.snapshot

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        return self._scope.pipeline

    @property
    def depth(self) -> int:
        """How many runs there are above this one."""
        return self._scope.depth

    @property
    def timer(self) -> PipelineTimer:
        """The run's clock."""
        return self._scope.timer

    @property
    def event_sink(self) -> EventSink | None:
        """The sink that the run was given."""
        return self.sink_of(self._scope.event_sink)

    @property
    def data(self) -> dict[str, Any]:
        """What the caller handed to interceptors."""
        return self._scope.data

    @property
    def cancel_reason(self) -> str | None:
        """Why the run is being cancelled, or None while it is not."""
        return self._scope.cancel_reason

    @property
    def provider_call_logger(self) -> ProviderCallLogger | None:
        """Who is told of the calls that stages make to providers."""
        logger = self._scope.provider_call_logger
        return None if logger is None else _ThreadCallLogger(logger, self._home)

    def sink_of(self, sink: EventSink | None) -> EventSink | None:
        """Return *sink* for other threads."""
        return sink if sink is None or isinstance(sink, ThreadSink) else ThreadSink(sink, self._home)

    def inputs_of(self, stage: str) -> StageInputs:
        """Return what *stage* may read."""
        return self._scope.inputs_of(stage)

    def facts(self, stage: StageContext, started_ns: int) -> Sequence[MutableMapping[str, Any]]:
        """Return what interceptors know of an attempt."""
        return self._scope.facts(stage, started_ns)

    def emit(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002 - the event's type
        """Emit an event of the run."""
        self._home.tell(partial(self._scope.emit, type, data))

    def register_cleanup(self, callback: Callable[[], Awaitable[None]], name: str | None) -> None:
        """Call *callback* when the run ends, on the event loop on which it was registered, if there is one.

        A callback may use what belongs to that loop, such as connections.
        """
        called = name or getattr(callback, "__name__", None)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            there = callback
        else:
            there = partial(await_on, loop, callback)
        self._home.ask(partial(self._scope.register_cleanup, there, called))

    def waited(self, stage: str, attempt: int, part: str, started_ns: int, ended_ns: int) -> None:
        """Note what a stretch of the stage's time went to."""
        self._home.tell(partial(self._scope.waited, stage, attempt, part, started_ns, ended_ns))

    async def publish(self, stage: str, attempt: int, chunk: object) -> bool:
        """Hand a chunk to whoever reads the stage's stream."""
        return await await_on(self._home.loop, partial(self._scope.publish, stage, attempt, chunk))

    def stream(self, stage: str, producer: str) -> AsyncIterator[object]:
        """Return what *stage* reads of the stream of *producer*."""
        return _ThreadStream(self._home.ask(partial(self._scope.stream, stage, producer)), self._home)

    async def gate(self, stage: str, attempt: int) -> None:
        """Wait for the gates."""
        await await_on(self._home.loop, partial(self._scope.gate, stage, attempt))

    def leave_receipt(self, stage: str, attempt: int, receipt: Mapping[str, Any]) -> None:
        """Leave a receipt by which the stage's effect can be undone."""
        self._home.ask(partial(self._scope.leave_receipt, stage, attempt, receipt))

    def has_receipt(self, stage: str, attempt: int) -> bool:
        """Say whether an attempt has left one."""
        return self._home.ask(partial(self._scope.has_receipt, stage, attempt))


@final
class _ThreadStream:
    """A stream whose chunks are fetched from the run's event loop, one by one.

    A chunk that has been fetched for a reader who was cancelled meanwhile waits for the next to ask.
    """

    __slots__ = ("_fetched", "_home", "_source")

    def __init__(self, source: AsyncIterator[object], home: _Home) -> None:
        self._source = source
        self._home = home
        self._fetched: list[object] = []

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        if not self._fetched:
            await await_on(self._home.loop, self._fetch)
        return self._fetched.pop()

    async def _fetch(self) -> None:
        self._fetched.append(await anext(self._source))


@final
class _ThreadCallLogger:
    """Tells the run's logger of provider calls, on the run's event loop."""

    __slots__ = ("_home", "_logger")

    def __init__(self, logger: ProviderCallLogger, home: _Home) -> None:
        self._logger = logger
        self._home = home

    async def log_call_start(self, **facts: Any) -> Any:
        return await await_on(self._home.loop, partial(self._logger.log_call_start, **facts))

    async def log_call_end(self, call_id: Any, **facts: Any) -> None:
        await await_on(self._home.loop, partial(self._logger.log_call_end, call_id, **facts))
