"""The hardening interceptors in real runs, and what they measure with."""

from __future__ import annotations

import functools
import pickle
import threading
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from stageflow import ContextSnapshot, Pipeline, StageGraph, StageKind, StageOutput
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import ReadOnlyDataError
from stageflow.interceptors.fingerprint import fingerprint
from stageflow.interceptors.hardening import (
    ContextSizeInterceptor,
    DataChangedError,
    ImmutabilityInterceptor,
)
from stageflow.interceptors.sizing import size_of


class Cart(BaseModel):
    items: list[str] = []

    @functools.cached_property
    def count(self) -> int:
        return len(self.items)


class Slotted:
    __slots__ = ("_seen", "items", "unset")

    def __init__(self) -> None:
        self._seen = 0
        self.items = ["tea"]


def two_stages(change: Any, value: Any, **options: Any) -> StageGraph:
    async def load(ctx: Any) -> StageOutput:
        return StageOutput.ok(value=value)

    async def use(ctx: Any) -> None:
        change(ctx.inputs.get_from("load", "value"))

    return (
        Pipeline()
        .with_stage("load", load, StageKind.WORK)
        .with_stage("use", use, StageKind.WORK, dependencies=["load"])
        .build(interceptors=[ImmutabilityInterceptor(**options)])
    )


CHANGES = {
    "model": (lambda cart: cart.items.append("milk"), Cart),
    "attribute": (lambda cart: setattr(cart, "items", []), lambda: Cart(items=["tea"])),
    "slots": (lambda one: one.items.append("milk"), Slotted),
    "array": (lambda numbers: numbers.append(1.0), lambda: array("d", [0.5])),
    "element": (lambda numbers: numbers.__setitem__(0, 1.5), lambda: array("d", [0.5])),
}
READS = {
    "nothing": (lambda _: None, Cart),
    "cached property": (lambda cart: cart.count, Cart),
    "private attribute": (lambda one: setattr(one, "_seen", 1), Slotted),
    "lock": (lambda lock: lock.acquire(blocking=False), threading.Lock),
    "class and function": (lambda pair: pair, lambda: (Cart, len)),
    "nan": (lambda _: None, lambda: [float("nan")]),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("change", CHANGES)
async def test_finding_a1_17_changes_in_place_are_found(change: str):
    does, make = CHANGES[change]
    results = await two_stages(does, make()).run(raise_errors=False)
    error = results.error.original
    assert isinstance(error, DataChangedError)
    assert isinstance(error, ReadOnlyDataError)
    assert (error.stage, error.changed) == ("use", ("the output of 'load'",))
    assert error.what == "While stage 'use' ran, the output of 'load' was changed in place"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.asyncio
@pytest.mark.parametrize("read", READS)
async def test_reading_is_no_change(read: str):
    does, make = READS[read]
    assert (await two_stages(does, make()).run(raise_errors=False)).error is None


@pytest.mark.asyncio
async def test_changes_of_the_callers_data_are_found():
    cart = Cart()

    async def change(ctx: Any) -> None:
        cart.items.append("milk")

    graph = Pipeline().with_stage("s", change, StageKind.WORK).build(interceptors=[ImmutabilityInterceptor()])
    results = await graph.run(data={"cart": cart}, raise_errors=False)
    assert results.error.original.changed == ("the run's data",)


@pytest.mark.asyncio
async def test_without_crash_it_warns(caplog: pytest.LogCaptureFixture):
    does, make = CHANGES["model"]
    results = await two_stages(does, make(), crash_on_violation=False).run()
    assert results.error is None
    (record,) = [record for record in caplog.records if record.name == "stageflow.hardening"]
    assert record.levelname == "WARNING"
    assert vars(record)["changed"] == ["the output of 'load'"]


def hands_over(text: str, **options: Any) -> StageGraph:
    async def produce(ctx: Any) -> StageOutput:
        return StageOutput.ok(text=text)

    async def consume(ctx: Any) -> None:
        return None

    return (
        Pipeline()
        .with_stage("produce", produce, StageKind.WORK)
        .with_stage("consume", consume, StageKind.WORK, dependencies=["produce"])
        .build(interceptors=[ContextSizeInterceptor(**options)])
    )


@pytest.mark.asyncio
async def test_growth_and_size_are_reported(caplog: pytest.LogCaptureFixture):
    await hands_over("x" * 5000, max_size_bytes=4096, warn_on_growth_bytes=1024).run()
    grown, large = caplog.records
    assert grown.getMessage() == "Stage 'produce' hands over 4.9 KiB"
    assert vars(grown)["growth_bytes"] >= 5000
    assert large.getMessage().startswith("Stage 'consume' is given 5.")
    assert vars(large)["size_bytes"] > 5000


@pytest.mark.asyncio
async def test_small_data_are_not_worth_a_word(caplog: pytest.LogCaptureFixture):
    await hands_over("x" * 5000).run(ContextSnapshot(input_text="hi"))
    assert not caplog.records


def test_defaults_are_those_of_0_9():
    size, immutable = ContextSizeInterceptor(), ImmutabilityInterceptor()
    assert (size.name, size.priority) == ("context_size", 42)
    assert (size.max_size_bytes, size.warn_on_growth_bytes) == (1024 * 1024, 100 * 1024)
    assert (immutable.name, immutable.priority, immutable.crash_on_violation) == (
        "immutability_check",
        10,
        True,
    )


@pytest.mark.parametrize(
    ("size", "error"), [(-1, ArgumentValueError), (1.5, ArgumentTypeError), ("1", ArgumentTypeError)]
)
def test_bad_sizes(size: Any, error: type[Exception]):
    with pytest.raises(error):
        ContextSizeInterceptor(max_size_bytes=size)
    with pytest.raises(error):
        ContextSizeInterceptor(warn_on_growth_bytes=size)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner) | st.sets(st.integers())
    ),
)


@given(JSON)
def test_the_same_value_has_the_same_fingerprint(value: Any):
    assert fingerprint(value) == fingerprint(value)
    assert size_of(value) > 0 or value in (b"", "")


@given(st.lists(JSON), JSON)
def test_an_added_element_changes_the_fingerprint_and_the_size(values: list[Any], added: Any):
    box = {"values": values}
    before = fingerprint(box)
    values.append(added)
    assert fingerprint(box) != before


def test_circles_and_depth_are_no_limit():
    deep: list[Any] = []
    deep.append(deep)
    for _ in range(100_000):
        deep = [deep]
    assert fingerprint(deep) == fingerprint(deep)
    assert size_of(deep) > 0


def test_sizes():
    text = "x" * 100
    assert size_of(text) == 102
    assert size_of("é" * 100) == 202
    assert size_of([text]) == size_of({"": text}) - 2 == 104
    assert size_of(b"x" * 100) == 100
    assert size_of(memoryview(b"x" * 100)) == 100
    assert size_of(Cart(items=[text])) >= 100
    assert size_of(ContextSnapshot(input_text=text)) >= 100
    assert size_of(threading.Lock()) > 0
    assert size_of(Cart) > 0
    assert size_of({1, 2}) == 18
