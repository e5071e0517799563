"""However an answer is cut into pieces, its calls are those of the whole; what is not finished is not executed."""

from __future__ import annotations

import copy
import json
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow.context.checks import ArgumentTypeError, ArgumentValueError
from stageflow_tools.call_stream import ToolCallAssembler
from stageflow_tools.calls import parse_and_resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stageflow_tools.calls import ResolvedToolCall, UnresolvedToolCall

    Both = tuple[list[ResolvedToolCall], list[UnresolvedToolCall]]

DEEP = settings().max_examples > 100
TOOLS = {name: object() for name in ("get_weather", "get_time", "search.web", "run_sql")}

WEATHER = '{"city": "Par\\u00eds \\ud83d\\ude00", "days": 12, "q": "a\\"b"}'
TIME = '{"zones": [{"name": "é"}, []], "ok": true}'


def fed(events: Iterable[object], **options: Any) -> ToolCallAssembler:
    assembler = ToolCallAssembler(**options)
    for event in events:
        assembler.feed(event)
    return assembler


def resolved_of(events: Iterable[object]) -> Both:
    return fed(events).resolve(TOOLS.get, known=TOOLS)


def told(both: Both) -> list[list[Any]]:
    resolved, unresolved = both
    return [
        [(one.call_id, one.name, one.arguments, one.tool) for one in resolved],
        [(one.call_id, one.name, one.reason) for one in unresolved],
    ]


def as_objects(value: Any) -> Any:
    if isinstance(value, list):
        return [as_objects(one) for one in value]
    if not isinstance(value, dict) or not value:
        return value
    return SimpleNamespace(**{key: as_objects(one) for key, one in value.items()})


# --- recorded answers, cut into pieces as the providers do ------------------------------------------------------


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4.1", "choices": [choice]}


def chat_whole(calls: list[tuple[str, str, str]], reason: str = "tool_calls") -> dict[str, Any]:
    made = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}
        for call_id, name, text in calls
    ]
    message = {"role": "assistant", "content": None, "tool_calls": made}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    }


def chat_stream(
    calls: list[tuple[str, str, list[str]]], reason: str | None = "tool_calls"
) -> list[dict[str, Any]]:
    events = [chunk({"role": "assistant", "content": None, "refusal": None})]
    for index, (call_id, name, pieces) in enumerate(calls):
        function = {"name": name, "arguments": ""}
        begin = {"index": index, "id": call_id, "type": "function", "function": function}
        events.append(chunk({"tool_calls": [begin]}))
        events += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in pieces
        ]
    end = [chunk({}, reason)] if reason else []
    return [*events, *end, {"object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 9}}]


def responses_whole(calls: list[tuple[str, str, str]], status: str = "completed") -> dict[str, Any]:
    output = [
        {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": call_id,
            "name": name,
            "arguments": text,
            "status": status,
        }
        for number, (call_id, name, text) in enumerate(calls, start=1)
    ]
    reasoning = {"type": "reasoning", "id": "rs_0", "summary": []}
    return {"object": "response", "status": status, "output": [reasoning, *output]}


def responses_stream(
    calls: list[tuple[str, str, list[str]]], *, last: bool = True, status: str = "completed"
) -> list[dict[str, Any]]:
    texts = [(call_id, name, "".join(pieces)) for call_id, name, pieces in calls]
    whole = responses_whole(texts, status)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"status": "in_progress", "output": []}}
    ]
    reasoning = whole["output"][0]
    events += [
        {"type": "response.output_item.added", "output_index": 0, "item": reasoning},
        {"type": "response.output_item.done", "output_index": 0, "item": reasoning},
    ]
    for index, ((_, _, pieces), item) in enumerate(zip(calls, whole["output"][1:], strict=True), start=1):
        begin = item | {"arguments": "", "status": "in_progress"}
        events.append({"type": "response.output_item.added", "output_index": index, "item": begin})
        for piece in pieces:
            delta = {"item_id": item["id"], "output_index": index, "delta": piece}
            events.append({"type": "response.function_call_arguments.delta", **delta})
        done = {"item_id": item["id"], "output_index": index, "arguments": item["arguments"]}
        events.append({"type": "response.function_call_arguments.done", **done})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    return [*events, {"type": f"response.{status}", "response": whole}] if last else events


def anthropic_whole(calls: list[tuple[str, str, str]]) -> dict[str, Any]:
    blocks = [
        {"type": "tool_use", "id": call_id, "name": name, "input": json.loads(text or "{}")}
        for call_id, name, text in calls
    ]
    content = [{"type": "text", "text": "I will look."}, *blocks]
    return {"type": "message", "role": "assistant", "content": content, "stop_reason": "tool_use"}


