"""``RunRequest``: what a caller asks of a run."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from stageflow.context.checks import check_type, number_of, shown, wrong_type
from stageflow.context.identity import RunIdentity
from stageflow.context.snapshot import ContextSnapshot
from stageflow.errors import ConfigurationError
from stageflow.events.sink import get_event_sink
from stageflow.stages.context import StageContext
from stageflow.stages.pipeline_context import PipelineContext

if TYPE_CHECKING:
    from datetime import datetime

    from stageflow.protocols import EventSink
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.run_id import RunId

__all__ = ["RunRequest"]


class RunRequest(NamedTuple):
    """What a caller asks for; see ``StageGraph.run``.

    Attributes:
        own_ports: What was given as ``ports=``.
    """

    context: PipelineContext | ContextSnapshot | StageContext | None = None
    input_text: str | None = None
    metadata: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    own_ports: Any = None
    sink: EventSink | None = None
    timeout: float | None = None
    cancel_token: CancellationToken | None = None

    @property
    def ports(self) -> Any:
        """The ports of the run: those that it was given, or those of the stage context that starts it."""
        if self.own_ports is None and isinstance(self.context, StageContext):
            return self.context.inputs.ports
        return self.own_ports

    def snapshot_at_once(self, run_id: RunId) -> ContextSnapshot | None:
        """Check the request, and return what stages see of it; None if there is no hurry.

        To make a snapshot takes as long as a stage, and in many runs nobody looks at it.

        Args:
            run_id: The id of the run, if the caller brings none.

        Raises:
            ArgumentTypeError, ArgumentValueError: Naming the argument.
            ConfigurationError: The context is none.
        """
        self._check()
        simple = self.context is None and self.metadata is None
        if simple and (self.input_text is None or self.input_text.__class__ is str):
            return None
        return self.snapshot(run_id)

    def snapshot(self, run_id: RunId, created_at: datetime | None = None) -> ContextSnapshot:
        """Return what stages see of the request; it has the id of the run in any case.

        Args:
            run_id: The id of the run, if the caller brings none.
            created_at: When the run started, for a snapshot that is made from nothing.

        Raises:
            ConfigurationError: The context is none.
        """
        context = self.context
        if context is None:
            ids = RunIdentity(pipeline_run_id=run_id.made(), created_at=created_at)
            snapshot = ContextSnapshot(ids, input_text=self.input_text, created_at=created_at)
        else:
            if isinstance(context, PipelineContext):
                snapshot = context.to_snapshot()
            elif isinstance(context, StageContext):
                snapshot = context.snapshot
            elif isinstance(context, ContextSnapshot):  # pyright: ignore[reportUnnecessaryIsInstance]
                snapshot = context
            else:
                msg = f"A run cannot be started with {shown(context)}"
                fix = "Pass a PipelineContext or a ContextSnapshot; a text goes into input_text="
                raise ConfigurationError(msg, fix=fix)
            if snapshot.pipeline_run_id is None:
                snapshot = snapshot.with_run_id(snapshot.run_id.with_pipeline_run_id(run_id.made()))
            if self.input_text is not None:
                snapshot = snapshot.with_input(self.input_text)
        return snapshot if self.metadata is None else snapshot.with_metadata(self.metadata)

    def _check(self) -> None:
        """Refuse what no type checker was there to refuse, before anything has begun.

        Raises:
            ArgumentTypeError, ArgumentValueError: Naming the argument.
        """
        if self.timeout is not None:
            _check_limit("timeout", self.timeout, "a number of seconds", least=0.0)
        if self.cancel_token is not None and not hasattr(self.cancel_token, "on_cancel"):
            raise wrong_type("run", "cancel_token", "a CancellationToken", self.cancel_token)
        if self.sink is not None and not callable(getattr(self.sink, "try_emit", None)):
            raise wrong_type("run", "sink", "an event sink, with try_emit()", self.sink)
        if self.data is not None:
            check_type("run", "data", self.data, Mapping, "a mapping")
            limit = self.data.get("_timeout_ms")
            if limit is not None:
                _check_limit("data['_timeout_ms']", limit, "a number of milliseconds")

    def event_sink(self) -> EventSink:
        """Return where the events of the run go."""
        if self.sink is not None:
            return self.sink
        sink = getattr(self.context, "event_sink", None)
        return get_event_sink() if sink is None else sink


def _check_limit(argument: str, value: object, expects: str, least: float = -inf) -> None:
    problem = f"must be {expects}, finite, and not less than {least:g}"
    number_of("run", argument, value, expects=expects, problem=problem, least=least)
