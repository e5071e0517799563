"""The default chain: what is in it, that the app has the same, and that it harms nobody who did not ask for it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest
from stageflow import (
    FailureMode,
    Pipeline,
    PipelineContext,
    RetryPolicy,
    StageExecutionError,
    Stageflow,
    StageKind,
    StageOutput,
    get_default_interceptors,
)
from stageflow.context import ArgumentValueError
from stageflow.errors import CircuitBreakerOpenError, MissingExtraError, PermanentError, SystemicError
from stageflow.interceptors.defaults import default_circuit_breaker
from stageflow.interceptors.idempotency_store import InMemoryIdempotencyStore
from stageflow.observability.trace import TraceContext
from stageflow.pipeline.subpipeline import SubpipelineSpawner
from stageflow.plugins import PluginHost

WORK = StageKind.WORK
SEVEN = [
    ("idempotency", 4),
    ("timeout", 5),
    ("circuit_breaker", 10),
    ("tracing", 20),
    ("metrics", 40),
    ("child_tracker_metrics", 45),
    ("logging", 50),
]


def listed(chain: Any) -> list[tuple[str, int]]:
    return [(one.name, one.priority) for one in chain]


def one(body: Any, kind: StageKind = StageKind.TRANSFORM, **options: Any) -> Pipeline:
    return Pipeline().with_stage("s", body, kind, **options)


# --- what is in it -----------------------------------------------------------------------------------------------


def test_the_seven_of_0_9_in_their_places():
    assert listed(get_default_interceptors()) == SEVEN
    assert listed(one(lambda ctx: None).build().interceptors) == SEVEN


def test_the_app_composes_the_same_chain():
    app = Stageflow(PluginHost(candidates=()))
    ours, theirs = app.interceptors(), get_default_interceptors()
    assert listed(ours) == listed(theirs)
    assert [type(one) for one in ours] == [type(one) for one in theirs]
    # And in the same mood: what differs is no more than the identity of what they hold.
    for mine, other in zip(ours, theirs, strict=True):
        assert plain(mine) == plain(other)


def plain(interceptor: Any) -> dict[str, Any]:
    return {name: repr(value).partition(" at 0x")[0] for name, value in vars(interceptor).items()}


def test_every_contributed_interceptor_says_its_own_name_and_priority():
    for name, entry in PluginHost(candidates=()).interceptors().items():
        made = entry.resolve()()
        assert (made.name, made.priority) == (name, entry.contribution.priority)


def test_the_others_are_there_by_name():
    app = Stageflow(PluginHost(candidates=()), interceptors=["retry", "context_size", "immutability_check"])
    assert listed(app.interceptors()) == [("retry", 15), ("context_size", 42), ("immutability_check", 10)]


def test_every_chain_is_made_afresh():
    mine, theirs = get_default_interceptors(), get_default_interceptors()
    assert not {*map(id, mine)} & {*map(id, theirs)}
    assert mine[0].store is not theirs[0].store
    assert mine[2].breaker is not theirs[2].breaker


# --- its options ---------------------------------------------------------------------------------------------------


def test_without_idempotency():
    assert listed(get_default_interceptors(include_idempotency=False)) == SEVEN[1:]


def test_the_store_is_the_one_that_was_given():
    store = InMemoryIdempotencyStore()
    assert get_default_interceptors(idempotency_store=store)[0].store is store


def test_a_store_without_idempotency_is_an_error():
    with pytest.raises(ArgumentValueError) as caught:
        get_default_interceptors(include_idempotency=False, idempotency_store=InMemoryIdempotencyStore())
    assert (caught.value.owner, caught.value.argument) == ("get_default_interceptors", "idempotency_store")


def test_with_auth_in_front():
    assert listed(get_default_interceptors(include_auth=True)) == [("auth.tenant", 2), *SEVEN]


def test_auth_that_is_not_installed_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "stageflow_auth", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stageflow-core\[auth\]'"):
        get_default_interceptors(include_auth=True)


def test_auth_that_is_broken_is_not_called_missing(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("stageflow_auth")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stageflow_auth.defaults", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        get_default_interceptors(include_auth=True)
    assert not isinstance(caught.value, MissingExtraError)


# --- it harms nobody -----------------------------------------------------------------------------------------------


def test_it_costs_a_cold_process_few_modules_and_no_heavy_one():
    program = (
        "import asyncio, sys\nfrom stageflow import Pipeline, StageKind\nbefore = set(sys.modules)\n"
        "async def body(ctx): return {}\n"
        "asyncio.run(Pipeline().with_stage('s', body, StageKind.WORK).build(%s).run())\n"
        "print(*(set(sys.modules) - before))"
    )
    added = [
        set(
            subprocess.run(
                [sys.executable, "-I", "-c", program % chain], capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for chain in ("", "interceptors=[]")
    ]
    heavy = {"opentelemetry", "pluggy", "pydantic", "structlog", "hashlib", "json"}
    assert not {name.partition(".")[0] for name in added[0]} & heavy
    assert len(added[0] - added[1]) <= 14, sorted(added[0] - added[1])


@pytest.mark.asyncio
async def test_nothing_is_logged_where_nobody_set_up_logging(caplog: pytest.LogCaptureFixture):
    caplog.set_level("WARNING")
    await one(lambda ctx: asyncio.sleep(0)).run()
    assert not caplog.records


@pytest.mark.asyncio
async def test_no_trace_is_made_where_nobody_reads_one(monkeypatch: pytest.MonkeyPatch):
    made: list[object] = []
    make = TraceContext.child
    monkeypatch.setattr(TraceContext, "child", lambda self, **more: made.append(1) or make(self, **more))

    async def reads(ctx: Any) -> None:
        assert TraceContext.capture() is TraceContext.capture()

    await one(lambda ctx: asyncio.sleep(0)).run(data={"more": 1})
    assert made == []
    await one(reads).run()
    assert made == [1]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "data", "runs"),
    [(WORK, {}, 2), (StageKind.AGENT, {"idempotency_key": "k"}, 2), (WORK, {"idempotency_key": "k"}, 1)],
    ids=["no key", "no work", "work with a key"],
)
async def test_only_work_with_a_key_is_done_once(kind: StageKind, data: dict[str, Any], runs: int):
    ran: list[int] = []

    async def body(ctx: Any) -> dict[str, int]:
        ran.append(1)
        return {"n": len(ran)}

    graph = one(body, kind).build()
    for _ in range(2):
        await graph.run(data=data)
    assert len(ran) == runs


class Bad(Exception):  # noqa: N818 - what somebody calls their error
    """Something that nobody recognises."""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("outcome", "opens"),
    [
        (lambda: StageOutput.fail("no such customer"), False),
        (lambda: ValueError("not a date"), False),
        (lambda: KeyError("a bug"), False),
        (lambda: Bad("?"), False),
        (lambda: PermanentError("no"), False),
        (lambda: PermissionError("not yours"), False),
        (lambda: CircuitBreakerOpenError("of another", "acme"), False),
        (lambda: ConnectionError("no answer"), True),
        (lambda: SystemicError("disk full"), True),
        (lambda: TimeoutError("of the client"), True),
        (lambda: StageOutput.retry("later"), True),
    ],
    ids=[
        "FAIL",
        "value",
        "bug",
        "unknown",
        "permanent",
        "denied",
        "rejected",
        "lost",
        "disk",
        "time-out",
        "RETRY",
    ],
)
async def test_only_trouble_of_what_a_stage_calls_opens_its_circuit(outcome: Any, opens: bool):  # noqa: FBT001
    """The wrong input of five callers must not lock out the sixth."""
    calls: list[int] = []

    async def body(ctx: Any) -> Any:
        calls.append(1)
        value = outcome()
        if isinstance(value, Exception):
            raise value
        return value

    graph = one(body, retry=RetryPolicy(1)).build()
    for _ in range(8):
        assert (await graph.run(raise_errors=False)).error is not None
    assert len(calls) == (5 if opens else 8)


@pytest.mark.asyncio
async def test_a_time_out_opens_the_circuit():
    graph = one(lambda ctx: asyncio.sleep(60), timeout=0.001).build()
    for _ in range(6):
        with pytest.raises(StageExecutionError) as caught:
            await graph.run()
    assert isinstance(caught.value.original, CircuitBreakerOpenError)


@pytest.mark.asyncio
async def test_a_retry_policy_gets_all_its_attempts():
    attempts: list[int] = []

    async def body(ctx: Any) -> None:
        attempts.append(ctx.attempt)
        raise ConnectionError

    with pytest.raises(StageExecutionError) as caught:
        await one(body, retry=RetryPolicy(10, base_delay=0)).run()
    assert attempts == list(range(1, 11))
    assert isinstance(caught.value.original, ConnectionError)


@pytest.mark.asyncio
async def test_a_stage_that_succeeds_in_the_end_opens_nothing():
    async def body(ctx: Any) -> dict[str, int]:
        if ctx.attempt == 1:
            raise ConnectionError
        return {"attempt": ctx.attempt}

    graph = one(body, retry=RetryPolicy(2, base_delay=0)).build()
    for _ in range(12):
        assert (await graph.run())["s"].data == {"attempt": 2}


@pytest.mark.asyncio
async def test_an_attempt_under_way_goes_on_when_others_open_the_circuit():
    """A retry that has begun is let through; the next run is not."""
    broken = asyncio.Event()

    async def body(ctx: Any) -> dict[str, int]:
        if ctx.input_text == "patient":
            if ctx.attempt == 1:
                await broken.wait()
                raise ConnectionError
            return {"attempt": ctx.attempt}
        raise ConnectionError

    graph = one(body, retry=RetryPolicy(2, base_delay=0)).build()
    patient = asyncio.ensure_future(graph.run(input_text="patient"))
    await asyncio.sleep(0)
    for _ in range(5):
        await graph.run(raise_errors=False)
    broken.set()
    assert (await patient)["s"].data == {"attempt": 2}
    results = await graph.run(raise_errors=False)
    assert isinstance(results.error.original, CircuitBreakerOpenError)


@pytest.mark.asyncio
async def test_a_further_attempt_that_tries_an_open_circuit_says_nothing_when_it_fails():
    breaker = default_circuit_breaker()

    async def body(ctx: Any) -> None:
        if ctx.attempt == 1:
            for _ in range(5):
                breaker.breaker.acquire("s", "stage").fail("elsewhere")
        raise ConnectionError

    results = (
        await one(body, retry=RetryPolicy(3, base_delay=0))
        .build(interceptors=[breaker])
        .run(raise_errors=False)
    )
    assert isinstance(results.error.original, ConnectionError)
    assert breaker.breaker.state("s", "stage") == "open"


@pytest.mark.asyncio
async def test_one_failing_stage_of_many_is_no_news_for_the_others():
    async def bad(ctx: Any) -> None:
        raise ConnectionError

    pipeline = one(bad).with_stage("t", lambda ctx: asyncio.sleep(0), WORK)
    graph = pipeline.build(failure_mode=FailureMode.BEST_EFFORT)
    for _ in range(7):
        assert (await graph.run())["t"].status == "ok"


@pytest.mark.asyncio
async def test_child_runs_log_the_figures_of_their_tracker(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "stageflow.child_tracker_metrics")
    child = one(lambda ctx: asyncio.sleep(0))

    async def parent(ctx: Any) -> None:
        assert (await SubpipelineSpawner().spawn("child", ctx, None, "s", child)).success

    run_id = UUID(int=7)
    await one(parent).run(PipelineContext(pipeline_run_id=run_id))
    (record,) = [record for record in caplog.records if record.name == "stageflow.child_tracker_metrics"]
    assert (vars(record)["parent_run_id"], vars(record)["active_children"]) == (str(run_id), 1)
