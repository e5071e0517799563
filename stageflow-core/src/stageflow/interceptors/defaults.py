"""The chain that a graph gets when it is given none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stageflow.context.checks import wrong_value
from stageflow.errors import MissingExtraError
from stageflow.interceptors.circuit_breaker import CircuitBreakerInterceptor
from stageflow.interceptors.logging import LoggingInterceptor
from stageflow.interceptors.metrics import ChildTrackerMetricsInterceptor, MetricsInterceptor
from stageflow.interceptors.timeout import TimeoutInterceptor
from stageflow.interceptors.tracing import TracingInterceptor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.interceptors.idempotency_store import IdempotencyStore, ResultStore

__all__ = ["default_child_tracker_metrics", "default_circuit_breaker", "get_default_interceptors"]


def get_default_interceptors(
    *,
    include_auth: bool = False,
    include_idempotency: bool = True,
    idempotency_store: IdempotencyStore | ResultStore | None = None,
) -> list[BaseInterceptor]:
    """Return a fresh default chain, outermost first.

    None of it does anything that nobody asked for: work is done once only where the run has an idempotency key; what
    fails is kept from being called only if that is due to what it calls; lines are logged at INFO, and a trace is made
    when somebody reads it. What is always there is the limit of 30 seconds for every attempt.

    Args:
        include_auth: Whether to put in front what ``stageflow-auth`` has for every chain.
        include_idempotency: Whether WORK stages with an idempotency key are done once.
        idempotency_store: Where their results are kept; by default in memory, for this chain alone.

    Raises:
        ArgumentValueError: A store is given, but no idempotency is wanted.
        MissingExtraError: ``include_auth`` is wanted, but ``stageflow-auth`` is not installed.

    ```python
    from stageflow import get_default_interceptors

    for interceptor in get_default_interceptors():
        print(interceptor.priority, interceptor.name)
    #> 4 idempotency
    #> 5 timeout
    #> 10 circuit_breaker
    #> 20 tracing
    #> 40 metrics
    #> 45 child_tracker_metrics
    #> 50 logging
    ```
    """
    chain: list[BaseInterceptor] = [
        TimeoutInterceptor(),
        default_circuit_breaker(),
        TracingInterceptor(),
        MetricsInterceptor(),
        default_child_tracker_metrics(),
        LoggingInterceptor(),
    ]
    if include_idempotency:
        from stageflow.interceptors.idempotency import IdempotencyInterceptor

        chain.append(IdempotencyInterceptor(store=idempotency_store))
    elif idempotency_store is not None:
        problem, fix = "is of no use with include_idempotency=False", "Leave out one of the two"
        owner = "get_default_interceptors"
        raise wrong_value(owner, "idempotency_store", problem, idempotency_store, fix=fix)
    if include_auth:
        chain += _auth()
    return sorted(chain, key=lambda one: one.priority)


def default_circuit_breaker() -> CircuitBreakerInterceptor:
    """Return the circuit breaker of the default chain, which wrong input and retries do not open.

    ```python
    from stageflow.interceptors.defaults import default_circuit_breaker

    print(default_circuit_breaker().breaker.failure_threshold)
    #> 5
    ```
    """
    return CircuitBreakerInterceptor(cautious=True)


def default_child_tracker_metrics() -> ChildTrackerMetricsInterceptor:
    """Return what logs, in child runs, the figures of the current tracker of child runs.

    ```python
    from stageflow.interceptors.defaults import default_child_tracker_metrics

    print(default_child_tracker_metrics().name)
    #> child_tracker_metrics
    ```
    """
    return ChildTrackerMetricsInterceptor(_figures)


async def _figures() -> Mapping[str, Any]:
    from importlib import import_module

    # By name: the tracker lives in a room above this one. Where there are child runs, it is loaded.
    room: Any = import_module("stageflow.pipeline.child_tracker")
    figures: Mapping[str, Any] = await room.get_child_tracker().get_metrics()
    return figures


def _auth() -> list[BaseInterceptor]:
    from importlib import import_module

    try:
        auth: Any = import_module("stageflow_auth")  # by name: core imports no sibling
    except ModuleNotFoundError as exc:
        if exc.name != "stageflow_auth":
            raise
        feature = "get_default_interceptors(include_auth=True)"
        raise MissingExtraError(feature, extra="auth") from exc
    added: list[BaseInterceptor] = auth.get_auth_interceptors()
    return added
