"""Contexts and snapshots in one line, with the signatures of 0.9."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from stageflow import PipelineTimer, StageInputs, StageOutput, get_event_sink
from stageflow.context import ArgumentValueError, ContextSnapshot, Message
from stageflow.testing import (
    EventRecorder,
    create_test_context,
    create_test_pipeline_context,
    create_test_snapshot,
    create_test_stage_context,
    snapshot_from_dict_strict,
    validate_snapshot,
    validate_snapshot_strict,
)

SOME = ("pipeline_run_id", "request_id", "user_id", "interaction_id")


@pytest.mark.parametrize("make", [create_test_snapshot, create_test_pipeline_context])
def test_ids_are_random_but_for_session_and_tenant(make: Any) -> None:
    one, other = make(), make()
    assert all(isinstance(getattr(one, name), UUID) for name in SOME)
    assert all(getattr(one, name) != getattr(other, name) for name in SOME)
    assert (one.session_id, one.org_id, one.topology, one.execution_mode) == (None, None, "test", "test")


@pytest.mark.parametrize("make", [create_test_snapshot, create_test_pipeline_context])
def test_ids_that_are_given_stay(make: Any) -> None:
    ids = {name: uuid4() for name in (*SOME, "session_id", "org_id")}
    made = make(**ids)
    assert {name: getattr(made, name) for name in ids} == ids


def test_the_rest_of_a_snapshot() -> None:
    snapshot = create_test_snapshot(
        input_text="hi", messages=[Message("user", "hi")], extensions={"plan": "pro"}, metadata={"n": 1}
    )
    assert snapshot.messages[0].content == "hi"
    assert snapshot.extensions == {"plan": "pro"}
    assert (snapshot.input_text, snapshot.metadata) == ("hi", {"n": 1})


def test_a_stage_context_reads_what_came_before_without_being_strict() -> None:
    events = EventRecorder()
    ctx = create_test_stage_context(
        input_text="hi",
        prior_outputs={"a": StageOutput.ok(n=1), "b": {"n": 2}},
        declared_deps=["a"],
        ports={"db": 1},
        event_sink=events,
        user_id=UUID(int=7),
    )
    assert ctx.inputs.get_from("b", "n") == 2
    assert ctx.inputs.ports == {"db": 1}
    assert ctx.inputs.declared_deps == {"a"}
    assert (ctx.stage_name, ctx.input_text) == ("test_stage", "hi")
    assert ctx.snapshot.user_id == UUID(int=7)
    ctx.try_emit_event("mine", {"n": 1})
    assert events.data("mine")["n"] == 1


def test_a_snapshot_or_inputs_of_ones_own() -> None:
    snapshot = ContextSnapshot(input_text="own")
    inputs = StageInputs(snapshot, {"a": StageOutput.ok(n=1)})
    assert create_test_stage_context(snapshot=snapshot).snapshot is snapshot
    ctx = create_test_stage_context(inputs=inputs, stage_name="s")
    assert (ctx.inputs, ctx.snapshot, ctx.stage_name) == (inputs, snapshot, "s")
    assert isinstance(ctx.timer, PipelineTimer)
    with pytest.raises(TypeError, match="input_text"):
        create_test_stage_context(snapshot=snapshot, input_text="another")


def test_the_short_name() -> None:
    assert create_test_context("hi").input_text == "hi"
    assert create_test_context(prior_outputs={"a": {"n": 1}}).inputs.get("n") == 1


def test_a_pipeline_context() -> None:
    events = EventRecorder()
    ctx = create_test_pipeline_context(data={"n": 1}, event_sink=events, input_text="hi")
    assert (ctx.service, ctx.data, ctx.event_sink, ctx.input_text) == ("test", {"n": 1}, events, "hi")
    assert create_test_pipeline_context().event_sink is get_event_sink()


# --- checks of snapshots -------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", [None, {"plan": "pro"}], ids=["none", "dict"])
def test_a_normal_snapshot_is_sound(extensions: Any) -> None:
    snapshot = create_test_snapshot(extensions=extensions)
    assert validate_snapshot(snapshot, require_user_id=True, require_request_id=True) == []
    assert validate_snapshot_strict(snapshot) is snapshot


def test_ids_that_are_missing() -> None:
    empty = ContextSnapshot()
    assert validate_snapshot(empty) == ["pipeline_run_id is missing"]
    assert validate_snapshot(empty, require_pipeline_run_id=False) == []
    everything = {"require_user_id": True, "require_org_id": True, "require_request_id": True}
    assert len(validate_snapshot(empty, **everything)) == 4
    with pytest.raises(ArgumentValueError, match="org_id is missing"):
        validate_snapshot(empty, require_org_id=True, strict=True)
    with pytest.raises(ValueError, match="user_id is missing"):
        validate_snapshot_strict(empty, require_user_id=True)


def test_what_is_no_snapshot() -> None:
    nothing: Any = {"input_text": "hi"}
    assert validate_snapshot(nothing) == ["it is a dict, not a ContextSnapshot"]


class Unstorable:
    def to_dict(self) -> dict[str, Any]:
        raise OSError("no")


def test_extensions_that_cannot_be_stored() -> None:
    assert validate_snapshot(create_test_snapshot(extensions=Unstorable())) == [
        "it cannot be stored: OSError: no"
    ]


def test_from_plain_data() -> None:
    snapshot = create_test_snapshot(input_text="hi")
    assert snapshot_from_dict_strict(snapshot.to_dict()) == snapshot
    with pytest.raises(ValueError, match="imput_text"):
        snapshot_from_dict_strict({**snapshot.to_dict(), "imput_text": "hi"})
    with pytest.raises(ValueError, match="org_id is missing"):
        snapshot_from_dict_strict(snapshot.to_dict(), require_org_id=True)
    flat = {"pipeline_run_id": str(UUID(int=1)), "input_text": "hi"}
    assert snapshot_from_dict_strict(flat).pipeline_run_id == UUID(int=1)


def test_a_context_works_in_a_stage() -> None:
    async def body(ctx: Any) -> StageOutput:
        return StageOutput.ok(text=ctx.inputs.require_from("greet", "text").upper())

    ctx = create_test_stage_context(prior_outputs={"greet": {"text": "hi"}})
    assert asyncio.run(body(ctx)).data == {"text": "HI"}
