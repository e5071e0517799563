"""The parts that the executors are made of."""

from __future__ import annotations

import asyncio
import pickle
import threading
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stageflow.errors import RunStateError
from stageflow.executors.frames import FrameReader, Op, framed
from stageflow.executors.loops import await_on, to_its_end
from stageflow.executors.places import Places
from stageflow.executors.remote_errors import pickled_error
from stageflow.executors.unpicklable import culprit


@given(
    frames=st.lists(st.tuples(st.sampled_from(Op), st.binary(max_size=40)), max_size=8),
    cuts=st.lists(st.integers(1, 30), max_size=60),
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames, cuts):
    data = b"".join(framed(op, body) for op, body in frames)
    reader, found = FrameReader(), []
    for cut in [*cuts, len(data)]:
        found += reader.feed(data[:cut])
        data = data[cut:]
    assert found == frames


class Model:
    """What ``Places`` promises: as many holders as places, first come, first served, nothing lost."""

    def __init__(self, count: int) -> None:
        self.places: Places[int] = Places(count)
        self.held: list[int | None] = []
        self.tasks: list[asyncio.Task[int | None]] = []
        self.made = 0

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                worker = task.result()
                if worker is None:
                    worker = self.made = self.made + 1
                    self.places.enrol(worker)
                assert worker not in self.held
                self.held.append(worker)


@example(count=1, steps=[("take", 0), ("take", 0), ("both", 0)])
@given(
    count=st.integers(1, 3),
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "give", "lose", "cancel", "both"]), st.integers(0, 5)), max_size=30
    ),
)
def test_places_are_handed_on_and_none_is_lost(count, steps):
    async def play() -> None:
        model = Model(count)
        for step, which in steps:
            if step == "take":
                model.tasks.append(asyncio.ensure_future(model.places.take()))
            elif step == "cancel" and model.tasks:
                model.tasks[which % len(model.tasks)].cancel()
            elif model.held:
                worker = model.held.pop(which % len(model.held))
                if step == "lose":
                    model.places.forget(worker)
                    model.places.give_back(None)
                else:
                    model.places.give_back(worker)
                if step == "both" and model.tasks:  # a cancel that meets a place which is on its way
                    model.tasks[0].cancel()
            await model.settle()
            assert len(model.held) <= count
            assert not model.tasks or len(model.held) == count  # nobody waits while there is room
        for task in model.tasks:
            task.cancel()
        await model.settle()
        for worker in model.held:
            model.places.give_back(worker)
        again = [await model.places.take() for _ in range(count)]
        assert len(model.places.workers) == len([one for one in again if one is not None])

    asyncio.run(play())


@pytest.mark.asyncio
async def test_whoever_waits_for_one_worker_gets_that_one_or_hears_that_it_is_gone():
    places = Places[str](2)
    assert [await places.take(), await places.take()] == [None, None]
    for worker in ("a", "b"):
        places.enrol(worker)
    for_a = [asyncio.ensure_future(places.take_own("a")) for _ in range(2)]
    anyone = asyncio.ensure_future(places.take())
    await asyncio.sleep(0)
    places.give_back("b")
    assert await anyone == "b"
    places.give_back("a")
    assert await for_a[0] == "a"
    places.forget("a")
    assert await for_a[1] is None
    assert await places.take_own("a") is None
    places.give_back(None)
    places.give_back("b")
    assert await places.take_own("b") == "b"


def test_a_place_is_not_handed_to_an_event_loop_that_is_closed():
    places = Places[str](1)
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(places.take()) is None
    loop_of_waiter = asyncio.new_event_loop()

    async def wait():
        task = asyncio.ensure_future(places.take())
        await asyncio.sleep(0)
        return task

    task = loop_of_waiter.run_until_complete(wait())
    loop_of_waiter.close()
    places.give_back(None)
    assert loop.run_until_complete(places.take()) is None
    loop.close()
    task._log_destroy_pending = False


class Node:
    def __init__(self, **parts):
        self.__dict__.update(parts)

    def method(self):
        return self


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"rows": [1, {"key": lambda: 0}]}, "x['rows'][1]['key']"),
        (Node(a=1, b=Node(c=threading.Lock())), "x.b.c"),
        ((1, {2, 3}, frozenset({print, open})), None),
        ({(1, lambda: 0): 1}, "x.key("),
        (Node(lock=threading.Lock()).method, "x.__self__.lock"),
        (partial(print, Node(lock=threading.Lock())), "x.args[0].lock"),
        (ValueError("a", threading.Lock()), "x.args[1]"),
        (list(range(10)), None),
    ],
)
def test_the_culprit_is_found(value, path):
    found = culprit({"w": 1, "x": value})
    if path is None:
        assert found is None
    else:
        assert found is not None
        assert found[0].startswith(path)


def test_the_way_to_the_culprit_ends_also_in_a_circle_and_in_the_deep():
    circle = {"lock": threading.Lock()}
    circle["again"] = circle
    assert culprit({"x": circle})[0] == "x['lock']"
    deep = lock = []
    for _ in range(60):
        lock.append([])
        lock = lock[0]
    lock.append(threading.Lock())
    path = culprit({"x": deep})[0]
    assert path.startswith("x[0][0]")
    assert path.endswith("[0][0]")


class OddError(Exception):
    """Its constructor takes what nobody keeps, and raises on the rest."""

    def __init__(self, *, a, b):
        super().__init__()
        self.both = (a, b)

    @property
    def code(self):
        return 7


class LossyError(Exception):
    """Pickles itself, and forgets what it was told later."""

    def __reduce__(self):
        return LossyError, self.args


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class LockedError(Exception):
    def __init__(self):
        self.lock = threading.Lock()

    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [
        OddError(a=1, b=2),
        LossyError(1),
        SilentError("x"),
        OSError(2, "No such file", "/x"),
        SystemExit(3),
        ImportError("m", name="n"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_come_back_as_they_were(error):
    error.add_note("noted")
    again = pickle.loads(pickled_error(error, pickle.loads))
    assert type(again) is type(error)
    assert (again.args, vars(again)) == (error.args, vars(error))
    for name in ("errno", "filename", "code", "name"):
        assert getattr(again, name, None) == getattr(error, name, None)


def test_an_exception_that_may_not_even_be_shown_is_stood_for():
    again = pickle.loads(pickled_error(LockedError(), pickle.loads))
    assert again.type_name.endswith("LockedError")


@pytest.mark.asyncio
async def test_a_closed_event_loop_is_named():
    other = asyncio.new_event_loop()
    other.close()

    async def there():
        raise AssertionError

    with pytest.raises(RunStateError, match="closed"):
        await await_on(other, there)


@pytest.mark.asyncio
async def test_work_comes_to_its_end_though_its_error_is_nobodys():
    go_on = asyncio.Event()

    async def work():
        await go_on.wait()
        raise ValueError("late")

    task = asyncio.ensure_future(to_its_end(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ValueError, match="late"):
        await to_its_end(work())
