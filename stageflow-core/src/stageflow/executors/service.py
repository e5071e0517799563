"""What a run does for a stage of its own that runs in another process."""

from __future__ import annotations

import asyncio
import logging
import pickle
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, final

from stageflow.errors import RunStateError
from stageflow.events.sink import get_event_sink
from stageflow.executors.crossing import Unpickler
from stageflow.executors.frames import Op
from stageflow.executors.remote_errors import pickled_error
from stageflow.executors.unpicklable import UnpicklableError, pickled
from stageflow.observability.breaker import get_circuit_breaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from stageflow.stages.context import StageContext

__all__ = ["Service"]

_logger = logging.getLogger("stageflow.executors")


@final
class Service:
    """Answers the questions of one call, and emits its events.

    Args:
        ctx: The stage's context, where the run is.
        call: The call's number.
        send: Sends a frame to the worker.
        register: Registers a cleanup callback that the worker keeps under a number.
    """

    def __init__(
        self,
        ctx: StageContext,
        call: int,
        send: Callable[[Op, bytes], object],
        register: Callable[[int, str], object],
    ) -> None:
        self._scope = ctx.scope
        self._logger: Any = ctx.scope.provider_call_logger
        self._call = call
        self._send = send
        self._register = register
        self._context = copy_context()
        self._breaker = get_circuit_breaker()
        self._current_sink = get_event_sink()
        self._at_work: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, AsyncIterator[object]] = {}

    def take(self, op: Op, body: bytes) -> None:
        """Take a frame of the worker."""
        try:
            call, *rest = self._loaded(body)
        except Exception as exc:  # noqa: BLE001 - whatever loading somebody's value raises
            self._refuse(op, body, exc)
            return
        if op is Op.ASK:
            number, what, more = rest
            if call != self._call:
                ended = RunStateError("The stage has ended", fix="Let a stage await whatever it starts")
                self._answer(number, ok=False, value=ended)
            else:
                self._ask(number, what, more)
        elif call != self._call:
            return  # of something that an earlier stage has left running
        elif op is Op.WITHDRAW:
            task = self._at_work.get(rest[0])
            if task is not None:
                task.cancel()
        elif op is Op.EVENT:
            self._scope.emit(*rest)
        elif op is Op.SINK:
            self._try_emit(*rest)

    async def close(self) -> None:
        """Stop what is still being done for the call."""
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def busy(self) -> bool:
        """Whether there is anything to close."""
        return bool(self._at_work)

    def _loaded(self, body: bytes) -> Any:
        return Unpickler(body).load()

    def _refuse(self, op: Op, body: bytes, error: Exception) -> None:
        """What the worker sends cannot be loaded here."""
        _logger.warning(
            "What a stage in another process has sent (%s) cannot be loaded", op.name, exc_info=error
        )

    def _ask(self, number: int, what: str, more: dict[str, Any]) -> None:
        now: dict[str, Callable[..., object]] = {
            "register_cleanup": self._register,
            "open_stream": self._open_stream,
            "leave_receipt": self._scope.leave_receipt,
            "has_receipt": self._scope.has_receipt,
            "waited": self._scope.waited,
        }
        if what in now:
            try:
                value = now[what](**more)
            except Exception as exc:  # noqa: BLE001 - it is the stage's
                self._answer(number, ok=False, value=exc)
            else:
                self._answer(number, ok=True, value=value)
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._do(number, partial(self._later(what), **more)), context=self._context)
        self._at_work[number] = task
        task.add_done_callback(partial(self._done, number))

    def _later(self, what: str) -> Callable[..., Awaitable[object]]:
        own: dict[str, Callable[..., Awaitable[object]]] = {
            "next_chunk": self._next_chunk,
            "logger.log_call_start": self._log_call_start,
            "logger.log_call_end": self._log_call_end,
        }
        if what in own:
            return own[what]
        part, dot, name = what.partition(".")
        of: Any = self._breaker if part == "breaker" else self._sink(part) if dot else self._scope
        found: Callable[..., Awaitable[object]] = getattr(of, name or part)
        return found

    async def _do(self, number: int, make: Callable[[], Awaitable[object]]) -> None:
        try:
            value = await make()
        except Exception as exc:  # noqa: BLE001 - it is the stage's
            self._answer(number, ok=False, value=exc)
        else:
            self._answer(number, ok=True, value=value)

    def _done(self, number: int, task: asyncio.Task[None]) -> None:
        del self._at_work[number]
        if task.cancelled():
            self._answer(number, ok=False, value=asyncio.CancelledError())
        else:
            task.result()

    def _answer(self, number: int, *, ok: bool, value: Any) -> None:
        data = b""
        if ok:
            try:
                data = pickled(value, {"chunk": value})
            except UnpicklableError as exc:
                ok, value = False, exc
        if not ok:
            data = pickled_error(value, self._loaded)
        self._send(Op.ANSWER, pickle.dumps((number, ok, data)))

    def _sink(self, which: str) -> Any:
        return self._scope.event_sink if which == "run" else self._current_sink

    def _try_emit(self, type: str, data: dict[str, Any], which: str) -> None:  # noqa: A002 - an event's type
        try:
            self._sink(which).try_emit(type=type, data=data)
        except Exception:
            _logger.warning("The event sink raised on %r", type, exc_info=True)

    def _open_stream(self, number: int, stage: str, producer: str) -> None:
        self._streams[number] = self._scope.stream(stage, producer)

    async def _next_chunk(self, number: int) -> object:
        return await anext(self._streams[number])

    async def _log_call_start(self, facts: dict[str, Any]) -> object:
        return await self._logger.log_call_start(**facts)

    async def _log_call_end(self, call_id: Any, facts: dict[str, Any]) -> None:
        await self._logger.log_call_end(call_id, **facts)
