"""``Channel`` against small models: random calls, cancels and ends, in random interleavings.

Two models, as two questions are asked. *What is in each buffer*, when everybody has done what they can: ``Model`` is a
list for each reader, and the channel must be equal to it after every call. *Whether anything is lost, doubled or out of
order* in between, when woken Tasks have not gone on yet and some of them wait for their slot: then the calls that
succeeded, in the order in which they were made, say what each reader must have got (``Play``, ``follow``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from stageflow.runtime.channels import Channel, StreamBrokenError, StreamClosedError
from stageflow.stages import Overflow, StreamEdge, StreamGap, StreamRestart

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

DEEP = settings().max_examples > 100
EXAMPLES = 5_000 if DEEP else 200

READERS = ("r", "s", "t")
POLICIES = (*Overflow,)
DROPPING = (Overflow.DROP_OLDEST, Overflow.DROP_NEWEST)

edges = st.lists(st.tuples(st.sampled_from(POLICIES), st.integers(1, 5)), min_size=1, max_size=len(READERS))


def joined(older: tuple[int, ...], newer: tuple[int, ...]) -> tuple[int, ...]:
    return older + newer


def edge_of(overflow: Overflow, size: int) -> StreamEdge:
    return StreamEdge("p", size, overflow, joined if overflow is Overflow.COALESCE else None)


def outcome(task: asyncio.Task[Any]) -> Any:
    """Return how a call has ended, comparable: its value, or the name of what it raised."""
    if not task.done():
        return "waits"
    if task.cancelled():
        return "CancelledError"
    error = task.exception()
    return task.result() if error is None else type(error).__name__


# --- what is in each buffer ---------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call that may wait: what the channel makes of it, and what the model says."""

    task: asyncio.Task[Any]
    expects: list[Any]


@dataclass
class End:
    overflow: Overflow
    size: int
    buffer: list[Any] = field(default_factory=list)
    """Chunks, which are tuples of numbers, and the markers between them."""
    delivered: int = 0
    lost: int = 0
    open: bool = True
    breaks: bool = False
    waiting: Call | None = None

    @property
    def chunks(self) -> list[Any]:
        return [item for item in self.buffer if isinstance(item, tuple)]

    @property
    def full(self) -> bool:
        return len(self.chunks) == self.size

    def put(self, chunk: tuple[int, ...]) -> None:
        if not self.full:
            self.buffer.append(chunk)
        elif self.overflow is Overflow.COALESCE:
            self.buffer[-1] += chunk
        elif self.overflow is Overflow.DROP_OLDEST:
            oldest = self.buffer.index(self.chunks[0])
            self.buffer[oldest : oldest + 1] = [StreamGap(1)]
            self.buffer.append(chunk)
            self.lost += 1
        else:
            self.buffer.append(StreamGap(1))
            self.lost += 1
        self.buffer = merged(self.buffer)

    def take(self) -> Any:
        item = self.buffer.pop(0)
        self.delivered += isinstance(item, tuple)
        return item


def merged(items: Sequence[Any]) -> list[Any]:
    """Make one gap of those in a row."""
    result: list[Any] = []
    for item in items:
        if result and isinstance(item, StreamGap) and isinstance(result[-1], StreamGap):
            result[-1] = StreamGap(result[-1].lost + item.lost)
        else:
            result.append(item)
    return result


class Model:
    def __init__(self, edges: Sequence[tuple[Overflow, int]]) -> None:
        self.ends = {name: End(*edge) for name, edge in zip(READERS, edges, strict=False)}
        self.line: deque[tuple[tuple[int, ...], Call]] = deque()
        self.published = 0
        self.closed = False

    @property
    def open(self) -> list[End]:
        return [end for end in self.ends.values() if end.open and not self.closed]

    @property
    def room(self) -> bool:
        return not any(end.full for end in self.open if end.overflow is Overflow.BLOCK)

    def deliver(self, chunk: tuple[int, ...]) -> None:
        self.published += 1
        for end in self.open:
            end.put(chunk)
        self.settle()

    def settle(self) -> None:
        """Let everybody do what they can."""
        for end in self.ends.values():
            if end.waiting is not None and (end.buffer or not end.open or self.closed):
                end.waiting.expects.append(self.read(end))
                end.waiting = None
        if self.line and self.room:
            chunk, call = self.line.popleft()
            call.expects.append(None)  # whether anybody reads is looked at when the call goes on, below
            self.deliver(chunk)
            call.expects[-1] = bool(self.open)

    def read(self, end: End) -> Any:
        if end.buffer:
            return end.take()
        return "StreamBrokenError" if end.breaks else "StopAsyncIteration"

    def release(self) -> None:
        for _, call in self.line:
            call.expects.append("StreamClosedError")
        self.line.clear()


