"""What both checkers, ``build()`` and ``stageflow lint`` refuse: a line that says WRONG, and no other.

Each checker runs once over all files, those under ``right`` and those under ``wrong``, and beside the other one.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stageflow import Pipeline
from stageflow.errors import PipelineValidationError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WRONG = sorted((HERE / "wrong").glob("*.py"))
RIGHT = sorted((HERE / "right").glob("*.py"))
USES = HERE / "wrong" / "uses.py"

Line = tuple[str, int]


def marked(files: Iterable[Path]) -> dict[Line, str]:
    """Return what the lines that say WRONG say of it."""
    return {
        (path.name, number): line.partition("# WRONG")[2].strip(": ")
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if "# WRONG" in line
    }


@pytest.fixture(scope="module")
def checkers(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, subprocess.Popen[str]]]:
    """Start both; each test reads what one of them has found."""
    folder = tmp_path_factory.mktemp("checkers")
    for path in (*RIGHT, *WRONG):  # pyright wants them below its configuration
        (folder / path.name).write_bytes(path.read_bytes())
    config = folder / "pyrightconfig.json"
    settings = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "venvPath": str(ROOT),
        "venv": ".venv",
    }
    config.write_text(json.dumps(settings), "utf-8")
    files = map(str, (*RIGHT, *WRONG))
    commands = {
        "pyright": ["-m", "pyright", "--outputjson", "--project", str(config)],
        "mypy": ["-m", "mypy", "--no-pretty", "--no-error-summary", *files],
    }
    started = {
        name: subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name, arguments in commands.items()
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def found_by_pyright(text: str) -> dict[Line, str]:
    report: dict[str, Any] = json.loads(text)
    assert report["summary"]["filesAnalyzed"] == len(RIGHT) + len(WRONG)
    return {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1): one["message"]
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    }


def found_by_mypy(text: str) -> dict[Line, str]:
    errors = re.findall(r"^(.*?\.py):(\d+)(?::\d+)?: error: (.*)$", text, re.MULTILINE)
    return {(Path(path).name, int(line)): message for path, line, message in errors}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("checker", ["pyright", "mypy"])
def test_a_checker_refuses_each_wrong_line_and_no_other(
    checker: str, checkers: dict[str, subprocess.Popen[str]]
) -> None:
    out, err = checkers[checker].communicate(timeout=100)
    assert checkers[checker].returncode == 1, out + err
    found = (found_by_pyright if checker == "pyright" else found_by_mypy)(out)
    expected = marked(WRONG)
    accepted = {line: why for line, why in expected.items() if line not in found}
    refused = {line: message for line, message in found.items() if line not in expected}
    assert accepted == {}, f"{checker} accepts what is wrong"
    assert refused == {}, f"{checker} refuses what is right"


def test_the_build_refuses_a_wrong_use() -> None:
    pipeline = runpy.run_path(str(USES))["pipeline"]
    assert isinstance(pipeline, Pipeline)
    with pytest.raises(PipelineValidationError) as caught:
        pipeline.build()
    assert [(one.code, one.stages[0]) for one in caught.value.problems] == [
        ("SF-BUILD-TYPE", "double"),
        ("SF-BUILD-TYPE", "measure"),
    ]


@pytest.mark.timeout(60)
def test_the_lint_refuses_a_wrong_use() -> None:
    program = Path(sys.executable).with_name("stageflow")
    done = subprocess.run(
        [program, "lint", USES], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("SF-BUILD-TYPE") == len(marked([USES]))
    assert "Stage 'double' wants number: int, but 'greet' gives str" in done.stdout
