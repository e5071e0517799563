"""Class stages as 0.9 documented them: a chat backend with guards, enrichment, a router, an agent and a writer."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from stageflow import (
    ContextSnapshot,
    Pipeline,
    PipelineTimer,
    RunIdentity,
    Stage,
    StageArtifact,
    StageContext,
    StageEvent,
    StageExecutionError,
    StageKind,
    StageOutput,
    StageStatus,
    create_stage_inputs,
)
from stageflow.context import Conversation, Message
from stageflow.pipeline.dag import UnifiedPipelineCancelled, UnifiedStageExecutionError
from stageflow.testing import EventRecorder, run_virtual

ADA = UUID(int=0xADA)
ORG = UUID(int=0x0126)
RUN = UUID(int=1)
REQUEST = UUID(int=2)
PROFILES = {ADA: {"display_name": "Ada", "tone": "formal"}}


# --- the application, as somebody wrote it for 0.9 ----------------------------------------------------------


class FakeProvider:
    """A model that knows its answers, in place of one that has to be paid."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.calls: list[dict[str, object]] = []

    async def chat(self, *, model: str, messages: list[dict[str, str]]) -> str:
        self.calls.append({"model": model, "messages": messages})
        await asyncio.sleep(0.2)
        return self.answers[model]


class InputGuardStage:
    name = "input_guard"
    kind = StageKind.GUARD

    async def execute(self, ctx: StageContext) -> StageOutput:
        text = ctx.snapshot.input_text or ""
        if not text.strip():
            return StageOutput.cancel(reason="empty message", data={"blocked": True})
        if "password" in text:
            return StageOutput.fail(error="the message asks for a secret", data={"rule": "secrets"})
        return StageOutput.ok(text=text.strip())


class ProfileEnrichStage:
    name = "profile_enrich"
    kind = StageKind.ENRICH

    def __init__(self, profiles: dict[UUID, dict[str, str]]) -> None:
        self.profiles = profiles

    async def execute(self, ctx: StageContext) -> StageOutput:
        profile = self.profiles.get(ctx.snapshot.user_id)
        if profile is None:
            return StageOutput.skip(reason="no_profile")
        await asyncio.sleep(0.1)
        return StageOutput.ok(profile=profile)


class HistoryEnrichStage:
    name = "history_enrich"
    kind = StageKind.ENRICH

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit

    async def execute(self, ctx: StageContext) -> StageOutput:
        await asyncio.sleep(0.1)
        messages = [{"role": m.role, "content": m.content} for m in ctx.snapshot.messages[-self.limit :]]
        return StageOutput.ok(data={"messages": messages, "count": len(messages)})


class RouterStage:
    name = "router"
    kind = StageKind.ROUTE

    async def execute(self, ctx: StageContext) -> StageOutput:
        text = ctx.inputs.require_from("input_guard", "text")
        return StageOutput.ok(route="large" if len(text) > 30 else "small", confidence=0.9)


class AgentStage:
    name = "agent"
    kind = StageKind.AGENT

    async def execute(self, ctx: StageContext) -> StageOutput:
        model = ctx.inputs.get_from("router", "route", default="small")
        text = ctx.inputs.get_from("input_guard", "text")
        profile = ctx.inputs.get_from("profile_enrich", "profile", default={})
        history = ctx.inputs.get_from("history_enrich", "messages", default=[])
        reply = await ctx.inputs.ports["llm"].chat(
            model=model, messages=[*history, {"role": "user", "content": text}]
        )
        name = profile.get("display_name", "there")
        return StageOutput(
            status=StageStatus.OK,
            data={"reply": f"Dear {name}, {reply}", "model": model},
            artifacts=[StageArtifact(type="transcript", payload={"question": text, "answer": reply})],
            events=[StageEvent(type="agent.answered", data={"model": model, "characters": len(reply)})],
            version="agent-v2",
        )


class OutputGuardStage:
    name = "output_guard"
    kind = StageKind.GUARD

    async def execute(self, ctx: StageContext) -> StageOutput:
        reply = ctx.inputs.require_from("agent", "reply")
        ctx.try_emit_event("guard.checked", {"characters": len(reply)})
        return StageOutput.ok(reply=reply, safe=True)


