"""Messages, routing decisions, conversations."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from stageflow.context import (
    ArgumentTypeError,
    ArgumentValueError,
    Conversation,
    FrozenDict,
    FrozenList,
    Message,
    RoutingDecision,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TALK = Conversation(
    [Message("user", "1"), Message("assistant", "2"), Message("user", "3"), Message("tool", "4")],
    RoutingDecision("a", "p", "t", "r"),
)


def test_the_last_message_of_each_side() -> None:
    assert TALK.message_count == 4
    assert TALK.last_user_message == Message("user", "3")
    assert TALK.last_assistant_message == Message("assistant", "2")
    assert Conversation().last_user_message is None
    assert Conversation().last_assistant_message is None


def test_with_message_leaves_the_original_alone() -> None:
    longer = TALK.with_message(Message("assistant", "5"))
    assert (TALK.message_count, longer.message_count) == (4, 5)
    assert longer.routing_decision is TALK.routing_decision
    with pytest.raises(ArgumentTypeError, match="Conversation"):
        TALK.with_message("hi")


def test_fields_are_read_only_and_copied() -> None:
    messages, metadata = [Message("user", "1")], {"a": [1]}
    talk, message = Conversation(messages), Message("user", "1", metadata=metadata)
    messages.clear()
    metadata["a"].append(2)
    assert (talk.message_count, message.metadata) == (1, {"a": [1]})
    assert type(talk.messages) is FrozenList
    assert type(message.metadata) is FrozenDict
    assert type(Message("user", "1").metadata) is FrozenDict
    with pytest.raises(AttributeError):
        message.content = "2"


def test_data_and_back() -> None:
    when = datetime(2020, 1, 1, tzinfo=UTC)
    message = Message("user", "hi", when, {"a": 1})
    assert message.to_dict() == {
        "role": "user", "content": "hi", "timestamp": "2020-01-01T00:00:00+00:00", "metadata": {"a": 1},
    }  # fmt: skip
    assert Message.from_dict(message.to_dict()) == message
    assert Conversation.from_dict(TALK.to_dict()) == TALK
    assert Conversation.from_dict({}) == Conversation()
    assert (
        Conversation.from_dict({"messages": TALK.messages, "routing_decision": TALK.routing_decision}) == TALK
    )
    assert TALK.routing_decision is not None
    assert RoutingDecision.from_dict(TALK.routing_decision.to_dict()) == TALK.routing_decision


def test_wrong_types_are_typed_errors() -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: Message(7, "x"),
        lambda: Message("user", None),
        lambda: Message("user", "x", 7),
        lambda: Message("user", "x", metadata=[1]),
        lambda: Message.from_dict({}),
        lambda: Message.from_dict(None),
        lambda: RoutingDecision("a", "p", None),
        lambda: RoutingDecision("a", "p", "t", 7),
        lambda: RoutingDecision.from_dict({"agent_id": "a"}),
        lambda: RoutingDecision.from_dict([]),
        lambda: Conversation("hi"),
        lambda: Conversation(7),
        lambda: Conversation([{"role": "user"}]),
        lambda: Conversation([], "p"),
        lambda: Conversation.from_dict([]),
        lambda: Conversation.from_dict({"routing_decision": 7}),
    ]
    for make in wrong:
        with pytest.raises(ArgumentTypeError):
            make()


def test_wrong_values_are_typed_errors() -> None:
    with pytest.raises(ArgumentValueError, match="role"):
        Message("", "x")
    with pytest.raises(ArgumentValueError, match="timestamp"):
        Message.from_dict({"role": "user", "content": "x", "timestamp": "soon"})
