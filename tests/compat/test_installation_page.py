"""Every command of the page about installation works, beside an index that also has a namesake of the core."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guides" / "installation.md").read_text("utf-8")
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"^\$ (.+)$", section, re.MULTILINE)
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}


def test_the_extras_of_the_table_are_those_of_the_core() -> None:
    manifest = tomllib.loads((ROOT / "stageflow-core" / "pyproject.toml").read_text("utf-8"))
    extras = manifest["project"]["optional-dependencies"]
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE, re.MULTILINE))
    assert set(listed) == set(extras)
    for name, needs in extras.items():
        words, others = set(re.findall(r"[\w-]+", listed[name])), set(re.findall(r"`(\w+)`", listed[name]))
        for need in map(Requirement, needs):
            if need.name == "stageflow-core":
                assert others == need.extras, name
            else:
                assert need.name in words, name


@pytest.mark.deep
@pytest.mark.timeout(300)
@pytest.mark.parametrize("section", ["With pip", "With uv"])
def test_the_commands_do_what_they_say(section: str, wheels: Any, namesake: Any, tmp_path: Path) -> None:
    commands = SECTIONS[section]
    assert len(commands) == 6
    house = tmp_path / "index"
    house.mkdir()
    for file in wheels.house.iterdir():
        (house / file.name).symlink_to(file)
    namesake(house)
    foreign = ("UV_", "PIP_", "PYTHON", "STAGEFLOW_", "VIRTUAL_ENV", "COVERAGE_")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(house),
        "UV_NO_CONFIG": "1",
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": str(house),
    }
    output = ""
    for command in commands:
        done = subprocess.run(  # noqa: S602 - as a reader types it
            command, shell=True, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        output = done.stdout
    assert re.findall(r"^(\w+) .* loaded\b", output, re.MULTILINE) == ["core", "auth", "tools"]
