"""Calls that arrive in pieces: put together while they stream, and resolved as a whole answer would be.

| source | what is read of it |
|---|---|
| OpenAI chat completions | ``choices[0].delta.tool_calls`` by ``index``, ``delta.function_call``, ``finish_reason`` |
| OpenAI responses | ``response.output_item.added`` and ``.done``, ``response.function_call_arguments.delta`` and |
| | ``.done``, ``response.custom_tool_call_input.delta`` and ``.done``, ``response.completed`` and ``.incomplete`` |
| Anthropic messages | ``content_block_start``, ``input_json_delta``, ``content_block_stop``, ``message_delta`` |
| Gemini, Ollama | chunks that hold whole calls |

Invariants:

1. Whatever the pieces, the finished calls are those of the same answer read in one piece.
2. A call is finished when the provider has said so: by the event that ends it, by the ``finish_reason``, or in chat
   completions by beginning another call. Complete JSON alone is not enough.
3. It takes time linear in what has streamed. Arguments are parsed when somebody looks at them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast, final

from stageflow.context.checks import check_count
from stageflow.errors import shown

from stageflow_tools.call_arguments import ArgumentLimits, read_arguments
from stageflow_tools.call_problem import CallProblem, UnresolvedReason
from stageflow_tools.call_shapes import (
    CallFields,
    RequestedCall,
    calls_in,
    field_of,
    is_list,
    is_record,
    is_text,
    was_cut,
)
from stageflow_tools.calls import CallResolver, limits_of
from stageflow_tools.partial_json import parse_partial_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stageflow_tools.calls import ResolvedToolCall, UnresolvedToolCall

    _Key = int | str | tuple[str, int]  # an index, an id, or what is unlike both

__all__ = ["PartialToolCall", "ToolCallAssembler"]

_FIELDS: Final = CallFields()
_LIMITS: Final = ArgumentLimits()
_LONGEST_NAME: Final = 1_000  # longer than any tool's, so that it is refused
_FUNCTION_CALL: Final = "function_call"
_CUSTOM_CALL: Final = "custom_tool_call"
_TEXT_KINDS: Final = frozenset({"custom", _CUSTOM_CALL})
_DELTAS: Final = frozenset(
    {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
)
_DONE: Final = {
    "response.function_call_arguments.done": "arguments",
    "response.custom_tool_call_input.done": "input",
}
_ITEMS: Final = {"response.output_item.added": False, "response.output_item.done": True}
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})


@final
class PartialToolCall:
    """A call as far as it has come; it stays as it is when more comes.

    Args:
        call: The call that is being put together.

    Attributes:
        call_id: Its id, or an empty text as long as none has come.
        name: Its name so far.
        is_finished: Whether all of it is there.
    """

    __slots__ = ("_count", "_is_text", "_parts", "_whole", "call_id", "is_finished", "name")

    def __init__(self, call: _Assembled) -> None:
        self.call_id = call.call_id if is_text(call.call_id) else ""
        self.name = call.name
        self.is_finished = call.is_finished
        self._whole = call.whole
        self._is_text = call.kind in _TEXT_KINDS
        self._parts = call.parts  # only ever appended to
        self._count = len(call.parts)

    @property
    def text(self) -> str:
        """The arguments as they have streamed so far."""
        return "".join(self._parts[: self._count])

    @property
    def arguments(self) -> dict[str, Any]:
        """What the arguments say so far; see ``parse_partial_json``. It is for showing, not for acting upon."""
        if self._is_text:
            return {"input": self.text}
        value = parse_partial_json(self.text) if self._count else self._whole
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

    def __repr__(self) -> str:
        state = "finished" if self.is_finished else "unfinished"
        return f"<PartialToolCall {shown(self.call_id)} {shown(self.name)} {state}>"


@final
class ToolCallAssembler:
    """Puts the calls of one streamed answer together. No event makes it raise.

    It takes the chunks and events of OpenAI chat completions, OpenAI responses and Anthropic messages, as dicts or as
    objects of an SDK; what has nothing to do with calls is passed over.

    Args:
        max_bytes: The most bytes of one call's arguments. What comes after is not kept.
        max_depth: How deep its objects and lists may be nested.
        max_calls: How many calls are looked at.

    Raises:
        ArgumentTypeError: A limit is no int.
        ArgumentValueError: A limit is below 1.

    ```python
    from stageflow_tools.call_stream import ToolCallAssembler

    chunks = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city": "Par'}},
        {"index": 0, "function": {"arguments": 'is"}'}},
    ]
    assembler = ToolCallAssembler()
    for chunk in chunks:
        for call in assembler.feed({"choices": [{"index": 0, "delta": {"tool_calls": [chunk]}}]}):
            print(call.name, call.arguments)
            #> weather {}
            #> weather {'city': 'Par'}
            #> weather {'city': 'Paris'}

    _, unresolved = assembler.resolve({"weather": print}.get)
    print(unresolved[0].reason)
    #> half_streamed
    assembler.feed({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    (call,), _ = assembler.resolve({"weather": print}.get)
    print(call.name, call.arguments)
    #> weather {'city': 'Paris'}
    ```
    """

    __slots__ = ("_by_key", "_calls", "_last_block", "_limits", "_most")

    def __init__(self, *, max_bytes: int = 1_000_000, max_depth: int = 64, max_calls: int = 1_000) -> None:
        owner = type(self).__name__
        self._limits = limits_of(owner, max_bytes, max_depth)
        check_count(owner, "max_calls", max_calls, least=1)
        self._most = max_calls
        self._calls: list[_Assembled] = []
        self._by_key: dict[_Key, _Assembled] = {}  # the call that pieces with this key belong to
        self._last_block: _Assembled | None = None  # of an Anthropic message: None, if it is no call

    @property
    def calls(self) -> tuple[PartialToolCall, ...]:
        """All calls so far, in their order."""
        return tuple([PartialToolCall(call) for call in self._calls])

    def feed(self, event: object) -> tuple[PartialToolCall, ...]:
        """Take the next event of the stream.

        Args:
            event: A chunk or an event, as a dict or as an object of an SDK.

        Returns:
            The calls that it has added to, as far as they have come.
        """
        changed: dict[_Assembled, None] = {}
        try:
            changed.update(dict.fromkeys(self._changes(event)))
        except Exception as exc:  # noqa: BLE001 - an object of somebody else's may raise anything
            problem = f"An event of the stream cannot be read: {type(exc).__name__}"
            self._malformed(event, problem)
        return tuple([PartialToolCall(call) for call in changed])

    def resolve(
        self, find: Callable[[str], Any | None], *, known: Iterable[str] = (), id_scope: str = ""
    ) -> tuple[list[ResolvedToolCall], list[UnresolvedToolCall]]:
        """Return the calls as ``parse_and_resolve`` does. It may be asked at any time, and more than once.

        Call it when the stream has ended, or has broken: what is not finished is unresolved, as ``half_streamed``.

        Args:
            find: Returns the tool that has a name, or None.
            known: The names that there are, for hints about misspelt ones.
            id_scope: What ids that are made up depend on too.

        Raises:
            ArgumentTypeError: ``find`` or an option has another type.
        """
        owner = f"{type(self).__name__}.resolve"
        resolver = CallResolver(owner, find, known, id_scope=id_scope, limits=self._limits, most=self._most)
        return resolver.resolve(call.requested() for call in self._calls)

    # --- the events -------------------------------------------------------------------------------------

    def _changes(self, event: object) -> Iterator[_Assembled]:
        kind = field_of(event, "type")
        if is_text(kind):
            if kind.startswith("response."):
                yield from self._of_responses(kind, event)
            else:
                yield from self._of_anthropic(kind, event)
            return
        choices = field_of(event, "choices")
        if is_list(choices):
            for choice in choices:
                if field_of(choice, "index") in (0, None):
                    yield from self._of_chat(choice)
        elif is_record(event) and (field_of(event, "candidates") or field_of(event, "message")):
            yield from self._whole_calls(event)

    def _of_chat(self, choice: object) -> Iterator[_Assembled]:
        delta = field_of(choice, "delta")
        pieces = field_of(delta, "tool_calls")
        if is_list(pieces):
            for piece in pieces:
                yield from self._chat_piece(piece)
        elif pieces is not None:
            self._malformed(pieces, f"It is no list of calls: {shown(pieces)}")
        single = field_of(delta, "function_call")
        if is_record(single):
            call = self._by_key.get(_FUNCTION_CALL) or self._begin(_FUNCTION_CALL, "message")
            if call is not None:
                call.add_name(field_of(single, "name"), restated=False)
                call.add(field_of(single, "arguments"), self._limits.most_bytes)
                yield call
        if delta is None and field_of(choice, "message") is not None:
            yield from self._whole_calls({"choices": [choice]})
        reason = field_of(choice, "finish_reason")
        if is_text(reason):
            yield from self._end(is_early=was_cut(reason))

    def _end(self, *, is_early: bool) -> Iterator[_Assembled]:
        """Finish all calls of a chat completion."""
        if self._calls and is_early:
            self._calls[-1].is_cut = None
        for call in self._calls:
            if not call.is_finished:
                call.is_finished = True
                yield call

    def _chat_piece(self, piece: object) -> Iterator[_Assembled]:
        if not is_record(piece):
            self._malformed(piece, f"It is no piece of a call: {shown(piece)}")
            return
        index, call_id = field_of(piece, "index"), field_of(piece, "id")
        kind = "custom" if is_record(field_of(piece, "custom")) else "function"
        inner = field_of(piece, kind)
        name = field_of(inner, "name")
        key = index if type(index) is int else None
        call = self._by_key.get(key) if key is not None else None
        if key is None and self._calls:
            call = self._calls[-1]
        if call is None or call.is_another(call_id, name):
            if self._calls and self._calls[-1].kind == "function":
                self._calls[-1].is_finished = True
            call = self._begin(key, kind)
        if call is not None:
            call.add_name(name, restated=bool(call_id) and call_id == call.call_id)
            call.call_id = call_id or call.call_id
            call.add(field_of(inner, "input" if kind == "custom" else "arguments"), self._limits.most_bytes)
            call.is_finished = False
            yield call

    def _of_responses(self, kind: str, event: object) -> Iterator[_Assembled]:
        if kind in _ITEMS:
            item, index = field_of(event, "item"), field_of(event, "output_index")
            yield from self._item(item, index, is_done=_ITEMS[kind])
        elif kind in _DELTAS or kind in _DONE:
            index, item_id = field_of(event, "output_index"), field_of(event, "item_id")
            call = self._with_key(index, item_id, _CUSTOM_CALL if "custom" in kind else _FUNCTION_CALL)
            if call is not None:
                if kind in _DELTAS:
                    call.add(field_of(event, "delta"), self._limits.most_bytes)
                else:
                    call.replace(field_of(event, _DONE[kind]))
                    call.is_finished = True
                yield call
        elif kind in _ENDS:
            response = field_of(event, "response")
            items = field_of(response, "output")
            call = None
            for number, item in enumerate(items if is_list(items) else ()):
                call = None
                for call in self._item(item, number, is_done=True):
                    yield call
            if call is not None and call.is_cut is False and was_cut(field_of(response, "status")):
                call.is_cut = None

    def _item(self, item: object, index: object, *, is_done: bool) -> Iterator[_Assembled]:
        """Take an output item of OpenAI responses, at its beginning or at its end."""
        kind = field_of(item, "type")
        if not is_text(kind) or kind not in {_FUNCTION_CALL, _CUSTOM_CALL}:
            return
        item_id, call_id, name = field_of(item, "id"), field_of(item, "call_id"), field_of(item, "name")
        call = self._with_key(index, item_id, kind)
        if call is None:
            return
        call.kind = kind
        call.call_id = item_id if call_id is None else call_id
        call.name = ""
        call.add_name(name, restated=False)
        text = field_of(item, "input" if kind == _CUSTOM_CALL else "arguments")
        if is_done or text:
            call.replace(text)
        if is_done:
            status = field_of(item, "status")
            call.is_finished = True
            call.is_cut = is_text(status) and status in {"incomplete", "in_progress"}
        yield call

    def _with_key(self, index: object, item_id: object, kind: str) -> _Assembled | None:
        """Return the call that is the item with this id or index, beginning it if there is none."""
        keys: list[_Key] = [item_id] if is_text(item_id) else []
        if type(index) is int:
            keys.append(index)
        call = next((self._by_key[key] for key in keys if key in self._by_key), None) or self._begin(
            None, kind
        )
        if call is not None:
            self._by_key.update(dict.fromkeys(keys, call))
        return call

    def _of_anthropic(self, kind: str, event: object) -> Iterator[_Assembled]:
        index = field_of(event, "index")
        key = ("block", index if type(index) is int else -1)
        match kind:
            case "content_block_start":
                block = field_of(event, "content_block")
                self._last_block = None
                if field_of(block, "type") == "tool_use":
                    call = self._last_block = self._begin(key, "tool_use")
                    if call is not None:
                        call.call_id = field_of(block, "id")
                        call.add_name(field_of(block, "name"), restated=False)
                        call.whole = field_of(block, "input")
                        yield call
            case "content_block_delta":
                delta = field_of(event, "delta")
                call = self._by_key.get(key)
                if call is not None and field_of(delta, "type") == "input_json_delta":
                    call.add(field_of(delta, "partial_json"), self._limits.most_bytes)
                    yield call
            case "content_block_stop":
                call = self._by_key.get(key)
                if call is not None:
                    call.is_finished = True
                    yield call
            case "message_delta":
                call = self._last_block
                if call is not None and was_cut(field_of(field_of(event, "delta"), "stop_reason")):
                    call.is_cut = None
            case _:
                pass

    def _whole_calls(self, event: object) -> Iterator[_Assembled]:
        """Take a chunk that holds calls in one piece."""
        for requested in calls_in(event, _FIELDS):
            call = self._begin(None, "whole")
            if call is not None:
                call.take(requested)
                yield call

    # --- the calls --------------------------------------------------------------------------------------

    def _begin(self, key: _Key | None, kind: str) -> _Assembled | None:
        if len(self._calls) > self._most:  # one more than is looked at, so that it is noticed
            return None
        call = _Assembled(kind)
        self._calls.append(call)
        if key is not None:
            self._by_key[key] = call
        return call

    def _malformed(self, raw: object, problem: str) -> None:
        call = self._begin(None, "whole")
        if call is not None:
            call.take(
                RequestedCall(None, None, None, raw, problem=CallProblem(UnresolvedReason.MALFORMED, problem))
            )


@final
class _Assembled:
    """One call that is being put together.

    Args:
        kind: The ``type`` that it would have in a whole answer; ``message`` is the one call of a message before there
            were tools, and ``whole`` is one that came in one piece.
    """

    __slots__ = (
        "_came",
        "_odd_name",
        "call_id",
        "is_cut",
        "is_finished",
        "kind",
        "name",
        "parts",
        "problem",
        "size",
        "whole",
    )

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.call_id: Any = None
        self.name = ""
        self.parts: list[str] = []
        self.size = 0  # characters
        self.whole: Any = None  # arguments that came as an object
        self.is_finished = False
        self.is_cut: bool | None = False
        self.problem: CallProblem | None = None
        self._came: RequestedCall | None = None
        self._odd_name: object = None

    def is_another(self, call_id: object, name: object) -> bool:
        """Say whether a piece of a chat completion begins another call, though its index is this one's.

        Some servers number no calls, or give them no ids.
        """
        if call_id and self.call_id is not None:
            return bool(call_id != self.call_id)
        return bool(name) and not call_id and isinstance(read_arguments(self._text() or "-", _LIMITS), dict)

    def add_name(self, name: object, *, restated: bool) -> None:
        """Append a piece of the name. Some servers say all of it again with every piece, and the id too."""
        if not is_text(name):
            self._odd_name = self._odd_name if name is None else name
        elif not (restated and name == self.name) and len(self.name) <= _LONGEST_NAME:
            self.name += name

    def add(self, piece: object, most: int) -> None:
        """Append a piece of the arguments, unless there is too much of them already."""
        if is_text(piece):
            if self.size <= most:
                self.parts.append(piece)
                self.size += len(piece)
        elif piece is not None:
            if self.parts:
                problem = f"A piece of its arguments is no text: {shown(piece)}"
                self.problem = CallProblem(UnresolvedReason.MALFORMED, problem)
            self.whole = piece

    def replace(self, text: object) -> None:
        """Put the whole arguments in the place of the pieces."""
        if is_text(text):
            self.parts, self.size = [text], len(text)  # a new list: others look at the old one
        elif text is not None:
            self.parts, self.size, self.whole = [], 0, text

    def take(self, came: RequestedCall) -> None:
        """Be a call that came in one piece."""
        self._came, self.is_finished = came, True
        self.call_id, self.whole = came.call_id, came.arguments
        self.name = came.name if is_text(came.name) else ""

    def requested(self) -> RequestedCall:
        """Return the call as the same call in a whole answer would be."""
        if self._came is not None:
            return self._came
        text = self._text()
        arguments: Any = text if self.parts or self.whole is None else self.whole
        name: Any = self.name or self._odd_name
        is_cut = self.is_cut if self.is_finished else True
        raw: dict[str, Any]
        match self.kind:
            case "custom":
                raw = {"id": self.call_id, "type": "custom", "custom": {"name": name, "input": arguments}}
            case "message":
                raw = {"name": name, "arguments": arguments}
            case "tool_use":
                value = parse_partial_json(text) if self.parts else arguments
                shape = {"type": "tool_use", "id": self.call_id, "name": name}
                raw = {**shape, "input": value if isinstance(value, dict) else arguments}
            case "function":
                inner = {"name": name, "arguments": arguments}
                raw = {"id": self.call_id, "type": "function", "function": inner}
            case _:
                field = "input" if self.kind == _CUSTOM_CALL else "arguments"
                raw = {"type": self.kind, "call_id": self.call_id, "name": name, field: arguments}
        is_text_tool = self.kind in _TEXT_KINDS
        return RequestedCall(self.call_id, name, arguments, raw, is_text_tool, is_cut, self.problem)

    def _text(self) -> str:
        return "".join(self.parts)
