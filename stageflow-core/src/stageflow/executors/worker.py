"""What a worker process of ``ProcessExecutor`` does: it opens ports, and runs bodies until it is told to end.

It has two threads. One reads what comes in, so that a body that blocks hears of its cancellation, and so that the
process ends at once when nobody is left at the other end. The main one runs the event loop, and on it everything that
is not ours: factories, bodies, imports.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import struct
import sys
import threading
from contextlib import AsyncExitStack, suppress
from contextvars import Context, copy_context
from functools import partial
from inspect import isawaitable
from time import monotonic_ns
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, final

from stageflow.events.sink import set_event_sink
from stageflow.executors.crossing import MAIN, Crossing, Outcome, Unpickler
from stageflow.executors.far_scope import Asked, FarBreaker, FarScope, FarSink, Line
from stageflow.executors.frames import HEADER, Op, framed
from stageflow.executors.remote_errors import pickled_error
from stageflow.executors.unpicklable import UnpicklableError, pickled
from stageflow.observability.ambient import current_trace
from stageflow.observability.breaker import set_circuit_breaker
from stageflow.observability.correlation import set_correlation_id
from stageflow.stages.context import context_of
from stageflow.stages.spec import StageSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Make = Callable[[], Awaitable[object]]

__all__ = ["ProgramMain", "Worker", "main"]


def main(fd: int) -> None:
    """Run a worker; *fd* is its end of a pair of sockets."""
    # Ctrl-C goes to every process of the terminal. What it means here, the parent decides. Until now it was blocked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)  # or a program that a body starts would keep it open
    sock.setblocking(True)
    Worker(sock).run()


@final
class ProgramMain:
    """The main module of the program that has started the worker, imported when something in it is needed.

    Args:
        module: The name of that module, if the program was started with ``python -m``.
        path: Its file, if it was started as a file.
    """

    importing = False
    """Whether the main module is being imported: a program without a guard would start itself in every worker."""

    def __init__(self, module: str | None, path: str | None) -> None:
        self._module = module
        self._path = path
        self._lock = threading.RLock()

    def find(self) -> None:
        """Import it, once, under another name than ``__main__``."""
        with self._lock:
            if MAIN in sys.modules or (self._module is None and self._path is None):
                return
            import runpy

            ProgramMain.importing = True
            try:
                if self._module is not None:
                    content = runpy.run_module(self._module, run_name=MAIN, alter_sys=True)
                else:
                    content = runpy.run_path(str(self._path), run_name=MAIN)
            except (Exception, SystemExit) as exc:
                msg = (
                    f"the program's main module raised {type(exc).__name__}: {exc}; "
                    "what starts the program belongs behind: if __name__ == '__main__':"
                )
                raise ImportError(msg) from exc
            finally:
                ProgramMain.importing = False
            module = ModuleType(MAIN)
            vars(module).update(content)
            sys.modules["__main__"] = sys.modules[MAIN] = module


@final
class Worker:
    """The worker.

    Args:
        sock: Its end of the line.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._main = ProgramMain(None, None)
        self._line: Line | None = None
        self._running: tuple[int, asyncio.Task[None]] | None = None
        self._heard = 0
        self._questions: dict[int, Asked] = {}
        self._ports: Any = None
        self._around: Context | None = None
        self._cleanups: dict[int, tuple[Context, Callable[[], Awaitable[None]]]] = {}

    def run(self) -> None:
        """Open the ports, and serve until the other end says that it is over."""
        with self._sock:
            self._run()

    def _run(self) -> None:
        incoming = self._sock.makefile("rb")
        setup = pickle.loads(_read(incoming)[1])  # noqa: S301 - of the process that has started this one
        sys.argv = setup["argv"]
        self._main = ProgramMain(setup["main_module"], setup["main_path"])
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            loop = runner.get_loop()
            closing = asyncio.Event()
            reading = partial(self._read_on, incoming, loop, closing)
            threading.Thread(target=reading, name="stageflow-line", daemon=True).start()
            serving = loop.create_task(self._serve(setup["ports"], closing))
            serving.add_done_callback(lambda _: loop.stop())
            while not serving.done():
                # Out of a Task that a body has started beside itself; whoever awaits that gets it as well.
                with suppress(SystemExit, KeyboardInterrupt):
                    loop.run_forever()
            serving.result()

    # --- the thread that reads --------------------------------------------------------------------------

    def _read_on(self, incoming: BinaryIO, loop: asyncio.AbstractEventLoop, closing: asyncio.Event) -> None:
        calls: dict[Op, Callable[[Line, bytes], None]] = {Op.CALL: self._call, Op.CLEANUP: self._clean_up}
        while True:
            op, body = _read(incoming)
            if op is Op.CLOSE:
                loop.call_soon_threadsafe(closing.set)
                return
            if op is Op.ANSWER:
                self._take_answer(body)
            elif op is Op.CANCEL:
                call, reason = pickle.loads(body)  # noqa: S301 - as above
                line = self._line
                if line is not None and line.call == call:
                    line.cancel_reason = reason  # at once: a body that blocks may look for it
                loop.call_soon_threadsafe(self._cancel, call)
            else:
                call = int.from_bytes(body[:8], "big")
                line = self._line = Line(call, self._send, self._questions)
                loop.call_soon_threadsafe(calls[op], line, body[8:])

    def _take_answer(self, body: bytes) -> None:
        number, ok, value = pickle.loads(body)  # noqa: S301 - as above
        asked = self._questions.pop(number)
        try:
            value = self._load(value)
        except Exception as exc:  # noqa: BLE001 - whatever loading somebody's value raises
            ok, value = False, _unloadable("the answer", exc)
        asked(ok=ok, value=value)

    # --- the event loop ---------------------------------------------------------------------------------

    async def _serve(self, factory: bytes | str | None, closing: asyncio.Event) -> None:
        try:
            async with AsyncExitStack() as stack:
                try:
                    self._ports = await self._opened(factory, stack)
                except BaseException as exc:  # noqa: BLE001 - told to whoever wanted a worker
                    self._fail(exc)
                else:
                    self._around = copy_context()
                    self._send(Op.READY, b"")
                await closing.wait()
        finally:
            _flush()

    async def _opened(self, factory: bytes | str | None, stack: AsyncExitStack) -> Any:
        if factory is None:
            return None
        if isinstance(factory, str):
            from stageflow.lazy import LazyRef

            make: Any = LazyRef(factory, asked_by="ProcessExecutor(ports=...)").resolve()
        else:
            make = self._load(factory)
        made: Any = make()
        if isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__"):
            return await stack.enter_async_context(made)
        return stack.enter_context(made) if hasattr(made, "__enter__") else made

    def _call(self, line: Line, body: bytes) -> None:
        """Begin to run a body."""
        context = Context() if self._around is None else self._around.copy()
        try:
            crossing: Crossing = self._load(body)
            ctx = context.run(self._put_around, crossing, line)
        except BaseException as exc:  # noqa: BLE001 - whatever loading somebody's values raises
            self._fail(_unloadable("what the stage was given", exc))
        else:
            self._begin(line, partial(crossing.body, ctx), context)

    def _put_around(self, crossing: Crossing, line: Line) -> Any:
        """Set the context variables that the stage has, and return its context."""
        if crossing.trace is not None:
            current_trace.set(crossing.trace)
        if crossing.correlation_id is not None:
            set_correlation_id(crossing.correlation_id)
        if crossing.current_sink:
            set_event_sink(FarSink(line, "current"))
        if crossing.breaker:
            set_circuit_breaker(FarBreaker(line))
        scope = FarScope(crossing, line, self._ports, self._cleanups)
        return context_of(scope, StageSpec(crossing.stage, None, crossing.kind), crossing.attempt)

    def _clean_up(self, line: Line, body: bytes) -> None:
        """Begin to run a cleanup callback."""
        context, callback = self._cleanups.pop(int.from_bytes(body, "big"))
        self._begin(line, callback, context)

    def _begin(self, line: Line, make: Make, context: Context) -> None:
        began_ns = monotonic_ns()
        ended: list[Outcome] = []

        async def run() -> None:
            try:
                value = await make()
            except BaseException as exc:  # noqa: BLE001 - whatever it is, it goes back
                ended.append(self._failed(exc, began_ns))
            else:
                ended.append(self._returned(value, began_ns))

        def done(task: asyncio.Task[None]) -> None:
            self._running = None
            if not ended:  # cancelled before its first step, or there is no memory for what came of it
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
                ended.append(self._failed(error or asyncio.CancelledError(), began_ns))
            _flush()
            self._send(Op.DONE, pickle.dumps((line.call, ended[0]._replace(heard=self._heard))))

        self._heard = 0
        task = asyncio.get_running_loop().create_task(run(), context=context)
        self._running = line.call, task
        task.add_done_callback(done)

    def _cancel(self, call: int) -> None:
        if self._running is not None and self._running[0] == call and self._running[1].cancel():
            self._heard += 1

    def _returned(self, value: object, began_ns: int) -> Outcome:
        ended_ns = monotonic_ns()
        try:
            return Outcome(
                ok=True, value=pickled(value, {"result": value}), began_ns=began_ns, ended_ns=ended_ns
            )
        except UnpicklableError as exc:
            return self._failed(exc, began_ns)

    def _failed(self, error: BaseException, began_ns: int) -> Outcome:
        ended_ns = monotonic_ns()
        trace = _traceback(error)
        return Outcome(
            ok=False,
            value=pickled_error(error, self._load),
            began_ns=began_ns,
            ended_ns=ended_ns,
            trace=trace,
        )

    def _fail(self, error: BaseException) -> None:
        """Say that it did not come to running anything."""
        call = 0 if self._line is None else self._line.call
        self._send(Op.DONE, pickle.dumps((call, self._failed(error, monotonic_ns()))))

    def _load(self, data: bytes) -> Any:
        if _MAIN_PICKLED in data:
            self._main.find()
        return Unpickler(data).load()

    def _send(self, op: Op, body: bytes) -> None:
        frame = framed(op, body)
        with self._sending:
            try:
                self._sock.sendall(frame)
            except OSError:  # nobody is left at the other end
                os._exit(_ORPHANED)


_ORPHANED = 1
_MAIN_PICKLED = b"\x08__main__"  # as pickle writes the name of that module


def _read(incoming: BinaryIO) -> tuple[Op, bytes]:
    """Read a frame. If there is nobody left to send one, the process ends, whatever it is doing."""
    try:
        header = incoming.read(HEADER.size)
        op, length = HEADER.unpack(header)
        body = incoming.read(length)
        if len(body) == length:
            return Op(op), body
    except (OSError, struct.error):
        pass
    os._exit(_ORPHANED)


def _flush() -> None:
    """Let be seen what a body has printed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or nobody reads it: that is the body's business
            stream.flush()


def _traceback(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return ""
    import traceback

    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an exception of somebody else's may not even be shown
        return ""


def _unloadable(what: str, error: BaseException) -> UnpicklableError:
    reason = f"loading it raised {type(error).__name__}: {error}"
    fix = "Let the worker process find the same modules: on sys.path, and importable without side effects"
    made = UnpicklableError(what, "in another process", reason, fix=fix)
    made.__cause__ = error
    return made
