"""What ``stageflow-auth`` contributes."""

from __future__ import annotations

from stageflow.plugins import InterceptorContribution, hookimpl

__all__ = ["stageflow_api_version", "stageflow_interceptors"]

stageflow_api_version = 1


@hookimpl
def stageflow_interceptors() -> list[InterceptorContribution]:
    """Contribute ``auth.tenant``.

    It is in no chain by default: where nobody says which organisation a run was opened for, it refuses the run.

    ```python
    from stageflow_auth.plugin import stageflow_interceptors

    print([(one.name, one.priority, one.default) for one in stageflow_interceptors()])
    #> [('auth.tenant', 2, False)]
    ```
    """
    return [
        InterceptorContribution(
            name="auth.tenant", target="stageflow_auth.tenant:TenantInterceptor", priority=2, default=False
        )
    ]
