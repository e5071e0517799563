"""CircuitBreakerInterceptor in real runs: what counts, who shares it, and the one probe."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from stageflow import (
    ContextSnapshot,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    RetryPolicy,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
)
from stageflow.errors import CircuitBreakerOpenError, PolicyError, StageTimeoutError
from stageflow.interceptors.circuit_breaker import CircuitBreakerInterceptor
from stageflow.observability.breaker import (
    CircuitState,
    LocalCircuitBreaker,
    NoOpCircuitBreaker,
    clear_circuit_breaker,
    get_circuit_breaker,
    set_circuit_breaker,
)
from stageflow.testing import leak_check

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio
RECOVERY = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Provider:
    """The body of a stage that does what it is told, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.outcome: Callable[[], Any] = StageOutput.ok

    async def __call__(self, ctx: Any) -> Any:
        self.calls += 1
        given = self.outcome()
        if isinstance(given, BaseException):
            raise given
        return await given if asyncio.iscoroutine(given) else given


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> LocalCircuitBreaker:
    return LocalCircuitBreaker(3, RECOVERY, clock=clock)


@pytest.fixture
def provider() -> Provider:
    return Provider()


def build(provider: Provider, breaker: LocalCircuitBreaker | None = None, **more: Any) -> StageGraph:
    pipeline = Pipeline("p").with_stage("ask", provider, more.pop("kind", StageKind.TRANSFORM), **more)
    return pipeline.build(interceptors=[CircuitBreakerInterceptor(3, breaker=breaker)])


async def run(graph: StageGraph) -> BaseException | None:
    """Run, and return what the stage failed with."""
    results = await graph.run(raise_errors=False)
    return None if results.error is None else getattr(results.error, "original", results.error)


async def open_up(graph: StageGraph, provider: Provider) -> None:
    provider.outcome = lambda: ConnectionError("no answer")
    for _ in range(3):
        assert isinstance(await run(graph), ConnectionError)


async def test_defaults_are_those_of_0_9():
    one = CircuitBreakerInterceptor()
    assert (one.name, one.priority) == ("circuit_breaker", 10)
    assert (one.breaker.failure_threshold, one.breaker.recovery_timeout) == (5, 30.0)


async def test_finding_a1_09_a_raised_failure_counts_once_and_a_rejection_never(
    provider: Provider, breaker: LocalCircuitBreaker, clock: Clock
):
    graph = build(provider, breaker)
    await open_up(graph, provider)
    assert provider.calls == 3  # three and not two: one exception is one failure
    for _ in range(10):
        error = await run(graph)
        assert isinstance(error, CircuitBreakerOpenError)
        assert (error.operation, error.retry_after) == ("ask", RECOVERY)
    assert provider.calls == 3
    clock.now = RECOVERY
    provider.outcome = StageOutput.ok
    assert await run(graph) is None
    assert breaker.state("ask", "stage") is CircuitState.CLOSED


async def test_a_rejection_is_a_failure_of_the_stage(
    provider: Provider, breaker: LocalCircuitBreaker, sink: Any
):
    graph = build(provider, breaker)
    await open_up(graph, provider)
    with pytest.raises(StageExecutionError) as caught:
        await graph.run(sink=sink)
    assert isinstance(caught.value.original, CircuitBreakerOpenError)
    sink.assert_paired(stages=["ask"], end="failed")
    assert sink.of("ask") == ["started", "failed"]


async def test_finding_a1_09_fifty_runs_one_probe(
    provider: Provider, breaker: LocalCircuitBreaker, clock: Clock
):
    graph = build(provider, breaker)
    async with leak_check():
        await open_up(graph, provider)
        clock.now = RECOVERY
        gate = asyncio.Event()
        provider.outcome = lambda: wait_for(gate)
        runs = [asyncio.ensure_future(run(graph)) for _ in range(50)]
        while sum(one.done() for one in runs) < 49:
            await asyncio.sleep(0)
        assert provider.calls == 4
        gate.set()
        errors = await asyncio.gather(*runs)
    assert sum(isinstance(error, CircuitBreakerOpenError) for error in errors) == 49
    assert errors.count(None) == 1
    assert await run(graph) is None


async def wait_for(gate: asyncio.Event) -> StageOutput:
    await gate.wait()
    return StageOutput.ok()


