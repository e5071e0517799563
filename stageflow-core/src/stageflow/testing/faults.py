"""Faults on purpose: a stage that is late, raises, hangs or is cancelled at one of its own awaits."""

from __future__ import annotations

import asyncio
from types import coroutine
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.context import ArgumentValueError
from stageflow.stages.spec import StageSpec
from stageflow.stages.stage import StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from stageflow.stages.context import StageContext

__all__ = ["FaultyStage", "fault"]


@final
class FaultyStage:
    """A stage with a fault; ``fault`` makes them.

    Attributes:
        name: The name of the stage.
        kind: Its kind.
        injected: How often the fault has happened. A stage that suspends less often than the fault wants never meets
            it, so a test asks for this.
        suspensions: How often the latest call has suspended.

    ```python
    from stageflow import Pipeline
    from stageflow.testing import FaultyStage, ScriptedStage, fault, run_virtual

    stage: FaultyStage = fault(ScriptedStage({"n": 1}, name="ask"), raises=ConnectionError("no route"), at=0)
    results = run_virtual(Pipeline().with_stage(stage.name, stage, stage.kind).run(raise_errors=False))
    print(results.error.original, stage.injected)
    #> no route 1
    ```
    """

    def __init__(
        self, stage: Any, act: Callable[[], Coroutine[Any, Any, None]], at: int, times: int | None
    ) -> None:
        self.stage = stage
        own: Any = getattr(stage, "name", None) or getattr(stage, "__name__", None)
        self.name: str = own if isinstance(own, str) else type(stage).__name__
        self.kind: StageKind = getattr(stage, "kind", StageKind.TRANSFORM)
        self.injected = 0
        self.suspensions = 0
        self._act = act
        self._at = at
        self._times = times

    def spec(self) -> StageSpec:
        """Return what a pipeline needs to know; of a stage made with ``@stage``, also what it uses."""
        make = getattr(self.stage, "spec", None)
        if callable(make):
            return cast("StageSpec", make()).__replace__(runner=self)
        return StageSpec(self.name, self, self.kind)

    async def execute(self, ctx: StageContext) -> Any:
        """Run the stage, with the fault."""
        stage = self.stage() if isinstance(self.stage, type) else self.stage
        body = getattr(stage, "execute", stage)
        self.suspensions = 0
        if self._at == 0:
            await self._inject()
        result: Any = body(ctx)
        step: Coroutine[Any, Any, Any] = result if asyncio.iscoroutine(result) else _awaiting(result)
        return await self._drive(step)

    async def _inject(self) -> None:
        if self._times is None or self.injected < self._times:
            self.injected += 1
            await self._act()

    @coroutine
    def _drive(self, step: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        sent: Any = None
        error: BaseException | None = None
        while True:
            try:
                waiting = step.send(sent) if error is None else step.throw(error)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            sent, error = None, None
            try:
                sent = yield waiting
                if self.suspensions == self._at:
                    yield from self._inject().__await__()
            except GeneratorExit:
                step.close()
                raise
            except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the stage's to handle
                error = exc

    def __repr__(self) -> str:
        return f"<FaultyStage {self.name!r}: {self.injected} faults>"


def fault(
    stage: Any,
    *,
    at: int = 0,
    delay: float = 0.0,
    raises: BaseException | type[BaseException] | None = None,
    hangs: bool = False,
    cancels: bool = False,
    times: int | None = None,
) -> FaultyStage:
    """Return *stage* with a fault. The stage itself stays as it is.

    The fault happens before the stage begins, or, with *at*, when it would go on after its n-th suspension: what it
    awaited there is late, raises, never comes back, or is cancelled.

    Args:
        stage: A class with ``execute``, an instance of one, an async callable, or a stage made with ``@stage``.
        at: At which suspension of the stage, from 1; 0 means before it begins.
        delay: Wait that long first, in seconds on the event loop's clock.
        raises: Raise this there.
        hangs: Wait there until cancelled.
        cancels: Cancel the stage's own Task there.
        times: In how many calls; None means in all.

    Raises:
        ArgumentValueError: *at* is negative.

    ```python
    import asyncio

    from stageflow.testing import fault, run_stage


    async def careful(ctx):
        try:
            await asyncio.sleep(0)  # a query, perhaps
        except ConnectionError as error:
            return {"answer": "unknown", "because": str(error)}
        return {"answer": 42}


    broken = fault(careful, at=1, raises=ConnectionError("reset"))
    print(asyncio.run(run_stage(broken)).data)
    #> {'answer': 'unknown', 'because': 'reset'}
    ```
    """
    if at < 0:
        name = "fault"
        raise ArgumentValueError(name, "at", f"must be 0 or more, not {at}")

    async def act() -> None:
        if delay > 0:
            await asyncio.sleep(delay)
        if cancels:
            task = asyncio.current_task()
            if task is not None:
                task.cancel()
            await asyncio.sleep(0)
        if hangs:
            await asyncio.get_running_loop().create_future()
        if raises is not None:
            raise raises

    return FaultyStage(stage, act, at, times)


async def _awaiting(result: Any) -> Any:
    return await result
