"""What ties runs, requests and logs together: ``CorrelationIds``, and the correlation id that is current."""

from __future__ import annotations

from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import check_mapping, text_of
from stageflow.context.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

__all__ = [
    "CorrelationIds",
    "clear_correlation_id",
    "ensure_correlation_id",
    "get_correlation_id",
    "set_correlation_id",
]


@final
class CorrelationIds(Record):
    """The ids that log lines and events of different services have in common. Read-only.

    Args:
        run_id: The run.
        request_id: The request that the run answers.
        trace_id: The trace, 32 hexadecimal digits.
        session_id: The session.
        user_id: The user.
        org_id: The tenant.
        extra: Further ids, by name.

    Raises:
        ArgumentTypeError: *extra* is no mapping.

    ```python
    from uuid import UUID

    from stageflow.observability import CorrelationIds

    ids = CorrelationIds(run_id=UUID(int=7), extra={"order": "A-1"})
    print(ids.to_dict())
    #> {'pipeline_run_id': '00000000-0000-0000-0000-000000000007', 'order': 'A-1'}
    ```
    """

    __match_args__ = ("run_id", "request_id", "trace_id", "session_id", "user_id", "org_id", "extra")
    __slots__ = __match_args__
    run_id: UUID | None
    request_id: UUID | None
    trace_id: str | None
    session_id: UUID | None
    user_id: UUID | None
    org_id: UUID | None
    extra: Mapping[str, Any]

    def __init__(
        self,
        run_id: UUID | None = None,
        request_id: UUID | None = None,
        trace_id: str | None = None,
        session_id: UUID | None = None,
        user_id: UUID | None = None,
        org_id: UUID | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "run_id", run_id)
        put(self, "request_id", request_id)
        put(self, "trace_id", trace_id)
        put(self, "session_id", session_id)
        put(self, "user_id", user_id)
        put(self, "org_id", org_id)
        check_mapping("CorrelationIds", "extra", extra)
        put(self, "extra", MappingProxyType(dict(extra or {})))

    def to_dict(self) -> dict[str, Any]:
        """Return the ids that there are, as text; the run's under ``pipeline_run_id``, the further ones as they are."""
        ids = {
            "pipeline_run_id": self.run_id,
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "session_id": self.session_id,
            "user_id": self.user_id,
            "org_id": self.org_id,
        }
        return {**{name: text_of(value) for name, value in ids.items() if value is not None}, **self.extra}

    def __hash__(self) -> int:
        return hash((*self._values()[:-1], frozenset(self.extra)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self._values()[:-1], dict(self.extra))


_current: ContextVar[UUID | None] = ContextVar("stageflow_correlation_id", default=None)


def set_correlation_id(correlation_id: UUID) -> None:
    """Make *correlation_id* the current one, in this context and those copied from it, such as runs.

    ```python
    from uuid import UUID

    from stageflow.observability import clear_correlation_id, get_correlation_id, set_correlation_id

    set_correlation_id(UUID(int=7))
    print(get_correlation_id())
    #> 00000000-0000-0000-0000-000000000007
    clear_correlation_id()
    print(get_correlation_id())
    #> None
    ```
    """
    _current.set(correlation_id)


def get_correlation_id() -> UUID | None:
    """Return the current correlation id, or None.

    ```python
    from uuid import UUID

    from stageflow.observability import clear_correlation_id, get_correlation_id, set_correlation_id

    set_correlation_id(UUID(int=7))
    print(get_correlation_id())
    #> 00000000-0000-0000-0000-000000000007
    clear_correlation_id()
    print(get_correlation_id())
    #> None
    ```
    """
    return _current.get()


def ensure_correlation_id() -> UUID:
    """Return the current correlation id; if there is none, make one up and make it current.

    ```python
    from stageflow.observability import clear_correlation_id, ensure_correlation_id, get_correlation_id

    print(ensure_correlation_id() == get_correlation_id())
    #> True
    clear_correlation_id()
    ```
    """
    correlation_id = _current.get()
    if correlation_id is None:
        from uuid import uuid4  # importing uuid asks what platform this is; that can wait until it is needed

        correlation_id = uuid4()
        _current.set(correlation_id)
    return correlation_id


def clear_correlation_id() -> None:
    """Go back to no correlation id.

    ```python
    from uuid import UUID

    from stageflow.observability import clear_correlation_id, get_correlation_id, set_correlation_id

    set_correlation_id(UUID(int=7))
    print(get_correlation_id())
    #> 00000000-0000-0000-0000-000000000007
    clear_correlation_id()
    print(get_correlation_id())
    #> None
    ```
    """
    _current.set(None)
