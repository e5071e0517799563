"""The circuit breaker alone: its states against a model, permits, the protocol, and who has which breaker."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import CircuitBreakerOpenError, LogicError, PolicyError, StageExecutionError
from stageflow.observability.ambient import lent_breaker, put_back
from stageflow.observability.breaker import (
    CircuitState,
    LocalCircuitBreaker,
    NoOpCircuitBreaker,
    Permit,
    clear_circuit_breaker,
    counts_as_failure,
    get_circuit_breaker,
    set_circuit_breaker,
)
from stageflow.protocols import CircuitBreaker

THRESHOLD = 3
RECOVERY = 10.0
OPERATION = ("call", "acme")
IDS = {"operation": "call", "provider": "acme"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> LocalCircuitBreaker:
    return LocalCircuitBreaker(THRESHOLD, RECOVERY, clock=clock)


def fail(breaker: LocalCircuitBreaker, times: int = THRESHOLD) -> None:
    for _ in range(times):
        breaker.acquire(*OPERATION).fail("no answer")


class BreakerMachine(RuleBasedStateMachine):
    """Calls that overlap in any way, against a model that knows only the three invariants of the module."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = LocalCircuitBreaker(THRESHOLD, RECOVERY, clock=self.clock)
        self.state = CircuitState.CLOSED
        self.failures = 0
        self.era = 0  # a call counts only in the era in which it was let through
        self.opened_at = 0.0
        self.probe: Permit | None = None

    def change(self, state: CircuitState) -> None:
        self.state, self.failures, self.probe = state, 0, None
        self.era += 1
        if state is CircuitState.OPEN:
            self.opened_at = self.clock.now

    @rule(target=calls)
    def call(self):
        if self.state is CircuitState.OPEN and self.clock.now >= self.opened_at + RECOVERY:
            self.change(CircuitState.HALF_OPEN)
        allowed = self.state is CircuitState.CLOSED or (
            self.state is CircuitState.HALF_OPEN and self.probe is None
        )
        try:
            permit = self.breaker.acquire(*OPERATION)
        except CircuitBreakerOpenError:
            assert not allowed
            return None
        assert allowed
        if self.state is CircuitState.HALF_OPEN:
            self.probe = permit
        return permit, self.era

    @rule(call=consumes(calls), outcome=st.sampled_from(["succeed", "fail", "release"]))
    def end(self, call: tuple[Permit, int] | None, outcome: str):
        if call is None:
            return
        permit, era = call
        for _ in range(2):  # whoever says it twice is heard once
            permit.fail("no") if outcome == "fail" else getattr(permit, outcome)()
        if era != self.era:
            return
        if outcome == "release":
            self.probe = None if self.probe is permit else self.probe
        elif outcome == "succeed":
            self.failures = 0
            if self.state is CircuitState.HALF_OPEN:
                self.change(CircuitState.CLOSED)
        else:
            self.failures += 1
            if self.state is CircuitState.HALF_OPEN or self.failures == THRESHOLD:
                self.change(CircuitState.OPEN)

    @rule(seconds=st.sampled_from([0.5, RECOVERY - 0.5, RECOVERY]))
    def wait(self, seconds: float):
        self.clock.now += seconds

    @invariant()
    def same_state(self):
        assert self.breaker.state(*OPERATION) is self.state


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(stateful_step_count=40)


def test_opens_after_the_threshold_and_says_when_to_come_back(breaker: LocalCircuitBreaker, clock: Clock):
    fail(breaker, THRESHOLD - 1)
    breaker.acquire(*OPERATION).succeed()  # in a row: this one starts it over
    fail(breaker)
    clock.now += 4
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire(*OPERATION)
    assert (caught.value.operation, caught.value.provider, caught.value.retry_after) == ("call", "acme", 6.0)
    assert "Circuit breaker open for call/acme" in str(caught.value)


def test_circuits_are_separate(breaker: LocalCircuitBreaker):
    fail(breaker)
    breaker.acquire("call", "other").succeed()
    breaker.acquire("other", "acme").succeed()
    assert breaker.state("call", "other") is breaker.state("other", "acme") is CircuitState.CLOSED


def test_finding_a1_09_rejections_neither_close_nor_prolong(breaker: LocalCircuitBreaker, clock: Clock):
    fail(breaker)
    for _ in range(20):
        clock.now += RECOVERY / 25
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire(*OPERATION)
    assert breaker.state(*OPERATION) is CircuitState.OPEN
    clock.now += RECOVERY / 5
    breaker.acquire(*OPERATION).succeed()
    assert breaker.state(*OPERATION) is CircuitState.CLOSED


def test_finding_a1_09_half_open_lets_one_of_fifty_through(breaker: LocalCircuitBreaker, clock: Clock):
    fail(breaker)
    clock.now += RECOVERY
    permits: list[Permit] = []
    start = threading.Barrier(50)

    def ask() -> None:
        start.wait()
        try:
            permits.append(breaker.acquire(*OPERATION))
        except CircuitBreakerOpenError as error:
            assert error.retry_after is None  # noqa: PT017 - nobody knows how long the probe takes

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(permits) == 1


