"""Read-only dicts, lists and sets: what a stage has handed over, nobody changes any more.

``freeze`` copies dicts, lists and sets once, deeply, into subclasses whose mutators raise; ``thaw``
gives plain ones back. Being subclasses, the frozen containers work wherever a dict, a list or a set
does: ``isinstance``, ``json.dumps``, ``pickle``, ``==``, ``|``, pydantic. ``copy`` and ``deepcopy``
give plain, mutable values.

The limits, on purpose:

- Frozen models, dataclasses, arrays, file handles and every other object pass by reference.
- Code that calls the base class (``dict.__setitem__(frozen, ...)``) or C code gets past the guard.
- The kind of a subclass is not kept: an ``OrderedDict`` or ``defaultdict`` becomes a ``FrozenDict``.

```python
import json
from stageflow.context.frozen import freeze, thaw

output = freeze({"tags": ["a", "b"]})
print(json.dumps(output))
#> {"tags": ["a", "b"]}
print(thaw(output)["tags"] + ["c"])
#> ['a', 'b', 'c']
```
"""

from __future__ import annotations

from gc import is_tracked
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, final

from stageflow.context.checks import check_count
from stageflow.errors import ReadOnlyDataError, RunError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

__all__ = [
    "CyclicDataError",
    "FrozenDict",
    "FrozenList",
    "ReadOnlySet",
    "freeze",
    "freeze_in_slices",
    "freeze_small",
    "thaw",
]

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")


class CyclicDataError(RunError, ValueError):
    """A value contains itself, so there is no end to copying it.

    Args:
        path: Where the value meets itself, as ``"value['children'][0]"``.

    ```python
    from stageflow.context.frozen import CyclicDataError, freeze

    tree = {"children": []}
    tree["children"].append(tree)
    try:
        freeze(tree)
    except CyclicDataError as error:
        print(error.path)
        #> value['children'][0]
    ```
    """

    code = "SF-RUN-CYCLIC-DATA"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"The value contains itself: {path} is one of the containers it is in",
            fix="Refer to the parent by an id or a key, or hand the structure over inside an object of your own class",
        )


