"""Skips, conditions and joins: DESIGN section 4 and docs/explanation/outcomes.md."""

from __future__ import annotations

import pytest
from stageflow import Pipeline, StageContext, StageKind, StageOutput, stage, use

K = StageKind.TRANSFORM


async def ok(ctx):
    return {"ran": ctx.stage_name}


async def skips(ctx):
    return StageOutput.skip("nothing to do", {"more": 1})


def no(_):
    return False


def yes(_):
    return True


def shape(results) -> dict[str, str]:
    """Say of every stage how it ended, and why it was not started."""
    return {
        name: "ok" if output.status == "ok" else output.data.get("reason", str(output.status))
        for name, output in results.items()
    }


@pytest.mark.asyncio
async def test_a_skip_settles_and_dependants_run(sink):
    seen = []

    async def reads(ctx):
        seen.append((ctx.inputs.get_from("a", "reason"), ctx.inputs.get_from("a", "more")))

    results = await Pipeline().with_stage("a", skips, K).with_stage("b", reads, K, ["a"]).run(sink=sink)
    assert shape(results) == {"a": "nothing to do", "b": "ok"}
    assert seen == [("nothing to do", 1)]
    assert sink.of("a") == ["started", "skipped"]
    assert sink.data("stage.a.skipped")["reason"] == "nothing to do"
    sink.assert_paired(stages=["a", "b"], end="completed")


@pytest.mark.asyncio
@pytest.mark.parametrize("others", [[], ["sound"], ["sound", "other"]], ids=len)
async def test_a_conditional_stage_is_skipped_when_any_dependency_was(others, sink):
    pipeline = Pipeline().with_stage("a", skips, K).with_stage("sound", ok, K).with_stage("other", ok, K)
    pipeline = pipeline.with_stage("b", ok, K, ["a", *others], conditional=True)
    results = await pipeline.run(sink=sink)
    assert shape(results)["b"] == "dependency_skipped"
    assert sink.of("b") == ["skipped"]


@pytest.mark.asyncio
async def test_a_conditional_stage_runs_when_nothing_was_skipped():
    results = await Pipeline().with_stage("a", ok, K).with_stage("b", ok, K, ["a"], conditional=True).run()
    assert shape(results) == {"a": "ok", "b": "ok"}


@pytest.mark.asyncio
async def test_a_condition_that_is_false_skips_the_whole_branch(sink):
    pipeline = (
        Pipeline()
        .with_stage("a", ok, K, when=no)
        .with_stage("b", ok, K, ["a"])
        .with_stage("c", ok, K, ["b"])
        .with_stage("d", ok, K)
    )
    results = await pipeline.run(sink=sink)
    assert shape(results) == {
        "a": "condition_false",
        "b": "branch_not_taken",
        "c": "branch_not_taken",
        "d": "ok",
    }
    for name in "abc":
        assert sink.of(name) == ["skipped"]
    sink.assert_paired(stages="abcd", end="completed")


@pytest.mark.asyncio
@pytest.mark.parametrize(("left", "right"), [(yes, yes), (yes, no), (no, yes), (no, no)])
async def test_a_join_runs_if_at_least_one_branch_ran(left, right):
    pipeline = (
        Pipeline()
        .with_stage("route", ok, StageKind.ROUTE)
        .with_stage("left", ok, K, ["route"], when=left)
        .with_stage("left 2", ok, K, ["left"])
        .with_stage("right", ok, K, ["route"], when=right)
        .with_stage("join", ok, K, ["left 2", "right"])
        .with_stage("after", ok, K, ["join"])
    )
    found = shape(await pipeline.run())
    expected = "branch_not_taken" if left is right is no else "ok"
    assert found["join"] == found["after"] == expected


@pytest.mark.asyncio
async def test_a_condition_reads_what_the_stage_may_read():
    async def one(ctx):
        return {"n": 1}

    def odd(inputs):
        return inputs.require_from("one", "n") % 2 == 1

    pipeline = (
        Pipeline()
        .with_stage("one", one, K)
        .with_stage("odd", ok, K, ["one"], when=odd)
        .with_stage("even", ok, K, ["one"], when=lambda inputs: not odd(inputs))
    )
    assert shape(await pipeline.run()) == {"one": "ok", "odd": "ok", "even": "condition_false"}


@pytest.mark.asyncio
async def test_a_condition_may_not_read_anything_else():
    results = await (
        Pipeline()
        .with_stage("a", ok, K)
        .with_stage("b", ok, K, when=lambda inputs: inputs.get_from("a", "ran"))
    ).run(raise_errors=False)
    assert results.error.stage == "b"
    assert results.error.original.code == "SF-RUN-UNDECLARED-DEPENDENCY"


@pytest.mark.asyncio
async def test_a_condition_is_asked_once_and_only_if_the_stage_could_run():
    asked = []

    def condition(name):
        return lambda _: asked.append(name) or True

    pipeline = (
        Pipeline()
        .with_stage("a", ok, K, when=no)
        .with_stage("b", ok, K, ["a"], when=condition("b"))
        .with_stage("c", ok, K, when=condition("c"))
    )
    await pipeline.run()
    assert asked == ["c"]


# --- typed stages and values that are missing ---------------------------------------------------------------------


@stage(when=no)
async def not_started(ctx: StageContext) -> int:
    return 1


@stage
async def skipped(ctx: StageContext) -> int | StageOutput:
    return StageOutput.skip("nothing")


@stage
async def wants_not_started(ctx: StageContext, number: int = use(not_started)) -> int:
    return number


@stage
async def wants_skipped(ctx: StageContext, number: int = use(skipped)) -> int:
    return number


@stage
async def may_have_not_started(ctx: StageContext, number: int = use(not_started, default=7)) -> int:
    return number


@stage
async def may_have_skipped(ctx: StageContext, number: int | None = use(skipped, default=None)) -> str:
    return repr(number)


@pytest.mark.asyncio
async def test_a_stage_whose_value_is_missing_is_skipped(sink):
    results = await Pipeline.from_stages(skipped, wants_skipped).run(sink=sink)
    assert shape(results)["wants_skipped"] == "value_missing"
    assert sink.of("wants_skipped") == ["skipped"]
    results = await Pipeline.from_stages(not_started, wants_not_started).run()
    assert results["wants_not_started"].status == "skip"


@pytest.mark.asyncio
async def test_a_default_stands_in_for_a_stage_that_skipped():
    results = await Pipeline.from_stages(skipped, may_have_skipped).run()
    assert results.value(may_have_skipped) == "None"


@pytest.mark.asyncio
async def test_a_default_stands_in_for_a_stage_that_was_not_started():
    """DESIGN: if a used stage has no value, the consumer is skipped *unless a default is given*."""
    results = await Pipeline.from_stages(not_started, may_have_not_started).run()
    assert results.value(may_have_not_started) == 7


@pytest.mark.asyncio
async def test_the_same_holds_for_typed_stages_that_are_added_by_name():
    pipeline = (
        Pipeline()
        .with_stage("skipped", skips, K)
        .with_stage("wants_skipped", wants_skipped, K, ["skipped"])
        .with_stage("may_have_skipped", may_have_skipped, K, ["skipped"])
    )
    results = await pipeline.run(raise_errors=False)
    assert shape(results) == {
        "skipped": "nothing to do",
        "wants_skipped": "value_missing",
        "may_have_skipped": "ok",
    }
