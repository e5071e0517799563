"""``from stageflow.context import X`` gives every name, and loads what X needs and nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import stageflow.context as room

SOURCE = Path(room.__file__)


def test_every_name_is_served_and_listed() -> None:
    for name in room.__all__:
        assert getattr(room, name).__name__ == name
    assert set(room.__all__) <= set(dir(room))
    with pytest.raises(AttributeError, match="no attribute 'Snapshot'"):
        room.Snapshot  # noqa: B018 - the look-up is what is tested


def test_type_checkers_and_the_run_time_see_the_same_names() -> None:
    """The imports under TYPE_CHECKING, the table and ``__all__`` are one list."""
    tree = ast.parse(SOURCE.read_text("utf-8"))
    imports = {
        alias.name: (node.module or "").rpartition(".")[2]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stageflow.context.")
        for alias in node.names
    }
    assert imports == room._MODULE_OF
    assert sorted(imports) == sorted(room.__all__)


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_snapshot_loads_no_module_that_only_others_need() -> None:
    loaded = loaded_by(
        "from stageflow.context import ContextSnapshot\nContextSnapshot(metadata={'a': [1]}).to_dict()"
    )
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith("stageflow.context.")}
    assert ours == {"checks", "frozen", "identity", "record", "snapshot"}
    assert not loaded & {"dataclasses", "inspect", "asyncio", "pydantic", "logging", "json", "copy"}
