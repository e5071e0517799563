"""``ProcessExecutor``: bodies of stages in processes, each of which can be ended."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
import threading
import weakref
from functools import partial
from itertools import count
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Self, final

from stageflow.context.checks import check_count, check_name, number_of, wrong_type
from stageflow.errors import ConfigurationError, LogicError
from stageflow.events.sink import NoOpEventSink, get_event_sink
from stageflow.executors.crossing import Crossing, Outcome, Unpickler, packed
from stageflow.executors.frames import Op
from stageflow.executors.loops import to_its_end
from stageflow.executors.places import Places
from stageflow.executors.service import Service
from stageflow.executors.unpicklable import UnpicklableError, pickled
from stageflow.executors.worker_errors import WorkerLostError, WorkerStartError
from stageflow.executors.worker_process import Session, WorkerProcess, setup_frame, told_status
from stageflow.lazy import LazyRef
from stageflow.observability.ambient import current_trace, settle_step
from stageflow.observability.breaker import NoOpCircuitBreaker, get_circuit_breaker
from stageflow.observability.correlation import get_correlation_id
from stageflow.stages.context import StageContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ProcessExecutor"]

_OWNER: Final = "ProcessExecutor"
_logger = logging.getLogger("stageflow.executors")
_calls = count(1)


@final
class ProcessExecutor:
    """Runs the bodies of stages in child processes, for work that keeps a processor busy, or has to be ended for sure.

    A stage that is cancelled, or over its time limit, is cancelled over there. If it has not ended after ``grace``
    seconds, its process is killed, and the next call gets a new one. So whatever a body does, the stage ends, and
    nothing of it is left; the event loop of the run is never held up.

    Identity, tenant, inputs, data, trace and correlation id cross over, as do results, exceptions, and what the body
    does with its ``ctx``: events, cleanup callbacks, streams, gates, provider calls. Context variables of others do
    not. All of it must pickle, and the body must be importable: a function, or a method of an object, at the top level
    of a module.

    Processes are started when they are needed, up to ``max_workers``; further calls wait for one. Each is a new
    interpreter, never a fork. They are kept for later calls until ``aclose()``. After that, the executor may be used
    again.

    Args:
        max_workers: How many bodies may run at once; by default as many as there are processors.
        ports: Makes what bodies find as ``ctx.inputs.ports``, once in each process: ``"module:attribute"``, or a
            callable that can be imported. It may be async. What it makes may be a context manager, also an async one:
            it is entered, and left when the process ends.
        grace: How long a body that was cancelled has to end, in seconds.
        name: What to call it.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: A number is too small.
        ConfigurationError: The platform has no pairs of sockets to inherit, as Windows.
        LazyImportError: ``ports`` is a text of another form.
        UnpicklableError: ``ports`` is a callable that cannot be imported.

    ```python
    import asyncio

    from stageflow import Pipeline, StageContext, stage
    from stageflow.executors import ProcessExecutor

    processes = ProcessExecutor(2)


    @stage(executor=processes)
    async def add_up(ctx: StageContext) -> int:
        return sum(range(int(ctx.input_text)))


    async def main():
        async with processes:
            results = await Pipeline.from_stages(add_up).run(input_text="1000")
        print(results.value(add_up))


    if __name__ == "__main__":  # worker processes import this module, and must not run it
        asyncio.run(main())
    #> 499500
    ```
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        ports: str | Callable[[], object] | None = None,
        grace: float = 1.0,
        name: str = "process",
    ) -> None:
        if max_workers is not None:
            check_count(_OWNER, "max_workers", max_workers, least=1)
        check_name(_OWNER, "name", name)
        if sys.platform == "win32":
            msg = "ProcessExecutor needs a system with pairs of sockets that a child inherits"
            raise ConfigurationError(msg, fix="Use ThreadExecutor here")
        self.name = name
        self.max_workers = max_workers or _processors()
        self.grace = number_of(
            _OWNER, "grace", grace, expects="a number of seconds", problem="must not be negative", least=0.0
        )
        self._ports = _checked_ports(ports)
        self._places: Places[WorkerProcess] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._lock = threading.Lock()

    async def execute(self, body: Callable[[Any], Awaitable[object]], ctx: Any) -> object:
        """Run ``body(ctx)`` in a child process, and return what it returns.

        Raises:
            UnpicklableError: Something that has to cross over does not pickle.
            WorkerLostError: The process has ended by itself.
            WorkerStartError: There is no process, and none can be started.
            Exception: Whatever the body raises.
        """
        if not isinstance(ctx, StageContext):
            msg = f"{_OWNER}.execute"
            raise wrong_type(msg, "ctx", "a StageContext", ctx)
        places = self._opened()
        call = _Call(self.name, places, ctx, grace=self.grace, ports=self._ports)
        asked_ns = monotonic_ns()
        worker = await places.take()
        taken_ns = monotonic_ns()
        try:
            return await call.body(worker, body)
        finally:
            call.tell_waits(asked_ns, taken_ns)

    async def aclose(self) -> None:
        """Wait for the bodies that run, and end the processes. Cancel what should not be waited for before."""
        with self._lock:
            places, self._places = self._places, None
            finalizer, self._finalizer = self._finalizer, None
        if places is not None and finalizer is not None:
            finalizer.detach()
            await to_its_end(_close(places, self.grace))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that there are."""
        places = self._places
        return () if places is None else tuple(worker.pid for worker in places.workers)

    def _opened(self) -> Places[WorkerProcess]:
        with self._lock:
            if self._places is None:
                self._places = Places(self.max_workers)
                self._finalizer = weakref.finalize(self, _abandon, self._places)
            return self._places

    def __repr__(self) -> str:
        return f"<{_OWNER} {self.name!r}: {len(self.pids)} of {self.max_workers} processes>"


@final
class _Call:
    """One call of a worker: of a body, or of a cleanup callback that a body has left behind.

    Args:
        executor: The executor's name.
        places: Where the worker comes from, and goes back to.
        ctx: The stage's context.
        grace: How long what was cancelled has to end, in seconds.
        ports: Makes the ports of a new worker.
        number: The call's number; that of the body's call, if it is for a cleanup callback of it.
    """

    def __init__(
        self,
        executor: str,
        places: Places[WorkerProcess],
        ctx: StageContext,
        *,
        grace: float,
        ports: str | bytes | None,
        number: int | None = None,
    ) -> None:
        self._executor = executor
        self._places = places
        self._ctx = ctx
        self._grace = grace
        self._ports = ports
        self._number = next(_calls) if number is None else number
        self._service: Service | None = None
        self._worker: WorkerProcess | None = None
        self._session: Session | None = None
        self._ready = False
        self._used = False
        self._outcome: Outcome | None = None
        self._sent_ns = self._received_ns = 0

    async def body(self, worker: WorkerProcess | None, body: Callable[[Any], Awaitable[object]]) -> object:
        """Run a body, in *worker* or in a new one, and give the place back."""
        try:
            request = packed(_crossing(body, self._ctx))
            if worker is not None and not worker.alive:  # it has ended while it rested
                self._places.forget(worker)
                worker.close()
                worker = None
            if worker is None:
                worker = _started(self._executor)
                self._places.enrol(worker)
                return await self._use(worker, Op.CALL, request, new=True)
        except BaseException:
            if worker is None:
                self._places.give_back(None)
            elif not self._used:
                self._places.give_back(worker)
            raise
        return await self._use(worker, Op.CALL, request)

    async def cleanup(self, worker: WorkerProcess, callback: int) -> None:
        """Run a cleanup callback in the worker that has it."""
        if await self._places.take_own(worker) is None:
            raise WorkerLostError(
                self._executor, self._ctx.stage_name, "it has not lived that long", worker.pid
            )
        await self._use(worker, Op.CLEANUP, callback.to_bytes(8, "big"))

    def tell_waits(self, asked_ns: int, taken_ns: int) -> None:
        """Tell the run what of the time was not the body's."""
        note = partial(self._ctx.scope.waited, self._ctx.stage_name, self._ctx.attempt)
        now_ns = monotonic_ns()
        note("queue", asked_ns, taken_ns)
        outcome = self._outcome
        if outcome is not None and self._sent_ns:
            # Both processes read one clock; a stamp from over there is believed within what is known here.
            began_ns = min(max(outcome.began_ns, self._sent_ns), self._received_ns)
            ended_ns = min(max(outcome.ended_ns, began_ns), self._received_ns)
            note("transport", taken_ns, began_ns)
            note("transport", ended_ns, now_ns)
        else:
            note("transport", taken_ns, self._sent_ns or now_ns)

    async def _use(self, worker: WorkerProcess, op: Op, request: bytes, *, new: bool = False) -> object:
        """Exchange frames with a worker until it is done; then it goes back to its place, or is no more."""
        self._used = True
        session = Session(worker, self._take)
        register = partial(self._register, worker)
        self._service = Service(self._ctx, self._number, session.send, register)
        self._session = session
        try:
            with session:
                if new:
                    await self._prepare(worker, session)
                return await self._exchange(worker, session, op, request)
        finally:
            self._session = None
            if self._outcome is not None and not session.lost and not session.unsent:
                self._places.give_back(worker)
            else:
                worker.kill()
                worker.close()
                self._places.forget(worker)
                self._places.give_back(None)

    async def _prepare(self, worker: WorkerProcess, session: Session) -> None:
        """Let a new worker open its ports."""
        session.send(Op.SETUP, setup_frame(self._ports))
        try:
            while not (self._ready or session.lost or self._outcome is not None):
                await session.change()
        except asyncio.CancelledError:
            worker.kill()
            await session.end()
            raise
        if self._ready:
            return
        outcome, self._outcome = self._outcome, None
        worker.kill()
        await session.end()
        if outcome is None:
            status = told_status(worker.process.returncode)
            raise WorkerStartError(self._executor, f"the process has ended before it was ready, {status}")
        error = self._error(outcome)
        error.add_note(f"Raised while executor {self._executor!r} opened the ports of a worker process")
        if isinstance(error, Exception):
            raise error
        raise WorkerStartError(self._executor, f"its ports raised {error!r}") from error

    async def _exchange(self, worker: WorkerProcess, session: Session, op: Op, request: bytes) -> object:
        self._sent_ns = monotonic_ns()
        session.send(op, self._number.to_bytes(8, "big") + request)
        cancelled: asyncio.CancelledError | None = None
        cancels = 0
        timer: asyncio.TimerHandle | None = None
        try:
            while not (session.lost or self._outcome is not None) or (session.unsent and not session.lost):
                try:
                    await session.change()
                except asyncio.CancelledError as exc:
                    cancelled = exc
                    cancels += 1
                    session.send(Op.CANCEL, pickle.dumps((self._number, self._ctx.scope.cancel_reason)))
                    if timer is None:
                        timer = asyncio.get_running_loop().call_later(self._grace, self._kill_overdue, worker)
        finally:
            if timer is not None:
                timer.cancel()
        service = self._service
        if service is not None and service.busy:
            await to_its_end(service.close())
        outcome = self._outcome
        if outcome is None:
            if cancelled is not None:
                raise cancelled
            status = told_status(worker.process.returncode)
            raise WorkerLostError(self._executor, self._ctx.stage_name, status, worker.pid)
        if not outcome.ok:
            raise self._error(outcome)
        if cancelled is not None and outcome.heard < cancels:
            raise cancelled
        return _loaded(outcome.value)

    def _kill_overdue(self, worker: WorkerProcess) -> None:
        text = "Stage %r has not ended %g s after it was cancelled; its worker process %d is killed"
        _logger.warning(text, self._ctx.stage_name, self._grace, worker.pid)
        worker.kill()

    def _take(self, op: Op, body: bytes) -> None:
        """Take a frame of the worker."""
        if op is Op.READY:
            self._ready = True
        elif op is Op.DONE:
            number, outcome = Unpickler(body).load()
            if number not in {0, self._number}:
                return
            self._received_ns = monotonic_ns()
            self._outcome = outcome
        else:
            if self._service is not None:
                self._service.take(op, body)
            return
        if self._session is not None:
            self._session.wake()

    def _register(self, worker: WorkerProcess, number: int, name: str) -> None:
        """Let a callback that the worker keeps be called when the run ends."""
        call = partial(_Call, self._executor, self._places, self._ctx, grace=self._grace, ports=self._ports)

        async def clean_up() -> None:
            await call(number=self._number).cleanup(worker, number)

        self._ctx.scope.register_cleanup(clean_up, name)

    def _error(self, outcome: Outcome) -> BaseException:
        """Return what was raised over there."""
        error = _loaded(outcome.value)
        if not isinstance(error, BaseException):
            return UnpicklableError("the error", type(error).__name__, "it came back as something else")
        if outcome.trace:
            error.add_note(f"In a worker process of executor {self._executor!r}:\n{outcome.trace.rstrip()}")
        return error


