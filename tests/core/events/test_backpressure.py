"""The bounded sink: nothing is lost uncounted, nothing waits for ever, nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import Pipeline, StageKind, clear_event_sink, set_event_sink
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.events import FanOutEventSink, NoOpEventSink
from stageflow.events import backpressure as module
from stageflow.events.backpressure import (
    BackpressureAwareEventSink,
    BackpressureMetrics,
    EventSinkClosedError,
    wait_for_event_sink_tasks,
)
from stageflow.testing import leak_check


class Downstream:
    """Takes events; may wait, hang, raise or swallow its cancellation."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.raises: set[Any] = set()
        self.stubborn = False
        self.entered = asyncio.Event()

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.entered.set()
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise
        if type in self.raises:
            raise ValueError(type)
        self.got.append(type)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        raise AssertionError("the worker waits for the downstream")


def counts(sink: BackpressureAwareEventSink) -> tuple[int, int, int]:
    metrics = sink.metrics
    return metrics.emitted, metrics.dropped, metrics.failed


@pytest.fixture
def downstream() -> Downstream:
    return Downstream()


# --- the findings -------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_finding_a1_16_stop_loses_no_event_in_flight(downstream: Downstream):
    sink = BackpressureAwareEventSink(downstream)
    async with leak_check():
        downstream.gate.clear()
        for n in range(5):
            assert sink.try_emit(type=f"e{n}", data={})
        await downstream.entered.wait()
        stopping = asyncio.create_task(sink.stop())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        downstream.gate.set()
        await stopping
    assert downstream.got == [f"e{n}" for n in range(5)]
    assert counts(sink) == (5, 0, 0)


@pytest.mark.asyncio
async def test_finding_a1_16_without_draining_the_event_in_flight_is_finished(downstream: Downstream):
    dropped: list[str] = []
    sink = BackpressureAwareEventSink(downstream, on_drop=lambda event, data: dropped.append(event))
    downstream.gate.clear()
    for n in range(5):
        sink.try_emit(type=f"e{n}", data={})
    await downstream.entered.wait()
    stopping = asyncio.create_task(sink.stop(drain=False))
    await asyncio.sleep(0.01)
    downstream.gate.set()
    await stopping
    assert downstream.got == ["e0"]
    assert dropped == ["e1", "e2", "e3", "e4"]
    assert counts(sink) == (1, 4, 0)


@pytest.mark.asyncio
async def test_finding_a1_16_a_downstream_that_raises_breaks_nothing(
    downstream: Downstream, caplog: pytest.LogCaptureFixture
):
    sink = BackpressureAwareEventSink(downstream)
    downstream.raises = {"bad"}
    async with leak_check():
        for event in ("a", "bad", "b", "bad", "c"):
            sink.try_emit(type=event, data={})
        await sink.stop()
    assert downstream.got == ["a", "b", "c"]
    assert counts(sink) == (5, 0, 2)
    assert caplog.text.count("raised on") == 1


def test_finding_a1_16_try_emit_needs_no_event_loop_and_loses_nothing():
    async def deliver() -> None:
        await sink.stop()

    downstream = Downstream()
    sink = BackpressureAwareEventSink(downstream, max_queue_size=2)
    assert [sink.try_emit(type=f"e{n}", data=None) for n in range(3)] == [True, True, False]
    assert (sink.queue_size, sink.is_running) == (2, False)
    asyncio.run(deliver())
    assert downstream.got == ["e0", "e1"]
    assert counts(sink) == (2, 1, 0)


@pytest.mark.asyncio
async def test_finding_a1_16_events_from_before_the_start_are_kept(downstream: Downstream):
    sink = BackpressureAwareEventSink(downstream)
    await asyncio.to_thread(sink.try_emit, type="early", data={})
    await sink.start()
    assert sink.is_running
    await sink.flush()
    assert downstream.got == ["early"]
    await sink.stop()
    assert not sink.is_running


# --- what is counted ----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_full_queue_drops_and_says_so(downstream: Downstream):
    dropped: list[Any] = []
    sink = BackpressureAwareEventSink(
        downstream, max_queue_size=2, on_drop=lambda event, data: dropped.append((event, data))
    )
    downstream.gate.clear()
    sink.try_emit(type="flying", data={})
    await downstream.entered.wait()
    assert [sink.try_emit(type=f"e{n}", data={"n": n}) for n in range(4)] == [True, True, False, False]
    metrics = sink.metrics
    assert (metrics.emitted, metrics.dropped, metrics.queue_full_count) == (3, 2, 2)
    assert metrics.last_emit_time is not None
    assert metrics.last_drop_time is not None
    assert sink.drop_rate == metrics.drop_rate == 40.0
    assert dropped == [("e2", {"n": 2}), ("e3", {"n": 3})]
    assert "2 of 2" in repr(sink)
    downstream.gate.set()
    await sink.stop()
    assert "stopped" in repr(sink)


