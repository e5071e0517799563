"""What the configuration costs whoever has none: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

WATCH = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
"""
RUN = """
import asyncio
from stageflow import Pipeline, Stageflow, stage

@stage
async def one() -> int:
    return 1

pipeline = Pipeline.from_stages(one)
"""
LOOK = """
print(*(name for name in ("tomllib", "pydantic", "tomlkit", "stageflow.config.configuration") if name in sys.modules))
print(*(name for name in opened if name.endswith(".toml")))
"""


def seen(folder: Path, program: str) -> list[str]:
    """Run a program in a folder that has a configuration, and return what it has imported and opened."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "STAGEFLOW_"))
    }
    env["STAGEFLOW_PLUGINS"] = ""
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCH}{program}{LOOK}"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "program",
    [
        "import stageflow",
        "from stageflow import Stageflow; app = Stageflow(config='no.toml')",
        f"{RUN}asyncio.run(pipeline.run())",
    ],
    ids=["import", "app", "pipeline"],
)
def test_without_an_app_at_work_no_file_is_read(write, project, program: str) -> None:
    write("stageflow.toml", "[events]\nsinks = ['noop']\n")
    assert seen(project, program) == ["", ""]


def test_an_app_without_a_configuration_needs_neither_a_parser_nor_pydantic(project) -> None:
    assert seen(project, f"{RUN}asyncio.run(Stageflow().run(pipeline))") == [
        "stageflow.config.configuration",
        "",
    ]


def test_an_app_reads_each_file_once(write, project) -> None:
    write("stageflow.toml", "[events]\nsinks = ['noop']\n")
    write("pyproject.toml", "[tool.stageflow.interceptors]\ndisabled = ['tracing']\n")
    twice = f"{RUN}app = Stageflow()\nfor _ in range(2): asyncio.run(app.run(pipeline))"
    imported, opened = seen(project, twice)
    assert imported == "tomllib pydantic stageflow.config.configuration"
    assert opened.split() == [str(project / "pyproject.toml"), str(project / "stageflow.toml")]
