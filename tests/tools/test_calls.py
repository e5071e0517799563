"""Whatever a model or its provider sends: what was asked for is found, and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
import random
import re
import sys
from collections import UserDict, UserList
from collections.abc import Iterator, Mapping
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from stageflow.context.checks import ArgumentTypeError, ArgumentValueError
from stageflow_tools import ToolRegistry
from stageflow_tools.calls import ResolvedToolCall, UnresolvedReason, UnresolvedToolCall, parse_and_resolve

DEEP = settings().max_examples > 100
MUTATIONS = 50_000 if DEEP else 2_000
SHARDS = 5 if DEEP else 2  # so that every core has a share

TOOLS = {name: object() for name in ("get_weather", "get_time", "search.web", "run_sql", "f")}
PARIS = {"city": "Paris", "units": "°C"}

CHAT = {
    "id": "chatcmpl-B1",
    "object": "chat.completion",
    "created": 1741570283,
    "model": "gpt-4.1",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "annotations": [],
                "tool_calls": [
                    {
                        "id": "call_abc",
                        "type": "function",
                        "function": {
                            "name": "get_weather",
                            "arguments": '{"city": "Paris", "units": "\\u00b0C"}',
                        },
                    },
                    {"id": "call_def", "type": "function", "function": {"name": "get_time", "arguments": ""}},
                    {"id": "call_sql", "type": "custom", "custom": {"name": "run_sql", "input": "SELECT 1"}},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 82, "completion_tokens": 17, "total_tokens": 99},
    "service_tier": "default",
}
RESPONSE = {
    "id": "resp_67",
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Think."}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I will look.", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_abc",
            "name": "get_weather",
            "arguments": '{"city":"Paris","units":"°C"}',
            "status": "completed",
        },
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "server_label": "x",
            "name": "get_time",
            "arguments": "{}",
            "output": "12:00",
        },
        {"type": "function_call", "id": "fc_2", "call_id": "call_def", "name": "get_time", "arguments": "{}"},
        {
            "type": "custom_tool_call",
            "id": "ctc_1",
            "call_id": "call_sql",
            "name": "run_sql",
            "input": "SELECT 1",
            "status": "completed",
        },
    ],
    "parallel_tool_calls": True,
    "tools": [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": True}],
    "usage": {"input_tokens": 3, "output_tokens": 4},
}
ANTHROPIC = {
    "id": "msg_01Aq9w938a90dw8q",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "abc="},
        {"type": "text", "text": "I will look."},
        {
            "type": "server_tool_use",
            "id": "srvtoolu_1",
            "name": "get_time",
            "input": {"query": "x"},
        },
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "tool_use", "id": "call_abc", "name": "get_weather", "input": PARIS},
        {"type": "tool_use", "id": "call_def", "name": "get_time", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 472, "output_tokens": 91},
}
GEMINI = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "I will look.", "thought": True},
                    {"functionCall": {"id": "call_abc", "name": "get_weather", "args": PARIS}},
                    {
                        "functionCall": {"id": "call_def", "name": "get_time", "args": {}},
                        "thoughtSignature": "a=",
                    },
                ],
            },
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {"promptTokenCount": 5},
}
BEDROCK = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"text": "I will look."},
                {"toolUse": {"toolUseId": "call_abc", "name": "get_weather", "input": PARIS}},
                {"toolUse": {"toolUseId": "call_def", "name": "get_time", "input": {}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {"inputTokens": 5},
}
OLLAMA = {
    "model": "llama3.2",
    "created_at": "2025-07-07T20:22:19Z",
    "message": {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "call_abc", "function": {"name": "get_weather", "arguments": PARIS}},
            {"id": "call_def", "function": {"name": "get_time", "arguments": {}}},
        ],
    },
    "done_reason": "stop",
    "done": True,
}
LANGCHAIN = {
    "type": "ai",
    "content": [{"type": "tool_use", "id": "call_abc", "name": "get_weather", "input": PARIS}],
    "tool_calls": [
        {"name": "get_weather", "args": PARIS, "id": "call_abc", "type": "tool_call"},
        {"name": "get_time", "args": {}, "id": "call_def", "type": "tool_call"},
    ],
}
GENERIC = [
    {"id": "call_abc", "name": "get_weather", "parameters": PARIS},
    {"call_id": "call_def", "name": "get_time", "input": "{}"},
]
PAYLOADS: dict[str, Any] = {
    "chat": CHAT,
    "chat message": CHAT["choices"][0]["message"],
    "chat calls": CHAT["choices"][0]["message"]["tool_calls"],
    "responses": RESPONSE,
    "responses output": RESPONSE["output"],
    "anthropic": ANTHROPIC,
    "anthropic content": ANTHROPIC["content"],
    "gemini": GEMINI,
    "gemini parts": GEMINI["candidates"][0]["content"]["parts"],
    "bedrock": BEDROCK,
    "ollama": OLLAMA,
    "langchain": LANGCHAIN,
    "generic": GENERIC,
}


def as_objects(value: Any) -> Any:
    """Return a payload as an SDK gives it: objects with attributes, but the arguments still as they are."""
    if isinstance(value, list):
        return [as_objects(one) for one in value]
    if not isinstance(value, dict) or value is PARIS or value == {}:
        return value
    return SimpleNamespace(**{key: as_objects(one) for key, one in value.items()})


def resolve(payload: object, **options: Any) -> tuple[list[ResolvedToolCall], list[UnresolvedToolCall]]:
    return parse_and_resolve(payload, TOOLS.get, known=TOOLS, **options)


def only(payload: object, **options: Any) -> UnresolvedToolCall:
    resolved, unresolved = resolve(payload, **options)
    assert resolved == []
    (call,) = unresolved
    return call


class Labels:
    """Names test cases by their number and a few signs of each: the cases have no two alike, nor an address."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: object) -> str:
        self.count += 1
        signs = value[:20] if isinstance(value, str) else type(value).__name__
        return f"{self.count}-{re.sub('[^A-Za-z0-9_]+', '-', signs)}"