class Settled(RuleBasedStateMachine):
    """After each call everybody does what they can; then the channel is what the model is."""

    @initialize(edges=edges)
    def make(self, edges: list[tuple[Overflow, int]]) -> None:
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.complaints: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.model = Model(edges)
        self.channel = Channel("p", [(READERS[at], edge_of(*edge)) for at, edge in enumerate(edges)])
        self.readers = {name: self.channel.subscribe(name) for name in self.model.ends}
        self.calls: list[Call] = []
        self.number = 0
        self.attempt = 1

    def start(self, coro: Coroutine[Any, Any, Any]) -> Call:
        call = Call(self.loop.create_task(coro), [])
        self.calls.append(call)
        return call

    def settle(self) -> None:
        self.model.settle()
        self.loop.run_until_complete(turns(4 + 3 * len(self.calls)))

    def chunk(self) -> tuple[int, ...]:
        self.number += 1
        return (self.number,)

    def end(self, at: int) -> tuple[str, End]:
        name = list(self.model.ends)[at % len(self.model.ends)]
        return name, self.model.ends[name]

    @rule()
    def publish(self) -> None:
        chunk = self.chunk()
        call = self.start(self.channel.publish(chunk))
        if self.model.closed:
            call.expects.append("StreamClosedError")
        elif self.model.line or not self.model.room:
            self.model.line.append((chunk, call))
        else:
            self.model.deliver(chunk)
            call.expects.append(bool(self.model.open))
        self.settle()

    @precondition(lambda self: not self.model.closed)
    @rule()
    def offer(self) -> None:
        chunk = self.chunk()
        taken = not self.model.line and self.model.room
        assert self.channel.offer(chunk) is taken
        if taken:
            self.model.deliver(chunk)
        self.settle()

    @rule(at=st.integers(0, 2), again=st.booleans())
    def read(self, *, at: int, again: bool) -> None:
        name, end = self.end(at)
        if again:
            self.readers[name] = self.channel.subscribe(name)
        call = self.start(read(self.readers[name]))
        if end.waiting is not None:
            call.expects.append("RunStateError")
        elif end.buffer or not end.open or self.model.closed:
            call.expects.append(self.model.read(end))
        else:
            end.waiting = call
        self.settle()

    @rule(at=st.integers(0, 2))
    def poll(self, at: int) -> None:
        name, end = self.end(at)
        assert self.readers[name].poll("nothing") == (end.take() if end.buffer else "nothing")
        self.settle()

    @precondition(lambda self: any(not call.task.done() for call in self.calls))
    @rule(at=st.integers(0, 9))
    def cancel(self, at: int) -> None:
        waiting = [call for call in self.calls if not call.task.done()]
        call = waiting[at % len(waiting)]
        call.task.cancel()
        call.expects.append("CancelledError")
        self.model.line = deque([entry for entry in self.model.line if entry[1] is not call])
        for end in self.model.ends.values():
            if end.waiting is call:
                end.waiting = None
        self.settle()

    @rule(at=st.integers(0, 2))
    def leave(self, at: int) -> None:
        name, end = self.end(at)
        self.channel.leave(name)
        end.buffer.clear()
        end.open = end.breaks = False
        self.settle()

    @precondition(lambda self: not self.model.closed)
    @rule()
    def restart(self) -> None:
        self.attempt += 1
        self.channel.restart(self.attempt)
        self.model.release()
        if self.model.published:
            for end in self.model.open:
                end.buffer[:] = [StreamRestart(self.attempt)]
        self.settle()

    @precondition(lambda self: self.number > 12)  # not before something has happened
    @rule(breaks=st.booleans())
    def close(self, *, breaks: bool) -> None:
        self.channel.close(ConnectionError("no route") if breaks else None)
        self.model.release()
        for end in self.model.open:
            end.breaks = breaks
        self.model.closed = True
        self.settle()

    @invariant()
    def the_same(self) -> None:
        channel, model = self.channel, self.model
        assert (channel.published, channel.blocked, channel.closed) == (
            model.published,
            len(model.line),
            model.closed,
        )
        assert channel.readers == tuple(
            name for name, end in model.ends.items() if end.open and not model.closed
        )
        for name, end in model.ends.items():
            assert channel.counts(name) == (end.delivered, end.lost, len(end.chunks))
        for call in self.calls:
            assert [outcome(call.task)] == (call.expects or ["waits"])
        self.calls = [call for call in self.calls if not call.task.done()]

    def teardown(self) -> None:
        if not hasattr(self, "channel"):
            return
        try:
            self.channel.close()
            for name in self.model.ends:
                self.channel.leave(name)
            self.loop.run_until_complete(turns(4 + 3 * len(self.calls)))
            assert asyncio.all_tasks(self.loop) == set()
            for call in self.calls:
                outcome(call.task)  # retrieves it
            assert self.complaints == []
        finally:
            self.runner.close()


