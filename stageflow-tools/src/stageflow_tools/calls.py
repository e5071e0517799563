"""What a model has asked for: its calls of tools, each with its tool, or with the reason why it has none.

```
whatever came ──► calls_in (call_shapes) ──► id, name, look-up, arguments ──► ResolvedToolCall
                                                        │ any of them fails
                                                        └──► UnresolvedToolCall, with the reason
```

Invariants:

1. Every call that was there comes back exactly once, resolved or not, in the order in which it came.
2. What is resolved was there: its name and arguments are the model's own, never repaired, completed or guessed.
3. No two resolved calls have the same id.
4. No input raises, and none takes more than linear time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.checks import check_count, check_name, check_type, wrong_type
from stageflow.context.record import Record
from stageflow.errors import StageflowError, close_matches, shown

from stageflow_tools.call_arguments import ArgumentLimits, plain_json, read_arguments
from stageflow_tools.call_problem import CallProblem, UnresolvedReason
from stageflow_tools.call_shapes import CallFields, RequestedCall, calls_in, is_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CallResolver",
    "ResolvedToolCall",
    "UnresolvedReason",
    "UnresolvedToolCall",
    "parse_and_resolve",
]

_LONGEST_NAME: Final = 128
_LONGEST_ID: Final = 512


@final
class ResolvedToolCall(Record):
    """A call that can be executed, once its arguments fit the tool; it is an ``Action``.

    Args:
        call_id: The id that the answer has to name.
        name: The tool's name, as the model wrote it.
        arguments: The arguments, in plain dicts and lists that nobody else has.
        tool: What the look-up returned for the name.
        raw: The call as it came.

    ```python
    from stageflow_tools.calls import ResolvedToolCall

    print(ResolvedToolCall("call_1", "add", {"a": 1}, max).name)
    #> add
    ```
    """

    __match_args__ = ("call_id", "name", "arguments", "tool", "raw")
    __slots__ = __match_args__
    call_id: str
    name: str
    arguments: dict[str, Any]
    tool: Any
    raw: Any

    def __init__(
        self, call_id: str, name: str, arguments: dict[str, Any], tool: Any, raw: Any = None
    ) -> None:
        put = object.__setattr__
        put(self, "call_id", call_id)
        put(self, "name", name)
        put(self, "arguments", arguments)
        put(self, "tool", tool)
        put(self, "raw", raw)

    @property
    def id(self) -> str:
        """The call, as an action has it."""
        return self.call_id

    @property
    def type(self) -> str:
        """The tool, as an action names it: by its own name, whatever the model was told that it is called."""
        return str(getattr(self.tool, "name", self.name))

    @property
    def payload(self) -> dict[str, Any]:
        """The arguments, as an action has them."""
        return self.arguments

    def __repr__(self) -> str:
        return f"<ResolvedToolCall {shown(self.call_id)} {self.name}({shown(self.arguments)})>"


@final
class UnresolvedToolCall(Record):
    """What should have been a call, or is one that cannot be executed.

    Args:
        call_id: The id that an answer would name; one that was made up, if it has none that could be used.
        name: The name, or an empty text if it has none.
        arguments: The arguments as they came.
        error: What is wrong, in a sentence for the model or the log.
        reason: What is wrong, for programs.
        raw: The call as it came.

    ```python
    from stageflow_tools.calls import UnresolvedReason, UnresolvedToolCall

    call = UnresolvedToolCall("call_1", "ad", "{}", "No tool is named 'ad'", UnresolvedReason.UNKNOWN_TOOL)
    print(call.reason, call.error)
    #> unknown_tool No tool is named 'ad'
    ```
    """

    __match_args__ = ("call_id", "name", "arguments", "error", "reason", "raw")
    __slots__ = __match_args__
    call_id: str
    name: str
    arguments: Any
    error: str
    reason: UnresolvedReason
    raw: Any

    def __init__(
        self,
        call_id: str,
        name: str,
        arguments: Any,
        error: str,
        reason: UnresolvedReason,
        raw: Any = None,
    ) -> None:
        put = object.__setattr__
        put(self, "call_id", call_id)
        put(self, "name", name)
        put(self, "arguments", arguments)
        put(self, "error", error)
        put(self, "reason", reason)
        put(self, "raw", raw)

    def __repr__(self) -> str:
        return f"<UnresolvedToolCall {shown(self.call_id)} {shown(self.name)} {self.reason}: {self.error}>"


def parse_and_resolve(
    tool_calls: object,
    find: Callable[[str], Any | None],
    *,
    id_field: str = "id",
    name_field: str = "name",
    arguments_field: str = "arguments",
    function_wrapper: str = "function",
    known: Iterable[str] = (),
    id_scope: str = "",
    max_bytes: int = 1_000_000,
    max_depth: int = 64,
    max_calls: int = 1_000,
) -> tuple[list[ResolvedToolCall], list[UnresolvedToolCall]]:
    """Find the calls in what a provider has sent, and the tool of each. No input raises.

    It takes a list of calls, a message, a whole response, or a list of these, as dicts or as objects of an SDK: of
    OpenAI chat completions, OpenAI responses, Anthropic, Gemini, Bedrock, and of no provider in particular;
    ``stageflow_tools.call_shapes`` lists the formats. Pass the model's new answer, not the conversation: what an
    earlier message asks for would be found again.

    A call without an id gets one, made from its position, name and arguments: reading the same answer again gives
    the same id.

    Args:
        tool_calls: What was sent; None is no calls.
        find: Returns the tool that has a name, or None. A ``LookupError`` says the same. It is not asked for names
            that no tool could have.
        id_field: The id's field in calls of no particular provider.
        name_field: The name's field.
        arguments_field: The arguments' field; ``args``, ``input`` and ``parameters`` are tried as well.
        function_wrapper: The field in which the name and the arguments are, if they are one level down.
        known: The names that there are, for hints about misspelt ones.
        id_scope: What ids that are made up depend on too: the number of the turn, say, so that the same question in a
            later turn is another call.
        max_bytes: The most bytes of one call's arguments.
        max_depth: How deep its objects and lists may be nested.
        max_calls: How many calls are looked at. One ``UnresolvedToolCall`` stands for all further ones.

    Returns:
        The resolved and the unresolved calls, each in their order. A custom tool of OpenAI takes free text, which is
        ``{"input": text}`` in the arguments.

    Raises:
        ArgumentTypeError: ``find`` or an option has another type; ``find`` is a coroutine function.
        ArgumentValueError: A limit is below 1, or the name of a field is empty.

    ```python
    from stageflow_tools.calls import parse_and_resolve

    tools = {"add": lambda a, b: a + b}
    message = {
        "role": "assistant",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}},
            {"id": "call_2", "type": "function", "function": {"name": "ad", "arguments": "{}"}},
            {"id": "call_3", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "'}},
        ],
    }
    resolved, unresolved = parse_and_resolve(message, tools.get, known=tools)
    for call in resolved:
        print(call.call_id, call.tool(**call.arguments))
        #> call_1 3
    for call in unresolved:
        print(call.call_id, call.reason, "-", call.error)
        #> call_2 unknown_tool - No tool is named 'ad'. Did you mean 'add'?
        #> call_3 half_streamed - The arguments end before their JSON is complete
    ```
    """
    owner = "parse_and_resolve"
    fields = CallFields(id_field, name_field, arguments_field, function_wrapper)
    for argument, name in zip(
        ("id_field", "name_field", "arguments_field", "function_wrapper"), fields, strict=True
    ):
        check_name(owner, argument, name)
    resolver = CallResolver(
        owner, find, known, id_scope=id_scope, limits=limits_of(owner, max_bytes, max_depth), most=max_calls
    )
    return resolver.resolve(calls_in(tool_calls, fields))


def limits_of(owner: str, max_bytes: int, max_depth: int) -> ArgumentLimits:
    """Return the limits, which *owner* was given.

    Raises:
        ArgumentTypeError: One is no int.
        ArgumentValueError: One is below 1.
    """
    check_count(owner, "max_bytes", max_bytes, least=1)
    check_count(owner, "max_depth", max_depth, least=1)
    return ArgumentLimits(max_bytes, max_depth)


@final
class CallResolver:
    """Gives the calls of one answer their ids and tools, for ``parse_and_resolve`` and for assembled streams.

    Args:
        owner: What the user has called, for errors about its arguments.
        find: Returns the tool that has a name, or None.
        known: The names that there are.
        id_scope: What made-up ids depend on.
        limits: How large the arguments may be.
        most: How many calls are looked at.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: ``most`` is below 1.
    """

    __slots__ = ("_find", "_id_scope", "_known", "_limits", "_most", "_taken", "_used")

    def __init__(
        self,
        owner: str,
        find: Callable[[str], Any | None],
        known: Iterable[str],
        *,
        id_scope: str,
        limits: ArgumentLimits,
        most: int,
    ) -> None:
        if not callable(find) or _is_async(find):
            raise wrong_type(owner, "find", "a plain function of a name", find)
        check_type(owner, "id_scope", id_scope, str, "a str")
        check_count(owner, "max_calls", most, least=1)
        if isinstance(known, str) or not isinstance(known, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - it comes from anywhere
            raise wrong_type(owner, "known", "the names of tools", known)
        self._known = known
        self._find = find
        self._id_scope = id_scope
        self._limits = limits
        self._most = most
        self._taken: set[str] = set()  # ids that came
        self._used: set[str] = set()  # ids of calls that were looked at

    def resolve(
        self, calls: Iterator[RequestedCall]
    ) -> tuple[list[ResolvedToolCall], list[UnresolvedToolCall]]:
        """Return the resolved and the unresolved calls, each in their order."""
        few = list(islice(calls, self._most))
        left = next(calls, None)
        ids = [_id_of(call.call_id) for call in few]
        self._taken.update(one for one in ids if isinstance(one, str))
        resolved: list[ResolvedToolCall] = []
        unresolved: list[UnresolvedToolCall] = []
        for number, (call, call_id) in enumerate(zip(few, ids, strict=True)):
            one = self._one(call, call_id, number)
            if isinstance(one, ResolvedToolCall):
                resolved.append(one)
            else:
                unresolved.append(one)
        if left is not None:
            problem = f"There are more than {self._most} calls, and only as many are looked at"
            call_id = self._made_id(left, self._most)
            unresolved.append(
                UnresolvedToolCall(call_id, "", None, problem, UnresolvedReason.TOO_MANY, left.raw)
            )
        return resolved, unresolved

    def _one(
        self, call: RequestedCall, call_id: str | CallProblem | None, number: int
    ) -> ResolvedToolCall | UnresolvedToolCall:
        arguments = None if call.problem else self._arguments(call)
        the_id = call_id if isinstance(call_id, str) else self._made_id(call, number, arguments)
        problem = call.problem or (call_id if isinstance(call_id, CallProblem) else None)
        if problem is None and the_id in self._used:
            problem = CallProblem(
                UnresolvedReason.DUPLICATE_ID, f"An earlier call has the id {shown(the_id)}"
            )
        self._used.add(the_id)
        if problem is None and isinstance(arguments, CallProblem):
            is_half = arguments.reason is UnresolvedReason.HALF_STREAMED
            problem = arguments if is_half and call.is_cut is not False else None
        tool: Any = None
        if problem is None:
            tool = self._tool(call.name)
            problem = tool if isinstance(tool, CallProblem) else None
        if problem is None and isinstance(arguments, CallProblem):
            problem = arguments
        name = str.__str__(call.name) if is_text(call.name) else ""
        if problem is None and isinstance(arguments, dict):
            return ResolvedToolCall(the_id, name, arguments, tool, call.raw)
        reason, error = problem or CallProblem(UnresolvedReason.MALFORMED, "It has no arguments")
        return UnresolvedToolCall(the_id, name, call.arguments, error, reason, call.raw)

    def _arguments(self, call: RequestedCall) -> dict[str, Any] | CallProblem:
        if call.is_cut:
            return CallProblem(UnresolvedReason.HALF_STREAMED, "The answer ends before the call is complete")
        if call.is_cut is None and not (is_text(call.arguments) and call.arguments.strip()):
            # An object that was read from what there was looks complete, and so does the text that never began.
            return CallProblem(UnresolvedReason.HALF_STREAMED, "The answer ends with this call, too early")
        if not call.is_text:
            return read_arguments(call.arguments, self._limits)
        if not is_text(call.arguments):
            problem = f"The input must be text, not {type(call.arguments).__name__}"
            return CallProblem(UnresolvedReason.MALFORMED, problem)
        if call.is_cut is None:
            return CallProblem(UnresolvedReason.HALF_STREAMED, "The answer ends with this call, too early")
        made: dict[str, Any] | CallProblem = plain_json({"input": call.arguments}, self._limits)
        return made

    def _tool(self, name: object) -> Any:
        """Return the tool that has a name, or what is wrong."""
        if not is_text(name):
            problem = "It has no name" if name is None else f"Its name is {shown(name)}, which is no text"
            reason = UnresolvedReason.MALFORMED if name is None else UnresolvedReason.BAD_NAME
            return CallProblem(reason, problem)
        name = str.__str__(name)
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or " " in name:
            return CallProblem(UnresolvedReason.BAD_NAME, f"No tool can be named {shown(name)}")
        try:
            tool = self._find(name)
        except LookupError as exc:
            hint = exc.fix if isinstance(exc, StageflowError) else ""
            return self._unknown(name, hint)
        except Exception as exc:  # noqa: BLE001 - a look-up of somebody else's may raise anything
            problem = f"Looking for the tool {shown(name)} has raised {type(exc).__name__}"
            return CallProblem(UnresolvedReason.LOOKUP_FAILED, problem)
        return self._unknown(name) if tool is None else tool

    def _unknown(self, name: str, hint: str = "") -> CallProblem:
        with suppress(Exception):  # names of somebody else's may raise anything
            self._known = tuple(self._known)
            hint = close_matches(name, self._known) or hint
        problem = f"No tool is named {shown(name)}"
        return CallProblem(UnresolvedReason.UNKNOWN_TOOL, f"{problem}. {hint}" if hint else problem)

    def _made_id(self, call: RequestedCall, number: int, arguments: object = None) -> str:
        """Return an id that depends on nothing but the call, its position and the scope."""
        text = json.dumps(arguments, sort_keys=True) if isinstance(arguments, dict) else str(number)
        name = call.name if is_text(call.name) else ""
        made, again = "", 0
        while not made or made in self._taken:
            seed = json.dumps([self._id_scope, number, name, text, again])
            made, again = f"call_{sha256(seed.encode()).hexdigest()[:24]}", again + 1
        self._taken.add(made)
        return made


def _is_async(find: object) -> bool:
    from inspect import iscoroutinefunction

    return iscoroutinefunction(find) or iscoroutinefunction(getattr(type(find), "__call__", None))  # noqa: B004 - what it is, not whether


def _id_of(value: object) -> str | CallProblem | None:
    """Return the id that a call came with, None if it has none, or what is wrong with it."""
    if is_text(value):
        text = str.__str__(value)
        if len(text) <= _LONGEST_ID and text.isprintable():
            return text or None
    elif type(value) is int and abs(value) < 2**63:
        return str(value)
    elif value is None:
        return None
    return CallProblem(UnresolvedReason.BAD_ID, f"Its id is {shown(value)}, which is no id")
