"""The ten stages of ``workloads.diamond`` by hand: asyncio, a dataclass, and nothing else."""

import asyncio
from dataclasses import dataclass

DAG = {
    "receive": (),
    "guard": ("receive",),
    "profile": ("receive",),
    "memory": ("receive",),
    "facts": ("guard", "profile"),
    "history": ("profile", "memory"),
    "policy": ("memory", "guard"),
    "route": ("facts", "history", "policy"),
    "answer": ("route",),
    "reply": ("answer",),
}


@dataclass(frozen=True, slots=True)
class Output:
    data: dict[str, int]


async def body(name: str) -> Output:
    return Output({"value": 1})


async def run() -> dict[str, Output]:
    successors: dict[str, list[str]] = {name: [] for name in DAG}
    for name, dependencies in DAG.items():
        for dependency in dependencies:
            successors[dependency].append(name)
    missing = {name: len(dependencies) for name, dependencies in DAG.items()}
    results: dict[str, Output] = {}
    async with asyncio.TaskGroup() as group:

        async def stage(name: str) -> None:
            results[name] = await body(name)
            for successor in successors[name]:
                missing[successor] -= 1
                if not missing[successor]:
                    group.create_task(stage(successor))

        for name, dependencies in DAG.items():
            if not dependencies:
                group.create_task(stage(name))
    return results


assert len(asyncio.run(run())) == 10
