"""The plugin module is light, and what it contributes is there."""

import subprocess
import sys

import pytest
import stageflow_auth
from stageflow.plugins import PluginHost, PluginPolicy, PluginState, discover

HEAVY = {"asyncio", "numpy", "opentelemetry", "pydantic", "soundfile", "structlog"}


@pytest.mark.parametrize("module", ["stageflow_auth", "stageflow_auth.plugin"])
def test_importing_it_imports_nothing_heavy(module: str):
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert {name for name in loaded if name.startswith("stageflow_")} <= {
        "stageflow_auth",
        "stageflow_auth.plugin",
    }


def test_host_loads_it_from_its_own_distribution():
    host = PluginHost(
        [one for one in discover() if one.name == "auth"], policy=PluginPolicy(environ={}), strict=True
    )
    (status,) = [one for one in host.report.plugins if one.candidate.name == "auth"]
    assert status.state is PluginState.LOADED
    entry = host.interceptors()["auth.tenant"]
    assert entry.provenance.distribution == "stageflow-auth"
    assert entry.resolve() is stageflow_auth.TenantInterceptor
    assert entry.contribution.priority == stageflow_auth.TenantInterceptor.priority
    assert not entry.contribution.default


def test_public_names_are_listed_and_resolve():
    assert set(stageflow_auth.__all__) <= set(dir(stageflow_auth))
    for name in stageflow_auth.__all__:
        assert getattr(stageflow_auth, name).__class__ is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stageflow_auth.nothing
