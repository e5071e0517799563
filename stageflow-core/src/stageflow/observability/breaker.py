"""The circuit breaker: what has failed too often is not called until it had time to recover.

```
             failure_threshold failures in a row
   CLOSED ─────────────────────────────────────────► OPEN ◄──────────────┐
     ▲                                                │ recovery_timeout  │ the probe fails
     │                                                ▼                   │
     └──────────────── the probe succeeds ─────── HALF_OPEN ──────────────┘
```

Invariants:

1. While OPEN, no call is let through; a rejected call is neither a success nor a failure.
2. While HALF_OPEN, at most one call, the probe, is under way. A probe that says nothing (cancelled) makes room for
   another.
3. Every call counts at most once, and only if nothing has changed since it was let through: what was called before the
   circuit opened decides nothing any more.
"""

from __future__ import annotations

from contextvars import ContextVar
from enum import StrEnum
from logging import INFO, WARNING
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, final

from stageflow.context.checks import check_type, number_of, wrong_value
from stageflow.errors import CircuitBreakerOpenError, ErrorClass, StageError, StageflowError
from stageflow.observability.ambient import lent_breaker
from stageflow.observability.structured import StructuredLog
from stageflow.protocols import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerOpenError",
    "CircuitState",
    "LocalCircuitBreaker",
    "NoOpCircuitBreaker",
    "Permit",
    "clear_circuit_breaker",
    "counts_as_failure",
    "get_circuit_breaker",
    "set_circuit_breaker",
]

_log = StructuredLog("stageflow.circuit_breaker")


