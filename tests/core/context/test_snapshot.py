"""``ContextSnapshot``: what a run starts with, read-only, as data and back."""

import copy
import dataclasses
import json
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from stageflow.context import (
    ArgumentTypeError,
    ArgumentValueError,
    ContextSnapshot,
    Conversation,
    DocumentEnrichment,
    Enrichments,
    ExtensionBundle,
    FrozenDict,
    MemoryEnrichment,
    Message,
    ProfileEnrichment,
    ReadOnlyFieldError,
    RoutingDecision,
    RunIdentity,
)
from stageflow.errors import ReadOnlyDataError

IDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id", "interaction_id")
FLAT = ("messages", "routing_decision", "profile", "memory", "documents", "web_results")

TEXT = st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
TIMES = st.datetimes(timezones=st.just(UTC))
MESSAGES = st.builds(Message, TEXT.filter(bool), TEXT, st.none() | TIMES, OBJECTS)
CONVERSATIONS = st.builds(
    Conversation,
    st.lists(MESSAGES, max_size=3),
    st.none() | st.builds(RoutingDecision, TEXT, TEXT, TEXT, st.none() | TEXT),
)
ENRICHMENTS = st.builds(
    Enrichments,
    st.none()
    | st.builds(ProfileEnrichment, st.none() | st.uuids(), st.none() | TEXT, OBJECTS, st.lists(TEXT)),
    st.none()
    | st.builds(
        MemoryEnrichment,
        recent_topics=st.lists(TEXT),
        key_facts=st.lists(TEXT),
        interaction_history_summary=st.none() | TEXT,
    ),
    st.lists(
        st.builds(
            DocumentEnrichment,
            document_id=st.none() | TEXT,
            document_type=st.none() | TEXT,
            blocks=st.lists(OBJECTS, max_size=2),
            metadata=OBJECTS,
        ),
        max_size=2,
    ),
    st.lists(OBJECTS, max_size=2),
)


@dataclass(frozen=True)
class Lesson(ExtensionBundle):
    level: int = 1


class Plan(BaseModel):
    name: str


EXTENSIONS = st.none() | OBJECTS | st.builds(Lesson, st.integers()) | st.builds(Plan, name=TEXT)
TYPES: dict[str, type] = {"Lesson": Lesson, "Plan": Plan}
SNAPSHOTS = st.builds(
    ContextSnapshot,
    st.builds(RunIdentity, *[st.none() | st.uuids()] * 6),
    st.none() | ENRICHMENTS,
    st.none() | CONVERSATIONS,
    EXTENSIONS,
    st.none() | TEXT,
    st.none() | st.integers(0),
    st.none() | TEXT,
    st.none() | TEXT,
    st.none() | TIMES,
    OBJECTS,
)


# --- as data and back ----------------------------------------------------------------------------------


@given(SNAPSHOTS)
def test_round_trips(snapshot: ContextSnapshot[Any]) -> None:
    data = snapshot.to_dict()
    assert ContextSnapshot.from_dict(data, TYPES) == snapshot
    assert ContextSnapshot.from_dict(json.loads(json.dumps(data)), TYPES) == snapshot
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert copy.copy(snapshot) == copy.deepcopy(snapshot) == snapshot
    assert hash(copy.copy(snapshot)) == hash(snapshot)
    assert dataclasses.replace(snapshot) == snapshot


@given(SNAPSHOTS)
def test_unknown_extensions_survive_a_service_that_does_not_know_their_type(
    snapshot: ContextSnapshot[Any],
) -> None:
    """Finding A1.30: 0.9 dropped them."""
    passed_on = ContextSnapshot.from_dict(snapshot.to_dict())
    if snapshot.extensions is not None:
        assert type(passed_on.extensions) is FrozenDict
    assert passed_on.to_dict() == snapshot.to_dict()
    moved = pickle.loads(pickle.dumps(passed_on.with_input("next")))
    assert moved.to_dict()["extensions_type"] == snapshot.to_dict()["extensions_type"]
    assert ContextSnapshot.from_dict(moved.to_dict(), TYPES).extensions == snapshot.extensions


