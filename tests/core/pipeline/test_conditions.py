"""``ConditionalDependency`` is wired (finding A1.22): it decides as ``when=`` of a stage."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys

import pytest
from stageflow import Pipeline, StageExecutionError, StageKind, StageOutput
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import UndeclaredDependencyError
from stageflow.pipeline.conditions import ConditionalDependency, MissingLibraryError

W = StageKind.WORK


async def work(ctx):
    return {}


def pipeline(output, condition, dependencies=("router",)):
    async def router(ctx):
        return output

    return (
        Pipeline()
        .with_stage("router", router, W)
        .with_stage("other", work, W)
        .with_stage("branch", work, W, dependencies, when=condition)
        .with_stage("after", work, W, ["branch"])
    )


def branch_of(output, condition):
    results = asyncio.run(pipeline(output, condition).run())
    assert results["branch"].status == results["after"].status
    return results["branch"].status.value


@pytest.mark.parametrize(
    ("data", "expected"),
    [({"go": True}, "ok"), ({"go": "x"}, "ok"), ({"go": 0}, "skip"), ({"go": None}, "skip"), ({}, "skip")],
    ids=["true", "text", "zero", "none", "missing"],
)
def test_finding_a1_22_a_path_decides(data, expected):
    assert branch_of(data, ConditionalDependency("router", "router:go")) == expected


def test_a_function_decides_on_the_data():
    condition = ConditionalDependency("router", lambda data: data["score"] > 1)
    assert branch_of({"score": 2}, condition) == "ok"
    assert branch_of({"score": 1}, condition) == "skip"


def test_a_skipped_dependency_is_false_and_its_function_is_not_asked():
    output = StageOutput.skip("nothing")
    assert branch_of(output, ConditionalDependency("router", lambda data: data["score"] > 1)) == "skip"
    assert branch_of(output, ConditionalDependency("router", "router:reason")) == "skip"


def test_without_skip_on_false_the_stage_runs_all_the_same():
    condition = ConditionalDependency("router", "router:go", skip_on_false=False)
    assert branch_of({"go": False}, condition) == "ok"
    assert not condition.evaluate({"router": StageOutput.ok(go=False)})


def test_a_function_that_raises_fails_the_stage():
    with pytest.raises(StageExecutionError) as caught:
        branch_of({}, ConditionalDependency("router", lambda data: data["score"] > 1))
    assert caught.value.stage == "branch"


def test_a_stage_must_declare_what_its_condition_reads():
    undeclared = pipeline({"go": True}, ConditionalDependency("router", "router:go"), ["other"])
    with pytest.raises(StageExecutionError) as caught:
        asyncio.run(undeclared.run())
    assert isinstance(caught.value.original, UndeclaredDependencyError)


def test_evaluate_takes_outputs():
    outputs = {"a": StageOutput.ok(x=1), "b": StageOutput.fail("no")}
    assert ConditionalDependency("a", "a:x").evaluate(outputs)
    assert not ConditionalDependency("b", "b:x").evaluate(outputs)
    assert not ConditionalDependency("c", "c:x").evaluate(outputs)
    assert ConditionalDependency("c", "a:x").evaluate(outputs)
    assert ConditionalDependency("c", "a:x").stages == ("c", "a")
    assert ConditionalDependency("c", bool).stages == ("c",)


def test_stage_names_with_dots_spaces_and_unicode():
    for name in ("a.b", "café ☕", "with space"):
        condition = ConditionalDependency(name, f"{name}:key with space")
        assert condition.evaluate({name: StageOutput.ok({"key with space": 1})})


def test_it_is_a_value():
    condition = ConditionalDependency("a", "a:x", skip_on_false=False)
    assert condition == ConditionalDependency("a", "a:x", skip_on_false=False)
    assert condition != ConditionalDependency("a", "a:x")
    assert len({condition, copy.deepcopy(condition)}) == 1
    copied = pickle.loads(pickle.dumps(condition))
    assert copied == condition
    assert copied.evaluate({"a": StageOutput.ok(x=1)})
    assert repr(condition) == "ConditionalDependency(stage='a', predicate='a:x', skip_on_false=False)"
    with pytest.raises(AttributeError):
        condition.stage = "b"


def test_equal_conditions_make_equal_stages():
    one, two = (pipeline({}, ConditionalDependency("router", "router:go")) for _ in range(2))
    assert one.specs[2] == two.specs[2]


@pytest.mark.parametrize(
    ("stage", "predicate", "error"),
    [
        ("", "a:x", ArgumentValueError),
        (None, "a:x", ArgumentTypeError),
        ("a", "", ArgumentValueError),
        ("a", None, ArgumentTypeError),
        ("a", 7, ArgumentTypeError),
    ],
)
def test_bad_arguments(stage, predicate, error):
    with pytest.raises(error):
        ConditionalDependency(stage, predicate)


def test_an_expression_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jmespath", None)
    with pytest.raises(ImportError) as caught:
        ConditionalDependency("a", "a.x > `1`")
    error = caught.value
    assert isinstance(error, MissingLibraryError)
    assert (error.code, error.library) == ("SF-CONFIG-MISSING-LIBRARY", "jmespath")
    assert error.fix == "Run: pip install jmespath"


def test_an_expression_decides():
    condition = ConditionalDependency("router", "router.scores[-1] > `0.5` && !(router.blocked)")
    assert branch_of({"scores": [0, 1]}, condition) == "ok"
    assert branch_of({"scores": [1, 0]}, condition) == "skip"
    assert branch_of({"scores": [1], "blocked": True}, condition) == "skip"
    with pytest.raises(ArgumentValueError, match="no JMESPath"):
        ConditionalDependency("a", "a[")


def test_an_expression_of_a_stage_that_was_skipped_is_false():
    assert branch_of(StageOutput.skip("no"), ConditionalDependency("router", "router.reason")) == "skip"


@pytest.mark.parametrize(
    "expression",
    ["length(router.hits) > `1`", "contains(router.hits, `2`)", "keys(router.by_name) == ['a']"],
)
def test_functions_of_jmespath_take_what_stages_leave(expression):
    """The library goes by the names of the types, and what stages leave is read-only: a FrozenList is no list to it."""
    condition = ConditionalDependency("router", expression)
    assert branch_of({"hits": [1, 2], "by_name": {"a": {}}}, condition) == "ok"
    assert branch_of({"hits": [1], "by_name": {}}, condition) == "skip"
