"""``EventSinkConformance``: what every event sink promises, as tests."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn
from uuid import UUID

import pytest

from stageflow.pipeline.builder import Pipeline
from stageflow.protocols import EventSink
from stageflow.stages.stage import StageKind
from stageflow.testing.cancelling import CancelAt
from stageflow.testing.conformance.blocking import BlockingWatch
from stageflow.testing.conformance.body import LARGE, SCRIPTS
from stageflow.testing.conformance.leftovers import Holdings
from stageflow.testing.conformance.suite import Suite, close
from stageflow.testing.conformance.tenants import CROWD, tenant_snapshot
from stageflow.testing.factories import create_test_snapshot
from stageflow.testing.leaks import leak_check

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from stageflow.stages.context import StageContext

from contextlib import asynccontextmanager

__all__ = ["EventSinkConformance"]

_MANY: Final = 20_000
_TOLD: Final = 5
_MOST_AWAITS: Final = 50
_AFTER: Final = 10


class _Unshowable:
    """A value that breaks whoever wants to show it."""

    def __repr__(self) -> NoReturn:
        msg = "nobody may see this"
        raise RuntimeError(msg)

    __str__ = __repr__


def _circle() -> dict[str, Any]:
    circle: dict[str, Any] = {}
    circle["itself"] = circle
    return circle


_ODD: Final[Mapping[str, Any]] = {
    "none": None,
    "empty": {},
    "object": {"value": object(), "kind": int, "id": UUID(int=7)},
    "unshowable": {"value": _Unshowable()},
    "circle": _circle(),
    "keys": {1: "number", None: "none", ("a", 1): "tuple"},
    "numbers": {"nan": float("nan"), "inf": float("inf"), "big": 10**400},
    "bytes": {"raw": b"\0\xff", "set": {1, 2}, "error": ValueError("no")},
    "scripts": {"text": SCRIPTS},
    "surrogate": {"text": "\ud800 alone"},
    "large": {"text": "x" * LARGE},
    "taken": {
        "name": "x",
        "msg": "x",
        "message": "x",
        "args": 1,
        "level": 2,
        "event": 3,
        "type": 4,
        "data": 5,
    },
}
"""Payloads that a stage may well emit."""


class EventSinkConformance(Suite):
    """Derive from it in a module of tests, say how the sink is made, and inherit the tests.

    The protocol itself knows neither flushing nor closing. If the sink has ``flush()``, or ``aclose()`` or
    ``close()``, they are called; otherwise override ``flush`` and ``close``.

    ```python
    from stageflow.testing.conformance import EventSinkConformance


    class Lines:
        def __init__(self):
            self.lines = []

        async def emit(self, *, type, data):
            self.try_emit(type=type, data=data)

        def try_emit(self, *, type, data):
            self.lines.append((type, data))


    class TestLines(EventSinkConformance):
        def make_sink(self):
            return Lines()

        def delivered(self, sink):
            return sink.lines
    ```
    """

    contract: ClassVar[str] = "sink"

    def make_sink(self) -> EventSink:
        """Return a new sink; it may start Tasks, as an event loop runs."""
        raise NotImplementedError

    def delivered(self, sink: Any) -> Sequence[tuple[str, Mapping[str, Any] | None]] | None:
        """Return what has arrived at the other end, as pairs of type and data; None if that cannot be seen."""
        return None

    async def flush(self, sink: Any) -> None:
        """Wait until all that was emitted has arrived."""
        method = getattr(sink, "flush", None)
        if callable(method):
            flushing = method()
            if inspect.isawaitable(flushing):
                await flushing

    async def close(self, sink: Any) -> None:
        """Close the sink, if it can be closed."""
        await close(sink)

    # --- its form ---------------------------------------------------------------------------------------

    def test_it_is_an_event_sink(self) -> None:
        """It has an async ``emit(*, type, data)`` and a plain ``try_emit(*, type, data)``."""

        async def main() -> None:
            async with self._made() as sink:
                assert isinstance(sink, EventSink)
                assert inspect.iscoroutinefunction(sink.emit), "emit is not async"
                assert not inspect.iscoroutinefunction(sink.try_emit), (
                    "try_emit is async: nobody would await it"
                )
                for method in (sink.emit, sink.try_emit):
                    inspect.signature(method).bind(type="told", data=None)

        self._drive(main)

    # --- never in the way -------------------------------------------------------------------------------

    @pytest.mark.parametrize("payload", _ODD)
    def test_try_emit_never_raises(self, payload: str) -> None:
        """Whatever a stage emits, also what JSON cannot say and nobody can show, ``try_emit`` does not raise."""

        async def main() -> None:
            async with self._made() as sink:
                sink.try_emit(type=f"odd.{payload}", data=_ODD[payload])
                await self.flush(sink)
                sink.try_emit(type="plain", data={"number": 1})
                await self.flush(sink)

        self._drive(main)

    def test_try_emit_does_not_wait(self) -> None:
        """20,000 events in one turn of the event loop, in which nobody can take any off, do not hold it up."""

        async def main() -> None:
            async with self._made() as sink:
                for number in range(_MANY):
                    sink.try_emit(type="told", data={"number": number})

        self._drive(main)

    def test_try_emit_blocks_nobody(self) -> None:
        """It does not sleep, connect, look up names or start processes on the event loop."""

        async def main() -> None:
            async with self._made() as sink:
                sink.try_emit(type="first", data={"number": 0})
                await self.flush(sink)
                with BlockingWatch() as watch:
                    for number in range(_TOLD):
                        sink.try_emit(type="told", data={"number": number})
                assert not watch.calls, watch.calls

        self._drive(main)

    def test_a_run_ends_as_it_would_without_it(self) -> None:
        """A run with the sink has the same results, and leaves nothing behind once the sink is closed."""

        async def main() -> None:
            expected = await _pipeline().run(input_text="Ada")
            async with leak_check(), self._made() as sink:
                results = await _pipeline().run(input_text="Ada", sink=sink)
            assert {name: output.data for name, output in results.items()} == {
                name: output.data for name, output in expected.items()
            }

        self._drive(main)

    def test_emit_can_be_cancelled(self) -> None:
        """A cancel at any of its awaits ends ``emit``, and the sink goes on."""

        async def main() -> None:
            for number in range(1, _MOST_AWAITS):
                async with self._made() as sink:
                    cancel = CancelAt(number)
                    with suppress(asyncio.CancelledError):
                        await cancel(sink.emit(type="told", data={"number": number}))
                        assert not cancel.fired, "it was cancelled, and did not let the cancel pass"
                    await sink.emit(type="after", data={"number": number})
                    await self.flush(sink)
                    arrived = self.delivered(sink)
                    assert arrived is None or "after" in [kind for kind, _ in arrived]
                if not cancel.fired:
                    return

        self._drive(main)

    # --- what arrives -----------------------------------------------------------------------------------

    def test_events_arrive_in_order_and_once(self) -> None:
        """After a flush, what was emitted has arrived in the order in which it was, each event once."""

        async def main() -> None:
            async with self._made() as sink:
                for number in range(_TOLD):
                    sink.try_emit(type="told", data={"number": number})
                    await sink.emit(type="told", data={"number": number + 0.5})
                await self.flush(sink)
                numbers = [data["number"] for kind, data in self._arrived(sink) if kind == "told" and data]
            assert numbers == [number / 2 for number in range(2 * _TOLD)]

        self._drive(main)

    def test_events_arrive_as_they_were(self) -> None:
        """Type and data are what was emitted, texts of every script and a million characters included."""

        async def main() -> None:
            data = {"text": SCRIPTS.replace("\0", ""), "large": "x" * LARGE, "list": [1, None, True]}
            async with self._made() as sink:
                sink.try_emit(type="told.naïve", data=dict(data))
                await self.flush(sink)
                ((kind, arrived),) = self._arrived(sink)
            assert kind == "told.naïve"
            assert arrived is not None
            assert {key: arrived[key] for key in data} == data

        self._drive(main)

    def test_the_events_of_fifty_runs_keep_apart(self) -> None:
        """Of fifty runs of fifty tenants at once, each one's events arrive complete, in order, and as its own."""

        async def main() -> None:
            snapshots = [
                tenant_snapshot(create_test_snapshot(input_text="Ada"), number, text=True)
                for number in range(CROWD)
            ]
            graph = _pipeline().build(interceptors=[])
            async with self._made() as sink:
                await asyncio.gather(*(graph.run(snapshot, sink=sink) for snapshot in snapshots))
                await self.flush(sink)
                arrived = self.delivered(sink)
                if arrived is None:
                    return
                for snapshot in snapshots:
                    run_id = str(snapshot.pipeline_run_id)
                    told = [
                        data for _, data in arrived if data and str(data.get("pipeline_run_id")) == run_id
                    ]
                    assert [data["sequence"] for data in told] == list(range(1, len(told) + 1))
                    texts = [
                        data["text"] for kind, data in arrived if kind == "said" and data in told and data
                    ]
                    assert texts == [snapshot.input_text]

        self._drive(main)

    # --- its end ----------------------------------------------------------------------------------------

    def test_closing_delivers_what_is_left(self) -> None:
        """What was emitted before it was closed arrives, without a flush; closing it once more does no harm."""

        async def main() -> None:
            sink = self.make_sink()
            for number in range(_TOLD):
                sink.try_emit(type="told", data={"number": number})
            await self.close(sink)
            await self.close(sink)
            numbers = [data["number"] for _, data in self._arrived(sink) if data]
            assert numbers == list(range(_TOLD))

        self._drive(main)

    def test_a_closed_sink_is_in_nobody_s_way(self) -> None:
        """After it was closed, ``try_emit`` neither raises nor blocks, and ``emit`` does not hang."""

        async def main() -> None:
            sink = self.make_sink()
            sink.try_emit(type="told", data={"number": 1})
            await self.close(sink)
            sink.try_emit(type="late", data={"number": 2})
            with suppress(Exception):
                await sink.emit(type="late", data={"number": 3})
            await self.close(sink)

        self._drive(main)

    def test_closed_sinks_hold_nothing(self) -> None:
        """Threads, child processes, files and sockets of sinks that are closed do not add up."""

        async def main() -> None:
            for _ in range(_AFTER):
                async with leak_check(), self._made() as sink:
                    sink.try_emit(type="told", data={"number": 1})
                    await self.flush(sink)

        self._drive(main)
        before = Holdings.now()
        self._drive(main)
        assert not (more := Holdings.now().beyond(before)), more

    # --- how it is proved -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _made(self) -> AsyncGenerator[EventSink]:
        sink = self.make_sink()
        try:
            yield sink
        finally:
            await self.close(sink)

    def _arrived(self, sink: Any) -> Sequence[tuple[str, Mapping[str, Any] | None]]:
        arrived = self.delivered(sink)
        if arrived is None:
            pytest.skip("delivered() is not overridden, so nobody can see what has arrived")
        return arrived


async def _say(ctx: StageContext) -> dict[str, Any]:
    await asyncio.sleep(0)
    ctx.try_emit_event("said", {"text": ctx.input_text})
    await asyncio.sleep(0)
    return {"text": ctx.input_text}


def _pipeline() -> Pipeline:
    return Pipeline("proved").with_stage("stage", _say, StageKind.TRANSFORM)
