"""New plugins, as ``stageflow plugins new`` writes them, and as they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from stageflow.cli.scaffold.kinds import KINDS
from stageflow.cli.scaffold.naming import PluginName
from stageflow.cli.scaffold.rendering import NewPlugin, render
from stageflow.cli.scaffold.writing import write_tree
from stageflow.plugins.discovery import core_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONGEST = "abcdefghij-abcdefghij-abcdefghij"
PAIRS = (("stage", "settings"), ("sink", "settings"), ("stage", "command"), ("command", "check"))
CASES = {
    **{kind: (kind,) for kind in KINDS},
    **{"-".join(pair): pair for pair in PAIRS},
    "everything": tuple(KINDS),
    "x": tuple(KINDS),  # the shortest name, and the longest: lines keep their width
    LONGEST: tuple(KINDS),
}
"""Names of plugins, each with what it contributes."""


def _plugin(name: str, kinds: tuple[str, ...], **more: str) -> NewPlugin:
    told = {"description": 'Say "hello" \\ to $everybody, naïve 文字.', "author": 'Ada O\'Neill "AO"'} | more
    return NewPlugin(
        name=PluginName.parse(name),
        kinds=tuple(KINDS[kind] for kind in kinds),
        year=2026,
        core_version=core_version(),
        **told,
    )


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> NewPlugin:
    """A new plugin, of each case."""
    return _plugin(request.param, CASES[request.param])


@pytest.fixture
def make_plugin() -> Callable[..., NewPlugin]:
    """Describe a new plugin: its name, its kinds, and what else is told."""
    return _plugin


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a new plugin for each case."""
    place = tmp_path_factory.mktemp("written")
    folders: dict[str, Path] = {}
    for name, kinds in CASES.items():
        plugin = _plugin(name, kinds)
        folders[name] = place / plugin.name.distribution
        write_tree(folders[name], render(plugin))
    return folders


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """An environment that asks for nothing, and in which nothing is written beside sources."""
    dropped = ("STAGEFLOW_", "PYTHONPATH", "NO_COLOR", "FORCE_COLOR", "COVERAGE_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}


@pytest.fixture(scope="session")
def run(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a module of Python in a process of its own."""

    def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=cwd,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def installed(
    written: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[[str], Path]:
    """Build the wheel of a new plugin, without a network, and unpack it as an installer does: a folder for the path."""
    sites: dict[str, Path] = {}

    def install(name: str) -> Path:
        if name not in sites:
            out = tmp_path_factory.mktemp("wheel")
            built = run("build", "--wheel", "--no-isolation", "--outdir", str(out), cwd=written[name])
            assert built.returncode == 0, built.stdout + built.stderr
            (wheel,) = out.glob("*.whl")
            site = tmp_path_factory.mktemp("site")
            options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
            done = run("pip", "install", *options, "--target", str(site), str(wheel), cwd=out)
            assert done.returncode == 0, done.stdout + done.stderr
            sites[name] = site
        return sites[name]

    return install