async def read(reader: Any) -> Any:
    """Return the next chunk; a Task cannot run ``__anext__`` of everything by itself."""
    try:
        return await anext(reader)
    except StopAsyncIteration:
        return "StopAsyncIteration"


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.timeout(600 if DEEP else 30)
def test_the_channel_is_what_the_model_is():
    run_state_machine_as_test(Settled, settings=settings(max_examples=EXAMPLES, stateful_step_count=50))


# --- whether anything is lost, doubled or out of order -----------------------------------------------------


class Step(NamedTuple):
    does: str
    which: int
    turns: int
    """How often the event loop goes round before the next step."""


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            ["publish"] * 6
            + ["offer"] * 2
            + ["read"] * 6
            + ["poll", "cancel", "cancel", "leave", "restart", "close"]
        ),
        st.integers(0, 9),
        st.sampled_from([0, 0, 0, 1, 1, 2, 3, 8]),
    ),
    min_size=10,
    max_size=60,
)


class Lender:
    """Lends a slot, and takes some turns of the event loop to give it back."""

    def __init__(self, turns: list[int]) -> None:
        self.turns = turns
        self.lent = 0
        self.back = 0

    def __call__(self, _stage: str) -> Callable[[], Coroutine[Any, Any, None]]:
        self.lent += 1

        async def resume() -> None:
            self.back += 1
            await turns(self.turns[self.back % len(self.turns)])

        return resume


