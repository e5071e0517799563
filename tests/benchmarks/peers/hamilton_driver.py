"""Hamilton: its async driver, a dictionary of the last stages as the result, telemetry off.

Hamilton reads the graph off parameter names, so a function is made for each stage.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

os.environ["HAMILTON_TELEMETRY_ENABLED"] = "false"

from hamilton import ad_hoc_utils, async_driver, base

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bodies import Body
    from measure import Once
    from workloads import Dag

_numbers = count()


def function(name: str, dependencies: tuple[str, ...], body: Body) -> Callable[..., Any]:
    """Make a function whose parameters are the stage's dependencies."""
    parameters = ", ".join(f"{one}: dict" for one in dependencies)
    namespace: dict[str, Any] = {"body": body}
    exec(f"async def {name}({parameters}) -> dict:\n    return await body({name!r})\n", namespace)  # noqa: S102
    return namespace[name]


@asynccontextmanager
async def prepared(dag: Dag, body: Body) -> AsyncIterator[Once]:
    functions = [function(name, dependencies, body) for name, dependencies in dag.items()]
    module = ad_hoc_utils.create_temporary_module(*functions, module_name=f"stages_{next(_numbers)}")
    used = {one for dependencies in dag.values() for one in dependencies}
    wanted = [name for name in dag if name not in used]
    driver = await async_driver.AsyncDriver({}, module, result_builder=base.DictResult()).ainit()

    async def run() -> object:
        return await driver.execute(wanted)

    yield run
