"""The conformance suites of what ``stageflow-auth`` contributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from stageflow.testing import create_test_snapshot
from stageflow.testing.conformance import InterceptorConformance

from stageflow_auth.tenant import TENANT_ORG_ID, TenantInterceptor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stageflow import ContextSnapshot

__all__ = ["TestTenant"]


class TestTenant(InterceptorConformance):
    """Runs that are opened for the organisation that they belong to."""

    contribution: ClassVar[str] = "auth.tenant"

    def make_interceptor(self) -> TenantInterceptor:
        """Return the interceptor, which leaves the organisation to each run."""
        return TenantInterceptor()

    def make_context(self) -> ContextSnapshot[Any]:
        """Return a run that belongs to an organisation."""
        return create_test_snapshot(input_text="Ada", org_id=UUID(int=1))

    def make_data(self, context: ContextSnapshot[Any]) -> Mapping[str, Any]:
        """Return what the run was opened for."""
        return {TENANT_ORG_ID: context.org_id}