def call(arguments: object = "{}", name: object = "f", call_id: object = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


# --- what providers send -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize(
    "form", [copy.deepcopy, as_objects, lambda payload: [payload]], ids=["dict", "sdk", "list"]
)
def test_calls_of_every_provider_are_found_in_order(name: str, form: Any):
    payload = form(PAYLOADS[name])
    before = copy.deepcopy(payload)

    resolved, unresolved = resolve(payload)

    assert unresolved == []
    custom = [("call_sql", "run_sql", {"input": "SELECT 1"})] if "chat" in name or "responses" in name else []
    assert [(one.call_id, one.name, one.arguments) for one in resolved] == [
        ("call_abc", "get_weather", PARIS),
        ("call_def", "get_time", {}),
        *custom,
    ]
    assert all(one.tool is TOOLS[one.name] for one in resolved)
    assert payload == before


def test_pydantic_models_such_as_the_sdks_have_are_read():
    class Function(BaseModel):
        name: str
        arguments: str

    class Call(BaseModel):
        id: str
        type: str = "function"
        function: Function

    class Message(BaseModel):
        role: str = "assistant"
        content: str | None = None
        tool_calls: list[Call] | None = None

    made = Message(tool_calls=[Call(id="c1", function=Function(name="f", arguments='{"a": 1}'))])
    (found,), unresolved = resolve(made)
    assert (found.call_id, found.arguments, unresolved) == ("c1", {"a": 1}, [])
    assert found.raw is made.tool_calls[0]
    assert resolve(Message(content="No.")) == ([], [])


def test_several_messages_of_several_providers_at_once():
    resolved, unresolved = resolve([CHAT, {"name": "f", "args": {}, "id": "x"}, 42, GEMINI])
    assert [one.call_id for one in resolved] == ["call_abc", "call_def", "call_sql", "x"]
    assert [one.reason for one in unresolved] == ["malformed", "duplicate_id", "duplicate_id"]


def test_the_call_of_a_message_before_there_were_tools():
    message = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    for form in (message, as_objects(message), {"choices": [{"message": message}]}):
        (found,), unresolved = resolve(form)
        assert (found.name, found.arguments, unresolved) == ("f", {"a": 1}, [])


def test_alternatives_that_were_not_chosen_are_not_executed():
    choice = {"index": 1, "message": {"role": "assistant", "tool_calls": [call(call_id="b")]}}
    first = {"index": 0, "message": {"role": "assistant", "tool_calls": [call(call_id="a")]}}
    for choices in ([first, choice], [choice, first]):
        resolved, unresolved = resolve({"choices": choices})
        assert ([one.call_id for one in resolved], unresolved) == (["a"], [])


