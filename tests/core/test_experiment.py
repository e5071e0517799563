"""A/B routing: who gets which variant depends on the key and on nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import ContextSnapshot, Pipeline, RunIdentity, StageContext, StageInputs, StageKind
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.pipeline.patterns import with_conditional_branch
from stageflow.stages.experiment import ABRouter, ab_route
from stageflow.stages.timer import PipelineTimer


@given(st.text(), st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_the_same_key_gets_the_same_variant(key, variants):
    assert ab_route(key, variants) == ab_route(key, variants)
    assert ab_route(key, variants) in variants
    assert ab_route(key, dict.fromkeys(variants, 1)) == ab_route(key, variants)


def test_the_variant_does_not_depend_on_the_process():
    code = (
        "from stageflow.stages.experiment import ab_route\n"
        "print([ab_route(number, ['a', 'b', 'c']) for number in range(50)])"
    )
    wanted = str([ab_route(number, ["a", "b", "c"]) for number in range(50)])
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == wanted


def test_shares_are_kept():
    routed = [ab_route(number, {"old": 90, "new": 10, "never": 0}) for number in range(20_000)]
    assert 1800 < routed.count("new") < 2200
    assert "never" not in routed
    assert {ab_route(number, {"a": 0, "b": 1e-300}) for number in range(100)} == {"b"}


def test_raising_a_share_moves_nobody_back():
    before = {number for number in range(2000) if ab_route(number, {"new": 10, "old": 90}) == "new"}
    after = {number for number in range(2000) if ab_route(number, {"new": 30, "old": 70}) == "new"}
    assert before < after


def test_experiments_are_independent():
    pairs = {
        (ab_route(n, ["a", "b"], experiment="x"), ab_route(n, ["a", "b"], experiment="y")) for n in range(100)
    }
    assert len(pairs) == 4


def test_any_key_will_do():
    for key in (None, 7, UUID(int=7), "\udc80", "x" * 1_000_000, ["unhashable"]):
        assert ab_route(key, ["a", "b"]) in {"a", "b"}


@pytest.mark.parametrize(
    ("variants", "error"),
    [
        ([], ArgumentValueError),
        ({}, ArgumentValueError),
        ({"a": 0}, ArgumentValueError),
        (["a", "a"], ArgumentValueError),
        ([""], ArgumentValueError),
        ([1], ArgumentTypeError),
        ("ab", ArgumentTypeError),
        (None, ArgumentValueError),
        ({"a": -1}, ArgumentValueError),
        ({"a": float("nan")}, ArgumentValueError),
        ({"a": float("inf")}, ArgumentValueError),
        ({"a": "1"}, ArgumentTypeError),
        ({"a": True}, ArgumentTypeError),
    ],
    ids=str,
)
def test_bad_variants(variants, error):
    with pytest.raises(error):
        ab_route("key", variants)
    with pytest.raises(error):
        ABRouter(variants)


async def answer(ctx):
    return {}


def test_the_router_routes():
    pipeline = with_conditional_branch(
        Pipeline(), ("split", ABRouter({"a": 0, "b": 1})), [("a", answer), ("b", answer)]
    )
    assert pipeline.specs[0].kind is StageKind.ROUTE
    results = asyncio.run(pipeline.run())
    assert {name: output.status.value for name, output in results.items()} == {
        "split": "ok",
        "a": "skip",
        "b": "ok",
    }
    assert results["split"].data == {"route": "b", "experiment": "split"}


def route_of(router, stage="split", **ids):
    snapshot = ContextSnapshot(RunIdentity(**ids), input_text="text")
    ctx = StageContext(snapshot, StageInputs(snapshot), stage, PipelineTimer())
    return asyncio.run(router.execute(ctx)).data["route"]


def test_the_key_is_the_user_or_the_session_or_the_run():
    user, session, run = (UUID(int=number) for number in (1, 2, 3))
    router = ABRouter([str(number) for number in range(1000)], experiment="x")

    def wanted(key):
        return ab_route(key, [str(number) for number in range(1000)], experiment="x")

    assert route_of(router, user_id=user, session_id=session, pipeline_run_id=run) == wanted(user)
    assert route_of(router, session_id=session, pipeline_run_id=run) == wanted(session)
    assert route_of(router, pipeline_run_id=run) == wanted(run)
    by_text = ABRouter(
        [str(number) for number in range(1000)], experiment="x", key=lambda ctx: ctx.input_text
    )
    assert route_of(by_text) == wanted("text")
    assert route_of(ABRouter(["a", "b"]), "one", user_id=user) == ab_route(user, ["a", "b"], experiment="one")
    with pytest.raises(ArgumentTypeError):
        ABRouter(["a"], key="user")
