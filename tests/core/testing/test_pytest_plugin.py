"""The fixtures, in a pytest of its own: nothing has registered them here."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
import asyncio
from stageflow import Pipeline, StageKind
from stageflow.testing import HangingStage, ScriptedStage


def test_events(stageflow_events):
    asyncio.run(Pipeline().with_stage("a", ScriptedStage(), StageKind.WORK).run(sink=stageflow_events))
    stageflow_events.assert_order("stage.a.started", "stage.a.completed")


def test_unpaired_events(stageflow_events):
    stageflow_events.try_emit(type="pipeline.started", data={"sequence": 1})


def test_events_of_no_run(stageflow_events):
    stageflow_events.try_emit(type="mine", data=None)


def test_host(stageflow_host):
    assert "timeout" in stageflow_host.interceptors()
    assert stageflow_host.report.external == ()


def test_clock(virtual_clock):
    pipeline = Pipeline().with_stage("a", HangingStage(), StageKind.WORK)
    virtual_clock.run(pipeline.run(timeout=20, raise_errors=False))
    assert virtual_clock.get_loop().time() == 20
"""


def test_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["stageflow.testing.pytest_plugin"]\n')
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "5 passed, 1 error" in done.stdout, done.stdout
    assert "ERROR at teardown of test_unpaired_events" in done.stdout
    assert "exactly one terminal event" in done.stdout


def test_no_entry_point_registers_them() -> None:
    assert not [one for one in entry_points(group="pytest11") if one.value.startswith("stageflow")]


def test_only_the_plugin_imports_pytest_and_it_nothing_of_stageflow() -> None:
    program = (
        "import sys, stageflow.testing\n"
        "for name in stageflow.testing.__all__: getattr(stageflow.testing, name)\n"
        "assert 'pytest' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    program = (
        "import sys, stageflow.testing.pytest_plugin\n"
        "loaded = {name for name in sys.modules if name.startswith('stageflow')}\n"
        "known = {'stageflow', 'stageflow.exports', 'stageflow.testing', 'stageflow.testing.pytest_plugin'}\n"
        "assert loaded == known, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
