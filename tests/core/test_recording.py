"""``Recording``: the store and the loggers that hear of runs and provider calls never break, stall or reorder a run."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

import pytest
from stageflow import (
    CancellationToken,
    ContextSnapshot,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    RunIdentity,
    StageExecutionError,
    StageKind,
    StageOutput,
)
from stageflow.errors import CircuitBreakerOpenError, PolicyError, RunTimeoutError
from stageflow.observability import LocalCircuitBreaker
from stageflow.observability.breaker import CircuitState
from stageflow.protocols import PipelineRunLogger, ProviderCallLogger, RunStore
from stageflow.runtime.recording import Recording
from stageflow.testing import EventRecorder, leak_check

K = StageKind.WORK
ORG, USER = UUID(int=1), UUID(int=2)


class Book:
    """A store, a run logger and a provider-call logger in one, which writes down every call as it begins."""

    def __init__(self, misbehave=None, at=()):
        self.calls: list[tuple[str, dict]] = []
        self.misbehave = misbehave
        self.at = at

    async def _note(self, name, **data):
        self.calls.append((name, data))
        if self.misbehave is not None and (not self.at or name in self.at):
            await self.misbehave()

    async def create_run(
        self, run_id, *, service, topology=None, execution_mode=None, status="created", **metadata
    ):
        await self._note(
            "create_run",
            run_id=run_id,
            service=service,
            topology=topology,
            execution_mode=execution_mode,
            **metadata,
        )

    async def update_status(self, run_id, status, *, error=None, duration_ms=None, **data):
        await self._note(
            f"update_status {status}", run_id=run_id, error=error, duration_ms=duration_ms, **data
        )

    async def get_run(self, run_id):
        return None

    async def log_run_started(self, **data):
        await self._note("log_run_started", **data)

    async def log_run_completed(self, **data):
        await self._note("log_run_completed", **data)

    async def log_run_failed(self, **data):
        await self._note("log_run_failed", **data)

    async def log_call_start(self, **data):
        await self._note("log_call_start", **data)
        return UUID(int=7)

    async def log_call_end(self, call_id, **data):
        await self._note("log_call_end", call_id=call_id, **data)

    @property
    def names(self):
        return [name for name, _ in self.calls]

    def __getitem__(self, name):
        (data,) = [data for known, data in self.calls if known == name]
        return data


def recorded(book, *, timeout=5.0):
    return Recording(run_store=book, run_logger=book, provider_call_logger=book, timeout=timeout)


async def ok(ctx):
    await asyncio.sleep(0)
    return {"ran": True}


def does(what):
    async def body(ctx):
        await asyncio.sleep(0)
        if what == "fail":
            return StageOutput.fail("no luck")
        if what == "raise":
            raise ValueError("no luck")
        if what == "cancel":
            return StageOutput.cancel("enough")
        if what == "hang":
            await asyncio.Event().wait()
        if what == "exit":
            raise SystemExit(3)
        return {"ran": True}

    return body


BEGIN = ["create_run", "update_status running", "log_run_started"]


def test_the_book_is_what_the_contracts_say():
    book = Book()
    assert isinstance(book, RunStore)
    assert isinstance(book, PipelineRunLogger)
    assert isinstance(book, ProviderCallLogger)


@pytest.mark.asyncio
async def test_a_run_that_ends_well_is_told_in_order():
    book = Book()
    graph = (
        Pipeline("chat").with_stage("a", ok, K).with_stage("b", ok, K, ["a"]).build(recording=recorded(book))
    )
    snapshot = ContextSnapshot(
        RunIdentity(org_id=ORG, user_id=USER), topology="fast", execution_mode="practice"
    )
    results = await graph.run(PipelineContext(snapshot=snapshot, service="web"))
    assert book.names == [*BEGIN, "update_status completed", "log_run_completed"]
    assert book["create_run"] == {
        "run_id": results.run_id,
        "service": "web",
        "topology": "fast",
        "execution_mode": "practice",
        "pipeline_name": "chat",
        "org_id": ORG,
    }
    assert book["log_run_started"] == {
        "pipeline_run_id": results.run_id,
        "pipeline_name": "chat",
        "topology": "fast",
        "execution_mode": "practice",
        "user_id": USER,
    }
    assert book["update_status completed"]["error"] is None
    assert book["update_status completed"]["run_id"] == results.run_id
    completed = book["log_run_completed"]
    assert completed["status"] == "completed"
    assert completed["stage_results"] == {"a": "ok", "b": "ok"}
    assert isinstance(completed["duration_ms"], int)
    assert completed["duration_ms"] == book["update_status completed"]["duration_ms"]


@pytest.mark.asyncio
@pytest.mark.parametrize("only", ["run_store", "run_logger"])
async def test_either_alone(only):
    book = Book()
    graph = Pipeline().with_stage("a", ok, K).build(recording=Recording(**{only: book}))
    await graph.run()
    expected = {
        "run_store": ["create_run", "update_status running", "update_status completed"],
        "run_logger": ["log_run_started", "log_run_completed"],
    }
    assert book.names == expected[only]


ENDINGS = {
    "fail": (StageExecutionError, "failed"),
    "raise": (StageExecutionError, "failed"),
    "cancel": (PipelineCancelled, "cancelled"),
    "token": (PipelineCancelled, "cancelled"),
    "time out": (RunTimeoutError, "cancelled"),
    "caller": (asyncio.CancelledError, "cancelled"),
    "exit": (SystemExit, "failed"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_other_end_is_told_before_the_call_ends(ending, sink):
    book, token = Book(), CancellationToken()
    kind = ending if ending in {"fail", "raise", "cancel", "exit"} else "hang"
    graph = (
        Pipeline()
        .with_stage("a", does(kind), K)
        .with_stage("b", ok, K, ["a"])
        .build(recording=recorded(book))
    )

    async def call():
        if ending == "token":
            asyncio.get_running_loop().call_later(0.01, token.cancel, "enough")
        if ending == "caller":
            asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)
        await graph.run(sink=sink, cancel_token=token, timeout=0.01 if ending == "time out" else None)

    error, status = ENDINGS[ending]
    async with leak_check():
        with pytest.raises(error):
            await call() if ending == "exit" else await asyncio.create_task(call())
    assert book.names == [
        *BEGIN,
        f"update_status {status}",
        "log_run_failed" if status == "failed" else "log_run_completed",
    ]
    assert book[f"update_status {status}"]["error"]
    if status == "failed":
        assert book["log_run_failed"]["stage"] == "a"
        assert "no luck" in book["log_run_failed"]["error"] or ending == "exit"
    else:
        assert book["log_run_completed"]["status"] == "cancelled"
        assert book["log_run_completed"]["reason"]


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", FailureMode)
async def test_what_a_failure_means_in_each_mode(mode):
    book = Book()
    graph = (
        Pipeline()
        .with_stage("a", does("fail"), K)
        .with_stage("b", ok, K)
        .build(failure_mode=mode, recording=recorded(book))
    )
    await graph.run(raise_errors=False)
    if mode is FailureMode.BEST_EFFORT:
        assert book["log_run_completed"]["stage_results"] == {"a": "fail", "b": "ok"}
        assert "log_run_failed" not in book.names
    else:
        assert book.names[-2:] == ["update_status failed", "log_run_failed"]


@pytest.mark.asyncio
async def test_the_end_is_told_after_the_cleanups_and_the_last_event(sink):
    order = []
    book = Book()

    async def cleans_up(ctx):
        async def cleanup():
            await asyncio.sleep(0)
            order.append("cleanup")

        ctx.register_cleanup(cleanup)

    class Ordered(Book):
        async def _note(self, name, **data):
            order.append(name)

    sink = EventRecorder(
        lambda event: order.append(event.type) if event.type.startswith("pipeline.") else None
    )
    book = Ordered()
    await Pipeline().with_stage("a", cleans_up, K).build(recording=recorded(book)).run(sink=sink)
    last = order.index("pipeline.completed")
    assert order.index("cleanup") < last < order.index("update_status completed")
    assert order.index("pipeline.started") < order.index("create_run")


# --- who misbehaves ------------------------------------------------------------------------------------------------


async def raises():
    raise OSError("disk full")


async def raises_late():
    await asyncio.sleep(0)
    raise OSError("disk full")


async def cancels_itself():
    raise asyncio.CancelledError


async def is_slow():
    for _ in range(20):
        await asyncio.sleep(0)


ALL = [*BEGIN, "update_status completed", "log_run_completed"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "misbehave", [raises, raises_late, cancels_itself, is_slow], ids=lambda one: one.__name__
)
@pytest.mark.parametrize("at", ["everywhere", *ALL])
async def test_a_store_or_logger_that_misbehaves_breaks_nothing(misbehave, at, sink, caplog):
    book = Book(misbehave, () if at == "everywhere" else (at,))
    graph = Pipeline().with_stage("a", ok, K).with_stage("b", ok, K, ["a"]).build(recording=recorded(book))
    async with leak_check():
        results = await graph.run(sink=sink)
    assert [output.status for output in results.values()] == ["ok", "ok"]
    assert book.names == ALL  # the others are still told, in order
    sink.assert_paired(stages="ab", end="completed")
    warnings = [record for record in caplog.records if record.name == "stageflow.runtime"]
    assert bool(warnings) == (misbehave is not is_slow)


@pytest.mark.asyncio
async def test_stages_do_not_wait_for_a_slow_store():
    order = []
    release = asyncio.Event()

    async def notes(ctx):
        await asyncio.sleep(0)
        order.append(ctx.stage_name)
        if ctx.stage_name == "b":
            release.set()

    async def waits():
        await release.wait()
        order.append("store")

    book = Book(waits, ("create_run",))
    await (
        Pipeline()
        .with_stage("a", notes, K)
        .with_stage("b", notes, K, ["a"])
        .build(recording=recorded(book))
        .run()
    )
    assert order == ["a", "b", "store"]
    assert book.names == ALL


@pytest.mark.asyncio
@pytest.mark.parametrize("at", ALL)
async def test_one_that_hangs_delays_the_end_by_its_time_and_nothing_before(at, sink, caplog):
    async def hangs():
        await asyncio.Event().wait()

    book = Book(hangs, (at,))
    graph = Pipeline().with_stage("a", ok, K).build(recording=recorded(book, timeout=0.02))
    loop = asyncio.get_running_loop()
    ended = []
    sink = EventRecorder(
        lambda event: ended.append(loop.time()) if event.type == "pipeline.completed" else None
    )
    start = loop.time()
    async with leak_check():
        async with asyncio.timeout(5):
            results = await graph.run(sink=sink)
    assert results["a"].status == "ok"
    assert loop.time() - ended[0] >= 0.019
    assert ended[0] - start < loop.time() - ended[0] + 1
    assert book.names == ALL[: ALL.index(at) + 1]
    assert "was not done within" in caplog.text


@pytest.mark.asyncio
async def test_one_that_hangs_and_swallows_its_cancellation_is_not_called_again(sink):
    release = asyncio.Event()

    async def hangs():
        with contextlib.suppress(asyncio.CancelledError):
            await release.wait()

    book = Book(hangs)
    graph = Pipeline().with_stage("a", ok, K).build(recording=recorded(book, timeout=0.02))
    async with leak_check():
        run = asyncio.create_task(graph.run(sink=sink))
        done, _ = await asyncio.wait([run], timeout=1)
        called = list(book.names)
        release.set()
        await asyncio.wait([run], timeout=5)
    assert done, f"the run does not end; called after the time was over: {called[1:]}"
    assert called == ["create_run"]


@pytest.mark.asyncio
async def test_a_caller_that_is_cancelled_while_the_end_is_told_waits_for_that(sink):
    begun, release = asyncio.Event(), asyncio.Event()

    async def waits():
        begun.set()
        await release.wait()

    book = Book(waits, ("update_status completed",))
    async with leak_check():
        run = asyncio.create_task(
            Pipeline().with_stage("a", ok, K).build(recording=recorded(book)).run(sink=sink)
        )
        await begun.wait()
        run.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not run.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert book.names == ALL
    assert sink.types[-1] == "pipeline.completed"


@pytest.mark.asyncio
async def test_plain_functions_in_place_of_async_ones_break_nothing(caplog):
    class Plain:
        def __getattr__(self, name):
            return lambda *arguments, **more: None

    graph = (
        Pipeline().with_stage("a", ok, K).build(recording=Recording(run_store=Plain(), run_logger=Plain()))
    )
    assert (await graph.run())["a"].status == "ok"
    assert "raised" in caplog.text


@pytest.mark.asyncio
async def test_runs_at_once_are_each_told_in_their_own_order():
    book = Book(is_slow)
    graph = Pipeline().with_stage("a", ok, K).build(recording=recorded(book))
    all_results = await asyncio.gather(*(graph.run() for _ in range(20)))
    for results in all_results:
        mine = [
            name
            for name, data in book.calls
            if results.run_id in (data.get("run_id"), data.get("pipeline_run_id"))
        ]
        assert mine == ALL


# --- provider calls ------------------------------------------------------------------------------------------------


def calling(body=None, **options):
    async def calls(ctx):
        async with ctx.provider_call("chat", "acme", "small", prompt=3) as call:
            await asyncio.sleep(0)
            if body is not None:
                await body()
            call.metrics["tokens"] = 12
        return {"called": True}

    return Pipeline().with_stage("calls", calls, K, **options)


@pytest.mark.asyncio
async def test_a_provider_call_is_told_at_its_start_and_at_its_end():
    book = Book()
    results = await calling().build(recording=recorded(book)).run()
    start, end = book["log_call_start"], book["log_call_end"]
    assert start == {
        "operation": "chat",
        "provider": "acme",
        "model_id": "small",
        "pipeline_run_id": results.run_id,
        "stage": "calls",
        "prompt": 3,
    }
    assert end["call_id"] == UUID(int=7)
    assert end["success"] is True
    assert end["error"] is None
    assert end["tokens"] == 12
    assert isinstance(end["latency_ms"], int)


@pytest.mark.asyncio
async def test_a_call_that_raises_is_told_and_raises():
    async def broken():
        raise ConnectionError("gone")

    book = Book()
    results = await calling(broken).build(recording=recorded(book)).run(raise_errors=False)
    assert isinstance(results.error.original, ConnectionError)
    assert book["log_call_end"]["success"] is False
    assert book["log_call_end"]["error"] == "gone"
    assert "tokens" not in book["log_call_end"]


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_is_told():
    async def hangs():
        await asyncio.Event().wait()

    book = Book()
    with pytest.raises(RunTimeoutError):
        await calling(hangs).build(recording=recorded(book)).run(timeout=0.01)
    assert book["log_call_end"]["success"] is False
    assert book["log_call_end"]["error"] == "CancelledError"


@pytest.mark.asyncio
@pytest.mark.parametrize("misbehave", [raises, raises_late, is_slow], ids=lambda one: one.__name__)
@pytest.mark.parametrize("at", ["log_call_start", "log_call_end"])
async def test_a_provider_call_logger_that_misbehaves_breaks_no_call(misbehave, at, caplog):
    book = Book(misbehave, (at,))
    results = await calling().build(recording=recorded(book)).run()
    assert results["calls"].data == {"called": True}
    assert at in book.names
    assert ("raised" in caplog.text) == (misbehave is not is_slow)


@pytest.mark.asyncio
@pytest.mark.parametrize("at", ["log_call_start", "log_call_end"])
async def test_a_provider_call_logger_that_hangs_stalls_no_call(at):
    """Issue 3, faults: loggers that hang never stall a run."""

    async def hangs():
        await asyncio.Event().wait()

    book = Book(hangs, (at,))
    async with leak_check():
        results = (
            await calling().build(recording=recorded(book, timeout=0.02)).run(timeout=1, raise_errors=False)
        )
    assert results.error is None
    assert results["calls"].data == {"called": True}


@pytest.mark.asyncio
async def test_without_a_logger_nothing_is_told():
    assert (await calling().run())["calls"].data == {"called": True}


@pytest.mark.asyncio
@pytest.mark.parametrize("outcome", ["ok", "raise", "cancel"])
async def test_the_breaker_hears_of_calls_that_were_made_and_how_they_went(outcome, monkeypatch):
    told = []

    class Breaker:
        open = False

        async def is_open(self, *, operation, provider):
            return self.open

        async def record_success(self, *, operation, provider):
            told.append("success")

        async def record_failure(self, *, operation, provider, reason):
            told.append(f"failure: {reason}")

    breaker = Breaker()
    monkeypatch.setattr("stageflow.observability.breaker.get_circuit_breaker", lambda: breaker)

    async def body():
        if outcome == "raise":
            raise ConnectionError("gone")
        if outcome == "cancel":
            await asyncio.Event().wait()

    book = Book()
    graph = calling(body).build(recording=recorded(book))
    await graph.run(timeout=0.01 if outcome == "cancel" else None, raise_errors=False)
    assert told == {"ok": ["success"], "raise": ["failure: gone"], "cancel": []}[outcome]
    told.clear()
    breaker.open = True
    results = await graph.run(raise_errors=False)
    assert isinstance(results.error.original, CircuitBreakerOpenError)
    assert told == []
    assert book.names.count("log_call_start") == 1


@pytest.fixture
def half_open(monkeypatch):
    """The current breaker, which has opened for the calls here; it is time for one to try, for half a minute."""
    now = 0.0
    breaker = LocalCircuitBreaker(failure_threshold=1, recovery_timeout=30.0, clock=lambda: now)
    monkeypatch.setattr("stageflow.observability.breaker.get_circuit_breaker", lambda: breaker)
    breaker.acquire("chat", "acme").fail("502")
    now = 30.0
    return breaker


@pytest.mark.asyncio
@pytest.mark.parametrize("at", ["the call", "log_call_start", "log_call_end"])
async def test_a_cancelled_probe_makes_room_for_another_at_once(at, half_open):
    async def hangs():
        await asyncio.Event().wait()

    graph = calling(hangs if at == "the call" else None).build(
        recording=recorded(Book(hangs, (at,)), timeout=60)
    )
    with pytest.raises(RunTimeoutError):
        await graph.run(timeout=0.01)
    assert half_open.state("chat", "acme") is (
        CircuitState.CLOSED if at == "log_call_end" else CircuitState.HALF_OPEN
    )
    assert (await calling().run())["calls"].data == {"called": True}
    assert half_open.state("chat", "acme") is CircuitState.CLOSED


@pytest.mark.asyncio
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_probe_that_ends_for_another_reason_than_the_provider_says_nothing(cancelled, half_open):
    token = CancellationToken()

    async def ends():
        if not cancelled:
            raise PolicyError("This tenant may not")
        token.cancel("enough")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise PipelineCancelled(PipelineCancelled.EXTERNAL, "enough")  # as ctx.raise_if_cancelled() does

    results = await calling(ends).run(raise_errors=False, cancel_token=token)
    assert results.error is not None
    assert half_open.state("chat", "acme") is CircuitState.HALF_OPEN
    assert (await calling().run())["calls"].data == {"called": True}


@pytest.mark.asyncio
async def test_a_refused_call_says_when_to_come_back(half_open):
    half_open.acquire("chat", "acme").fail("502 again")
    error = (await calling().run(raise_errors=False)).error.original
    assert isinstance(error, CircuitBreakerOpenError)
    assert error.retry_after == 30.0