@given(SNAPSHOTS)
def test_flat_data_alone_is_enough(snapshot: ContextSnapshot[Any]) -> None:
    flat = snapshot.to_dict()
    for name in ("run_id", "conversation", "enrichments"):
        del flat[name]
    back = ContextSnapshot.from_dict(flat, TYPES)
    assert [getattr(back, name) for name in (*IDS, *FLAT)] == [
        getattr(snapshot, name) for name in (*IDS, *FLAT)
    ]


def test_nested_data_wins_over_flat_data() -> None:
    one, two = str(uuid4()), str(uuid4())
    back = ContextSnapshot.from_dict({
        "run_id": {"user_id": one},
        "user_id": two,
        "conversation": {"messages": [{"role": "user", "content": "nested"}]},
        "messages": [{"role": "user", "content": "flat"}],
    })  # fmt: skip
    assert str(back.user_id) == one
    assert back.messages[0].content == "nested"


def test_to_dict_is_the_published_form() -> None:
    user = UUID(int=1)
    snapshot = ContextSnapshot(
        RunIdentity(user_id=user),
        Enrichments(ProfileEnrichment(user, "Ada"), web_results=[{"url": "u"}]),
        Conversation([Message("user", "hi")], RoutingDecision("a", "p", "t")),
        input_text="hi",
        topology="chat_fast",
        metadata={"k": [1]},
    )
    data = snapshot.to_dict()
    assert set(data) == {
        "run_id", "enrichments", "conversation", "extensions", "extensions_type", "input_text",
        "input_audio_duration_ms", "topology", "execution_mode", "created_at", "metadata", *IDS, *FLAT,
    }  # fmt: skip
    assert data["user_id"] == data["run_id"]["user_id"] == str(user)
    assert data["messages"] == data["conversation"]["messages"]
    assert data["routing_decision"] == data["conversation"]["routing_decision"]
    assert data["profile"] == data["enrichments"]["profile"]
    assert data["web_results"] == [{"url": "u"}]
    assert datetime.fromisoformat(data["created_at"]) == snapshot.created_at

    empty = ContextSnapshot().to_dict()
    assert (empty["conversation"], empty["enrichments"], empty["extensions"]) == (None, None, None)
    assert [empty[name] for name in FLAT] == [[], None, None, None, [], []]


def test_to_dict_shares_nothing_with_the_snapshot_nor_its_own_parts_with_each_other() -> None:
    """Finding A1.17: 0.9 returned the live metadata."""
    snapshot = ContextSnapshot(
        enrichments=Enrichments(web_results=[{"url": "u"}]),
        conversation=Conversation([Message("user", "hi", metadata={"a": [1]})]),
        extensions={"plan": {"tags": ["pro"]}},
        metadata={"k": [1]},
    )
    data = snapshot.to_dict()
    data["metadata"]["k"].append(2)
    data["extensions"]["plan"]["tags"].append("x")
    data["messages"][0]["metadata"]["a"].append(2)
    data["web_results"][0]["url"] = "changed"
    assert data["conversation"]["messages"][0]["metadata"] == {"a": [1]}
    assert data["enrichments"]["web_results"] == [{"url": "u"}]
    assert snapshot.metadata == {"k": [1]}
    assert snapshot.extensions == {"plan": {"tags": ["pro"]}}


@dataclass(frozen=True)
class Bare:
    """A dataclass that knows nothing of ours."""

    level: int


@pytest.mark.parametrize(
    ("extensions", "data", "name"),
    [
        ({"plan": "pro"}, {"plan": "pro"}, "dict"),
        ({}, {}, "dict"),
        (Lesson(3), {"level": 3}, "Lesson"),
        (Plan(name="pro"), {"name": "pro"}, "Plan"),
        (Bare(3), {"level": 3}, "Bare"),
        ([1], [1], "FrozenList"),
        (None, None, None),
    ],
)
def test_extensions_of_any_kind_become_data(extensions: Any, data: Any, name: str | None) -> None:
    """Finding A1.23: documented dict extensions crashed ``to_dict``."""
    result = ContextSnapshot(extensions=extensions).to_dict()
    assert (result["extensions"], result["extensions_type"]) == (data, name)
    back = ContextSnapshot.from_dict(result, {**TYPES, "Bare": Bare})
    assert back.extensions == extensions


