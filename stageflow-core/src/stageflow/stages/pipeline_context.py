"""``PipelineContext``: what a caller hands to a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.context.checks import check_mapping, check_type, items_of, shown, text_of
from stageflow.context.frozen import freeze, thaw
from stageflow.context.identity import RunIdentity
from stageflow.context.snapshot import ContextSnapshot
from stageflow.events.sink import get_event_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

    from stageflow.context.bags import OutputBag
    from stageflow.protocols import EventSink
    from stageflow.stages.context import StageContext
    from stageflow.stages.output import StageArtifact

__all__ = ["PipelineContext", "as_payload", "extract_service", "ids_of"]

_OWNER = "PipelineContext"
_NONE = type(None)
_logger = logging.getLogger("stageflow.events")


@final
class PipelineContext:
    """What a caller hands to ``graph.run``: who asks, for whom, with what.

    Args:
        pipeline_run_id: The run; made up when None.
        request_id: The request that the run answers.
        session_id: The session.
        user_id: The user.
        org_id: The tenant.
        interaction_id: The interaction within the session.
        topology: The kind of pipeline, such as ``"chat_fast"``.
        configuration: Settings of the run.
        execution_mode: The mode, such as ``"practice"``.
        service: The service that runs the pipeline.
        event_sink: Where events go; by default the current one.
        data: What interceptors find under ``ctx.data``.
        db: A database handle for whoever wants one.
        input_text: The text that the run works on.
        snapshot: The whole input; its ids and texts win over the arguments above.
        artifacts: What stages produced beside their data; filled by the run.
        parent_run_id: The run that started this one.
        parent_stage_id: The stage that started this one.
        correlation_id: What ties this run to others.

    Raises:
        ArgumentTypeError: *data* or *configuration* is no mapping, *artifacts* no list or *snapshot* no snapshot.

    ```python
    from stageflow import PipelineContext

    ctx = PipelineContext(execution_mode="practice", input_text="hi")
    print(ctx.to_snapshot().input_text)
    #> hi
    ```
    """

    __slots__ = (
        "_on_cancel",
        "_parent_data",
        "_snapshot",
        "_stage_metadata",
        "artifacts",
        "canceled",
        "configuration",
        "correlation_id",
        "data",
        "db",
        "depth",
        "event_sink",
        "execution_mode",
        "input_text",
        "interaction_id",
        "org_id",
        "parent",
        "parent_run_id",
        "parent_stage_id",
        "pipeline_run_id",
        "request_id",
        "service",
        "session_id",
        "topology",
        "user_id",
    )

    def __init__(
        self,
        *,
        pipeline_run_id: UUID | None = None,
        request_id: UUID | None = None,
        session_id: UUID | None = None,
        user_id: UUID | None = None,
        org_id: UUID | None = None,
        interaction_id: UUID | None = None,
        topology: str | None = None,
        configuration: dict[str, Any] | None = None,
        execution_mode: str | None = None,
        service: str = "pipeline",
        event_sink: EventSink | None = None,
        data: dict[str, Any] | None = None,
        db: Any = None,
        canceled: bool = False,
        artifacts: list[StageArtifact] | None = None,
        parent_run_id: UUID | None = None,
        parent_stage_id: str | None = None,
        correlation_id: UUID | None = None,
        input_text: str | None = None,
        snapshot: ContextSnapshot | None = None,
    ) -> None:
        check_mapping(_OWNER, "configuration", configuration)
        check_mapping(_OWNER, "data", data)
        check_type(_OWNER, "artifacts", artifacts, (list, _NONE), "a list or None")
        check_type(_OWNER, "snapshot", snapshot, (ContextSnapshot, _NONE), "a ContextSnapshot or None")
        if snapshot is not None:
            pipeline_run_id, request_id = snapshot.pipeline_run_id, snapshot.request_id
            session_id, user_id = snapshot.session_id, snapshot.user_id
            org_id, interaction_id = snapshot.org_id, snapshot.interaction_id
            topology, execution_mode = snapshot.topology, snapshot.execution_mode
            input_text = snapshot.input_text
        self.pipeline_run_id = pipeline_run_id
        self.request_id = request_id
        self.session_id = session_id
        self.user_id = user_id
        self.org_id = org_id
        self.interaction_id = interaction_id
        self.topology = topology
        self.configuration: dict[str, Any] = {} if configuration is None else configuration
        self.execution_mode = execution_mode
        self.service = service
        self.event_sink: EventSink = get_event_sink() if event_sink is None else event_sink
        self.data: dict[str, Any] = {} if data is None else data
        self.db = db
        self.canceled = canceled
        self.artifacts: list[StageArtifact] = [] if artifacts is None else artifacts
        self.parent_run_id = parent_run_id
        self.parent_stage_id = parent_stage_id
        self.correlation_id = correlation_id
        self.input_text = input_text
        self.depth = 0
        """How many runs there are above this one."""
        self.parent: PipelineContext | None = None
        self._parent_data: Mapping[str, Any] = {}
        self._snapshot = snapshot
        self._stage_metadata: dict[str, dict[str, Any]] = {}
        self._on_cancel: list[Callable[[], None]] = []

    @classmethod
    def from_snapshot(cls, snapshot: ContextSnapshot, **more: Any) -> PipelineContext:
        """Return a context with the ids and the input of *snapshot*; *more* as the constructor takes it."""
        return cls(snapshot=snapshot, **more)

    def to_snapshot(self) -> ContextSnapshot:
        """Return what stages see of this context."""
        if self._snapshot is not None:
            return self._snapshot
        return ContextSnapshot(
            run_id=RunIdentity(
                pipeline_run_id=self.pipeline_run_id,
                request_id=self.request_id,
                session_id=self.session_id,
                user_id=self.user_id,
                org_id=self.org_id,
                interaction_id=self.interaction_id,
            ),
            input_text=self.input_text,
            topology=self.topology,
            execution_mode=self.execution_mode,
        )

    def set_stage_metadata(self, stage: str, metadata: dict[str, Any]) -> None:
        """Remember *metadata* about *stage*."""
        check_type(f"{_OWNER}.set_stage_metadata", "stage", stage, str, "a str")
        self._stage_metadata[stage] = metadata

    def get_stage_metadata(self, stage: str) -> dict[str, Any] | None:
        """Return what was remembered about *stage*."""
        check_type(f"{_OWNER}.get_stage_metadata", "stage", stage, str, "a str")
        return self._stage_metadata.get(stage)

    def to_dict(self) -> dict[str, Any]:
        """Return the context as plain data; parents and correlation only if there are any."""
        plain: dict[str, Any] = {
            **ids_of(self),
            "interaction_id": _text(self.interaction_id),
            "topology": self.topology,
            "execution_mode": self.execution_mode,
            "service": self.service,
            "data": dict(self.data),
            "canceled": self.canceled,
            "artifacts_count": len(self.artifacts),
        }
        if self.parent_run_id is not None:
            plain["parent_run_id"] = text_of(self.parent_run_id)
        if self.parent_stage_id is not None:
            plain["parent_stage_id"] = self.parent_stage_id
        if self.correlation_id is not None:
            plain["correlation_id"] = text_of(self.correlation_id)
        return plain

    def try_emit_event(self, type: str, data: Mapping[str, Any] | None = None) -> None:  # noqa: A002 - published
        """Emit an event with the ids of this context; keys of *data* win. Never raises."""
        ties = {"parent_run_id": self.parent_run_id, "correlation_id": self.correlation_id}
        event = {
            **ids_of(self),
            **{name: text_of(value) for name, value in ties.items() if value is not None},
            "topology": self.topology,
            "service": self.service,
            **as_payload(data),
        }
        try:
            self.event_sink.try_emit(type=type, data=event)
        except Exception:
            what = "The event sink %s raised on %s"
            _logger.warning(what, shown(self.event_sink), shown(type), exc_info=True)

    def record_stage_event(
        self, *, stage: str, status: str, payload: Mapping[str, Any] | None = None
    ) -> None:
        """Emit ``stage.<stage>.<status>``."""
        moment = {"stage": stage, "status": status, "timestamp": self.now().isoformat()}
        self.try_emit_event(f"stage.{text_of(stage)}.{text_of(status)}", {**moment, **as_payload(payload)})

    @property
    def is_child_run(self) -> bool:
        """Whether another run started this one."""
        return self.parent_run_id is not None

    @property
    def is_canceled(self) -> bool:
        """Whether ``mark_canceled`` was called on this context or on one that it was forked from."""
        return self.canceled or (self.parent is not None and self.parent.is_canceled)

    def lineage(self) -> Iterator[PipelineContext]:
        """Yield this context and those that it was forked from, the nearest first."""
        context: PipelineContext | None = self
        while context is not None:
            yield context
            context = context.parent

    def fork(
        self,
        child_run_id: UUID | None = None,
        parent_stage_id: str | None = None,
        correlation_id: UUID | None = None,
        *,
        topology: str | None = None,
        execution_mode: str | None = None,
        input_text: str | None = None,
        inherit_data: bool | Iterable[str] = False,
        data_overrides: Mapping[str, Any] | None = None,
    ) -> PipelineContext:
        """Return the context of a run below this one.

        It has the same ids, service, sink and database, and a copy of the configuration; it is cancelled with its
        parent. Its own input and data start empty, so that what a child works on is always said.

        Args:
            child_run_id: The child's run; made up when None.
            parent_stage_id: The stage that starts it.
            correlation_id: What ties it to others; the parent's by default.
            topology: Another topology than the parent's.
            execution_mode: Another mode than the parent's.
            input_text: What the child works on.
            inherit_data: True copies all of the parent's data, names copy these.
            data_overrides: More data, which wins over what is inherited.

        Raises:
            ArgumentTypeError: *inherit_data* is neither a bool nor a list of names, or *data_overrides* no mapping.

        ```python
        from stageflow import PipelineContext

        parent = PipelineContext(data={"tone": "calm", "secret": 1}, execution_mode="practice")
        child = parent.fork(parent_stage_id="plan", input_text="hi", inherit_data=["tone"])
        print(child.data, child.get_parent_data("secret"), child.depth)
        #> {'tone': 'calm'} 1 1
        ```
        """
        owner = f"{_OWNER}.fork"
        check_mapping(owner, "data_overrides", data_overrides)
        if isinstance(inherit_data, bool):
            names: Iterable[str] = self.data if inherit_data else ()
        else:
            names = items_of(owner, "inherit_data", inherit_data, str)
        child = PipelineContext(
            pipeline_run_id=child_run_id,
            request_id=self.request_id,
            session_id=self.session_id,
            user_id=self.user_id,
            org_id=self.org_id,
            interaction_id=self.interaction_id,
            topology=self.topology if topology is None else topology,
            configuration=thaw(self.configuration),
            execution_mode=self.execution_mode if execution_mode is None else execution_mode,
            service=self.service,
            event_sink=self.event_sink,
            data={
                **thaw({name: self.data[name] for name in names if name in self.data}),
                **(data_overrides or {}),
            },
            db=self.db,
            parent_run_id=self.pipeline_run_id,
            parent_stage_id=parent_stage_id,
            correlation_id=self.correlation_id if correlation_id is None else correlation_id,
            input_text=input_text,
        )
        child.depth = self.depth + 1
        child.parent = self
        child._parent_data = freeze(self.data)
        return child

    def get_parent_data(self, key: str, default: Any = None) -> Any:
        """Return what the parent's data held under *key* at the fork, read-only."""
        check_type(f"{_OWNER}.get_parent_data", "key", key, str, "a str")
        return self._parent_data.get(key, default)

    def derive_for_stage(
        self,
        stage_name: str,
        snapshot: ContextSnapshot,
        output_bag: OutputBag,
        *,
        declared_deps: Iterable[str] | None = None,
        ports: Any = None,
        strict: bool = True,
    ) -> StageContext:
        """Return a ``StageContext`` that can read the outputs in *output_bag*.

        Raises:
            ArgumentTypeError: *output_bag* is no ``OutputBag``, or *declared_deps* no list of names.
        """
        from stageflow.context.bags import OutputBag
        from stageflow.stages.context import StageContext
        from stageflow.stages.inputs import StageInputs
        from stageflow.stages.timer import PipelineTimer

        check_type(f"{_OWNER}.derive_for_stage", "output_bag", output_bag, OutputBag, "an OutputBag")
        inputs = StageInputs(snapshot, output_bag.outputs(), ports, declared_deps, stage_name, strict)
        return StageContext(snapshot, inputs, stage_name, PipelineTimer(), self.event_sink)

    def mark_canceled(self) -> None:
        """Cancel the runs that were started with this context, now, and those that will be."""
        self.canceled = True
        for callback in tuple(self._on_cancel):
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* when the context is cancelled; what is returned undoes that."""
        self._on_cancel.append(callback)
        return lambda: self._on_cancel.remove(callback)

    @staticmethod
    def now() -> datetime:
        """Now, in UTC."""
        return datetime.now(UTC)

    def __repr__(self) -> str:
        return f"PipelineContext(pipeline_run_id={self.pipeline_run_id}, topology={self.topology!r})"


def ids_of(source: ContextSnapshot | PipelineContext) -> dict[str, Any]:
    """Return the ids of a run as strings, as every event carries them."""
    return {
        "pipeline_run_id": _text(source.pipeline_run_id),
        "request_id": _text(source.request_id),
        "session_id": _text(source.session_id),
        "user_id": _text(source.user_id),
        "org_id": _text(source.org_id),
        "execution_mode": source.execution_mode,
    }


def _text(value: object) -> str | None:
    return None if value is None else text_of(value)


def as_payload(data: object) -> Mapping[str, Any]:
    """Return event data; what is none is kept under one key, since emitting must not raise."""
    if data is None:
        return {}
    return cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {"data": data}


def extract_service(topology: str | None) -> str | None:
    """Return the service that a topology's name begins with.

    Raises:
        ArgumentTypeError: *topology* is neither text nor None.

    ```python
    from stageflow import extract_service

    print(extract_service("chat_fast"), extract_service("chat_kernel"), extract_service("chat"))
    #> chat None chat
    ```
    """
    check_type("extract_service", "topology", topology, (str, _NONE), "a str or None")
    if topology is None or topology.endswith("_kernel"):
        return None
    return topology.rpartition("_")[0] or topology
