"""A run stays inside the organisation it was opened for; in doubt it does not run."""

import pickle
from typing import Any
from uuid import UUID, uuid4

import pytest
from stageflow import (
    ContextSnapshot,
    Pipeline,
    PipelineContext,
    RunIdentity,
    StageContext,
    StageExecutionError,
    Stageflow,
    StageKind,
    StageOutput,
    stage,
    use,
)
from stageflow.errors import ConfigurationError, StageflowError
from stageflow.plugins import PluginHost, PluginPolicy, discover
from stageflow_auth import (
    TENANT_ACCESS_DENIED,
    TENANT_ORG_ID,
    OrgIdError,
    TenantInterceptor,
    TenantIsolationError,
)

pytestmark = pytest.mark.asyncio

ACME, OTHER = UUID(int=0xACE), UUID(int=0xBAD)
NOT_SAID: Any = object()


class Recorder:
    def __init__(self):
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, data or {}))

    def denials(self) -> list[dict[str, Any]]:
        return [data for type, data in self.events if type == TENANT_ACCESS_DENIED]


ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran():
    ran.clear()


@stage(kind=StageKind.WORK)
async def pay(ctx: StageContext) -> str:
    ran.append(ctx.stage_name)
    return "paid"


@stage
async def thank(ctx: StageContext, paid: str = use(pay)) -> str:
    ran.append(ctx.stage_name)
    return f"thanks, {paid}"


pipeline = Pipeline.from_stages(pay, thank)


def snapshot(org_id: UUID | None) -> ContextSnapshot:
    return ContextSnapshot(RunIdentity(pipeline_run_id=uuid4(), org_id=org_id))


async def refused(
    interceptor: TenantInterceptor, context: Any, data: dict[str, Any] | None = None
) -> tuple[TenantIsolationError, dict[str, Any]]:
    """Run, and return the error and the event about the refusal; nothing has run."""
    sink = Recorder()
    with pytest.raises(StageExecutionError) as caught:
        await pipeline.build(interceptors=[interceptor]).run(context, data=data, sink=sink)
    error = caught.value.original
    assert isinstance(error, TenantIsolationError)
    assert isinstance(error, StageflowError)
    assert error.code == "SF-AUTH-TENANT"
    assert error.operation == "stage 'pay'"
    assert not ran
    assert not caught.value.recoverable
    (event,) = sink.denials()
    assert event["stage"] == "pay"
    assert event["reason"] == error.reason
    assert event["code"] == error.code
    assert event["operation"] == error.operation
    types = [type for type, _ in sink.events]
    assert types.index(TENANT_ACCESS_DENIED) < types.index("stage.pay.failed")
    return error, event


@pytest.mark.parametrize("org_id", [ACME, str(ACME), str(ACME).upper()], ids=["uuid", "text", "upper"])
@pytest.mark.parametrize("where", ["constructor", "data", "both"])
async def test_run_of_the_organisation_it_was_opened_for_runs(org_id: Any, where: str):
    interceptor = TenantInterceptor(None if where == "data" else org_id)
    data = None if where == "constructor" else {TENANT_ORG_ID: org_id}
    sink = Recorder()
    results = await pipeline.build(interceptors=[interceptor]).run(snapshot(ACME), data=data, sink=sink)
    assert results.value(thank) == "thanks, paid"
    assert sink.denials() == []


async def test_data_of_a_pipeline_context_counts_too():
    context = PipelineContext(org_id=ACME, data={TENANT_ORG_ID: str(ACME)})
    results = await pipeline.build(interceptors=[TenantInterceptor()]).run(context)
    assert results.value(thank) == "thanks, paid"
    error, _ = await refused_again(PipelineContext(org_id=OTHER, data={TENANT_ORG_ID: str(ACME)}))
    assert error.actual_org_id == OTHER


async def refused_again(context: Any) -> tuple[TenantIsolationError, dict[str, Any]]:
    ran.clear()
    return await refused(TenantInterceptor(), context)


