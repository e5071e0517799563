"""``classify``: what kind of trouble an exception is, also one that is not ours."""

from __future__ import annotations

import errno
import sys
from typing import Any, Final, cast

from stageflow.errors import ErrorClass, StageError, StageflowError

__all__ = ["ErrorClass", "classify", "is_retryable", "recognise"]

_TRANSIENT, _PERMANENT, _LOGIC, _SYSTEMIC, _POLICY = ErrorClass
_NAMES: Final = frozenset(kind.value for kind in ErrorClass)

# The first that fits counts, so an exception stands before those it derives from.
_TYPES: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], ErrorClass], ...]] = (
    ((TimeoutError, ConnectionError, BlockingIOError, InterruptedError), _TRANSIENT),
    (PermissionError, _POLICY),
    ((MemoryError, ImportError, SystemError), _SYSTEMIC),
    (
        (
            TypeError,
            AttributeError,
            NameError,
            AssertionError,
            LookupError,
            ArithmeticError,
            NotImplementedError,
            RecursionError,
            SyntaxError,
            StopIteration,
            StopAsyncIteration,
        ),
        _LOGIC,
    ),
)


def _numbers(*names: str) -> frozenset[int]:
    """Return those error numbers that this platform knows."""
    return frozenset(number for name in names if (number := getattr(errno, name, None)) is not None)


_ERRNO: Final = (
    (
        _numbers("EHOSTUNREACH", "EHOSTDOWN", "ENETUNREACH", "ENETDOWN", "ENETRESET", "EBUSY", "ENOBUFS"),
        _TRANSIENT,
    ),
    (_numbers("ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "EIO"), _SYSTEMIC),
)

_TRANSIENT_STATUS: Final = frozenset({408, 425, 429})
_POLICY_STATUS: Final = frozenset({401, 402, 403, 407, 451})
_CLIENT_ERROR, _SERVER_ERROR, _NO_STATUS = 400, 500, 600


def classify(error: BaseException) -> ErrorClass:
    """Say what kind of trouble *error* is.

    An exception may say it itself, by an attribute ``error_class``; ours do. Others are known by their type, by the
    error number of an ``OSError``, or by an HTTP status, as clients of model providers carry one. What wraps another
    error is what it wraps. What nobody recognises is PERMANENT: to repeat it would only be a hope.

    ```python
    from stageflow.observability import classify

    print(classify(ConnectionResetError()), classify(KeyError("text")), classify(ValueError("no such date")))
    #> transient logic permanent
    ```
    """
    return recognise(error) or _PERMANENT


def is_retryable(error: BaseException) -> bool:
    """Say whether the same may work if it is tried again.

    ```python
    from stageflow import StageExecutionError
    from stageflow.observability import is_retryable

    print(is_retryable(StageExecutionError("llm", ConnectionResetError())))
    #> True
    ```
    """
    cause = _cause(error)
    return cause.retryable if isinstance(cause, StageflowError) else classify(cause) is _TRANSIENT


def recognise(error: BaseException) -> ErrorClass | None:
    """Say what kind of trouble *error* is, or None if nothing tells."""
    error = _cause(error)
    said = getattr(error, "error_class", None)
    if isinstance(said, str) and said in _NAMES:
        return ErrorClass(said)
    if isinstance(error, BaseExceptionGroup):
        return _group(cast("BaseExceptionGroup[BaseException]", error))
    status = _status(error)
    if status is not None:
        return status
    for types, found in _TYPES:
        if isinstance(error, types):
            return found
    return _system(error) if isinstance(error, OSError) else None


def _cause(error: BaseException) -> BaseException:
    """Look inside what only says in which stage it happened."""
    while isinstance(error, StageError):
        error = error.original
    return error


def _group(group: BaseExceptionGroup[BaseException]) -> ErrorClass | None:
    """A group is what its members are, and worth repeating only if all of them are."""
    found = [recognise(member) for member in group.exceptions]
    return next((kind for kind in found if kind is not _TRANSIENT), _TRANSIENT)


def _status(error: Any) -> ErrorClass | None:
    """Read the HTTP status of an error, as the clients of most providers carry it."""
    status = getattr(error, "status_code", None)
    if status is None:
        status = getattr(getattr(error, "response", None), "status_code", None)
    if not isinstance(status, int) or not _CLIENT_ERROR <= status < _NO_STATUS:
        return None
    if status in _TRANSIENT_STATUS or status >= _SERVER_ERROR:
        return _TRANSIENT
    return _POLICY if status in _POLICY_STATUS else _PERMANENT


def _system(error: OSError) -> ErrorClass | None:
    for numbers, found in _ERRNO:
        if error.errno in numbers:
            return found
    socket: Any = sys.modules.get("socket")
    # A name that cannot be looked up just now; whoever got this error has imported the module.
    return _TRANSIENT if socket is not None and isinstance(error, socket.gaierror) else None
