"""One retry policy for every stage of a graph that has none of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from stageflow.context.checks import number_of
from stageflow.interceptors.base import BaseInterceptor
from stageflow.stages.retry import TRANSIENT_ERRORS, BackoffStrategy, JitterStrategy, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stageflow.stages.spec import StageSpec

__all__ = ["BackoffStrategy", "JitterStrategy", "RetryInterceptor"]


@final
class RetryInterceptor(BaseInterceptor):
    """Declares how stages are attempted again. The executor does it: every attempt has its own time-out and events.

    A stage's own ``retry=`` wins over it. Every attempt passes through the whole chain.

    Args:
        max_attempts: How many attempts there may be in all, the first included.
        base_delay_ms: The bound of the first wait, in milliseconds.
        max_delay_ms: The bound of every wait, in milliseconds.
        backoff_strategy: How the bound grows.
        jitter_strategy: How the wait is drawn below its bound.
        retryable_errors: After which exceptions to try again; None means time-outs, connection and other I/O errors,
            and every exception with an attribute ``retryable`` that is true.
        retry_on_status: After which outputs to try again: ``"retry"``, ``"failed"``, or both.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: An argument makes no sense, such as a negative delay.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind, StageOutput
    from stageflow.interceptors.retry import RetryInterceptor

    calls = []


    async def flaky(ctx):
        calls.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError("try later")
        return StageOutput.ok(attempt=ctx.attempt)


    pipeline = Pipeline().with_stage("flaky", flaky, StageKind.ENRICH)
    graph = pipeline.build(interceptors=[RetryInterceptor(max_attempts=3, base_delay_ms=1)])
    print(asyncio.run(graph.run())["flaky"].data, calls)
    #> {'attempt': 3} [1, 2, 3]
    ```
    """

    name = "retry"
    priority = 15

    def __init__(
        self,
        max_attempts: int = 3,
        base_delay_ms: float = 1000,
        max_delay_ms: float = 30_000,
        backoff_strategy: BackoffStrategy | str = BackoffStrategy.EXPONENTIAL,
        jitter_strategy: JitterStrategy | str = JitterStrategy.FULL,
        retryable_errors: Iterable[type[Exception]] | None = None,
        retry_on_status: Iterable[str] = ("retry",),
    ) -> None:
        self.policy = RetryPolicy(
            max_attempts,
            base_delay=_seconds("base_delay_ms", base_delay_ms),
            max_delay=_seconds("max_delay_ms", max_delay_ms),
            retry_on=TRANSIENT_ERRORS if retryable_errors is None else retryable_errors,
            jitter=jitter_strategy,
            backoff=backoff_strategy,
            retry_on_status=retry_on_status,
        )

    def stage_retry(self, stage: StageSpec) -> RetryPolicy | None:
        """Return the policy."""
        return self.policy


def _seconds(argument: str, milliseconds: object) -> float:
    expects, problem = "milliseconds as a number", "must be zero or more milliseconds"
    found = number_of("RetryInterceptor", argument, milliseconds, expects=expects, problem=problem, least=0)
    return found / 1000
