"""``from stageflow.context import X`` gives every name, and loads what X needs and nothing else."""

import os
import subprocess
import sys

import pytest
import stageflow.context as room


def test_every_name_is_served_and_listed() -> None:
    for name in room.__all__:
        assert getattr(room, name).__name__ == name
    assert set(room.__all__) <= set(dir(room))
    with pytest.raises(AttributeError, match="no attribute 'Snapshot'"):
        room.Snapshot  # noqa: B018 - the look-up is what is tested


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    # A run under coverage has its tracer's modules in every process that it starts.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return set(done.stdout.split())


def test_a_snapshot_loads_no_module_that_only_others_need() -> None:
    loaded = loaded_by(
        "from stageflow.context import ContextSnapshot\nContextSnapshot(metadata={'a': [1]}).to_dict()"
    )
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith("stageflow.context.")}
    assert ours == {"checks", "frozen", "identity", "record", "snapshot"}
    assert not loaded & {"dataclasses", "inspect", "asyncio", "pydantic", "logging", "json", "copy"}