def _refuse(operation: str) -> Any:
    """Make the method that stands where a mutator was."""

    def refuse(self: object, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG001 - any signature
        raise ReadOnlyDataError(operation)

    refuse.__name__ = refuse.__qualname__ = operation
    refuse.__doc__ = f"Raise ReadOnlyDataError: {operation} would change the value."
    return refuse


@final
class FrozenDict(dict[_K, _V]):
    """A dict that nobody changes; everything in it is frozen as well.

    Args:
        *args: What ``dict()`` takes.
        **kwargs: What ``dict()`` takes.

    ```python
    from stageflow.context.frozen import FrozenDict

    settings = FrozenDict(model="small", stop=["."])
    print(settings | {"model": "large"})
    #> {'model': 'large', 'stop': ['.']}
    ```
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> FrozenDict[_K, _V]:
        """Make a frozen copy."""
        return cast("FrozenDict[_K, _V]", freeze(dict(*args, **kwargs)))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: ``__new__`` has filled the dict, and a second call must not."""

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None, /) -> FrozenDict[Any, Any]:
        """Make a frozen dict with *value* under every key, as ``dict.fromkeys``."""
        return cast("FrozenDict[Any, Any]", freeze(dict.fromkeys(iterable, value)))

    def copy(self) -> dict[_K, _V]:
        """Return a plain dict with the same, still frozen, values."""
        return dict(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[_K, _V]:
        return _deepcopy(dict(self), memo)

    def __reduce_ex__(self, protocol: object) -> Any:
        return FrozenDict, (dict(self),)

    __setitem__ = _refuse("d[key] = value")
    __delitem__ = _refuse("del d[key]")
    __ior__ = _refuse("d |= other")
    clear = _refuse("clear()")
    pop = _refuse("pop()")
    popitem = _refuse("popitem()")
    setdefault = _refuse("setdefault()")
    update = _refuse("update()")


@final
class FrozenList(list[_T]):
    """A list that nobody changes; everything in it is frozen as well.

    Args:
        iterable: The elements.

    ```python
    from stageflow.context.frozen import FrozenList

    print(FrozenList([3, 1]) + [2], sorted(FrozenList([3, 1])))
    #> [3, 1, 2] [1, 3]
    ```
    """

    __slots__ = ()

    def __new__(cls, iterable: Iterable[_T] = (), /) -> FrozenList[_T]:
        """Make a frozen copy."""
        return cast("FrozenList[_T]", freeze(list(iterable)))

    def __init__(self, iterable: Iterable[_T] = (), /) -> None:
        """Do nothing: ``__new__`` has filled the list, and a second call must not."""

    def copy(self) -> list[_T]:
        """Return a plain list with the same, still frozen, elements."""
        return list(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> list[_T]:
        return _deepcopy(list(self), memo)

    def __reduce_ex__(self, protocol: object) -> Any:
        return FrozenList, (list(self),)

    __setitem__ = _refuse("a[i] = value")
    __delitem__ = _refuse("del a[i]")
    __iadd__ = _refuse("a += other")
    __imul__ = _refuse("a *= n")
    append = _refuse("append()")
    clear = _refuse("clear()")
    extend = _refuse("extend()")
    insert = _refuse("insert()")
    pop = _refuse("pop()")
    remove = _refuse("remove()")
    reverse = _refuse("reverse()")
    sort = _refuse("sort()")


@final
class ReadOnlySet(set[_T]):
    """A ``set`` that nobody changes.

    It is a ``set`` for ``isinstance``, which the builtin ``frozenset`` is not; like a set, and unlike
    a ``frozenset``, it has no hash.

    Args:
        iterable: The elements.

    ```python
    from stageflow.context.frozen import ReadOnlySet

    seen = ReadOnlySet({1, 2})
    print(seen | {3}, isinstance(seen, set))
    #> {1, 2, 3} True
    ```
    """

    __slots__ = ()

    def __new__(cls, iterable: Iterable[_T] = (), /) -> ReadOnlySet[_T]:
        """Make a frozen copy."""
        return cast("ReadOnlySet[_T]", freeze(set(iterable)))

    def __init__(self, iterable: Iterable[_T] = (), /) -> None:
        """Do nothing: ``__new__`` has filled the set, and a second call must not."""

    def copy(self) -> set[_T]:
        """Return a plain set with the same elements."""
        return set(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> set[_T]:
        return _deepcopy(set(self), memo)

    def __reduce_ex__(self, protocol: object) -> Any:
        return ReadOnlySet, (list(self),)

    def __repr__(self) -> str:
        return repr(set(self))

    __iand__ = _refuse("s &= other")
    __ior__ = _refuse("s |= other")
    __isub__ = _refuse("s -= other")
    __ixor__ = _refuse("s ^= other")
    add = _refuse("add()")
    clear = _refuse("clear()")
    difference_update = _refuse("difference_update()")
    discard = _refuse("discard()")
    intersection_update = _refuse("intersection_update()")
    pop = _refuse("pop()")
    remove = _refuse("remove()")
    symmetric_difference_update = _refuse("symmetric_difference_update()")
    update = _refuse("update()")


def _deepcopy(plain: _T, memo: dict[int, Any]) -> _T:
    from copy import deepcopy  # only whoever calls deepcopy gets here, so it is loaded

    return deepcopy(plain, memo)


# --- making them ---------------------------------------------------------------------------------------
#
# Each container is first copied in one C call, then its children are replaced in that copy. So a value
# that somebody else changes meanwhile can never break an iteration, and flat values cost little more
# than a copy. The walk has a stack of its own, so depth is no limit; what is not deep goes a shorter way.

_SCALARS: frozenset[Any] = frozenset({str, int, float, bool, type(None), bytes, complex})
_PASS: frozenset[Any] = _SCALARS | {FrozenDict, FrozenList, ReadOnlySet}
_CONTAINERS: Any = (dict, list, set, tuple)

_dict: Any = dict
_list: Any = list
_set: Any = set
_tuple: Any = tuple
_new_dict, _fill_dict, _put_dict = _dict.__new__, _dict.update, _dict.__setitem__
_new_list, _fill_list, _put_list = _list.__new__, _list.extend, _list.__setitem__
_new_set, _fill_set = _set.__new__, _set.update

_LARGE = 24  # from so many elements on, one C call over their types is quicker than a loop
_QUICK = range(_LARGE, 1 << 62)
_SHALLOW = 30
_SMALL = 64
_ANY_SIZE = 1 << 62
_OPEN: Any = object()  # in the memo: a container that we are inside of
_PAUSE: Any = object()  # in place of an element: time to yield


def freeze(value: _T) -> _T:
    """Return *value* with its dicts, lists and sets copied, deeply, into read-only ones.

    Costs little more than a copy for a flat dict of scalars, and nothing for what is frozen already.
    Nesting has no limit, and a container that is in the value twice is copied once.

    Args:
        value: Anything. Tuples are rebuilt only if something in them changed, and keep their type
            (named tuples); all other objects come back as they are.

    Raises:
        CyclicDataError: A container is inside itself.

    ```python
    from stageflow.context.frozen import freeze
    from stageflow.errors import ReadOnlyDataError

    output = freeze({"hits": [1, 2]})
    try:
        output["hits"].append(3)
    except ReadOnlyDataError as error:
        print(error.operation)
        #> append()
    ```
    """
    if type(value) is dict:  # by far the most frequent: a small flat dict
        target: Any = _new_dict(FrozenDict)
        frozen: _T = target
        _fill_dict(target, value)
        if not is_tracked(value):  # CPython up to 3.13 says so: it holds nothing that can hold something
            return frozen
        for item in target.values():
            if type(item) not in _PASS and isinstance(item, _CONTAINERS):
                break
        else:
            return frozen
    elif type(value) in _PASS or not isinstance(value, _CONTAINERS):
        return value
    return cast("_T", _convert(value, _FREEZING))


def freeze_small(value: dict[Any, Any]) -> FrozenDict[Any, Any] | None:
    """Freeze a dict at little more than the cost of a copy; None for one that is large, or goes deep.

    None also for one that is inside itself. So it never takes longer than a fraction of a millisecond.

    ```python
    from stageflow.context.frozen import freeze_small

    print(freeze_small({"texts": ["hi"]}), freeze_small({"numbers": [0] * 1000}))
    #> {'texts': ['hi']} None
    ```
    """
    if is_tracked(value):
        try:
            frozen: FrozenDict[Any, Any] = _shallow(value, _FREEZING, {}, _SHALLOW, _SMALL)
        except _TooDeepError:
            return None
        return frozen
    frozen = _new_dict(FrozenDict)
    _fill_dict(frozen, value)
    return frozen


def freeze_in_slices(value: _T, *, items: int = 20_000) -> Generator[None, None, _T]:
    """Freeze a very large value, stopping for the caller after about every *items* elements.

    A generator: it yields None whenever an event loop may want its turn, and returns the frozen value
    (``frozen = yield from ...``, or ``StopIteration.value``). A container is copied in one go before its
    elements are looked at, so whoever changes the value meanwhile breaks nothing.

    Args:
        value: Anything, as for ``freeze``.
        items: Elements looked at between two stops, 1 or more; 20,000 take a few milliseconds.

    Raises:
        ArgumentTypeError: *items* is no int.
        ArgumentValueError: *items* is less than 1.
        CyclicDataError: A container is inside itself.

    ```python
    from stageflow.context.frozen import freeze_in_slices

    def drive(steps):
        stops = 0
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return stops, len(done.value)
            stops += 1

    print(drive(freeze_in_slices(list(range(100)), items=30)))
    #> (3, 100)
    ```
    """
    if type(value) in _PASS or not isinstance(value, _CONTAINERS):
        return value
    check_count("freeze_in_slices", "items", items, least=1)
    steps = _walk(value, _FREEZING, items=items)
    while (step := next(steps)) is _PAUSE:
        yield
    return cast("_T", step)


def thaw(value: _T) -> _T:
    """Return *value* with its dicts, lists and sets, frozen or not, copied deeply into plain ones.

    Args:
        value: Anything. All other objects come back as they are; to copy those too, ``copy.deepcopy``.

    Raises:
        CyclicDataError: A container is inside itself.

    ```python
    from stageflow.context.frozen import freeze, thaw

    mine = thaw(freeze({"hits": [1, 2]}))
    mine["hits"].append(3)
    print(mine)
    #> {'hits': [1, 2, 3]}
    ```
    """
    if type(value) in _SCALARS or not isinstance(value, _CONTAINERS):
        return value
    return cast("_T", _convert(value, _THAWING))


class _Kinds:
    """What a walk makes of dicts, lists and sets, and the types it has nothing to do for."""

    __slots__ = ("dict_type", "list_type", "passing", "set_type")

    def __init__(self, dict_type: type, list_type: type, set_type: type, passing: frozenset[Any]) -> None:
        self.dict_type = dict_type
        self.list_type = list_type
        self.set_type = set_type
        self.passing = passing


_FREEZING = _Kinds(FrozenDict, FrozenList, ReadOnlySet, _PASS)
_THAWING = _Kinds(dict, list, set, _SCALARS)


def _convert(value: Any, kinds: _Kinds) -> Any:
    """Copy a container and all in it, in one go."""
    try:
        return _shallow(value, kinds, {}, _SHALLOW)
    except _TooDeepError:
        return next(_walk(value, kinds))


class _TooDeepError(Exception):
    """A value that ``_shallow`` leaves to ``_walk``."""


def _shallow(
    source: Any, kinds: _Kinds, memo: dict[int, tuple[Any, Any]], depth: int, most: int = _ANY_SIZE
) -> Any:
    """Copy a container that is not deep: for what stages return, up to twice as quick as a walk.

    Neither may it hold more than *most* elements, nor may there be more than so many containers in it.
    """
    if not depth or len(source) > most or len(memo) > most:
        raise _TooDeepError
    target, pairs, put = _copy(source, kinds, _QUICK)
    if pairs is _NOTHING:
        memo[id(source)] = target, source
        return target
    memo[id(source)] = _OPEN, source  # the source too, so that its id stays its own
    passing = kinds.passing
    changed = False
    for key, item in pairs:
        if type(item) in passing or not isinstance(item, _CONTAINERS):
            continue
        known = memo.get(id(item))
        copy = _shallow(item, kinds, memo, depth - 1, most) if known is None else known[0]
        if copy is _OPEN:  # the walk knows the way to here
            raise _TooDeepError
        if copy is not item:
            put(target, key, copy)
            changed = True
    if put is _put_part:
        target = _rebuilt(source, target, changed)
    memo[id(source)] = target, source
    return target


def _walk(  # noqa: C901, PLR0912 - one loop that goes down and up; apart, each container costs more calls
    root: Any, kinds: _Kinds, *, items: int = 0
) -> Iterator[Any]:
    """Copy the container *root* and all in it, and yield the copy; with *items*, first yield pauses.

    There is a pause after about so many elements.
    """
    passing = kinds.passing
    quick = range(_LARGE, items) if items else _QUICK
    left = items
    memo: dict[int, Any] = {}  # what became of a container, by its id
    sources: list[Any] = []  # the containers, kept alive so that the ids stay theirs
    above: list[tuple[Any, ...]] = []  # the containers that we are inside of, and how far we got
    source = root
    target, pairs, put = _copy(source, kinds, quick)
    while True:
        # Down: look at what is in a container until that is one with more in it.
        changed = False
        memo[id(source)] = _OPEN
        sources.append(source)
        if items and len(source) > items:
            pairs = _paced(pairs, items)
        while True:
            for key, item in pairs:
                if type(item) in passing or not isinstance(item, _CONTAINERS):
                    if item is _PAUSE:
                        yield _PAUSE
                    continue
                known = memo.get(id(item))
                if known is _OPEN:
                    raise CyclicDataError(_path([*(frame[-1] for frame in above), key]))
                if known is None:
                    known, inner, replace = _copy(item, kinds, quick)
                    if items:
                        left -= 1 + len(item)
                        if left <= 0:
                            left = items
                            yield _PAUSE
                    if inner is not _NOTHING:
                        above.append((source, target, pairs, put, changed, key))
                        source, target, pairs, put = item, known, inner, replace
                        break
                    memo[id(item)] = known
                    sources.append(item)
                if known is not item:
                    put(target, key, known)
                    changed = True
            else:
                # Up: this one is done; go on with the one it is in.
                done = memo[id(source)] = _rebuilt(source, target, changed) if put is _put_part else target
                if not above:
                    yield done  # the last: nobody asks for more
                same = done is source
                source, target, pairs, put, changed, key = above.pop()
                if not same:
                    put(target, key, done)
                    changed = True
                continue
            break


def _copy(source: Any, kinds: _Kinds, quick: range) -> tuple[Any, Any, Any]:
    """Copy one container: the copy, an iterator over what is in it by key, how to replace that."""
    if isinstance(source, _dict):
        target = _new_dict(kinds.dict_type)
        _fill_dict(target, source)
        if (type(source) is _dict and not is_tracked(source)) or (
            len(target) in quick and kinds.passing.issuperset(map(type, target.values()))
        ):
            return target, _NOTHING, _put_dict
        return target, iter(target.items()), _put_dict
    if isinstance(source, list):
        target = _new_list(kinds.list_type)
        _fill_list(target, source)
        if len(target) in quick and kinds.passing.issuperset(map(type, target)):
            return target, _NOTHING, _put_list
        return target, enumerate(target), _put_list
    if isinstance(source, set):  # what is in a set has a hash, so it does not change
        target = _new_set(kinds.set_type)
        _fill_set(target, source)
        return target, _NOTHING, None
    return list(source), enumerate(source), _put_part


def _put_part(parts: list[Any], index: int, value: Any) -> None:
    """Replace an element of a tuple, in the list that it is to be rebuilt from."""
    parts[index] = value


_NOTHING: tuple[tuple[Any, Any], ...] = ()


def _paced(pairs: Iterable[tuple[Any, Any]], items: int) -> Iterator[tuple[Any, Any]]:
    for number, pair in enumerate(pairs, 1):
        yield pair
        if number % items == 0:
            yield None, _PAUSE


def _rebuilt(source: object, parts: list[Any], changed: bool) -> Any:  # noqa: FBT001 - internal
    """Return the tuple *source* with other elements, of the same type."""
    if not changed:
        return source
    kind: Any = type(source)
    try:
        target = _tuple.__new__(kind, parts)
    except TypeError:  # a structseq, as time.struct_time: its constructor alone makes one
        return kind(parts)
    if hasattr(source, "__dict__"):
        target.__dict__.update(source.__dict__)
    return target


_PATH_ENDS = 4
_KEY_SHOWN = 40


def _path(keys: list[Any]) -> str:
    """Write the way through *keys* as an expression, leaving out the middle of a long one."""
    parts = [f"[{key!r:.{_KEY_SHOWN}}]" for key in keys]
    if len(parts) > 2 * _PATH_ENDS:
        parts[_PATH_ENDS:-_PATH_ENDS] = ["[...]"]
    return "value" + "".join(parts)
