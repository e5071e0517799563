"""What goes in front of a chain that asks for auth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow_auth.tenant import TenantInterceptor

if TYPE_CHECKING:
    from stageflow import BaseInterceptor

__all__ = ["get_auth_interceptors"]


def get_auth_interceptors() -> list[BaseInterceptor]:
    """Return the interceptors that ``stageflow.get_default_interceptors(include_auth=True)`` adds, made afresh.

    They fail closed: each run has to say which organisation it was opened for, by ``data={"tenant_org_id": ...}``.

    ```python
    import asyncio
    from uuid import UUID

    from stageflow import ContextSnapshot, Pipeline, RunIdentity, get_default_interceptors, stage


    @stage
    async def answer() -> int:
        return 42


    graph = Pipeline.from_stages(answer).build(interceptors=get_default_interceptors(include_auth=True))
    acme = UUID(int=1)
    results = asyncio.run(graph.run(ContextSnapshot(RunIdentity(org_id=acme)), data={"tenant_org_id": acme}))
    print(graph.interceptors[0].name, results.value(answer))
    #> auth.tenant 42
    ```
    """
    return [TenantInterceptor()]