@pytest.mark.asyncio
async def test_on_drop_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture):
    def on_drop(event: str, data: Any) -> None:
        raise ValueError(event)

    sink = BackpressureAwareEventSink(NoOpEventSink(), on_drop=on_drop)
    await sink.stop()
    assert sink.try_emit(type="late") is False
    assert "on_drop" in caplog.text


def test_no_events_are_no_drops():
    assert BackpressureMetrics().drop_rate == 0.0
    assert BackpressureMetrics(1) == BackpressureMetrics(emitted=1)


@given(
    st.lists(st.sampled_from(["try", "emit", "turn", "open", "shut"]), max_size=60),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_event_is_counted_once_and_comes_in_order(steps: list[str], size: int, drain: bool):  # noqa: FBT001
    async def run() -> None:
        downstream = Downstream()
        sink = BackpressureAwareEventSink(downstream, max_queue_size=size)
        waiting: list[asyncio.Task[None]] = []
        accepted: list[str] = []
        offered = 0
        for step in steps:
            if step == "try":
                offered += 1
                if sink.try_emit(type=f"{offered:03}"):
                    accepted.append(f"{offered:03}")
            elif step == "emit":
                offered += 1
                waiting.append(asyncio.create_task(sink.emit(type=f"{offered:03}")))
                await asyncio.sleep(0)
            elif step == "turn":
                await asyncio.sleep(0)
            elif step == "open":
                downstream.gate.set()
            else:
                downstream.gate.clear()
        downstream.gate.set()
        await sink.stop(drain=drain)
        refused = await asyncio.gather(*waiting, return_exceptions=True)
        emitted, dropped, failed = counts(sink)
        assert (emitted + dropped, failed, sink.queue_size) == (offered, 0, 0)
        assert len(downstream.got) == len(set(downstream.got)) == emitted
        if drain:
            assert not any(refused)
            assert set(accepted) <= set(downstream.got)
        tried = [event for event in downstream.got if event in accepted]
        assert tried == sorted(tried)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_counts_are_exact_across_threads():
    async def run() -> None:
        sink = BackpressureAwareEventSink(NoOpEventSink(), max_queue_size=100)
        await sink.start()

        def produce() -> None:
            for _ in range(2000):
                sink.try_emit(type="x")

        await asyncio.gather(*(asyncio.to_thread(produce) for _ in range(4)))
        await sink.stop()
        emitted, dropped, _ = counts(sink)
        assert emitted + dropped == 8000

    asyncio.run(run())


# --- waiting for room ---------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_emit_waits_for_room_in_order(downstream: Downstream):
    sink = BackpressureAwareEventSink(downstream, max_queue_size=1)
    downstream.gate.clear()
    emitters = [asyncio.create_task(sink.emit(type=f"e{n}", data={})) for n in range(6)]
    await asyncio.sleep(0.01)
    assert sum(emitter.done() for emitter in emitters) == 2, "one is in flight, one in the queue"
    assert sink.metrics.queue_full_count >= 4
    downstream.gate.set()
    await asyncio.gather(*emitters)
    await sink.stop()
    assert downstream.got == [f"e{n}" for n in range(6)]
    assert counts(sink) == (6, 0, 0)


@pytest.mark.asyncio
async def test_a_cancelled_emitter_is_counted_as_dropped(downstream: Downstream):
    dropped: list[str] = []
    sink = BackpressureAwareEventSink(
        downstream, max_queue_size=1, on_drop=lambda event, data: dropped.append(event)
    )
    downstream.gate.clear()
    emitters = [asyncio.create_task(sink.emit(type=f"e{n}")) for n in range(5)]
    await asyncio.sleep(0.01)
    emitters[2].cancel()
    await asyncio.sleep(0)
    emitters[3].cancel()
    downstream.gate.set()  # at this very moment there is room
    await asyncio.gather(*emitters, return_exceptions=True)
    await sink.stop()
    assert downstream.got == ["e0", "e1", "e4"]
    assert dropped == ["e2", "e3"]
    assert counts(sink) == (3, 2, 0)


@pytest.mark.asyncio
async def test_an_emitter_that_is_cancelled_just_as_there_is_room(downstream: Downstream):
    dropped: list[str] = []
    sink = BackpressureAwareEventSink(
        downstream, max_queue_size=1, on_drop=lambda event, data: dropped.append(event)
    )
    downstream.gate.clear()
    emitters = [asyncio.create_task(sink.emit(type=f"e{n}")) for n in range(4)]
    await asyncio.sleep(0.01)
    downstream.gate.set()  # the worker is woken first
    emitters[2].cancel()
    await asyncio.gather(*emitters, return_exceptions=True)
    await sink.stop()
    assert downstream.got == ["e0", "e1", "e3"]
    assert dropped == ["e2"]
    assert counts(sink) == (3, 1, 0)


@pytest.mark.asyncio
async def test_an_accepted_event_stays_accepted_when_its_emitter_is_cancelled(downstream: Downstream):
    sink = BackpressureAwareEventSink(downstream, max_queue_size=1)
    downstream.gate.clear()
    emitters = [asyncio.create_task(sink.emit(type=f"e{n}")) for n in range(3)]
    await asyncio.sleep(0.01)
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, emitters[2].cancel)
    downstream.gate.set()
    await asyncio.gather(*emitters, return_exceptions=True)
    await sink.stop()
    assert downstream.got == ["e0", "e1", "e2"]
    assert counts(sink) == (3, 0, 0)


