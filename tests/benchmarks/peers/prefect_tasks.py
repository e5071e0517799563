"""Prefect: async tasks submitted within a flow, with ``wait_for``; logs and telemetry off. It starts a local server."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"

from prefect import flow, task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bodies import Body
    from measure import Once
    from workloads import Dag


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    @task
    async def stage(name: str) -> object:
        return await body(name)

    @flow
    async def run() -> None:
        futures: dict[str, Any] = {}
        for name, dependencies in dag.items():
            futures[name] = stage.submit(name, wait_for=[futures[one] for one in dependencies])
        for future in futures.values():
            future.wait()

    yield run
