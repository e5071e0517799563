"""The contracts that others implement: sinks, executors, and what everything may know of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

__all__ = ["EventSink", "ExecutionContext", "Executor", "StageResolver"]


@runtime_checkable
class EventSink(Protocol):
    """Where events go. A run only ever calls ``try_emit``.

    Delivery is in order and at most once per sink. A sink that raises is reported once and never breaks a run,
    but ``try_emit`` runs on the event loop: a sink that waits belongs behind a queue.

    ```python
    from stageflow.protocols import EventSink


    class Printing:
        async def emit(self, *, type, data):
            self.try_emit(type=type, data=data)

        def try_emit(self, *, type, data):
            print(type, data)


    assert isinstance(Printing(), EventSink)
    ```
    """

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:  # noqa: A002 - published keyword
        """Deliver one event, waiting for room if need be."""
        ...

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> object:  # noqa: A002 - published keyword
        """Deliver one event without waiting. Must not raise and must not block."""
        ...


@runtime_checkable
class ExecutionContext(Protocol):
    """What pipeline, stage and tool contexts have in common."""

    @property
    def pipeline_run_id(self) -> UUID | None:
        """The run."""
        ...

    @property
    def request_id(self) -> UUID | None:
        """The request that the run answers."""
        ...

    @property
    def execution_mode(self) -> str | None:
        """The mode that the run was started in, such as ``"practice"``."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the context as plain data."""
        ...

    def try_emit_event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - published name
        """Emit an event on the run's own emitter; never raises."""
        ...


class Executor(Protocol):
    """Where the body of a stage runs: on the event loop, or elsewhere.

    ```python
    from stageflow.protocols import Executor


    class Counting:
        name = "counting"

        def __init__(self):
            self.calls = 0

        async def execute(self, body, ctx):
            self.calls += 1
            return await body(ctx)


    executor: Executor = Counting()
    ```
    """

    name: str

    async def execute(self, body: Callable[[Any], Awaitable[object]], ctx: Any) -> object:
        """Run ``body(ctx)`` and return what it returns.

        A cancelled call must not return before the body has stopped, wherever it runs.
        """
        ...


class StageResolver(Protocol):
    """Finds what a pipeline only names: contributed stages and executors."""

    def stage(self, name: str) -> object:
        """Return what runs the stage called *name*: a class, an instance, a stage made with ``@stage``.

        Raises:
            ContributionNotFoundError: Nobody contributes it.
        """
        ...

    def executor(self, name: str) -> Executor:
        """Return the executor called *name*.

        Raises:
            ContributionNotFoundError: Nobody contributes it.
        """
        ...
