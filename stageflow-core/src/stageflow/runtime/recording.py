"""``Recording``: the store and the loggers that hear of a run, which never waits for them while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import number_of, wrong_type
from stageflow.errors import PipelineCancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.protocols import PipelineRunLogger, ProviderCallLogger, RunStore
    from stageflow.runtime.results import PipelineResults

__all__ = ["Recording", "RunRecorder"]

_logger = logging.getLogger("stageflow.runtime")


@final
class Recording:
    """Who is told about the runs of a graph.

    Each is told in order, from a Task of the run's own. One that raises is reported in the log; one that hangs delays
    the end of a run by at most *timeout*, and nothing before it.

    Args:
        run_store: Gets ``create_run`` at the start, and ``update_status`` with ``running`` and how the run ended.
        run_logger: Gets ``log_run_started``, then ``log_run_completed`` or ``log_run_failed``.
        provider_call_logger: What ``ctx.provider_call`` of the stages reports to.
        timeout: How long the end of a run waits for what is still to be told, in seconds.

    Raises:
        ArgumentTypeError: A store or a logger lacks a method, or *timeout* is no number.
        ArgumentValueError: *timeout* is negative or not finite.
    """

    __slots__ = ("provider_call_logger", "run_logger", "run_store", "timeout")

    def __init__(
        self,
        *,
        run_store: RunStore | None = None,
        run_logger: PipelineRunLogger | None = None,
        provider_call_logger: ProviderCallLogger | None = None,
        timeout: float = 5.0,
    ) -> None:
        _check_part("run_store", run_store, "create_run", "update_status")
        _check_part("run_logger", run_logger, "log_run_started", "log_run_completed", "log_run_failed")
        _check_part("provider_call_logger", provider_call_logger, "log_call_start", "log_call_end")
        self.run_store = run_store
        self.run_logger = run_logger
        self.provider_call_logger = provider_call_logger
        expects, problem = "a number of seconds", "must be zero or more seconds"
        self.timeout = number_of("Recording", "timeout", timeout, expects=expects, problem=problem, least=0)


def _check_part(argument: str, value: object, *methods: str) -> None:
    if value is not None and not all(callable(getattr(value, method, None)) for method in methods):
        raise wrong_type("Recording", argument, f"an object with {'(), '.join(methods)}()", value)


@final
class RunRecorder:
    """Tells about one run.

    Args:
        recording: Whom.
        snapshot: What the run was started with.
        pipeline: The pipeline's name.
        service: The service that runs it.
    """

    __slots__ = ("_calls", "_pipeline", "_recording", "_service", "_snapshot", "_task")

    def __init__(self, recording: Recording, snapshot: ContextSnapshot, pipeline: str, service: str) -> None:
        self._recording = recording
        self._snapshot = snapshot
        self._pipeline = pipeline
        self._service = service
        self._calls: deque[Callable[[], Awaitable[Any]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def started(self) -> None:
        """Tell that the run has started."""
        snapshot = self._snapshot
        run_id: Any = snapshot.pipeline_run_id
        how: dict[str, Any] = {"topology": snapshot.topology, "execution_mode": snapshot.execution_mode}
        store, logger = self._recording.run_store, self._recording.run_logger
        if store is not None:
            whose: dict[str, Any] = {"pipeline_name": self._pipeline, "org_id": snapshot.org_id}
            self._tell(partial(store.create_run, run_id, service=self._service, **how, **whose))
            self._tell(partial(store.update_status, run_id, "running"))
        if logger is not None:
            self._tell(
                partial(
                    logger.log_run_started,
                    pipeline_run_id=run_id,
                    pipeline_name=self._pipeline,
                    user_id=snapshot.user_id,
                    **how,
                )
            )

    def ended(self, results: PipelineResults, status: str) -> None:
        """Tell how the run has ended."""
        run_id: Any = self._snapshot.pipeline_run_id
        duration_ms = round(results.duration_ms)
        error = results.error
        said = None if error is None else error.what
        store, logger = self._recording.run_store, self._recording.run_logger
        if store is not None:
            self._tell(partial(store.update_status, run_id, status, error=said, duration_ms=duration_ms))
        if logger is None:
            return
        ids: dict[str, Any] = {"pipeline_run_id": run_id, "pipeline_name": self._pipeline}
        if status == "failed":
            stage = getattr(error, "stage", None)
            self._tell(partial(logger.log_run_failed, **ids, error=said or "", stage=stage))
        else:
            outcomes: dict[str, Any] = {name: str(output.status) for name, output in results.items()}
            more: dict[str, Any] = {"reason": error.reason} if isinstance(error, PipelineCancelled) else {}
            call = partial(logger.log_run_completed, **ids, status=status, stage_results=outcomes, **more)
            self._tell(partial(call, duration_ms=duration_ms))

    def finish(self) -> Awaitable[None]:
        """Return what to await until everything has been told, or the time for it is over."""
        return self._finish()

    async def _finish(self) -> None:
        task = self._task
        if task is None:
            return
        try:
            _, late = await asyncio.wait([task], timeout=self._recording.timeout)
        except asyncio.CancelledError:  # by somebody who cancels every Task there is
            task.cancel()
            await asyncio.wait([task], timeout=self._recording.timeout)
            raise
        if late:
            waiting = len(self._calls)
            self._calls.clear()
            task.cancel()
            _logger.warning(
                "A run store or logger of pipeline %r was not done within %g s; %d calls were not made",
                self._pipeline,
                self._recording.timeout,
                waiting,
            )
            # Nothing can be done about one that does not give way: the run does not wait for it for ever.
            _, late = await asyncio.wait([task], timeout=self._recording.timeout)
            if late:
                _logger.error("It ignores that it was cancelled, and is left running: %r", task)

    def _tell(self, call: Callable[[], Awaitable[Any]]) -> None:
        self._calls.append(call)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._tell_all())

    async def _tell_all(self) -> None:
        while self._calls:
            call = self._calls.popleft()
            try:
                await call()
            except asyncio.CancelledError as exc:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # it is this Task that was cancelled, not something within the call
                self._report(call, exc)
            except Exception as exc:  # noqa: BLE001 - a store or logger is somebody else's code
                self._report(call, exc)

    def _report(self, call: Callable[[], Awaitable[Any]], error: BaseException) -> None:
        name = getattr(getattr(call, "func", call), "__qualname__", repr(call))
        _logger.warning("%s of run %s raised", name, self._snapshot.pipeline_run_id, exc_info=error)
