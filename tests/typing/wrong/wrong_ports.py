"""Ports in ways that both checkers must refuse: every line that says WRONG."""

from __future__ import annotations

from stageflow import CorePorts, LLMPorts, StagePorts, create_stage_ports

StagePorts(databse=1)  # WRONG: no such port
create_stage_ports(databse=1)  # WRONG: no such port
create_stage_ports(send_token=3)  # WRONG: it is called
create_stage_ports(audio_format=3)  # WRONG: another type
CorePorts(object())  # WRONG: by keyword


def wants_llm(ports: LLMPorts) -> None: ...


wants_llm(CorePorts())  # WRONG: another part
CorePorts().db = 1  # WRONG: read-only
