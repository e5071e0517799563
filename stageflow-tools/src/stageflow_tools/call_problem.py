"""Why what a model has asked for is not a call that can be executed."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["CallProblem", "UnresolvedReason"]


class UnresolvedReason(StrEnum):
    """Why a call is unresolved.

    Attributes:
        MALFORMED: It is no call of any known shape, or one without a name.
        UNSUPPORTED: It is a call of a kind that names no tool, such as one that operates a computer.
        BAD_ID: Its id is no text that could be an id.
        DUPLICATE_ID: An earlier call has the same id.
        BAD_NAME: Its name is no text that could be the name of a tool.
        UNKNOWN_TOOL: No tool has that name.
        LOOKUP_FAILED: Looking for the tool has raised.
        HALF_STREAMED: Its arguments end before they are complete.
        INVALID_JSON: Its arguments are text that is no JSON.
        NOT_AN_OBJECT: Its arguments are JSON, but no object.
        NOT_JSON: Its arguments hold what JSON cannot say: NaN, infinity, half a surrogate pair, an object of Python.
        DUPLICATE_KEY: An object in its arguments has a key twice, so that nobody knows which counts.
        TOO_LARGE: Its arguments are larger than the limit.
        TOO_DEEP: Its arguments, or what holds the call, are nested deeper than the limit.
        TOO_MANY: There are more calls than the limit; one such entry stands for all that were left out.

    ```python
    from stageflow_tools.call_problem import UnresolvedReason

    print(UnresolvedReason("half_streamed").name)
    #> HALF_STREAMED
    ```
    """

    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    BAD_ID = "bad_id"
    DUPLICATE_ID = "duplicate_id"
    BAD_NAME = "bad_name"
    UNKNOWN_TOOL = "unknown_tool"
    LOOKUP_FAILED = "lookup_failed"
    HALF_STREAMED = "half_streamed"
    INVALID_JSON = "invalid_json"
    NOT_AN_OBJECT = "not_an_object"
    NOT_JSON = "not_json"
    DUPLICATE_KEY = "duplicate_key"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    TOO_MANY = "too_many"


class CallProblem(NamedTuple):
    """One reason, and the sentence for the model that made the call, or for whoever reads the log."""

    reason: UnresolvedReason
    error: str
