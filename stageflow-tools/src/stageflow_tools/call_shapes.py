"""Where the calls are in what a provider has sent: the wire formats, and nothing about tools.

Nothing is imported from a provider's SDK. Its objects are read by attribute, and dicts by key, so that both are the
same here. What is found is handed on as it came; ``stageflow_tools.calls`` checks it.

| source | where the calls are | id, name, arguments |
|---|---|---|
| OpenAI chat completions | ``choices[0].message.tool_calls`` | ``id``, ``function.name`` and ``.arguments`` (text) |
| the same, custom tools | in the same list, ``type: custom`` | ``id``, ``custom.name``, ``custom.input`` (free text) |
| the same, before tools | ``message.function_call`` | none, ``name``, ``arguments`` (text) |
| OpenAI responses | ``output``, ``type: function_call`` | ``call_id``, ``name``, ``arguments`` (text) |
| the same, custom tools | ``output``, ``type: custom_tool_call`` | ``call_id``, ``name``, ``input`` (free text) |
| Anthropic messages | ``content``, ``type: tool_use`` | ``id``, ``name``, ``input`` (object) |
| Gemini | ``candidates[0].content.parts``, ``functionCall`` | ``id`` or none, ``name``, ``args`` (object) |
| Bedrock converse | ``output.message.content``, ``toolUse`` | ``toolUseId``, ``name``, ``input`` (object) |
| anything else | a list, or one | ``id``, ``name``, ``arguments`` or ``args`` or ``input`` or ``parameters`` |

Of several alternatives (``choices``, ``candidates``) the first counts: the others were not chosen, and what they ask
for must not happen. Messages of anyone but the model hold no calls, whatever they say. What the provider itself
executes (a web search, a remote MCP tool) is not ours to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from itertools import islice
from typing import Any, Final, NamedTuple, TypeGuard, cast, final

from stageflow.errors import shown

from stageflow_tools.call_problem import CallProblem, UnresolvedReason

__all__ = [
    "CallFields",
    "RequestedCall",
    "calls_in",
    "field_of",
    "is_list",
    "is_record",
    "is_text",
    "was_cut",
]

_MODEL: Final = frozenset({"assistant", "model"})
_NO_CALLS: Final = frozenset(
    {
        # content
        *("text", "input_text", "output_text", "refusal", "thinking", "redacted_thinking", "reasoning"),
        *("summary_text", "reasoning_text", "image", "image_url", "input_image", "input_audio", "audio"),
        *("input_file", "file", "document", "video", "search_result", "container_upload", "compaction"),
        # results
        *("tool_result", "function_call_output", "custom_tool_call_output", "computer_call_output"),
        *("local_shell_call_output", "shell_call_output", "apply_patch_call_output", "mcp_tool_result"),
        *("web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result"),
        *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
        *("tool_search_tool_result", "tool_reference"),
        # what the provider executes
        *("server_tool_use", "mcp_tool_use", "mcp_call", "mcp_list_tools", "mcp_approval_request"),
        *("mcp_approval_response", "web_search_call", "file_search_call", "code_interpreter_call"),
        *("image_generation_call", "tool_search_call", "tool_search_output", "program", "program_output"),
    }
)
_WITHOUT_TOOL: Final = frozenset({"computer_call", "local_shell_call", "shell_call", "apply_patch_call"})
_CALL_KINDS: Final = frozenset(
    {"function", "function_call", "custom", "custom_tool_call", "tool_use", "tool_call", "call"}
)
_WRAPPERS: Final = ("functionCall", "function_call", "toolUse")
_HOLDERS: Final = ("message", "output", "content", "parts")
_ENDINGS: Final = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason", "status")
_TOO_EARLY: Final = frozenset(
    {
        *("length", "max_tokens", "MAX_TOKENS", "model_context_window_exceeded"),
        *("content_filter", "refusal", "incomplete"),
    }
)
_ARGUMENTS: Final = ("arguments", "args", "input", "parameters")
_MOST_ITEMS: Final = 100_000  # of one list: it may be a sequence that is made up as it goes
_MOST_LEVELS: Final = 12  # from a list of responses down to a call
_PLAIN: Final = (str, bytes, bytearray, memoryview, bool, int, float, complex)
_NO_RECORDS: Final = (*_PLAIN, Sequence, AbstractSet, Iterator, type)


class _Place(Enum):
    """Where something stands, which decides what it is if it is no call."""

    ANYWHERE = auto()
    CONTENT = auto()  # next to text, images and whatever else a provider comes up with
    CALLS = auto()  # where there are calls and nothing else


class CallFields(NamedTuple):
    """What the fields of a call are called where the shape is nobody's in particular."""

    id: str = "id"
    name: str = "name"
    arguments: str = "arguments"
    wrapper: str = "function"