@pytest.mark.parametrize("role", ["user", "tool", "system", "developer", "function"])
def test_what_others_than_the_model_say_is_no_call(role: str):
    message = {
        "role": role,
        "name": "f",
        "arguments": "{}",
        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
        "tool_calls": [call()],
        "function_call": {"name": "f", "arguments": "{}"},
    }
    assert resolve(message) == ([], [])
    assert resolve([message]) == ([], [])
    assert resolve({"choices": [{"message": message}]}) == ([], [])


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        (),
        {"role": "assistant", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": None},
        {"role": "assistant", "content": "hi", "tool_calls": []},
        {"choices": []},
        {
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            ]
        },
        {"candidates": [{"content": {"parts": [{"text": "hi"}], "role": "model"}}]},
        {"output": []},
        {"output": [{"type": "something_new", "id": "x"}]},
        [{"type": "something_new", "id": "x"}],
        {"type": "tool_result", "tool_use_id": "t", "content": "x", "name": "f", "input": {}},
        {"type": "mcp_approval_request", "name": "f", "arguments": "{}"},
        {"type": "mcp_call", "name": "f", "arguments": "{}"},
        {"type": "mcp_tool_use", "id": "m", "name": "f", "input": {}},
        {"type": "server_tool_use", "id": "s", "name": "f", "input": {}},
    ],
    ids=Labels(),
)
def test_what_holds_no_calls_gives_none(payload: Any):
    assert resolve(payload) == ([], [])
    if isinstance(payload, dict):
        assert resolve(as_objects(payload)) == ([], [])


# --- what is wrong with a call -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{", "half_streamed"),
        ('{"a', "half_streamed"),
        ('{"a": "b\\', "half_streamed"),
        ('{"a": tr', "half_streamed"),
        ('{"a": "\\ud83d', "half_streamed"),
        ('{"a": 1]', "invalid_json"),
        ("{'a': 1}", "invalid_json"),
        ('{"a": 1}}', "invalid_json"),
        ('{"a": 1}{"a": 1}', "invalid_json"),
        ('```json\n{"a": 1}\n```', "invalid_json"),
        ('{"a": ' + "9" * 5_000 + "}", "invalid_json"),
        ("\N{NO-BREAK SPACE}", "invalid_json"),
        ("[1]", "not_an_object"),
        ('"{}"', "not_an_object"),
        ("null", "not_an_object"),
        ("12", "not_an_object"),
        ("true", "not_an_object"),
        ([1], "not_an_object"),
        (12, "not_an_object"),
        ('{"a": NaN}', "not_json"),
        ('{"a": -Infinity}', "not_json"),
        ('{"a": 1e400}', "not_json"),
        ('{"a": "\\ud800"}', "not_json"),
        ('{"\\udfff": 1}', "not_json"),
        ('{"a": "\ud800"}', "not_json"),
        ({"a": float("nan")}, "not_json"),
        ({"a": [{"b": float("inf")}]}, "not_json"),
        ({"a": "\ud800"}, "not_json"),
        ({"\ud800": 1}, "not_json"),
        ({1: 2}, "not_json"),
        ({"a": b"x"}, "not_json"),
        ({"a": {1, 2}}, "not_json"),
        ({"a": 10**5_000}, "not_json"),
        (b"{}", "not_json"),
        ('{"a": 1, "a": 1}', "duplicate_key"),
        ('{"a": [{"b": 1, "c": 2, "b": 3}]}', "duplicate_key"),
        ('{"a": 1, "\\u0061": 1}', "duplicate_key"),
        ('{"a": "' + "x" * 1_000_000 + '"}', "too_large"),
        ('{"a": "' + "é" * 500_000 + '"}', "too_large"),
        ({"a": "x" * 1_000_000}, "too_large"),
        ({"a": "é" * 500_000}, "too_large"),
        ({"a": [0] * 1_000_000}, "too_large"),
        ('{"a": ' * 65 + "1" + "}" * 65, "too_deep"),
        ("[" * 900_000, "too_deep"),
        ('{"a": ' + "[" * 900_000, "too_deep"),
    ],
    ids=Labels(),
)
def test_arguments_that_are_none(arguments: object, reason: str):
    found = only(call(arguments))
    assert found.reason == reason
    assert (found.call_id, found.name, found.arguments) == ("c1", "f", arguments)
    assert found.error
    assert len(found.error) < 400
    assert len(repr(found)) < 600
    if reason not in {"half_streamed", "invalid_json"} or not isinstance(arguments, str):
        return
    assert only({"id": "c1", "type": "tool_use", "name": "f", "input": arguments}).reason == reason


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (None, {}),
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        (' {"a": 1}\n', {"a": 1}),
        ('{"a": "[[[[", "b": "\\"{{{"}', {"a": "[[[[", "b": '"{{{'}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ('{"a": ' * 64 + "1" + "}" * 64, None),
        ('{"a": [' + "[], " * 100_000 + "[]]}", {"a": [[]] * 100_001}),
        ({"a": (1, [2])}, {"a": [1, [2]]}),
        (MappingProxyType({"a": UserDict(b=UserList([1]))}), {"a": {"b": [1]}}),
        ({"a": True, "b": None, "c": 1.5}, {"a": True, "b": None, "c": 1.5}),
        ('{"a": "' + "x" * 999_991 + '"}', {"a": "x" * 999_991}),
    ],
    ids=Labels(),
)
def test_arguments_that_are_some(arguments: object, value: Any):
    (found,), unresolved = resolve(call(arguments))
    assert unresolved == []
    assert value is None or found.arguments == value


