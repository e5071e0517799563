"""``RetryPolicy``: how often, after what, and after which waits, a stage may be attempted again."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stageflow.stages.stage import StageStatus

__all__ = ["DEFAULT_RETRY", "TRANSIENT_ERRORS", "BackoffStrategy", "JitterStrategy", "RetryPolicy"]

TRANSIENT_ERRORS: Final[tuple[type[Exception], ...]] = (TimeoutError, ConnectionError, OSError)
"""After which exceptions a policy tries again that is given none; also after those with ``retryable = True``."""


class BackoffStrategy(Enum):
    """How the bound of the wait grows from one attempt to the next.

    ```python
    from stageflow import RetryPolicy
    from stageflow.stages import BackoffStrategy

    for backoff in BackoffStrategy:
        policy = RetryPolicy(base_delay=1, jitter=False, backoff=backoff)
        print(backoff.value, [policy.delay(attempt) for attempt in (1, 2, 3)])
    #> exponential [1.0, 2.0, 4.0]
    #> linear [1.0, 2.0, 3.0]
    #> constant [1.0, 1.0, 1.0]
    ```
    """

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    CONSTANT = "constant"


class JitterStrategy(Enum):
    """How the wait is drawn below its bound *d* (Brooker, "Exponential Backoff And Jitter", AWS, 2015).

    ``NONE`` waits for *d* itself, ``FULL`` between 0 and *d*, ``EQUAL`` between *d*/2 and *d*. ``DECORRELATED`` draws
    each wait between ``base_delay`` and three times the wait before; the backoff strategy has no say in it.

    ```python
    from stageflow import RetryPolicy
    from stageflow.stages import JitterStrategy

    print(0.5 <= RetryPolicy(base_delay=1, jitter=JitterStrategy.EQUAL).delay(1) <= 1)
    #> True
    ```
    """

    NONE = "none"
    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"


_StrategyT = TypeVar("_StrategyT", bound=Enum)

_WORDS = {"retry": "retry", "fail": "failed", "failed": "failed"}
_EXCEPTIONS = "exception classes"
_MOST_STEPS = 2**53
_GROWS_FOR = 64  # 2**n of a large n fits no float, and the bound is at max_delay long before


@final
class RetryPolicy:
    """How a stage is attempted again; the executor reads it, so a retry is visible in events and results.

    Attempt *n* waits at most ``min(max_delay, base_delay * 2**(n - 1))`` seconds, or as the strategies say, and never
    less than the ``retry_after`` that the stage itself, or its exception, asked for.

    Args:
        max_attempts: How many attempts there may be in all, the first included.
        base_delay: The bound of the first wait, in seconds.
        max_delay: The bound of every wait, in seconds.
        retry_on: Exceptions after which to try again. Left as it is, those with an attribute ``retryable`` that is
            true count too.
        jitter: How a wait is drawn; True is ``FULL``, and False, which tests like, ``NONE``.
        backoff: How the bound grows.
        retry_on_status: After which outputs to try again: ``"retry"``, ``"failed"``, or both.

    Raises:
        ArgumentTypeError: An argument has another type; also a ``TypeError``.
        ArgumentValueError: ``max_attempts`` below 1, a negative delay, an unknown strategy; also a ``ValueError``.

    ```python
    from stageflow.stages.retry import RetryPolicy

    print([RetryPolicy(base_delay=0.1, max_delay=0.3, jitter=False).delay(n) for n in (1, 2, 3)])
    #> [0.1, 0.2, 0.3]
    ```
    """

    __slots__ = (
        "backoff",
        "base_delay",
        "jitter",
        "max_attempts",
        "max_delay",
        "retry_on",
        "retry_on_status",
    )

    backoff: BackoffStrategy
    base_delay: float
    jitter: JitterStrategy
    max_attempts: int
    max_delay: float
    retry_on: tuple[type[Exception], ...]
    retry_on_status: frozenset[str]

    def __init__(
        self,
        max_attempts: int = 3,
        *,
        base_delay: float = 0.5,
        max_delay: float = 30.0,
        retry_on: Iterable[type[Exception]] = TRANSIENT_ERRORS,
        jitter: JitterStrategy | str | bool = True,
        backoff: BackoffStrategy | str = BackoffStrategy.EXPONENTIAL,
        retry_on_status: Iterable[str] = ("retry",),
    ) -> None:
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _wrong_type("max_attempts", "an int", max_attempts)
        if max_attempts < 1:
            raise _wrong_value("max_attempts", "must be at least 1", max_attempts)
        if isinstance(jitter, bool):
            jitter = JitterStrategy.FULL if jitter else JitterStrategy.NONE
        self.max_attempts = max_attempts
        self.base_delay = _delay("base_delay", base_delay)
        self.max_delay = _delay("max_delay", max_delay)
        self.retry_on = _exceptions(retry_on)
        self.jitter = _strategy("jitter", JitterStrategy, jitter)
        self.backoff = _strategy("backoff", BackoffStrategy, backoff)
        self.retry_on_status = _statuses(retry_on_status)

    def wants(self, error: BaseException) -> bool:
        """Return whether to try again after *error*."""
        if isinstance(error, self.retry_on):
            return True
        return self.retry_on is TRANSIENT_ERRORS and getattr(error, "retryable", False) is True

    def wants_status(self, status: StageStatus) -> bool:
        """Return whether to try again after an output with that *status*.

        ```python
        from stageflow import RetryPolicy, StageStatus

        print(RetryPolicy().wants_status(StageStatus.FAIL))
        #> False
        print(RetryPolicy(retry_on_status=("retry", "failed")).wants_status(StageStatus.FAIL))
        #> True
        ```
        """
        return _WORDS.get(getattr(status, "value", "")) in self.retry_on_status

    def bound(self, attempt: int) -> float:
        """Return the bound of the wait after the given failed *attempt* (from 1), in seconds, without jitter."""
        retries = _count(attempt) - 1
        if self.backoff is BackoffStrategy.EXPONENTIAL:
            return min(self.max_delay, self.base_delay * 2.0 ** min(retries, _GROWS_FOR))
        if self.backoff is BackoffStrategy.LINEAR:
            return min(self.max_delay, self.base_delay * min(attempt, _MOST_STEPS))
        return min(self.max_delay, self.base_delay)

    def delay(self, attempt: int, retry_after: float = 0.0) -> float:
        """Return the wait after the given failed *attempt* (from 1), in seconds."""
        bound = self.bound(attempt)
        if isinstance(retry_after, bool) or not isinstance(retry_after, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _wrong_type("retry_after", "seconds as a number", retry_after)
        if self.jitter is not JitterStrategy.NONE:
            from random import uniform  # a retry is rare, and the import is not cheap

            if self.jitter is JitterStrategy.FULL:
                bound = uniform(0.0, bound)  # noqa: S311 - jitter spreads load; it protects nothing
            elif self.jitter is JitterStrategy.EQUAL:
                bound = uniform(bound / 2, bound)  # noqa: S311
            else:
                # The policy remembers no waits, being shared by all runs: it draws the earlier ones anew.
                bound = first = min(self.base_delay, self.max_delay)
                for _ in range(min(attempt, _GROWS_FOR)):
                    bound = min(self.max_delay, uniform(first, max(first, bound * 3)))  # noqa: S311
        return max(bound, retry_after)

    def __repr__(self) -> str:
        return f"RetryPolicy({self.max_attempts}, base_delay={self.base_delay}, max_delay={self.max_delay})"


def _count(attempt: object) -> int:
    if isinstance(attempt, bool) or not isinstance(attempt, int):
        raise _wrong_type("attempt", "an int", attempt)
    return attempt


def _delay(argument: str, value: object) -> float:
    from stageflow.context.checks import number_of

    return number_of(
        "RetryPolicy",
        argument,
        value,
        expects="seconds as a number",
        problem="must be zero or more seconds",
        least=0,
    )


def _exceptions(value: object) -> tuple[type[Exception], ...]:
    if value is TRANSIENT_ERRORS:
        return TRANSIENT_ERRORS
    kinds: tuple[Any, ...]
    if isinstance(value, type):
        kinds = (value,)  # a lone class is one exception
    elif isinstance(value, str) or not hasattr(value, "__iter__"):
        raise _wrong_type("retry_on", _EXCEPTIONS, value)
    else:
        kinds = tuple(cast("Iterable[Any]", value))
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise _wrong_type("retry_on", _EXCEPTIONS, cast("object", kind))
    return kinds


def _strategy(argument: str, kind: type[_StrategyT], value: object) -> _StrategyT:
    try:
        return kind(value)
    except (ValueError, RecursionError):  # the latter by the message about a very deep list
        known = " or ".join([repr(one.value) for one in kind])
        raise _wrong_value(argument, f"must be {known}", value) from None


def _statuses(value: object) -> frozenset[str]:
    if not hasattr(value, "__iter__"):
        raise _wrong_type("retry_on_status", "names of statuses", value)
    words: set[str] = set()
    for one in (value,) if isinstance(value, str) else cast("Iterable[object]", value):
        word = _WORDS.get(one) if isinstance(one, str) else None
        if word is None:
            raise _wrong_value("retry_on_status", "may hold 'retry' and 'failed'", one)
        words.add(word)
    return frozenset(words)


def _wrong_type(argument: str, expects: str, value: object) -> Exception:
    from stageflow.context.checks import wrong_type

    return wrong_type("RetryPolicy", argument, expects, value)


def _wrong_value(argument: str, problem: str, value: object) -> Exception:
    from stageflow.context.checks import wrong_value

    return wrong_value("RetryPolicy", argument, problem, value)


DEFAULT_RETRY = RetryPolicy(retry_on=())
"""What a stage without a policy gets when it returns RETRY: three attempts; its exceptions are final."""