@pytest.mark.asyncio
async def test_emit_after_stop_is_an_error_and_start_opens_again(downstream: Downstream):
    sink = BackpressureAwareEventSink(downstream)
    await sink.start()
    await sink.start()
    await sink.stop()
    await sink.stop()
    with pytest.raises(EventSinkClosedError) as raised:
        await sink.emit(type="late", data={})
    assert (raised.value.type, raised.value.code) == ("late", "SF-RUN-SINK-CLOSED")
    assert sink.try_emit(type="late") is False
    await sink.start()
    await sink.emit(type="again", data={})
    await sink.stop()
    assert downstream.got == ["again"]
    assert counts(sink) == (1, 2, 0)


@pytest.mark.asyncio
async def test_those_who_wait_for_room_are_told_when_nothing_is_drained(downstream: Downstream):
    sink = BackpressureAwareEventSink(downstream, max_queue_size=1)
    downstream.gate.clear()
    emitters = [asyncio.create_task(sink.emit(type=f"e{n}")) for n in range(4)]
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(sink.stop(drain=False))
    await asyncio.sleep(0.01)
    downstream.gate.set()
    await stopping
    ends = await asyncio.gather(*emitters, return_exceptions=True)
    assert [type(end) for end in ends] == [type(None), type(None), EventSinkClosedError, EventSinkClosedError]
    assert counts(sink) == (1, 3, 0)


# --- stopping -----------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_downstream_that_hangs_is_cut_off(downstream: Downstream, caplog: pytest.LogCaptureFixture):
    sink = BackpressureAwareEventSink(downstream)
    async with leak_check():
        downstream.gate.clear()
        for n in range(3):
            sink.try_emit(type=f"e{n}")
        await sink.stop(timeout=0.01)
    assert counts(sink) == (1, 2, 1)
    assert sink.queue_size == 0
    assert "not through in time" in caplog.text