def anthropic_stream(
    calls: list[tuple[str, str, list[str]]], reason: str = "tool_use"
) -> list[dict[str, Any]]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "stop_reason": None}
    text = {"type": "text_delta", "text": "I will look."}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": text},
        {"type": "content_block_stop", "index": 0},
    ]
    for index, (call_id, name, pieces) in enumerate(calls, start=1):
        block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        for piece in ["", *pieces]:
            delta = {"type": "input_json_delta", "partial_json": piece}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": reason, "stop_sequence": None}
    return [*events, {"type": "message_delta", "delta": end, "usage": {}}, {"type": "message_stop"}]


PROVIDERS: dict[str, tuple[Any, Any]] = {
    "chat": (chat_stream, chat_whole),
    "responses": (responses_stream, responses_whole),
    "anthropic": (anthropic_stream, anthropic_whole),
}


def splits(text: str) -> list[list[str]]:
    """Return a text cut in two at every point, in all its characters, and not at all."""
    return [[text[:at], text[at:]] for at in range(len(text) + 1)] + [list(text), [text] if text else []]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("form", [copy.deepcopy, as_objects], ids=["dict", "sdk"])
def test_every_split_of_a_stream_equals_the_whole(provider: str, form: Any):
    stream, whole = PROVIDERS[provider]
    texts = [("call_a", "get_weather", WEATHER), ("call_b", "get_time", TIME), ("call_c", "get_time", "")]
    expected = told(parse_and_resolve(whole(texts), TOOLS.get, known=TOOLS))
    assert [one[0] for one in expected[0]] == ["call_a", "call_b", "call_c"]
    for pieces in splits(WEATHER):
        events = stream(
            [("call_a", "get_weather", pieces), ("call_b", "get_time", [TIME]), ("call_c", "get_time", [])]
        )
        assembler = fed(map(form, events))
        assert told(assembler.resolve(TOOLS.get, known=TOOLS)) == expected
        assert all(call.is_finished for call in assembler.calls)


@pytest.mark.timeout(300)
@settings(max_examples=2_000 if DEEP else 100, deadline=None)
@given(st.sampled_from(sorted(PROVIDERS)), st.randoms(use_true_random=False), st.data())
def test_generated_arguments_cut_anywhere_equal_the_whole(
    provider: str, rng: random.Random, data: st.DataObject
):
    stream, whole = PROVIDERS[provider]
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=("Cs",))),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
    arguments = data.draw(
        st.lists(st.dictionaries(st.text("ab", max_size=2), values, max_size=3), max_size=3)
    )
    texts = [
        (
            f"call_{number}",
            rng.choice([*TOOLS, "unknown"]),
            json.dumps(value, ensure_ascii=rng.random() < 0.5),
        )
        for number, value in enumerate(arguments)
    ]
    cut = []
    for call_id, name, text in texts:
        at = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(6)))
        cut.append((call_id, name, [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]))
    expected = parse_and_resolve(whole(texts), TOOLS.get, known=TOOLS)
    assert told(resolved_of(stream(cut))) == told(expected)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_that_breaks_leaves_nothing_unfinished_to_execute(provider: str):
    calls = [("call_a", "get_weather", list(WEATHER)), ("call_b", "get_time", list(TIME))]
    events = PROVIDERS[provider][0](calls)
    whole = {"call_a": json.loads(WEATHER), "call_b": json.loads(TIME)}
    before: list[str] = []
    seen: dict[str, str] = {}
    for end in range(len(events) + 1):
        assembler = fed(events[:end])
        resolved, unresolved = assembler.resolve(TOOLS.get, known=TOOLS)
        assert {one.reason for one in unresolved} <= {"half_streamed"}
        assert all(one.arguments == whole[one.call_id] for one in resolved)
        ids = [one.call_id for one in resolved]
        assert ids[: len(before)] == before
        before = ids
        assert len(resolved) + len(unresolved) == len(assembler.calls)
        for call in assembler.calls:
            assert call.text.startswith(seen.get(call.call_id, ""))
            seen[call.call_id] = call.text
            assert call.arguments == {} or call.arguments.keys() <= whole[call.call_id].keys()
    assert before == ["call_a", "call_b"]


