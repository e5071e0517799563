"""``BackpressureMonitor``: a ``ConcurrencyLimit`` that is awaited by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from stageflow.context.checks import check_count, check_type
from stageflow.context.record import Record
from stageflow.errors import LogicError
from stageflow.runtime.limits import ConcurrencyLimit

if TYPE_CHECKING:
    from typing import Self

__all__ = ["BackpressureConfig", "BackpressureMonitor"]


@final
class BackpressureConfig(Record):
    """How much may run at once. Immutable.

    Args:
        max_active_stages: How many may run.
        max_queued_stages: How many may wait; None means any number.

    Raises:
        ArgumentTypeError: A number is no int.
        ArgumentValueError: ``max_active_stages`` is below 1, or ``max_queued_stages`` below 0.

    ```python
    from stageflow.pipeline import BackpressureConfig

    print(BackpressureConfig(max_queued_stages=0))
    #> BackpressureConfig(max_active_stages=10, max_queued_stages=0)
    ```
    """

    __slots__ = ("max_active_stages", "max_queued_stages")
    __match_args__ = ("max_active_stages", "max_queued_stages")
    max_active_stages: int
    max_queued_stages: int | None

    def __init__(self, max_active_stages: int = 10, max_queued_stages: int | None = None) -> None:
        owner = "BackpressureConfig"
        check_count(owner, "max_active_stages", max_active_stages, least=1)
        if max_queued_stages is not None:
            check_count(owner, "max_queued_stages", max_queued_stages)
        object.__setattr__(self, "max_active_stages", max_active_stages)
        object.__setattr__(self, "max_queued_stages", max_queued_stages)


@final
class BackpressureMonitor:
    """Lets so many in at once; the others wait their turn.

    Stages need none: ``with_stage(limit=...)``, ``build(max_concurrency=...)`` and ``build(max_runs=...)`` do it for
    them, and take ``monitor.limit``, too, to share one bound with the code that awaits this.

    Args:
        config: How many.

    Raises:
        ArgumentTypeError: *config* is no ``BackpressureConfig``.

    ```python
    import asyncio

    from stageflow.pipeline.backpressure import BackpressureConfig, BackpressureMonitor


    async def main():
        monitor = BackpressureMonitor(BackpressureConfig(max_active_stages=2))
        async with monitor:
            print(monitor.active, monitor.queued)
            #> 1 0


    asyncio.run(main())
    ```
    """

    __slots__ = ("_held", "config", "limit")

    def __init__(self, config: BackpressureConfig | None = None) -> None:
        self.config = BackpressureConfig() if config is None else config
        check_type("BackpressureMonitor", "config", self.config, BackpressureConfig, "a BackpressureConfig")
        self.limit = ConcurrencyLimit(self.config.max_active_stages, max_queued=self.config.max_queued_stages)
        self._held = 0

    @property
    def active(self) -> int:
        """How many are in."""
        return self.limit.active

    @property
    def queued(self) -> int:
        """How many wait."""
        return self.limit.queued

    async def acquire(self) -> None:
        """Wait to be let in.

        Raises:
            OverloadError: Too many wait already.
        """
        from stageflow.runtime.admission import wait_for_place

        await wait_for_place(self.limit, "BackpressureMonitor")
        self._held += 1

    async def release(self) -> None:
        """Go out again, and let in whoever waits longest.

        Raises:
            LogicError: Nobody is in.
        """
        if not self._held:
            msg = "release() without acquire()"
            raise LogicError(msg, where="BackpressureMonitor", fix="Use: async with monitor: ...")
        self._held -= 1
        self.limit.leave()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.release()

    def __repr__(self) -> str:
        return f"<BackpressureMonitor {self.active}/{self.config.max_active_stages}, {self.queued} waiting>"
