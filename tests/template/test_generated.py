"""What is written lints, types, builds, installs, and passes its own tests and the conformance kit, with no edit."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "stageflow-core"
SINGLE = ("stage", "interceptor", "sink", "tool", "executor", "run-store", "settings", "command", "check")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.timeout(300)


def passed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_lints_and_is_formatted(written: dict[str, Path], run: Run):
    (place,) = {folder.parent for folder in written.values()}
    passed(run("ruff", "check", "--no-cache", ".", cwd=place))
    passed(run("ruff", "format", "--no-cache", "--check", ".", cwd=place))


def test_pyright_finds_nothing_in_strict_mode(written: dict[str, Path], run: Run):
    (place,) = {folder.parent for folder in written.values()}
    config = {
        "include": [folder.name for folder in written.values()],
        "extraPaths": [f"{folder.name}/src" for folder in written.values()],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "venvPath": str(Path(sys.prefix).parent),
        "venv": Path(sys.prefix).name,
    }
    (place / "pyrightconfig.json").write_text(json.dumps(config), "utf-8")
    report = json.loads(run("pyright", "--outputjson", "--project", ".", cwd=place).stdout)
    assert report["generalDiagnostics"] == []
    assert report["summary"]["filesAnalyzed"] > len(written) * 8


@pytest.mark.deep
def test_mypy_finds_nothing_in_strict_mode(written: dict[str, Path], run: Run):
    (place,) = {folder.parent for folder in written.values()}
    strict = ("mypy", "--strict", "--explicit-package-bases", "--cache-dir", str(place / "mypy"))
    sources = [f"{folder.name}/src" for folder in written.values()]
    # Tests of one package alone: those of all of them are called alike.
    passed(run(*strict, *sources, "stageflow-everything/tests", cwd=place, MYPYPATH=":".join(sources)))


@pytest.mark.parametrize(
    "name", ["everything", *(pytest.param(kind, marks=pytest.mark.deep) for kind in SINGLE)]
)
def test_it_builds_installs_and_passes(
    name: str, written: dict[str, Path], installed: Callable[[str], Path], run: Run
):
    site = str(installed(name))
    said = passed(run("pytest", "-q", "-p", "no:cacheprovider", cwd=written[name], PYTHONPATH=site))
    assert re.search(r"^\d+ passed", said, re.MULTILINE)
    distribution = written[name].name
    checked = json.loads(
        passed(
            run(
                "stageflow.cli",
                "plugins",
                "check",
                distribution,
                "--json",
                cwd=written[name],
                PYTHONPATH=site,
            )
        )
    )
    assert checked["status"] == "ok"
    listed = json.loads(
        passed(run("stageflow.cli", "plugins", "list", "--json", cwd=written[name], PYTHONPATH=site))
    )
    states = {one["distribution"]: one["state"] for one in listed["plugins"]}
    assert states[distribution] == "loaded"


def test_every_kind_of_suite_is_run(written: dict[str, Path], installed: Callable[[str], Path], run: Run):
    site = str(installed("everything"))
    line = ("stageflow.cli", "plugins", "show", "everything", "--json")
    (plugin,) = json.loads(passed(run(*line, cwd=written["everything"], PYTHONPATH=site)))["plugins"]
    kinds = [one["kind"] for one in plugin["contributions"]]
    assert sorted(kinds) == sorted(
        [
            "stage",
            "interceptor",
            "sink",
            "tool",
            "executor",
            "run store",
            "settings section",
            "command",
            "check",
        ]
    )


def test_the_examples_of_its_readme_run(
    written: dict[str, Path], installed: Callable[[str], Path], run: Run, tmp_path: Path
):
    blocks = BLOCK.findall((written["everything"] / "README.md").read_text("utf-8"))
    assert len(blocks) == 6
    for number, block in enumerate(blocks):
        (tmp_path / f"example_{number}.py").write_text(block, "utf-8")
        assert passed(
            run(
                f"example_{number}",
                cwd=tmp_path,
                PYTHONPATH=str(installed("everything")),
                PYTHONWARNINGS="error",
            )
        )


def test_its_wheel_holds_the_package_and_its_source_distribution_builds_the_same(
    written: dict[str, Path], run: Run, tmp_path: Path
):
    # By way of the source distribution, as a publisher builds both.
    passed(run("build", "--no-isolation", "--outdir", str(tmp_path), cwd=written["everything"]))
    (wheel,) = tmp_path.glob("*.whl")
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1
    source = written["everything"] / "src"
    wanted = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_the_wheel_of_the_core_brings_every_template(run: Run, tmp_path: Path):
    passed(run("build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), cwd=CORE))
    (wheel,) = tmp_path.glob("*.whl")
    templates = CORE / "src" / "stageflow" / "cli" / "scaffold" / "templates"
    wanted = {str(path.relative_to(CORE / "src")) for path in templates.rglob("*") if path.is_file()}
    assert len(wanted) > 40
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if "/scaffold/templates/" in name}
    assert held == wanted