@pytest.mark.parametrize(
    ("opened_for", "told", "actual", "expected", "says"),
    [
        (ACME, NOT_SAID, OTHER, ACME, "belongs to another organisation"),
        (None, ACME, OTHER, ACME, "belongs to another organisation"),
        (ACME, NOT_SAID, None, ACME, "belongs to no organisation"),
        (None, ACME, None, ACME, "belongs to no organisation"),
        (None, NOT_SAID, ACME, None, "Nobody says"),
        (None, NOT_SAID, None, None, "Nobody says"),
        (ACME, OTHER, ACME, ACME, "was made for another organisation"),
        (ACME, OTHER, OTHER, ACME, "was made for another organisation"),
        (ACME, "acme", ACME, ACME, "is no organisation"),
        (ACME, None, ACME, ACME, "is no organisation"),
        (None, None, None, None, "is no organisation"),
        (None, 7, ACME, None, "is no organisation"),
    ],
    ids=lambda value: "not-said" if value is NOT_SAID else str(value)[-4:],
)
async def test_anything_else_is_refused_before_it_runs(
    opened_for: UUID | None, told: Any, actual: UUID | None, expected: UUID | None, says: str
):
    data = None if told is NOT_SAID else {TENANT_ORG_ID: told}
    error, event = await refused(TenantInterceptor(opened_for), snapshot(actual), data)
    assert says in str(error)
    assert (error.expected_org_id, error.actual_org_id) == (expected, actual)
    assert event["expected_org_id"] == (None if expected is None else str(expected))
    assert event["actual_org_id"] == (None if actual is None else str(actual))


async def test_two_runs_of_one_graph_are_told_apart():
    graph = pipeline.build(interceptors=[TenantInterceptor()])
    mine = await graph.run(snapshot(ACME), data={TENANT_ORG_ID: ACME})
    theirs = await graph.run(snapshot(ACME), data={TENANT_ORG_ID: OTHER}, raise_errors=False)
    assert mine.error is None
    assert theirs.error is not None


async def test_a_stage_cannot_open_the_next_one():
    class Sneaky:
        name = "sneaky"
        kind = StageKind.WORK

        async def execute(self, ctx: StageContext) -> StageOutput:
            ctx.scope.data[TENANT_ORG_ID] = OTHER
            return StageOutput.ok()

    stages = (
        Pipeline()
        .with_stage("sneaky", Sneaky, StageKind.WORK)
        .with_stage("next", Sneaky, StageKind.WORK, ["sneaky"])
    )
    with pytest.raises(StageExecutionError) as caught:
        await stages.build(interceptors=[TenantInterceptor(ACME)]).run(snapshot(ACME))
    assert isinstance(caught.value.original, TenantIsolationError)


async def test_emitting_to_a_sink_that_raises_still_refuses():
    class Broken(Recorder):
        def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
            raise OSError("full")

    with pytest.raises(StageExecutionError) as caught:
        await pipeline.build(interceptors=[TenantInterceptor(ACME)]).run(snapshot(OTHER), sink=Broken())
    assert isinstance(caught.value.original, TenantIsolationError)
    assert not ran


@pytest.mark.parametrize(
    "org_id",
    [
        "",
        "acme",
        7,
        b"x",
        f"{{{ACME}}}",
        ACME.hex,
        f"urn:uuid:{ACME}",
        f" {ACME}",
        "-" * 36,
        str(ACME)[:-1] + "g",
    ],
    ids=repr,
)
async def test_org_id_is_checked_when_the_interceptor_is_made(org_id: Any):
    with pytest.raises(OrgIdError) as caught:
        TenantInterceptor(org_id)
    assert isinstance(caught.value, ConfigurationError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.code == "SF-AUTH-ORG-ID"
    assert not org_id or str(org_id) not in str(caught.value)


async def test_app_runs_it_by_name():
    found = [candidate for candidate in discover() if candidate.name == "auth"]
    host = PluginHost(found, policy=PluginPolicy(environ={}), strict=True)
    app = Stageflow(host, interceptors=["auth.tenant", "timeout", "logging"])
    assert [one.name for one in app.interceptors()] == ["auth.tenant", "timeout", "logging"]
    results = await app.run(pipeline, snapshot(ACME), data={TENANT_ORG_ID: ACME})
    assert results.value(thank) == "thanks, paid"
    with pytest.raises(StageExecutionError) as caught:
        await app.run(pipeline, snapshot(OTHER), data={TENANT_ORG_ID: ACME})
    assert isinstance(caught.value.original, TenantIsolationError)
    assert "auth.tenant" not in [one.name for one in Stageflow(host).interceptors()]


@pytest.mark.parametrize(
    "error",
    [TenantIsolationError(ACME, None, "stage 'pay'"), OrgIdError("acme")],
    ids=lambda error: error.code,
)
async def test_errors_pickle(error: Exception):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
