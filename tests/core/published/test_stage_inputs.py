"""`StageInputs` as stages of 0.9 read them, and skip, conditional and routing."""

from __future__ import annotations

import pytest
from stageflow import (
    ContextSnapshot,
    Pipeline,
    StageContext,
    StageExecutionError,
    StageInputs,
    StageKind,
    StageOutput,
    StageStatus,
)
from stageflow.context import Enrichments, ProfileEnrichment
from stageflow.stages.inputs import UndeclaredDependencyError, create_stage_inputs
from stageflow.testing import EventRecorder, ScriptedStage, create_test_pipeline_context, run_virtual

K = StageKind.TRANSFORM


def inputs(**more: object) -> StageInputs:
    return create_stage_inputs(
        snapshot=ContextSnapshot(input_text="hi"),
        prior_outputs={
            "profile": StageOutput.ok(name="Ada", tone="calm"),
            "router": StageOutput.ok(route="fast"),
        },
        stage_name="agent",
        **more,
    )


# --- by hand ------------------------------------------------------------------------------------------------


def test_reading():
    made = inputs(ports={"db": 1})
    assert made.snapshot.input_text == "hi"
    assert made.get("name") == "Ada"
    assert made.get("route") == "fast"
    assert made.get("missing") is None
    assert made.get("missing", "default") == "default"
    assert made.get_from("profile", "tone") == "calm"
    assert made.get_from("profile", "missing") is None
    assert made.get_from("profile", "missing", default="default") == "default"
    assert made.require_from("router", "route") == "fast"
    assert made.has_output("profile")
    assert made.get_output("profile").data == {"name": "Ada", "tone": "calm"}
    assert made.ports == {"db": 1}
    assert (made.stage_name, made.strict) == ("agent", True)
    assert set(made.declared_deps) == {"profile", "router"}


def test_reading_what_is_not_there():
    made = inputs(declared_deps=["profile", "router", "memory"])
    assert made.has_output("memory") is False
    assert made.get_output("memory") is None
    assert made.get_output("memory", StageOutput.ok(n=1)).data == {"n": 1}
    assert made.get_from("memory", "facts", []) == []
    with pytest.raises(KeyError) as caught:
        made.require_from("memory", "facts")
    assert "memory" in str(caught.value)
    with pytest.raises(KeyError) as caught:
        made.require_from("profile", "nam")
    assert "'name'" in str(caught.value)  # the close match
    assert caught.value.code == "SF-RUN-MISSING-INPUT"


def test_what_was_not_declared_cannot_be_read():
    # Findings A1.18: strict always, also where nothing is declared.
    for made in (inputs(declared_deps=["router"]), inputs(declared_deps=[])):
        for read in (
            lambda made=made: made.get_from("profile", "name"),
            lambda made=made: made.require_from("profile", "name"),
            lambda made=made: made.has_output("profile"),
            lambda made=made: made.get_output("profile"),
        ):
            with pytest.raises(UndeclaredDependencyError) as caught:
                read()
            assert (caught.value.stage_name, caught.value.accessing_stage) == ("profile", "agent")
        assert made.get("name") is None


def test_not_strict_is_for_tests():
    made = inputs(declared_deps=["router"], strict=False)
    assert made.get_from("profile", "name") == "Ada"
    assert made.strict is False


def test_a_key_that_two_have_is_an_error_that_names_both():
    # Findings A1.18: in 0.9 whichever stage had ended first won.
    made = create_stage_inputs(
        snapshot=ContextSnapshot(),
        prior_outputs={"a": StageOutput.ok(text="one"), "b": StageOutput.ok(text="two")},
    )
    with pytest.raises(LookupError) as caught:
        made.get("text")
    assert caught.value.code == "SF-RUN-AMBIGUOUS-KEY"
    assert "'a'" in str(caught.value)
    assert "'b'" in str(caught.value)
    assert made.get_from("b", "text") == "two"