class CircuitState(StrEnum):
    """Whether calls are let through: all, none, or one to try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@final
class _Circuit:
    """The state of one operation of one provider."""

    __slots__ = ("epoch", "failures", "probe", "reopen_at", "state")

    def __init__(self) -> None:
        self.state = CircuitState.CLOSED
        self.failures = 0  # in a row
        self.epoch = 0  # counts the changes of the state
        self.reopen_at = 0.0
        self.probe: Permit | None = None


@final
class Permit:
    """One call that was let through. Say once how it went; ``release`` says that nobody knows."""

    __slots__ = ("_breaker", "_epoch", "_key", "_settled", "expires_at")

    def __init__(
        self, breaker: LocalCircuitBreaker, key: tuple[str, str], epoch: int, expires_at: float | None
    ) -> None:
        self._breaker = breaker
        self._key = key
        self._epoch = epoch
        self._settled = False
        self.expires_at = expires_at

    def succeed(self) -> None:
        """The call went well."""
        self.settle(None)

    def fail(self, reason: str) -> None:
        """The call went wrong."""
        self.settle(reason)

    def settle(self, failure: str | None) -> None:
        """The call went well if there is no *failure*."""
        if not self._settled:
            self._settled = True
            self._breaker.settle(self, self._key, self._epoch, failure=failure)

    def release(self) -> None:
        """The call ended without saying anything of the provider, as a cancelled one does. Does nothing later on."""
        if not self._settled:
            self._settled = True
            self._breaker.abandon(self, self._key)


@final
class LocalCircuitBreaker:
    """A circuit breaker within this process, with one circuit for each operation of each provider.

    ``acquire`` gives a permit for one call, which is exact under any concurrency. The methods of the ``CircuitBreaker``
    protocol know no permits: there, the caller to whom ``is_open`` says False while the circuit is half-open is the
    probe, for as long as the circuit would stay open.

    Safe to use from several threads. Circuits without failures take no memory.

    Args:
        failure_threshold: How many failures in a row open a circuit.
        recovery_timeout: How long it stays open before one call may try, in seconds.
        clock: Returns monotonic seconds.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: A threshold below 1, or a time that is negative or not finite.

    ```python
    from stageflow.observability import CircuitBreakerOpenError, LocalCircuitBreaker

    now = 0.0
    breaker = LocalCircuitBreaker(failure_threshold=1, recovery_timeout=30.0, clock=lambda: now)
    breaker.acquire("llm.complete", "acme").fail("502")
    try:
        breaker.acquire("llm.complete", "acme")
    except CircuitBreakerOpenError as error:
        print(error.what, error.retry_after)
    #> Circuit breaker open for llm.complete/acme 30.0

    now = 30.0
    breaker.acquire("llm.complete", "acme").succeed()
    print(breaker.state("llm.complete", "acme"))
    #> closed
    ```
    """

    __slots__ = ("_circuits", "_clock", "_lock", "failure_threshold", "recovery_timeout")

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: float = 30.0,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        owner = "LocalCircuitBreaker"
        check_type(owner, "failure_threshold", failure_threshold, int, "a whole number")
        if failure_threshold < 1:
            raise wrong_value(owner, "failure_threshold", "must be at least 1", failure_threshold)
        self.failure_threshold = failure_threshold
        self.recovery_timeout = number_of(
            owner,
            "recovery_timeout",
            recovery_timeout,
            expects="a number of seconds",
            problem="must be zero or more seconds",
            least=0,
        )
        self._clock = clock
        self._lock = Lock()
        self._circuits: dict[tuple[str, str], _Circuit] = {}

    def acquire(self, operation: str, provider: str, *, expires: bool = False) -> Permit:
        """Let one call through.

        Args:
            operation: What is called.
            provider: Who provides it.
            expires: Whether the probe makes room for another after ``recovery_timeout``, for callers that might
                never say how it went.

        Raises:
            CircuitBreakerOpenError: The call must not be made.
        """
        key = (operation, provider)
        with self._lock:
            circuit = self._circuits.get(key)
            if circuit is None:
                return Permit(self, key, 0, None)
            if circuit.state is CircuitState.CLOSED:
                return Permit(self, key, circuit.epoch, None)
            now = self._clock()
            if circuit.state is CircuitState.OPEN:
                if now < circuit.reopen_at:
                    raise CircuitBreakerOpenError(operation, provider, circuit.reopen_at - now)
                _change(circuit, CircuitState.HALF_OPEN)
            probe = circuit.probe
            if probe is not None and (probe.expires_at is None or now < probe.expires_at):
                raise CircuitBreakerOpenError(operation, provider)
            permit = Permit(self, key, circuit.epoch, now + self.recovery_timeout if expires else None)
            circuit.probe = permit
            return permit

    def state(self, operation: str, provider: str) -> CircuitState:
        """Return the state of a circuit. An open one becomes half-open with the first call after its time."""
        circuit = self._circuits.get((operation, provider))
        return CircuitState.CLOSED if circuit is None else circuit.state

    def settle(self, permit: Permit, key: tuple[str, str], epoch: int, *, failure: str | None) -> None:
        """Count how a call went; what ``Permit`` does."""
        with self._lock:
            circuit = self._circuits.get(key)
            if circuit is None:
                if failure is None:
                    return
                circuit = self._circuits[key] = _Circuit()
            changed = self._count(circuit, permit, epoch, failed=failure is not None)
            if circuit.state is CircuitState.CLOSED and not circuit.failures and not circuit.epoch:
                # One that was ever open stays: its epoch tells calls from before from those after.
                del self._circuits[key]
        if changed is not None:  # outside of the lock: a logging handler may do anything
            _say(key, changed, failure)

    def _count(self, circuit: _Circuit, permit: Permit, epoch: int, *, failed: bool) -> CircuitState | None:
        """Apply one call's outcome to its circuit, and return the new state if it has changed."""
        if circuit.epoch != epoch or (
            circuit.state is not CircuitState.CLOSED and circuit.probe is not permit
        ):
            return None
        if not failed:
            circuit.failures = 0
            return _change(circuit, CircuitState.CLOSED) if circuit.state is CircuitState.HALF_OPEN else None
        circuit.failures += 1
        if circuit.state is CircuitState.CLOSED and circuit.failures < self.failure_threshold:
            return None
        circuit.reopen_at = self._clock() + self.recovery_timeout
        return _change(circuit, CircuitState.OPEN)

    def abandon(self, permit: Permit, key: tuple[str, str]) -> None:
        """Make room for another probe, if *permit* was it; what ``Permit`` does."""
        with self._lock:
            circuit = self._circuits.get(key)
            if circuit is not None and circuit.probe is permit:
                circuit.probe = None

    # --- the CircuitBreaker protocol ---------------------------------------------------------------------

    async def is_open(self, *, operation: str, provider: str) -> bool:
        """Say whether the call must not be made; if it may, and the circuit is half-open, it is the probe."""
        try:
            self.acquire(operation, provider, expires=True)
        except CircuitBreakerOpenError:
            return True
        return False

    async def record_success(self, *, operation: str, provider: str) -> None:
        """A call went well."""
        self._record(operation, provider, None)

    async def record_failure(self, *, operation: str, provider: str, reason: str) -> None:
        """A call went wrong."""
        self._record(operation, provider, reason)

    async def release(self, *, operation: str, provider: str) -> None:
        """A call has ended without saying anything of the provider; beyond the protocol, for cancelled ones."""
        circuit = self._circuits.get((operation, provider))
        probe = None if circuit is None else circuit.probe
        if probe is not None and probe.expires_at is not None:
            probe.release()

    def _record(self, operation: str, provider: str, failure: str | None) -> None:
        key = (operation, provider)
        with self._lock:
            circuit = self._circuits.get(key)
            epoch = 0 if circuit is None else circuit.epoch
            probe = None if circuit is None else circuit.probe
        if probe is None:
            Permit(self, key, epoch, None).settle(failure)
        elif probe.expires_at is not None:  # one that has its permit in hand speaks for itself
            probe.settle(failure)


