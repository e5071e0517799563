"""The run, as a stage sees it from another process: what is only read has crossed over, the rest is asked for."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from stageflow.errors import ConfigurationError, shown
from stageflow.executors.frames import Op
from stageflow.executors.unpicklable import pickled
from stageflow.stages.inputs import StageInputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
    from uuid import UUID

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.executors.crossing import Crossing
    from stageflow.stages.context import StageContext
    from stageflow.stages.timer import PipelineTimer

__all__ = ["Asked", "FarBreaker", "FarScope", "FarSink", "Line"]

_logger = logging.getLogger("stageflow.executors")


class Asked(Protocol):
    """Takes what came of a question."""

    def __call__(self, *, ok: bool, value: Any) -> object:
        """Take it: a value, or an exception to raise."""
        ...


@final
class Line:
    """The line of one call to the process in which its run is.

    Args:
        call: The call's number.
        send: Sends a frame; may be called from any thread.
        questions: Where the open questions of all calls are, by number.
    """

    def __init__(self, call: int, send: Callable[[Op, bytes], object], questions: dict[int, Asked]) -> None:
        self.call = call
        self.cancel_reason: str | None = None
        self._send = send
        self._open = questions

    def tell(self, op: Op, type: str, data: Mapping[str, Any], *more: str) -> None:  # noqa: A002 - an event's type
        """Send an event. Never raises: what does not pickle is replaced by a text that shows it."""
        try:
            body = pickled((self.call, type, dict(data), *more), {"data": data})
        except Exception:  # noqa: BLE001 - an event must not break a stage
            plain = {str(key): _plain(value) for key, value in dict(data).items()}
            body = pickled((self.call, str(type), plain, *more), {"data": plain})
        self._send(op, body)

    async def ask(self, what: str, **more: Any) -> Any:
        """Ask for something, and return the answer.

        Raises:
            Exception: Whatever is raised where the run is.
        """
        ok, value, cancelled = await self.answer(what, **more)
        if cancelled is not None:
            raise cancelled
        if ok:
            return value
        raise value

    async def answer(self, what: str, **more: Any) -> tuple[bool, Any, asyncio.CancelledError | None]:
        """Ask for something, and wait for the answer; when cancelled, until the other side has stopped."""
        loop = asyncio.get_running_loop()
        box: asyncio.Future[tuple[bool, Any]] = loop.create_future()
        number = self._asks(what, more, partial(_deliver, loop, box))
        cancelled: asyncio.CancelledError | None = None
        while not box.done():
            try:
                await asyncio.wait([box])
            except asyncio.CancelledError as exc:
                cancelled = exc
                self._send(Op.WITHDRAW, pickled((self.call, number), {}))
        return *box.result(), cancelled

    def ask_now(self, what: str, **more: Any) -> Any:
        """Ask for something that takes no time, and block until it is answered."""
        from queue import SimpleQueue

        answers: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

        def take(*, ok: bool, value: Any) -> None:
            answers.put((ok, value))

        self._asks(what, more, take)
        ok, value = answers.get()
        if ok:
            return value
        raise value

    def _asks(self, what: str, more: dict[str, Any], asked: Asked) -> int:
        number = next(_questions)
        body = pickled((self.call, number, what, more), more)
        self._open[number] = asked
        self._send(Op.ASK, body)
        return number


_questions = count(1)


def _deliver(
    loop: asyncio.AbstractEventLoop, box: asyncio.Future[tuple[bool, Any]], *, ok: bool, value: Any
) -> None:
    def put() -> None:
        if not box.done():
            box.set_result((ok, value))

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(put)


def _plain(value: object) -> object:
    try:
        pickled(value, {"": value})
    except Exception:  # noqa: BLE001 - see above
        return shown(value)
    return value


@final
class FarSink:
    """A sink of the process in which the run is.

    Args:
        line: The line to the run.
        which: ``"run"`` for the sink of the run, ``"current"`` for the one of runs that are given none.
    """

    __slots__ = ("_line", "_which")

    def __init__(self, line: Line, which: str) -> None:
        self._line = line
        self._which = which

    async def emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - published keyword
        """Deliver one event, waiting for room if need be."""
        await self._line.ask(f"{self._which}.emit", type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - as above
        """Deliver one event without waiting."""
        self._line.tell(Op.SINK, type, data or {}, self._which)


@final
class FarBreaker:
    """The circuit breaker that is current where the run is.

    Args:
        line: The line to the run.
    """

    __slots__ = ("_line",)

    def __init__(self, line: Line) -> None:
        self._line = line

    async def is_open(self, *, operation: str, provider: str) -> bool:
        """Say whether the call must not be made."""
        return bool(await self._line.ask("breaker.is_open", operation=operation, provider=provider))

    async def record_success(self, *, operation: str, provider: str) -> None:
        """A call went well."""
        await self._line.ask("breaker.record_success", operation=operation, provider=provider)

    async def record_failure(self, *, operation: str, provider: str, reason: str) -> None:
        """A call went wrong."""
        await self._line.ask("breaker.record_failure", operation=operation, provider=provider, reason=reason)


@final
class _FarCallLogger:
    """The run's logger of provider calls."""

    __slots__ = ("_line",)

    def __init__(self, line: Line) -> None:
        self._line = line

    async def log_call_start(
        self, *, operation: str, provider: str, model_id: str | None, **context: Any
    ) -> UUID:
        facts = {"operation": operation, "provider": provider, "model_id": model_id, **context}
        call_id: UUID = await self._line.ask("logger.log_call_start", facts=facts)
        return call_id

    async def log_call_end(
        self, call_id: UUID, *, success: bool, latency_ms: int, error: str | None = None, **metrics: Any
    ) -> None:
        facts = {"success": success, "latency_ms": latency_ms, "error": error, **metrics}
        await self._line.ask("logger.log_call_end", call_id=call_id, facts=facts)


