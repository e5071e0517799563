"""``Deadlines``: many limits on one timer, compared with a list that is looked through at every moment."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow.runtime.deadlines import Deadlines


class Handle:
    def __init__(self, loop, when, callback, arguments):
        self.loop, self._when, self.callback, self.arguments = loop, when, callback, arguments

    def when(self):
        return self._when

    def cancel(self):
        self.loop.handles.discard(self)


class Loop:
    """A clock that a test moves, and the timers that are armed on it."""

    def __init__(self):
        self.now = 0.0
        self.handles: set[Handle] = set()
        self.armed = 0

    def time(self):
        return self.now

    def call_at(self, when, callback, *arguments):
        self.armed += 1
        handle = Handle(self, when, callback, arguments)
        self.handles.add(handle)
        assert len(self.handles) == 1, "more than one timer is armed"
        return handle

    def advance(self, seconds, *, late=0.0):
        """Let time pass; a timer fires when it is due, or a little later, as real ones do."""
        end = self.now + seconds
        while due := [handle for handle in self.handles if handle.when() <= end]:
            first = min(due, key=Handle.when)
            self.now = min(end, max(self.now, first.when() + late))
            self.handles.discard(first)
            first.callback(*first.arguments)
        self.now = end


class Naive:
    """What is expected: every living item exactly once, as soon as its time has come, the earliest first."""

    def __init__(self):
        self.entries: list[tuple[float, int]] = []

    def due(self, now, alive):
        found = sorted(entry for entry in self.entries if entry[0] <= now and entry[1] in alive)
        self.entries = [entry for entry in self.entries if entry[0] > now and entry[1] in alive]
        return [item for _, item in found]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.floats(-2, 20, width=16)),
        st.tuples(st.just("end"), st.integers(0, 200)),
        st.tuples(st.just("pass"), st.floats(0, 8, width=16)),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=settings().max_examples * 10)
@given(steps=STEPS)
def test_every_living_item_is_called_back_once_when_its_time_has_come(steps):
    loop, naive = Loop(), Naive()
    alive: set[int] = set()
    fired: list[int] = []

    def expired(item):
        assert item in alive
        alive.discard(item)
        fired.append(item)

    deadlines = Deadlines(loop, expired, alive.__contains__)
    added = 0
    for step, value in steps:
        if step == "add":
            added += 1
            alive.add(added)
            deadlines.add(loop.now + value, added)
            naive.entries.append((loop.now + value, added))
        elif step == "end":
            alive.discard(value)
        elif step == "pass":
            expected = naive.due(loop.now + value, set(alive))
            before = len(fired)
            loop.advance(value)
            assert fired[before:] == expected
        else:
            deadlines.close()
            naive.entries.clear()
            assert loop.handles == set()
        waiting = [when for when, item in naive.entries if item in alive]
        if waiting:
            (timer,) = loop.handles
            assert timer.when() <= min(waiting)
    expected = naive.due(float("inf"), set(alive))
    before = len(fired)
    loop.advance(100)
    assert fired[before:] == expected
    assert loop.handles == set(), "a timer is armed for nobody"


@given(delays=st.lists(st.floats(0, 5, width=16), min_size=1, max_size=20), late=st.floats(0, 3))
def test_a_timer_that_fires_late_calls_back_all_whose_time_has_come_in_order(delays, late):
    loop = Loop()
    fired: list[int] = []
    alive = set(range(len(delays)))

    def expired(item):
        assert loop.now >= delays[item]
        alive.discard(item)
        fired.append(item)

    deadlines = Deadlines(loop, expired, alive.__contains__)
    for item, delay in enumerate(delays):
        deadlines.add(delay, item)
    loop.advance(20, late=late)
    assert fired == sorted(range(len(delays)), key=lambda item: (delays[item], item))


def test_items_are_never_compared():
    loop, fired = Loop(), []
    alive = [object() for _ in range(5)]
    deadlines = Deadlines(loop, fired.append, lambda item: item not in fired)
    for item in alive:
        deadlines.add(1.0, item)
    loop.advance(1)
    assert fired == alive


@pytest.mark.parametrize("then", ["add", "add in the past", "close", "end the others"])
def test_whoever_is_called_back_may_call_in(then):
    loop = Loop()
    fired: list[str] = []
    alive = {"a", "b", "c", "late"}

    def expired(item):
        fired.append(item)
        alive.discard(item)
        if item != "a":
            return
        if then == "add":
            deadlines.add(loop.now + 5, "late")
        elif then == "add in the past":
            deadlines.add(loop.now - 5, "late")
        elif then == "close":
            deadlines.close()
        else:
            alive.difference_update("bc")

    deadlines = Deadlines(loop, expired, alive.__contains__)
    for item in "abc":
        deadlines.add(1.0, item)
    loop.advance(2)
    at_once = {"add": "abc", "add in the past": None, "close": "a", "end the others": "a"}[then]
    if at_once is None:
        assert sorted(fired) == ["a", "b", "c", "late"]
    else:
        assert fired == list(at_once)
    loop.advance(10)
    assert ("late" in fired) == then.startswith("add")
    assert loop.handles == set()


def test_what_has_ended_does_not_pile_up():
    """10,000 stages with a limit, of which hardly any is alive at any moment."""
    loop = Loop()
    alive: set[int] = set()
    deadlines = Deadlines(loop, alive.discard, alive.__contains__)
    for item in range(10_000):
        alive.add(item)
        deadlines.add(1000.0 + item, item)
        if item >= 10:
            alive.discard(item - 10)
        assert len(deadlines._heap) <= 129
    assert loop.armed < 1000
    deadlines.close()
    assert deadlines._heap == []
    assert loop.handles == set()


def test_limits_that_come_in_order_arm_the_timer_once():
    loop = Loop()
    alive = set(range(1000))
    deadlines = Deadlines(loop, alive.discard, alive.__contains__)
    for item in range(1000):
        deadlines.add(10.0 + item, item)
    assert loop.armed == 1
    deadlines.add(5.0, 1000)
    assert loop.armed == 2


@pytest.mark.asyncio
async def test_on_a_real_event_loop():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    order: list[str] = []

    def expired(item):
        order.append(item)
        if item == "last":
            done.set_result(None)

    deadlines = Deadlines(loop, expired, lambda item: item not in {"gone", *order})
    start = loop.time()
    for delay, item in ((0.03, "last"), (0.01, "first"), (0.02, "gone"), (0.02, "second")):
        deadlines.add(start + delay, item)
    async with asyncio.timeout(5):
        await done
    assert order == ["first", "second", "last"]
    assert loop.time() - start >= 0.029
    deadlines.close()
