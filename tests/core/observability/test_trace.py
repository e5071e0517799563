"""W3C Trace Context: what is read, what is refused, what is sent, and what is current."""

from __future__ import annotations

import asyncio
import pickle
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow.observability.correlation import clear_correlation_id, get_correlation_id, set_correlation_id
from stageflow.observability.trace import TraceContext, get_span_id, get_trace_context_dict, get_trace_id
from stageflow.observability.traceparent import parse_traceparent, parse_tracestate

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
INVALID = [
    "",
    "00",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"0g-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-0x",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-01.",
    f"cc-{TRACE}-{SPAN}-01.what",
    f"00_{TRACE}_{SPAN}_01",
    f"00-{TRACE[:-1]}-{SPAN}-011",
    f"{PARENT},{PARENT}",
    "\N{FULLWIDTH DIGIT ZERO}" * 55,
    "x" * 1_000_000,
]


@pytest.mark.parametrize("header", INVALID, ids=range(len(INVALID)))
def test_an_invalid_parent_is_as_good_as_none(header: str):
    assert parse_traceparent(header) is None
    context = TraceContext.from_headers(
        {"traceparent": header, "tracestate": "a=1", "x-org-id": str(UUID(int=3))}
    )
    assert (context.trace_id, context.span_id, context.trace_state) == (None, None, "")
    assert context.org_id == UUID(int=3)
    assert "traceparent" not in context.to_headers()


def test_a_later_version_is_read_as_far_as_known_and_unknown_flags_are_dropped():
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-ff-what-ever") == (TRACE, SPAN, 3)
    context = TraceContext.from_headers({"traceparent": f"cc-{TRACE}-{SPAN}-ff"})
    assert context.to_headers()["traceparent"] == f"00-{TRACE}-{SPAN}-03"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ("a=1,\t b=2 ,,", "a=1,b=2"),
        ("tenant@vendor=x", "tenant@vendor=x"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a=1;b", "a=1;b"),
        ("a", ""),
        ("a=1\r\nset-cookie: x", ""),
        (",".join(f"k{n}=1" for n in range(33)), ""),
        ("", ""),
    ],
)
def test_tracestate(header: str, kept: str):
    assert parse_tracestate(header) == kept
    headers = TraceContext.from_headers({"traceparent": PARENT, "tracestate": header}).to_headers()
    assert headers.get("tracestate", "") == kept


def test_names_of_headers_have_no_case():
    assert TraceContext.from_headers({"TraceParent": PARENT, "X-Request-ID": str(UUID(int=9))}) is not None
    context = TraceContext.from_headers({"TraceParent": PARENT, "X-Request-ID": str(UUID(int=9))})
    assert (context.trace_id, context.request_id) == (TRACE, UUID(int=9))


def test_not_recorded_stays_not_recorded():
    context = TraceContext.from_headers({"traceparent": f"00-{TRACE}-{SPAN}-00"})
    assert context.child().to_headers()["traceparent"].endswith("-00")


@given(
    st.builds(
        TraceContext,
        trace_id=st.just(TRACE),
        span_id=st.just(SPAN),
        correlation_id=st.none() | st.uuids(),
        pipeline_run_id=st.none() | st.uuids(),
        request_id=st.none() | st.uuids(),
        org_id=st.none() | st.uuids(),
        baggage=st.dictionaries(
            st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), st.text(max_size=20), max_size=5
        ),
        trace_flags=st.integers(0, 3),
    )
)
def test_headers_say_it_all(context: TraceContext):
    headers = context.to_headers()
    assert all(value.isascii() and (value.isprintable() or not value) for value in headers.values())
    again = TraceContext.from_headers(headers)
    assert again.__replace__(created_at=context.created_at) == context


@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate", "x-baggage-a", "x-org-id"]), st.text()))
def test_no_header_raises(headers: dict[str, str]):
    TraceContext.from_headers(headers).to_headers()


