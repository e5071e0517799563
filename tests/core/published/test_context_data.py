"""Snapshots, conversations, enrichments, bags and extensions: the data of 0.9, made, read, stored and read back."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from stageflow import (
    ContextSnapshot,
    ExtensionHelper,
    ExtensionRegistry,
    Pipeline,
    RunIdentity,
    StageContext,
    StageKind,
    StageOutput,
    TypedExtension,
)
from stageflow.context import (
    ConflictDetector,
    ContextBag,
    ContextUtilization,
    Conversation,
    DataConflictError,
    DocumentEnrichment,
    Enrichments,
    ExtensionBundle,
    MemoryEnrichment,
    Message,
    OutputBag,
    OutputConflictError,
    ProfileEnrichment,
    RoutingDecision,
    TruncationTracker,
    VersionMetadata,
)
from stageflow.deprecations import RemovedInCore3Warning
from stageflow.testing import (
    EventRecorder,
    create_test_pipeline_context,
    create_test_snapshot,
    create_test_stage_context,
    run_virtual,
    snapshot_from_dict_strict,
    validate_snapshot,
    validate_snapshot_strict,
)

USER, RUN = UUID(int=1), UUID(int=2)
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Skills(ExtensionBundle):
    level: int = 0
    names: tuple[str, ...] = ()


def full_snapshot(extensions: object = None) -> ContextSnapshot:
    return ContextSnapshot(
        run_id=RunIdentity(pipeline_run_id=RUN, user_id=USER, created_at=WHEN),
        enrichments=Enrichments(
            profile=ProfileEnrichment(USER, "Ada", preferences={"tone": "calm"}, goals=["learn"]),
            memory=MemoryEnrichment(
                recent_topics=["whales"], key_facts=["likes ships"], interaction_history_summary="short"
            ),
            documents=[
                DocumentEnrichment(
                    document_id="d1", document_type="essay", blocks=[{"text": "x"}], metadata={"pages": 1}
                )
            ],
            web_results=[{"url": "about:blank"}],
        ),
        conversation=Conversation(
            messages=[Message(role="user", content="hi", timestamp=WHEN, metadata={"n": 1})],
            routing_decision=RoutingDecision("agent-1", "chat", "chat_fast", "short question"),
        ),
        extensions=extensions,
        input_text="hi",
        input_audio_duration_ms=1200,
        topology="chat_fast",
        execution_mode="practice",
        created_at=WHEN,
        metadata={"tags": ["a"]},
    )


# --- snapshots ----------------------------------------------------------------------------------------------


def test_flat_reading():
    snapshot = full_snapshot()
    assert (snapshot.pipeline_run_id, snapshot.user_id, snapshot.org_id) == (RUN, USER, None)
    assert [message.content for message in snapshot.messages] == ["hi"]
    assert snapshot.routing_decision.agent_id == "agent-1"
    assert snapshot.profile.display_name == "Ada"
    assert list(snapshot.memory.key_facts) == ["likes ships"]
    assert [document.document_id for document in snapshot.documents] == ["d1"]
    assert list(snapshot.web_results) == [{"url": "about:blank"}]
    empty = ContextSnapshot()
    assert (list(empty.messages), list(empty.documents), list(empty.web_results)) == ([], [], [])
    assert (empty.profile, empty.memory, empty.routing_decision) == (None, None, None)
    assert empty.created_at.utcoffset() == timedelta(0)


def test_it_is_stored_as_json_and_read_back():
    snapshot = full_snapshot()
    data = json.loads(json.dumps(snapshot.to_dict()))
    assert set(data) >= {"run_id", "enrichments", "conversation", "extensions", "input_text", "metadata"}
    # the parts once more flat, as 0.9 had them
    assert data["user_id"] == str(USER)
    assert data["profile"]["display_name"] == "Ada"
    assert data["messages"][0]["content"] == "hi"
    assert data["routing_decision"]["pipeline_name"] == "chat"
    again = ContextSnapshot.from_dict(data)
    assert again == snapshot
    assert again.to_dict() == snapshot.to_dict()


def test_the_flat_form_alone_is_read_too():
    again = ContextSnapshot.from_dict(
        {
            "pipeline_run_id": str(RUN),
            "user_id": str(USER),
            "input_text": "hi",
            "messages": [{"role": "user", "content": "x"}],
        }
    )
    assert (again.pipeline_run_id, again.user_id, again.input_text) == (RUN, USER, "hi")
    assert again.messages[0].content == "x"


def test_extensions_of_a_dict_and_of_a_type():
    # Findings A1.23: a dict, as the documents used one, crashed `to_dict` in 0.9.
    plain = full_snapshot({"skills": {"level": 3}})
    assert json.loads(json.dumps(plain.to_dict()))["extensions"] == {"skills": {"level": 3}}
    assert ContextSnapshot.from_dict(plain.to_dict()).extensions == {"skills": {"level": 3}}
    typed = full_snapshot(Skills(level=3, names=("sailing",)))
    data = typed.to_dict()
    assert data["extensions_type"].rsplit(".", 1)[-1] == "Skills"
    again = ContextSnapshot.from_dict(data, extension_types={"Skills": Skills})
    assert isinstance(again.extensions, Skills)
    assert again.extensions.level == 3


def test_copies_with_something_else():
    snapshot = full_snapshot()
    other = snapshot.with_run_id(RunIdentity(user_id=UUID(int=9)))
    assert (other.user_id, other.input_text, snapshot.user_id) == (UUID(int=9), "hi", USER)
    assert snapshot.with_enrichments(None).profile is None
    assert list(snapshot.with_conversation(None).messages) == []
    assert snapshot.with_extensions({"n": 1}).extensions == {"n": 1}
    moved = snapshot.run_id.with_pipeline_run_id(UUID(int=8))
    assert (moved.pipeline_run_id, moved.user_id, moved.created_at) == (UUID(int=8), USER, WHEN)


def test_it_is_read_only_all_the_way_down():
    # Findings A1.17: metadata was writable in 0.9.
    snapshot = full_snapshot({"skills": {"level": 3}})
    for write in (
        lambda: setattr(snapshot, "input_text", "x"),
        lambda: snapshot.metadata.update(x=1),
        lambda: snapshot.metadata["tags"].append("b"),
        lambda: snapshot.extensions["skills"].pop("level"),
        lambda: snapshot.messages.append(Message("user", "x")),
        lambda: setattr(snapshot.messages[0], "content", "x"),
        lambda: setattr(snapshot.profile, "display_name", "x"),
    ):
        with pytest.raises((TypeError, AttributeError)):
            write()
    plain = snapshot.to_dict()
    plain["metadata"]["tags"].append("b")  # a copy, and plain
    assert snapshot.metadata["tags"] == ["a"]


# --- conversations and enrichments --------------------------------------------------------------------------


def test_a_conversation():
    conversation = Conversation(
        messages=[Message("user", "hi"), Message("assistant", "hello"), Message("user", "bye")]
    )
    assert conversation.message_count == 3
    assert conversation.last_user_message.content == "bye"
    assert conversation.last_assistant_message.content == "hello"
    longer = conversation.with_message(Message(role="assistant", content="see you"))
    assert (conversation.message_count, longer.message_count) == (3, 4)
    assert longer.last_assistant_message.content == "see you"
    assert Conversation.from_dict(json.loads(json.dumps(longer.to_dict()))) == longer
    assert Conversation().last_user_message is None


def test_enrichments():
    assert not Enrichments().has_any
    enrichments = full_snapshot().enrichments
    assert enrichments.has_any
    assert Enrichments.from_dict(json.loads(json.dumps(enrichments.to_dict()))) == enrichments


def test_the_old_names_of_fields_warn():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        memory = MemoryEnrichment(short_term=["a"], long_term=["b"], summary="c")
        document = DocumentEnrichment(doc_id="d", doc_type="t", content="text")
    assert issubclass(RemovedInCore3Warning, DeprecationWarning)
    assert [warning.category for warning in warned] == [RemovedInCore3Warning] * 6
    told = " ".join(str(warning.message) for warning in warned)
    for name in ("short_term", "long_term", "summary", "doc_id", "doc_type", "content"):
        assert name in told
    assert (list(memory.recent_topics), list(memory.key_facts), memory.interaction_history_summary) == (
        ["a"],
        ["b"],
        "c",
    )
    assert (document.document_id, document.document_type, len(document.blocks)) == ("d", "t", 1)
    with pytest.raises(TypeError):
        MemoryEnrichment(no_such_field=1)
    with pytest.raises(TypeError):
        DocumentEnrichment(no_such_field=1)


def test_an_identity():
    identity = RunIdentity(pipeline_run_id=RUN, user_id=USER, created_at=WHEN)
    assert RunIdentity.from_dict(json.loads(json.dumps(identity.to_dict()))) == identity
    assert (identity.request_id, identity.session_id, identity.org_id, identity.interaction_id) == (None,) * 4


# --- bags ---------------------------------------------------------------------------------------------------


def test_a_context_bag_is_written_once():
    async def program():
        bag = ContextBag()
        await bag.write("profile", {"name": "Ada"}, "profile_stage")
        for writer in ("other_stage", "profile_stage"):
            with pytest.raises(DataConflictError) as caught:
                await bag.write("profile", 1, writer)
            assert (caught.value.key, caught.value.existing_writer, caught.value.new_writer) == (
                "profile",
                "profile_stage",
                writer,
            )
        await bag.write("n", 1, "other_stage")
        return bag

    bag = run_virtual(program())
    assert bag.read("profile") == {"name": "Ada"}
    assert (bag.read("missing"), bag.read("missing", 7)) == (None, 7)
    assert (bag.has("n"), bag.has("missing")) == (True, False)
    assert bag.keys() == ["profile", "n"]
    assert (bag.get_writer("n"), bag.get_writer("missing")) == ("other_stage", None)
    copy = bag.to_dict()
    copy["n"] = 2
    assert bag.read("n") == 1


def test_an_output_bag_counts_attempts():
    async def program():
        bag = OutputBag()
        entry = await bag.write("agent", StageOutput.ok(text="one"))
        assert (entry.attempt, entry.stage_name, entry.output.data["text"]) == (1, "agent", "one")
        with pytest.raises(OutputConflictError) as caught:
            await bag.write("agent", StageOutput.ok(text="two"))
        assert (caught.value.stage_name, caught.value.existing_attempt) == ("agent", 1)
        again = await bag.write("agent", StageOutput.ok(text="two"), allow_overwrite=True)
        assert again.attempt == 2
        return bag

    bag = run_virtual(program())
    bag.write_sync("router", StageOutput.ok(route="fast"))
    assert bag.get_output("agent").data == {"text": "two"}
    assert bag.get("nobody") is None
    assert bag.get_output("nobody") is None
    assert bag.get_value("router", "route") == "fast"
    assert bag.get_value("router", "missing", 7) == 7
    assert (bag.has("agent"), "agent" in bag, "nobody" in bag, len(bag)) == (True, True, False, 2)
    assert list(bag.keys()) == ["agent", "router"]
    assert [entry.stage_name for entry in bag.entries()] == ["agent", "router"]
    assert list(bag.outputs()) == ["agent", "router"]
    assert (bag.get_attempt_count("agent"), bag.get_attempt_count("nobody")) == (2, 0)
    assert list(bag.get_retry_stages()) == ["agent"]
    assert json.dumps(bag.to_dict())


# --- ENRICH utilities ---------------------------------------------------------------------------------------


def test_counting_tokens():
    window = ContextUtilization(max_tokens=100, used_tokens=70, reserved_tokens=10)
    assert (window.available_tokens, window.is_near_limit, window.is_at_limit) == (20, False, False)
    assert window.can_fit(20)
    assert not window.can_fit(21)
    assert window.add(15) is True
    assert window.is_near_limit
    assert window.add(10) is False
    assert (window.used_tokens, window.utilization) == (85, 0.85)


def test_truncation_is_told():
    # Findings A1.15: the event was lost on a sink as the protocol wants it.
    sink = EventRecorder()
    tracker = TruncationTracker(event_sink=sink)
    tracker.record_truncation(
        original_tokens=100,
        truncated_tokens=60,
        strategy="tail",
        content_type="document",
        reason="context_limit",
        metadata={"id": "d1"},
    )
    data = sink.data("context.truncation")
    assert (data["original_tokens"], data["truncated_tokens"], data["strategy"]) == (100, 60, "tail")
    assert tracker.total_tokens_removed == 40


def test_versions():
    version = VersionMetadata.create("doc-1", "v3", "vector_db", content="text", ttl_seconds=60, tags=["a"])
    assert version.checksum == "982d9e3eb996f559"
    assert not version.is_stale
    assert version.age_seconds >= 0
    old = VersionMetadata(
        "doc-1", "v3", datetime.now(UTC) - timedelta(seconds=61), "vector_db", ttl_seconds=60
    )
    assert old.is_stale


@pytest.mark.parametrize(
    ("strategy", "old", "new", "value"),
    [
        ("keep_old", 1, 2, 1),
        ("keep_new", 1, 2, 2),
        ("merge", ["a", "b"], ["b", "c"], ["a", "b", "c"]),
        ("merge", {"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ("merge", "one", "two", "one\ntwo"),
        ("merge", 1, 2, 2),
        ("error", 1, 2, None),
    ],
    ids=str,
)
def test_conflicts(strategy, old, new, value):
    resolution = ConflictDetector(default_strategy=strategy).check_and_resolve("field", old, new)
    assert resolution.has_conflict
    assert resolution.merged_value == value
    by_field = ConflictDetector(merge_strategies={"field": strategy}).check_and_resolve("field", old, new)
    assert by_field.merged_value == value
    assert not ConflictDetector().check_and_resolve("field", 1, 1).has_conflict


# --- extensions ---------------------------------------------------------------------------------------------


def test_typed_extensions():
    @dataclass(frozen=True)
    class Tier:
        key = "tier"
        name: str = "free"

        def to_dict(self) -> dict[str, str]:
            return {"name": self.name}

    class Table(ExtensionRegistry):
        """A table of this test's own."""

    Table.register("tier", Tier)
    assert Table.get("tier") is Tier
    assert Table.get("nothing") is None
    data = {"tier": {"name": "gold"}, "made": Tier("silver"), "skills": {"level": 2}}
    tier = ExtensionHelper.get(data, "tier", Tier)
    assert tier == Tier("gold")
    assert ExtensionHelper.get(data, "made", Tier) is data["made"]
    assert ExtensionHelper.get(data, "nothing", Tier) is None
    assert ExtensionHelper.get(data, "skills", Skills) == Skills(level=2)
    Table.clear()
    assert Table.get("tier") is None

    def wants_an_extension(extension: TypedExtension) -> str:
        return extension.key

    assert wants_an_extension(tier) == "tier"


