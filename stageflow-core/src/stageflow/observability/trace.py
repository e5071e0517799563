"""``TraceContext``: where in a distributed trace the code is that runs right now."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.record import Record
from stageflow.observability.ambient import StepsOfRun, current_trace
from stageflow.observability.correlation import (
    clear_correlation_id,
    get_correlation_id,
    set_correlation_id,
)
from stageflow.observability.traceparent import (
    SAMPLED,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token
    from typing import Self
    from uuid import UUID

__all__ = ["TraceContext", "get_span_id", "get_trace_context_dict", "get_trace_id", "make_step"]

_BAGGAGE: Final = "x-baggage-"
_MOST_BAGGAGE: Final = 64  # entries, and below bytes: the limits of W3C Baggage
_MOST_BAGGAGE_BYTES: Final = 8192
_NAME: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PLAIN: Final = (
    "!#$&'()*+,-./:;<=>?@[]^_`{|}~ "  # what may stand in a header as it is; "%" begins what may not
)
_IDS: Final = ("correlation_id", "pipeline_run_id", "request_id", "org_id")


@final
class TraceContext(Record):
    """A place in a distributed trace, as it travels between services in W3C Trace Context headers. Read-only.

    It needs no telemetry library. With ``stageflow-otel`` installed, its spans carry the same ids.

    Args:
        trace_id: The trace: 32 hexadecimal digits.
        span_id: The step of it: 16 hexadecimal digits.
        parent_span_id: The step that this one is part of.
        correlation_id: What ties this run to others.
        pipeline_run_id: The run.
        request_id: The request that the run answers.
        org_id: The tenant.
        baggage: Further values to take along.
        created_at: When this was made; now, in UTC, by default.
        trace_flags: The flags of the trace; 1 says that it is recorded.
        trace_state: What tracing systems tell each other, passed on as it is.

    ```python
    import asyncio

    from stageflow import Pipeline, stage
    from stageflow.interceptors.tracing import TracingInterceptor
    from stageflow.observability import TraceContext


    @stage
    async def call_model() -> str:
        return TraceContext.capture().to_headers()["traceparent"]  # send these along


    incoming = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    graph = Pipeline.from_stages(call_model).build(interceptors=[TracingInterceptor()])
    with TraceContext.from_headers(incoming).activate():
        results = asyncio.run(graph.run())
    print(results.value(call_model)[:36])
    #> 00-0af7651916cd43dd8448eb211c80319c-
    ```
    """

    __match_args__ = (
        "trace_id",
        "span_id",
        "parent_span_id",
        "correlation_id",
        "pipeline_run_id",
        "request_id",
        "org_id",
        "baggage",
        "created_at",
        "trace_flags",
        "trace_state",
    )
    __slots__ = __match_args__
    trace_id: str | None
    span_id: str | None
    parent_span_id: str | None
    correlation_id: UUID | None
    pipeline_run_id: UUID | None
    request_id: UUID | None
    org_id: UUID | None
    baggage: Mapping[str, str]
    created_at: datetime
    trace_flags: int
    trace_state: str

    def __init__(
        self,
        trace_id: str | None = None,
        span_id: str | None = None,
        parent_span_id: str | None = None,
        correlation_id: UUID | None = None,
        pipeline_run_id: UUID | None = None,
        request_id: UUID | None = None,
        org_id: UUID | None = None,
        baggage: Mapping[str, str] | None = None,
        created_at: datetime | None = None,
        trace_flags: int = SAMPLED,
        trace_state: str = "",
    ) -> None:
        _set_trace_id(self, trace_id)
        _set_span_id(self, span_id)
        _set_parent_span_id(self, parent_span_id)
        _set_correlation_id(self, correlation_id)
        _set_pipeline_run_id(self, pipeline_run_id)
        _set_request_id(self, request_id)
        _set_org_id(self, org_id)
        _set_baggage(self, MappingProxyType(dict(baggage)) if baggage else _NOTHING)
        _set_created_at(self, created_at or datetime.now(UTC))
        _set_trace_flags(self, trace_flags)
        _set_trace_state(self, trace_state)

    @classmethod
    def capture(cls) -> TraceContext:
        """Return the current trace context, to take it to another task, thread or service."""
        return _correlated(_now())

    @classmethod
    def of_run(cls, run_id: UUID, around: TraceContext | None = None) -> TraceContext:
        """Return the place of a run that starts a trace; its ids are made from the run's, so all can know them.

        Args:
            run_id: The run.
            around: What else to take along: a context that is in no trace itself.
        """
        trace_id = run_id.hex
        if not trace_id.strip("0"):  # W3C rules an id of zeros out
            trace_id = new_trace_id()
        span_id = trace_id[16:]
        if not span_id.strip("0"):
            span_id = trace_id[:16]
        if around is None:
            return cls(trace_id, span_id, pipeline_run_id=run_id)
        ids = around.request_id, around.org_id, around.baggage
        return cls(trace_id, span_id, None, around.correlation_id, run_id, *ids)

    def child(
        self, *, pipeline_run_id: UUID | None = None, created_at: datetime | None = None
    ) -> TraceContext:
        """Return a new step within this one; a new trace if this is in none."""
        return TraceContext(
            self.trace_id or new_trace_id(),
            new_span_id(),
            self.span_id,
            self.correlation_id,
            pipeline_run_id or self.pipeline_run_id,
            self.request_id,
            self.org_id,
            self.baggage,
            created_at,
            self.trace_flags,
            self.trace_state,
        )

    def activate(self) -> _Activation:
        """Make this the current trace context inside a ``with`` block. What it leaves open stays as it is."""
        return _Activation(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        ids = {name: getattr(self, name) for name in _IDS}
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent_span_id,
            **{name: None if value is None else str(value) for name, value in ids.items()},
            "baggage": dict(self.baggage),
            "created_at": self.created_at.isoformat(),
        }

    def to_headers(self) -> dict[str, str]:
        """Return the HTTP headers that take this to another service."""
        headers: dict[str, str] = {}
        if self.trace_id is not None:
            headers["traceparent"] = format_traceparent(
                self.trace_id, self.span_id or new_span_id(), self.trace_flags
            )
            if self.trace_state:
                headers["tracestate"] = self.trace_state
        for name in _IDS:
            value = getattr(self, name)
            if value is not None:
                headers[_header(name)] = str(value)
        for key, value in self.baggage.items():
            if _NAME.issuperset(key):
                headers[_BAGGAGE + key] = _quoted(value)
        return headers

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> TraceContext:
        """Read what ``to_headers`` gives, or another service sent. What is invalid is left out, as W3C wants it."""
        found = {name.lower(): value for name, value in headers.items()}
        parent = parse_traceparent(found.get("traceparent", ""))
        ids: dict[str, Any] = {name: _uuid(found.get(_header(name), "")) for name in _IDS}
        return cls(
            None if parent is None else parent.trace_id,
            None if parent is None else parent.span_id,
            trace_flags=SAMPLED if parent is None else parent.flags,
            # The state belongs to the trace: without one it means nothing.
            trace_state="" if parent is None else parse_tracestate(found.get("tracestate", "")),
            baggage=_baggage(found),
            **ids,
        )

    def __hash__(self) -> int:
        return hash((self.trace_id, self.span_id, self.created_at))

    def __reduce__(self) -> tuple[Any, ...]:
        values = dict(zip(self.__match_args__, self._values(), strict=True))
        return type(self), tuple({**values, "baggage": dict(self.baggage)}.values())


# Written through the slots' descriptors, past the guard in ``Record.__setattr__``: one is made for every attempt.
_slots: Mapping[str, Any] = vars(TraceContext)
_set_trace_id = _slots["trace_id"].__set__
_set_span_id = _slots["span_id"].__set__
_set_parent_span_id = _slots["parent_span_id"].__set__
_set_correlation_id = _slots["correlation_id"].__set__
_set_pipeline_run_id = _slots["pipeline_run_id"].__set__
_set_request_id = _slots["request_id"].__set__
_set_org_id = _slots["org_id"].__set__
_set_baggage = _slots["baggage"].__set__
_set_created_at = _slots["created_at"].__set__
_set_trace_flags = _slots["trace_flags"].__set__
_set_trace_state = _slots["trace_state"].__set__


@final
class _Activation:
    """Makes a trace context current, and undoes it."""

    __slots__ = ("_context", "_correlation_id", "_token")

    def __init__(self, context: TraceContext) -> None:
        self._context = context
        self._token: Token[TraceContext | StepsOfRun | None] | None = None
        self._correlation_id: UUID | None = None

    def __enter__(self) -> Self:
        context, current = self._context, _now()
        if context.trace_id is None and current is not None:
            context = context.__replace__(
                trace_id=current.trace_id,
                span_id=current.span_id,
                parent_span_id=current.parent_span_id,
                trace_flags=current.trace_flags,
                trace_state=current.trace_state,
            )
        self._correlation_id = get_correlation_id()
        self._token = current_trace.set(context)
        if context.correlation_id is not None:
            set_correlation_id(context.correlation_id)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._token is None:
            return
        try:
            current_trace.reset(self._token)
        except ValueError:
            # A coroutine that is closed unfinished ends in somebody else's context, where nothing is to be undone.
            return
        if self._correlation_id is None:
            clear_correlation_id()
        else:
            set_correlation_id(self._correlation_id)


_NOTHING: Mapping[str, str] = MappingProxyType({})


def _now() -> TraceContext | None:
    current = current_trace.get()
    return current.made() if isinstance(current, StepsOfRun) else current


def make_step(steps: StepsOfRun) -> TraceContext:
    """Make a step of a run: of the trace that the run was started in, or of one that begins with it.

    ```python
    from types import SimpleNamespace
    from uuid import UUID

    from stageflow.observability.ambient import StepsOfRun
    from stageflow.observability.trace import make_step

    run = SimpleNamespace(snapshot=SimpleNamespace(pipeline_run_id=UUID(int=7)))
    print(make_step(StepsOfRun(None, run)).trace_id)
    #> 00000000000000000000000000000007
    ```
    """
    around, run_id = _correlated(steps.around), steps.run.snapshot.pipeline_run_id
    if around.trace_id is None and run_id is not None:
        around = TraceContext.of_run(run_id, around)
    return around.child(pipeline_run_id=run_id)


def _correlated(current: TraceContext | None) -> TraceContext:
    """Return what is current with the current correlation id, which may be set without it."""
    correlation_id = get_correlation_id()
    if current is None:
        return TraceContext(correlation_id=correlation_id)
    if current.correlation_id == correlation_id:
        return current
    return current.__replace__(correlation_id=correlation_id)


def get_trace_id() -> str | None:
    """Return the id of the current trace, or None.

    ```python
    from stageflow.observability import TraceContext, get_trace_id

    with TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331").activate():
        print(get_trace_id())
        #> 0af7651916cd43dd8448eb211c80319c
    print(get_trace_id())
    #> None
    ```
    """
    current = _now()
    return None if current is None else current.trace_id


def get_span_id() -> str | None:
    """Return the id of the current step of the trace, or None.

    ```python
    from stageflow.observability import TraceContext, get_span_id

    with TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331").activate():
        print(get_span_id())
        #> b7ad6b7169203331
    print(get_span_id())
    #> None
    ```
    """
    current = _now()
    return None if current is None else current.span_id


def get_trace_context_dict() -> dict[str, Any]:
    """Return the current ids, for log lines and events.

    ```python
    from stageflow.observability import TraceContext, get_trace_context_dict

    with TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331").activate():
        print(get_trace_context_dict()["span_id"])
        #> b7ad6b7169203331
    ```
    """
    current = TraceContext.capture().to_dict()
    return {name: current[name] for name in ("trace_id", "span_id", "parent_span_id", "correlation_id")}


def _header(name: str) -> str:
    return f"x-{name.replace('_', '-')}"


def _uuid(text: str) -> UUID | None:
    if not text:
        return None
    from uuid import UUID

    try:
        return UUID(text)
    except ValueError:
        return None


def _quoted(value: str) -> str:
    """Keep what a header cannot hold, such as a line break, from ending it."""
    if value.isascii() and value.isprintable() and "%" not in value:
        return value
    from urllib.parse import quote

    return quote(value, safe=_PLAIN)


def _baggage(headers: Mapping[str, str]) -> dict[str, str]:
    baggage: dict[str, str] = {}
    size = 0
    for name, value in headers.items():
        if not name.startswith(_BAGGAGE):
            continue
        size += len(name) + len(value)
        if len(baggage) == _MOST_BAGGAGE or size > _MOST_BAGGAGE_BYTES:
            break
        if "%" in value:
            from urllib.parse import unquote

            value = unquote(value)  # noqa: PLW2901 - the same value, readable
        baggage[name.removeprefix(_BAGGAGE)] = value
    return baggage
