"""What can be wrong with whose run it is.

As a tree, below the root of the core's::

    StageflowError
    ├── TenantIsolationError   a run may not go on: it is not the organisation's that it was opened for
    └── ConfigurationError
        └── OrgIdError         (also a ValueError) what should be the id of an organisation is none
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.errors import ConfigurationError, StageflowError

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["OrgIdError", "TenantIsolationError"]


class TenantIsolationError(StageflowError):
    """A run may not go on: it is not the organisation's that it was opened for, or that cannot be told.

    Args:
        expected_org_id: The organisation that the run was opened for, if it is known.
        actual_org_id: The organisation that the run belongs to, if it belongs to one.
        operation: What was refused, as ``"stage 'answer'"``.
        reason: Why, as a sentence without the full stop.
        fix: What to do.

    ```python
    from stageflow_auth import TenantIsolationError

    print(TenantIsolationError(None, None, "stage 'answer'").code)
    #> SF-AUTH-TENANT
    ```
    """

    code = "SF-AUTH-TENANT"

    def __init__(
        self,
        expected_org_id: UUID | None,
        actual_org_id: UUID | None,
        operation: str | None = None,
        *,
        reason: str = "",
        fix: str = "",
    ) -> None:
        self.expected_org_id = expected_org_id
        self.actual_org_id = actual_org_id
        self.operation = operation
        self.reason = reason or "The run belongs to another organisation than the one it was opened for"
        super().__init__(
            f"{self.reason} (opened for {expected_org_id or 'none'}, belongs to {actual_org_id or 'none'})",
            where=operation or "",
            fix=fix
            or "Start the run with a snapshot whose org_id is the organisation that the caller may act for",
        )


class OrgIdError(ConfigurationError, ValueError):
    """What should be the id of an organisation is neither a UUID nor the text of one.

    Args:
        value: What was given. Its type is told and not the value, which may be a secret in the wrong place.

    ```python
    from stageflow_auth import OrgIdError

    print(OrgIdError("acme").what)
    #> The id of an organisation is a UUID or its text, and this str is neither
    ```
    """

    code = "SF-AUTH-ORG-ID"

    def __init__(self, value: object) -> None:
        self.given = type(value).__name__
        super().__init__(
            f"The id of an organisation is a UUID or its text, and this {self.given} is neither",
            where="TenantInterceptor(org_id=...)",
            fix="Pass uuid.UUID('...'), or text of the form 00000000-0000-0000-0000-000000000000",
        )
