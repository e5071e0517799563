"""A wrong `use(...)` is refused by pyright, by mypy, by `build()` and by `stageflow lint`."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from stageflow import Pipeline
from stageflow.errors import PipelineValidationError

ROOT = Path(__file__).resolve().parents[2]
WRONG = Path(__file__).with_name("wrong") / "uses.py"
LINES = {number for number, line in enumerate(WRONG.read_text("utf-8").splitlines(), 1) if "# WRONG" in line}


def output_of(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(150)
def test_pyright_refuses_it(tmp_path: Path):
    (tmp_path / WRONG.name).write_text(WRONG.read_text("utf-8"), "utf-8")
    config = tmp_path / "pyrightconfig.json"
    settings = {"include": [WRONG.name], "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    config.write_text(json.dumps({**settings, "venvPath": str(ROOT), "venv": ".venv"}))
    found = json.loads(output_of(sys.executable, "-m", "pyright", "--outputjson", "--project", str(config)))
    errors = [one for one in found["generalDiagnostics"] if one["severity"] == "error"]
    assert {one["range"]["start"]["line"] + 1 for one in errors} == LINES


@pytest.mark.timeout(150)
def test_mypy_refuses_it(tmp_path: Path):
    cache = f"--cache-dir={tmp_path}"
    text = output_of(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", cache, str(WRONG))
    assert {int(line) for line in re.findall(r"^.*uses\.py:(\d+): error", text, re.MULTILINE)} == LINES


def test_the_build_refuses_it():
    pipeline = runpy.run_path(str(WRONG))["pipeline"]
    assert isinstance(pipeline, Pipeline)
    with pytest.raises(PipelineValidationError) as caught:
        pipeline.build()
    assert [(one.code, one.stages[0]) for one in caught.value.problems] == [
        ("SF-BUILD-TYPE", "double"),
        ("SF-BUILD-TYPE", "measure"),
    ]


def test_the_lint_refuses_it():
    text = output_of(str(Path(sys.executable).with_name("stageflow")), "lint", str(WRONG))
    assert text.count("SF-BUILD-TYPE") == len(LINES)
    assert "Stage 'double' wants number: int, but 'greet' gives str" in text