def test_from_dict_takes_extensions_that_are_objects_already() -> None:
    lesson = Lesson(3)
    back = ContextSnapshot.from_dict({"extensions": lesson, "extensions_type": "Lesson"}, TYPES)
    assert back.extensions is lesson
    assert ContextSnapshot.from_dict({"extensions": lesson}).extensions is lesson


# --- reading -------------------------------------------------------------------------------------------


def test_flat_properties_read_the_parts() -> None:
    ids = [uuid4() for _ in IDS]
    talk = Conversation([Message("user", "hi")], RoutingDecision("a", "p", "t"))
    known = Enrichments(
        ProfileEnrichment(display_name="Ada"),
        MemoryEnrichment(),
        [DocumentEnrichment(document_id="d")],
        [{"u": 1}],
    )
    snapshot = ContextSnapshot(RunIdentity(*ids), known, talk)
    assert [getattr(snapshot, name) for name in IDS] == ids
    assert snapshot.messages == talk.messages
    assert snapshot.routing_decision is talk.routing_decision
    assert (snapshot.profile, snapshot.memory) == (known.profile, known.memory)
    assert (snapshot.documents, snapshot.web_results) == (known.documents, known.web_results)

    empty = ContextSnapshot()
    assert [getattr(empty, name) for name in IDS] == [None] * 6
    assert [getattr(empty, name) for name in FLAT] == [[], None, None, None, [], []]


def test_defaults_are_fresh() -> None:
    before = datetime.now(UTC)
    one, two = ContextSnapshot(), ContextSnapshot()
    assert before <= one.created_at <= datetime.now(UTC)
    assert one.run_id is not two.run_id
    one.messages.append(Message("user", "hi"))  # an empty list of one's own, as in 0.9
    assert one.messages == two.messages == []


# --- read-only -----------------------------------------------------------------------------------------


def test_nothing_in_it_can_be_changed() -> None:
    """Finding A1.17: in 0.9 the shell was frozen and its data was not."""
    source: dict[str, Any] = {"k": [1]}
    snapshot = ContextSnapshot(
        enrichments=Enrichments(ProfileEnrichment(preferences={"a": [1]}), web_results=[{}]),
        conversation=Conversation([Message("user", "hi", metadata={"a": 1})]),
        extensions={"tags": ["pro"]},
        metadata=source,
    )
    source["k"].append(2)
    assert snapshot.metadata == {"k": [1]}
    assert snapshot.profile is not None
    for change in (
        lambda: snapshot.metadata.update(a=1),
        lambda: snapshot.metadata["k"].append(2),
        snapshot.extensions["tags"].clear,
        lambda: snapshot.messages.append(Message("user", "x")),
        snapshot.messages[0].metadata.clear,  # type: ignore[attr-defined]
        lambda: snapshot.web_results[0].update(a=1),
        lambda: snapshot.documents.append(DocumentEnrichment()),
        lambda: snapshot.profile.preferences["a"].append(2),  # type: ignore[union-attr]
    ):
        with pytest.raises(ReadOnlyDataError):
            change()
    for name in (*ContextSnapshot.__match_args__, "extra"):
        with pytest.raises(ReadOnlyFieldError):
            setattr(snapshot, name, None)
        with pytest.raises(ReadOnlyFieldError):
            delattr(snapshot, name)


