"""The parts of the release: which version follows, what is seen in a wheel, and wheels made of what is installed."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = {"stageflow-core": "2.0.0a1", "stageflow-tools": "0.1.0a1"}


@pytest.fixture(scope="module")
def part() -> Iterator[Callable[[str], Any]]:
    """Import a module of scripts/release, as the program itself does."""
    folder, before = str(ROOT / "scripts" / "release"), set(sys.modules)
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("stated", "released", "kinds", "expected"),
    [
        ("0.1.0a1", [], {"added"}, "0.1.0a1"),
        ("0.2.0", ["0.1.0"], {"fixed"}, "0.2.0"),
        ("0.1.0a1", ["0.1.0a1"], {"added"}, "0.1.0a2"),
        ("2.0.0rc9", ["2.0.0rc9"], {"removed"}, "2.0.0rc10"),
        ("0.1.0", ["0.1.0"], {"fixed"}, "0.1.1"),
        ("0.1.0", ["0.1.0"], {"added"}, "0.1.1"),
        ("0.1.3", ["0.1.0", "0.1.3"], {"removed", "fixed"}, "0.2.0"),
        ("2.3.4", ["2.3.4"], {"fixed"}, "2.3.5"),
        ("2.3.4", ["2.3.4"], {"fixed", "changed"}, "2.4.0"),
        ("2.3.4", ["2.3.4"], {"deprecated"}, "2.4.0"),
        ("2.3.4", ["2.3.4"], {"removed", "added"}, "3.0.0"),
        ("2.3", ["2.3"], {"fixed"}, "2.3.1"),
    ],
)
def test_the_version_that_follows(part, stated: str, released: list[str], kinds: set[str], expected: str):
    next_version = part("versions").next_version
    assert next_version(Version(stated), [Version(one) for one in released], kinds) == Version(expected)


def test_only_the_version_is_written(part, tmp_path: Path):
    versions, file = part("versions"), tmp_path / "pyproject.toml"
    text = '[project]\nname = "x"\nversion = "1.0"  \n'
    file.write_text(text.replace('"  \n', '"\n'))
    versions.write_version(file, Version("1.1"))
    assert file.read_text() == '[project]\nname = "x"\nversion = "1.1"\n'
    assert versions.read_version(file) == Version("1.1")
    file.write_text(text)
    with pytest.raises(ValueError, match="states its version 0 times"):
        versions.write_version(file, Version("1.1"))


def test_released_versions_are_read_from_tags_of_the_package_only(part):
    tags = ["stageflow-tools-v0.10.0", "stageflow-tools-v0.9.0", "stageflow-tools-vintage"]
    assert [str(one) for one in part("versions").released("stageflow-tools", tags)] == ["0.9.0", "0.10.0"]


@pytest.mark.parametrize(
    "package", sorted(file.parent.name for file in ROOT.glob("stageflow-*/pyproject.toml"))
)
def test_what_is_not_released_is_in_fragments_and_nowhere_else(part, package: str):
    changelog, folder = part("changelog"), ROOT / package
    assert changelog.misnamed(folder) == []
    assert all(file.read_text("utf-8").strip() for file in changelog.fragments(folder))
    assert (folder / "changes" / "README.md").is_file()
    text = (folder / "CHANGELOG.md").read_text("utf-8")
    assert text.startswith(f"# Changes in {package}\n\n<!-- releases, newest first -->\n")
    # A release is all that has a heading there, and the version in the tree is none until it is made.
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert all(re.fullmatch(r"## \S+ \(\d{4}-\d\d-\d\d\)", line) for line in headings)


# --- inspection ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of a package without what is not committed, as the release has it."""
    folder = tmp_path_factory.mktemp("source") / "stageflow-tools"
    shutil.copytree(ROOT / "stageflow-tools", folder, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture
def tampered(wheel: Path, tmp_path: Path) -> Callable[..., Path]:
    def tamper(
        *drop: str, add: dict[str, str] | None = None, replace: tuple[str, str, str] | None = None
    ) -> Path:
        made = tmp_path / wheel.name
        with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(made, "w") as new:
            for name in old.namelist():
                text = old.read(name)
                if replace is not None and name.endswith(replace[0]):
                    assert replace[1].encode() in text
                    text = text.replace(replace[1].encode(), replace[2].encode())
                if not name.endswith(drop or "\0"):
                    new.writestr(name, text)
            for name, text in (add or {}).items():
                new.writestr(name, text)
        return made

    return tamper


def test_a_good_wheel_has_no_problems(part, wheel: Path, source: Path):
    assert part("inspection").problems(wheel, source, VERSIONS) == []
    assert "../README.md" in part("inspection").outward_links(wheel)


@pytest.mark.parametrize(
    ("drop", "add", "replace", "expected"),
    [
        (
            ["py.typed"],
            {},
            None,
            ["it lacks stageflow_tools/py.typed", "it has no py.typed, so nobody's type checker reads it"],
        ),
        (["/LICENSE"], {}, None, ["it does not hold its LICENSE"]),
        (
            [],
            {"stageflow_tools/test_call.py": "", "notes.txt": ""},
            None,
            [
                "it holds notes.txt, stageflow_tools/test_call.py",
                "it holds stageflow_tools/test_call.py, which is no part of a package",
            ],
        ),
        (
            ["plugin.py"],
            {},
            None,
            [
                "it lacks stageflow_tools/plugin.py",
                "its entry point tools of stageflow names stageflow_tools.plugin, which it does not hold",
            ],
        ),
        (
            [],
            {},
            ("METADATA", "<3,>=2.0.0a1", "<4,>=3"),
            ["its range 'stageflow-core<4,>=3' does not admit stageflow-core 2.0.0a1 of this repository"],
        ),
        (
            [],
            {},
            ("METADATA", "pydantic>=2.9", "pydantic<3"),
            ["its range 'pydantic<3' has no lower end"],
        ),
        (
            [],
            {},
            ("METADATA", "pydantic>=2.9", "pydantic @ https://example.org/pydantic.whl"),
            [
                "its range 'pydantic' has no lower end",
                "it needs pydantic from an address, which no index takes",
            ],
        ),
        (
            [],
            {},
            ("METADATA", "Version: 0.1.0a1", "Version: 0.1.0a2"),
            ["its metadata says Version '0.1.0a2', where '0.1.0a1' is expected"],
        ),
        (
            [],
            {},
            ("METADATA", "License-Expression: MIT", "License-Expression: MIT-0"),
            ["its metadata says License-Expression 'MIT-0', where 'MIT' is expected"],
        ),
        (
            [],
            {},
            ("METADATA", "text/markdown", "text/plain"),
            ["it has no description in Markdown, which its page on an index would show"],
        ),
    ],
    ids=[
        "untyped",
        "no licence",
        "strays",
        "no plugin",
        "wrong range",
        "no lower end",
        "an address",
        "another version",
        "another licence",
        "no Markdown",
    ],
)
def test_what_is_wrong_with_a_wheel(part, tampered, source: Path, drop, add, replace, expected: list[str]):
    found = part("inspection").problems(tampered(*drop, add=add, replace=replace), source, VERSIONS)
    assert found == expected


def test_metadata_that_no_index_would_read(part, tampered, source: Path):
    wheel = tampered(replace=("METADATA", "Requires-Python: >=3.11", "Requires-Python: three"))
    found = part("inspection").problems(wheel, source, VERSIONS)
    assert len(found) == 1
    assert found[0].startswith("its metadata is not valid: 'three' is invalid for 'requires-python'")


# --- wheels of what is installed -----------------------------------------------------------------------------------


def test_what_is_installed_becomes_wheels_that_install_again(part, wheel: Path, tmp_path: Path):
    house, target = tmp_path / "house", tmp_path / "target"
    house.mkdir()
    part("wheelhouse").fill(house, [wheel], ["rich"])
    held = {file.name.partition("-")[0] for file in house.iterdir()}
    assert {"pydantic", "pydantic_core", "rich", "pygments"} <= held
    assert not [name for name in held if name.startswith("stageflow")]
    uv = str(Path(sys.executable).with_name("uv"))
    install = [uv, "pip", "install", "--no-config", "--offline", "--no-index", "--find-links", str(house)]
    done = subprocess.run(
        [*install, "--target", str(target), "pydantic"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    program = "import sys; sys.path.insert(0, sys.argv[1]); import pydantic; print(pydantic.__file__)"
    seen = subprocess.run(
        [sys.executable, "-I", "-c", program, str(target)], capture_output=True, text=True, check=True
    )
    assert seen.stdout.startswith(str(target))


def test_what_is_not_installed_is_named(part, tmp_path: Path):
    with pytest.raises(LookupError, match=r"^acme-nowhere>=1 is needed, but not installed here: make env$"):
        part("wheelhouse").fill(tmp_path, [], ["acme-nowhere>=1"])
