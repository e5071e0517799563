"""A worker process, from the side of the process that has started it."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.executors.frames import FrameReader, Op, framed
from stageflow.executors.worker_errors import WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Session", "WorkerProcess", "setup_frame", "told_status"]

_CHUNK: Final = 1 << 18
_PROGRAM: Final = "\n".join(  # noqa: FLY002 - as a program is read
    (
        "import sys",
        "sys.path[:] = sys.argv[2:]",
        "from stageflow.executors.worker import main",
        "main(int(sys.argv[1]))",
    )
)


def told_status(returncode: int | None) -> str:
    """Say how a process has ended.

    ```python
    from stageflow.executors.worker_process import told_status

    print(told_status(3), told_status(-9), sep=", ")
    #> exit status 3, signal SIGKILL
    ```
    """
    if returncode is None or returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal has no name
        return f"signal {-returncode}"


@final
class WorkerProcess:
    """A child process with a line to it. While it rests, no event loop knows of it.

    It is a new interpreter, never a fork: threads of this process may hold locks that nobody would ever release there.

    Args:
        executor: The executor's name, for errors.

    Raises:
        WorkerStartError: It cannot be started.
    """

    __slots__ = ("_pidfd", "ended_by_thread", "pid", "process", "reader", "sock")

    def __init__(self, executor: str) -> None:
        try:
            self.sock, theirs = socket.socketpair()
        except OSError as exc:
            raise WorkerStartError(executor, f"{type(exc).__name__}: {exc}") from exc
        try:
            with theirs:
                self.process = _spawn(theirs.fileno())
        except BaseException as exc:
            self.sock.close()
            if isinstance(exc, OSError):
                raise WorkerStartError(executor, f"{type(exc).__name__}: {exc}") from exc
            raise
        self.sock.setblocking(False)
        self.pid = self.process.pid
        self.reader = FrameReader()
        self._pidfd: int | None = None
        self.ended_by_thread: _Watcher | None = None
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not on this platform, or forbidden
            self.ended_by_thread = _Watcher(self.process)

    @property
    def alive(self) -> bool:
        """Whether the process has not ended. To be asked between two uses, when it has nothing to say."""
        try:
            if self.sock.recv(1, socket.MSG_PEEK) == b"":
                return False  # closed, which is known before the process can be reaped
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            return False
        return self.process.poll() is None

    @property
    def pidfd(self) -> int | None:
        """A descriptor that is readable when the process has ended."""
        return self._pidfd

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self.process.kill()

    def tell_close(self) -> None:
        """Tell it to close its ports and end, without waiting for anything."""
        with suppress(OSError):  # it has ended, or does not listen
            self.sock.send(framed(Op.CLOSE))

    def end_until(self, until_ns: int) -> None:
        """Wait for its end until *until_ns* on the monotonic clock, blocking; then kill it."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(until_ns - monotonic_ns(), 0) / 1e9)
        self.kill()
        self.close()

    def close(self) -> None:
        """Let go of a process that has ended, or is about to: one that has closed its end of the line is killed."""
        self.kill()
        self.process.wait()
        self.sock.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _spawn(fd: int) -> subprocess.Popen[bytes]:
    # What python was started with (-O, -X dev, -I) goes for the worker as well.
    private: Any = subprocess
    flags: list[str] = private._args_from_interpreter_flags()  # noqa: SLF001 - as multiprocessing does
    paths = [path for path in sys.path if isinstance(path, str)]  # pyright: ignore[reportUnnecessaryIsInstance]
    command = [sys.executable, *flags, "-c", _PROGRAM, str(fd), *paths]
    # Until the worker ignores it, Ctrl-C must not end it with a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(fd,))  # noqa: S603 - our own interpreter
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@final
class _Watcher:
    """Waits in a thread for the end of a process, where the platform has no other way to hear of it."""

    __slots__ = ("_call", "_lock", "ended")

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.ended = False
        self._call: Callable[[], object] | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._wait, args=(process,), daemon=True).start()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with self._lock:
            self.ended = True
            if self._call is not None:
                with suppress(RuntimeError):  # the event loop is closed
                    self._call()

    def tell(self, call: Callable[[], object] | None) -> None:
        """Call *call* when it has ended; None: nobody any more."""
        with self._lock:
            self._call = call
            if self.ended and call is not None:
                call()


