"""Stages that do as they are told: for tests of pipelines, interceptors and the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast, final

from stageflow.stages.output import StageOutput
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from stageflow.stages.context import StageContext

__all__ = [
    "HANG",
    "Delayed",
    "FailingStage",
    "HangingStage",
    "ScriptedStage",
    "SlowStage",
    "StageCall",
    "delayed",
]

HANG: Final = "hang"
"""The outcome of a call that waits until it is cancelled."""


@final
class Delayed(NamedTuple):
    """An outcome that takes its time; ``delayed`` makes them."""

    seconds: float
    outcome: Any


def delayed(seconds: float, outcome: Any = None) -> Delayed:
    """Return an outcome for a script that comes after *seconds*, on the event loop's clock.

    ```python
    from stageflow import Pipeline, StageKind, StageOutput
    from stageflow.testing import ScriptedStage, delayed, run_virtual

    stage = ScriptedStage(delayed(20, StageOutput.ok(text="at last")))
    print(run_virtual(Pipeline().with_stage("s", stage, StageKind.WORK).run())["s"].data)
    #> {'text': 'at last'}
    ```
    """
    return Delayed(seconds, outcome)


@final
class StageCall:
    """One call of a scripted stage.

    Attributes:
        ctx: The context that the stage was given.
        attempt: Which attempt it was.
        input_text: The text that the run was started with.
        inputs: What the dependencies left, by name.
        started: When it began, on the event loop's clock.
        ended: When it ended, or None while it has not.
        end: ``"returned"``, ``"raised"`` or ``"cancelled"``; None while it has not ended.
    """

    __slots__ = ("attempt", "ctx", "end", "ended", "input_text", "inputs", "started")

    def __init__(self, ctx: StageContext) -> None:
        self.ctx = ctx
        self.attempt = ctx.attempt
        self.input_text = ctx.input_text
        self.inputs: dict[str, StageOutput] = dict(ctx.inputs.prior_outputs)
        self.started = asyncio.get_running_loop().time()
        self.ended: float | None = None
        self.end: str | None = None

    def __repr__(self) -> str:
        return f"<StageCall attempt={self.attempt} {self.end or 'running'}>"


class ScriptedStage:
    """A stage whose calls end one after another as the script says; further calls end as the last one did.

    An outcome is

    - a ``StageOutput``, a mapping or None: returned as it is;
    - an exception, or a class of one: raised;
    - ``"hang"``: waits until cancelled;
    - ``delayed(seconds, outcome)``: the outcome, later;
    - a function of the context: called (and awaited); what it returns is the outcome;
    - any other value: returned as the value of an OK output.

    Args:
        *outcomes: The script; without one, every call ends OK.
        name: The stage's name, where a pipeline is not given another.
        kind: What the stage is for.

    Attributes:
        calls: What has been recorded of every call.

    ```python
    import asyncio

    from stageflow import Pipeline, RetryPolicy, StageKind
    from stageflow.testing import ScriptedStage

    stage = ScriptedStage(ConnectionError("no route"), {"text": "hi"})
    pipeline = Pipeline().with_stage("fetch", stage, StageKind.ENRICH, retry=RetryPolicy(base_delay=0))
    print(asyncio.run(pipeline.run())["fetch"].data, [call.end for call in stage.calls])
    #> {'text': 'hi'} ['raised', 'returned']
    ```
    """

    def __init__(self, *outcomes: Any, name: str = "scripted", kind: StageKind = StageKind.TRANSFORM) -> None:
        self.name = name
        self.kind = kind
        self.outcomes = outcomes
        self.calls: list[StageCall] = []

    async def execute(self, ctx: StageContext) -> Any:
        """End as the script says."""
        number = len(self.calls)
        call = StageCall(ctx)
        self.calls.append(call)
        try:
            outcome = self.outcomes[min(number, len(self.outcomes) - 1)] if self.outcomes else None
            value = await _come_to(outcome, ctx)
        except asyncio.CancelledError:
            call.end = "cancelled"
            raise
        except BaseException:
            call.end = "raised"
            raise
        else:
            call.end = "returned"
            return value
        finally:
            call.ended = asyncio.get_running_loop().time()

    @property
    def ends(self) -> list[str | None]:
        """How each call has ended; see ``StageCall``."""
        return [call.end for call in self.calls]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {len(self.calls)} calls>"


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


async def _come_to(outcome: Any, ctx: StageContext) -> Any:
    if outcome is None or isinstance(outcome, StageOutput):
        return outcome
    if isinstance(outcome, Delayed):
        await asyncio.sleep(outcome.seconds)
        return await _come_to(outcome.outcome, ctx)
    if _is_error(outcome):
        raise outcome
    if isinstance(outcome, str) and outcome == HANG:
        await asyncio.get_running_loop().create_future()
    if isinstance(outcome, Mapping):
        return cast("Mapping[str, Any]", outcome)
    if callable(outcome):
        found: Any = outcome(ctx)
        return await _come_to(await found if hasattr(found, "__await__") else found, ctx)
    return StageOutput(StageStatus.OK, {"value": outcome}, value=outcome)


@final
class FailingStage(ScriptedStage):
    """A stage that raises, and works when it has done so *times* times.

    Args:
        error: What it raises: an exception, a class of one, or a text for a ``RuntimeError``.
        times: How often; None means always.
        then: The outcome of the calls after that; see ``ScriptedStage``.
        name: The stage's name.
        kind: What the stage is for.

    ```python
    from stageflow import StageOutput
    from stageflow.testing import FailingStage, run_stage, run_virtual

    stage = FailingStage(TimeoutError("too slow"), times=2, then={"text": "hi"})
    print(run_virtual(run_stage(stage, attempts=3)).data, len(stage.calls))
    #> {'text': 'hi'} 3
    ```
    """

    def __init__(
        self,
        error: BaseException | type[BaseException] | str = "it fails",
        times: int | None = 1,
        *,
        then: Any = None,
        name: str = "failing",
        kind: StageKind = StageKind.TRANSFORM,
    ) -> None:
        raised = RuntimeError(error) if isinstance(error, str) else error
        outcomes = (raised,) if times is None else (*[raised] * times, then)
        super().__init__(*outcomes, name=name, kind=kind)


@final
class HangingStage(ScriptedStage):
    """A stage that waits until it is cancelled.

    ```python
    from stageflow import Pipeline, StageKind
    from stageflow.testing import HangingStage, run_virtual

    stage = HangingStage()
    pipeline = Pipeline().with_stage("wait", stage, StageKind.WORK)
    print(run_virtual(pipeline.run(timeout=10, raise_errors=False)).error.code, stage.ends)
    #> SF-RUN-TIMEOUT ['cancelled']
    ```
    """

    def __init__(self, *, name: str = "hanging", kind: StageKind = StageKind.TRANSFORM) -> None:
        super().__init__(HANG, name=name, kind=kind)


@final
class SlowStage(ScriptedStage):
    """A stage that takes its time, on the event loop's clock.

    Args:
        seconds: How long.
        outcome: How it ends; see ``ScriptedStage``.
        name: The stage's name.
        kind: What the stage is for.

    ```python
    from stageflow.testing import SlowStage, run_stage, run_virtual

    stage = SlowStage(20, {"text": "hi"})
    print(run_virtual(run_stage(stage, timeout=30)).data, stage.calls[0].ended)
    #> {'text': 'hi'} 20.0
    ```
    """

    def __init__(
        self,
        seconds: float,
        outcome: Any = None,
        *,
        name: str = "slow",
        kind: StageKind = StageKind.TRANSFORM,
    ) -> None:
        super().__init__(delayed(seconds, outcome), name=name, kind=kind)