def test_baggage_cannot_add_headers_or_grow_without_end():
    context = TraceContext(baggage={"a b": "x", "ok": "1\r\nset-cookie: x"})
    assert context.to_headers() == {"x-baggage-ok": "1%0D%0Aset-cookie: x"}
    many = TraceContext.from_headers({f"x-baggage-{n}": "v" for n in range(1000)})
    assert len(many.baggage) == 64
    assert TraceContext.from_headers({"x-baggage-a": "v" * 10_000}).baggage == {}


def test_a_trace_without_a_step_gets_one_when_it_is_sent():
    trace, span = TraceContext(TRACE).to_headers()["traceparent"].split("-")[1:3]
    assert trace == TRACE
    assert span.strip("0")


@pytest.mark.parametrize("run_id", [UUID(TRACE), UUID(int=1), UUID(int=1 << 64), UUID(int=0)], ids=str)
def test_a_run_starts_a_trace_with_valid_ids(run_id: UUID):
    context = TraceContext.of_run(run_id)
    assert parse_traceparent(context.to_headers()["traceparent"]) == (context.trace_id, context.span_id, 1)
    if run_id.int:
        assert context.trace_id == run_id.hex
        assert TraceContext.of_run(run_id).span_id == context.span_id


def test_a_child_is_another_step_of_the_same_trace():
    parent = TraceContext(TRACE, SPAN, correlation_id=UUID(int=4), baggage={"a": "b"}, trace_state="x=1")
    child = parent.child(pipeline_run_id=UUID(int=5))
    assert (child.trace_id, child.parent_span_id) == (TRACE, SPAN)
    assert child.span_id not in {SPAN, parent.child().span_id}
    assert (child.correlation_id, child.baggage, child.trace_state) == (UUID(int=4), {"a": "b"}, "x=1")
    assert child.pipeline_run_id == UUID(int=5)
    assert TraceContext().child().trace_id is not None


def test_activate_and_capture():
    assert TraceContext.capture().trace_id is get_trace_id() is get_span_id() is None
    outer = TraceContext(TRACE, SPAN, correlation_id=UUID(int=1))
    with outer.activate():
        assert TraceContext.capture() is outer
        assert get_correlation_id() == UUID(int=1)
        assert get_trace_context_dict() == {
            "trace_id": TRACE,
            "span_id": SPAN,
            "parent_span_id": None,
            "correlation_id": str(UUID(int=1)),
        }
        with TraceContext(correlation_id=UUID(int=2), org_id=UUID(int=3)).activate():  # leaves the trace open
            inner = TraceContext.capture()
            assert (inner.trace_id, inner.span_id, inner.org_id) == (TRACE, SPAN, UUID(int=3))
            assert get_correlation_id() == UUID(int=2)
        assert TraceContext.capture() is outer
        assert (get_trace_id(), get_span_id()) == (TRACE, SPAN)
        set_correlation_id(UUID(int=6))
        assert TraceContext.capture().correlation_id == UUID(int=6)
    assert get_trace_id() is None
    assert get_correlation_id() is None


def test_activate_gives_back_the_correlation_id_that_was():
    set_correlation_id(UUID(int=8))
    with TraceContext(TRACE, SPAN, correlation_id=UUID(int=1)).activate():
        pass
    assert get_correlation_id() == UUID(int=8)
    clear_correlation_id()
    TraceContext().activate().__exit__(None, None, None)  # never entered: nothing to undo


@pytest.mark.asyncio
async def test_a_coroutine_that_is_closed_elsewhere_ends_quietly():
    async def inside() -> None:
        with TraceContext(TRACE, SPAN).activate():
            await asyncio.sleep(60)

    coroutine = inside()

    async def start() -> None:
        coroutine.send(None)

    await asyncio.create_task(start())  # enters in that Task's context
    coroutine.close()  # and leaves in ours
    assert get_trace_id() is None


def test_is_a_value():
    context = TraceContext(TRACE, SPAN, baggage={"a": "b"})
    again = pickle.loads(pickle.dumps(context))
    assert again == context
    assert hash(again) == hash(context)
    assert again.to_dict() == context.to_dict()
    assert context.to_dict()["baggage"] == {"a": "b"}
