"""Tenants for Stageflow: a run stays inside the organisation it was opened for.

```python
import asyncio
from uuid import UUID

from stageflow import ContextSnapshot, Pipeline, RunIdentity, stage
from stageflow_auth import TenantInterceptor


@stage
async def answer() -> int:
    return 42


acme = UUID(int=1)
graph = Pipeline.from_stages(answer).build(interceptors=[TenantInterceptor(acme)])
results = asyncio.run(graph.run(ContextSnapshot(RunIdentity(org_id=acme))))
print(results.value(answer))
#> 42
```

Names are imported when they are first used: ``import stageflow_auth`` alone costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stageflow_auth.defaults import get_auth_interceptors
    from stageflow_auth.errors import OrgIdError, TenantIsolationError
    from stageflow_auth.tenant import (
        TENANT_ACCESS_DENIED,
        TENANT_ORG_ID,
        TenantInterceptor,
    )

__all__ = [
    "TENANT_ACCESS_DENIED",
    "TENANT_ORG_ID",
    "OrgIdError",
    "TenantInterceptor",
    "TenantIsolationError",
    "get_auth_interceptors",
]

_HOMES = {
    "defaults": ("get_auth_interceptors",),
    "errors": ("OrgIdError", "TenantIsolationError"),
    "tenant": ("TENANT_ACCESS_DENIED", "TENANT_ORG_ID", "TenantInterceptor"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first used (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
