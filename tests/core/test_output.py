"""``StageOutput`` and its kin: factories, immutability, and what a run makes of them."""

from __future__ import annotations

import copy
import pickle
from collections import UserDict
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import (
    FailureMode,
    Pipeline,
    PipelineContext,
    StageArtifact,
    StageEvent,
    StageKind,
    StageOutput,
    StageStatus,
)
from stageflow.stages.output import NO_VALUE

K = StageKind.TRANSFORM


async def nothing(ctx):
    return None


def test_factories():
    assert StageOutput.ok().data == {}
    assert StageOutput.ok({"a": 1}, b=2).data == {"a": 1, "b": 2}
    assert StageOutput.ok({"a": 1}, a=2, version="v").data == {"a": 2}
    assert StageOutput.ok(a=1).status is StageStatus.OK
    assert StageOutput.skip("why", {"more": 1}).data == {"reason": "why", "more": 1}
    assert StageOutput.cancel("why").data == {"cancel_reason": "why"}
    assert StageOutput.fail().error == "Unknown error"
    assert StageOutput.fail("no").error == StageOutput.fail(response="no").error == "no"
    assert StageOutput.fail("no", {"a": 1}).data == {"a": 1}
    assert StageOutput.retry("no", retry_after=3).data == {"retry_after": 3}
    assert StageOutput.retry("no").data == {}
    assert [StageOutput.ok(version="1").version, StageOutput.ok().with_version("2").version] == ["1", "2"]
    assert StageOutput.ok().with_duration(3).duration_ms == 3


def test_factories_do_not_change_or_share_what_they_are_given():
    given_data = {"a": 1}
    StageOutput.ok(given_data, b=2)
    StageOutput.skip("x", given_data)
    StageOutput.retry("x", given_data, retry_after=1)
    assert given_data == {"a": 1}


@pytest.mark.parametrize(
    "record",
    [StageOutput.ok(a=1), StageEvent("t", {"a": 1}), StageArtifact("t", [1])],
    ids=lambda one: type(one).__name__,
)
def test_records_are_immutable_equal_by_value_and_pickle(record):
    for name in (*record.__slots__, "other"):
        with pytest.raises(AttributeError):
            setattr(record, name, 1)
    with pytest.raises(AttributeError):
        delattr(record, record.__slots__[0])
    for again in (pickle.loads(pickle.dumps(record)), copy.copy(record), copy.deepcopy(record)):
        assert again == record
        assert type(again) is type(record)
    assert record != "something else"
    assert type(record).__name__ in repr(record)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_value_is_one_object_for_ever(protocol):
    assert pickle.loads(pickle.dumps(StageOutput.ok(), protocol)).value is NO_VALUE
    assert copy.deepcopy(NO_VALUE) is NO_VALUE


# --- bad values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [5, "text", [1], {1}, object()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("factory", ["ok", "skip", "cancel", "fail", "retry"])
def test_data_is_a_mapping(factory, data):
    with pytest.raises(TypeError, match="mapping"):
        getattr(StageOutput, factory)("why", data) if factory != "ok" else StageOutput.ok(data)


@pytest.mark.parametrize("status", ["ok", "fail", "skip", "cancel", "retry"])
def test_a_status_by_name_is_that_status(status):
    """StageStatus is a str, so users and stores write "fail"; it must not count as something else."""
    try:
        output = StageOutput(status)
    except (TypeError, ValueError):
        return
    assert output.status is StageStatus(status)


@pytest.mark.parametrize("status", ["nonsense", None, 5])
def test_an_unknown_status_is_refused(status):
    with pytest.raises((TypeError, ValueError)):
        StageOutput(status)


@pytest.mark.asyncio
async def test_a_failure_by_name_is_a_failure(sink):
    async def fails(ctx):
        return StageOutput("fail", error="no")

    results = await Pipeline().with_stage("a", fails, K).run(raise_errors=False, sink=sink)
    assert results.error is not None
    assert sink.types[-1] == "pipeline.failed"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "events",
    [lambda: ["x"], lambda: 5, lambda: [None], lambda: [StageEvent("x", None)], lambda: [StageEvent("x", 5)]],
    ids=["a text", "no list", "None", "no data", "data that is no mapping"],
)
@pytest.mark.parametrize("mode", [FailureMode.FAIL_FAST, FailureMode.CONTINUE_ON_FAILURE])
async def test_malformed_events_do_not_break_the_run(events, mode, sink):
    """Whatever becomes of the stage: it ends, the run ends, and both say so."""

    async def odd(ctx):
        return StageOutput(StageStatus.OK, {}, events=events())

    graph = Pipeline().with_stage("a", odd, K).with_stage("b", nothing, K, ["a"]).build(failure_mode=mode)
    await graph.run(raise_errors=False, sink=sink)
    sink.assert_paired(stages=["a", "b"])


