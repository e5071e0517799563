"""Each package as a user gets it: its wheel, in an environment with nothing but core beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIBLINGS = ("auth", "otel", "tools", "voice")
UV = str(Path(sys.executable).with_name("uv"))

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]


def run(*command: str, **env: str) -> str:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Build every wheel once."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("core", *SIBLINGS):
        run(UV, "build", "--wheel", "--out-dir", str(folder), str(ROOT / f"stageflow-{name}"))
    return {name: str(next(folder.glob(f"stageflow_{name}-*.whl"))) for name in ("core", *SIBLINGS)}


def loaded(folder: Path, wheels: dict[str, str], names: tuple[str, ...], **env: str) -> dict[str, str]:
    """Install core with its command and *names*, and return the state of each plugin that it lists."""
    run(UV, "venv", "--python", sys.executable, str(folder))
    pins = ["--constraints", str(ROOT / "constraints.txt")]
    packages = [f"{wheels['core']}[cli]", *(wheels[name] for name in names)]
    run(UV, "pip", "install", "--python", str(folder / "bin" / "python"), *pins, *packages)
    listing = json.loads(run(str(folder / "bin" / "stageflow"), "plugins", "list", "--json", **env))
    return {plugin["name"]: plugin["state"] for plugin in listing["plugins"]}


@pytest.mark.parametrize("name", SIBLINGS)
def test_a_sibling_alone_with_core_is_loaded(name: str, wheels: dict[str, str], tmp_path: Path):
    assert loaded(tmp_path / "venv", wheels, (name,)) == {name: "loaded"}


def test_all_of_them_are_loaded_and_none_where_all_are_denied(wheels: dict[str, str], tmp_path: Path):
    assert loaded(tmp_path / "venv", wheels, SIBLINGS) == dict.fromkeys(SIBLINGS, "loaded")
    listing = run(
        str(tmp_path / "venv/bin/stageflow"), "plugins", "list", "--json", STAGEFLOW_DISABLED_PLUGINS="*"
    )
    assert {plugin["state"] for plugin in json.loads(listing)["plugins"]} == {"disabled"}
