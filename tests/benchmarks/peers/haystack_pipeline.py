"""Haystack: a component per stage, ``run_async`` with room for all stages at once instead of four; telemetry off."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "false"

from haystack import Pipeline, component

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bodies import Body
    from measure import Once
    from workloads import Dag


@component
class BodyComponent:
    def __init__(self, name: str, dependencies: tuple[str, ...], body: Body) -> None:
        self.name = name
        self.body = body
        component.set_input_types(self, **dict.fromkeys(dependencies or ("start",), dict))
        component.set_output_types(self, out=dict)

    def run(self, **inputs: Any) -> dict[str, Any]:
        raise NotImplementedError

    async def run_async(self, **inputs: Any) -> dict[str, Any]:
        return {"out": await self.body(self.name)}


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    pipeline = Pipeline()
    for name, dependencies in dag.items():
        pipeline.add_component(name, BodyComponent(name, dependencies, body))
    for name, dependencies in dag.items():
        for one in dependencies:
            pipeline.connect(f"{one}.out", f"{name}.{one}")
    start = [name for name, dependencies in dag.items() if not dependencies]

    async def run() -> object:
        data = {name: {"start": {}} for name in start}
        return await pipeline.run_async(data, concurrency_limit=max(4, len(dag)))

    yield run
