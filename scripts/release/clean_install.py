"""A clean install: a wheel in an environment of its own, without an index, and everything public in it imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from inspection import CORE, import_package
from wheelhouse import fill, metadata_of, requirements_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["InstallError", "install_and_import"]

UV = str(Path(sys.executable).with_name("uv"))
# Settings of this machine and of the user must not reach into it.
FOREIGN = ("UV_", "PIP_", "PYTHON", "STAGEFLOW_", "VIRTUAL_ENV", "COVERAGE_")
IMPORT_ALL = """
import importlib, json, pkgutil, sys
from importlib.metadata import distribution
names, wrong = [], []
def failed(name):
    wrong.append(f"{name}: {sys.exc_info()[1]!r}")
package = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(package.__path__, f"{sys.argv[1]}.", failed):
    if not any(part.startswith("_") for part in found.name.split(".")):
        try:
            module = importlib.import_module(found.name)
            for name in module.__all__:
                getattr(module, name)
        except BaseException as error:
            wrong.append(f"{found.name}: {error!r}")
        names.append(found.name)
for point in distribution(sys.argv[2]).entry_points:
    try:
        point.load()
    except BaseException as error:
        wrong.append(f"entry point {point.name}: {error!r}")
print(json.dumps({"modules": len(names) + 1, "wrong": sorted(set(wrong))}))
"""


class InstallError(Exception):
    """A wheel does not install, or something in it does not import."""


def install_and_import(package: str, wheels: Sequence[Path], folder: Path) -> str:
    """Install a package beside the core, import it, list the plugins, and say in a line what was seen.

    Args:
        package: The package.
        wheels: Its wheel, and the core's.
        folder: Where the environment and what it is made of may lie.

    Raises:
        InstallError: Something does not work.
    """
    house, venv = folder / "wheelhouse", folder / "venv"
    house.mkdir()
    fill(house, wheels)
    _run(UV, "venv", "--no-config", "--offline", "--quiet", "--python", sys.executable, str(venv))
    python = str(venv / "bin" / "python")
    install = [UV, "pip", "install", "--no-config", "--offline", "--quiet", "--no-index", "--python", python]
    versions = {str(metadata_of(wheel)["Name"]): str(metadata_of(wheel)["Version"]) for wheel in wheels}
    wanted = [
        f"{metadata_of(wheel)['Name']}[{','.join(own_extras(wheel))}] @ {wheel.as_uri()}" for wheel in wheels
    ]
    _run(*install, "--find-links", str(house), *wanted)
    seen = json.loads(_run(python, "-I", "-c", IMPORT_ALL, import_package(package), package))
    if seen["wrong"]:
        message = f"not everything in it imports: {'; '.join(seen['wrong'])}"
        raise InstallError(message)
    listing = json.loads(_run(str(venv / "bin" / "stageflow"), "plugins", "list", "--json"))
    states = {plugin["name"]: plugin["state"] for plugin in listing["plugins"]}
    expected = {} if package == CORE else {package.removeprefix("stageflow-"): "loaded"}
    if states != expected:
        message = f"stageflow plugins list says {states}, where {expected} is expected"
        raise InstallError(message)
    plugins = "".join(f", plugin {name!r} {state}" for name, state in states.items())
    beside = "alone" if package == CORE else f"beside {CORE} {versions[CORE]}"
    return f"{beside}, without an index: {seen['modules']} modules imported{plugins}"


def own_extras(wheel: Path) -> list[str]:
    """Return the extras of a wheel that install no other package of this repository."""
    about = metadata_of(wheel)
    needs = {
        extra: [
            need
            for need in requirements_of(about)
            if need.marker is not None
            and need.marker.evaluate({"extra": extra})
            and need.name.startswith("stageflow-")
        ]
        for extra in map(str, about.get_all("Provides-Extra") or ())
    }

    def is_own(extra: str) -> bool:
        return all(need.name == about["Name"] and all(map(is_own, need.extras)) for need in needs[extra])

    return [extra for extra in needs if is_own(extra)]


def _run(*command: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{Path(command[0]).name} {command[1]} failed: {(done.stderr or done.stdout).strip()}"
        raise InstallError(message)
    return done.stdout
