"""What was said: ``Message``, ``RoutingDecision``, ``Conversation``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stageflow.context.checks import check_name, check_type, items_of, parse_time, require_mapping
from stageflow.context.frozen import FrozenDict, FrozenList, freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Conversation", "Message", "RoutingDecision"]

_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. Read-only.

    Args:
        role: Who speaks: ``"user"``, ``"assistant"``, ``"system"``, ``"tool"`` or a name of your own.
        content: The text.
        timestamp: When it was said.
        metadata: Anything else, by name.

    Raises:
        ArgumentTypeError: A field has another type.
        ArgumentValueError: The role is empty.

    ```python
    from stageflow.context import Message

    print(Message("user", "hi").content)
    #> hi
    ```
    """

    role: str
    content: str
    timestamp: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict[str, Any])

    def __post_init__(self) -> None:
        check_name("Message", "role", self.role)
        check_type("Message", "content", self.content, str, "a str")
        _set(self, "timestamp", parse_time("Message", "timestamp", self.timestamp))
        _set(self, "metadata", freeze(require_mapping("Message", "metadata", self.metadata)))

    def to_dict(self) -> dict[str, Any]:
        """Return the message as plain data, the time in ISO 8601."""
        return {
            "role": self.role,
            "content": self.content,
            "timestamp": None if self.timestamp is None else self.timestamp.isoformat(),
            "metadata": thaw(self.metadata),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Message:
        """Read what ``to_dict`` gives; role and content must be there, other keys are ignored.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is missing or of another type.
            ArgumentValueError: The role is empty, or the text of the time is no time.

        ```python
        from stageflow.context import Message

        print(Message.from_dict({"role": "user", "content": "hi"}).role)
        #> user
        ```
        """
        data = require_mapping("Message.from_dict", "data", data)
        return cls(data.get("role"), data.get("content"), data.get("timestamp"), data.get("metadata") or {})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - checked there


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """Where a router sends a request. Read-only.

    Args:
        agent_id: The agent that takes over.
        pipeline_name: The pipeline to run.
        topology: The shape of the pipeline, as ``"chat_fast"``.
        reason: Why, in words.

    Raises:
        ArgumentTypeError: A field is no str.

    ```python
    from stageflow.context import RoutingDecision

    print(RoutingDecision("tutor", "chat", "chat_fast", reason="a question").pipeline_name)
    #> chat
    ```
    """

    agent_id: str
    pipeline_name: str
    topology: str
    reason: str | None = None

    def __post_init__(self) -> None:
        for name in ("agent_id", "pipeline_name", "topology"):
            check_type("RoutingDecision", name, getattr(self, name), str, "a str")
        check_type("RoutingDecision", "reason", self.reason, str | None, "a str or None")

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain data."""
        return {
            "agent_id": self.agent_id,
            "pipeline_name": self.pipeline_name,
            "topology": self.topology,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RoutingDecision:
        """Read what ``to_dict`` gives; all but the reason must be there, other keys are ignored.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is missing or of another type.

        ```python
        from stageflow.context import RoutingDecision

        data = {"agent_id": "tutor", "pipeline_name": "chat", "topology": "chat_fast"}
        print(RoutingDecision.from_dict(data).agent_id)
        #> tutor
        ```
        """
        data = require_mapping("RoutingDecision.from_dict", "data", data)
        return cls(*(data.get(name) for name in ("agent_id", "pipeline_name", "topology", "reason")))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - checked there


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages so far, oldest first, and where the router sends the next one. Read-only.

    Args:
        messages: The messages.
        routing_decision: The router's decision.

    Raises:
        ArgumentTypeError: A message is no ``Message``, or the decision no ``RoutingDecision``.

    ```python
    from stageflow.context import Conversation, Message

    talk = Conversation([Message("user", "hi")]).with_message(Message("assistant", "hello"))
    print(talk.message_count, talk.last_user_message.content)
    #> 2 hi
    ```
    """

    messages: list[Message] = field(default_factory=FrozenList[Message])
    routing_decision: RoutingDecision | None = None

    def __post_init__(self) -> None:
        _set(self, "messages", freeze(items_of("Conversation", "messages", self.messages, Message)))
        decision = self.routing_decision
        check_type(
            "Conversation", "routing_decision", decision, RoutingDecision | None, "a RoutingDecision or None"
        )

    @property
    def message_count(self) -> int:
        """How many messages there are."""
        return len(self.messages)

    @property
    def last_user_message(self) -> Message | None:
        """The newest message whose role is ``"user"``, if any."""
        return self._last("user")

    @property
    def last_assistant_message(self) -> Message | None:
        """The newest message whose role is ``"assistant"``, if any."""
        return self._last("assistant")

    def _last(self, role: str) -> Message | None:
        return next((message for message in reversed(self.messages) if message.role == role), None)

    def with_message(self, message: Message) -> Conversation:
        """Return a copy with one more message at the end.

        Raises:
            ArgumentTypeError: It is no ``Message``.
        """
        return Conversation([*self.messages, message], self.routing_decision)

    def to_dict(self) -> dict[str, Any]:
        """Return the conversation as plain data."""
        return {
            "messages": [message.to_dict() for message in self.messages],
            "routing_decision": None if self.routing_decision is None else self.routing_decision.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conversation:
        """Read what ``to_dict`` gives; both parts may be missing, or be objects already.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is of another type.
            ArgumentValueError: A role is empty, or the text of a time is no time.

        ```python
        from stageflow.context import Conversation

        print(Conversation.from_dict({"messages": [{"role": "user", "content": "hi"}]}).message_count)
        #> 1
        ```
        """
        owner = "Conversation.from_dict"
        data = require_mapping(owner, "data", data)
        messages = [
            message if isinstance(message, Message) else Message.from_dict(message)
            for message in items_of(owner, "messages", data.get("messages"))
        ]
        decision = data.get("routing_decision")
        if decision is not None and not isinstance(decision, RoutingDecision):
            decision = RoutingDecision.from_dict(decision)
        return cls(messages, decision)