def test_arguments_are_plain_data_that_nobody_else_has():
    class Unit(StrEnum):
        C = "c"

    class Level(IntEnum):
        LOW = 1

    inner = [1]
    given = {"unit": Unit.C, "level": Level.LOW, "inner": inner}
    (found,), _ = resolve({"name": "f", "args": given})
    inner.append(2)
    given["more"] = 1
    assert found.arguments == {"unit": "c", "level": 1, "inner": [1]}
    assert [type(one) for one in found.arguments.values()] == [str, int, list]


def test_values_that_contain_themselves_end():
    cycle: dict[str, Any] = {}
    cycle["a"] = [cycle]
    assert only(call(cycle)).reason == "too_deep"
    laughs: list[Any] = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    assert only(call({"a": laughs}), max_bytes=50_000).reason == "too_large"
    assert only(cycle).reason == "malformed"
    nest: list[Any] = []
    nest.append(nest)
    assert only(nest).reason == "too_deep"
    message: dict[str, Any] = {}
    message["message"] = message
    assert only(message).reason == "too_deep"


def test_depth_is_no_matter_of_the_recursion_limit():
    deep = '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}"
    assert only(call(deep)).reason == "too_deep"
    assert only(call(deep), max_depth=100_000).reason == "too_deep"  # Python's own limit comes first
    value: Any = 1
    for _ in range(sys.getrecursionlimit() + 100):
        value = [value]
    assert only(call({"a": value}), max_depth=100_000).reason == "too_deep"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (None, "malformed"),
        ("", "bad_name"),
        (7, "bad_name"),
        ({"a": 1}, "bad_name"),
        (" f", "bad_name"),
        ("f\n", "bad_name"),
        ("f\x00", "bad_name"),
        ("f\u200b", "bad_name"),
        ("\ud800", "bad_name"),
        ("f\u202e", "bad_name"),
        ("f" * 129, "bad_name"),
        ("F", "unknown_tool"),
        ("get-weather", "unknown_tool"),
        ("\uff46", "unknown_tool"),
        ("__class__", "unknown_tool"),
        ("../f", "unknown_tool"),
    ],
    ids=Labels(),
)
def test_names_that_are_none(name: object, reason: str):
    asked: list[str] = []

    def find(wanted: str) -> object:
        asked.append(wanted)
        return TOOLS.get(wanted)

    resolved, (found,) = parse_and_resolve(call(name=name), find)
    assert (resolved, found.reason) == ([], reason)
    assert found.name == (name if isinstance(name, str) else "")
    assert asked == ([name] if reason == "unknown_tool" else [])


def test_unknown_names_come_with_close_ones():
    assert only(call(name="get_wether")).error == (
        "No tool is named 'get_wether'. Did you mean 'get_weather' or 'get_time'?"
    )
    assert only(call(name="zzz")).error == "No tool is named 'zzz'"
    tools = ToolRegistry()

    @tools.register
    def shout(text: str) -> str:
        return text.upper()

    _, (found,) = parse_and_resolve(call(name="shot"), tools.__getitem__)
    assert (found.reason, found.error) == ("unknown_tool", "No tool is named 'shot'. Did you mean 'shout'?")
    _, both = parse_and_resolve(
        [call(name="shot"), call(name="shuot", call_id=2)], tools.get, known=iter(tools)
    )
    assert ["shout" in one.error for one in both] == [True, True]


def test_a_look_up_that_raises_is_said():
    def find(name: str) -> object:
        raise OSError(name)

    resolved, (found,) = parse_and_resolve(call(), find)
    assert (resolved, found.reason) == ([], UnresolvedReason.LOOKUP_FAILED)
    assert "OSError" in found.error


@pytest.mark.parametrize(
    ("call_id", "expected"),
    [("a", "a"), (7, "7"), ("x" * 512, "x" * 512), ("call|with.odd:signs", "call|with.odd:signs")],
)
def test_ids_that_are_some(call_id: object, expected: str):
    (found,), _ = resolve(call(call_id=call_id))
    assert found.call_id == expected


@pytest.mark.parametrize(
    "call_id", [True, 1.5, ["a"], {}, "a\n", "\ud800", "x" * 513, 10**30, b"a"], ids=Labels()
)
def test_ids_that_are_none(call_id: object):
    found = only(call(call_id=call_id))
    assert found.reason == "bad_id"
    assert found.call_id.startswith("call_")


