"""pydantic-graph: a graph of steps, with a join that reduces to nothing where a stage has several dependencies."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from baseline import successors_in
from pydantic_graph import GraphBuilder, reduce_null

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bodies import Body
    from measure import Once
    from workloads import Dag


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    builder = GraphBuilder(state_type=type(None), output_type=object)

    def step(name: str) -> Any:
        async def call(ctx: object) -> object:
            return await body(name)

        call.__name__ = name
        return builder.step(call, node_id=name)

    def join(name: str) -> Any:
        return builder.join(reduce_null, initial=None, node_id=f"join_{name}")

    steps = {name: step(name) for name in dag}
    joins = {name: join(name) for name, dependencies in dag.items() if len(dependencies) > 1}
    entries = steps | joins
    following = successors_in(dag)
    last = [name for name, after in following.items() if not after]
    end: Any = builder.end_node
    if len(last) > 1:
        end = join("end")
        builder.add(builder.edge_from(end).to(builder.end_node))
    first = [entries[name] for name, dependencies in dag.items() if not dependencies]
    builder.add(builder.edge_from(builder.start_node).to(*first))
    for name, after in following.items():
        builder.add(builder.edge_from(steps[name]).to(*([entries[one] for one in after] or [end])))
    for name, before in joins.items():
        builder.add(builder.edge_from(before).to(steps[name]))
    graph = builder.build()

    async def run() -> object:
        return await graph.run()

    yield run
