"""What one would write by hand: the yardstick of every ratio.

``TaskGroupDag`` is the baseline: one Task per stage, made when the last dependency has ended, in a ``TaskGroup`` that
stops everything if one fails. ``BareTasks`` is the same without the group, and forgets about errors: what asyncio
itself costs. Neither knows contexts, outputs, events, interceptors or time limits.

Only the standard library is imported here: this module also runs inside the peers' environments.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bodies import Body
    from workloads import Dag

Results = dict[str, dict[str, int]]


class TaskGroupDag:
    """A DAG on ``asyncio.TaskGroup``, prepared once, run any number of times and concurrently."""

    def __init__(self, dag: Dag, body: Body) -> None:
        self.body = body
        self.successors: dict[str, list[str]] = successors_in(dag)
        self.missing = {name: len(dependencies) for name, dependencies in dag.items()}
        self.roots = [name for name, dependencies in dag.items() if not dependencies]

    async def run(self) -> Results:
        body, successors = self.body, self.successors
        missing = self.missing.copy()
        results: Results = {}
        async with asyncio.TaskGroup() as group:
            create_task = group.create_task

            async def stage(name: str) -> None:
                results[name] = await body(name)
                for successor in successors[name]:
                    left = missing[successor] = missing[successor] - 1
                    if not left:
                        create_task(stage(successor))

            for name in self.roots:
                create_task(stage(name))
        return results


class BareTasks:
    """The same DAG with ``create_task`` and a counter."""

    def __init__(self, dag: Dag, body: Body) -> None:
        self.body = body
        self.successors: dict[str, list[str]] = successors_in(dag)
        self.missing = {name: len(dependencies) for name, dependencies in dag.items()}
        self.roots = [name for name, dependencies in dag.items() if not dependencies]

    async def run(self) -> Results:
        body, successors = self.body, self.successors
        missing = self.missing.copy()
        results: Results = {}
        loop = asyncio.get_running_loop()
        create_task, done, size = loop.create_task, loop.create_future(), len(missing)
        tasks: list[asyncio.Task[None]] = []  # the event loop itself keeps no strong reference

        async def stage(name: str) -> None:
            results[name] = await body(name)
            if len(results) == size:
                done.set_result(None)
            for successor in successors[name]:
                left = missing[successor] = missing[successor] - 1
                if not left:
                    tasks.append(create_task(stage(successor)))

        tasks.extend([create_task(stage(name)) for name in self.roots])
        await done
        return results


def successors_in(dag: Dag) -> dict[str, list[str]]:
    """Turn a graph around: the names of the stages that depend on each."""
    successors: dict[str, list[str]] = {name: [] for name in dag}
    for name, dependencies in dag.items():
        for dependency in dependencies:
            successors[dependency].append(name)
    return successors