@pytest.mark.asyncio
@pytest.mark.parametrize("artifacts", [5, None])
async def test_malformed_artifacts_do_not_break_the_run(artifacts, sink):
    async def odd(ctx):
        return StageOutput(StageStatus.OK, {}, artifacts=artifacts)

    await Pipeline().with_stage("a", odd, K).run(PipelineContext(), raise_errors=False, sink=sink)
    sink.assert_paired(stages=["a"])


# --- what a run makes of an output -----------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "value",
    [None, {}, {"a": 1}, MappingProxyType({"a": 1}), UserDict(a=1)],
    ids=["None", "empty", "dict", "proxy", "UserDict"],
)
async def test_nothing_and_mappings_are_ok(value):
    async def body(ctx):
        return value

    results = await Pipeline().with_stage("a", body, K).run()
    assert results["a"].status is StageStatus.OK
    assert dict(results["a"].data) == dict(value or {})


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [5, "text", [1], True, object], ids=repr)
async def test_anything_else_fails_the_stage(value):
    async def body(ctx):
        return value

    results = await Pipeline().with_stage("a", body, K).run(raise_errors=False)
    assert results.error.original.code == "SF-RUN-STAGE-CONTRACT"


@pytest.mark.asyncio
@pytest.mark.parametrize("make", [dict, MappingProxyType, UserDict])
async def test_what_a_stage_handed_over_nobody_changes(make):
    """Neither the producer, who kept a reference, nor a consumer; and whatever kind of mapping it is."""
    kept = {"numbers": [1]}

    async def produce(ctx):
        return StageOutput.ok(make(kept))

    async def spoil(ctx):
        kept["numbers"].append(2)
        kept["more"] = True
        with pytest.raises((TypeError, AttributeError)):
            ctx.inputs.get_output("produce").data["more"] = 1
        with pytest.raises((TypeError, AttributeError)):
            ctx.inputs.get_from("produce", "numbers").append(3)

    results = (
        await Pipeline().with_stage("produce", produce, K).with_stage("spoil", spoil, K, ["produce"]).run()
    )
    assert dict(results["produce"].data) == {"numbers": [1]}


@pytest.mark.asyncio
async def test_data_that_contains_itself_fails_its_stage(sink):
    async def loops(ctx):
        data = {}
        data["self"] = data
        return data

    results = await Pipeline().with_stage("a", loops, K).run(raise_errors=False, sink=sink)
    assert results.error.original.code == "SF-RUN-CYCLIC-DATA"
    sink.assert_paired(stages=["a"], end="failed")


@pytest.mark.asyncio
async def test_events_and_artifacts_are_forwarded(sink):
    """Finding A1.15: they went nowhere."""
    context = PipelineContext()

    async def body(ctx):
        artifact = StageArtifact("image", b"...")
        event = StageEvent("page.rendered", {"page": 3})
        return StageOutput(StageStatus.OK, {}, [artifact], [event])

    await Pipeline().with_stage("a", body, K).run(context, sink=sink)
    assert sink.data("page.rendered")["page"] == 3
    assert sink.data("page.rendered")["stage"] == "a"
    assert [artifact.type for artifact in context.artifacts] == ["image"]


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [StageStatus.OK, StageStatus.SKIP, StageStatus.FAIL, StageStatus.CANCEL])
async def test_events_of_a_stage_come_before_the_one_that_ends_it(status, sink):
    async def body(ctx):
        return StageOutput(status, {}, events=[StageEvent("mine", {})], error="no")

    await Pipeline().with_stage("a", body, K).run(sink=sink, raise_errors=False)
    assert [type.rpartition(".")[2] for type in sink.types[1:-1]][:2] == ["started", "mine"]


@pytest.mark.asyncio
async def test_durations_are_filled_in():
    results = await Pipeline().with_stage("a", nothing, K).run()
    assert results["a"].duration_ms >= 0


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        ),
    )
)
def test_outputs_pickle_with_any_data(data):
    output = StageOutput.ok(data)
    assert pickle.loads(pickle.dumps(output)) == output
