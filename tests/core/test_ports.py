"""Ports: one object with all of them, which is each of the three parts; who mistypes one is told what there is."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import stageflow
from stageflow import Pipeline, StageContext, StagePorts, create_stage_ports, stage
from stageflow.context import ArgumentTypeError, ReadOnlyFieldError
from stageflow.errors import ConfigurationError
from stageflow.stages import inputs as inputs_room
from stageflow.stages.ports import (
    AudioPorts,
    CorePorts,
    LLMPorts,
    create_audio_ports,
    create_core_ports,
    create_llm_ports,
)

# The fields that 0.9 published, in its order.
FIELDS = {
    CorePorts: "db db_lock call_logger_db send_status call_logger retry_fn",
    LLMPorts: "llm_provider chat_service llm_chunk_queue send_token",
    AudioPorts: (
        "tts_provider stt_provider send_audio_chunk send_transcript audio_data audio_format tts_text_queue recording"
    ),
}
FACTORIES = {
    CorePorts: create_core_ports,
    LLMPorts: create_llm_ports,
    AudioPorts: create_audio_ports,
    StagePorts: create_stage_ports,
}
CALLED = {"send_status", "retry_fn", "send_token", "send_audio_chunk", "send_transcript"}
ALL = " ".join(FIELDS.values())


async def send(*args: object) -> None:
    """Stand for a port that is called."""


def filled(names: str) -> dict[str, object]:
    return {name: send if name in CALLED else f"the {name}" for name in names.split()}


@pytest.mark.parametrize("cls", FACTORIES)
@pytest.mark.parametrize("by", ["class", "factory"])
def test_every_port_is_an_attribute_and_none_unless_given(cls, by):
    make = cls if by == "class" else FACTORIES[cls]
    names = FIELDS.get(cls, ALL)
    assert [field.name for field in dataclasses.fields(cls)] == names.split()
    assert {name: getattr(make(), name) for name in names.split()} == dict.fromkeys(names.split())
    given = filled(names)
    ports = make(**given)
    assert type(ports) is cls
    assert {name: getattr(ports, name) for name in names.split()} == given


def test_they_are_where_users_look_for_them():
    for name in [*(cls.__name__ for cls in FACTORIES), *(one.__name__ for one in FACTORIES.values())]:
        assert getattr(stageflow, name) is getattr(stageflow.stages.ports, name)
        assert getattr(stageflow.stages, name) is getattr(stageflow, name)
    assert inputs_room.StagePorts is StagePorts
    assert inputs_room.create_stage_ports is create_stage_ports


def test_stage_ports_are_each_of_the_parts():
    ports = StagePorts()
    assert all(isinstance(ports, part) for part in FIELDS)
    assert not isinstance(CorePorts(), StagePorts)


def test_parts_are_put_together():
    parts = [factory(**filled(FIELDS[cls])) for cls, factory in FACTORIES.items() if cls in FIELDS]
    assert StagePorts.of(*parts) == StagePorts(**filled(ALL))
    assert StagePorts.of() == StagePorts()
    assert StagePorts.of(StagePorts(db=1), LLMPorts(llm_provider=2)) == StagePorts(db=1, llm_provider=2)


def test_what_comes_twice_or_is_no_part_is_refused():
    with pytest.raises(ArgumentTypeError, match=r"db=.*comes twice"):
        StagePorts.of(CorePorts(db=1), StagePorts(db=1))
    with pytest.raises(ArgumentTypeError, match="CorePorts, LLMPorts and AudioPorts, not dict"):
        StagePorts.of({"db": 1})


@pytest.mark.parametrize("make", [*FACTORIES, *FACTORIES.values()], ids=lambda make: make.__name__)
def test_a_mistyped_port_is_an_error_that_says_what_there_is(make):
    with pytest.raises(ArgumentTypeError) as caught:
        make(databse=1, **{"": 2})
    assert caught.value.argument == "databse"
    assert isinstance(caught.value, TypeError)
    cls = next((cls for cls, factory in FACTORIES.items() if make in {cls, factory}), None)
    assert caught.value.owner == cls.__name__
    assert all(name in caught.value.fix for name in FIELDS.get(cls, ALL).split())


def test_in_order_as_programs_of_0_9_may_have_them():
    assert LLMPorts("provider", "service") == LLMPorts(llm_provider="provider", chat_service="service")
    with pytest.raises(ArgumentTypeError, match=r"db=.*is given twice"):
        CorePorts(1, db=2)
    with pytest.raises(ArgumentTypeError, match=r"takes 4 ports, not 5"):
        LLMPorts(*[None] * 5)


def test_a_near_miss_gets_a_hint():
    with pytest.raises(ArgumentTypeError, match="Did you mean 'llm_provider'"):
        create_stage_ports(llm_providr=1)


@pytest.mark.parametrize("name", sorted(CALLED))
def test_a_port_that_is_called_must_be_callable(name):
    with pytest.raises(ArgumentTypeError, match=f"{name}=.*takes a callable or None, not int"):
        StagePorts(**{name: 1})
    assert getattr(StagePorts(**{name: None}), name) is None


def test_require_gives_a_port_or_says_what_to_do():
    ports = StagePorts(db=0)
    assert ports.require("db") == 0
    with pytest.raises(ConfigurationError, match="started without it") as caught:
        ports.require("llm_provider")
    assert "StagePorts(llm_provider=...)" in caught.value.fix
    with pytest.raises(ArgumentTypeError, match="Did you mean 'recording'"):
        ports.require("recordings")
    with pytest.raises(ArgumentTypeError):
        ports.require(None)


def test_they_are_read_only_values():
    ports = CorePorts(db=[1])
    with pytest.raises(ReadOnlyFieldError):
        ports.db = 2
    with pytest.raises(ReadOnlyFieldError):
        del ports.db
    assert ports == CorePorts(db=[1])
    assert ports != CorePorts()
    assert CorePorts(db=1) != StagePorts(db=1)
    assert dataclasses.replace(ports, db=2) == CorePorts(db=2)
    for again in (pickle.loads(pickle.dumps(ports)), copy.copy(ports), copy.deepcopy(ports)):
        assert again == ports
        assert type(again) is CorePorts


def test_what_they_show_is_not_what_they_hold():
    assert (
        repr(StagePorts(db="postgresql://ada:secret@host", llm_provider=1))
        == "<StagePorts: db, llm_provider>"
    )
    assert repr(LLMPorts()) == "<LLMPorts: none>"


@pytest.mark.asyncio
async def test_two_stages_of_one_run_get_what_each_of_them_needs():
    """In 0.9 a run had one of the three kinds, so a stage that speaks could not reach the database."""

    @stage
    async def ask(ctx: StageContext) -> str:
        return ctx.inputs.ports.llm_provider

    @stage
    async def speak(ctx: StageContext) -> str:
        ports = ctx.inputs.ports
        await ports.send_status("speak", "started", None)
        return f"{ports.tts_provider} and {ports.db}"

    ports = create_stage_ports(db="db", llm_provider="llm", tts_provider="tts", send_status=send)
    results = await Pipeline.from_stages(ask, speak).run(ports=ports)
    assert [results.value(ask), results.value(speak)] == ["llm", "tts and db"]
