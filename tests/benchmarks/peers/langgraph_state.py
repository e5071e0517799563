"""LangGraph: a compiled StateGraph without a checkpointer, with one channel that keeps the last value.

An edge from a list of nodes waits for all of them. LangGraph runs in steps: nothing of the next one starts before all
of the one before has ended, so it promises less than a DAG whose stages start when their dependencies have ended.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypedDict

from langgraph.graph import END, START, StateGraph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bodies import Body
    from measure import Once
    from workloads import Dag


def last_of(old: int, new: int) -> int:
    return new


class State(TypedDict):
    value: Annotated[int, last_of]


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    builder = StateGraph(State)

    def add(name: str) -> None:
        async def node(state: State) -> dict[str, int]:
            return await body(name)

        builder.add_node(name, node)

    for name in dag:
        add(name)
    for name, dependencies in dag.items():
        before = list(dependencies) or [START]
        builder.add_edge(before if len(before) > 1 else before[0], name)
    for name in dag.keys() - {one for dependencies in dag.values() for one in dependencies}:
        builder.add_edge(name, END)
    graph = builder.compile()
    config = {"recursion_limit": len(dag) + 10}

    async def run() -> object:
        return await graph.ainvoke({"value": 0}, config)

    yield run
