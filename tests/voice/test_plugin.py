"""The plugin module is light, and what it contributes is there."""

import subprocess
import sys

import pytest
import stageflow_voice
from stageflow.plugins import PluginHost, PluginPolicy, PluginState, discover

HEAVY = {"asyncio", "numpy", "opentelemetry", "pydantic", "soundfile", "structlog"}


@pytest.mark.parametrize("module", ["stageflow_voice", "stageflow_voice.plugin"])
def test_importing_it_imports_nothing_heavy(module: str):
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert {name for name in loaded if name.startswith("stageflow_")} <= {
        "stageflow_voice",
        "stageflow_voice.plugin",
    }


def test_host_loads_it_from_its_own_distribution():
    host = PluginHost(
        [one for one in discover() if one.name == "voice"], policy=PluginPolicy(environ={}), strict=True
    )
    (status,) = [one for one in host.report.plugins if one.candidate.name == "voice"]
    assert status.state is PluginState.LOADED
    entry = host.stages()["voice.wav_info"]
    assert entry.provenance.distribution == "stageflow-voice"
    assert entry.resolve() is stageflow_voice.WavInfoStage
    assert entry.contribution.kind == stageflow_voice.WavInfoStage.kind.value


def test_public_names_are_listed_and_resolve():
    assert set(stageflow_voice.__all__) <= set(dir(stageflow_voice))
    for name in stageflow_voice.__all__:
        assert getattr(stageflow_voice, name).__class__ is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stageflow_voice.nothing