def test_a_released_probe_makes_room_for_another(breaker: LocalCircuitBreaker, clock: Clock):
    fail(breaker)
    clock.now += RECOVERY
    breaker.acquire(*OPERATION).release()
    assert breaker.state(*OPERATION) is CircuitState.HALF_OPEN
    breaker.acquire(*OPERATION).fail("still no answer")
    assert breaker.state(*OPERATION) is CircuitState.OPEN


def test_a_call_from_before_decides_nothing(breaker: LocalCircuitBreaker, clock: Clock):
    slow = [breaker.acquire(*OPERATION) for _ in range(2 + THRESHOLD)]
    fail(breaker)
    clock.now += RECOVERY
    probe = breaker.acquire(*OPERATION)
    slow[0].succeed()
    assert breaker.state(*OPERATION) is CircuitState.HALF_OPEN
    slow[1].fail("no answer")
    assert breaker.state(*OPERATION) is CircuitState.HALF_OPEN
    probe.succeed()
    for call in slow[2:]:
        call.fail("no answer")
    assert breaker.state(*OPERATION) is CircuitState.CLOSED


def test_what_works_takes_no_memory(breaker: LocalCircuitBreaker):
    for number in range(1000):
        breaker.acquire("call", str(number)).succeed()
        breaker.acquire("call", str(number)).release()
    breaker.acquire("call", "x").fail("no")
    breaker.acquire("call", "x").succeed()
    assert not breaker._circuits


@pytest.mark.asyncio
async def test_protocol(breaker: LocalCircuitBreaker, clock: Clock):
    assert isinstance(breaker, CircuitBreaker)
    for _ in range(THRESHOLD):
        assert not await breaker.is_open(**IDS)
        await breaker.record_failure(**IDS, reason="no")
    assert await breaker.is_open(**IDS)
    await breaker.record_success(**IDS)  # of a call from before
    assert breaker.state(*OPERATION) is CircuitState.OPEN

    clock.now += RECOVERY
    asked = [await breaker.is_open(**IDS) for _ in range(50)]
    assert asked.count(False) == 1
    await breaker.release(**IDS)
    assert not await breaker.is_open(**IDS)
    clock.now += RECOVERY  # that one says nothing more: it makes room after a while
    assert not await breaker.is_open(**IDS)
    await breaker.record_success(**IDS)
    assert breaker.state(*OPERATION) is CircuitState.CLOSED
    await breaker.record_success(**IDS)
    await breaker.release(**IDS)
    await breaker.release(operation="unknown", provider="acme")
    assert breaker.state(*OPERATION) is CircuitState.CLOSED


@pytest.mark.asyncio
async def test_the_protocol_does_not_speak_for_who_holds_a_permit(breaker: LocalCircuitBreaker, clock: Clock):
    fail(breaker)
    clock.now += RECOVERY
    probe = breaker.acquire(*OPERATION)
    await breaker.record_success(**IDS)
    await breaker.release(**IDS)
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire(*OPERATION)
    probe.succeed()
    assert breaker.state(*OPERATION) is CircuitState.CLOSED


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"failure_threshold": 0}, ArgumentValueError),
        ({"failure_threshold": "5"}, ArgumentTypeError),
        ({"failure_threshold": 1.5}, ArgumentTypeError),
        ({"recovery_timeout": -1}, ArgumentValueError),
        ({"recovery_timeout": float("nan")}, ArgumentValueError),
        ({"recovery_timeout": float("inf")}, ArgumentValueError),
        ({"recovery_timeout": None}, ArgumentTypeError),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, object], error: type[Exception]):
    with pytest.raises(error):
        LocalCircuitBreaker(**arguments)


def test_what_counts():
    assert counts_as_failure(ValueError())
    assert counts_as_failure(LogicError("bug"))
    assert counts_as_failure(StageExecutionError("child", TimeoutError()))
    assert not counts_as_failure(PolicyError("no"))
    assert not counts_as_failure(StageExecutionError("child", CircuitBreakerOpenError("x", "y")))


def test_opening_and_closing_is_logged(
    breaker: LocalCircuitBreaker, clock: Clock, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "stageflow.circuit_breaker")
    fail(breaker)
    clock.now += RECOVERY
    breaker.acquire(*OPERATION).succeed()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Circuit breaker opened for call/acme: no answer"),
        ("INFO", "Circuit breaker closed for call/acme"),
    ]


@pytest.mark.asyncio
async def test_current_breaker():
    none = get_circuit_breaker()
    assert isinstance(none, NoOpCircuitBreaker)
    assert isinstance(none, CircuitBreaker)
    assert not await none.is_open(**IDS)
    await none.record_success(**IDS)
    await none.record_failure(**IDS, reason="no")
    lent, own = LocalCircuitBreaker(), LocalCircuitBreaker()
    token = lent_breaker.set(lambda: lent)
    assert get_circuit_breaker() is lent
    set_circuit_breaker(own)
    assert get_circuit_breaker() is own
    clear_circuit_breaker()
    put_back(lent_breaker, token)
    assert get_circuit_breaker() is none


@pytest.mark.asyncio
async def test_what_one_task_sets_another_does_not_see():
    async def one() -> None:
        set_circuit_breaker(LocalCircuitBreaker())

    await asyncio.create_task(one())
    assert isinstance(get_circuit_breaker(), NoOpCircuitBreaker)