def _change(circuit: _Circuit, state: CircuitState) -> CircuitState:
    circuit.state = state
    circuit.epoch += 1
    circuit.failures = 0
    circuit.probe = None
    return state


def _say(key: tuple[str, str], state: CircuitState, reason: str | None) -> None:
    operation, provider = key
    fields = {"operation": operation, "provider": provider, "state": state.value, "reason": reason}
    if state is CircuitState.OPEN:
        _log.write(WARNING, f"Circuit breaker opened for {operation}/{provider}: {reason}", fields)
    else:
        _log.write(INFO, f"Circuit breaker closed for {operation}/{provider}", fields)


def counts_as_failure(error: BaseException) -> bool:
    """Say whether an exception says something of the health of what was called.

    A denial by policy is the work of something healthy, and a call that another breaker has rejected was not made.

    ```python
    from stageflow.errors import PolicyError
    from stageflow.observability.breaker import counts_as_failure

    print(counts_as_failure(ConnectionError()), counts_as_failure(PolicyError("not yours")))
    #> True False
    ```
    """
    while isinstance(error, StageError):
        error = error.original
    if isinstance(error, CircuitBreakerOpenError):
        return False
    return not (isinstance(error, StageflowError) and error.error_class is ErrorClass.POLICY)


@final
class NoOpCircuitBreaker:
    """A circuit breaker that never opens.

    ```python
    import asyncio

    from stageflow.observability import NoOpCircuitBreaker

    print(asyncio.run(NoOpCircuitBreaker().is_open(operation="chat", provider="acme")))
    #> False
    ```
    """

    __slots__ = ()

    async def is_open(self, *, operation: str, provider: str) -> bool:
        """Say no."""
        return False

    async def record_success(self, *, operation: str, provider: str) -> None:
        """Do nothing."""

    async def record_failure(self, *, operation: str, provider: str, reason: str) -> None:
        """Do nothing."""


_NO_BREAKER = NoOpCircuitBreaker()
_current: ContextVar[CircuitBreaker | None] = ContextVar("stageflow_circuit_breaker", default=None)


def get_circuit_breaker() -> CircuitBreaker:
    """Return the current circuit breaker; ``ctx.provider_call`` asks it.

    It is the one that was set; else, in a stage of a graph with a ``CircuitBreakerInterceptor``, that interceptor's,
    which all runs of the graph share; else a ``NoOpCircuitBreaker``. There is none for the whole process: what one
    graph learns of its providers is not another's business.

    ```python
    from stageflow.observability import LocalCircuitBreaker, clear_circuit_breaker
    from stageflow.observability import get_circuit_breaker, set_circuit_breaker

    print(type(get_circuit_breaker()).__name__)
    #> NoOpCircuitBreaker
    set_circuit_breaker(LocalCircuitBreaker())
    print(type(get_circuit_breaker()).__name__)
    #> LocalCircuitBreaker
    clear_circuit_breaker()
    ```
    """
    current, lent = _current.get(), lent_breaker.get()
    if current is not None:
        return current
    return _NO_BREAKER if lent is None else lent()


def set_circuit_breaker(breaker: CircuitBreaker) -> None:
    """Make *breaker* the current one, in this context and those copied from it, such as runs.

    ```python
    from stageflow.observability import LocalCircuitBreaker, clear_circuit_breaker
    from stageflow.observability import get_circuit_breaker, set_circuit_breaker

    breaker = LocalCircuitBreaker(failure_threshold=3)
    set_circuit_breaker(breaker)
    print(get_circuit_breaker() is breaker)
    #> True
    clear_circuit_breaker()
    print(get_circuit_breaker() is breaker)
    #> False
    ```
    """
    _current.set(breaker)


def clear_circuit_breaker() -> None:
    """Go back to none.

    ```python
    from stageflow.observability import LocalCircuitBreaker, clear_circuit_breaker
    from stageflow.observability import get_circuit_breaker, set_circuit_breaker

    breaker = LocalCircuitBreaker(failure_threshold=3)
    set_circuit_breaker(breaker)
    print(get_circuit_breaker() is breaker)
    #> True
    clear_circuit_breaker()
    print(get_circuit_breaker() is breaker)
    #> False
    ```
    """
    _current.set(None)