class WriterStage:
    name = "writer"
    kind = StageKind.WORK

    def __init__(self, table: list[tuple[UUID | None, str]]) -> None:
        self.table = table

    async def execute(self, ctx: StageContext) -> StageOutput:
        self.table.append((ctx.snapshot.user_id, ctx.inputs.require_from("output_guard", "reply")))
        return StageOutput.ok({"row": len(self.table)})


def chat_pipeline(table: list[tuple[UUID | None, str]]) -> Pipeline:
    return (
        Pipeline(name="chat")
        .with_stage("input_guard", InputGuardStage, StageKind.GUARD)
        .with_stage(
            "profile_enrich",
            ProfileEnrichStage,
            StageKind.ENRICH,
            dependencies=("input_guard",),
            config={"profiles": PROFILES},
        )
        .with_stage(
            "history_enrich", HistoryEnrichStage(limit=2), StageKind.ENRICH, dependencies=("input_guard",)
        )
        .with_stage("router", RouterStage, StageKind.ROUTE, dependencies=("input_guard",))
        .with_stage(
            "agent",
            AgentStage,
            StageKind.AGENT,
            dependencies=("input_guard", "profile_enrich", "history_enrich", "router"),
        )
        .with_stage("output_guard", OutputGuardStage(), StageKind.GUARD, dependencies=("agent",))
        .with_stage("writer", WriterStage(table), StageKind.WORK, dependencies=("output_guard",))
    )


def root_context(text: str, provider: object, sink: object = None, user_id: UUID = ADA) -> StageContext:
    """Return what a caller of 0.9 made for every request: the root stage context, with the ports."""
    snapshot = ContextSnapshot(
        run_id=RunIdentity(pipeline_run_id=RUN, request_id=REQUEST, user_id=user_id, org_id=ORG),
        conversation=Conversation(
            messages=[
                Message(role="user", content="Good morning"),
                Message(role="assistant", content="Good morning, Ada"),
                Message(role="user", content="Is it Monday?"),
            ]
        ),
        input_text=text,
        topology="chat_fast",
        execution_mode="production",
    )
    return StageContext(
        snapshot=snapshot,
        inputs=create_stage_inputs(snapshot=snapshot, ports={"llm": provider}),
        stage_name="__root__",
        timer=PipelineTimer(),
        event_sink=sink,
    )


STAGES = ["input_guard", "profile_enrich", "history_enrich", "router", "agent", "output_guard", "writer"]


# --- what it does -------------------------------------------------------------------------------------------


def test_a_chat_turn_from_the_first_guard_to_the_writer():
    provider = FakeProvider({"small": "it is Tuesday."})
    table: list[tuple[UUID | None, str]] = []
    sink = EventRecorder()
    results = run_virtual(chat_pipeline(table).build().run(root_context("  And today? ", provider, sink)))

    assert list(results) == STAGES
    assert {output.status for output in results.values()} == {StageStatus.OK}
    assert {name: dict(output.data) for name, output in results.items()} == {
        "input_guard": {"text": "And today?"},
        "profile_enrich": {"profile": {"display_name": "Ada", "tone": "formal"}},
        "history_enrich": {
            "messages": [
                {"role": "assistant", "content": "Good morning, Ada"},
                {"role": "user", "content": "Is it Monday?"},
            ],
            "count": 2,
        },
        "router": {"route": "small", "confidence": 0.9},
        "agent": {"reply": "Dear Ada, it is Tuesday.", "model": "small"},
        "output_guard": {"reply": "Dear Ada, it is Tuesday.", "safe": True},
        "writer": {"row": 1},
    }
    assert results["agent"].version == "agent-v2"
    assert results["agent"].error is None
    assert results["agent"].duration_ms is not None
    (artifact,) = results["agent"].artifacts
    assert artifact.type == "transcript"
    assert artifact.payload == {"question": "And today?", "answer": "it is Tuesday."}
    assert artifact.timestamp.utcoffset() is not None
    assert table == [(ADA, "Dear Ada, it is Tuesday.")]
    assert provider.calls == [
        {
            "model": "small",
            "messages": [
                {"role": "assistant", "content": "Good morning, Ada"},
                {"role": "user", "content": "Is it Monday?"},
                {"role": "user", "content": "And today?"},
            ],
        }
    ]


