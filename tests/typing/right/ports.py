"""Ports as both checkers must accept them: by keyword, each with its type, and all of them as each of the parts."""

from __future__ import annotations

from typing import Any, assert_type

from stageflow import (
    AudioPorts,
    CorePorts,
    LLMPorts,
    StagePorts,
    create_audio_ports,
    create_core_ports,
    create_llm_ports,
    create_stage_ports,
)


async def send(text: str) -> None:
    """Stand for a port that is called."""


def wants_llm(ports: LLMPorts) -> Any:
    return ports.require("llm_provider")


every = create_stage_ports(db=object(), llm_provider=object(), send_token=send, audio_data=b"RIFF")
assert_type(every, StagePorts)
assert_type(create_core_ports(db=object()), CorePorts)
assert_type(create_llm_ports(send_token=None), LLMPorts)
assert_type(create_audio_ports(audio_format="wav"), AudioPorts)
assert_type(every.audio_data, bytes | None)
assert_type(StagePorts.of(CorePorts(db=object()), every), StagePorts)
wants_llm(every)