def test_missing_ids_are_made_the_same_each_time_and_differ():
    calls = [
        {"name": "f", "args": {"a": 1, "b": 2}},
        {"name": "f", "args": {"b": 2, "a": 1}},
        {"name": "f", "id": ""},
    ]
    ids = [one.call_id for one in resolve(calls)[0]]
    assert len(set(ids)) == 3
    assert [one.call_id for one in resolve(copy.deepcopy(calls))[0]] == ids
    assert resolve(calls[:1])[0][0].call_id == ids[0]
    assert resolve([{"name": "f", "args": '{"b": 2, "a": 1}'}])[0][0].call_id == ids[0]
    assert resolve(calls, id_scope="turn 2")[0][0].call_id not in ids
    assert resolve([{"name": "f", "args": {"a": 2}}])[0][0].call_id != ids[0]
    assert resolve([call(), calls[0]])[0][1].call_id == ids[1]  # at another position it is another call
    assert all(one.startswith("call_") and len(one) == 29 for one in ids)
    taken = [*calls[:1], {"name": "f", "id": ids[0]}]  # somebody's real id is never given to another
    first, second = resolve(taken)[0]
    assert second.call_id == ids[0] != first.call_id


def test_an_id_counts_once():
    resolved, unresolved = resolve([call(), call('{"a": 1}'), call("{", call_id="c2"), call(call_id="c2")])
    assert [(one.call_id, one.arguments) for one in resolved] == [("c1", {})]
    assert [(one.call_id, one.reason) for one in unresolved] == [
        ("c1", "duplicate_id"),
        ("c2", "half_streamed"),
        ("c2", "duplicate_id"),
    ]
    assert [one.reason for one in resolve([call(call_id=1), call(call_id="1")])[1]] == ["duplicate_id"]


@pytest.mark.parametrize(
    "item",
    [
        42,
        "f",
        b"f",
        None,
        True,
        1.5,
        {},
        {"id": "x"},
        {"arguments": "{}"},
        {"type": "function", "function": "f"},
        {"type": "function", "id": "x"},
        {"type": "tool_use"},
        {"type": "custom", "custom": "f"},
        {"function": {}},
        {"functionCall": 42},
        object(),
        dict,
        len,
        {1, 2},
        iter([]),
        StrEnum,
    ],
    ids=Labels(),
)
def test_what_is_no_call_is_said(item: object):
    found = only([item])
    assert (found.reason, found.name) == ("malformed", "")
    assert found.raw is item
    (good,), (bad,) = resolve([item, call()])
    assert (good.call_id, bad.raw) == ("c1", item)
    assert only({"tool_calls": [item]}).reason == "malformed"


@pytest.mark.parametrize("calls", [42, "f", {"a": 1}, True], ids=Labels())
def test_what_is_no_list_of_calls_is_said(calls: object):
    assert only({"role": "assistant", "content": None, "tool_calls": calls}).reason == "malformed"


def test_calls_of_kinds_that_are_not_known_are_said():
    assert only({"type": "computer_call", "call_id": "x", "action": {}}).reason == "unsupported"
    assert only({"type": "tool_used", "id": "x", "name": "f", "input": {}}).reason == "unsupported"
    assert only({"type": "function_2", "id": "x", "function": {"name": "f"}}).call_id == "x"


def test_input_of_a_custom_tool_is_text():
    (found,), _ = resolve({"type": "custom_tool_call", "call_id": "x", "name": "f", "input": '{"a": 1'})
    assert found.arguments == {"input": '{"a": 1'}
    assert (
        only({"type": "custom_tool_call", "call_id": "x", "name": "f", "input": {"a": 1}}).reason
        == "malformed"
    )
    assert (
        only({"type": "custom_tool_call", "call_id": "x", "name": "f", "input": "\ud800"}).reason
        == "not_json"
    )


# --- answers that end too early ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "whole"), [("", False), ('{"a": 1', False), ('{"a": 1}', True), ("{}", True)]
)
def test_the_last_call_of_an_answer_that_ran_into_its_limit(arguments: str, *, whole: bool):
    calls = [call("", call_id="a"), call(arguments, call_id="b")]
    answer = {"choices": [{"message": {"role": "assistant", "tool_calls": calls}, "finish_reason": "length"}]}
    for form in (answer, as_objects(answer)):
        resolved, unresolved = resolve(form)
        assert [one.call_id for one in resolved] == (["a", "b"] if whole else ["a"])
        assert [(one.call_id, one.reason) for one in unresolved] == (
            [] if whole else [("b", "half_streamed")]
        )


