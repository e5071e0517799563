"""``CancelAt``: cancels whoever awaits a coroutine, at one of its suspensions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeVar, final

from stageflow.context import ArgumentValueError
from stageflow.testing.stepping import Stepped

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["CancelAt", "Moment", "cancel_at", "deliver"]

T = TypeVar("T")

Moment = Literal["before", "after"]
"""When a cancel arrives at a suspension: *before* what is awaited has happened, or *after* that, in the short time in
which the Task has not gone on yet. The second is the one that loses what was just acquired."""


def deliver(cancel: Callable[[], object], waiting: object, moment: Moment) -> None:
    """Call *cancel* at the given moment of the suspension that waits for *waiting*."""
    listen: Any = getattr(waiting, "add_done_callback", None)
    if moment == "before":
        cancel()
    elif listen is not None:
        # Callbacks are called in order, and this is before the one by which the Task goes on.
        listen(lambda _: cancel())  # pyright: ignore[reportUnknownLambdaType]
    else:
        asyncio.get_running_loop().call_soon(cancel)


@final
class CancelAt:
    """Awaits a coroutine in a Task of its own, and cancels that at the n-th suspension.

    Args:
        number: Which suspension, from 1. 0 cancels nothing, and counts.
        moment: Whether the cancel arrives before what is awaited has happened, or after.

    Attributes:
        suspensions: How often the coroutine has suspended.
        fired: Whether the cancel was delivered.

    Raises:
        ArgumentValueError: The number is negative.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.testing import CancelAt, EventRecorder, HangingStage, run_virtual

    events = EventRecorder()
    pipeline = Pipeline().with_stage("wait", HangingStage(), StageKind.WORK)
    cancel = CancelAt(1)
    try:
        run_virtual(cancel(pipeline.run(sink=events)))
    except asyncio.CancelledError:
        print(cancel.fired, events.types[-1])
        #> True pipeline.cancelled
    ```
    """

    __slots__ = ("fired", "moment", "number", "suspensions")

    def __init__(self, number: int, *, moment: Moment = "before") -> None:
        if number < 0:
            name = "CancelAt"
            raise ArgumentValueError(name, "number", f"must be 0 or more, not {number}")
        self.number = number
        self.moment: Moment = moment
        self.suspensions = 0
        self.fired = False

    async def __call__(self, coro: Coroutine[Any, Any, T]) -> T:
        """Await *coro*, and return what it returns.

        Raises:
            asyncio.CancelledError: It was cancelled, and let that pass.
        """
        task: asyncio.Task[T]

        def cancel() -> None:
            self.fired = task.cancel() or self.fired

        def suspends(waiting: object) -> None:
            self.suspensions += 1
            if self.suspensions == self.number:
                deliver(cancel, waiting, self.moment)

        task = asyncio.get_running_loop().create_task(Stepped(coro, suspends))
        return await task


async def cancel_at(number: int, coro: Coroutine[Any, Any, T], *, moment: Moment = "before") -> T:
    """Await *coro* and cancel it at its n-th suspension; see ``CancelAt``.

    ```python
    import asyncio

    from stageflow.testing import cancel_at


    async def careful():
        try:
            await asyncio.sleep(0)
        finally:
            print("put back")


    try:
        asyncio.run(cancel_at(1, careful()))
    except asyncio.CancelledError:
        print("cancelled")
    #> put back
    #> cancelled
    ```
    """
    return await CancelAt(number, moment=moment)(coro)
