"""Read-only copies: equal to what they copy, unchangeable, plain again on request."""

import copy
import gc
import json
import pickle
import sys
import time
from collections import Counter, OrderedDict, defaultdict, namedtuple
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from stageflow.context.checks import ArgumentTypeError, ArgumentValueError
from stageflow.context.frozen import (
    CyclicDataError,
    FrozenDict,
    FrozenList,
    ReadOnlySet,
    freeze,
    freeze_in_slices,
    freeze_small,
    thaw,
)
from stageflow.errors import ReadOnlyDataError, RunError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=40)
VALUES = st.recursive(
    SCALARS | st.binary() | st.sets(st.integers()) | st.frozensets(st.text()) | st.uuids(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.lists(inner).map(tuple)
    ),
    max_leaves=40,
)


def containers(value: Any) -> list[Any]:
    """All containers in a value, itself included."""
    found, pending = [], [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict | list | set | tuple):
            found.append(item)
            pending.extend(item.values() if isinstance(item, dict) else item)
    return found


def is_frozen(value: Any) -> bool:
    return all(type(item) in {FrozenDict, FrozenList, ReadOnlySet, tuple} for item in containers(value))


def is_plain(value: Any) -> bool:
    return all(type(item) in {dict, list, set, tuple} for item in containers(value))


def finish(steps: Any) -> tuple[int, Any]:
    stops = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return stops, done.value
        stops += 1


# --- what it is for any value --------------------------------------------------------------------------


@given(VALUES)
def test_frozen_is_equal_and_frozen_all_the_way_down_and_thaws_to_the_same(value: Any) -> None:
    before = copy.deepcopy(value)
    frozen = freeze(value)
    assert frozen == value == before
    assert is_frozen(frozen)
    thawed = thaw(frozen)
    assert thawed == value
    assert is_plain(thawed)


@given(VALUES)
def test_copies_are_plain_and_pickles_stay_frozen(value: Any) -> None:
    frozen = freeze(value)
    deep = copy.deepcopy(frozen)
    assert deep == value
    assert is_plain(deep)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(frozen, protocol))
        assert again == value
        assert type(again) is type(frozen)
        assert is_frozen(again)


@given(value=JSON, sort=st.booleans())
def test_json_is_the_same_order_included(value: Any, *, sort: bool) -> None:
    assert json.dumps(freeze(value), sort_keys=sort) == json.dumps(value, sort_keys=sort)
    assert json.dumps(freeze(value), indent=1) == json.dumps(value, indent=1)


@given(VALUES, st.integers(1, 5))
def test_slices_give_what_freeze_gives(value: Any, items: int) -> None:
    _, frozen = finish(freeze_in_slices(value, items=items))
    assert frozen == freeze(value)
    assert is_frozen(frozen)


@given(st.dictionaries(st.text(), VALUES))
def test_what_is_small_is_frozen_in_one_go(value: dict[str, Any]) -> None:
    frozen = freeze_small(value)
    if frozen is None:  # it is not small
        assert len(list(containers(value))) > 30 or max(map(len, containers(value))) > 64
        return
    assert frozen == freeze(value)
    assert is_frozen(frozen)
    assert type(frozen) is FrozenDict


def test_what_is_large_or_deep_or_inside_itself_is_left_to_others() -> None:
    deep: list[Any] = []
    for _ in range(50):
        deep = [deep]
    inside: dict[str, Any] = {}
    inside["inside"] = [inside]
    for value in ({"a": [0] * 65}, {"a": [[n] for n in range(65)]}, {"a": deep}, inside):
        assert freeze_small(value) is None
    assert freeze_small(dict.fromkeys(range(10_000), 0)) == dict.fromkeys(range(10_000), 0)  # a copy, in C


@given(VALUES)
def test_what_is_frozen_already_passes_as_it_is(value: Any) -> None:
    frozen = freeze(value)
    assert freeze(frozen) is frozen
    inner = freeze({"x": frozen})["x"]
    assert inner is frozen


@given(VALUES)
def test_a_later_change_of_the_source_is_not_seen(value: Any) -> None:
    frozen = freeze([value])
    before = repr(frozen)
    for item in containers(value):
        if not isinstance(item, tuple):
            item.clear()
    assert repr(frozen) == before


# --- read-only -----------------------------------------------------------------------------------------

KINDS = [(dict, FrozenDict, {"a": 1}), (list, FrozenList, [3, 1, 2]), (set, ReadOnlySet, {1, 2, 3})]

# Every argument list with which some mutator would change one of the values above.
TRIES: list[tuple[Any, ...]] = [
    (), (0,), ("a",), (1,), ({"b": 2},), ([9],), ({9},), ({1},), (0, 9), ("b", 9), (slice(0, 1), [9]), (slice(0, 1),),
]  # fmt: skip