class RequestedCall(NamedTuple):
    """One call as it came.

    Attributes:
        call_id: What stands where the id is; None if there is none.
        name: What stands where the name is.
        arguments: What stands where the arguments are.
        raw: All of it.
        is_text: Whether the arguments are free text, and no JSON.
        is_cut: Whether it ends too early. None: it is the last of an answer that has, so its arguments decide.
        problem: Why it is no call at all.
    """

    call_id: object
    name: object
    arguments: object
    raw: object
    is_text: bool = False
    is_cut: bool | None = False
    problem: CallProblem | None = None


def calls_in(value: object, fields: CallFields) -> Iterator[RequestedCall]:
    """Yield every call in a list of calls, a message, a response, or a list of any of these, in their order.

    Args:
        value: Anything at all. What should be a call and is none comes with its ``problem``.
        fields: The names of the fields in calls of no particular provider.
    """
    if value is not None:
        yield from _Search(fields).through(value, _Place.ANYWHERE, 0, at_end=False)


def field_of(holder: object, name: str) -> Any:
    """Return a key of a mapping or an attribute of an object, or None. Whatever raises is not there."""
    try:
        if issubclass(type(holder), Mapping):
            return cast("Mapping[str, Any]", holder).get(name)
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a property of somebody else's
        return None


def is_text(value: object) -> TypeGuard[str]:
    """Say whether it is a str. It asks the type alone, as an object may claim any ``__class__``, or raise."""
    return issubclass(type(value), str)


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Say whether it is a list of whatever, and not text."""
    kind = type(value)
    return issubclass(kind, Sequence) and not issubclass(kind, (str, bytes, bytearray, memoryview))


def is_record(value: object) -> bool:
    """Say whether it may have fields: a mapping, or an object of an SDK."""
    return value is not None and not issubclass(type(value), _NO_RECORDS)


def was_cut(reason: object) -> bool:
    """Say whether an answer that ended for this reason (``finish_reason``, ``stop_reason``) ended too early."""
    reason = field_of(reason, "value") or reason  # an enum, in some SDKs
    return is_text(reason) and reason in _TOO_EARLY


@final
class _Search:
    """Goes through lists, responses and messages down to the calls.

    ``at_end`` says that nothing comes after this in an answer that has ended too early.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: CallFields) -> None:
        self._fields = fields

    def through(self, value: object, place: _Place, level: int, *, at_end: bool) -> Iterator[RequestedCall]:
        if level > _MOST_LEVELS:
            yield _no_call(value, "It is nested too deep", UnresolvedReason.TOO_DEEP)
        elif is_list(value):
            yield from self._list(value, place, level, at_end=at_end)
        elif is_record(value):
            try:
                yield from self._record(value, place, level, at_end=at_end)
            except Exception as exc:  # noqa: BLE001 - an object of somebody else's may raise anything
                yield _no_call(value, f"It cannot be read: {type(exc).__name__}")
        elif not (place is _Place.CONTENT and is_text(value)):
            yield _no_call(value)

    def _list(
        self, items: Sequence[object], place: _Place, level: int, *, at_end: bool
    ) -> Iterator[RequestedCall]:
        try:
            few = list(islice(items, _MOST_ITEMS))
            left = len(few) == _MOST_ITEMS and len(items) > _MOST_ITEMS
        except Exception as exc:  # noqa: BLE001 - a sequence of somebody else's may raise anything
            yield _no_call(items, f"Its items cannot be read: {type(exc).__name__}")
            return
        for number, item in enumerate(few, start=1):
            is_last = number == len(few) and not left
            yield from self.through(item, place, level + 1, at_end=at_end and is_last)
        if left:
            problem = f"Only its first {_MOST_ITEMS} items were looked at"
            yield _no_call(items, problem, UnresolvedReason.TOO_MANY)

    def _record(self, record: object, place: _Place, level: int, *, at_end: bool) -> Iterator[RequestedCall]:
        role, kind = field_of(record, "role"), field_of(record, "type")
        if (is_text(role) and role not in _MODEL) or (is_text(kind) and kind in _NO_CALLS):
            return
        kind = kind if is_text(kind) else None
        call = _call(record, kind, self._fields)
        if call is not None:
            yield call._replace(is_cut=None) if at_end and call.is_cut is False else call
            return
        inner = list(_held(record))
        at_end = at_end or any(was_cut(field_of(record, name)) for name in _ENDINGS)
        for number, (held, where) in enumerate(inner, start=1):
            yield from self.through(held, where, level + 1, at_end=at_end and number == len(inner))
        if not inner and not _is_answer(record):
            yield from self._neither(record, kind, place)

    def _neither(self, record: object, kind: str | None, place: _Place) -> Iterator[RequestedCall]:
        """Yield what is neither a call nor holds any, unless it is content of another kind."""
        if kind is None:
            is_content = place is _Place.CONTENT or (
                place is _Place.ANYWHERE and is_text(field_of(record, "text"))
            )
            if not is_content or any(field_of(record, name) is not None for name in _WRAPPERS):
                yield _no_call(record)
        elif kind in _CALL_KINDS:
            yield _no_call(record, f"It is a call of the type {shown(kind)}, but has no name")
        elif kind in _WITHOUT_TOOL:
            said = f"A {kind} names no tool"
            yield _no_call(record, said, UnresolvedReason.UNSUPPORTED, call_id=field_of(record, "call_id"))
        elif (call := _wrapped(record, self._fields) or _generic(record, self._fields)) is not None:
            said = f"A call of the type {shown(kind)} is not known"
            yield _no_call(record, said, UnresolvedReason.UNSUPPORTED, call_id=call.call_id)
        elif place is _Place.CALLS:
            yield _no_call(record)


