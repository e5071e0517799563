"""``StageInputs``: every way to read, and what may be read at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import (
    ContextSnapshot,
    Pipeline,
    PipelineContext,
    StageInputs,
    StageKind,
    StageOutput,
    create_stage_inputs,
)
from stageflow.context import OutputBag
from stageflow.errors import (
    AmbiguousKeyError,
    MissingInputError,
    StageflowError,
    UndeclaredDependencyError,
)

K = StageKind.TRANSFORM
SNAPSHOT = ContextSnapshot(input_text="hi")
OUTPUTS = {
    "greet": StageOutput.ok(text="hello", tone=None, shared=1),
    "look": StageOutput.ok(found=[1, 2], shared=2),
    "skipped": StageOutput.skip("nothing to do", {"more": 1}),
}


@pytest.fixture
def inputs() -> StageInputs:
    return StageInputs(SNAPSHOT, OUTPUTS, {"db": "handle"}, ["greet", "look", "skipped", "late"], "reader")


def test_what_there_is(inputs):
    assert inputs.snapshot is SNAPSHOT
    assert inputs.ports == {"db": "handle"}
    assert inputs.stage_name == "reader"
    assert inputs.declared_deps == {"greet", "look", "skipped", "late"}
    assert inputs.strict is True
    assert list(inputs.prior_outputs) == ["greet", "look", "skipped"]
    assert "reader" in repr(inputs)
    assert "greet" in repr(inputs)


def test_nothing_at_all():
    inputs = StageInputs(SNAPSHOT)
    assert inputs.prior_outputs == {}
    assert inputs.declared_deps == frozenset()
    assert inputs.get("anything") is None
    assert inputs.get("anything", 3) == 3
    with pytest.raises(UndeclaredDependencyError):
        inputs.get_from("anybody", "x")


def test_get(inputs):
    assert inputs.get("text") == "hello"
    assert inputs.get("found") == [1, 2]
    assert inputs.get("more") == 1
    assert inputs.get("tone", "default") is None  # there, and None
    assert inputs.get("nowhere") is None
    assert inputs.get("nowhere", "default") == "default"


def test_get_of_what_two_could_answer_names_both(inputs):
    with pytest.raises(AmbiguousKeyError) as caught:
        inputs.get("shared")
    assert caught.value.stages == ("greet", "look")
    assert caught.value.key == "shared"
    assert caught.value.accessing_stage == "reader"
    assert "get_from('greet', 'shared')" in str(caught.value)
    with pytest.raises(LookupError):
        inputs.get("shared", "a default changes nothing")


def test_get_from(inputs):
    assert inputs.get_from("greet", "shared") == 1
    assert inputs.get_from("look", "shared") == 2
    assert inputs.get_from("skipped", "reason") == "nothing to do"
    assert inputs.get_from("greet", "tone", "default") is None
    assert inputs.get_from("greet", "nowhere") is None
    assert inputs.get_from("greet", "nowhere", 5) == 5
    assert inputs.get_from("greet", "nowhere", default=5) == 5
    assert inputs.get_from("late", "text") is None
    assert inputs.get_from("late", "text", 5) == 5


def test_require_from(inputs):
    assert inputs.require_from("greet", "text") == "hello"
    assert inputs.require_from("greet", "tone") is None
    with pytest.raises(MissingInputError) as caught:
        inputs.require_from("greet", "txt")
    assert caught.value.known == ("text", "tone", "shared")
    assert "Did you mean 'text'" in str(caught.value)
    assert "'reader'" in str(caught.value)
    with pytest.raises(KeyError) as caught:
        inputs.require_from("late", "text")
    assert (caught.value.stage_name, caught.value.key) == ("late", None)


def test_has_and_get_output(inputs):
    assert inputs.has_output("greet")
    assert inputs.has_output("skipped")
    assert not inputs.has_output("late")
    assert inputs.get_output("greet") is OUTPUTS["greet"]
    assert inputs.get_output("late") is None
    assert inputs.get_output("late", OUTPUTS["look"]) is OUTPUTS["look"]


READS = {
    "get_from": lambda inputs, name: inputs.get_from(name, "text"),
    "get_from with a default": lambda inputs, name: inputs.get_from(name, "text", default=1),
    "require_from": lambda inputs, name: inputs.require_from(name, "text"),
    "has_output": lambda inputs, name: inputs.has_output(name),
    "get_output": lambda inputs, name: inputs.get_output(name),
    "get_output with a default": lambda inputs, name: inputs.get_output(name, OUTPUTS["look"]),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("declared", [[], ["look"]], ids=["none declared", "another declared"])
def test_what_is_not_declared_cannot_be_read(read, declared):
    """Also with nothing declared, and also if the output is there (finding A1.6 of 0.9)."""
    inputs = StageInputs(SNAPSHOT, OUTPUTS, declared_deps=declared, stage_name="reader")
    with pytest.raises(UndeclaredDependencyError) as caught:
        read(inputs, "greet")
    assert caught.value.stage_name == "greet"
    assert caught.value.accessing_stage == "reader"
    assert caught.value.declared_deps == tuple(declared)
    if declared:
        with pytest.raises(UndeclaredDependencyError, match="Did you mean 'look'"):
            read(inputs, "loook")


@pytest.mark.parametrize("declared", [[], ["look"]], ids=["none declared", "another declared"])
def test_get_does_not_look_into_what_is_not_declared_either(declared):
    inputs = StageInputs(SNAPSHOT, OUTPUTS, declared_deps=declared, stage_name="reader")
    assert inputs.get("text") is None
    assert inputs.get("shared") == (2 if declared else None)


def test_get_does_not_look_into_an_undeclared_stage_of_a_derived_context():
    bag = OutputBag()
    for name, output in OUTPUTS.items():
        bag.write_sync(name, output)
    ctx = PipelineContext().derive_for_stage("reader", SNAPSHOT, bag, declared_deps=["look"])
    assert ctx.inputs.get("found") == [1, 2]
    assert ctx.inputs.get("text") is None


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_test_may_read_anything_if_it_says_so(read):
    inputs = StageInputs(SNAPSHOT, OUTPUTS, declared_deps=[], stage_name="reader", strict=False)
    assert read(inputs, "greet") in ("hello", True, OUTPUTS["greet"])
    assert inputs.get("text") == "hello"
    assert inputs.get_from("nobody", "text") is None


@pytest.mark.parametrize(
    "read",
    [
        lambda inputs, key: inputs.get(key),
        lambda inputs, key: inputs.get_from("greet", key),
        lambda inputs, key: inputs.require_from("greet", key),
    ],
    ids=["get", "get_from", "require_from"],
)
@pytest.mark.parametrize(
    ("key", "error"),
    [("", ValueError), (None, TypeError), (3, TypeError), (b"text", TypeError), (["text"], TypeError)],
    ids=["empty", "none", "int", "bytes", "list"],
)
def test_keys_are_texts(inputs, read, key, error):
    """With the error types of 0.9, and a code like every error of ours (issue 3, bad input)."""
    with pytest.raises(error) as caught:
        read(inputs, key)
    assert isinstance(caught.value, StageflowError)
    assert (
        caught.value.code == {ValueError: "SF-RUN-ARGUMENT-VALUE", TypeError: "SF-RUN-ARGUMENT-TYPE"}[error]
    )


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("name", [None, 3, b"greet", ["greet"]], ids=["none", "int", "bytes", "list"])
def test_names_of_stages_are_texts(read, name):
    inputs = StageInputs(SNAPSHOT, OUTPUTS, declared_deps=["greet"], stage_name="reader")
    with pytest.raises(StageflowError):
        read(inputs, name)


@pytest.mark.parametrize("make", [StageInputs, create_stage_inputs], ids=["class", "function"])
def test_a_lone_name_is_one_dependency(make):
    """As in ``StageSpec``: taken apart into letters it would only ever be a mistake."""
    assert make(SNAPSHOT, prior_outputs=OUTPUTS, declared_deps="greet").get_from("greet", "text") == "hello"


@pytest.mark.parametrize(
    "deps",
    [["greet"], ("greet",), {"greet"}, frozenset({"greet"}), iter(["greet"]), {"greet": 1}],
    ids=["list", "tuple", "set", "frozenset", "iterator", "dict"],
)
def test_the_function_takes_any_iterable_and_the_same_arguments(deps):
    inputs = create_stage_inputs(
        SNAPSHOT, prior_outputs=OUTPUTS, ports=1, declared_deps=deps, stage_name="reader", strict=True
    )
    assert isinstance(inputs, StageInputs)
    assert inputs.declared_deps == {"greet"}
    assert inputs.get_from("greet", "text") == "hello"
    assert inputs.ports == 1
    with pytest.raises(UndeclaredDependencyError):
        inputs.get_from("look", "found")
    assert create_stage_inputs(SNAPSHOT, prior_outputs=OUTPUTS).declared_deps == set(OUTPUTS)


@pytest.mark.asyncio
async def test_in_a_run_a_stage_gets_its_own_dependencies_in_the_order_of_their_declaration():
    seen = {}

    async def makes(ctx):
        return {"name": ctx.stage_name, ctx.stage_name: 1}

    async def reads(ctx):
        inputs = ctx.inputs
        assert inputs is ctx.inputs
        seen.update(
            order=list(inputs.prior_outputs),
            declared=inputs.declared_deps,
            name=inputs.stage_name,
            one=inputs.get("b"),
        )
        with pytest.raises(AmbiguousKeyError) as caught:
            inputs.get("name")
        seen["both"] = caught.value.stages
        for read in READS.values():
            with pytest.raises(UndeclaredDependencyError):
                read(inputs, "other")
        assert inputs.get("other") is None

    async def reads_nothing(ctx):
        assert ctx.inputs.prior_outputs == {}
        assert ctx.inputs.get("a") is None
        for read in READS.values():
            with pytest.raises(UndeclaredDependencyError):
                read(ctx.inputs, "a")

    pipeline = Pipeline()
    for name in ("a", "b", "other"):
        pipeline = pipeline.with_stage(name, makes, K)
    pipeline = pipeline.with_stage("reads", reads, K, ["b", "a", "b"]).with_stage("nothing", reads_nothing, K)
    await pipeline.run()
    assert seen == {
        "order": ["b", "a"],
        "declared": {"a", "b"},
        "name": "reads",
        "one": 1,
        "both": ("b", "a"),
    }


@pytest.mark.asyncio
async def test_a_stage_that_changes_its_inputs_changes_nobody_elses():
    async def makes(ctx):
        return {"x": 1}

    async def tampers(ctx):
        ctx.inputs.prior_outputs.clear()

    async def reads(ctx):
        return {"x": ctx.inputs.require_from("makes", "x")}

    pipeline = Pipeline().with_stage("makes", makes, K).with_stage("tampers", tampers, K, ["makes"])
    results = await pipeline.with_stage("reads", reads, K, ["makes", "tampers"]).run()
    assert results["reads"].data == {"x": 1}
    assert results["makes"].data == {"x": 1}


NAMES = st.sampled_from("abcde")


@given(
    outputs=st.dictionaries(NAMES, st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9))),
    declared=st.sets(NAMES),
    name=NAMES,
    key=st.sampled_from("xyz"),
)
def test_every_answer_follows_from_what_is_declared_and_there(outputs, declared, name, key):
    inputs = StageInputs(
        SNAPSHOT, {one: StageOutput.ok(data) for one, data in outputs.items()}, declared_deps=declared
    )
    missing = object()

    def outcome(call, *arguments):
        try:
            return call(*arguments)
        except StageflowError as error:
            return type(error)

    holders = [one for one in outputs if one in declared and key in outputs[one]]
    expected = (
        missing if not holders else outputs[holders[0]][key] if len(holders) == 1 else AmbiguousKeyError
    )
    assert outcome(inputs.get, key, missing) == expected
    if name not in declared:
        expected_from = required = has = UndeclaredDependencyError
    else:
        expected_from = outputs.get(name, {}).get(key, missing)
        required = MissingInputError if expected_from is missing else expected_from
        has = name in outputs
    assert outcome(inputs.get_from, name, key, missing) == expected_from
    assert outcome(inputs.require_from, name, key) == required
    assert outcome(inputs.has_output, name) == has
