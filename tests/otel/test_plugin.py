"""The plugin module is light, and what it contributes is there."""

import subprocess
import sys

import pytest
import stageflow_otel
from stageflow.plugins import PluginHost, PluginPolicy, PluginState, discover

HEAVY = {"asyncio", "numpy", "opentelemetry", "pydantic", "soundfile", "structlog"}


@pytest.mark.parametrize("module", ["stageflow_otel", "stageflow_otel.plugin"])
def test_importing_it_imports_nothing_heavy(module: str):
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert {name for name in loaded if name.startswith("stageflow_")} <= {
        "stageflow_otel",
        "stageflow_otel.plugin",
    }


def test_host_loads_it_from_its_own_distribution():
    host = PluginHost(
        [one for one in discover() if one.name == "otel"], policy=PluginPolicy(environ={}), strict=True
    )
    (status,) = [one for one in host.report.plugins if one.candidate.name == "otel"]
    assert status.state is PluginState.LOADED
    entry = host.interceptors()["otel.tracing"]
    assert entry.provenance.distribution == "stageflow-otel"
    assert entry.resolve() is stageflow_otel.OpenTelemetryInterceptor
    assert entry.contribution.priority == stageflow_otel.OpenTelemetryInterceptor.priority
    assert entry.contribution.default


def test_public_names_are_listed_and_resolve():
    assert set(stageflow_otel.__all__) <= set(dir(stageflow_otel))
    for name in stageflow_otel.__all__:
        assert getattr(stageflow_otel, name).__class__ is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stageflow_otel.nothing