def _held(record: object) -> Iterator[tuple[object, _Place]]:
    """Yield what a message or a response holds calls in."""
    for several in ("choices", "candidates"):
        answers = field_of(record, several)
        if is_list(answers):
            answer = _first(answers)
            if answer is not None:
                yield answer, _Place.CONTENT
            return
    calls = field_of(record, "tool_calls")
    if calls is not None and not (is_list(calls) and _is_empty(calls)):
        yield calls, _Place.CALLS  # some libraries show the same calls in the content once more
        return
    single = field_of(record, "function_call")
    if single is not None:
        yield single, _Place.CALLS
    for name in _HOLDERS:
        held = field_of(record, name)
        if is_list(held) or is_record(held):
            yield held, _Place.CONTENT


def _first(answers: Any) -> object:
    """Return the answer whose index is 0, or the first one."""
    try:
        few: list[object] = list(islice(answers, _MOST_ITEMS))
        return next((one for one in few if field_of(one, "index") == 0), few[0] if few else None)
    except Exception:  # noqa: BLE001 - a sequence of somebody else's
        return None


def _is_empty(items: Any) -> bool:
    try:
        return len(items) == 0
    except Exception:  # noqa: BLE001 - a sequence of somebody else's
        return False


def _is_answer(record: object) -> bool:
    """Say whether it is a message or a response without calls, and not something that should have been a call."""
    names = ("role", "choices", "candidates", "tool_calls", *_HOLDERS)
    if issubclass(type(record), Mapping):
        return any(name in cast("Mapping[object, object]", record) for name in names)
    return any(field_of(record, name) is not None for name in names)


def _call(record: object, kind: str | None, fields: CallFields) -> RequestedCall | None:
    """Return the call that a record is, if it is one of a known shape."""
    match kind:
        case "function_call":
            status = field_of(record, "status")
            is_cut = is_text(status) and status in {"incomplete", "in_progress"}
            call_id = _either(field_of(record, "call_id"), field_of(record, fields.id))
            arguments = field_of(record, fields.arguments)
            return RequestedCall(call_id, field_of(record, fields.name), arguments, record, is_cut=is_cut)
        case "custom_tool_call":
            call_id = _either(field_of(record, "call_id"), field_of(record, fields.id))
            return _of_text(call_id, record, record, fields)
        case "custom":
            call_id, inner = field_of(record, fields.id), field_of(record, "custom")
            return _of_text(call_id, inner, record, fields) if is_record(inner) else None
        case "tool_use":
            name, arguments = field_of(record, fields.name), field_of(record, "input")
            return RequestedCall(field_of(record, fields.id), name, arguments, record)
        case "function" | "tool_call" | "call" | None:
            return _wrapped(record, fields) or _generic(record, fields)
        case _:
            return None


def _of_text(call_id: object, inner: object, raw: object, fields: CallFields) -> RequestedCall:
    name, text = field_of(inner, fields.name), field_of(inner, "input")
    return RequestedCall(call_id, name, text, raw, is_text=True)


def _wrapped(record: object, fields: CallFields) -> RequestedCall | None:
    """Return a call whose name and arguments are one level down."""
    if is_text(field_of(record, "role")):
        return None  # a message, whose function_call is another matter
    for wrapper in (fields.wrapper, *_WRAPPERS):
        inner = field_of(record, wrapper)
        if is_record(inner):
            call_id = _either(
                field_of(record, fields.id), field_of(inner, fields.id), field_of(inner, "toolUseId")
            )
            return RequestedCall(call_id, field_of(inner, fields.name), _arguments(inner, fields), record)
    return None


def _generic(record: object, fields: CallFields) -> RequestedCall | None:
    name, arguments = field_of(record, fields.name), _arguments(record, fields)
    if name is None:
        return None
    if arguments is None and (not issubclass(type(record), Mapping) or _is_answer(record)):
        return None  # many objects have a name
    call_id = _either(*(field_of(record, one) for one in (fields.id, "call_id", "tool_call_id")))
    return RequestedCall(call_id, name, arguments, record)


def _arguments(record: object, fields: CallFields) -> object:
    return _either(*(field_of(record, name) for name in (fields.arguments, *_ARGUMENTS)))


def _either(*values: object) -> object:
    return next((value for value in values if value is not None), None)


def _no_call(
    raw: object,
    error: str = "",
    reason: UnresolvedReason = UnresolvedReason.MALFORMED,
    call_id: object = None,
) -> RequestedCall:
    said = error or f"It is no call of a tool: {shown(raw)}"
    return RequestedCall(call_id, None, None, raw, problem=CallProblem(reason, said))
