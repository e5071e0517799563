"""The chain that a graph gets when it is given none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.interceptors.logging import LoggingInterceptor
from stageflow.interceptors.timeout import TimeoutInterceptor

if TYPE_CHECKING:
    from stageflow.interceptors.base import BaseInterceptor

__all__ = ["get_default_interceptors"]


def get_default_interceptors() -> list[BaseInterceptor]:
    """Return a fresh default chain, outermost first.

    ```python
    from stageflow import get_default_interceptors

    print([interceptor.name for interceptor in get_default_interceptors()])
    #> ['timeout', 'logging']
    ```
    """
    return [TimeoutInterceptor(), LoggingInterceptor()]