def _loaded(data: bytes) -> Any:
    try:
        return Unpickler(data).load()
    except Exception as exc:
        reason = f"loading it here raised {type(exc).__name__}: {exc}"
        raise UnpicklableError("result", "what came back", reason) from exc


def _crossing(body: Callable[[Any], Awaitable[object]], ctx: StageContext) -> Crossing:
    """Collect what crosses over."""
    settle_step()
    trace: Any = current_trace.get()
    scope, inputs = ctx.scope, ctx.inputs
    return Crossing(
        body=body,
        stage=ctx.stage_name,
        kind=ctx.kind,
        attempt=ctx.attempt,
        pipeline=ctx.pipeline,
        depth=ctx.depth,
        snapshot=ctx.snapshot,
        timer=ctx.timer,
        data=dict(scope.data),
        inputs=dict(inputs.prior_outputs),
        declared=inputs.declared_deps,
        strict=inputs.strict,
        ports=inputs.ports is not None,
        listening=getattr(scope, "listening", True),
        sink=ctx.event_sink is not None,
        current_sink=not isinstance(get_event_sink(), NoOpEventSink),
        logger=scope.provider_call_logger is not None,
        breaker=not isinstance(get_circuit_breaker(), NoOpCircuitBreaker),
        trace=trace,
        correlation_id=get_correlation_id(),
    )


