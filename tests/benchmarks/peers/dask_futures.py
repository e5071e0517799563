"""dask.distributed: an asynchronous client and one worker with two threads, all in this process; a future per stage.

Async functions run on the worker's event loop.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from distributed import Client, LocalCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bodies import Body
    from measure import Once
    from workloads import Dag

logging.getLogger("distributed").setLevel(logging.CRITICAL)

_bodies: list[Body] = []
_numbers = count()


async def stage(body: int, name: str, *inputs: Any) -> Any:
    """What a future does; it is pickled, so it names its body by number."""
    return await _bodies[body](name)


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    _bodies.append(body)
    number = len(_bodies) - 1

    async with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, asynchronous=True, dashboard_address=None
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):

        async def run() -> object:
            this = next(_numbers)
            futures: dict[str, Any] = {}
            for name, dependencies in dag.items():
                inputs = [futures[one] for one in dependencies]
                futures[name] = client.submit(stage, number, name, *inputs, pure=False, key=f"{name}-{this}")
            return await client.gather(futures)

        yield run
