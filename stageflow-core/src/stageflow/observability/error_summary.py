"""An error in four fields, for tables, logs and answers to callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stageflow.context.checks import text_of
from stageflow.errors import CircuitBreakerOpenError, StageError, StageflowError
from stageflow.observability.taxonomy import ErrorClass, is_retryable, recognise

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["error_summary_to_stages_patch", "error_summary_to_string", "summarize_pipeline_error"]

_MOST: Final = 500


def summarize_pipeline_error(exc: BaseException) -> dict[str, Any]:
    """Return what an error is: ``code``, ``type``, ``message`` (its first 500 characters) and ``retryable``.

    The code is ``TIMEOUT`` or ``CIRCUIT_OPEN``, for errors of Stageflow theirs (``SF-...``), for others that are
    recognised their class (``TRANSIENT``, ``LOGIC``, ...), else ``UNKNOWN``. An error of a stage is summarised as
    what was raised in it, with the stage's name as a fifth field. ``retryable`` is about another run, later: it is true
    for ``CIRCUIT_OPEN``, though within the run nothing is repeated then.

    ```python
    from stageflow.observability import summarize_pipeline_error

    print(summarize_pipeline_error(TimeoutError("the model took too long")))
    #> {'code': 'TIMEOUT', 'type': 'TimeoutError', 'message': 'the model took too long', 'retryable': True}
    print(summarize_pipeline_error(ValueError("no such date"))["code"])
    #> UNKNOWN
    ```
    """
    stage: str | None = None
    cause = exc
    while isinstance(cause, StageError):
        stage, cause = stage or cause.stage, cause.original
    message = cause.what if isinstance(cause, StageflowError) else text_of(cause)
    code = _code(cause, message)
    summary: dict[str, Any] = {
        "code": code,
        "type": type(cause).__name__,
        "message": message[:_MOST],
        "retryable": code == "CIRCUIT_OPEN" or is_retryable(cause),
    }
    if stage is not None:
        summary["stage"] = stage
    return summary


def _code(error: BaseException, message: str) -> str:
    if isinstance(error, TimeoutError):
        return "TIMEOUT"
    if isinstance(error, CircuitBreakerOpenError):
        return "CIRCUIT_OPEN"
    if isinstance(error, StageflowError):
        return error.code
    if "circuit breaker" in message.lower():  # breakers of others have no class in common
        return "CIRCUIT_OPEN"
    found = recognise(error)
    # PERMANENT is also what nobody knows anything of: it says no more than UNKNOWN.
    return "UNKNOWN" if found is None or found is ErrorClass.PERMANENT else found.name


def error_summary_to_string(error_summary: Mapping[str, Any]) -> str:
    """Return a summary in one line.

    ```python
    from stageflow.observability import error_summary_to_string, summarize_pipeline_error

    print(error_summary_to_string(summarize_pipeline_error(TimeoutError("too slow"))))
    #> TIMEOUT: too slow
    ```
    """
    return f"{error_summary.get('code') or 'UNKNOWN'}: {error_summary.get('message') or ''}".strip()


def error_summary_to_stages_patch(error_summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary as what a run's record of its stages is updated with.

    ```python
    from stageflow.observability import error_summary_to_stages_patch

    print(error_summary_to_stages_patch({"code": "TIMEOUT"}))
    #> {'failure': {'error': {'code': 'TIMEOUT'}}}
    ```
    """
    return {"failure": {"error": dict(error_summary)}}
