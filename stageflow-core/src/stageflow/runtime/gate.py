"""The gate of a run: effects wait for it until every guard that gates them has let them pass."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import ContextVar
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, final

from stageflow.errors import EffectGateClosed, EffectGateDeadlock
from stageflow.runtime.progress import SkipReason
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stageflow.runtime.compilation import Body, CompiledStage
    from stageflow.runtime.lending import Lending
    from stageflow.stages.context import StageContext
    from stageflow.stages.output import StageOutput

__all__ = ["EffectGate", "GateState", "performing", "telling_calls"]

_NO_OBJECTION = frozenset({SkipReason.CONDITION_FALSE, None})
"""Why a gate that was skipped had nothing to object: its own ``when=`` said no, or it said so itself."""


class GateState(StrEnum):
    """What the gate of a run has come to. The last two are final."""

    UNDECIDED = "undecided"
    OPEN = "open"
    CLOSED = "closed"


class _Closing(NamedTuple):
    """Who has closed a gate, and what became of that stage."""

    gate: str
    reason: str


class _Circle(NamedTuple):
    """A stage that may not wait for its gates, since these wait for it."""

    stage: str
    gates: tuple[str, ...]


@final
class EffectGate:
    """All gates of one run and of the runs above it, as one: closed when one is, open when all are.

    It is decided on the event loop of its run, and may be waited for on others.

    Args:
        stages: The stages of the run, some of which may be gates.
        has_settled: Says whether the stage with that number has settled.
        above: What ``around`` gave, in the run above, for the stage that started this one.
    """

    __slots__ = (
        "_above",
        "_circle",
        "_closing",
        "_gates",
        "_has_settled",
        "_lock",
        "_said",
        "_waiters",
        "state",
    )

    def __init__(
        self,
        stages: Sequence[CompiledStage],
        has_settled: Callable[[int], bool],
        above: tuple[EffectGate | None, _Circle | None] = (None, None),
    ) -> None:
        self._gates = {stage.number: stage for stage in stages if stage.spec.gates_effects}
        self._has_settled = has_settled
        self._above, self._circle = above
        self._said: dict[int, _Closing | None] = {}  # what gates have come to; None is that they have opened
        self._closing: _Closing | None = None
        self._waiters: dict[Callable[[], None], asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()
        self.state = GateState.UNDECIDED
        if self._above is not None:
            self._above.call_when_decided(self._decide)
        self._decide()

    @property
    def is_open(self) -> bool:
        """Whether effects may happen."""
        return self.state is GateState.OPEN

    @property
    def is_closed(self) -> bool:
        """Whether effects may never happen."""
        return self.state is GateState.CLOSED

    @property
    def names(self) -> tuple[str, ...]:
        """The gates that have not opened, those of the runs above included."""
        own = tuple([stage.name for stage in self._gates.values() if not self._has_opened(stage)])
        return own if self._above is None else own + self._above.names

    def closed(self, stage: str) -> EffectGateClosed:
        """Return the error for a stage that has found the gate closed."""
        gate, reason = self._closing or ("", "the run has ended")
        return EffectGateClosed(stage, gate=gate, reason=reason)

    def around(self, stage: CompiledStage) -> tuple[EffectGate | None, _Circle | None]:
        """Return what holds the effects that *stage* performs while it runs, and whether it may not wait for that.

        For a stage that is exempt from the gates of its own run, that is the gate of the runs above.
        """
        if stage.spec.gates_effects or not stage.spec.gated:
            return self._above, self._circle
        own = tuple(one.name for one in self._gates.values())
        return self, self._circle or (_Circle(stage.name, own) if stage.precedes_gate else None)

    def check(self, pipeline: str) -> None:
        """Refuse to run a pipeline whose effects would wait for ever.

        Raises:
            EffectGateDeadlock: A gate above waits for the stage that has started it.
        """
        if self._circle is not None and self.state is GateState.UNDECIDED:
            raise EffectGateDeadlock(self._circle.stage, self._circle.gates, pipeline=pipeline)

    def lets_pass(self, stage: CompiledStage) -> bool:
        """Say whether an effect that *stage* performs while it runs may happen now; False if that is undecided.

        Raises:
            EffectGateClosed: It may never happen.
            EffectGateDeadlock: The gate waits for the stage itself.
        """
        gate, circle = self.around(stage)
        if gate is None or gate.state is GateState.OPEN:
            return True
        if gate.state is GateState.CLOSED:
            raise gate.closed(stage.name)
        if circle is not None:
            raise EffectGateDeadlock(circle.stage, circle.gates)
        return False

    async def decided_around(self, stage: CompiledStage) -> None:
        """Wait until what holds the effects of *stage* is decided, or its run has ended."""
        gate, _ = self.around(stage)
        if gate is not None:
            await gate._decided()  # noqa: SLF001 - itself, or another one of its kind

    async def _decided(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        self.call_when_decided(wake)
        try:
            await future
        finally:
            self._forget(wake)

    def call_when_decided(self, callback: Callable[[], None]) -> None:
        """Call *callback* on the running event loop when the gate is decided, or its run has ended."""
        with self._lock:
            if self.state is GateState.UNDECIDED:
                self._waiters[callback] = asyncio.get_running_loop()
                return
        callback()

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._waiters.pop(callback, None)

    # --- how it is decided ------------------------------------------------------------------------------

    def settled(self, stage: CompiledStage, output: StageOutput, kept: str | None) -> None:
        """A stage has settled; one that is no gate may be the guard of a loop that a gate is in.

        Args:
            stage: The stage.
            output: What it left.
            kept: Why it was kept from starting, if it was.
        """
        if self.state is not GateState.UNDECIDED:
            return
        if stage.number in self._gates:
            passed = output.status is StageStatus.OK or (
                output.status is StageStatus.SKIP and kept in _NO_OBJECTION
            )
            reason = kept or output.error or output.data.get("cancel_reason") or output.status.value
            self._said[stage.number] = None if passed else _Closing(stage.name, str(reason))
        self._decide()

    def taken_back(self, members: frozenset[int]) -> None:
        """A guard has sent back *members*: what gates among them have said counts no longer."""
        for number in members:
            self._said.pop(number, None)

    def _decide(self) -> None:
        if self.state is not GateState.UNDECIDED:
            return
        above = self._above
        final = {number: said for number, said in self._said.items() if self._is_final(self._gates[number])}
        closing = next((said for said in final.values() if said is not None), None)
        if above is not None and above.state is GateState.CLOSED:
            closing = above._closing  # noqa: SLF001 - another one of its kind
        if closing is not None:
            self._closing = closing
            self._become(GateState.CLOSED)
        elif len(final) == len(self._gates) and (above is None or above.state is GateState.OPEN):
            self._become(GateState.OPEN)

    def _has_opened(self, gate: CompiledStage) -> bool:
        return gate.number in self._said and self._said[gate.number] is None and self._is_final(gate)

    def _is_final(self, gate: CompiledStage) -> bool:
        return all(map(self._has_settled, gate.sent_back_by))

    def _become(self, state: GateState) -> None:
        with self._lock:
            self.state = state
            waiters, self._waiters = self._waiters, {}
        here = asyncio.get_running_loop()
        for callback, loop in waiters.items():
            if loop is here:
                callback()
            else:
                with suppress(RuntimeError):  # that loop may be closed
                    loop.call_soon_threadsafe(callback)

    def release(self, held: Iterable[Callable[[], None]]) -> None:
        """The run has ended: whoever still waits finds the gate closed.

        Args:
            held: What has been left to be called.
        """
        if self._above is not None:
            for callback in (self._decide, *held):
                self._above._forget(callback)  # noqa: SLF001 - another one of its kind
        if self.state is GateState.UNDECIDED:
            self._become(GateState.CLOSED)


class Performer(NamedTuple):
    """A stage that is running: what holds the effects of its run, and who takes its places while it waits."""

    gate: EffectGate
    lending: Lending
    stage: CompiledStage


performing: ContextVar[Performer | None] = ContextVar("stageflow_performing", default=None)
"""Whose code runs, in runs with gates: a run that is started there looks here for what is above it."""


def telling_calls(
    gate: EffectGate, lending: Lending, stages: Sequence[CompiledStage], calls: Sequence[Body]
) -> tuple[Body, ...]:
    """Return *calls*, each of which tells those that it calls whose code they are."""
    pairs = zip(stages, calls, strict=True)
    return tuple(partial(_telling, Performer(gate, lending, stage), call) for stage, call in pairs)


async def _telling(who: Performer, call: Body, ctx: StageContext) -> object:
    performing.set(who)  # in the stage's own copy of the context variables
    return await call(ctx)