def test_the_events_of_a_chat_turn():
    sink = EventRecorder()
    run_virtual(chat_pipeline([]).build().run(root_context("Hello?", FakeProvider({"small": "hi."}), sink)))

    sink.assert_paired(stages=STAGES, end="completed")
    assert sink.types[:3] == ["pipeline.started", "stage.input_guard.started", "stage.input_guard.completed"]
    assert set(sink.types[3:9]) == {
        f"stage.{name}.{word}"
        for name in ("profile_enrich", "history_enrich", "router")
        for word in ("started", "completed")
    }
    # Findings A1.15: events that a stage returns are emitted by the run, when the stage ends; 0.9 dropped them.
    assert sink.types[9:] == [
        "stage.agent.started",
        "agent.answered",
        "stage.agent.completed",
        "stage.output_guard.started",
        "guard.checked",
        "stage.output_guard.completed",
        "stage.writer.started",
        "stage.writer.completed",
        "pipeline.completed",
    ]
    answered = sink.data("agent.answered")
    assert (answered["model"], answered["characters"], answered["stage"]) == ("small", 3, "agent")
    checked = sink.data("guard.checked")
    assert {
        key: checked[key] for key in ("characters", "pipeline_run_id", "request_id", "execution_mode")
    } == {
        "characters": len("Dear Ada, hi."),
        "pipeline_run_id": str(RUN),
        "request_id": str(REQUEST),
        "execution_mode": "production",
    }
    for event in sink.events:
        assert event.data["user_id"] == str(ADA)
        assert event.data["org_id"] == str(ORG)
        assert event.data["topology"] == "chat_fast"
    assert sink.data("stage.agent.started")["kind"] == "agent"
    assert sink.data("stage.writer.completed")["status"] == "completed"


def test_enrichers_and_router_run_side_by_side():
    """On the virtual clock the two waits of 0.1 s are one, and the model's 0.2 s come on top."""

    async def program():
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await chat_pipeline([]).build().run(root_context("Hi", FakeProvider({"small": "hi."})))
        return loop.time() - begin

    assert run_virtual(program()) == pytest.approx(0.3, abs=0.05)


def test_a_stage_that_skips_leaves_its_dependants_running():
    sink = EventRecorder()
    table: list[tuple[UUID | None, str]] = []
    context = root_context("Hello?", FakeProvider({"small": "hi."}), sink, user_id=UUID(int=99))
    results = run_virtual(chat_pipeline(table).build().run(context))

    assert results["profile_enrich"].status is StageStatus.SKIP
    assert results["profile_enrich"].data == {"reason": "no_profile"}
    assert results["agent"].data["reply"] == "Dear there, hi."
    assert table == [(UUID(int=99), "Dear there, hi.")]
    assert sink.of("profile_enrich") == ["started", "skipped"]
    skipped = sink.data("stage.profile_enrich.skipped")
    assert skipped["reason"] == "no_profile"
    assert skipped["duration_ms"] >= 0


def test_a_stage_that_fails_ends_the_run_with_the_partial_results():
    sink = EventRecorder()
    provider = FakeProvider({})
    context = root_context("What is your password?", provider, sink)
    with pytest.raises(UnifiedStageExecutionError) as caught:
        run_virtual(chat_pipeline([]).build().run(context))

    # Findings A1.10: one error tree, and the error carries what had settled.
    error = caught.value
    assert isinstance(error, StageExecutionError)
    assert error.stage == "input_guard"
    assert isinstance(error.original, RuntimeError)
    assert str(error.original) == "the message asks for a secret"
    assert error.recoverable is False
    assert error.code == "SF-RUN-STAGE-FAILED"
    assert "Stage 'input_guard' failed" in str(error)
    assert "the message asks for a secret" in str(error)
    assert list(error.results) == ["input_guard"]
    assert error.results["input_guard"].status is StageStatus.FAIL
    assert error.results["input_guard"].error == "the message asks for a secret"
    assert error.results["input_guard"].data == {"rule": "secrets"}
    assert provider.calls == []
    sink.assert_paired(stages=STAGES, end="failed")
    assert sink.types == [
        "pipeline.started",
        "stage.input_guard.started",
        "stage.input_guard.failed",
        *[f"stage.{name}.skipped" for name in STAGES[1:]],
        "pipeline.failed",
    ]