def _started(executor: str) -> WorkerProcess:
    worker_module: Any = sys.modules.get("stageflow.executors.worker")
    if worker_module is not None and worker_module.ProgramMain.importing:
        msg = "The program's main module starts worker processes whenever it is imported, also by one of them"
        raise LogicError(msg, fix="Put what starts the program behind: if __name__ == '__main__':")
    return WorkerProcess(executor)


def _processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        return os.cpu_count() or 1


def _checked_ports(ports: Any) -> str | bytes | None:
    """Return the factory as a worker gets it."""
    if ports is None:
        return None
    if isinstance(ports, str):
        return LazyRef(ports, asked_by=f"{_OWNER}(ports=...)").target
    if not callable(ports):
        raise wrong_type(_OWNER, "ports", "'module:attribute', a callable or None", ports)
    fix = "Worker processes import it: put the function at the top level of a module"
    return pickled(ports, {"ports": ports}, fix=fix)


_CLOSING_S: Final = 5.0
_ABANDONED_S: Final = 0.5


async def _close(places: Places[WorkerProcess], grace: float) -> None:
    workers = [worker for _ in range(places.count) if (worker := await places.take()) is not None]
    if workers:
        await asyncio.wait(
            [asyncio.ensure_future(_end(worker, max(grace, _CLOSING_S))) for worker in workers]
        )
    for worker in workers:
        places.forget(worker)


async def _end(worker: WorkerProcess, limit: float) -> None:
    """Let a worker close its ports and end."""
    with Session(worker, lambda _op, _body: None) as session:
        session.send(Op.CLOSE)
        timer = asyncio.get_running_loop().call_later(limit, worker.kill)
        try:
            await session.end()
        finally:
            timer.cancel()
    worker.close()


def _abandon(places: Places[WorkerProcess]) -> None:
    """Nobody has the executor any more, or the interpreter exits: end the processes, blocking for a moment."""
    until = monotonic_ns() + round(_ABANDONED_S * 1e9)
    for worker in places.workers:
        worker.tell_close()
    for worker in places.workers:
        worker.end_until(until)
