"""``UnpicklableError``, and where in a value the part is that does not pickle."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from stageflow.context.record import Record
from stageflow.errors import ErrorClass, RunError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UnpicklableError", "culprit", "pickled"]

_DEEPEST: Final = 100
_MOST_TRIED: Final = 20_000
_MOST_SHOWN: Final = 40


class UnpicklableError(RunError, TypeError):
    """Something must go to, or come from, another process, and does not pickle.

    Args:
        path: The way to it, as ``inputs['fetch'].data['rows'][3].socket``.
        type_name: What it is.
        reason: What pickle says.
        fix: What to do about it.

    ```python
    from stageflow.executors import UnpicklableError
    from stageflow.executors.unpicklable import pickled

    rows = [1, 2, {"key": lambda row: row}]
    try:
        pickled(rows, {"data": rows})
    except UnpicklableError as error:
        print(error.path, "-", error.type_name)
        #> data[2]['key'] - function
    ```
    """

    code = "SF-RUN-UNPICKLABLE"
    error_class = ErrorClass.LOGIC

    def __init__(self, path: str, type_name: str, reason: str, *, fix: str = "") -> None:
        self.path = path
        self.type_name = type_name
        self.reason = reason
        super().__init__(
            f"{path} does not pickle, so it cannot cross over to another process: {type_name}: {reason}",
            fix=fix
            or "Hand over what can be pickled, such as a path or an id, and open the rest over there: "
            "ProcessExecutor(ports=...)",
        )


def pickled(value: object, parts: Mapping[str, object], *, fix: str = "") -> bytes:
    """Pickle *value*.

    Args:
        value: What is to be pickled.
        parts: What it consists of, by name; only looked at if it does not pickle.
        fix: What to do then, if there is something better to say than usual.

    Raises:
        UnpicklableError: It does not pickle.
        MemoryError: There is no memory for it.
    """
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        raise
    except Exception as exc:
        path, part, reason = culprit(parts) or (" and ".join(parts), value, exc)
        text = f"{type(reason).__name__}: {reason}"
        raise UnpicklableError(path, type(part).__qualname__, text, fix=fix) from exc


def culprit(parts: Mapping[str, object]) -> tuple[str, object, Exception] | None:
    """Find what does not pickle: the way to it, the thing itself, and what pickle says. None if all does.

    ```python
    from stageflow.executors.unpicklable import culprit

    print(culprit({"result": {"rows": [0, (1, print, iter)]}}))
    #> None
    print(culprit({"result": {"rows": [0, (1, open(0, closefd=False))]}})[0])
    #> result['rows'][1][1]
    ```
    """
    found: tuple[str, object, Exception] | None = None
    inner: Iterator[tuple[str, object]] = iter(parts.items())
    names: list[str] = []
    tried, seen = 0, set[int]()
    while len(names) <= _DEEPEST:
        for name, part in inner:
            tried += 1
            error = _refusal(part) if tried <= _MOST_TRIED and id(part) not in seen else None
            if error is not None:
                names.append(name)
                seen.add(id(part))
                found = _path(names), part, error
                inner = _inside(part)
                break
        else:
            break
    return found


def _path(names: list[str]) -> str:
    if len(names) > _MOST_SHOWN:
        half = _MOST_SHOWN // 2
        names = [*names[:half], "[...]", *names[-half:]]
    return "".join(names)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: object) -> int:
        return 0


def _refusal(value: object) -> Exception | None:
    try:
        pickle.Pickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as exc:  # noqa: BLE001 - whatever a value raises when it is to be pickled
        return exc
    return None


def _inside(value: object) -> Iterator[tuple[str, object]]:
    """Yield what a value consists of, each with what to write behind the value to get there."""
    whole: Any = value
    if isinstance(value, Mapping):
        items = cast("list[tuple[object, object]]", list(whole.items()))
        yield from ((f"[{_shown(key)}]", item) for key, item in items)
        yield from ((f".key({_shown(key)})", key) for key, _ in items)
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{number}]", item) for number, item in enumerate(whole))
    elif isinstance(value, (set, frozenset)):
        yield from ((f".item({_shown(item)})", item) for item in list(whole))
    if isinstance(value, BaseException):
        yield from ((f".args[{number}]", item) for number, item in enumerate(value.args))
    if isinstance(value, Record):
        yield from ((f".{name}", getattr(value, name)) for name in value.__match_args__)
        return
    for name in _attributes(whole):
        try:
            yield f".{name}", getattr(whole, name)
        except Exception:  # noqa: BLE001, S112 - an attribute that raises is not what pickle looked at
            continue


def _attributes(value: Any) -> Iterator[str]:
    """Yield the names of attributes that pickle may have looked at."""
    if isinstance(value, (type, FunctionType, ModuleType)):
        return  # they go by their names
    yield from list(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
    if callable(value):  # a method, or a partial
        yield from ("__self__", "func", "args", "keywords")


def _shown(key: object) -> str:
    text = shown(key)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