def test_an_object_at_the_end_of_such_an_answer_may_lack_anything():
    class Reason(Enum):
        MAX_TOKENS = "MAX_TOKENS"

    cut = ANTHROPIC | {"stop_reason": "max_tokens"}
    resolved, unresolved = resolve(cut)
    assert ([one.call_id for one in resolved], [one.call_id for one in unresolved]) == (
        ["call_abc"],
        ["call_def"],
    )
    assert unresolved[0].reason == "half_streamed"
    text_last = cut | {"content": [*ANTHROPIC["content"], {"type": "text", "text": "And n"}]}
    assert [one.call_id for one in resolve(text_last)[0]] == ["call_abc", "call_def"]
    candidate = GEMINI["candidates"][0]
    for reason in ("MAX_TOKENS", Reason.MAX_TOKENS):
        gemini = {"candidates": [candidate | {"finishReason": reason}]}
        assert [one.call_id for one in resolve(gemini)[1]] == ["call_def"]
    assert [one.call_id for one in resolve(BEDROCK | {"stopReason": "max_tokens"})[1]] == ["call_def"]


@pytest.mark.parametrize("status", ["incomplete", "in_progress"])
def test_an_item_that_says_it_is_incomplete_is(status: str):
    item = {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}", "status": status}
    assert only({"output": [item]}).reason == "half_streamed"
    assert only(item | {"name": "f_and_more"}).reason == "half_streamed"  # its name may be half, too
    custom = {"type": "custom_tool_call", "call_id": "x", "name": "f", "input": "SELECT"}
    assert only({"output": [custom], "status": "incomplete"}).reason == "half_streamed"


# --- limits and options --------------------------------------------------------------------------------------


def test_limits_may_be_set():
    assert only(call('{"a": 123}'), max_bytes=9).reason == "too_large"
    assert resolve(call('{"a": 123}'), max_bytes=10)[1] == []
    assert only(call({"a": "é"}), max_bytes=9).reason == "too_large"
    assert resolve(call({"a": "é"}), max_bytes=10)[1] == []
    assert only(call('{"a": []}'), max_depth=1).reason == "too_deep"
    assert only(call({"a": []}), max_depth=1).reason == "too_deep"
    assert resolve(call('{"a": []}'), max_depth=2)[1] == []


def test_more_calls_than_the_limit_are_one_entry():
    resolved, unresolved = resolve([call(call_id=number) for number in range(5)], max_calls=3)
    assert [one.call_id for one in resolved] == ["0", "1", "2"]
    assert [one.reason for one in unresolved] == ["too_many"]
    assert resolve([call(call_id=number) for number in range(3)], max_calls=3)[1] == []
    assert len(resolve(range(10**12))[1]) == 1_001
    endless = {"content": UserList([{"type": "text"}] * 100_001)}
    assert only(endless).reason == "too_many"


def test_fields_may_be_called_otherwise():
    calls = [
        {"key": "k", "fn": {"tool": "f", "params": '{"a": 1}'}},
        {"key": "l", "tool": "f", "params": {"a": 2}},
    ]
    resolved, unresolved = resolve(
        calls, id_field="key", name_field="tool", arguments_field="params", function_wrapper="fn"
    )
    assert [(one.call_id, one.arguments) for one in resolved] == [("k", {"a": 1}), ("l", {"a": 2})]
    assert unresolved == []


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"find": None}, "find"),
        ({"find": {"f": 1}}, "find"),
        ({"known": "f"}, "known"),
        ({"known": 1}, "known"),
        ({"id_field": 1}, "id_field"),
        ({"name_field": None}, "name_field"),
        ({"arguments_field": b"x"}, "arguments_field"),
        ({"function_wrapper": []}, "function_wrapper"),
        ({"id_scope": 1}, "id_scope"),
        ({"max_bytes": "1"}, "max_bytes"),
        ({"max_depth": 1.5}, "max_depth"),
        ({"max_calls": True}, "max_calls"),
    ],
    ids=Labels(),
)
def test_options_of_another_type_are_refused(options: dict[str, Any], argument: str):
    with pytest.raises(ArgumentTypeError) as caught:
        parse_and_resolve([], **{"find": TOOLS.get, **options})
    assert caught.value.argument == argument


async def find_later(name: str) -> object:
    return TOOLS.get(name)


class FindLater:
    async def __call__(self, name: str) -> object:
        return TOOLS.get(name)


@pytest.mark.parametrize("find", [find_later, FindLater()], ids=["function", "object"])
def test_a_look_up_that_would_have_to_be_awaited_is_refused(find: Any):
    with pytest.raises(ArgumentTypeError):
        parse_and_resolve([], find)


