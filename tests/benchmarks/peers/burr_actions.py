"""Burr: an application is a state machine that does one action at a time, so the graph runs as a chain; telemetry off.

It does less than a DAG: nothing is ever concurrent. An application holds its place, so each run builds one.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

os.environ["BURR_TELEMETRY_ENABLED"] = "false"

from burr.core import ApplicationBuilder, State
from burr.core.action import action

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bodies import Body
    from measure import Once
    from workloads import Dag


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    def act(name: str) -> Any:
        async def do(state: State) -> State:
            return state.update(**await body(name))

        return action(reads=[], writes=["value"])(do)

    names = list(dag)
    builder = (
        ApplicationBuilder()
        .with_actions(**{name: act(name) for name in names})
        .with_transitions(*pairwise(names))
        .with_entrypoint(names[0])
    )

    async def run() -> object:
        return await builder.build().arun(halt_after=[names[-1]])

    yield run