@final
class Session:
    """One use of a worker, on the running event loop.

    Args:
        worker: The worker.
        on_frame: Called with each frame that it sends.

    Attributes:
        lost: Whether the process has ended.
    """

    __slots__ = ("_fd", "_loop", "_on_frame", "_outgoing", "_waiter", "_worker", "_writing", "lost")

    def __init__(self, worker: WorkerProcess, on_frame: Callable[[Op, bytes], object]) -> None:
        self._worker = worker
        self._on_frame = on_frame
        self._loop = asyncio.get_running_loop()
        self._fd = worker.sock.fileno()
        self._outgoing = bytearray()
        self._writing = False
        self._waiter: asyncio.Future[None] | None = None
        self.lost = False

    def __enter__(self) -> Session:
        worker, loop = self._worker, self._loop
        loop.add_reader(self._fd, self._readable)
        if worker.pidfd is not None:
            loop.add_reader(worker.pidfd, self._ended)
        elif worker.ended_by_thread is not None:
            worker.ended_by_thread.tell(lambda: loop.call_soon_threadsafe(self._ended))
        return self

    def __exit__(self, *_: object) -> None:
        worker = self._worker
        if worker.ended_by_thread is not None:
            worker.ended_by_thread.tell(None)
        if self._loop.is_closed():
            return
        self._loop.remove_reader(self._fd)
        if self._writing:
            self._loop.remove_writer(self._fd)
        if worker.pidfd is not None:
            self._loop.remove_reader(worker.pidfd)

    def send(self, op: Op, body: bytes = b"") -> None:
        """Send a frame. What cannot go at once goes when there is room."""
        self._outgoing += framed(op, body)
        if not self._writing:
            self._writable()

    @property
    def unsent(self) -> int:
        """How many bytes wait for room."""
        return len(self._outgoing)

    async def change(self) -> None:
        """Wait until something has happened: a call of ``wake``, the end of the process, nothing is unsent any more."""
        self._waiter = self._loop.create_future()
        await self._waiter

    def wake(self) -> None:
        """Let ``change`` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def end(self) -> None:
        """Wait until the process has ended, and been reaped; also if cancelled meanwhile.

        Raises:
            asyncio.CancelledError: The caller was cancelled; the process has ended.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self.lost:
            try:
                await self.change()
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            raise cancelled

    def _writable(self) -> None:
        worker = self._worker
        try:
            sent = worker.sock.send(memoryview(self._outgoing)[:_CHUNK])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # it has ended, which is heard of elsewhere
            sent = len(self._outgoing)
        del self._outgoing[:sent]
        if self._outgoing and not self._writing:
            self._writing = True
            self._loop.add_writer(self._fd, self._writable)
        elif self._writing and not self._outgoing:
            self._writing = False
            self._loop.remove_writer(self._fd)
            self.wake()

    def _readable(self) -> None:
        if self._read() == b"":
            # It has ended, or closed its end, which comes to the same.
            self._loop.remove_reader(self._fd)
            self._worker.kill()

    def _read(self) -> bytes | None:
        try:
            data = self._worker.sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""
        for op, body in self._worker.reader.feed(data):
            self._on_frame(op, body)
        return data

    def _ended(self) -> None:
        while self._read():  # what it has said before
            pass
        if self._worker.process.poll() is not None:
            if self._worker.pidfd is not None:
                self._loop.remove_reader(self._worker.pidfd)
            self._loop.remove_reader(self._fd)
            self.lost = True
            self.wake()


def setup_frame(ports: bytes | str | None) -> bytes:
    """Return what a worker is told of its surroundings."""
    main: Any = sys.modules.get("__main__")
    module = getattr(getattr(main, "__spec__", None), "name", None)
    path = getattr(main, "__file__", None)
    if module is not None and module.endswith("__main__"):  # of a package: nothing but a program
        module = path = None
    return pickle.dumps(
        {
            "argv": list(sys.argv),
            "main_module": module,
            "main_path": None if path is None else os.path.abspath(path),  # noqa: PTH100 - no pathlib for one path
            "ports": ports,
        }
    )
