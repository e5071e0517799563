"""A folder on ``sys.path`` into which tests install real distributions, and hosts that see only those."""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from stageflow.plugins import PluginHost, PluginPolicy, discover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stageflow.plugins import Candidate

IMPORTS = "from stageflow.plugins import *\nfrom stageflow.plugins import hookimpl\n"


@dataclass
class Site:
    """A folder of installed distributions."""

    folder: Path
    distributions: list[str] = field(default_factory=list)

    def install(
        self,
        name: str,
        source: str | None = "",
        *,
        distribution: str = "",
        version: str | None = "1.0",
        module: str = "",
        api: str | None = "1",
        entry_points: Mapping[str, str] | None = None,
    ) -> str:
        """Write a distribution with one plugin module, and return the module's name.

        ``source=None`` writes metadata alone.
        """
        distribution = distribution or f"dist-{name}"
        module = module or f"{distribution.replace('-', '_')}_plugin"
        if source is not None:
            stated = f"stageflow_api_version = {api}\n" if api is not None else ""
            (self.folder / f"{module}.py").write_text(IMPORTS + stated + dedent(source), "utf-8")
        info = self.folder / f"{distribution.replace('-', '_')}-{version or '0'}.dist-info"
        info.mkdir()
        stated_version = f"Version: {version}\n" if version is not None else ""
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\n{stated_version}", "utf-8"
        )
        points = entry_points if entry_points is not None else {name: module}
        lines = "".join(f"{point} = {target}\n" for point, target in points.items())
        (info / "entry_points.txt").write_text(f"[stageflow]\n{lines}", "utf-8")
        self.distributions.append(distribution)
        # Finders cache folders by their modification time, which is coarser than a test is quick.
        importlib.invalidate_caches()
        return module

    def candidates(self) -> list[Candidate]:
        """Discover what this test installed, and nothing that the environment has."""
        return [candidate for candidate in discover() if candidate.distribution in self.distributions]

    def host(self, *, strict: bool = False, builtin: bool = True, **policy: object) -> PluginHost:
        """Return a host of what this test installed."""
        policy = {"environ": {}, **policy}
        return PluginHost(self.candidates(), policy=PluginPolicy(**policy), strict=strict, builtin=builtin)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for variable in ("STAGEFLOW_PLUGINS", "STAGEFLOW_DISABLED_PLUGINS", "STAGEFLOW_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield Site(folder)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        ours = file is not None and Path(file).is_relative_to(folder)
        if ours or name.startswith("dist_"):
            del sys.modules[name]


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """The messages that the plugin host logs, which are all warnings; filled while the test runs."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert record.levelno == logging.WARNING
            messages.append(record.getMessage())

    logger = logging.getLogger("stageflow.plugins")
    handler = Keep()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


# --- the distributions of the folder distributions/, built and installed for real ----------------------


DISTRIBUTIONS = Path(__file__).with_name("distributions")
DANGEROUS = {"hangs", "hook_hangs", "interrupts", "vanishes", "aborts"}
"""Those that end or stop whoever imports them."""


def checked_run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that one process of the test run fills for all of them."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = factory.mktemp(name)
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the wheels, by the names of their folders."""

    def build(folder: Path) -> None:
        checked_run(sys.executable, str(DISTRIBUTIONS / "build_wheels.py"), str(folder))

    out = made_once(tmp_path_factory, "wheels", build)
    return {wheel.name.partition("-")[0].removeprefix("acme_"): wheel for wheel in out.glob("*.whl")}


@pytest.fixture(scope="session")
def crowd(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install all of them that can be in one place, with pip, and take one's version out of its metadata."""
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet"]
    what = [str(wheel) for name, wheel in wheels.items() if name not in DANGEROUS]

    def install(folder: Path) -> None:
        checked_run(
            *pip, "install", "--no-deps", "--no-index", "--no-compile", "--target", str(folder), *what
        )
        metadata = folder / "acme_unversioned-1.0.dist-info" / "METADATA"
        metadata.write_text(metadata.read_text("utf-8").replace("Version: 1.0\n", "", 1), "utf-8")

    return made_once(tmp_path_factory, "crowd", install)


@pytest.fixture
def unpacked(wheels: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Install a few of them in a folder of their own; to unpack a wheel without scripts and data is to install it."""

    def unpacked(*names: str) -> Path:
        folder = tmp_path / "unpacked"
        for name in names:
            with ZipFile(wheels[name]) as wheel:
                wheel.extractall(folder)
        return folder

    return unpacked


@pytest.fixture(scope="session")
def surroundings() -> Callable[..., dict[str, str]]:
    """Return an environment in which a folder of distributions is on the path, and no sibling is switched on."""

    def surroundings(folder: Path, **variables: str) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("STAGEFLOW_", "PYTHON"))
        }
        return {
            **kept,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "NO_COLOR": "1",
            "COLUMNS": "80",
            "STAGEFLOW_DISABLED_PLUGINS": "auth,otel,tools,voice",
            **variables,
        }

    return surroundings
