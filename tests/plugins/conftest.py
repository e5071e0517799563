"""A folder on ``sys.path`` into which tests install real distributions, and hosts that see only those."""

from __future__ import annotations

import importlib
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from stageflow.plugins import PluginHost, PluginPolicy, discover

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
