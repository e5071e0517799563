"""``CircuitBreakerConformance``: what every circuit breaker promises, as tests."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from stageflow.protocols import CircuitBreaker
from stageflow.testing.cancelling import CancelAt
from stageflow.testing.conformance.blocking import BlockingWatch
from stageflow.testing.conformance.body import SCRIPTS
from stageflow.testing.conformance.suite import Suite, close
from stageflow.testing.conformance.tenants import CROWD
from stageflow.testing.leaks import leak_check

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["CircuitBreakerConformance"]

_CALL: Final = {"operation": "llm.complete", "provider": "acme"}
_LONG: Final = "x" * 10_000
_MOST_AWAITS: Final = 50


class CircuitBreakerConformance(Suite):
    """Derive from it in a module of tests, say how the breaker is made, and inherit the tests.

    Attributes:
        failure_threshold: How many failures in a row open a circuit of the breaker; None for one that never opens.
        recovers: Whether ``recover`` is overridden, so that what happens after the pause is tested, too.

    ```python
    from stageflow.observability import LocalCircuitBreaker
    from stageflow.testing.conformance import CircuitBreakerConformance


    class TestLocal(CircuitBreakerConformance):
        failure_threshold = 3
        recovers = True

        def make_breaker(self):
            self.now = 0.0
            return LocalCircuitBreaker(3, 30.0, clock=lambda: self.now)

        async def recover(self, breaker):
            self.now += 30.0
    ```
    """

    contract: ClassVar[str] = "circuit breaker"
    failure_threshold: ClassVar[int | None] = 5
    recovers: ClassVar[bool] = False

    def make_breaker(self) -> CircuitBreaker:
        """Return a new breaker, all of whose circuits are closed."""
        raise NotImplementedError

    async def recover(self, breaker: Any) -> None:
        """Let as much time pass that an open circuit lets a call try."""
        raise NotImplementedError

    async def close(self, breaker: Any) -> None:
        """Close the breaker, if it can be closed."""
        await close(breaker)

    # --- its form ---------------------------------------------------------------------------------------

    def test_it_is_a_circuit_breaker(self) -> None:
        """It has ``is_open``, ``record_success`` and ``record_failure``, all async, with the protocol's keywords."""

        async def main(breaker: CircuitBreaker) -> None:
            assert isinstance(breaker, CircuitBreaker)
            for method in (breaker.is_open, breaker.record_success, breaker.record_failure):
                assert inspect.iscoroutinefunction(method), f"{method} is not async"
            inspect.signature(breaker.is_open).bind(**_CALL)
            inspect.signature(breaker.record_success).bind(**_CALL)
            inspect.signature(breaker.record_failure).bind(**_CALL, reason="502")

        self._with_breaker(main)

    # --- one circuit ------------------------------------------------------------------------------------

    def test_a_circuit_is_closed_at_first(self) -> None:
        """``is_open`` says False, and nothing else than a bool, of what was never called."""

        async def main(breaker: CircuitBreaker) -> None:
            assert await breaker.is_open(**_CALL) is False

        self._with_breaker(main)

    def test_failures_in_a_row_open_it(self) -> None:
        """It opens with as many failures in a row as it says, not earlier."""
        threshold = self._threshold()

        async def main(breaker: CircuitBreaker) -> None:
            for number in range(threshold):
                assert await breaker.is_open(**_CALL) is False, f"it is open after {number} failures"
                await breaker.record_failure(**_CALL, reason="502")
            assert await breaker.is_open(**_CALL) is True, f"it is closed after {threshold} failures"

        self._with_breaker(main)

    def test_a_success_begins_a_new_row(self) -> None:
        """Failures before a success do not count any more."""
        threshold = self._threshold()
        if threshold == 1:
            pytest.skip("one failure opens it")

        async def main(breaker: CircuitBreaker) -> None:
            for _ in range(3):
                for _ in range(threshold - 1):
                    await breaker.record_failure(**_CALL, reason="502")
                await breaker.record_success(**_CALL)
            assert await breaker.is_open(**_CALL) is False

        self._with_breaker(main)

    def test_circuits_keep_apart(self) -> None:
        """What fails at one provider, or in one operation, closes nothing else off."""
        threshold = self._threshold()

        async def main(breaker: CircuitBreaker) -> None:
            await self._fail(breaker, threshold)
            assert await breaker.is_open(operation="llm.complete", provider="other") is False
            assert await breaker.is_open(operation="llm.embed", provider="acme") is False
            assert await breaker.is_open(operation="acme", provider="llm.complete") is False

        self._with_breaker(main)

    def test_names_may_be_any_text(self) -> None:
        """Operations, providers and reasons of every script, long and empty ones, are taken, and told apart."""

        async def main(breaker: CircuitBreaker) -> None:
            names = [SCRIPTS, _LONG, "", "a b", "a/b", "a:b", "%s", "a\nb"]
            for name in names:
                await breaker.record_failure(operation=name, provider=name, reason=name)
                await breaker.record_success(operation=name, provider=name)
                assert await breaker.is_open(operation=name, provider=name) is False
            if self.failure_threshold is None:
                return
            for _ in range(self.failure_threshold):
                await breaker.record_failure(operation="a", provider="b:c", reason="502")
            assert await breaker.is_open(operation="a", provider="b:c") is True
            assert await breaker.is_open(operation="a:b", provider="c") is False

        self._with_breaker(main)

    # --- after the pause --------------------------------------------------------------------------------

    def test_one_call_tries_after_the_pause(self) -> None:
        """Of fifty callers that ask at once after the pause, one is let through."""
        threshold = self._recovering()

        async def main(breaker: CircuitBreaker) -> None:
            await self._fail(breaker, threshold)
            await self.recover(breaker)
            answers = await asyncio.gather(*(breaker.is_open(**_CALL) for _ in range(CROWD)))
            assert answers.count(False) == 1, f"{answers.count(False)} callers were let through"

        self._with_breaker(main)

    def test_a_probe_that_succeeds_closes_it(self) -> None:
        """After a success of the call that tried, everybody is let through, and a new row begins."""
        threshold = self._recovering()

        async def main(breaker: CircuitBreaker) -> None:
            await self._fail(breaker, threshold)
            await self.recover(breaker)
            assert await breaker.is_open(**_CALL) is False
            await breaker.record_success(**_CALL)
            for _ in range(threshold - 1):
                assert await breaker.is_open(**_CALL) is False
                await breaker.record_failure(**_CALL, reason="502")
            assert await breaker.is_open(**_CALL) is False

        self._with_breaker(main)

    def test_a_probe_that_fails_opens_it_again(self) -> None:
        """After a failure of the call that tried, nobody is let through until the next pause is over."""
        threshold = self._recovering()

        async def main(breaker: CircuitBreaker) -> None:
            await self._fail(breaker, threshold)
            await self.recover(breaker)
            assert await breaker.is_open(**_CALL) is False
            await breaker.record_failure(**_CALL, reason="502")
            assert await breaker.is_open(**_CALL) is True
            await self.recover(breaker)
            assert await breaker.is_open(**_CALL) is False

        self._with_breaker(main)

    # --- many at once -----------------------------------------------------------------------------------

    def test_fifty_callers_at_once_lose_nothing(self) -> None:
        """Failures that are told at once all count."""
        threshold = self._threshold()

        async def main(breaker: CircuitBreaker) -> None:
            for _ in range(max(0, threshold - CROWD)):
                await breaker.record_failure(**_CALL, reason="502")
            count = min(threshold, CROWD)
            await asyncio.gather(*(breaker.record_failure(**_CALL, reason="502") for _ in range(count)))
            assert await breaker.is_open(**_CALL) is True

        self._with_breaker(main)

    def test_it_serves_one_event_loop_after_another(self) -> None:
        """What it knows is known on the next event loop, if many callers ask it there at once."""

        async def ask() -> list[bool]:
            return list(await asyncio.gather(*(breaker.is_open(**_CALL) for _ in range(CROWD))))

        breaker = self._bounded(self.make_breaker)
        assert set(self._drive(ask)) == {False}
        if self.failure_threshold is not None:
            self._drive(lambda: self._fail(breaker, self.failure_threshold or 0))
            assert set(self._drive(ask)) == {True}
        self._drive(lambda: self.close(breaker))

    def test_a_cancel_at_every_await(self) -> None:
        """A cancel at any await of a call ends it, leaves nothing on the loop, and the breaker goes on."""

        async def main(breaker: CircuitBreaker) -> None:
            calls: list[Callable[[], Any]] = [
                lambda: breaker.is_open(**_CALL),
                lambda: breaker.record_success(**_CALL),
                lambda: breaker.record_failure(**_CALL, reason="502"),
            ]
            for call in calls:
                for number in range(1, _MOST_AWAITS):
                    cancel = CancelAt(number)
                    async with leak_check():
                        with suppress(asyncio.CancelledError):
                            await cancel(call())
                            assert not cancel.fired, "it was cancelled, and did not let the cancel pass"
                    await breaker.record_success(**_CALL)
                    assert await breaker.is_open(**_CALL) is False
                    if not cancel.fired:
                        break

        self._with_breaker(main)

    def test_it_blocks_nobody(self) -> None:
        """It does not sleep, connect, look up names or start processes on the event loop."""

        async def main(breaker: CircuitBreaker) -> None:
            await breaker.is_open(**_CALL)
            with BlockingWatch() as watch:
                await breaker.record_failure(**_CALL, reason="502")
                await breaker.record_success(**_CALL)
                await breaker.is_open(**_CALL)
            assert not watch.calls, watch.calls

        self._with_breaker(main)

    # --- how it is proved -------------------------------------------------------------------------------

    def _threshold(self) -> int:
        if self.failure_threshold is None:
            pytest.skip("it never opens")
        return self.failure_threshold

    def _recovering(self) -> int:
        if not self.recovers:
            pytest.skip("recovers is False")
        return self._threshold()

    async def _fail(self, breaker: CircuitBreaker, times: int) -> None:
        for _ in range(times):
            await breaker.record_failure(**_CALL, reason="502")

    @asynccontextmanager
    async def _made(self) -> AsyncGenerator[CircuitBreaker]:
        breaker = self.make_breaker()
        try:
            yield breaker
        finally:
            await self.close(breaker)

    def _with_breaker(self, main: Callable[[CircuitBreaker], Awaitable[None]]) -> None:
        async def run() -> None:
            async with self._made() as breaker:
                await main(breaker)

        self._drive(run)
