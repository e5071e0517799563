"""``RetryPolicy``: how often, and after which waits, a stage may be attempted again."""

from __future__ import annotations

from typing import final

__all__ = ["DEFAULT_RETRY", "RetryPolicy"]


@final
class RetryPolicy:
    """How a stage is attempted again; the executor reads it, so a retry is visible in events and results.

    Waits grow exponentially and are drawn with full jitter: attempt *n* waits a uniform random time between 0 and
    ``min(max_delay, base_delay * 2**(n - 1))`` seconds (Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015), and never less than the ``retry_after`` that the stage itself asked for.

    Args:
        max_attempts: How many attempts there may be in all, the first included.
        base_delay: The bound of the first wait, in seconds.
        max_delay: The bound of every wait, in seconds.
        retry_on: Exceptions after which to try again. A stage that returns RETRY is always tried again.
        jitter: False waits for the bounds themselves, which tests like.

    Raises:
        ValueError: ``max_attempts`` below 1, or a negative delay.

    ```python
    from stageflow.stages.retry import RetryPolicy

    print([RetryPolicy(base_delay=0.1, max_delay=0.3, jitter=False).delay(n) for n in (1, 2, 3)])
    #> [0.1, 0.2, 0.3]
    ```
    """

    __slots__ = ("base_delay", "jitter", "max_attempts", "max_delay", "retry_on")

    def __init__(
        self,
        max_attempts: int = 3,
        *,
        base_delay: float = 0.5,
        max_delay: float = 30.0,
        retry_on: tuple[type[Exception], ...] = (TimeoutError, ConnectionError, OSError),
        jitter: bool = True,
    ) -> None:
        if max_attempts < 1:
            msg = f"max_attempts must be at least 1, not {max_attempts}"
            raise ValueError(msg)
        if not (base_delay >= 0 and max_delay >= 0):  # written so that NaN is refused too
            msg = f"delays must be zero or more seconds, not {base_delay} and {max_delay}"
            raise ValueError(msg)
        self.max_attempts = max_attempts
        self.base_delay = base_delay
        self.max_delay = max_delay
        self.retry_on = retry_on
        self.jitter = jitter

    def delay(self, attempt: int, retry_after: float = 0.0) -> float:
        """Return the wait after the given failed *attempt* (from 1), in seconds."""
        # The exponent is capped because 2**n of a large n does not fit a float.
        bound = min(self.max_delay, self.base_delay * 2.0 ** min(attempt - 1, 64))
        if self.jitter:
            from random import uniform  # a retry is rare, and the import is not cheap

            bound = uniform(0.0, bound)  # noqa: S311 - jitter spreads load; it protects nothing
        return max(bound, retry_after)

    def __repr__(self) -> str:
        return f"RetryPolicy({self.max_attempts}, base_delay={self.base_delay}, max_delay={self.max_delay})"


DEFAULT_RETRY = RetryPolicy(retry_on=())
"""What a stage without a policy gets when it returns RETRY: three attempts; its exceptions are final."""