def mutators(plain: type, value: Any) -> dict[str, tuple[Any, ...]]:
    """The methods of a builtin that change a value, found by trying, each with arguments that do so."""
    found: dict[str, tuple[Any, ...]] = {}
    for name in dir(plain):
        for args in TRIES:
            sample = copy.copy(value)
            try:
                getattr(sample, name)(*args)
            except Exception:  # noqa: S112 - these arguments are not for this method
                continue
            if repr(sample) != repr(value):
                found[name] = args
                break
    return found


@pytest.mark.parametrize(("plain", "frozen_type", "value"), KINDS, ids=["dict", "list", "set"])
def test_every_mutator_is_refused_and_changes_nothing(plain: type, frozen_type: type, value: Any) -> None:
    frozen = freeze(value)
    assert type(frozen) is frozen_type
    found = mutators(plain, value)
    for name, args in found.items():
        if name == "__init__":
            getattr(frozen, name)(*args)  # is called on construction, so it cannot raise
        else:
            with pytest.raises(ReadOnlyDataError) as caught:
                getattr(frozen, name)(*args)
            assert isinstance(caught.value, TypeError)
            assert caught.value.operation
        assert frozen == value
    known = {
        dict: "__delitem__ __init__ __ior__ __setitem__ clear pop popitem setdefault update",
        list: "__delitem__ __iadd__ __imul__ __init__ __setitem__ append clear extend insert pop remove reverse sort",
        set: "__iand__ __init__ __ior__ __isub__ __ixor__ add clear difference_update discard intersection_update pop "
        "remove symmetric_difference_update update",
    }
    assert set(known[plain].split()) <= set(found), "the search for mutators has become blind"
    assert set(found) <= set(vars(frozen_type)), "a new mutator of the builtin is not refused"


def test_operators_that_assign_leave_the_name_and_the_value_alone() -> None:
    settings, names, seen = freeze({"a": 1}), freeze([1]), freeze({1})
    with pytest.raises(ReadOnlyDataError):
        settings |= {"b": 2}
    with pytest.raises(ReadOnlyDataError):
        names += [2]
    with pytest.raises(ReadOnlyDataError):
        names *= 2
    with pytest.raises(ReadOnlyDataError):
        seen &= {2}
    with pytest.raises(ReadOnlyDataError):
        del settings["a"]
    with pytest.raises(ReadOnlyDataError):
        names[0:1] = []
    assert (settings, names, seen) == ({"a": 1}, [1], {1})


def test_no_attributes_and_no_hash() -> None:
    for frozen in (freeze({}), freeze([]), freeze(set())):
        with pytest.raises(AttributeError):
            frozen.extra = 1
        with pytest.raises(TypeError, match="unhashable"):
            hash(frozen)


def test_error_says_what_to_do_and_pickles() -> None:
    with pytest.raises(ReadOnlyDataError, match=r"append\(\).*thaw\(value\)") as caught:
        freeze([]).append(1)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# --- a dict, a list, a set -----------------------------------------------------------------------------


def test_operators_give_plain_values() -> None:
    settings, names, seen = freeze({"a": 1}), freeze([1]), freeze({1})
    plain = [
        settings | {"b": 2}, {"b": 2} | settings, settings.copy(), copy.copy(settings), {**settings},
        names + [2], [2] + names, names * 2, 2 * names, names[:], names.copy(), copy.copy(names), [*names],  # noqa: RUF005 - the operators
        seen | {2}, {2} | seen, seen & {1}, seen - {2}, seen ^ {2}, seen.copy(), copy.copy(seen),
        seen.union([2]), seen.intersection([1]), seen.difference([2]), seen.symmetric_difference([2]),
    ]  # fmt: skip
    assert is_plain(plain)
    assert all(type(value) in {dict, list, set} for value in plain)
    assert settings | {"b": 2} == {"a": 1, "b": 2}
    assert [0] + names == [0, 1]  # noqa: RUF005 - the operator
    assert seen | {2} == {1, 2}


def test_a_plain_value_can_take_in_a_frozen_one() -> None:
    mine: dict[str, Any] = {"a": [1]}
    mine |= freeze({"b": 2})
    mine.update(freeze({"c": 3}))
    mine["a"] += freeze([2])
    assert mine == {"a": [1, 2], "b": 2, "c": 3}


def test_reading_is_what_it_was() -> None:
    frozen = freeze({"b": [2, 1], "a": {1}})
    assert list(frozen) == ["b", "a"]
    assert list(reversed(frozen)) == ["a", "b"]
    assert frozen.get("c", 7) == 7
    assert sorted(frozen["b"]) == [1, 2]
    assert frozen["b"].index(1) == 1
    assert frozen["a"] <= {1, 2}
    assert "{b}".format(**frozen) == "[2, 1]"
    match frozen:
        case {"b": [first, *_]}:
            assert first == 2
        case _:
            pytest.fail("no match")


