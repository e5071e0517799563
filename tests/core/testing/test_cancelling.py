"""A cancel at the n-th suspension, by stepping the coroutine and not by guess."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from typing import Any

import pytest
from stageflow.context import ArgumentValueError
from stageflow.testing import CancelAt, cancel_at
from stageflow.testing.stepping import Stepped


class Worker:
    def __init__(self) -> None:
        self.reached = 0
        self.got: list[str] = []

    async def work(self) -> str:
        loop = asyncio.get_running_loop()
        for number in range(3):
            future: asyncio.Future[str] = loop.create_future()
            loop.call_soon(future.set_result, f"value {number}")
            self.got.append(await future)
            await asyncio.sleep(0)
            self.reached += 1
        return "done"


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 7))
def test_every_suspension(number: int, moment: Any) -> None:
    worker, cancel = Worker(), CancelAt(number, moment=moment)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel(worker.work()))
    assert (cancel.suspensions, cancel.fired) == (number, True)
    assert worker.reached == (number - 1) // 2
    assert len(worker.got) == number // 2


def test_after_means_that_what_was_awaited_has_happened() -> None:
    happened = []

    async def take() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: happened.append(done.cancelled()))
        asyncio.get_running_loop().call_soon(future.set_result, None)
        await future

    for moment in ("before", "after"):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancel_at(1, take(), moment=moment))
    assert happened == [True, False]


def test_zero_only_counts() -> None:
    cancel = CancelAt(0)
    assert asyncio.run(cancel(Worker().work())) == "done"
    assert (cancel.suspensions, cancel.fired) == (6, False)


def test_fewer_suspensions_than_that() -> None:
    assert asyncio.run(cancel_at(99, Worker().work())) == "done"


def test_whoever_calls_is_not_cancelled() -> None:
    async def main() -> int:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(asyncio.CancelledError):
            await cancel_at(1, asyncio.sleep(1))
        return task.cancelling()

    assert asyncio.run(main()) == 0


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ArgumentValueError):
        CancelAt(-1)


def test_stepped_is_a_coroutine_like_the_one_inside() -> None:
    told: list[object] = []

    async def body() -> int:
        try:
            await asyncio.sleep(0)
        except ValueError:
            await asyncio.sleep(0)
        return 7

    step = Stepped(body(), told.append, lambda: told.append("end"))
    assert asyncio.iscoroutine(step)
    assert step.__qualname__.endswith("body")
    assert repr(step).startswith("<Stepped ")
    assert inspect.getcoroutinestate(step) == inspect.CORO_CREATED  # type: ignore[arg-type]
    assert not hasattr(step, "gi_frame")
    assert step.send(None) is None
    assert step.throw(ValueError()) is None
    with pytest.raises(StopIteration) as caught:
        step.send(None)
    assert caught.value.value == 7
    assert told == [None, None, "end"]


def test_stepped_can_be_awaited_iterated_and_closed() -> None:
    async def body() -> int:
        await asyncio.sleep(0)
        return 7

    async def main() -> int:
        return await Stepped(body(), lambda _: None)

    assert asyncio.run(main()) == 7
    step = Stepped(body(), lambda _: None)
    assert next(iter(step)) is None
    step.close()
    with pytest.raises(ZeroDivisionError):
        Stepped(body(), lambda _: None).throw(ZeroDivisionError)
    with pytest.raises(ZeroDivisionError), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the form of three arguments, of old callers
        Stepped(body(), lambda _: None).throw(ZeroDivisionError, ZeroDivisionError(), None)