def test_with_methods_change_one_field_and_keep_the_rest() -> None:
    base: ContextSnapshot[Any] = ContextSnapshot(
        RunIdentity(user_id=uuid4()),
        Enrichments(),
        Conversation(),
        {"a": 1},
        "hi",
        5,
        "t",
        "m",
        metadata={"k": 1},
    )
    ids, known, talk = RunIdentity(), Enrichments(web_results=[{}]), Conversation([Message("user", "x")])
    for changed, name, value in (
        (base.with_run_id(ids), "run_id", ids),
        (base.with_enrichments(known), "enrichments", known),
        (base.with_conversation(talk), "conversation", talk),
        (base.with_extensions(Lesson(2)), "extensions", Lesson(2)),
        (base.with_extensions(None), "extensions", None),
        (base.with_input("bye"), "input_text", "bye"),
        (base.with_metadata(l=[2]), "metadata", {"k": 1, "l": [2]}),
    ):
        for field in ContextSnapshot.__match_args__:
            assert getattr(changed, field) == (value if field == name else getattr(base, field))


def test_new_extensions_have_their_own_type_name() -> None:
    unknown = ContextSnapshot.from_dict({"extensions": {"a": 1}, "extensions_type": "Gone"})
    assert unknown.with_input("x").to_dict()["extensions_type"] == "Gone"
    assert unknown.with_extensions({"b": 2}).to_dict()["extensions_type"] == "dict"
    assert unknown.with_extensions(None).to_dict()["extensions_type"] is None
    assert dataclasses.replace(unknown, extensions=Lesson()).to_dict()["extensions_type"] == "Lesson"


# --- wrong arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ContextSnapshot.__match_args__ if name != "extensions"])
@pytest.mark.parametrize("value", [object(), 1j, [1]])
def test_wrong_types_are_named(name: str, value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=rf"ContextSnapshot\({name}=\.\.\.\) takes") as caught:
        ContextSnapshot(**{name: value})
    assert isinstance(caught.value, TypeError)


def test_a_bare_id_as_run_id_says_what_to_pass() -> None:
    with pytest.raises(ArgumentTypeError, match=r"run_id=RunIdentity\(pipeline_run_id="):
        ContextSnapshot(run_id=uuid4())


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_duration_is_a_finite_number(value: float) -> None:
    with pytest.raises(ArgumentValueError, match="input_audio_duration_ms"):
        ContextSnapshot(input_audio_duration_ms=value)
    with pytest.raises(ArgumentTypeError):
        ContextSnapshot(input_audio_duration_ms=True)


@pytest.mark.parametrize(
    "data",
    [None, [], "x", {"run_id": 7}, {"conversation": 7}, {"messages": "hi"}, {"messages": [7]}, {"metadata": [1]},
     {"enrichments": [1]}, {"documents": [7]}, {"profile": 7}, {"created_at": 7}, {"input_text": 7}],
)  # fmt: skip
def test_from_dict_names_wrong_types(data: Any) -> None:
    with pytest.raises(ArgumentTypeError):
        ContextSnapshot.from_dict(data)


def test_any_mapping_will_do() -> None:
    data = ContextSnapshot(input_text="hi", metadata={"a": 1}).to_dict()
    assert ContextSnapshot.from_dict(MappingProxyType(data)) == ContextSnapshot.from_dict(data)
    metadata = ContextSnapshot(metadata=MappingProxyType({"a": [1]})).metadata
    assert type(metadata) is FrozenDict
    assert metadata == {"a": [1]}


def test_equality_and_repr() -> None:
    snapshot: ContextSnapshot[Any] = ContextSnapshot(input_text="hi")
    assert snapshot != "hi"
    assert snapshot != snapshot.with_input("bye")
    assert repr(snapshot).startswith("ContextSnapshot(run_id=RunIdentity(")
    assert "input_text='hi'" in repr(snapshot)


def test_the_functions_of_dataclasses_know_it() -> None:
    """In 0.9 it was a dataclass, and users call ``dataclasses.replace``."""
    snapshot: ContextSnapshot[Any] = ContextSnapshot(input_text="hi")
    assert dataclasses.replace(snapshot, input_text="bye") == snapshot.with_input("bye")
    assert tuple(field.name for field in dataclasses.fields(snapshot)) == ContextSnapshot.__match_args__
