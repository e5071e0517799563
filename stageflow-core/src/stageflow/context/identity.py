"""``RunIdentity``: the ids that say whose run this is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from stageflow.context.checks import check_type, parse_time, parse_uuid, require_mapping, wrong_type
from stageflow.context.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stageflow.context.checks import ArgumentTypeError

__all__ = ["RunIdentity"]

_IDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id", "interaction_id")


class RunIdentity(Record):
    """The ids of a run: which run, which request, for whom. Read-only.

    Args:
        pipeline_run_id: The run.
        request_id: The request that started it.
        session_id: The conversation or login session.
        user_id: Who asks.
        org_id: The tenant.
        interaction_id: The turn within the session.
        created_at: When the identity was made; now, in UTC, if left out.

    Raises:
        ArgumentTypeError: An id is neither a ``UUID`` nor None, or the time is no ``datetime``.

    ```python
    from uuid import UUID
    from stageflow.context import RunIdentity

    ids = RunIdentity(user_id=UUID(int=7))
    print(ids.user_id, ids.org_id)
    #> 00000000-0000-0000-0000-000000000007 None
    ```
    """

    __slots__ = (
        "created_at",
        "interaction_id",
        "org_id",
        "pipeline_run_id",
        "request_id",
        "session_id",
        "user_id",
    )
    __match_args__ = (
        "pipeline_run_id",
        "request_id",
        "session_id",
        "user_id",
        "org_id",
        "interaction_id",
        "created_at",
    )

    pipeline_run_id: UUID | None
    request_id: UUID | None
    session_id: UUID | None
    user_id: UUID | None
    org_id: UUID | None
    interaction_id: UUID | None
    created_at: datetime

    def __init__(
        self,
        pipeline_run_id: UUID | None = None,
        request_id: UUID | None = None,
        session_id: UUID | None = None,
        user_id: UUID | None = None,
        org_id: UUID | None = None,
        interaction_id: UUID | None = None,
        created_at: datetime | None = None,
    ) -> None:
        ids: tuple[Any, ...] = (pipeline_run_id, request_id, session_id, user_id, org_id, interaction_id)
        for value in ids:
            if value is not None and not isinstance(value, UUID):
                raise _wrong_id(ids)
        if created_at is None:
            created_at = datetime.now(UTC)
        else:
            check_type("RunIdentity", "created_at", created_at, datetime, "a datetime or None")
        _set_pipeline_run_id(self, pipeline_run_id)
        _set_request_id(self, request_id)
        _set_session_id(self, session_id)
        _set_user_id(self, user_id)
        _set_org_id(self, org_id)
        _set_interaction_id(self, interaction_id)
        _set_created_at(self, created_at)

    def with_pipeline_run_id(self, pipeline_run_id: UUID | None) -> RunIdentity:
        """Return a copy for another run: all other ids and the time stay.

        ```python
        from uuid import UUID
        from stageflow.context import RunIdentity

        child = RunIdentity(org_id=UUID(int=1)).with_pipeline_run_id(UUID(int=2))
        print(child.org_id.int, child.pipeline_run_id.int)
        #> 1 2
        ```
        """
        return self.__replace__(pipeline_run_id=pipeline_run_id)

    def to_dict(self) -> dict[str, Any]:
        """Return the ids as text (or None) and the time in ISO 8601, under the fields' names.

        ```python
        from uuid import UUID
        from stageflow.context import RunIdentity

        print(RunIdentity(user_id=UUID(int=7)).to_dict()["user_id"])
        #> 00000000-0000-0000-0000-000000000007
        ```
        """
        data: dict[str, Any] = {}
        for name in _IDS:
            value = getattr(self, name)
            data[name] = None if value is None else str(value)
        data["created_at"] = self.created_at.isoformat()
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunIdentity:
        """Read what ``to_dict`` gives. Ids may be text or ``UUID``; what is missing is None (the time: now).

        Args:
            data: The ids under the fields' names; other keys are ignored.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is of another type.
            ArgumentValueError: Text that is no UUID or no time.

        ```python
        from stageflow.context import RunIdentity

        ids = RunIdentity.from_dict({"org_id": "00000000-0000-0000-0000-000000000001"})
        print(ids.org_id.int, RunIdentity.from_dict(ids.to_dict()) == ids)
        #> 1 True
        ```
        """
        owner = "RunIdentity.from_dict"
        data = require_mapping(owner, "data", data)
        created_at = parse_time(owner, "created_at", data.get("created_at"))
        ids: Any = {name: parse_uuid(owner, name, data.get(name)) for name in _IDS}
        return cls(**ids, created_at=created_at)


_slots: Any = RunIdentity.__dict__  # the constructor's only way past __setattr__, and the quickest
_set_pipeline_run_id = _slots["pipeline_run_id"].__set__
_set_request_id = _slots["request_id"].__set__
_set_session_id = _slots["session_id"].__set__
_set_user_id = _slots["user_id"].__set__
_set_org_id = _slots["org_id"].__set__
_set_interaction_id = _slots["interaction_id"].__set__
_set_created_at = _slots["created_at"].__set__


def _wrong_id(ids: tuple[Any, ...]) -> ArgumentTypeError:
    name, value = next(
        (name, value)
        for name, value in zip(_IDS, ids, strict=True)
        if value is not None and not isinstance(value, UUID)
    )
    fix = f"Pass uuid.UUID(...) as {name}=, or read text with RunIdentity.from_dict({{...}})"
    return wrong_type("RunIdentity", name, "a UUID or None", value, fix=fix)
