"""Exceptions on their way from one process to another."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, cast

from stageflow.errors import shown
from stageflow.executors.worker_errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

    Load = Callable[[bytes], object]

__all__ = ["pickled_error"]

_NOTES = "__notes__"
# What constructors of built-in exceptions keep outside of args and __dict__.
_FIELDS = (
    "errno",
    "strerror",
    "filename",
    "filename2",
    "name",
    "path",
    "code",
    "value",
    "msg",
    "lineno",
    "offset",
    "text",
    "end_lineno",
    "end_offset",
    "encoding",
    "object",
    "start",
    "end",
    "reason",
)


def pickled_error(error: BaseException, load: Load) -> bytes:
    """Pickle an exception so that it can be loaded: with its type, its arguments, its attributes and its notes.

    Not all do by themselves: Python calls the constructor of the class with ``args``, and one that takes other
    arguments raises. Those are rebuilt without it. One that does not pickle at all is replaced by a ``RemoteError``.

    Args:
        error: The exception.
        load: What the other side loads it with, to see whether that works.

    ```python
    import pickle

    from stageflow.executors.remote_errors import pickled_error


    class NoRoomError(Exception):
        def __init__(self, *, needed):
            super().__init__(f"{needed} bytes are needed")
            self.needed = needed


    error = pickle.loads(pickled_error(NoRoomError(needed=3), pickle.loads))
    print(repr(error), error.needed)
    #> NoRoomError('3 bytes are needed') 3
    ```
    """
    for form in (error, _Rebuilt(error)):
        try:
            data = pickle.dumps(form, pickle.HIGHEST_PROTOCOL)
            again: Any = load(data)
            if type(again) is type(error) and vars(again).keys() == vars(error).keys():
                return data
        except Exception:  # noqa: BLE001, S112 - whatever the parts of somebody's exception raise: there is another form
            continue
    return pickle.dumps(_substitute(error), pickle.HIGHEST_PROTOCOL)


class _Rebuilt:
    """Pickles as an exception that is made without its constructor."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        fields = {
            name: value
            for name in _FIELDS
            if (value := getattr(error, name, None)) is not None and name not in vars(error)
        }
        return _rebuild, (type(error), error.args, fields, dict(vars(error)))


def _rebuild(
    kind: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any], attributes: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    for name, value in fields.items():
        try:
            setattr(error, name, value)
        except (
            AttributeError,
            TypeError,
        ):  # a property of the class, which finds its value in the attributes
            continue
    vars(error).update(attributes)
    return error


def _substitute(error: BaseException) -> RemoteError:
    from stageflow.observability.taxonomy import classify, is_retryable

    kind = type(error)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - it is somebody else's
        text = shown(error)
    substitute = RemoteError(
        f"{kind.__module__}.{kind.__qualname__}", text, classify(error), retryable=is_retryable(error)
    )
    for note in cast("list[object]", getattr(error, _NOTES, [])):
        substitute.add_note(str(note))
    return substitute
