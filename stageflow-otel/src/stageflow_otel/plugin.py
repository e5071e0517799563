"""What ``stageflow-otel`` contributes."""

from __future__ import annotations

from stageflow.plugins import InterceptorContribution, hookimpl

__all__ = ["stageflow_api_version", "stageflow_interceptors"]

stageflow_api_version = 1


@hookimpl
def stageflow_interceptors() -> list[InterceptorContribution]:
    """Contribute ``otel.tracing``, in every chain that nobody spelled out.

    It is the outermost, so that what guards refuse is traced too.

    ```python
    from stageflow_otel.plugin import stageflow_interceptors

    print([(one.name, one.priority, one.default) for one in stageflow_interceptors()])
    #> [('otel.tracing', 0, True)]
    ```
    """
    return [
        InterceptorContribution(
            name="otel.tracing",
            target="stageflow_otel.interceptor:OpenTelemetryInterceptor",
            priority=0,
            default=True,
        )
    ]
