"""Ports: the database, the model and the speech engines that a caller of 0.9 injected through `StageInputs`."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from stageflow import (
    ContextSnapshot,
    Pipeline,
    PipelineTimer,
    StageContext,
    StageKind,
    StageOutput,
    create_stage_context,
    create_stage_inputs,
)
from stageflow.stages.inputs import StagePorts, create_stage_ports
from stageflow.stages.ports import (
    AudioPorts,
    CorePorts,
    LLMPorts,
    create_audio_ports,
    create_core_ports,
    create_llm_ports,
)
from stageflow.testing import create_test_pipeline_context, create_test_stage_context, run_virtual

FIELDS = {
    CorePorts: ["db", "db_lock", "call_logger_db", "send_status", "call_logger", "retry_fn"],
    LLMPorts: ["llm_provider", "chat_service", "llm_chunk_queue", "send_token"],
    AudioPorts: [
        "tts_provider",
        "stt_provider",
        "send_audio_chunk",
        "send_transcript",
        "audio_data",
        "audio_format",
        "tts_text_queue",
        "recording",
    ],
    StagePorts: [
        "db",
        "db_lock",
        "call_logger_db",
        "send_status",
        "send_token",
        "send_audio_chunk",
        "send_transcript",
        "llm_chunk_queue",
        "chat_service",
        "llm_provider",
        "tts_provider",
        "recording",
        "audio_data",
        "audio_format",
        "tts_text_queue",
        "stt_provider",
        "call_logger",
        "retry_fn",
    ],
}
FACTORIES = {
    CorePorts: create_core_ports,
    LLMPorts: create_llm_ports,
    AudioPorts: create_audio_ports,
    StagePorts: create_stage_ports,
}


def new_port(field: str) -> object:
    async def port(*arguments: object) -> None:
        """Stand for a callable, which some ports must be and all may be."""

    return b"RIFF" if field == "audio_data" else port


@pytest.mark.parametrize("ports", FIELDS)
def test_every_field_is_none_unless_it_is_given(ports):
    made = ports()
    assert {field: getattr(made, field) for field in FIELDS[ports]} == dict.fromkeys(FIELDS[ports])


@pytest.mark.parametrize("ports", FIELDS)
def test_the_factory_takes_every_field_by_keyword(ports):
    values = {field: new_port(field) for field in FIELDS[ports]}
    made = FACTORIES[ports](**values)
    assert isinstance(made, ports)
    assert {field: getattr(made, field) for field in FIELDS[ports]} == values
    with pytest.raises(TypeError):
        FACTORIES[ports](new_port("db"))
    with pytest.raises(TypeError):
        FACTORIES[ports](no_such_port=1)


def test_the_classes_take_their_fields_in_order():
    """They were dataclasses in 0.9, with the order that the published tables give."""
    first = new_port("db")
    assert CorePorts(first).db is first
    assert LLMPorts(first).llm_provider is first
    assert AudioPorts(first).tts_provider is first


@pytest.mark.parametrize("ports", FIELDS)
def test_ports_are_frozen(ports):
    made = ports()
    with pytest.raises((AttributeError, TypeError, dataclasses.FrozenInstanceError)):
        setattr(made, FIELDS[ports][0], 1)
    with pytest.raises((AttributeError, TypeError)):
        made.no_such_port = 1


# --- a program that streams tokens through its ports --------------------------------------------------------


class Provider:
    async def stream(self, prompt: str):
        for word in ("Hello", "dear", prompt):
            await asyncio.sleep(0.01)
            yield word


class LLMStage:
    name = "llm"
    kind = StageKind.AGENT

    async def execute(self, ctx: StageContext) -> StageOutput:
        ports = ctx.inputs.ports
        if ports is None or ports.llm_provider is None:
            return StageOutput.skip("no_provider")
        words = []
        async for word in ports.llm_provider.stream(ctx.snapshot.input_text):
            words.append(word)
            if ports.send_token is not None:
                await ports.send_token(word)
        return StageOutput.ok(text=" ".join(words))


def graph():
    return Pipeline("chat").with_stage("llm", LLMStage, StageKind.AGENT).build()


@pytest.mark.parametrize("factory", [create_llm_ports, create_stage_ports])
@pytest.mark.parametrize("style", ["root context", "keyword"])
def test_a_stage_streams_through_its_ports(factory, style):
    tokens: list[str] = []

    async def send_token(text: str) -> None:
        tokens.append(text)

    ports = factory(llm_provider=Provider(), send_token=send_token)
    if style == "root context":  # as 0.9: "ports are the root context's ports"
        snapshot = ContextSnapshot(input_text="Ada")
        context = create_stage_context(
            snapshot=snapshot,
            inputs=create_stage_inputs(snapshot=snapshot, ports=ports),
            stage_name="root",
            timer=PipelineTimer(),
        )
        results = run_virtual(graph().run(context))
    else:
        results = run_virtual(graph().run(create_test_pipeline_context(input_text="Ada"), ports=ports))
    assert results["llm"].data == {"text": "Hello dear Ada"}
    assert tokens == ["Hello", "dear", "Ada"]


def test_without_ports_there_is_none():
    results = run_virtual(graph().run(create_test_pipeline_context(input_text="Ada")))
    assert results["llm"].data == {"reason": "no_provider"}


def test_every_stage_of_a_run_has_the_same_ports_and_no_other_run_has():
    seen: list[tuple[str, str, object]] = []

    async def reads(ctx: StageContext) -> None:
        await asyncio.sleep(0)
        seen.append((ctx.snapshot.input_text, ctx.stage_name, ctx.inputs.ports.db))

    built = (
        Pipeline()
        .with_stage("a", reads, StageKind.WORK)
        .with_stage("b", reads, StageKind.WORK, dependencies=("a",))
        .build()
    )

    async def program():
        await asyncio.gather(
            *(
                built.run(
                    create_test_pipeline_context(input_text=name), ports=create_core_ports(db=f"db {name}")
                )
                for name in ("x", "y")
            )
        )

    run_virtual(program())
    assert sorted(seen) == [("x", "a", "db x"), ("x", "b", "db x"), ("y", "a", "db y"), ("y", "b", "db y")]


def test_a_stage_with_ports_in_a_test_of_its_own():
    async def send_token(text: str) -> None:
        pass

    ctx = create_test_stage_context(
        input_text="Ada", ports=create_llm_ports(llm_provider=Provider(), send_token=send_token)
    )
    assert run_virtual(LLMStage().execute(ctx)).data == {"text": "Hello dear Ada"}