def test_what_has_come_shows_and_stays_as_it_was():
    assembler = ToolCallAssembler()
    shown = []
    for event in chat_stream([("call_a", "get_weather", ['{"city": "P', "ar", 'is", "days": 1', "2}"])]):
        shown += assembler.feed(event)
    assert [(one.name, one.arguments, one.is_finished) for one in shown] == [
        ("get_weather", {}, False),
        ("get_weather", {"city": "P"}, False),
        ("get_weather", {"city": "Par"}, False),
        ("get_weather", {"city": "Paris"}, False),
        ("get_weather", {"city": "Paris", "days": 12}, False),
        ("get_weather", {"city": "Paris", "days": 12}, True),
    ]
    assert shown[1].text == '{"city": "P'
    assert repr(shown[-1]) == "<PartialToolCall 'call_a' 'get_weather' finished>"


def test_what_has_shown_stays_when_the_whole_comes():
    assembler = ToolCallAssembler()
    events = responses_stream([("call_a", "get_weather", ['{"city": "P', 'aris"}'])])
    shown = [one for event in events for one in assembler.feed(event)]
    assert [one.arguments for one in shown[:3]] == [{}, {"city": "P"}, {"city": "Paris"}]
    assert [one.is_finished for one in shown] == [False, False, False, True, True, True]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_the_last_call_of_a_chat_completion_that_ran_into_its_limit(reason: str):
    for pieces, ids in ((["{"], ["a"]), ([], ["a"]), (['{"city": 1}'], ["a", "b"])):
        calls = [("a", "get_time", []), ("b", "get_weather", pieces)]
        resolved, unresolved = resolved_of(chat_stream(calls, reason))
        assert [one.call_id for one in resolved] == ids
        assert [one.reason for one in unresolved] == ["half_streamed"] * (2 - len(ids))
        texts = [(one, name, "".join(text)) for one, name, text in calls]
        assert told((resolved, unresolved)) == told(parse_and_resolve(chat_whole(texts, reason), TOOLS.get))


def test_the_last_block_of_a_message_that_ran_into_its_limit():
    for pieces, ids in (([], ["a"]), (['{"ci'], ["a"]), (["{}"], ["a", "b"])):
        calls = [("a", "get_time", []), ("b", "get_weather", pieces)]
        resolved, unresolved = resolved_of(anthropic_stream(calls, "max_tokens"))
        assert [one.call_id for one in resolved] == ids
        assert [one.reason for one in unresolved] == ["half_streamed"] * (2 - len(ids))
    events = anthropic_stream([("a", "get_time", [])], "max_tokens")
    text = {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}}
    resolved, _ = resolved_of([*events[:-2], text, *events[-2:]])
    assert [one.call_id for one in resolved] == ["a"]


def test_an_incomplete_response():
    calls = [("a", "get_time", ["{}"]), ("b", "get_weather", ['{"city": "Pa'])]
    resolved, unresolved = resolved_of(responses_stream(calls, status="incomplete"))
    assert (resolved, [one.reason for one in unresolved]) == ([], ["half_streamed"] * 2)


def test_the_end_of_a_response_makes_up_for_events_that_were_lost():
    calls = [("a", "get_time", list(TIME)), ("b", "get_weather", list(WEATHER))]
    events = responses_stream(calls)
    expected = told(resolved_of(events))
    rng = random.Random(0)
    for _ in range(50):
        few = [event for event in events[:-1] if rng.random() < 0.5]
        assert sorted(told(resolved_of([*few, events[-1]]))[0], key=str) == sorted(expected[0], key=str)
    without_end = responses_stream(calls, last=False)
    assert told(resolved_of(without_end)) == expected


def test_custom_tools_take_text():
    begin = {"index": 0, "id": "x", "type": "custom", "custom": {"name": "run_sql", "input": ""}}
    events = [chunk({"tool_calls": [begin]})]
    events += [
        chunk({"tool_calls": [{"index": 0, "custom": {"input": piece}}]}) for piece in ("SELECT", " 1")
    ]
    assert fed(events).calls[0].arguments == {"input": "SELECT 1"}
    assert [one.reason for one in resolved_of(events)[1]] == ["half_streamed"]
    (found,), _ = resolved_of([*events, chunk({}, "tool_calls")])
    assert found.arguments == {"input": "SELECT 1"}
    assert [one.reason for one in resolved_of([*events, chunk({}, "length")])[1]] == ["half_streamed"]

    item = {"type": "custom_tool_call", "id": "ctc", "call_id": "x", "name": "run_sql", "input": ""}
    delta = {"type": "response.custom_tool_call_input.delta", "item_id": "ctc", "output_index": 0}
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *(delta | {"delta": piece} for piece in ("SELECT", " 1")),
    ]
    assert [one.reason for one in resolved_of(events)[1]] == ["half_streamed"]
    done = {
        "type": "response.custom_tool_call_input.done",
        "item_id": "ctc",
        "output_index": 0,
        "input": "SELECT 1",
    }
    (found,), _ = resolved_of([*events, done])
    assert (found.call_id, found.name, found.arguments) == ("x", "run_sql", {"input": "SELECT 1"})