@pytest.mark.parametrize("key", [None, 1, b"text", ["text"]])
def test_a_key_is_text(key):
    made = inputs()
    with pytest.raises(TypeError):
        made.get(key)
    with pytest.raises(TypeError):
        made.get_from("profile", key)
    with pytest.raises(TypeError):
        made.require_from("profile", key)


def test_a_key_is_not_empty():
    made = inputs()
    with pytest.raises(ValueError, match="key"):
        made.get("")
    with pytest.raises(ValueError, match="key"):
        made.get_from("profile", "")
    with pytest.raises(ValueError, match="key"):
        made.require_from("profile", "")


def test_they_are_frozen():
    made = inputs()
    with pytest.raises((AttributeError, TypeError)):
        made.strict = False
    assert StageInputs(ContextSnapshot()).ports is None
    assert dict(StageInputs(snapshot=ContextSnapshot()).prior_outputs) == {}


# --- in a run -----------------------------------------------------------------------------------------------


def test_a_stage_sees_its_direct_dependencies_and_nothing_else():
    seen: dict[str, object] = {}

    async def last(ctx: StageContext) -> StageOutput:
        seen["declared"] = set(ctx.inputs.declared_deps)
        seen["prior"] = list(ctx.inputs.prior_outputs)
        seen["snapshot"] = ctx.inputs.snapshot is ctx.snapshot
        try:
            ctx.inputs.get_from("first", "n")
        except UndeclaredDependencyError as error:
            seen["error"] = (error.stage_name, error.accessing_stage, tuple(error.declared_deps))
        return StageOutput.ok(n=ctx.inputs.get("n"))

    pipeline = (
        Pipeline()
        .with_stage("first", ScriptedStage({"n": 1}), K)
        .with_stage("second", ScriptedStage({"n": 2}), K, dependencies=("first",))
        .with_stage("third", ScriptedStage({"m": 3}), K, dependencies=("first",))
        .with_stage("last", last, K, dependencies=("third", "second"))
    )
    results = run_virtual(pipeline.build().run(create_test_pipeline_context()))
    assert results["last"].data == {"n": 2}
    assert seen == {
        "declared": {"second", "third"},
        "prior": ["third", "second"],  # as declared, whoever ended first
        "snapshot": True,
        "error": ("first", "last", ("second", "third")),
    }


def test_an_undeclared_read_fails_the_stage_and_says_how_to_mend_it():
    async def reads(ctx: StageContext) -> StageOutput:
        return StageOutput.ok(ctx.inputs.get_output("other").data)

    pipeline = Pipeline().with_stage("other", ScriptedStage({"n": 1}), K).with_stage("reads", reads, K)
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(pipeline.build().run(create_test_pipeline_context()))
    assert isinstance(caught.value.original, UndeclaredDependencyError)
    assert "Add 'other' to the stage's dependencies" in str(caught.value.original)


def test_the_snapshot_is_what_the_caller_knows():
    async def reads(ctx: StageContext) -> StageOutput:
        return StageOutput.ok(
            name=ctx.snapshot.profile.display_name,
            tier=ctx.snapshot.metadata["tier"],
            flags=ctx.snapshot.extensions["flags"],
        )

    snapshot = ContextSnapshot(
        enrichments=Enrichments(profile=ProfileEnrichment(display_name="Ada")),
        metadata={"tier": "gold"},
        extensions={"flags": ["beta"]},
    )
    results = run_virtual(Pipeline().with_stage("reads", reads, K).build().run(snapshot))
    assert results["reads"].data == {"name": "Ada", "tier": "gold", "flags": ["beta"]}


# --- skip, conditional, route -------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_who_runs_behind_a_stage_that_skipped(conditional):
    # Findings A1.19: `conditional` means "skip me if a dependency skipped"; 0.9 looked for a key `skip_reason`.
    sink = EventRecorder()
    after = ScriptedStage({"n": 1})
    pipeline = (
        Pipeline()
        .with_stage("maybe", ScriptedStage(StageOutput.skip("no_audio", {"n": 0})), StageKind.ENRICH)
        .with_stage("after", after, K, dependencies=("maybe",), conditional=conditional)
    )
    results = run_virtual(pipeline.build().run(create_test_pipeline_context(event_sink=sink)))
    assert results["maybe"].data == {"reason": "no_audio", "n": 0}
    if conditional:
        assert after.calls == []
        assert results["after"].status is StageStatus.SKIP
        assert sink.of("after") == ["skipped"]
        assert sink.data("stage.after.skipped")["reason"] == "dependency_skipped"
    else:
        assert after.calls[0].inputs["maybe"].data["n"] == 0
        assert results["after"].status is StageStatus.OK


