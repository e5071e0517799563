"""stageflow-core 0.9.1: what its quick start says, with the graph built once and stage instances given.

``Pipeline().with_stage(...).build()`` gives a graph that runs no interceptors at all in this version, and nobody
listens to its events: the cheapest form there is.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput
from stageflow.context import ContextSnapshot, RunIdentity
from stageflow.stages import StageInputs

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

    async def execute(self, ctx: StageContext) -> StageOutput:
        return StageOutput.ok(**await self.body(self.name))


def new_context() -> StageContext:
    """Every run needs one of its own."""
    identity = RunIdentity(
        pipeline_run_id=uuid4(),
        request_id=uuid4(),
        session_id=uuid4(),
        user_id=uuid4(),
        org_id=None,
        interaction_id=uuid4(),
    )
    snapshot = ContextSnapshot(run_id=identity, topology="benchmark", execution_mode="default")
    inputs = StageInputs(snapshot=snapshot)
    return StageContext(snapshot=snapshot, inputs=inputs, stage_name="pipeline", timer=PipelineTimer())


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    pipeline = Pipeline()
    for name, dependencies in dag.items():
        pipeline = pipeline.with_stage(
            name, BodyStage(name, body), StageKind.TRANSFORM, dependencies=dependencies
        )
    graph = pipeline.build()

    async def run() -> object:
        return await graph.run(new_context())

    yield run
