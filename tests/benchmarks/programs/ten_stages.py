"""The ten stages of ``workloads.diamond`` as an untyped pipeline."""

import asyncio

from stageflow import Pipeline, StageContext, StageKind, StageOutput

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


async def body(ctx: StageContext) -> StageOutput:
    return StageOutput.ok(value=1)


pipeline = Pipeline("ten")
for name, dependencies in DAG.items():
    pipeline = pipeline.with_stage(name, body, StageKind.TRANSFORM, dependencies=dependencies)
assert len(asyncio.run(pipeline.run())) == 10
