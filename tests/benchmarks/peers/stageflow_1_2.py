"""stageflow-core 1.2.0: what its quick start says, with the graph built once and stage instances given.

``build()`` puts this version's six default interceptors around every stage; an empty list means the same.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from stageflow import Pipeline, StageKind, StageOutput
from stageflow.stages.context import PipelineContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bodies import Body
    from measure import Once
    from workloads import Dag


class BodyStage:
    kind = StageKind.TRANSFORM

    def __init__(self, name: str, body: Body) -> None:
        self.name = name
        self.body = body

    async def execute(self, ctx: object) -> StageOutput:
        return StageOutput.ok(**await self.body(self.name))


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    pipeline = Pipeline()
    for name, dependencies in dag.items():
        pipeline = pipeline.with_stage(
            name, BodyStage(name, body), StageKind.TRANSFORM, dependencies=dependencies
        )
    graph = pipeline.build()

    async def run() -> object:
        # Every run needs a context of its own.
        context = PipelineContext(input_text="hello", topology="benchmark", execution_mode="default")
        return await graph.run(context)

    yield run
