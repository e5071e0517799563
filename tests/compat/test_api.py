"""The public API is what its snapshot in api/ says, and a change of it is told by what it breaks."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def program() -> Any:
    spec = importlib.util.spec_from_file_location("stageflow_scripts_api", ROOT / "scripts" / "api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


api = program()


@pytest.mark.parametrize("package", api.PACKAGES)
def test_the_public_api_is_the_snapshot_s(package: str) -> None:
    change = api.compare(package, api.read_snapshot(package), api.dump(package))
    assert not change.is_any, f"\n{change.render()}"


def test_no_snapshot_is_of_a_package_that_is_not_there() -> None:
    assert sorted(file.stem for file in (ROOT / "api").glob("*.txt")) == api.PACKAGES


OLD = [
    "acme module",
    "acme.Left = acme.left.Left",
    "acme.LIMIT: Final = 5",
    "acme.Thing: class(Base)",
    "acme.Thing.__init__(a: int, *, b: str = 'x') -> None",
    "acme.Thing.name: str  [property]",
    "acme.Thing.run(a: int) -> int  [async]",
    "acme.load(path: str) -> bytes  [overload]",
    "acme.load(path: Path | str) -> bytes",
]


def changed(old: str, *new: str) -> list[str]:
    assert old in OLD
    return [after for before in OLD for after in (new if before == old else [before])]


@pytest.mark.parametrize(
    ("new", "breaking"),
    [
        (OLD, []),
        ([*OLD, "acme.more() -> None"], []),
        ([*OLD, "acme.More: class()", "acme.More.x: int = 5"], []),
        (changed(OLD[1], "acme.Left = acme.elsewhere.Left"), []),
        (changed(OLD[4], "acme.Thing.__init__(a: int, *, b: str = 'x', c: int = 5) -> None"), []),
        (changed(OLD[1]), ["acme.Left: public object was removed"]),
        (changed(OLD[2], "acme.LIMIT: Final = 6"), ["acme.LIMIT: value was changed"]),
        (changed(OLD[3], "acme.Thing: class()"), ["acme.Thing: base class was removed"]),
        (changed(OLD[5]), ["acme.Thing.name: public object was removed"]),
        (
            changed(OLD[5], "acme.Thing.name() -> str"),
            ["acme.Thing.name: public object points to a different kind of object"],
        ),
        (changed(OLD[6], "acme.Thing.run() -> int  [async]"), ["acme.Thing.run: parameter was removed (a)"]),
        (
            changed(OLD[6], "acme.Thing.run(a: int, b: int) -> int  [async]"),
            ["acme.Thing.run: parameter was added as required (b)"],
        ),
        (
            changed(OLD[4], "acme.Thing.__init__(a: int, *, b: str) -> None"),
            ["acme.Thing.__init__: parameter is now required (b)"],
        ),
        (changed(OLD[7]), ["acme.load: an overload was removed or changed"]),
        (
            changed(OLD[6], "acme.Thing.run(a: int) -> int"),
            ["acme.Thing.run: now plain, was async"],
        ),
    ],
    ids=[
        "nothing",
        "a function more",
        "a class more",
        "an alias that leads elsewhere",
        "an optional parameter more",
        "an alias less",
        "another value",
        "a base less",
        "a property less",
        "a property that is a method",
        "a parameter less",
        "a parameter more",
        "a default less",
        "an overload less",
        "not async any more",
    ],
)
def test_what_breaks_programs_is_told_from_what_does_not(new: list[str], breaking: list[str]) -> None:
    change = api.compare("acme", OLD, new)
    assert change.breaking == breaking
    assert change.is_any == (new != OLD)


def test_a_module_may_have_the_name_of_what_its_package_exports() -> None:
    old = ["acme module", "acme.stage = acme.stage.stage", "acme.stage module", "acme.stage.stage() -> None"]
    assert api.compare("acme", old, old[:3]).breaking == ["acme.stage.stage: public object was removed"]
    assert api.compare("acme", old, [*old[:1], *old[2:]]).breaking == [
        "acme.stage: public object was removed"
    ]


def test_an_edit_of_the_sources_is_seen_and_explained(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stageflow-tools/src", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "stageflow_tools/output.py"
    text = file.read_text("utf-8")
    edited = text.replace("error: str, *, data: Mapping[str, Any] | None = None", "error: str")
    assert edited != text
    file.write_text(edited)
    change = api.compare(
        "stageflow-tools", api.read_snapshot("stageflow-tools"), api.dump("stageflow-tools", tmp_path)
    )
    shown = change.render().splitlines()
    assert shown[0] == "stageflow-tools: the public API is not that of api/stageflow-tools.txt"
    assert "  stageflow_tools.output.ToolOutput.fail: parameter was removed (data)" in shown
    assert shown[-1].startswith("If it is meant so: make api")


def test_the_program_refuses_a_package_that_it_does_not_know() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "api.py"), "stageflow-acme"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "api.py: error: no package of this repository: stageflow-acme"
