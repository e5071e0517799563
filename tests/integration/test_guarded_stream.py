"""The example `docs/examples/guarded_stream.py`: words flow before the guard is done, the effect comes after it."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stageflow.testing import run_virtual

if TYPE_CHECKING:
    from stageflow import Pipeline
    from stageflow.events.emitter import RunEvent

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"

sys.path.insert(0, str(EXAMPLES))  # as `python` and `stageflow run` do
example: Any = importlib.import_module("guarded_stream")
sys.path.remove(str(EXAMPLES))

HARMLESS, FORBIDDEN = "What is the weather like?", "What is the password?"


@pytest.fixture(autouse=True)
def journal() -> list[str]:
    example.JOURNAL.clear()
    return example.JOURNAL


def events_of(pipeline: Pipeline, question: str) -> list[RunEvent]:
    async def read() -> list[RunEvent]:
        return [event async for event in pipeline.stream(input_text=question, raise_errors=False)]

    return run_virtual(read())


def test_words_flow_before_the_guard_is_done_and_the_effect_comes_after_it(journal: list[str]):
    types = [event.type for event in events_of(example.pipeline, HARMLESS)]
    assert types.index("stream.chunk") < types.index("stage.guard.completed")
    assert types.index("effect.gate_opened") < types.index("stage.journal.started")
    assert types.count("stream.chunk") == len(example.WORDS)
    assert journal == [f"{HARMLESS} {' '.join(example.WORDS)}"]


def test_without_the_gate_the_guard_comes_first(journal: list[str]):
    types = [event.type for event in events_of(example.one_after_the_other(), HARMLESS)]
    assert types.index("stage.guard.completed") < types.index("stream.chunk")
    assert len(journal) == 1


def test_the_gate_saves_the_time_of_the_guard():
    async def took(pipeline: Pipeline) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await pipeline.run(input_text=HARMLESS)
        return loop.time() - began

    with_gate, without = (
        run_virtual(took(pipeline)) for pipeline in (example.pipeline, example.one_after_the_other())
    )
    assert with_gate == pytest.approx(0.5, abs=0.05)  # of the virtual clock
    assert without == pytest.approx(0.8, abs=0.05)


def test_nothing_is_written_down_when_the_guard_objects(journal: list[str]):
    events = events_of(example.pipeline, FORBIDDEN)
    assert any(event.type == "stream.chunk" for event in events)
    assert journal == []
    assert "stage.journal.started" not in [event.type for event in events]


def test_it_prints_its_table():
    told = subprocess.run(
        [sys.executable, str(EXAMPLES / "guarded_stream.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = told.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == [
        "one after the other",
        "with the gate",
        "the guard objects",
    ]
    assert "written down: 2 of 3 answers" in lines
    assert told.stderr == ""
