"""The headers of W3C Trace Context: read as the specification says, and written in its version 00.

https://www.w3.org/TR/trace-context/ - whatever does not follow it is as good as not there.
"""

from __future__ import annotations

from os import urandom
from typing import Final, NamedTuple

__all__ = [
    "SAMPLED",
    "TraceParent",
    "format_traceparent",
    "new_span_id",
    "new_trace_id",
    "parse_traceparent",
    "parse_tracestate",
]

SAMPLED: Final = 1
_KNOWN_FLAGS: Final = 3  # sampled, and random (Level 2); an unknown flag must not be passed on

_HEX: Final = frozenset("0123456789abcdef")
_LENGTH: Final = 55
_MOST_MEMBERS: Final = 32
_KEY = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"


class TraceParent(NamedTuple):
    """What a ``traceparent`` header says."""

    trace_id: str
    span_id: str
    flags: int


def parse_traceparent(header: str) -> TraceParent | None:
    """Read a ``traceparent`` header; None if it is invalid.

    ```python
    from stageflow.observability.traceparent import parse_traceparent

    parent = parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    print(parent.trace_id, parent.span_id, parent.flags)
    #> 0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 1
    print(parse_traceparent("00-00000000000000000000000000000000-b7ad6b7169203331-01"))
    #> None
    ```
    """
    header = header.strip(" \t")
    version, trace_id, span_id, flags = header[:2], header[3:35], header[36:52], header[53:_LENGTH]
    sound = (
        len(header) >= _LENGTH
        and header[2] == header[35] == header[52] == "-"
        and all(_HEX.issuperset(part) for part in (version, trace_id, span_id, flags))
        and version != "ff"
        and trace_id.strip("0")
        and span_id.strip("0")
        # Version 00 ends here; a later one may have more, after another dash.
        and (len(header) == _LENGTH or (version != "00" and header[_LENGTH] == "-"))
    )
    return TraceParent(trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS) if sound else None


def parse_tracestate(header: str) -> str:
    """Return a ``tracestate`` header to pass on, or nothing if it is invalid.

    ```python
    from stageflow.observability.traceparent import parse_tracestate

    print(parse_tracestate("rojo=1, ,congo=2"))
    #> rojo=1,congo=2
    ```
    """
    import re  # only where a caller sends one

    members = [member for part in header.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > _MOST_MEMBERS or len(keys) < len(members):
        return ""
    return ",".join(members) if all(re.fullmatch(f"{_KEY}={_VALUE}", one) for one in members) else ""


def format_traceparent(trace_id: str, span_id: str, flags: int) -> str:
    """Write a ``traceparent`` header."""
    return f"00-{trace_id}-{span_id}-{flags & _KNOWN_FLAGS:02x}"


def new_trace_id() -> str:
    """Make up a trace id: 16 random bytes."""
    return urandom(16).hex()


def new_span_id() -> str:
    """Make up a span id: 8 random bytes."""
    return urandom(8).hex()