def test_the_constructors_take_what_the_builtins_take_and_freeze_deeply() -> None:
    assert FrozenDict() == {}
    assert FrozenDict([("a", [1])], b={2}) == {"a": [1], "b": {2}}
    assert is_frozen(FrozenDict([("a", [1])], b={2}))
    assert FrozenDict.fromkeys("ab", []) == {"a": [], "b": []}
    assert is_frozen(FrozenDict.fromkeys("ab", []))
    assert is_frozen(FrozenList([[1], {}]))
    assert FrozenList() == []
    assert ReadOnlySet("ab") == {"a", "b"}
    assert repr(ReadOnlySet()) == "set()"


class Model(BaseModel):
    data: dict[str, list[int]]
    tags: set[str]


class StrictModel(Model):
    model_config = ConfigDict(strict=True)


@pytest.mark.parametrize("model", [Model, StrictModel])
def test_pydantic_validates_frozen_values(model: type[Model]) -> None:
    made = model.model_validate(freeze({"data": {"a": [1]}, "tags": {"x"}}))
    assert made.data == {"a": [1]}
    assert made.tags == {"x"}
    assert model(data=freeze({"a": [1]}), tags=freeze({"x"})) == made


# --- other values --------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: Any
    y: Any


class Path(tuple):  # noqa: SLOT001 - it is to have attributes
    """A tuple with an attribute."""


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - the untyped kind is what is tested


def test_tuples_are_rebuilt_only_if_something_in_them_changed() -> None:
    same = (1, "a", (2, (3,)))
    assert freeze({"t": same})["t"] is same
    assert freeze(same) is same
    changed = freeze((1, [2], (3, {4})))
    assert changed == (1, [2], (3, {4}))
    assert is_frozen(changed)
    point = freeze(Point([1], 2))
    assert type(point) is Point
    assert type(point.x) is FrozenList
    assert type(freeze(Pair({}, 1)).left) is FrozenDict
    assert type(thaw(point).x) is list
    path = Path([[1]])
    path.name = "p"
    frozen = freeze(path)
    assert type(frozen) is Path
    assert (frozen.name, type(frozen[0])) == ("p", FrozenList)


def test_a_structseq_is_rebuilt_by_its_constructor() -> None:
    odd = time.struct_time([[2020], *range(8)])
    frozen = freeze(odd)
    assert type(frozen) is time.struct_time
    assert type(frozen[0]) is FrozenList


def test_subclasses_become_the_read_only_kind() -> None:
    ordered = OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    assert list(freeze(ordered)) == ["b", "a"]
    for value in (ordered, defaultdict(list, a=[1]), Counter("aab")):
        assert type(freeze(value)) is FrozenDict
        assert freeze(value) == value
        assert type(thaw(value)) is dict

    class Names(list): ...

    assert type(freeze({"n": Names([1])})["n"]) is FrozenList


def test_other_objects_pass_by_reference() -> None:
    model = Model(data={}, tags=set())
    handle = SimpleNamespace(items=[1])
    array = bytearray(b"x")
    frozen = freeze({"model": model, "list": [handle, array], "set": frozenset({1})})
    assert frozen["model"] is model
    assert frozen["list"][0] is handle
    assert frozen["list"][1] is array
    assert thaw(frozen)["list"][0] is handle
    assert freeze(model) is model
    assert thaw(handle) is handle
    assert thaw("text") == "text"


def test_a_container_that_is_there_twice_is_copied_once() -> None:
    shared: list[int] = [1]
    frozen = freeze({"a": shared, "b": [shared]})
    assert frozen["a"] is frozen["b"][0]
    unchanged = ((1,), (2,))
    pair = finish(freeze_in_slices([unchanged, unchanged]))[1]
    assert pair[0] is pair[1] is unchanged
    doubled: list[Any] = []
    for _ in range(200):  # 2**200 elements, were each copied by itself
        doubled = [doubled, doubled]
    assert len(freeze(doubled)) == len(thaw(doubled)) == 2


class Fresh(list):
    """A list whose elements are made while it is read, so that nobody else keeps them alive."""

    def __iter__(self) -> Any:
        return iter([self[0:1]])


class FreshNested(list):
    """The same, with more in each element."""

    def __iter__(self) -> Any:
        return iter([[[self[0:1]]]])


class FreshSets(list):
    """The same, with elements in which there is nothing to look for."""

    def __iter__(self) -> Any:
        return iter([set(self[0:1])])