async def probing(graph: StageGraph, provider: Provider) -> asyncio.Task[Any]:
    """Return a run whose stage is the probe and hangs."""
    before = provider.calls
    provider.outcome = lambda: wait_for(asyncio.Event())
    task = asyncio.ensure_future(graph.run())
    while provider.calls == before:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_cancelled_probe_makes_room(provider: Provider, breaker: LocalCircuitBreaker, clock: Clock):
    graph = build(provider, breaker)
    async with leak_check():
        await open_up(graph, provider)
        clock.now = RECOVERY
        task = await probing(graph, provider)
        assert isinstance(await run(graph), CircuitBreakerOpenError)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert breaker.state("ask", "stage") is CircuitState.HALF_OPEN
        provider.outcome = StageOutput.ok
        assert await run(graph) is None
    assert breaker.state("ask", "stage") is CircuitState.CLOSED


async def test_a_probe_that_is_cancelled_by_a_failing_sibling_makes_room(
    provider: Provider, breaker: LocalCircuitBreaker, clock: Clock
):
    probed = asyncio.Event()

    async def hang() -> StageOutput:
        probed.set()
        return await wait_for(asyncio.Event())

    async def sibling(ctx: Any) -> None:
        await probed.wait()
        raise ValueError

    pipeline = Pipeline().with_stage("ask", provider, StageKind.TRANSFORM)
    graph = pipeline.build(interceptors=[CircuitBreakerInterceptor(breaker=breaker)])
    await open_up(graph, provider)
    clock.now = RECOVERY
    provider.outcome = hang
    both = pipeline.with_stage("sibling", sibling, StageKind.TRANSFORM)
    assert isinstance(
        await run(both.build(interceptors=[CircuitBreakerInterceptor(breaker=breaker)])), ValueError
    )
    assert breaker.state("ask", "stage") is CircuitState.HALF_OPEN
    provider.outcome = StageOutput.ok
    assert await run(graph) is None