@pytest.mark.parametrize(
    "options", [{"max_bytes": 0}, {"max_depth": 0}, {"max_calls": 0}, {"id_field": ""}], ids=Labels()
)
def test_options_without_sense_are_refused(options: dict[str, Any]):
    with pytest.raises(ArgumentValueError):
        resolve([], **options)


def test_calls_are_values():
    (found,), _ = parse_and_resolve(call(), {"f": "tool"}.get)
    unknown = only(call(name="g"))
    for one in (found, unknown):
        assert pickle.loads(pickle.dumps(one)) == one
        assert copy.replace(one) == one if sys.version_info >= (3, 13) else True
        with pytest.raises(AttributeError):
            one.name = "x"
    assert repr(found) == "<ResolvedToolCall 'c1' f({})>"
    assert repr(unknown) == "<UnresolvedToolCall 'c1' 'g' unknown_tool: No tool is named 'g'>"


# --- hostile objects -----------------------------------------------------------------------------------------


class Raises:
    """Every attribute raises, and every look at it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    __len__ = __iter__ = __bool__ = __hash__ = __eq__ = __repr__ = __str__ = lambda self, *_: 1 / 0  # type: ignore[assignment]


class IsEverything:
    """Every attribute is there, and is one of these again."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # copy asks for these
        return IsEverything()


