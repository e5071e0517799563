"""Every system runs the same graphs, on every machine."""

from __future__ import annotations

import asyncio

import pytest
from baseline import BareTasks, TaskGroupDag
from bodies import CheckingBody
from subject import default, lean, observed_lean
from workloads import random_dag, workload

NAMES = ["chain-100", "fan-1000", "random-1000", "layered-20x50", "diamond-100"]


@pytest.mark.parametrize("name", NAMES)
def test_workload_is_the_same_dag_each_time_in_topological_order(name: str):
    work = workload(name)
    assert workload(name) == work
    seen: set[str] = set()
    for stage, dependencies in work.dag.items():
        assert stage.isidentifier()
        assert len({*dependencies}) == len(dependencies)
        assert seen.issuperset(dependencies)
        seen.add(stage)


def test_sizes_are_those_of_the_names():
    assert [workload(name).stages for name in NAMES] == [100, 1002, 1000, 1000, 1000]
    assert workload("diamond-100").runs == 100


def test_random_graph_does_not_depend_on_the_version_of_python():
    assert random_dag(7) == {
        "r0": (),
        "r1": ("r0",),
        "r2": ("r0", "r1"),
        "r3": ("r0", "r1", "r2"),
        "r4": ("r1", "r2", "r3"),
        "r5": ("r2", "r3", "r4"),
        "r6": ("r2", "r4", "r5"),
    }


@pytest.mark.parametrize("name", ["chain-30", "fan-30", "random-60", "layered-5x6", "diamond-1"])
@pytest.mark.parametrize(
    "prepare",
    [
        lambda dag, body: TaskGroupDag(dag, body).run,
        lambda dag, body: BareTasks(dag, body).run,
        default,
        lean,
        observed_lean,
    ],
    ids=["taskgroup", "tasks", "default", "lean", "observed-lean"],
)
def test_what_is_compared_runs_every_stage_once_after_its_dependencies(prepare, name: str):
    dag = workload(name).dag
    body = CheckingBody(dag)

    async def twice() -> None:
        once = prepare(dag, body)
        for times in (1, 2):
            assert {*await once()} == {*dag}
            body.verify(times)

    asyncio.run(twice())


def test_baseline_stops_everything_when_a_stage_fails():
    ended: list[str] = []

    async def body(name: str) -> dict[str, int]:
        if name == "m1":
            raise ValueError(name)
        await asyncio.sleep(0 if name == "first" else 10)
        ended.append(name)
        return {}

    with pytest.raises(ExceptionGroup):
        asyncio.run(TaskGroupDag(workload("fan-3").dag, body).run())
    assert ended == ["first"]


def test_checking_body_sees_a_wrong_order_a_second_time_and_a_missing_stage():
    dag = workload("chain-3").dag

    def error_after(*names: str) -> str:
        body = CheckingBody(dag)

        async def run() -> None:
            for name in names:
                await body(name)

        asyncio.run(run())
        with pytest.raises(AssertionError) as caught:
            body.verify(1)
        return str(caught.value)

    assert "s1 before s0" in error_after("s1", "s0", "s2")
    assert "s2 ran 0 times" in error_after("s0", "s1")
    assert "s1 ran 2 times" in error_after("s0", "s1", "s1", "s2")