@pytest.mark.parametrize("kind", [Fresh, FreshNested, FreshSets])
def test_elements_that_nobody_else_keeps_alive_are_not_mixed_up(kind: Any) -> None:
    """A copy is remembered by its source's id, which must not be given to another object meanwhile."""
    value = [kind([number]) for number in range(100)]
    expected = [list(item) for item in value]
    assert freeze(value) == expected
    assert finish(freeze_in_slices(value, items=7))[1] == expected
    assert thaw(value) == expected


def test_flat_dicts_are_looked_into_whatever_the_collector_knows_of_them() -> None:
    """An exact dict that the collector does not track holds no container; one that it tracks may."""
    samples: list[dict[str, Any]] = [
        {"a": []},
        {"a": {}},
        {"a": ({},)},
        {"a": ((1,), ((), {"b": 1}))},
        {"a": {1}},
    ]
    for number in range(3):
        for value in samples:
            assert is_frozen(freeze(value)), (number, value)
        gc.collect()
    for value in ({"a": 1}, {"a": (1, "b")}, {}, {"a": frozenset()}):
        assert type(freeze(value)) is FrozenDict
    large = {str(number): number for number in range(1000)}
    large["x"] = []
    assert is_frozen(freeze(large))
    assert is_frozen(freeze([large, list(range(1000)), [*range(1000), {}]]))


# --- depth and cycles ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: (v,)], ids=["list", "dict", "tuple"]
)
def test_depth_is_no_limit(wrap: Any) -> None:
    depth = 100_000
    assert depth > 10 * sys.getrecursionlimit()
    value: Any = {}
    for _ in range(depth):
        value = wrap(value)
    frozen, thawed = freeze(value), thaw(freeze(value))
    for _ in range(depth):
        (frozen,) = frozen.values() if isinstance(frozen, dict) else frozen
        (thawed,) = thawed.values() if isinstance(thawed, dict) else thawed
    assert type(frozen) is FrozenDict
    assert type(thawed) is dict


def cyclic_list() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def cyclic_dict() -> Any:
    value: dict[str, Any] = {"children": [{}]}
    value["children"][0]["parent"] = value
    return value


def cyclic_tuple() -> Any:
    inner: list[Any] = []
    value = (1, inner)
    inner.append(value)
    return value


def cyclic_deep() -> Any:
    top: list[Any] = []
    value: Any = top
    for _ in range(100_000):
        value = [value]
    top.append(value)
    return value


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (cyclic_list, "value[0]"),
        (cyclic_dict, "value['children'][0]['parent']"),
        (cyclic_tuple, "value[1][0]"),
        (cyclic_deep, "value[0][0][0][0][...][0][0][0][0]"),
    ],
)
def test_a_value_that_contains_itself_is_a_clear_error(make: Any, path: str) -> None:
    for function in (freeze, thaw, lambda value: finish(freeze_in_slices(value))):
        with pytest.raises(CyclicDataError, match="by an id or a key") as caught:
            function(make())
        error = caught.value
        assert error.path == path
        assert error.code == "SF-RUN-CYCLIC-DATA"
        assert isinstance(error, RunError)
        assert isinstance(error, ValueError)
        assert pickle.loads(pickle.dumps(error)).path == path


def test_long_keys_are_cut_in_the_path() -> None:
    value: dict[str, Any] = {}
    value["k" * 1_000_000] = value
    with pytest.raises(CyclicDataError) as caught:
        freeze(value)
    assert len(str(caught.value)) < 1000


# --- slices --------------------------------------------------------------------------------------------


def test_slices_stop_often_enough_whatever_the_shape() -> None:
    flat = list(range(10_000))
    for value in (
        flat,
        dict.fromkeys(flat, SimpleNamespace()),
        [[n] for n in flat],
        [flat] * 3,
        {"a": [{"b": list(flat)}]},
    ):
        stops, frozen = finish(freeze_in_slices(value, items=100))
        assert frozen == value
        assert 90 <= stops <= 500
    assert finish(freeze_in_slices("text")) == (0, "text")
    assert finish(freeze_in_slices({"a": [1]}))[0] == 0


def test_slices_have_a_size() -> None:
    for items, error in ((0, ArgumentValueError), (-1, ArgumentValueError), (1.5, ArgumentTypeError)):
        with pytest.raises(error, match="items"):
            finish(freeze_in_slices([1], items=items))


def test_a_change_between_two_slices_breaks_nothing() -> None:
    value = [[n] for n in range(100)]
    steps = freeze_in_slices(value, items=10)
    next(steps)
    value.clear()
    gc.collect()
    _, frozen = finish(steps)
    assert frozen == [[n] for n in range(100)]