def test_an_exception_of_a_stage_is_the_original_of_the_error():
    sink = EventRecorder()
    context = root_context("Hello?", FakeProvider({}), sink)  # knows no model: KeyError
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(chat_pipeline([]).build().run(context))
    assert caught.value.stage == "agent"
    assert isinstance(caught.value.original, KeyError)
    assert caught.value.__cause__ is caught.value.original
    assert list(caught.value.results) == STAGES[:5]
    assert caught.value.results["agent"].status is StageStatus.FAIL
    failed = sink.data("stage.agent.failed")
    assert (failed["error_type"], failed["attempt"]) == ("KeyError", 1)
    assert sink.of("writer") == ["skipped"]


def test_a_stage_that_cancels_ends_the_pipeline_gracefully():
    sink = EventRecorder()
    with pytest.raises(UnifiedPipelineCancelled) as caught:
        run_virtual(chat_pipeline([]).build().run(root_context("   ", FakeProvider({}), sink)))
    assert caught.value.stage == "input_guard"
    assert caught.value.reason == "empty message"
    assert list(caught.value.results) == ["input_guard"]
    assert caught.value.results["input_guard"].data == {"cancel_reason": "empty message", "blocked": True}
    assert caught.value.results["input_guard"].status is StageStatus.CANCEL
    assert "Pipeline cancelled by stage 'input_guard': empty message" in str(caught.value)
    sink.assert_paired(stages=STAGES, end="cancelled")
    assert sink.of("input_guard") == ["started", "cancelled"]
    assert sink.data("pipeline.cancelled")["reason"] == "empty message"
    assert sink.data("pipeline.cancelled")["cancelled_by"] == "input_guard"


def test_one_graph_answers_many_callers_at_once():
    # Findings A1.11: a graph holds nothing of a run, so concurrent runs do not mix.
    graph = chat_pipeline([]).build()

    async def program():
        return await asyncio.gather(
            *(
                graph.run(root_context(f"question {n}", FakeProvider({"small": f"answer {n}."})))
                for n in range(20)
            )
        )

    runs = run_virtual(program())
    assert [results["agent"].data["reply"] for results in runs] == [
        f"Dear Ada, answer {n}." for n in range(20)
    ]


# --- small print --------------------------------------------------------------------------------------------


def test_a_class_is_instantiated_for_each_execution_and_an_instance_is_shared():
    class Counter:
        name = "counter"
        kind = StageKind.TRANSFORM

        def __init__(self) -> None:
            self.calls = 0

        async def execute(self, ctx: StageContext) -> StageOutput:
            self.calls += 1
            return StageOutput.ok(calls=self.calls)

    graph = (
        Pipeline()
        .with_stage("fresh", Counter, StageKind.TRANSFORM)
        .with_stage("shared", Counter(), StageKind.TRANSFORM)
        .build()
    )

    async def program():
        return [await graph.run() for _ in range(3)]

    runs = run_virtual(program())
    assert [results["fresh"].data["calls"] for results in runs] == [1, 1, 1]
    assert [results["shared"].data["calls"] for results in runs] == [1, 2, 3]


def test_a_class_under_several_names_with_different_config():
    class Prefix:
        name = "prefix"
        kind = StageKind.TRANSFORM

        def __init__(self, prefix: str = "-") -> None:
            self.prefix = prefix

        async def execute(self, ctx: StageContext) -> StageOutput:
            return StageOutput.ok(text=self.prefix + (ctx.snapshot.input_text or ""), stage=ctx.stage_name)

    pipeline = (
        Pipeline()
        .with_stage("plain", Prefix, StageKind.TRANSFORM)
        .with_stage("star", Prefix, StageKind.TRANSFORM, config={"prefix": "*"})
    )
    results = run_virtual(pipeline.build().run(ContextSnapshot(input_text="x")))
    assert results["plain"].data == {"text": "-x", "stage": "plain"}
    assert results["star"].data == {"text": "*x", "stage": "star"}