@final
class _PortsLeftBehind:
    """What a stage finds as its ports if the run has some and the executor opens none."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        msg = f"The run's ports do not cross over to another process; a stage there asks for {shown(name)}"
        fix = "Let the executor open them over there: ProcessExecutor(ports='module:factory')"
        raise ConfigurationError(msg, fix=fix)


_LEFT_BEHIND: Final = _PortsLeftBehind()


@final
class FarScope:
    """A ``RunScope`` for a body in another process.

    Args:
        crossing: What has crossed over.
        line: The line to the run.
        ports: What was opened in this process.
        cleanups: Where cleanup callbacks are kept, by number, until the run ends.
    """

    def __init__(
        self,
        crossing: Crossing,
        line: Line,
        ports: Any,
        cleanups: dict[int, tuple[Context, Callable[[], Awaitable[None]]]],
    ) -> None:
        self.snapshot: ContextSnapshot = crossing.snapshot
        self.pipeline = crossing.pipeline
        self.depth = crossing.depth
        self.timer: PipelineTimer = crossing.timer
        self.data: dict[str, Any] = crossing.data
        self.event_sink = FarSink(line, "run") if crossing.sink else None
        self.provider_call_logger = _FarCallLogger(line) if crossing.logger else None
        self.listening = crossing.listening
        self._line = line
        self._cleanups = cleanups
        if ports is None and crossing.ports:
            ports = _LEFT_BEHIND
        self._inputs = StageInputs(
            crossing.snapshot, crossing.inputs, ports, crossing.declared, crossing.stage, crossing.strict
        )

    @property
    def cancel_reason(self) -> str | None:
        """Why the run is being cancelled, or None while it is not."""
        return self._line.cancel_reason

    def inputs_of(self, stage: str) -> StageInputs:
        """Return what the stage may read."""
        return self._inputs

    def facts(self, stage: StageContext, started_ns: int) -> Sequence[MutableMapping[str, Any]]:
        """Return nothing: interceptors are where the run is."""
        return ()

    def emit(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002 - the event's type
        """Emit an event of the run."""
        if self.listening:
            self._line.tell(Op.EVENT, type, data)

    def register_cleanup(self, callback: Callable[[], Awaitable[None]], name: str | None) -> None:
        """Call *callback* in this process when the run ends."""
        number = next(_cleanup_numbers)
        self._cleanups[number] = copy_context(), callback
        try:
            called = name or str(getattr(callback, "__name__", None) or shown(callback))
            self._line.ask_now("register_cleanup", number=number, name=called)
        except BaseException:
            del self._cleanups[number]
            raise

    def waited(self, stage: str, attempt: int, part: str, started_ns: int, ended_ns: int) -> None:
        """Note what a stretch of the stage's time went to."""
        self._line.ask_now(
            "waited", stage=stage, attempt=attempt, part=part, started_ns=started_ns, ended_ns=ended_ns
        )

    async def publish(self, stage: str, attempt: int, chunk: object) -> bool:
        """Hand a chunk to whoever reads the stage's stream, and wait until there is room for it."""
        return bool(await self._line.ask("publish", stage=stage, attempt=attempt, chunk=chunk))

    def stream(self, stage: str, producer: str) -> AsyncIterator[object]:
        """Return what *stage* reads of the stream of *producer*."""
        number = next(_stream_numbers)
        self._line.ask_now("open_stream", number=number, stage=stage, producer=producer)
        return _FarStream(self._line, number)

    async def gate(self, stage: str, attempt: int) -> None:
        """Wait for the gates."""
        await self._line.ask("gate", stage=stage, attempt=attempt)

    def leave_receipt(self, stage: str, attempt: int, receipt: Mapping[str, Any]) -> None:
        """Leave a receipt by which the stage's effect can be undone."""
        self._line.ask_now("leave_receipt", stage=stage, attempt=attempt, receipt=dict(receipt))

    def has_receipt(self, stage: str, attempt: int) -> bool:
        """Say whether an attempt has left one."""
        return bool(self._line.ask_now("has_receipt", stage=stage, attempt=attempt))


_cleanup_numbers = count(1)
_stream_numbers = count(1)


@final
class _FarStream:
    """A stream that is read where the run is, one chunk per question.

    A chunk that comes for a reader who was cancelled meanwhile waits for the next to ask.
    """

    __slots__ = ("_kept", "_line", "_number")

    def __init__(self, line: Line, number: int) -> None:
        self._line = line
        self._number = number
        self._kept: list[object] = []

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        if self._kept:
            return self._kept.pop()
        ok, value, cancelled = await self._line.answer("next_chunk", number=self._number)
        if cancelled is not None:
            if ok:
                self._kept.append(value)
            raise cancelled
        if ok:
            return value
        raise value
