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


LIMITS = (0.5, 1.0, 7.0)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(LIMITS)),
        st.tuples(st.just("end"), st.integers(0, 200)),
        st.tuples(st.just("pass"), st.floats(0, 8, width=16)),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=60,
)


class Model:
    """What is expected: every living item exactly once, as soon as it is over its limit, the earliest first."""

    def __init__(self):
        self.entries: list[tuple[float, int]] = []

    def due(self, now):
        found = sorted(entry for entry in self.entries if entry[0] <= now)
        self.entries = [entry for entry in self.entries if entry[0] > now]
        return [item for _, item in found]

    def end(self, item):
        self.entries = [entry for entry in self.entries if entry[1] != item]


@settings(max_examples=settings().max_examples * 10)
@given(steps=STEPS)
def test_every_living_item_is_called_back_once_when_it_is_over_its_limit(steps):
    loop, model = Loop(), Model()
    lines: dict[int, dict[int, float]] = {}
    fired: list[int] = []
    deadlines = Deadlines(loop, fired.append)
    for step, value in steps:
        if step == "add":
            item = len(lines)
            lines[item] = deadlines.add(item, value, loop.now)
            model.entries.append((loop.now + value, item))
        elif step == "end":
            lines.get(value, {}).pop(value, None)
            model.end(value)
        elif step == "pass":
            expected = model.due(loop.now + value)
            before = len(fired)
            loop.advance(value)
            assert fired[before:] == expected
        else:
            deadlines.close()
            assert loop.handles == set()
            for item, line in lines.items():
                line.pop(item, None)
            model.entries.clear()
        assert sorted(deadlines) == sorted(item for _, item in model.entries)
        if model.entries:
            (timer,) = loop.handles
            assert timer.when() <= min(model.entries)[0]
    expected = model.due(float("inf"))
    before = len(fired)
    loop.advance(100)
    assert fired[before:] == expected
    assert loop.handles == set(), "a timer is armed for nobody"


@given(items=st.lists(st.sampled_from(LIMITS), min_size=1, max_size=20), late=st.floats(0, 3))
def test_a_timer_that_fires_late_calls_back_all_who_are_over_their_limits_in_order(items, late):
    loop = Loop()
    fired: list[int] = []

    def expired(item):
        assert loop.now >= items[item]
        fired.append(item)

    deadlines = Deadlines(loop, expired)
    for item, limit in enumerate(items):
        deadlines.add(item, limit, 0.0)
    loop.advance(20, late=late)
    assert fired == sorted(range(len(items)), key=lambda item: (items[item], item))


def test_items_are_never_compared():
    loop, fired = Loop(), []
    items = [object() for _ in range(5)]
    deadlines = Deadlines(loop, fired.append)
    for item in items:
        deadlines.add(item, 1.0, 0.0)
    loop.advance(1)
    assert fired == items


@pytest.mark.parametrize("then", ["add", "add over its limit", "close", "end the others"])
def test_whoever_is_called_back_may_call_in(then):
    loop = Loop()
    fired: list[str] = []
    lines: dict[str, dict[str, float]] = {}

    def expired(item):
        fired.append(item)
        if item != "a":
            return
        if then == "add":
            deadlines.add("late", 5, loop.now)
        elif then == "add over its limit":
            deadlines.add("late", 2.5, loop.now - 5)
        elif then == "close":
            deadlines.close()
        else:
            del lines["b"]["b"], lines["c"]["c"]

    deadlines = Deadlines(loop, expired)
    for item in "abc":
        lines[item] = deadlines.add(item, 1.0, 0.0)
    deadlines.add("never", 3.0, 0.0)
    loop.advance(2)
    # Whoever is over the limit with others is called back with them, unless it has ended through one of them.
    at_once = {"add": "a b c", "add over its limit": "a b c late", "close": "a b c", "end the others": "a"}[
        then
    ]
    assert fired == at_once.split()
    loop.advance(10)
    assert ("late" in fired) == then.startswith("add")
    assert ("never" in fired) == (then != "close")
    assert loop.handles == set()


def test_what_has_ended_does_not_pile_up():
    """10,000 stages with a limit, of which hardly any is alive at any moment."""
    loop, fired = Loop(), []
    deadlines = Deadlines(loop, fired.append)
    lines: dict[int, dict[int, float]] = {}
    for item in range(10_000):
        loop.now = item / 100  # stages suspend and end between the turns of a loop
        lines[item] = deadlines.add(item, 1000.0, loop.now)
        if item >= 10:
            del lines.pop(item - 10)[item - 10]
    assert list(deadlines) == list(range(9_990, 10_000))
    assert loop.armed == 1
    deadlines.close()
    loop.advance(10_000)
    assert fired == []


def test_limits_that_come_in_order_arm_the_timer_once():
    loop = Loop()
    deadlines = Deadlines(loop, print)
    for item in range(1000):
        deadlines.add(item, 10.0 + item, 0.0)
    assert loop.armed == 1
    deadlines.add(1000, 5.0, 0.0)
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

    deadlines = Deadlines(loop, expired)
    start = loop.time()
    lines = {
        item: deadlines.add(item, limit, start)
        for limit, item in ((0.03, "last"), (0.01, "first"), (0.02, "gone"), (0.02, "second"))
    }
    del lines["gone"]["gone"]
    async with asyncio.timeout(5):
        await done
    assert order == ["first", "second", "last"]
    assert loop.time() - start >= 0.029
    deadlines.close()