async def test_a_probe_that_notices_the_cancellation_itself_makes_room(
    provider: Provider, breaker: LocalCircuitBreaker, clock: Clock
):
    graph = build(provider, breaker)
    await open_up(graph, provider)
    clock.now = RECOVERY

    async def polite(ctx: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ctx.raise_if_cancelled()

    graph = Pipeline().with_stage("ask", polite, StageKind.TRANSFORM)
    built = graph.build(interceptors=[CircuitBreakerInterceptor(breaker=breaker)])
    with pytest.raises(PipelineCancelled):
        await built.run(timeout=0.01)
    assert breaker.state("ask", "stage") is CircuitState.HALF_OPEN


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_time_out_is_a_failure_also_if_the_stage_swallows_it(
    breaker: LocalCircuitBreaker,
    swallows: bool,  # noqa: FBT001
):
    async def slow(ctx: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not swallows:
                raise

    pipeline = Pipeline().with_stage("ask", slow, StageKind.TRANSFORM, timeout=0.01)
    graph = pipeline.build(interceptors=[CircuitBreakerInterceptor(breaker=breaker)])
    for _ in range(3):
        assert isinstance(await run(graph), StageTimeoutError)
    assert isinstance(await run(graph), CircuitBreakerOpenError)


async def test_a_run_that_is_cancelled_says_nothing(provider: Provider, breaker: LocalCircuitBreaker):
    graph = build(provider, breaker)
    provider.outcome = lambda: wait_for(asyncio.Event())
    for _ in range(5):
        with pytest.raises(PipelineCancelled):
            await graph.run(timeout=0.005)
    assert breaker.state("ask", "stage") is CircuitState.CLOSED
    assert not breaker._circuits


@pytest.mark.parametrize(
    ("outcome", "opens"),
    [
        (lambda: StageOutput.fail("no"), True),
        (lambda: ValueError("no"), True),
        (lambda: StageOutput.retry("later"), True),
        (lambda: PolicyError("not yours"), False),
        (lambda: CircuitBreakerOpenError("other", "acme"), False),
        (lambda: StageOutput.skip("nothing to do"), False),
        (lambda: StageOutput.cancel("enough"), False),
        (KeyboardInterrupt, False),
    ],
    ids=["fail", "exception", "retry", "policy", "rejected", "skip", "cancel", "interrupt"],
)
async def test_what_counts(
    provider: Provider,
    breaker: LocalCircuitBreaker,
    outcome: Any,
    opens: bool,  # noqa: FBT001
):
    graph = build(provider, breaker, retry=RetryPolicy(1))
    provider.outcome = outcome
    for _ in range(3):
        try:
            await run(graph)
        except KeyboardInterrupt:
            continue
    state = CircuitState.OPEN if opens else CircuitState.CLOSED
    assert breaker.state("ask", "stage") is state


async def test_a_guard_that_says_no_has_done_its_work(provider: Provider, breaker: LocalCircuitBreaker):
    graph = build(provider, breaker, kind=StageKind.GUARD)
    provider.outcome = lambda: StageOutput.fail("not allowed")
    for _ in range(10):
        await run(graph)
    assert breaker.state("ask", "stage") is CircuitState.CLOSED
    provider.outcome = ConnectionError
    for _ in range(3):
        await run(graph)
    assert breaker.state("ask", "stage") is CircuitState.OPEN


async def test_a_skip_is_no_success(provider: Provider, breaker: LocalCircuitBreaker, clock: Clock):
    graph = build(provider, breaker)
    for outcome in (ConnectionError, ConnectionError, StageOutput.skip, ConnectionError):
        provider.outcome = outcome
        await run(graph)
    assert breaker.state("ask", "stage") is CircuitState.OPEN
    clock.now = RECOVERY
    provider.outcome = StageOutput.skip
    assert await run(graph) is None
    assert breaker.state("ask", "stage") is CircuitState.HALF_OPEN


async def test_every_attempt_counts_and_a_rejected_one_is_not_repeated(
    provider: Provider, breaker: LocalCircuitBreaker
):
    graph = build(provider, breaker, retry=RetryPolicy(10, base_delay=0))
    provider.outcome = lambda: ConnectionError("no answer")
    error = await run(graph)
    assert isinstance(error, CircuitBreakerOpenError)
    assert provider.calls == 3


async def test_two_runs_of_a_graph_share_it_and_two_graphs_do_not(provider: Provider):
    pipeline = Pipeline().with_stage("ask", provider, StageKind.TRANSFORM)
    one = pipeline.build(interceptors=[CircuitBreakerInterceptor(3)])
    other = pipeline.build(interceptors=[CircuitBreakerInterceptor(3)])
    await open_up(one, provider)
    assert isinstance(await run(one), CircuitBreakerOpenError)
    assert isinstance(await run(other), ConnectionError)


async def test_stages_have_circuits_of_their_own(provider: Provider, breaker: LocalCircuitBreaker):
    fine = Provider()
    pipeline = (
        Pipeline()
        .with_stage("ask", provider, StageKind.TRANSFORM)
        .with_stage("fine", fine, StageKind.TRANSFORM)
    )
    graph = pipeline.build(
        interceptors=[CircuitBreakerInterceptor(breaker=breaker)],
        failure_mode=FailureMode.CONTINUE_ON_FAILURE,
    )
    await open_up(graph, provider)
    await run(graph)
    assert (provider.calls, fine.calls) == (3, 4)


async def test_finding_a1_22_stages_get_the_breaker_of_their_graph(breaker: LocalCircuitBreaker):
    seen: list[object] = []

    async def ask(ctx: Any) -> None:
        seen.append(get_circuit_breaker())

    pipeline = Pipeline().with_stage("ask", ask, StageKind.TRANSFORM)
    graph = pipeline.build(interceptors=[CircuitBreakerInterceptor(breaker=breaker)])
    await graph.run()
    await graph.run()
    assert seen == [breaker, breaker]
    assert isinstance(get_circuit_breaker(), NoOpCircuitBreaker)

    await pipeline.build(interceptors=[]).run()
    assert isinstance(seen.pop(), NoOpCircuitBreaker)

    own = LocalCircuitBreaker()
    set_circuit_breaker(own)
    try:
        await graph.run()
    finally:
        clear_circuit_breaker()
    assert seen.pop() is own


async def test_a_nested_run_uses_the_breaker_of_its_own_graph(breaker: LocalCircuitBreaker):
    seen: list[object] = []
    inner_breaker = LocalCircuitBreaker()

    async def inner(ctx: Any) -> None:
        seen.append(get_circuit_breaker())

    inner_graph = (
        Pipeline()
        .with_stage("inner", inner, StageKind.TRANSFORM)
        .build(interceptors=[CircuitBreakerInterceptor(breaker=inner_breaker)])
    )

    async def outer(ctx: Any) -> None:
        await inner_graph.run(ContextSnapshot())
        seen.append(get_circuit_breaker())

    graph = (
        Pipeline()
        .with_stage("outer", outer, StageKind.TRANSFORM)
        .build(interceptors=[CircuitBreakerInterceptor(breaker=breaker)])
    )
    await graph.run()
    assert seen == [inner_breaker, breaker]