def test_the_call_of_a_message_before_there_were_tools():
    pieces = [{"name": "get_time", "arguments": ""}, {"arguments": '{"a"'}, {"arguments": ": 1}"}]
    events = [chunk({"function_call": piece}) for piece in pieces]
    (found,), _ = resolved_of([*events, chunk({}, "function_call")])
    assert (found.name, found.arguments) == ("get_time", {"a": 1})


# --- servers that do it their own way --------------------------------------------------------------------------


def piece(text: str | None = None, name: str | None = None, **fields: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", text)) if value is not None}
    return chunk({"tool_calls": [{**fields, "function": function}]})


END = chunk({}, "tool_calls")


def test_whole_calls_that_all_have_index_0():
    events = [
        piece('{"a": 1}', "get_time", index=0, id="x"),
        piece('{"a": 2}', "get_time", index=0, id="y"),
        piece('{"a": 3}', "get_time", index=0, id=""),
        piece('{"a": 4}', "get_time", index=0, id=""),
        END,
    ]
    resolved, unresolved = resolved_of(events)
    assert [one.arguments["a"] for one in resolved] == [1, 2, 3, 4]
    assert unresolved == []
    assert len({one.call_id for one in resolved}) == 4


def test_pieces_that_say_id_and_name_again():
    events = [piece(text, "get_time", index=0, id="x") for text in ('{"a"', ": ", "1}")]
    assert [(one.name, one.arguments) for one in resolved_of([*events, END])[0]] == [("get_time", {"a": 1})]


def test_pieces_without_an_index_and_names_in_pieces():
    events = [
        piece("", "get_", id="x"),
        piece(None, "time"),
        piece('{"a": '),
        piece("1}"),
        piece("{}", "get_time", id="y"),
    ]
    resolved, unresolved = resolved_of([*events, END])
    assert [(one.call_id, one.name, one.arguments) for one in resolved] == [
        ("x", "get_time", {"a": 1}),
        ("y", "get_time", {}),
    ]
    assert unresolved == []


def test_calls_whose_pieces_alternate():
    events = [piece("", "get_time", index=0, id="x"), piece("", "get_weather", index=1, id="y")]
    events += [piece(text, index=index) for text in ('{"a"', ": 1", "}") for index in (1, 0)]
    assert [one.reason for one in resolved_of(events)[1]] == ["half_streamed"] * 2
    assert [one.arguments for one in resolved_of([*events, END])[0]] == [{"a": 1}] * 2


def test_an_id_that_comes_late():
    events = [piece("", "get_time", index=0), piece("{}", index=0, id="x"), END]
    assert [one.call_id for one in resolved_of(events)[0]] == ["x"]


def test_arguments_as_an_object():
    call = {"index": 0, "id": "x", "function": {"name": "get_time", "arguments": {"a": 1}}}
    assembler = fed([chunk({"tool_calls": [call]}), END])
    assert assembler.calls[0].arguments == {"a": 1}
    assert [one.arguments for one in assembler.resolve(TOOLS.get)[0]] == [{"a": 1}]


def test_chunks_that_hold_whole_calls():
    gemini = {
        "candidates": [
            {"content": {"role": "model", "parts": [{"functionCall": {"name": "get_time", "args": {}}}]}}
        ]
    }
    ollama = {
        "message": {
            "role": "assistant",
            "tool_calls": [{"function": {"name": "get_time", "arguments": {"a": 1}}}],
        }
    }
    last = {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "tool_calls": [{"id": "x", "name": "get_time"}]}}
        ]
    }
    assembler = ToolCallAssembler()
    assert [len(assembler.feed(event)) for event in (gemini, ollama, last)] == [1, 1, 1]
    assert [one.is_finished for one in assembler.calls] == [True] * 3
    assert [one.arguments for one in assembler.resolve(TOOLS.get)[0]] == [{}, {"a": 1}, {}]


def test_other_choices_and_what_the_provider_executes_are_passed_over():
    other = chunk(
        {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "get_time", "arguments": "{}"}}]}
    )
    other["choices"][0]["index"] = 1
    block = {"type": "server_tool_use", "id": "s", "name": "get_time", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": "{}"}
    events = [
        other,
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "response.mcp_call_arguments.delta", "item_id": "m", "output_index": 0, "delta": "{}"},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {"type": "mcp_call", "name": "get_time"},
        },
    ]
    assert fed(events).calls == ()


# --- bounds and nonsense ---------------------------------------------------------------------------------------


