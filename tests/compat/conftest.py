"""Wheels of every package, a folder of wheels for everything that they need, and environments made of those alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIBLINGS = ("auth", "otel", "tools", "voice")
UV = str(Path(sys.executable).with_name("uv"))
TEST_TOOLS = ("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")
# What is set on this machine must not reach into an environment under test.
FOREIGN = ("UV_", "PIP_", "PYTHON", "STAGEFLOW_", "VIRTUAL_ENV", "COVERAGE_", "PYTEST_")


def run(
    *command: str, cwd: Path | None = None, code: int | None = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    done = subprocess.run(command, cwd=cwd, env=env | more, capture_output=True, text=True, check=False)
    assert code in {None, done.returncode}, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done


def build(package: Path, out: Path) -> Path:
    """Build a wheel with what is installed here."""
    out.mkdir(parents=True, exist_ok=True)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(package))
    name = package.name.replace("-", "_")
    return next(out.glob(f"{name}-*.whl"))


def program(name: str) -> Any:
    """Import a module of scripts/release."""
    spec = importlib.util.spec_from_file_location(
        f"stageflow_scripts_{name}", ROOT / "scripts" / "release" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Wheels:
    """The wheels of this working tree, and an index of nothing but wheels."""

    def __init__(self, folder: Path) -> None:
        self.house = folder / "house"
        self.of = {name: build(ROOT / f"stageflow-{name}", self.house) for name in ("core", *SIBLINGS)}
        self.wheelhouse = program("wheelhouse")
        self.repository = program("repository").Repository(ROOT)
        self.wheelhouse.fill(self.house, self.of.values(), TEST_TOOLS)


class Environment:
    """A virtual environment with nothing in it, which gets what it has from one folder."""

    def __init__(self, folder: Path, house: Path) -> None:
        self.folder, self.house = folder, house
        run(UV, "venv", "--no-config", "--offline", "--quiet", "--python", sys.executable, str(folder))
        self.python = str(folder / "bin" / "python")

    def install(
        self, *wanted: str, installer: str = "uv", code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        where = ["--no-index", "--find-links", str(self.house)]
        if installer == "uv":
            uv = [UV, "pip", "install", "--no-config", "--offline", "--python", self.python]
            return run(*uv, *where, *wanted, code=code)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--isolated",
            "--disable-pip-version-check",
            "--python",
            self.python,
        ]
        return run(*pip, "install", *where, *wanted, code=code)

    def installed(self) -> set[str]:
        program = "from importlib.metadata import distributions; print(*(one.name.lower() for one in distributions()))"
        return set(self.run(program).stdout.split())

    def run(self, program: str, *, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return run(self.python, "-I", "-c", program, cwd=self.folder, code=code)

    def stageflow(
        self, *arguments: str, code: int | None = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return run(str(self.folder / "bin" / "stageflow"), *arguments, cwd=self.folder, code=code, **env)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    return Wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def environment(wheels: Wheels, tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv", wheels.house)


@pytest.fixture
def namesake() -> Any:
    """Make what an index has under the core's name, in a folder: an empty package, with a final version."""

    def make(folder: Path) -> None:
        about = "stageflow_core-1.2.0.dist-info"
        with zipfile.ZipFile(folder / "stageflow_core-1.2.0-py3-none-any.whl", "w") as opened:
            opened.writestr(
                f"{about}/METADATA", "Metadata-Version: 2.1\nName: stageflow-core\nVersion: 1.2.0\n"
            )
            opened.writestr(
                f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            opened.writestr(f"{about}/RECORD", f"{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")

    return make


class Release:
    """A package as a version of it has it: from the tag of the release, or else from the working tree."""

    def __init__(self, package: str, version: str, folder: Path, wheels: Wheels) -> None:
        self.package, self.version = package, version
        tag = f"{package}-v{version}"
        self.is_released = tag in wheels.repository.tags(tag)
        tests = f"tests/{package.removeprefix('stageflow-')}"
        self.tree = ROOT
        if self.is_released:
            self.tree = folder / tag
            self.tree.mkdir()
            parts = [
                package,
                "pyproject.toml",
                "tests/conftest.py",
                *([tests] if package != "stageflow-core" else []),
            ]
            wheels.repository.export(tag, self.tree, *parts)
            self.wheel = build(self.tree / package, folder / "released")
        else:
            self.wheel = wheels.of[package.removeprefix("stageflow-")]
        self.extras: list[str] = wheels.wheelhouse.metadata_of(self.wheel).get_all("Provides-Extra") or []

    @property
    def origin(self) -> str:
        return (
            f"its tag {self.package}-v{self.version}"
            if self.is_released
            else "the working tree: not released yet"
        )

    def copy_tests(self, folder: Path) -> Path:
        """Lay out the package's own tests where nothing else of the repository is."""
        name = self.package.removeprefix("stageflow-")
        folder.mkdir()
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(self.tree / "tests" / name, folder / "tests" / name, ignore=ignore)
        shutil.copyfile(self.tree / "tests" / "conftest.py", folder / "tests" / "conftest.py")
        shutil.copyfile(self.tree / "pyproject.toml", folder / "pyproject.toml")
        return folder


@pytest.fixture
def release(wheels: Wheels, tmp_path: Path) -> Any:
    return lambda package, version: Release(package, version, tmp_path, wheels)