def test_a_stage_reads_its_extension():
    async def reads(ctx: StageContext) -> StageOutput:
        skills = ExtensionHelper.get(ctx.snapshot.extensions, "skills", Skills)
        return StageOutput.ok(level=skills.level)

    results = run_virtual(
        Pipeline()
        .with_stage("reads", reads, StageKind.TRANSFORM)
        .build()
        .run(ContextSnapshot(extensions={"skills": {"level": 3}}))
    )
    assert results["reads"].data == {"level": 3}


# --- the helpers of tests -----------------------------------------------------------------------------------


def test_contexts_for_tests():
    snapshot = create_test_snapshot(input_text="hi", messages=[Message("user", "x")], extensions={"n": 1})
    assert (snapshot.topology, snapshot.execution_mode, snapshot.input_text) == ("test", "test", "hi")
    assert isinstance(snapshot.pipeline_run_id, UUID)
    assert isinstance(snapshot.user_id, UUID)
    assert (snapshot.session_id, snapshot.org_id) == (None, None)
    ctx = create_test_stage_context(
        prior_outputs={"profile": StageOutput.ok(name="Ada")}, ports={"db": 1}, input_text="hi"
    )
    assert (ctx.stage_name, ctx.snapshot.input_text) == ("test_stage", "hi")
    assert ctx.inputs.get_from("profile", "name") == "Ada"
    assert ctx.inputs.ports == {"db": 1}
    assert ctx.inputs.strict is False
    pipeline_context = create_test_pipeline_context(data={"n": 1})
    assert (pipeline_context.service, pipeline_context.data) == ("test", {"n": 1})


def test_validating_snapshots():
    # Findings A1.23: it rejected every normal snapshot.
    assert validate_snapshot(create_test_snapshot()) == []
    problems = validate_snapshot(ContextSnapshot(), require_user_id=True, require_org_id=True)
    assert len(problems) == 3
    with pytest.raises(ValueError, match="org_id"):
        validate_snapshot_strict(create_test_snapshot(), require_org_id=True)
    snapshot = create_test_snapshot()
    assert validate_snapshot_strict(snapshot) is snapshot
    assert snapshot_from_dict_strict(snapshot.to_dict()) == snapshot
    with pytest.raises(ValueError, match="no_such_key"):
        snapshot_from_dict_strict({**snapshot.to_dict(), "no_such_key": 1})