def test_arguments_over_the_limit_are_not_kept():
    events = [
        piece("", "get_time", index=0, id="x"),
        *(piece("1234567890", index=0) for _ in range(1_000)),
        END,
    ]
    assembler = fed(events, max_bytes=100)
    assert len(assembler.calls[0].text) == 110
    assert [one.reason for one in assembler.resolve(TOOLS.get)[1]] == ["too_large"]


def test_more_calls_than_the_limit_are_not_kept():
    events = [piece("{}", "get_time", index=number, id=str(number)) for number in range(10)]
    assembler = fed([*events, END], max_calls=3)
    resolved, unresolved = assembler.resolve(TOOLS.get)
    assert [one.call_id for one in resolved] == ["0", "1", "2"]
    assert [one.reason for one in unresolved] == ["too_many"]
    assert len(assembler.calls) == 4


def test_single_characters_take_linear_time():
    # Joining or parsing at every piece would run into the time-out.
    text = json.dumps({"a": "x" * 100_000})
    assembler = fed([piece("", "get_time", index=0, id="x"), *(piece(one, index=0) for one in text), END])
    assert len(assembler.resolve(TOOLS.get)[0][0].arguments["a"]) == 100_000


def test_options_are_checked():
    for name in ("max_bytes", "max_depth", "max_calls"):
        with pytest.raises(ArgumentValueError):
            ToolCallAssembler(**{name: 0})
        with pytest.raises(ArgumentTypeError):
            ToolCallAssembler(**{name: "1"})
    with pytest.raises(ArgumentTypeError):
        ToolCallAssembler().resolve(None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


class Raises:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    __bool__ = __hash__ = __eq__ = __repr__ = lambda self, *_: 1 / 0  # type: ignore[assignment]


NONSENSE: list[Any] = [
    *(None, 42, "x", b"x", [], {}, object(), Raises(), {"type": 1}, {"type": "response."}, {"choices": 1}),
    *({"choices": [None]}, {"choices": [{"delta": 1}]}, {"choices": [{"index": [], "delta": {}}]}),
    *(
        {"type": "content_block_start"},
        {"type": "content_block_start", "index": [], "content_block": {"type": "tool_use"}},
    ),
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "response.output_item.done", "item": {"type": "function_call"}},
]


@pytest.mark.parametrize("number", range(len(NONSENSE)))
def test_nonsense_does_not_raise(number: int):
    assert resolved_of([NONSENSE[number]])[0] == []


@pytest.mark.parametrize(
    "pieces", [1, "x", {"index": 0}, [1], [None], ["x"]], ids=["int", "str", "dict", "1", "None", "x"]
)
def test_pieces_that_are_none_are_said(pieces: object):
    resolved, unresolved = resolved_of([chunk({"tool_calls": pieces}), END])  # type: ignore[dict-item]
    assert (resolved, [one.reason for one in unresolved]) == ([], ["malformed"])


@pytest.mark.parametrize(
    "make", [lambda: 1, lambda: None, lambda: ["x"], Raises], ids=["int", "None", "list", "raises"]
)
def test_a_piece_of_the_arguments_that_is_no_text(make: Any):
    text = make()
    broken = chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
    events = [piece('{"a": 1', "get_time", index=0, id="x"), broken, piece("}", index=0), END]
    resolved, unresolved = resolved_of(events)
    assert [one.arguments for one in resolved] == ([{"a": 1}] if text is None else [])
    assert [one.reason for one in unresolved] == ([] if text is None else ["malformed"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_mangled_streams_do_not_raise_and_resolve_nothing_that_was_not_there(provider: str):
    rng = random.Random(provider)
    whole = [json.loads(WEATHER), json.loads(TIME), {}]
    for _ in range(2_000 if DEEP else 150):
        at = rng.randrange(len(WEATHER))
        calls = [("a", "get_weather", [WEATHER[:at], WEATHER[at:]]), ("b", "get_time", [TIME])]
        events: list[Any] = PROVIDERS[provider][0](calls)
        for _ in range(rng.randrange(1, 4)):
            number = rng.randrange(len(events))
            match rng.randrange(4):
                case 0:
                    events = events[:number] + events[number + 1 :] or events
                case 1:
                    events.insert(number, rng.choice(NONSENSE))
                case 2:
                    events = events[:number] or events
                case _:
                    other = rng.randrange(len(events))
                    events[number], events[other] = events[other], events[number]
        resolved, _ = resolved_of(events)
        assert all(one.tool is TOOLS[one.name] for one in resolved)
        if (
            provider != "anthropic"
        ):  # whose blocks may end before what they hold has come, if events change places
            assert all(one.arguments in whole for one in resolved)
