"""The kit as a whole: every name is there, explained by an example, and built on what is published."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import stageflow.testing as kit

FOLDER = Path(kit.__file__).parent
RECORDS = {"AwaitPoint", "CancelFailure", "CancelReport", "FaultyStage", "Leak", "RecordedCall", "StageCall"}


@pytest.mark.parametrize("name", kit.__all__)
def test_every_name_is_there_and_explained(name: str) -> None:
    doc = getattr(kit, name).__doc__ or ""
    assert doc
    # What other functions return is explained by theirs.
    assert name in RECORDS or "```python" in doc or name == "Probe"


def test_unknown_names_are_no_attributes() -> None:
    assert set(kit.__all__) <= set(dir(kit))
    with pytest.raises(AttributeError, match="MockStage"):
        kit.MockStage  # noqa: B018


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_nothing_private_of_stageflow_is_used(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stageflow"):
            names = [*(node.module or "").split("."), *(one.name for one in node.names)]
            assert not [name for name in names if name.startswith("_")]
