"""Installs any number of plugins: metadata and a light module each, as a wheel would leave them in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "acme_many_"
"""How their modules begin."""

_MODULE = """
from stageflow.plugins import CommandContribution, StageContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [StageContribution(name="{name}.greet", target="{module}_stages:Greet", kind="transform", summary="Greet.")]


@hookimpl
def stageflow_commands():
    return [CommandContribution(name="{name}.hello", target="{module}_commands:hello", summary="Say hello.")]
"""
_METADATA = """
Metadata-Version: 2.1
Name: {distribution}
Version: 1.0
Requires-Dist: stageflow-core<3,>=2.0.0a1
"""


def install(folder: Path, count: int) -> Path:
    """Install *count* plugins, called ``many-0`` and so on, and return the folder, which must not exist."""
    folder.mkdir()
    for number in range(count):
        module = f"{PREFIX}{number}"
        given = {"name": f"many-{number}", "module": module, "distribution": module.replace("_", "-")}
        (folder / f"{module}.py").write_text(dedent(_MODULE).lstrip().format(**given), "utf-8")
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(dedent(_METADATA).lstrip().format(**given), "utf-8")
        (info / "entry_points.txt").write_text(f"[stageflow]\nmany-{number} = {module}\n", "utf-8")
    return folder


def stageflow(folder: Path, *arguments: str, then: str = "") -> list[str]:
    """Return the command line that calls the ``stageflow`` program with that folder on the path.

    Args:
        folder: Where the plugins are.
        *arguments: The rest of the command line.
        then: What to do before the process ends.
    """
    source = (
        "import sys\nsys.path.append(sys.argv.pop(1))\nfrom stageflow.cli.main import main\n"
        f"code = main()\n{then}\nsys.exit(code)"
    )
    return [sys.executable, "-I", "-c", source, str(folder), *arguments]


def imported(folder: Path, *arguments: str) -> int:
    """Count the plugins that a call of the program imports."""
    then = f"print(sum(name.startswith({PREFIX!r}) for name in sys.modules), file=sys.stderr)"
    done = subprocess.run(
        stageflow(folder, *arguments, then=then),
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr)


def environment() -> dict[str, str]:
    """Return an environment that switches no plugin on or off."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STAGEFLOW_")}
