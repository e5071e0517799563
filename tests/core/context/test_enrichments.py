"""Profile, memory, documents, web results, and the names that 0.9 had for their fields."""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from stageflow.context import (
    ArgumentTypeError,
    ArgumentValueError,
    DocumentEnrichment,
    Enrichments,
    MemoryEnrichment,
    ProfileEnrichment,
)
from stageflow.errors import ReadOnlyDataError

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN = Enrichments(
    ProfileEnrichment(UUID(int=1), "Ada", {"tone": ["brief"]}, ["chess"]),
    MemoryEnrichment(recent_topics=["t"], key_facts=["f"], interaction_history_summary="s"),
    [DocumentEnrichment(document_id="d", document_type="essay", blocks=[{"b": 1}], metadata={"m": [1]})],
    [{"url": "u"}],
)


def test_data_and_back() -> None:
    assert KNOWN.to_dict() == {
        "profile": {
            "user_id": str(UUID(int=1)), "display_name": "Ada", "preferences": {"tone": ["brief"]}, "goals": ["chess"],
        },
        "memory": {"recent_topics": ["t"], "key_facts": ["f"], "interaction_history_summary": "s"},
        "documents": [
            {"document_id": "d", "document_type": "essay", "blocks": [{"b": 1}], "metadata": {"m": [1]}}
        ],
        "web_results": [{"url": "u"}],
    }  # fmt: skip
    assert Enrichments.from_dict(KNOWN.to_dict()) == KNOWN
    assert Enrichments.from_dict({}) == Enrichments()
    parts = {"profile": KNOWN.profile, "memory": KNOWN.memory, "documents": KNOWN.documents}
    assert Enrichments.from_dict({**parts, "web_results": KNOWN.web_results}) == KNOWN


def test_replace_works_although_the_constructor_takes_old_names() -> None:
    memory = MemoryEnrichment(recent_topics=["t"], key_facts=["f"])
    assert replace(memory, key_facts=["g"]) == MemoryEnrichment(recent_topics=["t"], key_facts=["g"])


def test_everything_in_them_is_read_only() -> None:
    assert KNOWN.profile is not None
    assert KNOWN.memory is not None
    for change in (
        lambda: KNOWN.profile.preferences["tone"].append("x"),  # type: ignore[union-attr]
        lambda: KNOWN.profile.goals.append("x"),  # type: ignore[union-attr]
        lambda: KNOWN.memory.key_facts.append("x"),  # type: ignore[union-attr]
        KNOWN.documents[0].blocks[0].clear,
        lambda: KNOWN.documents[0].metadata["m"].append(2),
        KNOWN.web_results.clear,
    ):
        with pytest.raises(ReadOnlyDataError):
            change()
    with pytest.raises(AttributeError):
        KNOWN.memory.key_facts = []


@pytest.mark.parametrize(
    ("known", "any_"),
    [
        (Enrichments(), False),
        (Enrichments(profile=ProfileEnrichment()), True),
        (Enrichments(memory=MemoryEnrichment()), True),
        (Enrichments(documents=[DocumentEnrichment()]), True),
        (Enrichments(web_results=[{}]), True),
    ],
)
def test_has_any(known: Enrichments, *, any_: bool) -> None:
    assert known.has_any is any_


@pytest.mark.parametrize(
    ("kind", "old", "new", "given", "kept"),
    [
        (MemoryEnrichment, "short_term", "recent_topics", ["a"], ["a"]),
        (MemoryEnrichment, "long_term", "key_facts", ["a"], ["a"]),
        (MemoryEnrichment, "summary", "interaction_history_summary", "s", "s"),
        (DocumentEnrichment, "doc_id", "document_id", "d", "d"),
        (DocumentEnrichment, "doc_type", "document_type", "t", "t"),
        (DocumentEnrichment, "documents", "blocks", [{"a": 1}], [{"a": 1}]),
        (DocumentEnrichment, "content", "blocks", "text", [{"type": "text", "content": "text"}]),
    ],
)
def test_old_names_work_with_a_warning_that_points_at_the_caller(
    kind: Any, old: str, new: str, given: Any, kept: Any
) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old}=.*use {new}=") as caught:
        made = kind(**{old: given})
    assert getattr(made, new) == kept
    assert caught[0].filename == __file__
    with pytest.raises(ArgumentTypeError, match=f"old name of {new}="):
        kind(**{old: given, new: given})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kind(**{old: None}) == kind()


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (MemoryEnrichment, "key_fact", "key_facts"),
        (DocumentEnrichment, "block", "blocks"),
        (MemoryEnrichment, "zork", "recent_topics, key_facts"),
    ],
)
def test_unknown_names_are_refused_with_what_was_meant(kind: Any, name: str, hint: str) -> None:
    with pytest.raises(ArgumentTypeError, match=hint) as caught:
        kind(**{name: 1})
    assert isinstance(caught.value, TypeError)


def test_wrong_types_are_typed_errors() -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: ProfileEnrichment(7),
        lambda: ProfileEnrichment(None, 7),
        lambda: ProfileEnrichment(preferences=[1]),
        lambda: ProfileEnrichment(goals="chess"),
        lambda: ProfileEnrichment.from_dict(None),
        lambda: MemoryEnrichment(recent_topics="chess"),
        lambda: MemoryEnrichment(interaction_history_summary=7),
        lambda: MemoryEnrichment.from_dict(7),
        lambda: DocumentEnrichment(document_id=7),
        lambda: DocumentEnrichment(blocks={"a": 1}),
        lambda: DocumentEnrichment(metadata=[1]),
        lambda: DocumentEnrichment.from_dict(7),
        lambda: Enrichments("Ada"),
        lambda: Enrichments(None, "s"),
        lambda: Enrichments(documents=[{}]),
        lambda: Enrichments(web_results=7),
        lambda: Enrichments.from_dict(7),
    ]
    for make in wrong:
        with pytest.raises(ArgumentTypeError):
            make()


def test_an_id_that_is_text_is_read() -> None:
    assert ProfileEnrichment.from_dict({"user_id": str(UUID(int=1))}).user_id == UUID(int=1)
    with pytest.raises(ArgumentValueError, match="user_id"):
        ProfileEnrichment.from_dict({"user_id": "ada"})
