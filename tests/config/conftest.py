"""A project folder, and plugins in modules of it; every configuration here sees only the environment it is given."""

from __future__ import annotations

import os
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from stageflow.config import Configuration
from stageflow.plugins import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, which is empty at first; what a test imports from it is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture
def write(project: Path) -> Callable[..., Path]:
    def write(name: str, text: str | bytes) -> Path:
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            file.write_bytes(text)
        else:
            file.write_text(dedent(text), "utf-8")
        return file

    return write


@pytest.fixture
def find() -> Callable[..., Configuration]:
    """``Configuration.find`` with an environment of its own."""

    def find(values=None, **environ: str) -> Configuration:
        return Configuration.find(values, environ=environ)

    return find


@pytest.fixture
def plugin(project: Path) -> Callable[..., Candidate]:
    """Write a plugin's module, and return the plugin as if it were installed."""
    folder = project / "site"
    folder.mkdir()
    sys.path.insert(0, str(folder))
    header = (
        "from stageflow.plugins import *\nfrom stageflow.plugins import hookimpl\nstageflow_api_version = 1\n"
    )

    def plugin(name: str, source: str) -> Candidate:
        (folder / f"{name}_module.py").write_text(header + dedent(source), "utf-8")
        return Candidate(name=name, module=f"{name}_module", distribution=f"dist-{name}", version="1.0")

    return plugin
