"""``ContextSnapshot``: everything a run knows when it starts, read-only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, cast

from stageflow.context.checks import (
    ArgumentTypeError,
    check_type,
    number_of,
    parse_time,
    require_mapping,
    wrong_type,
    wrong_value,
)
from stageflow.context.frozen import FrozenDict, freeze, thaw
from stageflow.context.identity import RunIdentity
from stageflow.context.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self
    from uuid import UUID

    from typing_extensions import TypeVar

    from stageflow.context.conversation import Conversation, Message, RoutingDecision
    from stageflow.context.enrichments import (
        DocumentEnrichment,
        Enrichments,
        MemoryEnrichment,
        ProfileEnrichment,
    )

    _E = TypeVar("_E", default=Any)
    _F = TypeVar("_F")
else:
    from typing import TypeVar

    _E = TypeVar("_E")

__all__ = ["ContextSnapshot"]

_EMPTY: FrozenDict[str, Any] = FrozenDict()
_IDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id", "interaction_id")
_TEXTS = ("input_text", "topology", "execution_mode")


class ContextSnapshot(Record, Generic[_E]):
    """What a run starts with: who, the input, the conversation so far, what is known about the user.

    Read-only, all the way down in ``metadata`` and in extensions that are a dict; the ``with_...``
    methods make changed copies. Generic over the type of ``extensions``.

    Args:
        run_id: The ids of the run; fresh ones without any id if left out.
        enrichments: Profile, memory, documents, web results.
        conversation: Messages and the routing decision.
        extensions: The application's own data: a dict, an ``ExtensionBundle``, or any object.
        input_text: What the user said or wrote.
        input_audio_duration_ms: How long the user spoke, in milliseconds.
        topology: The name of the pipeline's shape, as ``"chat_fast"``.
        execution_mode: How to run, as ``"practice"``.
        created_at: When the snapshot was made; now, in UTC, if left out.
        metadata: Anything else, by name.

    Raises:
        ArgumentTypeError: An argument has a type that the field does not take.
        ArgumentValueError: The duration is negative or no number.

    ```python
    from uuid import UUID
    from stageflow.context import ContextSnapshot, RunIdentity

    snapshot = ContextSnapshot(
        RunIdentity(user_id=UUID(int=7)), input_text="hi", extensions={"plan": "pro"}
    )
    print(snapshot.input_text, snapshot.user_id.int, snapshot.extensions["plan"], snapshot.messages)
    #> hi 7 pro []
    ```
    """

    __slots__ = (
        "_extensions_type",
        "conversation",
        "created_at",
        "enrichments",
        "execution_mode",
        "extensions",
        "input_audio_duration_ms",
        "input_text",
        "metadata",
        "run_id",
        "topology",
    )
    __match_args__ = (
        "run_id",
        "enrichments",
        "conversation",
        "extensions",
        "input_text",
        "input_audio_duration_ms",
        "topology",
        "execution_mode",
        "created_at",
        "metadata",
    )

    run_id: RunIdentity
    enrichments: Enrichments | None
    conversation: Conversation | None
    extensions: _E | None
    input_text: str | None
    input_audio_duration_ms: float | None
    topology: str | None
    execution_mode: str | None
    created_at: datetime
    metadata: FrozenDict[str, Any]
    _extensions_type: str | None  # the name under which unknown extensions came in

    def __init__(
        self,
        run_id: RunIdentity | None = None,
        enrichments: Enrichments | None = None,
        conversation: Conversation | None = None,
        extensions: _E | None = None,
        input_text: str | None = None,
        input_audio_duration_ms: float | None = None,
        topology: str | None = None,
        execution_mode: str | None = None,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if run_id is None:
            run_id = RunIdentity()
        else:
            fix = "Pass run_id=RunIdentity(pipeline_run_id=...)"
            check_type(_NAME, "run_id", run_id, RunIdentity, "a RunIdentity", fix=fix)
        if enrichments is not None or conversation is not None:
            _check_parts(enrichments, conversation)
        texts: tuple[Any, ...] = (input_text, topology, execution_mode)
        for text in texts:
            if text is not None and not isinstance(text, str):
                raise _wrong_text(texts)
        if input_audio_duration_ms is not None:
            _check_duration(input_audio_duration_ms)
        if created_at is None:
            created_at = datetime.now(UTC)
        else:
            check_type(_NAME, "created_at", created_at, datetime, "a datetime or None")
        _set_run_id(self, run_id)
        _set_enrichments(self, enrichments)
        _set_conversation(self, conversation)
        _set_extensions(self, None if extensions is None else freeze(extensions))
        _set_input_text(self, input_text)
        _set_duration(self, input_audio_duration_ms)
        _set_topology(self, topology)
        _set_execution_mode(self, execution_mode)
        _set_created_at(self, created_at)
        if metadata is None:
            _set_metadata(self, _EMPTY)
        else:
            _set_metadata(self, freeze(require_mapping(_NAME, "metadata", metadata)))
        _set_extensions_type(self, None)

    # --- flat reading ------------------------------------------------------------------------------------

    @property
    def pipeline_run_id(self) -> UUID | None:
        """The run's id, ``run_id.pipeline_run_id``."""
        return self.run_id.pipeline_run_id

    @property
    def request_id(self) -> UUID | None:
        """The request's id, ``run_id.request_id``."""
        return self.run_id.request_id

    @property
    def session_id(self) -> UUID | None:
        """The session's id, ``run_id.session_id``."""
        return self.run_id.session_id

    @property
    def user_id(self) -> UUID | None:
        """The user's id, ``run_id.user_id``."""
        return self.run_id.user_id

    @property
    def org_id(self) -> UUID | None:
        """The tenant's id, ``run_id.org_id``."""
        return self.run_id.org_id

    @property
    def interaction_id(self) -> UUID | None:
        """The interaction's id, ``run_id.interaction_id``."""
        return self.run_id.interaction_id

    @property
    def messages(self) -> list[Message]:
        """The conversation's messages; an empty list without a conversation."""
        return self.conversation.messages if self.conversation is not None else []

    @property
    def routing_decision(self) -> RoutingDecision | None:
        """The conversation's routing decision, if any."""
        return self.conversation.routing_decision if self.conversation is not None else None

    @property
    def profile(self) -> ProfileEnrichment | None:
        """The user's profile, if any."""
        return self.enrichments.profile if self.enrichments is not None else None

    @property
    def memory(self) -> MemoryEnrichment | None:
        """What is remembered about the user, if anything."""
        return self.enrichments.memory if self.enrichments is not None else None

    @property
    def documents(self) -> list[DocumentEnrichment]:
        """The documents; an empty list without enrichments."""
        return self.enrichments.documents if self.enrichments is not None else []

    @property
    def web_results(self) -> list[dict[str, Any]]:
        """The results of web searches; an empty list without enrichments."""
        return self.enrichments.web_results if self.enrichments is not None else []

    # --- changed copies ----------------------------------------------------------------------------------

    def with_run_id(self, run_id: RunIdentity) -> ContextSnapshot[_E]:
        """Return a copy with other ids."""
        return self.__replace__(run_id=run_id)

    def with_enrichments(self, enrichments: Enrichments | None) -> ContextSnapshot[_E]:
        """Return a copy with other enrichments."""
        return self.__replace__(enrichments=enrichments)

    def with_conversation(self, conversation: Conversation | None) -> ContextSnapshot[_E]:
        """Return a copy with another conversation."""
        return self.__replace__(conversation=conversation)

    def with_extensions(self, extensions: _F | None) -> ContextSnapshot[_F]:
        """Return a copy with other extensions."""
        return cast("ContextSnapshot[Any]", self).__replace__(extensions=extensions)

    def with_input(self, input_text: str | None) -> ContextSnapshot[_E]:
        """Return a copy with another input.

        ```python
        from stageflow.context import ContextSnapshot

        print(ContextSnapshot(input_text="hi", topology="chat").with_input("bye").topology)
        #> chat
        ```
        """
        return self.__replace__(input_text=input_text)

    def with_metadata(self, metadata: Mapping[str, Any] | None = None, /, **more: Any) -> ContextSnapshot[_E]:
        """Return a copy with *metadata* and *more* added to what is there.

        ```python
        from stageflow.context import ContextSnapshot

        print(ContextSnapshot(metadata={"a": 1}).with_metadata(b=[2]).metadata)
        #> {'a': 1, 'b': [2]}
        ```
        """
        added: dict[Any, Any] = {} if metadata is None else require_mapping(_NAME, "metadata", metadata)
        if not all(isinstance(key, str) for key in added):
            raise ArgumentTypeError(_NAME, "metadata", "takes a mapping whose keys are texts")
        return self.__replace__(metadata={**self.metadata, **added, **more})

    def __replace__(self, **changes: Any) -> Self:
        copy = super().__replace__(**changes)
        if "extensions" not in changes:
            _set_extensions_type(copy, self._extensions_type)
        return copy

    # --- as plain data -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as plain, mutable data: nested, and the parts once more flat.

        Nested are ``run_id, enrichments, conversation, extensions`` (with ``extensions_type``, the name of
        its class); flat are the six ids, ``messages, routing_decision, profile, memory, documents,
        web_results``. Ids are text and times ISO 8601. Nothing in it is shared with the snapshot, but
        objects of other classes in ``metadata`` and ``extensions``.

        ```python
        from stageflow.context import ContextSnapshot

        data = ContextSnapshot(input_text="hi", extensions={"plan": "pro"}).to_dict()
        print(data["input_text"], data["extensions"], data["extensions_type"], data["messages"])
        #> hi {'plan': 'pro'} dict []
        ```
        """
        run_id = self.run_id.to_dict()
        enrichments = None if self.enrichments is None else self.enrichments.to_dict()
        conversation = None if self.conversation is None else self.conversation.to_dict()
        extensions, extensions_type = _dump_extensions(self.extensions)
        return {
            "run_id": run_id,
            "enrichments": enrichments,
            "conversation": conversation,
            "extensions": extensions,
            "extensions_type": self._extensions_type or extensions_type,
            "input_text": self.input_text,
            "input_audio_duration_ms": self.input_audio_duration_ms,
            "topology": self.topology,
            "execution_mode": self.execution_mode,
            "created_at": self.created_at.isoformat(),
            "metadata": thaw(self.metadata),
            **{name: run_id[name] for name in _IDS},
            **thaw(conversation if conversation is not None else {"messages": [], "routing_decision": None}),
            **thaw(enrichments if enrichments is not None else _NO_ENRICHMENTS),
        }

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], extension_types: Mapping[str, type[Any]] | None = None
    ) -> ContextSnapshot[Any]:
        """Read what ``to_dict`` gives; the nested form wins over the flat one, and either will do.

        Args:
            data: The plain data; unknown keys are ignored.
            extension_types: The class of the extensions by the name in ``extensions_type``. Without the class
                the extensions are kept as a plain dict, and ``to_dict`` gives them the same name again.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is of another type.
            ArgumentValueError: Text that is no UUID or no time.

        ```python
        from stageflow.context import ContextSnapshot

        data = {"input_text": "hi", "messages": [{"role": "user", "content": "hello"}]}
        snapshot = ContextSnapshot.from_dict(data)
        print(snapshot.messages[0].content)
        #> hello
        print(ContextSnapshot.from_dict(snapshot.to_dict()) == snapshot)
        #> True
        ```
        """
        owner = "ContextSnapshot.from_dict"
        data = require_mapping(owner, "data", data)
        run_id = data.get("run_id")
        if run_id is None or isinstance(run_id, str):  # flat
            run_id = {name: data.get(name) for name in (*_IDS, "created_at")}
        conversation = _part(data, "conversation", ("messages", "routing_decision"))
        if conversation is not None:
            from stageflow.context.conversation import Conversation

            conversation = Conversation.from_dict(conversation)
        enrichments = _part(data, "enrichments", ("profile", "memory", "documents", "web_results"))
        if enrichments is not None:
            from stageflow.context.enrichments import Enrichments

            enrichments = Enrichments.from_dict(enrichments)
        name = data.get("extensions_type")
        extensions, known = _load_extensions(data.get("extensions"), name, extension_types or {})
        snapshot = cls(
            RunIdentity.from_dict(run_id),
            enrichments,
            conversation,
            extensions,
            data.get("input_text"),
            data.get("input_audio_duration_ms"),
            data.get("topology"),
            data.get("execution_mode"),
            parse_time(owner, "created_at", data.get("created_at")),
            data.get("metadata"),
        )
        if extensions is not None and not known and isinstance(name, str) and name != "dict":
            _set_extensions_type(snapshot, name)
        return snapshot

    # --- a value -----------------------------------------------------------------------------------------

    def __hash__(self) -> int:
        return hash((self.run_id, self.input_text, self.created_at))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._values(), self._extensions_type)


_NAME = "ContextSnapshot"
_NO_ENRICHMENTS: dict[str, Any] = {"profile": None, "memory": None, "documents": [], "web_results": []}

_slots: Any = ContextSnapshot.__dict__  # the constructor's only way past __setattr__, and the quickest
_set_run_id = _slots["run_id"].__set__
_set_enrichments = _slots["enrichments"].__set__
_set_conversation = _slots["conversation"].__set__
_set_extensions = _slots["extensions"].__set__
_set_input_text = _slots["input_text"].__set__
_set_duration = _slots["input_audio_duration_ms"].__set__
_set_topology = _slots["topology"].__set__
_set_execution_mode = _slots["execution_mode"].__set__
_set_created_at = _slots["created_at"].__set__
_set_metadata = _slots["metadata"].__set__
_set_extensions_type = _slots["_extensions_type"].__set__


def _rebuild(kind: type[ContextSnapshot[Any]], values: tuple[Any, ...], extensions_type: str | None) -> Any:
    snapshot = kind(*values)
    _set_extensions_type(snapshot, extensions_type)
    return snapshot


def _wrong_text(texts: tuple[Any, ...]) -> ArgumentTypeError:
    name, text = next(
        (name, text) for name, text in zip(_TEXTS, texts, strict=True) if not isinstance(text, str | None)
    )
    return wrong_type(_NAME, name, "a str or None", text)


def _check_parts(enrichments: object, conversation: object) -> None:
    from stageflow.context.conversation import Conversation
    from stageflow.context.enrichments import Enrichments

    if enrichments is not None and not isinstance(enrichments, Enrichments):
        raise wrong_type(_NAME, "enrichments", "an Enrichments or None", enrichments)
    if conversation is not None and not isinstance(conversation, Conversation):
        raise wrong_type(_NAME, "conversation", "a Conversation or None", conversation)


def _check_duration(value: object) -> None:
    expects, problem = "a number of milliseconds or None", "must be a finite number, 0 or more"
    number_of(_NAME, "input_audio_duration_ms", value, expects=expects, problem=problem, least=0)


def _part(data: dict[str, Any], nested: str, flat: tuple[str, ...]) -> Any:
    """Return the nested part of *data*, or the same gathered from flat keys, or None if nothing is there."""
    part = data.get(nested)
    if part is None:
        part = {name: data[name] for name in flat if data.get(name)}
    return part or None


def _dump_extensions(extensions: object) -> tuple[Any, str | None]:
    """Return extensions as plain data, and the name of their class."""
    if extensions is None:
        return None, None
    kind = type(extensions)
    name = "dict" if kind is FrozenDict else kind.__name__
    for method in ("to_dict", "model_dump"):
        dump = getattr(extensions, method, None)
        if callable(dump):
            return thaw(dump()), name
    if hasattr(extensions, "__dataclass_fields__"):
        from dataclasses import asdict

        return thaw(asdict(cast("Any", extensions))), name
    return thaw(extensions), name


def _load_extensions(data: Any, name: object, types: Mapping[str, type[Any]]) -> tuple[Any, bool]:
    """Return extensions as an object of the class called *name*, and whether that class is known."""
    owner = "ContextSnapshot.from_dict"
    types = require_mapping(owner, "extension_types", types)
    kind: Any = types.get(name) if isinstance(name, str) else None
    if kind is not None:
        check_type(owner, "extension_types", kind, type, "a class for each name")
    if data is None or kind is None or isinstance(data, kind):
        return data, kind is not None
    for method in ("from_dict", "model_validate"):
        load = getattr(kind, method, None)
        if callable(load):
            return load(data), True
    try:
        return kind(**require_mapping(owner, "extensions", data)), True
    except TypeError as exc:
        problem = f"makes no {kind.__name__}: {exc}"
        raise wrong_value(owner, "extensions", problem, data) from exc
