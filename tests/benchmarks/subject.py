"""Stageflow as it is measured: untyped stages around the same body that every other system runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stageflow import BaseInterceptor, Pipeline, StageKind, StageOutput, get_default_interceptors

if TYPE_CHECKING:
    from bodies import Body
    from measure import Once
    from stageflow import InterceptorContext, InterceptorResult, StageContext, StageGraph, StageResult
    from workloads import Dag


class BodyStage:
    """A stage in the class form of the guides, which does nothing but await the body."""

    def __init__(self, name: str, body: Body) -> None:
        self.name = name
        self.body = body

    async def execute(self, ctx: StageContext) -> StageOutput:
        return StageOutput.ok(**await self.body(self.name))


class CountingSink:
    """Somebody listens, and does as little as one can."""

    def __init__(self) -> None:
        self.count = 0

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.count += 1

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.count += 1


class BeforeAndAfter(BaseInterceptor):
    """One more interceptor: two hooks, which do nothing."""

    name = "before_and_after"

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        return None

    async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
        return None


def describe(dag: Dag, body: Body) -> Pipeline:
    """Describe a graph, one stage after the other."""
    pipeline = Pipeline("benchmark")
    for name, dependencies in dag.items():
        pipeline = pipeline.with_stage(
            name, BodyStage(name, body), StageKind.TRANSFORM, dependencies=dependencies
        )
    return pipeline


def default(dag: Dag, body: Body, *more: BaseInterceptor) -> Once:
    """Return what runs a graph with the default chain, exactly as it is, and a sink that counts."""
    return observed(describe(dag, body).build(interceptors=[*get_default_interceptors(), *more]))


def lean(dag: Dag, body: Body, *more: BaseInterceptor) -> Once:
    """Return what runs a graph with no interceptors and nobody who listens."""
    return describe(dag, body).build(interceptors=more).run


def observed_lean(dag: Dag, body: Body) -> Once:
    """Return what runs a graph with no interceptors, and a sink that counts."""
    return observed(describe(dag, body).build(interceptors=[]))


def observed(graph: StageGraph) -> Once:
    """Return what runs a graph with a sink that counts; raises if it does not hear of every start and end."""
    expected = 2 * len(graph.stages) + 2

    async def run() -> object:
        sink = CountingSink()
        results = await graph.run(sink=sink)
        if sink.count != expected:
            msg = f"{sink.count} events instead of {expected}"
            raise AssertionError(msg)
        return results

    return run
