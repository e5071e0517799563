"""Contexts and snapshots for tests, in one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from stageflow.context import ContextSnapshot, Conversation, RunIdentity
from stageflow.context.checks import check_mapping, check_type, items_of
from stageflow.stages.context import StageContext
from stageflow.stages.inputs import StageInputs
from stageflow.stages.output import StageOutput
from stageflow.stages.pipeline_context import PipelineContext
from stageflow.stages.timer import PipelineTimer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stageflow.context import Message
    from stageflow.protocols import EventSink

__all__ = [
    "create_test_context",
    "create_test_pipeline_context",
    "create_test_snapshot",
    "create_test_stage_context",
]


def create_test_snapshot(
    *,
    pipeline_run_id: UUID | None = None,
    request_id: UUID | None = None,
    session_id: UUID | None = None,
    user_id: UUID | None = None,
    org_id: UUID | None = None,
    interaction_id: UUID | None = None,
    topology: str | None = "test",
    execution_mode: str | None = "test",
    input_text: str | None = None,
    messages: Iterable[Message] | None = None,
    extensions: Any = None,
    **more: Any,
) -> ContextSnapshot[Any]:
    """Return a snapshot with ids: random ones where none are given, but no session and no tenant.

    Args:
        pipeline_run_id: The run.
        request_id: The request.
        session_id: The session; None means none.
        user_id: The user.
        org_id: The tenant; None means none.
        interaction_id: The turn within the session.
        topology: The name of the pipeline's shape.
        execution_mode: How to run.
        input_text: What the user said or wrote.
        messages: The conversation so far.
        extensions: The application's own data.
        **more: Further arguments of ``ContextSnapshot``.

    Raises:
        ArgumentTypeError: An argument has the wrong type.

    ```python
    from stageflow.testing import create_test_snapshot

    snapshot = create_test_snapshot(input_text="hi")
    print(snapshot.input_text, snapshot.topology, snapshot.user_id is None, snapshot.org_id)
    #> hi test False None
    ```
    """
    ids = RunIdentity(
        pipeline_run_id=_some(pipeline_run_id),
        request_id=_some(request_id),
        session_id=session_id,
        user_id=_some(user_id),
        org_id=org_id,
        interaction_id=_some(interaction_id),
    )
    if messages is not None:
        more["conversation"] = Conversation(items_of("create_test_snapshot", "messages", messages))
    return ContextSnapshot(
        ids,
        extensions=extensions,
        input_text=input_text,
        topology=topology,
        execution_mode=execution_mode,
        **more,
    )


def create_test_stage_context(
    *,
    snapshot: ContextSnapshot[Any] | None = None,
    inputs: StageInputs | None = None,
    prior_outputs: Mapping[str, StageOutput | Mapping[str, Any]] | None = None,
    ports: Any = None,
    stage_name: str = "test_stage",
    event_sink: EventSink | None = None,
    declared_deps: Iterable[str] | None = None,
    **snapshot_fields: Any,
) -> StageContext:
    """Return the context of a stage that belongs to no run: ``await stage.execute(ctx)``.

    Args:
        snapshot: What the run would have been started with; made of *snapshot_fields* by default.
        inputs: What the stage may read, in place of *prior_outputs*, *ports* and *declared_deps*.
        prior_outputs: What its dependencies left; a mapping stands for the data of an OK output.
        ports: What the run would inject.
        stage_name: The stage.
        event_sink: Where its events go.
        declared_deps: What it declares. Inputs are not strict here: any of *prior_outputs* may be read.
        **snapshot_fields: What ``create_test_snapshot`` takes.

    Raises:
        ArgumentTypeError: An argument has the wrong type.

    ```python
    from stageflow.testing import create_test_stage_context

    ctx = create_test_stage_context(input_text="hi", prior_outputs={"greet": {"text": "Hello"}})
    print(ctx.input_text, ctx.inputs.get_from("greet", "text"), ctx.stage_name)
    #> hi Hello test_stage
    ```
    """
    owner = "create_test_stage_context"
    check_mapping(owner, "prior_outputs", prior_outputs)
    check_type(owner, "inputs", inputs, (StageInputs, type(None)), "StageInputs or None")
    if snapshot is None:
        snapshot = create_test_snapshot(**snapshot_fields) if inputs is None else inputs.snapshot
    elif snapshot_fields:
        msg = f"The snapshot is given already, so these have no place to go: {', '.join(snapshot_fields)}"
        raise TypeError(msg)
    if inputs is None:
        outputs = {name: _output(one) for name, one in (prior_outputs or {}).items()}
        inputs = StageInputs(snapshot, outputs, ports, declared_deps, stage_name, strict=False)
    return StageContext(snapshot, inputs, stage_name, PipelineTimer(), event_sink)


def create_test_context(input_text: str | None = None, **more: Any) -> StageContext:
    """Return the context of a stage; ``create_test_stage_context`` with the text in front.

    ```python
    from stageflow.testing import create_test_context

    print(create_test_context("hi").input_text)
    #> hi
    ```
    """
    return create_test_stage_context(input_text=input_text, **more)


def create_test_pipeline_context(
    *,
    pipeline_run_id: UUID | None = None,
    request_id: UUID | None = None,
    session_id: UUID | None = None,
    user_id: UUID | None = None,
    org_id: UUID | None = None,
    interaction_id: UUID | None = None,
    topology: str | None = "test",
    execution_mode: str | None = "test",
    service: str = "test",
    data: dict[str, Any] | None = None,
    event_sink: EventSink | None = None,
    **more: Any,
) -> PipelineContext:
    """Return what a caller hands to ``graph.run``, with ids as ``create_test_snapshot`` gives them.

    Args:
        pipeline_run_id: The run.
        request_id: The request.
        session_id: The session; None means none.
        user_id: The user.
        org_id: The tenant; None means none.
        interaction_id: The turn within the session.
        topology: The name of the pipeline's shape.
        execution_mode: How to run.
        service: The service that runs the pipeline.
        data: What interceptors find.
        event_sink: Where events go; by default the current sink.
        **more: Further arguments of ``PipelineContext``.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.testing import ScriptedStage, create_test_pipeline_context

    stage = ScriptedStage()
    ctx = create_test_pipeline_context(input_text="hi")
    asyncio.run(Pipeline().with_stage("echo", stage, StageKind.WORK).build().run(ctx))
    print(stage.calls[0].input_text, ctx.service)
    #> hi test
    ```
    """
    return PipelineContext(
        pipeline_run_id=_some(pipeline_run_id),
        request_id=_some(request_id),
        session_id=session_id,
        user_id=_some(user_id),
        org_id=org_id,
        interaction_id=_some(interaction_id),
        topology=topology,
        execution_mode=execution_mode,
        service=service,
        data=data,
        event_sink=event_sink,
        **more,
    )


def _some(value: UUID | None) -> UUID:
    return uuid4() if value is None else value


def _output(value: StageOutput | Mapping[str, Any]) -> StageOutput:
    return StageOutput.ok(value) if isinstance(value, Mapping) else value
