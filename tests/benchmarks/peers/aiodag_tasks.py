"""aiodag: every stage is called with the awaitables of its dependencies; the graph is made anew for each run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiodag import task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bodies import Body
    from measure import Once
    from workloads import Dag


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    async def run() -> object:
        started: dict[str, Any] = {}
        for name, dependencies in dag.items():
            started[name] = task(body, *[started[one] for one in dependencies])(name)
        return {name: await one for name, one in started.items()}

    yield run
