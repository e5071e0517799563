"""``PipelineResults``: what a run leaves behind."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import pytest
from stageflow import (
    FailureMode,
    Pipeline,
    PipelineCancelled,
    PipelineResults,
    StageExecutionError,
    StageKind,
    StageOutput,
    stage,
    use,
)
from stageflow.errors import MissingInputError

K = StageKind.WORK


@dataclass(frozen=True)
class Greeting:
    text: str


@stage
async def greet() -> Greeting:
    return Greeting("hi")


@stage
async def maybe() -> Greeting | StageOutput:
    return StageOutput.skip("not today")


@stage
async def length(greeting: Greeting = use(greet)) -> int:
    return len(greeting.text)


@stage
async def nothing() -> None:
    return None


async def plain(ctx):
    return {"x": 1}


async def fails(ctx):
    return StageOutput.fail("so", {"partial": 1})


async def run_all(**options) -> PipelineResults:
    pipeline = Pipeline.from_stages(length, greet, maybe, nothing, name="all").with_stage("plain", plain, K)
    return (
        await pipeline.with_stage("fails", fails, K)
        .build(failure_mode=FailureMode.BEST_EFFORT)
        .run(**options)
    )


@pytest.mark.asyncio
async def test_they_are_a_mapping_in_the_order_of_declaration():
    results = await run_all()
    names = ["length", "greet", "maybe", "nothing", "plain", "fails"]
    assert isinstance(results, Mapping)
    assert list(results) == list(results.keys()) == names
    assert len(results) == 6
    assert [output.status for output in results.values()] == ["ok", "ok", "skip", "ok", "ok", "fail"]
    assert dict(results.items())["plain"] is results["plain"]
    assert "plain" in results
    assert "nobody" not in results
    assert results.get("nobody") is None
    assert results.get("nobody", 3) == 3
    assert results == dict(results)
    assert (
        repr(results) == "<PipelineResults length=ok, greet=ok, maybe=skip, nothing=ok, plain=ok, fails=fail>"
    )


@pytest.mark.asyncio
async def test_they_say_of_which_run_they_are():
    results = await run_all()
    assert isinstance(results.run_id, UUID)
    assert results.pipeline == "all"
    assert results.duration_ms > 0
    assert isinstance(results.error, StageExecutionError)
    assert results.error.results is results
    assert all(output.duration_ms is not None for output in results.values())
    sound = await Pipeline.from_stages(greet).run()
    assert sound.error is None
    assert sound.run_id != results.run_id


@pytest.mark.asyncio
async def test_values_by_stage_and_by_name():
    results = await run_all()
    assert results.value(greet) == results.value("greet") == Greeting("hi")
    assert results.value(length) == results.value("length") == 2
    assert results.value(nothing) is None
    assert results.value("nothing") is None
    assert results.value("plain") == {"x": 1}
    assert results["greet"].data == {"text": "hi"}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["maybe", "fails", "after"])
async def test_a_stage_that_left_no_value_has_none_by_name_either(name):
    """``value`` says so: skipped, failed or never ran."""
    results = await run_all()
    with pytest.raises(MissingInputError) as caught:
        results.value(name)
    assert caught.value.stage_name == name
    assert isinstance(caught.value, KeyError)
    if name == "maybe":
        with pytest.raises(MissingInputError):
            results.value(maybe)


@pytest.mark.asyncio
async def test_a_typed_stage_that_was_not_in_the_pipeline_or_never_ran_has_no_value():
    @stage
    async def elsewhere() -> int:
        return 1

    @stage
    async def broken() -> int:
        raise ValueError

    @stage
    async def after(value: int = use(broken)) -> int:
        return value

    results = await run_all()
    with pytest.raises(MissingInputError):
        results.value(elsewhere)
    results = await Pipeline.from_stages(broken, after).run(raise_errors=False)
    for one in (broken, after):
        with pytest.raises(MissingInputError) as caught:
            results.value(one)
        assert caught.value.stage_name == one.name


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "look_up", [PipelineResults.value, PipelineResults.__getitem__], ids=["value", "item"]
)
async def test_a_misspelt_name_lists_close_matches(look_up):
    results = await run_all()
    with pytest.raises(MissingInputError, match="Did you mean 'greet'") as caught:
        look_up(results, "gret")
    assert isinstance(caught.value, KeyError)
    assert caught.value.stage_name == "gret"
    with pytest.raises(MissingInputError) as caught:
        look_up(results, "zzzzzz")
    assert "Did you mean" not in str(caught.value)
    assert caught.value.fix


@pytest.mark.asyncio
@pytest.mark.parametrize("key", [None, 3, ("greet",)], ids=["none", "int", "tuple"])
async def test_any_hashable_can_be_asked_for(key):
    results = await run_all()
    assert key not in results
    assert results.get(key) is None
    with pytest.raises(KeyError):
        results[key]


@pytest.mark.asyncio
async def test_they_are_read_only():
    results = await run_all()
    before = dict(results)
    with pytest.raises(TypeError):
        results["plain"] = StageOutput.ok()
    with pytest.raises(TypeError):
        del results["plain"]
    with pytest.raises(AttributeError):
        results.more = 1
    with pytest.raises(AttributeError):
        results["plain"].status = "fail"
    assert dict(results) == before


def test_they_are_no_view_of_what_they_were_made_of():
    outputs = {"a": StageOutput.ok()}
    results = PipelineResults(outputs)
    outputs["b"] = StageOutput.ok()
    assert list(results) == ["a"]
    assert (results.run_id, results.error, results.duration_ms, results.pipeline) == (None, None, 0.0, "")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, *(lambda one, p=p: pickle.loads(pickle.dumps(one, p)) for p in range(2, 6))],
    ids=["copy", "deepcopy", "pickle 2", "pickle 3", "pickle 4", "pickle 5"],
)
async def test_they_copy_and_pickle_with_their_error(copied):
    results = await run_all()
    same = copied(results)
    assert type(same) is PipelineResults
    assert same == results
    assert list(same) == list(results)
    assert (same.run_id, same.duration_ms, same.pipeline) == (results.run_id, results.duration_ms, "all")
    assert same.value(greet) == Greeting("hi")
    assert str(same.error) == str(results.error)
    if copied is not copy.copy:
        assert same.error.results is same


@pytest.mark.asyncio
async def test_only_what_has_settled_is_in_them():
    async def cancels(ctx):
        return StageOutput.cancel("enough")

    pipeline = (
        Pipeline()
        .with_stage("late", plain, K, ["cancels"])
        .with_stage("cancels", cancels, K, ["early"])
        .with_stage("early", plain, K)
    )
    with pytest.raises(PipelineCancelled) as caught:
        await pipeline.run()
    assert list(caught.value.results) == ["cancels", "early"]
    results = await pipeline.run(raise_errors=False)
    assert list(results) == ["cancels", "early"]
    assert isinstance(results.error, PipelineCancelled)
    assert results.error.results is results
    assert results.error.run_id == results.run_id