@pytest.mark.parametrize(
    ("returned", "status", "data"),
    [
        (None, StageStatus.OK, {}),
        ({}, StageStatus.OK, {}),
        ({"n": 1}, StageStatus.OK, {"n": 1}),
        (StageOutput.ok(), StageStatus.OK, {}),
        (StageOutput.ok({"n": 1}, version="v1"), StageStatus.OK, {"n": 1}),
        # Findings A1.30: 0.9 dropped the keywords when there was data.
        (StageOutput.ok({"n": 1}, m=2), StageStatus.OK, {"n": 1, "m": 2}),
        (StageOutput.skip("nothing to do", {"n": 1}), StageStatus.SKIP, {"reason": "nothing to do", "n": 1}),
    ],
)
def test_what_an_async_callable_may_return(returned, status, data):
    async def runner(ctx: StageContext):
        return returned

    results = run_virtual(
        Pipeline().with_stage("only", runner, StageKind.TRANSFORM).build().run(ContextSnapshot())
    )
    assert results["only"].status is status
    assert dict(results["only"].data) == data


@pytest.mark.parametrize("returned", [42, "text", ["list"], object()], ids=type)
def test_anything_else_is_a_type_error(returned):
    async def runner(ctx: StageContext):
        return returned

    with pytest.raises(StageExecutionError) as caught:
        run_virtual(Pipeline().with_stage("only", runner, StageKind.TRANSFORM).build().run(ContextSnapshot()))
    assert caught.value.stage == "only"
    assert isinstance(caught.value.original, TypeError)


def test_the_factories_of_outputs():
    assert StageOutput.ok(text="hi").data == {"text": "hi"}
    assert StageOutput.fail("no").error == "no"
    assert StageOutput.fail(response="no").error == "no"
    assert StageOutput.fail().error == "Unknown error"
    assert StageOutput.fail("no", {"hint": 1}).data == {"hint": 1}
    assert StageOutput.cancel("stop", {"n": 1}).data == {"cancel_reason": "stop", "n": 1}
    retry = StageOutput.retry("busy", {"n": 1}, version="v")
    assert (retry.status, retry.error, dict(retry.data), retry.version) == (
        StageStatus.RETRY,
        "busy",
        {"n": 1},
        "v",
    )
    timed = StageOutput.ok(a=1).with_duration(5).with_version("v3")
    assert (timed.duration_ms, timed.version, dict(timed.data)) == (5, "v3", {"a": 1})
    with pytest.raises(TypeError):
        StageOutput.fail("no", extra=1)
    with pytest.raises((TypeError, AttributeError)):
        timed.version = "v4"  # frozen


def test_kinds_and_statuses_are_text():
    assert [kind.value for kind in StageKind] == ["transform", "enrich", "route", "guard", "work", "agent"]
    assert [status.value for status in StageStatus] == ["ok", "skip", "cancel", "fail", "retry"]
    assert StageKind("agent") is StageKind.AGENT
    assert isinstance(StageKind.AGENT, str)
    assert isinstance(StageStatus.OK, str)


def test_a_dependant_cannot_change_what_its_sibling_reads():
    # Findings A1.17: 0.9 handed the same mutable dict to everybody.
    class Source:
        name = "source"
        kind = StageKind.ENRICH

        async def execute(self, ctx: StageContext) -> StageOutput:
            return StageOutput.ok(tags=["a"], nested={"n": 1})

    async def writes(ctx: StageContext) -> StageOutput:
        seen = []
        tags = ctx.inputs.get_from("source", "tags")
        try:
            tags.append("b")
        except TypeError as error:
            seen.append(type(error).__name__)
        try:
            ctx.inputs.get_output("source").data["nested"]["n"] = 2
        except TypeError as error:
            seen.append(type(error).__name__)
        return StageOutput.ok(refused=seen)

    async def reads(ctx: StageContext) -> StageOutput:
        return StageOutput.ok(ctx.inputs.get_output("source").data)

    pipeline = (
        Pipeline()
        .with_stage("source", Source, StageKind.ENRICH)
        .with_stage("writes", writes, StageKind.TRANSFORM, dependencies=("source",))
        .with_stage("reads", reads, StageKind.TRANSFORM, dependencies=("source", "writes"))
    )
    results = run_virtual(pipeline.build().run(ContextSnapshot()))
    assert results["writes"].data["refused"] == ["ReadOnlyDataError", "ReadOnlyDataError"]
    assert results["reads"].data == {"tags": ["a"], "nested": {"n": 1}}


def test_a_stage_of_0_9_is_a_stage():
    def wants_a_stage(stage: Stage) -> str:
        return stage.name

    assert wants_a_stage(RouterStage()) == "router"