@pytest.mark.asyncio
async def test_a_downstream_that_swallows_its_cancellation_is_left_as_soon_as_it_returns(
    downstream: Downstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(module, "_GRACE", 0.01)
    downstream.stubborn = True
    downstream.gate.clear()
    sink = BackpressureAwareEventSink(downstream)
    for n in range(3):
        sink.try_emit(type=f"e{n}")
    await sink.stop(timeout=0.01)
    assert "does not end" in caplog.text
    downstream.gate.set()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
    assert downstream.got == ["e0"]
    assert counts(sink) == (1, 2, 0)
    await sink.start()
    sink.try_emit(type="again")
    await sink.stop()
    assert downstream.got == ["e0", "again"]


@pytest.mark.asyncio
async def test_a_cancelled_stop_leaves_no_worker(downstream: Downstream):
    async with leak_check():
        downstream.gate.clear()
        sink = BackpressureAwareEventSink(downstream)
        sink.try_emit(type="a")
        sink.try_emit(type="b")
        stopping = asyncio.create_task(sink.stop(timeout=None))
        await asyncio.sleep(0.01)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
    assert counts(sink) == (1, 1, 1)


@pytest.mark.asyncio
async def test_a_downstream_may_stop_the_sink_itself():
    class Stopping:
        async def emit(self, *, type: str, data: Any) -> None:
            await sink.stop()

    sink = BackpressureAwareEventSink(Stopping())  # type: ignore[arg-type]
    async with leak_check():
        sink.try_emit(type="a")
        sink.try_emit(type="b")
        await asyncio.sleep(0.01)
    assert counts(sink) == (2, 0, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [-1, float("nan")])
async def test_a_bad_time_out(limit: float):
    with pytest.raises(ArgumentValueError):
        await BackpressureAwareEventSink().stop(timeout=limit)


@pytest.mark.parametrize(
    "options",
    [{"downstream": 1}, {"max_queue_size": 0}, {"max_queue_size": 1.5}, {"on_drop": 1}],
    ids=str,
)
def test_bad_arguments(options: dict[str, Any]):
    with pytest.raises((ArgumentTypeError, ArgumentValueError)):
        BackpressureAwareEventSink(**options)


# --- event loops, tasks, contexts ---------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_cancellation_of_the_downstreams_own_does_not_end_the_worker(downstream: Downstream):
    class Relaying:
        async def emit(self, *, type: str, data: Any) -> None:
            if type == "cancelled":
                raise asyncio.CancelledError
            await downstream.emit(type=type, data=data)

    sink = BackpressureAwareEventSink(Relaying())  # type: ignore[arg-type]
    for event in ("a", "cancelled", "b"):
        sink.try_emit(type=event)
    await sink.stop()
    assert downstream.got == ["a", "b"]
    assert counts(sink) == (3, 0, 1)


def test_a_sink_that_nobody_stopped_goes_on_in_the_next_event_loop():
    downstream = Downstream()
    sink = BackpressureAwareEventSink(downstream)

    async def emit(event: str) -> None:
        assert sink.try_emit(type=event)
        await asyncio.sleep(0)

    asyncio.run(emit("a"))
    sink.try_emit(type="between")
    asyncio.run(emit("b"))
    asyncio.run(sink.stop())
    assert downstream.got == ["a", "between", "b"]


def test_a_sink_is_stopped_from_another_thread():
    downstream = Downstream()
    sink = BackpressureAwareEventSink(downstream)
    ready, done = threading.Event(), threading.Event()

    async def home() -> None:
        await sink.start()
        ready.set()
        await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(home(),))
    thread.start()
    ready.wait()
    sink.try_emit(type="a")

    async def elsewhere() -> None:
        await sink.emit(type="b")
        await sink.stop()

    asyncio.run(elsewhere())
    done.set()
    thread.join()
    assert downstream.got == ["a", "b"]


@pytest.mark.asyncio
async def test_the_worker_keeps_nobodys_context():
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
    seen: list[str] = []

    class Seeing:
        async def emit(self, *, type: str, data: Any) -> None:
            seen.append(tenant.get())

    sink = BackpressureAwareEventSink(Seeing())  # type: ignore[arg-type]

    async def stage() -> None:
        tenant.set("acme")
        sink.try_emit(type="a")

    await asyncio.create_task(stage())
    await sink.stop()
    assert seen == ["none"]


@pytest.mark.asyncio
async def test_others_get_their_turn_while_a_downstream_never_suspends():
    sink = BackpressureAwareEventSink(NoOpEventSink(), max_queue_size=100_000)
    for _ in range(100_000):
        sink.try_emit(type="x")
    turns = 0
    while sink.queue_size:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 2
    await sink.stop()


@pytest.mark.asyncio
async def test_a_run_delivers_through_it(sink: Any):
    async def nothing(ctx: Any) -> None:
        pass

    async with BackpressureAwareEventSink(sink) as bounded:
        await Pipeline().with_stage("a", nothing, StageKind.TRANSFORM).run(sink=bounded)
    sink.assert_paired(stages=["a"], end="completed")


@pytest.mark.asyncio
async def test_waiting_for_the_current_sink(downstream: Downstream):
    sink = BackpressureAwareEventSink(downstream)
    set_event_sink(FanOutEventSink(NoOpEventSink(), sink))
    sink.try_emit(type="a")
    await wait_for_event_sink_tasks()
    assert downstream.got == ["a"]
    await sink.stop()
    await wait_for_event_sink_tasks()
    clear_event_sink()
    await wait_for_event_sink_tasks()