class SaysItIsText:
    """Claims to be a str, as a mock with a spec does."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return str


class BadMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise OSError(key)

    def __iter__(self) -> Iterator[str]:
        raise OSError

    def __len__(self) -> int:
        raise OSError


class BadList(UserList[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise OSError

    __len__ = __iter__  # type: ignore[assignment]


class OddText(str):
    """Says one thing and is another."""

    __slots__ = ()

    def __str__(self) -> str:
        return "get_time"

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("get_time")


HOSTILE = [Raises, IsEverything, SaysItIsText, BadMapping, BadList, lambda: OddText("f"), object]


@pytest.mark.parametrize("make", HOSTILE)
def test_hostile_objects_resolve_to_nothing(make: Any):
    for payload in (
        make(),
        [make()],
        {"tool_calls": make()},
        {"tool_calls": [make()]},
        {"choices": [make()]},
        {"content": [make()], "role": make()},
        call(make()),
        call({"a": make()}),
        call(call_id=make()),
        {"id": "x", "type": make(), "name": "f", "input": {}},
        {"output": make(), "stop_reason": make()},
    ):
        resolved, unresolved = resolve(payload)
        for one in [*resolved, *unresolved]:
            assert isinstance(one.call_id, str)
            assert type(one.call_id) is str
        for one in resolved:
            assert one.name == "f"
            json.dumps(one.arguments)


def test_a_name_is_looked_up_as_what_it_is():
    asked: list[Any] = []
    (found,), _ = parse_and_resolve(call(name=OddText("f")), lambda name: asked.append(name) or "tool")
    assert [type(one) for one in asked] == [str]
    assert [*asked, found.name] == ["f", "f"]


# --- mutated payloads ----------------------------------------------------------------------------------------

VALUES: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        float("nan"),
        "",
        "f",
        "get_weather",
        "get_time",
        "{}",
        "{",
        '{"a": 1}',
        "[]",
    ),
    *("\ud800", "\x00", "null", '{"a": NaN}', '{"a": 1, "a": 2}', b"{}", [], {}, [[]], [None], (1,), {1: 2}),
    *(
        "assistant",
        "user",
        "tool",
        "function",
        "tool_use",
        "function_call",
        "custom",
        "text",
        "length",
        "max_tokens",
    ),
    *("[" * 200, {"name": "f", "args": {}}, {"name": "f"}, {"function": {"name": "f", "arguments": "{}"}}),
    *(
        object(),
        IsEverything(),
        SaysItIsText(),
        BadMapping(),
        BadList(),
        {"a": {"b": [float("inf")]}},
        range(5),
    ),
]
KEYS = [
    *(
        "id",
        "name",
        "arguments",
        "function",
        "type",
        "input",
        "args",
        "parameters",
        "call_id",
        "role",
        "content",
    ),
    *(
        "tool_calls",
        "choices",
        "output",
        "message",
        "parts",
        "custom",
        "functionCall",
        "status",
        "stop_reason",
    ),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in a payload: what holds it, and the key or index."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        for key, one in list(value.items() if isinstance(value, dict) else enumerate(value)):
            found += [(value, key), *places(one)]
    return found


def mutate(payload: Any, rng: random.Random) -> Any:
    payload = copy.deepcopy(payload)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        every = places(payload)
        if not every:
            return payload
        holder, key = rng.choice(every)
        value = holder[key]
        match rng.choice((0, 1, 1, 1, 2, 3, 4, 5, 6, 7)):
            case 0:
                del holder[key]
            case 1 if type(value) is str and value:
                holder[key] = value[: rng.randrange(len(value))]
            case 2 if type(value) is str:
                at = rng.randrange(len(value) + 1)
                holder[key] = value[:at] + rng.choice('{}[]",:\\\x00é\ud83d 0') + value[at:]
            case 3 if isinstance(holder, list):
                holder.insert(rng.randrange(len(holder) + 1), copy.copy(value))
            case 4 if isinstance(holder, dict):
                holder[rng.choice(KEYS)] = holder.pop(key)
            case 5:
                other, at = rng.choice(every)
                holder[key] = copy.deepcopy(other[at]) if at in other or isinstance(other, list) else None
            case 6 if isinstance(value, dict):
                value[rng.choice(KEYS)] = copy.deepcopy(rng.choice(VALUES))
            case _:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
    return payload


def within(value: Any) -> Iterator[Any]:
    """Yield a value and everything in it; nothing of this is shared with the code under test."""
    yield value
    if isinstance(value, dict):
        for one in value.values():
            yield from within(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from within(one)


def as_list(value: object) -> list[int]:
    if isinstance(value, range):
        return list(value)
    raise TypeError(value)


def is_in(payload: Any, found: ResolvedToolCall) -> bool:
    """Say whether a resolved call was in the payload, word for word."""
    raws = [one for one in within(payload) if one is found.raw]
    leaves = list(within(found.raw))
    said = any(isinstance(one, str) and one == found.name for one in leaves)
    if found.arguments == {}:
        return bool(raws) and said
    for leaf in leaves:
        if found.arguments == {"input": leaf}:
            return bool(raws) and said
        try:
            value = json.loads(leaf) if type(leaf) is str else json.loads(json.dumps(leaf, default=as_list))
        except (ValueError, TypeError):
            continue
        if found.arguments == value:
            return bool(raws) and said
    return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_mutated_payloads_never_raise_and_resolve_nothing_that_was_not_there(shard: int):
    rng = random.Random(shard)
    names = list(PAYLOADS)
    outcomes: set[str] = set()
    for number in range(MUTATIONS // SHARDS):
        payload = mutate(PAYLOADS[names[number % len(names)]], rng)
        asked: list[str] = []

        def find(name: str, asked: list[str] = asked) -> object:
            asked.append(name)
            return TOOLS.get(name)

        resolved, unresolved = parse_and_resolve(payload, find, known=TOOLS)

        ids = [one.call_id for one in resolved]
        assert len(set(ids)) == len(ids)
        assert all(one.tool is TOOLS[one.name] for one in resolved)
        assert {one.name for one in resolved} <= set(asked)
        assert [one for one in resolved if not is_in(payload, one)] == []
        again = parse_and_resolve(payload, TOOLS.get, known=TOOLS)
        assert [one.call_id for one in (*again[0], *again[1])] == [
            one.call_id for one in (*resolved, *unresolved)
        ]
        outcomes.update(one.reason for one in unresolved)
        outcomes.update("resolved" for _ in resolved)
    # The mutations reach what they are for.
    expected = {
        "resolved",
        "malformed",
        "duplicate_id",
        "bad_id",
        "bad_name",
        "unknown_tool",
        "half_streamed",
    }
    assert outcomes >= {*expected, "invalid_json", "not_an_object", "not_json", "unsupported"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.timeout(300)
@settings(max_examples=2_000 if DEEP else 200, deadline=None)
@given(JSON)
def test_arguments_are_read_as_json_reads_them(value: Any):
    text = json.dumps(value)
    try:
        text.encode()
        json.dumps(json.loads(text), ensure_ascii=False, allow_nan=False).encode()
        is_strict = True
    except ValueError:
        is_strict = False
    for arguments in (text, value):
        if isinstance(arguments, str) and arguments is value:
            continue
        if value is None and arguments is None:
            continue
        resolved, unresolved = resolve(call(arguments))
        assert bool(resolved) == (is_strict and isinstance(value, dict))
        assert all(one.arguments == value for one in resolved)
        assert len(resolved) + len(unresolved) == 1


@pytest.mark.timeout(300)
@settings(max_examples=2_000 if DEEP else 200, deadline=None)
@given(st.dictionaries(st.text(max_size=9), JSON, min_size=1, max_size=3))
def test_every_beginning_of_arguments_is_half_streamed(value: Any):
    text = json.dumps(value)
    if "Infinity" in text or "NaN" in text:
        return  # no JSON from there on
    for end in range(1, len(text)):
        (found,) = resolve(call(text[:end]))[1]
        assert found.reason == "half_streamed" or (found.reason == "not_json" and "\\ud" in text)
