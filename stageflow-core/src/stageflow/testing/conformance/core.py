"""The suites of the core's own parts, run as everybody else's are: by ``stageflow plugins check stageflow-core``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stageflow.events.backpressure import BackpressureAwareEventSink
from stageflow.events.observable import ObservableEventSink
from stageflow.executors.inline import InlineExecutor
from stageflow.executors.process import ProcessExecutor
from stageflow.executors.thread_pool import ThreadExecutor
from stageflow.interceptors.retry import RetryInterceptor
from stageflow.observability.breaker import LocalCircuitBreaker, NoOpCircuitBreaker
from stageflow.testing.conformance.breaker import CircuitBreakerConformance
from stageflow.testing.conformance.command import CommandConformance
from stageflow.testing.conformance.executor import ExecutorConformance
from stageflow.testing.conformance.interceptor import InterceptorConformance
from stageflow.testing.conformance.run_store import RunStoreConformance
from stageflow.testing.conformance.sink import EventSinkConformance
from stageflow.testing.mocks import RecordingRunStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import click

    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.protocols import CircuitBreaker, EventSink, Executor, RunStore

__all__ = [
    "TestBackpressureSink",
    "TestInline",
    "TestLocalBreaker",
    "TestNoOpBreaker",
    "TestObservableSink",
    "TestPluginsCommand",
    "TestProcess",
    "TestRecordingStore",
    "TestRetry",
    "TestThread",
]


class TestInline(ExecutorConformance):
    """Bodies run where the run is."""

    contribution: ClassVar[str] = "inline"
    blocks_loop: ClassVar[bool] = True

    def make_executor(self) -> Executor:
        """Return the executor."""
        return InlineExecutor()


class TestThread(ExecutorConformance):
    """Bodies run in threads."""

    contribution: ClassVar[str] = "thread"

    def make_executor(self) -> Executor:
        """Return the executor."""
        return ThreadExecutor(4)


class TestProcess(ExecutorConformance):
    """Bodies run in processes."""

    contribution: ClassVar[str] = "process"
    isolated: ClassVar[bool] = True
    ends_blocked: ClassVar[bool] = True

    def make_executor(self) -> Executor:
        """Return the executor."""
        return ProcessExecutor(2)


class TestRetry(InterceptorConformance):
    """Attempts failures again."""

    contribution: ClassVar[str] = "retry"
    handles_errors: ClassVar[bool] = True

    def make_interceptor(self) -> BaseInterceptor:
        """Return the interceptor."""
        return RetryInterceptor()


class TestObservableSink(EventSinkConformance):
    """Keeps events in a list."""

    def make_sink(self) -> EventSink:
        """Return the sink."""
        return ObservableEventSink()

    def delivered(self, sink: Any) -> Sequence[tuple[str, Mapping[str, Any] | None]]:
        """Return what it has kept."""
        return [(event["type"], event["data"]) for event in sink.events]


class TestBackpressureSink(EventSinkConformance):
    """Hands events on from a queue."""

    def make_sink(self) -> EventSink:
        """Return the sink, with a queue that has room for all of a test."""
        self.downstream = ObservableEventSink()
        return BackpressureAwareEventSink(self.downstream, max_queue_size=100_000)

    def delivered(self, sink: Any) -> Sequence[tuple[str, Mapping[str, Any] | None]]:
        """Return what has come downstream."""
        return [(event["type"], event["data"]) for event in self.downstream.events]

    async def close(self, sink: Any) -> None:
        """Stop it."""
        await sink.stop()


class TestRecordingStore(RunStoreConformance):
    """Keeps runs in memory."""

    def make_store(self) -> RunStore:
        """Return the store."""
        return RecordingRunStore()


class TestLocalBreaker(CircuitBreakerConformance):
    """Counts in this process."""

    failure_threshold: ClassVar[int | None] = 3
    recovers: ClassVar[bool] = True
    now: float = 0.0

    def make_breaker(self) -> CircuitBreaker:
        """Return the breaker, with a clock that the test turns."""
        return LocalCircuitBreaker(3, 30.0, clock=lambda: self.now)

    async def recover(self, breaker: Any) -> None:
        """Turn the clock."""
        self.now += 30.0


class TestNoOpBreaker(CircuitBreakerConformance):
    """Never opens."""

    failure_threshold: ClassVar[int | None] = None

    def make_breaker(self) -> CircuitBreaker:
        """Return the breaker."""
        return NoOpCircuitBreaker()


class TestPluginsCommand(CommandConformance):
    """Lists plugins."""

    contribution: ClassVar[str] = "plugins"
    arguments: ClassVar[Sequence[str] | None] = ("list",)

    def make_command(self) -> click.Command:
        """Return the command."""
        from stageflow.cli.plugins import command

        return command
