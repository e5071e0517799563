"""``TenantInterceptor``: a run stays inside the organisation it was opened for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, final
from uuid import UUID

from stageflow import BaseInterceptor

from stageflow_auth.errors import OrgIdError, TenantIsolationError

if TYPE_CHECKING:
    from stageflow import InterceptorContext, InterceptorResult

__all__ = ["TENANT_ACCESS_DENIED", "TENANT_ORG_ID", "TenantInterceptor"]

TENANT_ACCESS_DENIED: Final = "tenant.access_denied"
"""The event about a refusal."""

TENANT_ORG_ID: Final = "tenant_org_id"
"""The key of a run's ``data`` that says which organisation the run was opened for."""


@final
class TenantInterceptor(BaseInterceptor):
    """Refuses every stage of a run whose snapshot has another ``org_id`` than the run was opened for.

    Which organisation that is, the application says: here, for all runs of a chain, or for each run by
    ``data={"tenant_org_id": ...}``. Where both do, both must agree. It never comes from the snapshot, which is what
    is being checked.

    It fails closed: a run without an organisation, or of which nobody says for whom it was opened, is refused too.
    A refusal is an event, ``tenant.access_denied``, and a ``TenantIsolationError``, which fails the stage before it
    runs.

    Args:
        org_id: The organisation, as a UUID or its text. None leaves it to each run.

    Raises:
        OrgIdError: ``org_id`` is neither.

    ```python
    import asyncio
    from uuid import UUID

    from stageflow import ContextSnapshot, Pipeline, RunIdentity, StageExecutionError, stage
    from stageflow_auth import TenantInterceptor


    @stage
    async def answer() -> int:
        return 42


    acme, other = UUID(int=1), UUID(int=2)
    graph = Pipeline.from_stages(answer).build(interceptors=[TenantInterceptor()])
    try:
        asyncio.run(graph.run(ContextSnapshot(RunIdentity(org_id=other)), data={"tenant_org_id": acme}))
    except StageExecutionError as error:
        print(error.original.code, error.original.actual_org_id == other)
    #> SF-AUTH-TENANT True
    ```
    """

    name = "auth.tenant"
    priority = 2
    fail_closed: ClassVar[bool] = True

    def __init__(self, org_id: UUID | str | None = None) -> None:
        self._org_id = None if org_id is None else parse_org_id(org_id)

    @property
    def org_id(self) -> UUID | None:
        """The organisation of every run, or None where each run says its own."""
        return self._org_id

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        """Let the stage run, or refuse it.

        Args:
            stage_name: The stage.
            ctx: The run and the attempt.

        Raises:
            TenantIsolationError: The stage may not run.
        """
        expected, reason, fix = self._opened_for(ctx)
        if not reason:
            if expected is not None and ctx.org_id == expected:
                return None
            reason = "" if ctx.org_id is not None else "The run belongs to no organisation"
        raise self._refusal(stage_name, ctx, expected, reason=reason, fix=fix)

    def _opened_for(self, ctx: InterceptorContext) -> tuple[UUID | None, str, str]:
        """Return the organisation that the run was opened for; or why that cannot be told, and what to do."""
        if TENANT_ORG_ID not in ctx.data:
            if self._org_id is not None:
                return self._org_id, "", ""
            fix = f"Pass TenantInterceptor(org_id), or run(..., data={{{TENANT_ORG_ID!r}: ...}})"
            return None, "Nobody says for which organisation the run was opened", fix
        try:
            told = parse_org_id(ctx.data[TENANT_ORG_ID])
        except OrgIdError as exc:
            return (
                self._org_id,
                f"What the run's data says under {TENANT_ORG_ID!r} is no organisation",
                exc.fix,
            )
        if self._org_id is not None and told != self._org_id:
            fix = "Say it in one place, or the same in both"
            return (
                self._org_id,
                f"The run's data says {told}, and the chain was made for another organisation",
                fix,
            )
        return told, "", ""

    def _refusal(
        self, stage_name: str, ctx: InterceptorContext, expected: UUID | None, *, reason: str, fix: str
    ) -> TenantIsolationError:
        """Emit the event and return the error about it."""
        error = TenantIsolationError(expected, ctx.org_id, f"stage {stage_name!r}", reason=reason, fix=fix)
        ctx.try_emit_event(
            TENANT_ACCESS_DENIED,
            {
                "expected_org_id": None if expected is None else str(expected),
                "actual_org_id": None if ctx.org_id is None else str(ctx.org_id),
                "operation": error.operation,
                "reason": error.reason,
                "code": error.code,
            },
        )
        return error


def parse_org_id(value: object) -> UUID:
    """Return the id of an organisation, given as a UUID or its text.

    Raises:
        OrgIdError: It is neither.
    """
    if isinstance(value, UUID):
        return value
    try:
        # Only the usual form: UUID() itself also takes braces, "urn:uuid:" and hyphens anywhere.
        if isinstance(value, str) and len(value) == len(str(UUID(int=0))):
            return UUID(value)
    except ValueError:
        pass
    raise OrgIdError(value)
