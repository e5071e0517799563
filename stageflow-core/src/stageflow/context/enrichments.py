"""What is known beside the request: profile, memory, documents, web results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stageflow.context.checks import ArgumentTypeError, check_type, items_of, parse_uuid, require_mapping
from stageflow.context.frozen import FrozenDict, FrozenList, freeze, thaw
from stageflow.deprecations import DEPRECATIONS
from stageflow.errors import close_matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

__all__ = ["DocumentEnrichment", "Enrichments", "MemoryEnrichment", "ProfileEnrichment"]

_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class ProfileEnrichment:
    """What is known about the user. Read-only.

    Args:
        user_id: The user.
        display_name: What to call them.
        preferences: Their settings, by name.
        goals: What they want to reach, in words.

    Raises:
        ArgumentTypeError: A field has another type.
        ArgumentValueError: The id is text that is no UUID.

    ```python
    from uuid import UUID
    from stageflow.context import ProfileEnrichment

    print(ProfileEnrichment(UUID(int=7), "Ada", {"tone": "brief"}).preferences["tone"])
    #> brief
    ```
    """

    user_id: UUID | None = None
    display_name: str | None = None
    preferences: Mapping[str, Any] = field(default_factory=FrozenDict[str, Any])
    goals: list[str] = field(default_factory=FrozenList[str])

    def __post_init__(self) -> None:
        owner = "ProfileEnrichment"
        _set(self, "user_id", parse_uuid(owner, "user_id", self.user_id))
        check_type(owner, "display_name", self.display_name, str | None, "a str or None")
        _set(self, "preferences", freeze(require_mapping(owner, "preferences", self.preferences)))
        _set(self, "goals", freeze(items_of(owner, "goals", self.goals)))

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as plain data, the id as text."""
        return {
            "user_id": None if self.user_id is None else str(self.user_id),
            "display_name": self.display_name,
            "preferences": thaw(self.preferences),
            "goals": thaw(self.goals),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProfileEnrichment:
        """Read what ``to_dict`` gives; everything may be missing, other keys are ignored.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is of another type.
            ArgumentValueError: The id is text that is no UUID.
        """
        data = require_mapping("ProfileEnrichment.from_dict", "data", data)
        return cls(
            data.get("user_id"),
            data.get("display_name"),
            data.get("preferences") or {},
            data.get("goals") or [],
        )


@dataclass(frozen=True, slots=True, init=False)
class MemoryEnrichment:
    """What is remembered of earlier conversations. Read-only.

    Args:
        recent_topics: What was talked about lately.
        key_facts: What is worth knowing about the user.
        interaction_history_summary: The story so far, in words.
        **deprecated: The names of 0.9, with a ``RemovedInCore3Warning``: ``short_term`` (recent_topics),
            ``long_term`` (key_facts), ``summary`` (interaction_history_summary).

    Raises:
        ArgumentTypeError: A field has another type, is given twice, or is not known.

    ```python
    from stageflow.context import MemoryEnrichment

    print(MemoryEnrichment(key_facts=["plays chess"]).key_facts)
    #> ['plays chess']
    ```
    """

    recent_topics: list[str]
    key_facts: list[str]
    interaction_history_summary: str | None

    def __init__(
        self,
        *,
        recent_topics: Iterable[str] | None = None,
        key_facts: Iterable[str] | None = None,
        interaction_history_summary: str | None = None,
        **deprecated: Any,
    ) -> None:
        owner = "MemoryEnrichment"
        given = {
            "recent_topics": recent_topics,
            "key_facts": key_facts,
            "interaction_history_summary": interaction_history_summary,
        }
        if deprecated:
            _rename(owner, given, deprecated, _MEMORY_ALIASES)
        summary = given["interaction_history_summary"]
        check_type(owner, "interaction_history_summary", summary, str | None, "a str or None")
        _set(self, "recent_topics", freeze(items_of(owner, "recent_topics", given["recent_topics"])))
        _set(self, "key_facts", freeze(items_of(owner, "key_facts", given["key_facts"])))
        _set(self, "interaction_history_summary", summary)

    def to_dict(self) -> dict[str, Any]:
        """Return the memory as plain data."""
        return {
            "recent_topics": thaw(self.recent_topics),
            "key_facts": thaw(self.key_facts),
            "interaction_history_summary": self.interaction_history_summary,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MemoryEnrichment:
        """Read what ``to_dict`` gives; everything may be missing, other keys are ignored.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is of another type.
        """
        data = require_mapping("MemoryEnrichment.from_dict", "data", data)
        return cls(
            recent_topics=data.get("recent_topics"),
            key_facts=data.get("key_facts"),
            interaction_history_summary=data.get("interaction_history_summary"),
        )


@dataclass(frozen=True, slots=True, init=False)
class DocumentEnrichment:
    """A document that the request is about. Read-only.

    Args:
        document_id: Which document.
        document_type: What kind, as ``"essay"``.
        blocks: Its parts, each a dict, in order.
        metadata: Anything else, by name.
        **deprecated: The names of 0.9, with a ``RemovedInCore3Warning``: ``doc_id`` (document_id), ``doc_type``
            (document_type), ``documents`` (blocks), ``content`` (blocks; a text becomes one text block).

    Raises:
        ArgumentTypeError: A field has another type, is given twice, or is not known.

    ```python
    from stageflow.context import DocumentEnrichment

    essay = DocumentEnrichment(document_id="7", blocks=[{"type": "text", "content": "Once"}])
    print(essay.blocks[0]["content"])
    #> Once
    ```
    """

    document_id: str | None
    document_type: str | None
    blocks: list[dict[str, Any]]
    metadata: Mapping[str, Any]

    def __init__(
        self,
        *,
        document_id: str | None = None,
        document_type: str | None = None,
        blocks: Iterable[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **deprecated: Any,
    ) -> None:
        owner = "DocumentEnrichment"
        given: dict[str, Any] = {
            "document_id": document_id,
            "document_type": document_type,
            "blocks": blocks,
            "metadata": metadata,
        }
        if deprecated:
            _rename(owner, given, deprecated, _DOCUMENT_ALIASES)
            if isinstance(given["blocks"], str):
                given["blocks"] = [{"type": "text", "content": given["blocks"]}]
        for name in ("document_id", "document_type"):
            check_type(owner, name, given[name], str | None, "a str or None")
            _set(self, name, given[name])
        _set(self, "blocks", freeze(items_of(owner, "blocks", given["blocks"])))
        _set(self, "metadata", freeze(require_mapping(owner, "metadata", given["metadata"] or {})))

    def to_dict(self) -> dict[str, Any]:
        """Return the document as plain data."""
        return {
            "document_id": self.document_id,
            "document_type": self.document_type,
            "blocks": thaw(self.blocks),
            "metadata": thaw(self.metadata),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DocumentEnrichment:
        """Read what ``to_dict`` gives; everything may be missing, other keys are ignored.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is of another type.
        """
        data = require_mapping("DocumentEnrichment.from_dict", "data", data)
        return cls(
            document_id=data.get("document_id"),
            document_type=data.get("document_type"),
            blocks=data.get("blocks"),
            metadata=data.get("metadata"),
        )


@dataclass(frozen=True, slots=True)
class Enrichments:
    """All that is known beside the request. Read-only.

    Args:
        profile: The user's profile.
        memory: What is remembered.
        documents: The documents that the request is about.
        web_results: What a web search found, each a dict.

    Raises:
        ArgumentTypeError: A part has another type.

    ```python
    from stageflow.context import Enrichments, MemoryEnrichment

    known = Enrichments(memory=MemoryEnrichment(recent_topics=["chess"]))
    print(known.has_any, Enrichments().has_any)
    #> True False
    ```
    """

    profile: ProfileEnrichment | None = None
    memory: MemoryEnrichment | None = None
    documents: list[DocumentEnrichment] = field(default_factory=FrozenList[DocumentEnrichment])
    web_results: list[dict[str, Any]] = field(default_factory=FrozenList[dict[str, Any]])

    def __post_init__(self) -> None:
        owner = "Enrichments"
        check_type(owner, "profile", self.profile, ProfileEnrichment | None, "a ProfileEnrichment or None")
        check_type(owner, "memory", self.memory, MemoryEnrichment | None, "a MemoryEnrichment or None")
        _set(self, "documents", freeze(items_of(owner, "documents", self.documents, DocumentEnrichment)))
        _set(self, "web_results", freeze(items_of(owner, "web_results", self.web_results)))

    @property
    def has_any(self) -> bool:
        """Whether anything at all is known."""
        return bool(self.profile is not None or self.memory is not None or self.documents or self.web_results)

    def to_dict(self) -> dict[str, Any]:
        """Return all parts as plain data."""
        return {
            "profile": None if self.profile is None else self.profile.to_dict(),
            "memory": None if self.memory is None else self.memory.to_dict(),
            "documents": [document.to_dict() for document in self.documents],
            "web_results": thaw(self.web_results),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Enrichments:
        """Read what ``to_dict`` gives; every part may be missing, or be an object already.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a value is of another type.
            ArgumentValueError: The profile's id is text that is no UUID.

        ```python
        from stageflow.context import Enrichments

        print(Enrichments.from_dict({"profile": {"display_name": "Ada"}}).profile.display_name)
        #> Ada
        ```
        """
        owner = "Enrichments.from_dict"
        data = require_mapping(owner, "data", data)
        profile, memory = data.get("profile"), data.get("memory")
        if profile is not None and not isinstance(profile, ProfileEnrichment):
            profile = ProfileEnrichment.from_dict(profile)
        if memory is not None and not isinstance(memory, MemoryEnrichment):
            memory = MemoryEnrichment.from_dict(memory)
        documents = [
            document if isinstance(document, DocumentEnrichment) else DocumentEnrichment.from_dict(document)
            for document in items_of(owner, "documents", data.get("documents"))
        ]
        return cls(profile, memory, documents, items_of(owner, "web_results", data.get("web_results")))


# --- the names of 0.9 ----------------------------------------------------------------------------------

_MEMORY_ALIASES = {
    "short_term": "recent_topics",
    "long_term": "key_facts",
    "summary": "interaction_history_summary",
}
_DOCUMENT_ALIASES = {
    "doc_id": "document_id",
    "doc_type": "document_type",
    "documents": "blocks",
    "content": "blocks",
}


def _rename(owner: str, given: dict[str, Any], deprecated: dict[str, Any], aliases: dict[str, str]) -> None:
    """Move the values of deprecated names to the names of today."""
    for alias, value in deprecated.items():
        name = aliases.get(alias)
        if name is None:
            problem = f"is not known; there are {', '.join(given)}"
            raise ArgumentTypeError(owner, alias, problem, fix=close_matches(alias, [*given, *aliases]))
        if value is None:
            continue
        if given[name] is not None:
            problem = f"is the old name of {name}=, which is given as well"
            raise ArgumentTypeError(owner, alias, problem, fix=f"Leave out {alias}=")
        DEPRECATIONS[f"{owner}({alias}=...)"].warn()
        given[name] = value