class Play:
    """Random steps on one channel, and what came of them."""

    def __init__(
        self, edges: list[tuple[Overflow, int]], lender: Lender | None, error: Exception | None
    ) -> None:
        self.edges = dict(zip(READERS, edges, strict=False))
        self.channel = Channel(
            "p", [(name, edge_of(*edge)) for name, edge in self.edges.items()], on_wait=lender
        )
        self.error = error
        self.calls: list[
            tuple[int, int, asyncio.Task[Any] | bool]
        ] = []  # each that published: attempt, chunk, outcome
        self.got: dict[str, list[Any]] = {name: [] for name in self.edges}
        self.reading: dict[str, asyncio.Task[Any]] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.left: set[str] = set()
        self.attempt = 1

    def start(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.create_task(coro))
        return self.tasks[-1]

    async def read(self, name: str) -> None:
        self.got[name].append(await anext(self.channel.subscribe(name)))

    async def run(self, steps: list[Step]) -> None:
        for number, step in enumerate(steps):
            await self.take(number, step)
            await turns(step.turns)
            for name, (_, size) in self.edges.items():
                assert 0 <= self.channel.counts(name).waiting <= size
        self.channel.close(self.error)
        await turns(100)
        assert [task for task in self.tasks if not task.done()] == []
        assert self.channel.blocked == 0

    async def take(self, number: int, step: Step) -> None:
        channel, does = self.channel, step.does
        name = list(self.edges)[step.which % len(self.edges)]
        if does == "publish":
            self.calls.append((self.attempt, number, self.start(channel.publish((number,)))))
            await asyncio.sleep(
                0
            )  # so that the Tasks call publish in this order, which is the one that is kept
        elif does == "offer" and not channel.closed:
            self.calls.append((self.attempt, number, channel.offer((number,))))
        elif does == "read" and (name not in self.reading or self.reading[name].done()):
            self.reading[name] = self.start(self.read(name))
        elif does == "poll" and (item := channel.subscribe(name).poll()) is not None:
            self.got[name].append(item)
        elif does == "cancel" and self.tasks:
            self.tasks[-1 - step.which % len(self.tasks)].cancel()
        elif does == "leave" and step.which < 2:
            channel.leave(name)
            self.left.add(name)
        elif does == "restart" and not channel.closed:
            self.attempt += channel.published > 0
            channel.restart(self.attempt)
        elif does == "close" and step.which == 0:
            channel.close(self.error)

    def accepted(self) -> dict[int, list[int]]:
        """Return the chunks that were handed over, in order, by attempt."""
        result: dict[int, list[int]] = {}
        for attempt, number, call in self.calls:
            if call is True or (isinstance(call, asyncio.Task) and isinstance(outcome(call), bool)):
                result.setdefault(attempt, []).append(number)
        return result

    async def check(self) -> None:
        accepted = self.accepted()
        assert self.channel.published == sum(map(len, accepted.values()))
        for name, (overflow, _) in self.edges.items():
            end = (
                StreamBrokenError if self.error is not None and name not in self.left else StopAsyncIteration
            )
            with pytest.raises(end):
                while True:
                    await self.read(name)
            got = self.got[name]
            reached = follow(got, accepted, overflow)
            delivered, lost, waiting = self.channel.counts(name)
            assert (delivered, waiting) == (sum(isinstance(item, tuple) for item in got), 0)
            told = sum(item.lost for item in got if isinstance(item, StreamGap))
            if name not in self.left:
                assert reached == (self.attempt, len(accepted.get(self.attempt, [])))
            if name in self.left or self.attempt > 1:
                assert told <= lost  # a gap that nobody has read is gone with what is around it
            else:
                assert told == lost
        ends = (StreamClosedError, StreamBrokenError, StopAsyncIteration, asyncio.CancelledError)
        for task in self.tasks:
            assert task.cancelled() or isinstance(task.exception(), (type(None), *ends))


def follow(got: Sequence[Any], accepted: dict[int, list[int]], overflow: Overflow) -> tuple[int, int]:
    """Follow what a reader got along what was handed over; return where it got: the attempt, and how many chunks."""
    attempt, at = 1, 0
    for item in got:
        if isinstance(item, StreamRestart):
            assert item.attempt > attempt
            attempt, at = item.attempt, 0
        elif isinstance(item, StreamGap):
            assert overflow in DROPPING
            assert item.lost > 0
            at += item.lost
        else:
            assert len(item) == 1 or overflow is Overflow.COALESCE
            assert list(item) == accepted.get(attempt, [])[at : at + len(item)]
            at += len(item)
    assert at <= len(accepted.get(attempt, []))
    return attempt, at


@pytest.mark.timeout(600 if DEEP else 30)
@pytest.mark.parametrize("lending", [False, True])
@settings(max_examples=EXAMPLES)
@given(
    edges=edges, steps=steps, breaks=st.booleans(), slow=st.lists(st.integers(0, 3), min_size=1, max_size=5)
)
def test_nothing_is_lost_doubled_or_out_of_order(
    *, lending: bool, edges: list[tuple[Overflow, int]], steps: list[Step], breaks: bool, slow: list[int]
):
    lender = Lender(slow) if lending else None
    play = Play(edges, lender, ConnectionError("no route") if breaks else None)
    complaints: list[Any] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(play.run(steps))
        runner.run(play.check())
    assert complaints == []
    assert lender is None or lender.lent == lender.back
    event(f"attempts: {min(play.attempt, 3)}")
    event(f"published: {play.channel.published // 10 * 10} or more")
