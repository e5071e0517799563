"""What of a stage's attempt crosses over to another process."""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, final

from stageflow.executors.unpicklable import UnpicklableError, pickled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.observability.trace import TraceContext
    from stageflow.stages.context import StageContext
    from stageflow.stages.stage import StageKind
    from stageflow.stages.timer import PipelineTimer

__all__ = ["MAIN", "Crossing", "Outcome", "Unpickler", "packed"]

MAIN = "__mp_main__"
"""What the program's main module is called in a worker, as with ``multiprocessing``: so its ``__main__`` block does
not run there."""

_IMPORTABLE = (
    "The body of a stage runs in a process that imports it: write it as a function, a method or a class at the top "
    "level of a module, not as a lambda and not inside of a function"
)


@final
class Crossing(NamedTuple):
    """All that a body finds in its context, and around it.

    Attributes:
        body: What makes the awaitable.
        stage: The stage.
        kind: What it is for.
        attempt: Which attempt it is.
        pipeline: The name of the pipeline.
        depth: How many runs there are above this one.
        snapshot: What the run was started with.
        timer: The run's clock, which both processes share.
        data: What the caller handed over.
        inputs: The outputs of its dependencies.
        declared: The stages that it may read.
        strict: Whether it may read no others.
        ports: Whether the run was started with ports, which stay behind.
        listening: Whether anybody listens to the run's events.
        sink: Whether the run has a sink.
        current_sink: Whether a sink is current, for runs that the body starts.
        logger: Whether somebody is told of calls to providers.
        breaker: Whether there is a circuit breaker.
        trace: The stage's place in a trace.
        correlation_id: The current correlation id.
    """

    body: Callable[[StageContext], Awaitable[object]]
    stage: str
    kind: StageKind
    attempt: int
    pipeline: str
    depth: int
    snapshot: ContextSnapshot
    timer: PipelineTimer
    data: dict[str, Any]
    inputs: dict[str, Any]
    declared: frozenset[str]
    strict: bool
    ports: bool
    listening: bool
    sink: bool
    current_sink: bool
    logger: bool
    breaker: bool
    trace: TraceContext | None
    correlation_id: Any


@final
class Outcome(NamedTuple):
    """What came of a body, or of a cleanup callback.

    Attributes:
        ok: Whether it has returned something.
        value: What it returned, pickled; or what it raised.
        began_ns: When it began, on the monotonic clock.
        ended_ns: When it ended.
        heard: How many cancellations it has heard of.
        trace: The traceback of what it raised, as text.
    """

    ok: bool
    value: bytes
    began_ns: int
    ended_ns: int
    heard: int = 0
    trace: str = ""


@final
class Unpickler(pickle.Unpickler):
    """Loads what another process has pickled; the program's main module has another name there.

    Args:
        data: What is to be loaded.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Look up something by its module and its name."""
        return super().find_class("__main__" if module_name == MAIN else module_name, global_name)


def packed(crossing: Crossing) -> bytes:
    """Pickle what crosses over.

    Raises:
        UnpicklableError: Something in it does not pickle, or the body cannot be imported over there.
    """
    _check_main(crossing.body)
    parts = {"inputs": crossing.inputs, "data": crossing.data, "snapshot": crossing.snapshot}
    try:
        return pickled(crossing, {"body": crossing.body, **parts})
    except UnpicklableError as exc:
        if exc.path.startswith("body"):
            raise UnpicklableError(exc.path, exc.type_name, exc.reason, fix=_IMPORTABLE) from exc.__cause__
        raise


def _check_main(body: Any) -> None:
    """Raise if the body is in a main module that no other process can import."""
    owner = getattr(body, "__self__", body)
    owner = getattr(owner, "function", owner)  # of a stage made with @stage
    if getattr(owner, "__module__", None) != "__main__" and type(owner).__module__ != "__main__":
        return
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) is None and not hasattr(main, "__file__"):
        name = getattr(body, "__qualname__", type(body).__qualname__)
        reason = "it is in a main module without a file, as of an interactive session"
        raise UnpicklableError("body", name, reason, fix="Put it into a module, and import it from there")