def test_a_data_key_called_skip_reason_is_data():
    after = ScriptedStage({"n": 1})
    pipeline = (
        Pipeline()
        .with_stage("a", ScriptedStage({"skip_reason": "quoted from a log"}), K)
        .with_stage("after", after, K, dependencies=("a",), conditional=True)
    )
    results = run_virtual(pipeline.build().run(create_test_pipeline_context()))
    assert results["after"].status is StageStatus.OK


def test_branches_that_skip_themselves_as_0_9_documented_it():
    class Router:
        name = "router"
        kind = StageKind.ROUTE

        async def execute(self, ctx: StageContext) -> StageOutput:
            return StageOutput.ok(route="fast" if len(ctx.snapshot.input_text or "") < 10 else "deep")

    def branch(name: str):
        class Branch:
            kind = StageKind.AGENT

            async def execute(self, ctx: StageContext) -> StageOutput:
                if ctx.inputs.get_from("router", "route") != name:
                    return StageOutput.skip(f"not_{name}")
                return StageOutput.ok(reply=f"{name}: {ctx.snapshot.input_text}")

        Branch.name = name
        return Branch

    class Merge:
        name = "merge"
        kind = K

        async def execute(self, ctx: StageContext) -> StageOutput:
            for name in ("fast", "deep"):
                output = ctx.inputs.get_output(name)
                if output is not None and output.status is StageStatus.OK:
                    return StageOutput.ok(reply=output.data["reply"])
            return StageOutput.fail("no branch ran")

    pipeline = (
        Pipeline()
        .with_stage("router", Router, StageKind.ROUTE)
        .with_stage("fast", branch("fast"), StageKind.AGENT, dependencies=("router",))
        .with_stage("deep", branch("deep"), StageKind.AGENT, dependencies=("router",))
        .with_stage("merge", Merge, K, dependencies=("fast", "deep"))
    )
    graph = pipeline.build()
    for text, chosen, other in (("hi", "fast", "deep"), ("a longer question", "deep", "fast")):
        sink = EventRecorder()
        context = create_test_pipeline_context(event_sink=sink, input_text=text)
        results = run_virtual(graph.run(context))
        assert results["merge"].data == {"reply": f"{chosen}: {text}"}
        assert results[other].data == {"reason": f"not_{other}"}
        assert sink.of(other) == ["started", "skipped"]


def test_a_route_that_the_executor_takes():
    # Findings A1.19: the router selects branches; in 0.9 each branch had to skip itself.
    ran: list[str] = []

    def branch(name: str):
        async def body(ctx: StageContext) -> StageOutput:
            ran.append(name)
            return StageOutput.ok(reply=name)

        return body

    pipeline = (
        Pipeline()
        .with_stage("router", ScriptedStage({"route": "deep"}), StageKind.ROUTE)
        .with_stage("fast", branch("fast"), StageKind.AGENT, dependencies=("router",), route="fast")
        .with_stage("deep", branch("deep"), StageKind.AGENT, dependencies=("router",), route="deep")
        .with_stage("merge", branch("merge"), K, dependencies=("fast", "deep"))
    )
    sink = EventRecorder()
    results = run_virtual(pipeline.build().run(create_test_pipeline_context(event_sink=sink)))
    assert ran == ["deep", "merge"]
    assert results["fast"].status is StageStatus.SKIP
    assert sink.data("stage.fast.skipped")["reason"] == "route_not_taken"
    sink.assert_paired(stages=["router", "fast", "deep", "merge"], end="completed")
