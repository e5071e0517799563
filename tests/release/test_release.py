"""make release: what it refuses, what it does in a dry run, and what it leaves in the checkout otherwise."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(manifest.parent.name for manifest in ROOT.glob("stageflow-*/pyproject.toml"))
PKG = "stageflow-tools"


def release(clone: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(clone.root / "scripts" / "release"), *arguments]
    # PYTHONDONTWRITEBYTECODE: a cache would be ignored by git, but not by the comparison below.
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=clone.root, env=env, capture_output=True, text=True, check=False)


def refusal(clone: Any, *arguments: str) -> list[str]:
    """Return the reasons for which a release is refused, and see that nothing else happened."""
    before = contents(clone.root)
    done = release(clone, *arguments)
    assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
    assert contents(clone.root) == before
    first, *reasons = done.stderr.splitlines()
    assert first == f"release: {arguments[0]} cannot be released:"
    assert all(reason.startswith("  - ") for reason in reasons)
    return [reason.removeprefix("  - ") for reason in reasons]


def contents(root: Path) -> dict[str, str]:
    files = (file for file in root.rglob("*") if file.is_file() and ".git" not in file.parts)
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# --- refusals ------------------------------------------------------------------------------------------------------


def test_files_that_are_not_committed(clone: Any):
    clone.write("stageflow-tools/README.md", "half done")
    clone.write("stageflow-tools/new.txt", "")
    assert refusal(clone, PKG, "--dry") == [
        "2 files are not committed (stageflow-tools/README.md, stageflow-tools/new.txt): commit or remove what differs"
    ]


def test_another_branch(clone: Any):
    clone.git("switch", "--quiet", "--create", "feature")
    assert refusal(clone, PKG) == [
        "this checkout is on branch 'feature', and releases are made on 'main': git switch main"
    ]


def test_no_branch(clone: Any):
    clone.git("switch", "--quiet", "--detach")
    assert refusal(clone, PKG) == [
        "this checkout is on no branch, and releases are made on 'main': git switch main"
    ]


def test_no_fragments(clone: Any):
    clone.git("rm", "--quiet", "stageflow-tools/changes/+*.md")
    clone.commit("none")
    assert refusal(clone, PKG, "--dry") == ["nothing has changed: stageflow-tools/changes holds no fragment"]


def test_a_fragment_with_another_name(clone: Any):
    clone.write("stageflow-tools/changes/call.feature.md", "It calls.")
    clone.commit("one")
    assert refusal(clone, PKG) == [
        (
            "stageflow-tools/changes/call.feature.md is no fragment: name it +SOMETHING.KIND.md, where KIND is removed "
            "or deprecated or added or changed or fixed"
        )
    ]


def test_a_tag_that_exists(clone: Any):
    clone.git("tag", "stageflow-tools-v0.1.0")
    assert refusal(clone, PKG, "--version", "0.1.0") == [
        "0.1.0 is released: there is a tag stageflow-tools-v0.1.0"
    ]


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("next", "'next' is no version; write VERSION=0.2.0, or 0.2.0rc1"),
        ("v0.2.0", "'v0.2.0' is not how the version is written; write VERSION=0.2.0"),
        ("0.2.0-beta1", "'0.2.0-beta1' is not how the version is written; write VERSION=0.2.0b1"),
        ("0.2.0.dev1", "0.2.0.dev1 is a version for development, which no index takes"),
        ("0.2.0+mine", "0.2.0+mine is a version for development, which no index takes"),
        ("0.1.0rc1", "0.1.0rc1 is not newer than 0.1.0, which is released"),
    ],
)
def test_a_version_that_cannot_be(clone: Any, version: str, reason: str):
    clone.git("tag", "stageflow-tools-v0.1.0")
    clone.git("tag", "stageflow-tools-vintage")  # somebody's own
    assert refusal(clone, PKG, "--version", version) == [reason]


def test_what_breaks_programs_and_nobody_is_told(clone: Any):
    clone.git("tag", "stageflow-tools-v0.1.0a1")
    snapshot = clone.root / "api" / "stageflow-tools.txt"
    line = "stageflow_tools.ToolRegistry = stageflow_tools.registry.ToolRegistry\n"
    clone.replace("api/stageflow-tools.txt", line, "")
    clone.commit("without it")
    assert refusal(clone, PKG) == [
        (
            "since stageflow-tools-v0.1.0a1, and no fragment of the kind 'removed' says so: "
            "stageflow_tools.ToolRegistry: public object was removed"
        )
    ]
    assert line not in snapshot.read_text()


def test_a_core_that_no_sibling_admits(clone: Any):
    assert refusal(clone, "stageflow-core", "--version", "3.0.0") == [
        f"{name} needs stageflow-core<3,>=2.0.0a1, so nobody could install it beside stageflow-core 3.0.0: "
        "widen its range"
        for name in PACKAGES
        if name != "stageflow-core"
    ]


def test_everything_at_once(clone: Any):
    clone.git("switch", "--quiet", "--create", "feature")
    clone.git("rm", "--quiet", "stageflow-tools/changes/+*.md")
    clone.commit("none")
    clone.write("notes.txt", "")
    assert refusal(clone, PKG, "--version", "x") == [
        "this checkout is on branch 'feature', and releases are made on 'main': git switch main",
        "1 file is not committed (notes.txt): commit or remove what differs",
        "nothing has changed: stageflow-tools/changes holds no fragment",
        "'x' is no version; write VERSION=0.2.0, or 0.2.0rc1",
    ]


def test_a_package_that_is_not_here(clone: Any):
    done = release(clone, "stageflow-acme")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "release: error: argument PACKAGE: invalid choice: 'stageflow-acme'"
    )


def test_what_does_not_build(clone: Any):
    clone.replace("stageflow-tools/pyproject.toml", 'readme = "README.md"', 'readme = "NONE.md"')
    clone.commit("no readme")
    before = contents(clone.root)
    done = release(clone, PKG)
    assert done.returncode == 1
    assert contents(clone.root) == before
    assert done.stderr.splitlines()[1].startswith("  - it does not build: ")
    assert "NONE.md" in done.stderr


def test_what_is_wrong_with_the_wheel(clone: Any):
    clone.replace("stageflow-tools/pyproject.toml", "stageflow-core>=2.0.0a1,<3", "stageflow-core>=1")
    clone.replace("stageflow-tools/pyproject.toml", "stageflow_tools.plugin", "stageflow_tools.plugins")
    clone.commit("wrong")
    done = release(clone, PKG, "--dry")
    assert done.returncode == 1
    wheel = "stageflow_tools-0.1.0a1-py3-none-any.whl"
    assert done.stderr.splitlines()[1:] == [
        f"  - {wheel}: its range 'stageflow-core>=1' has no upper end",
        f"  - {wheel}: its range 'stageflow-core>=1' admits stageflow-core 1.2.0, which is somebody else's",
        f"  - {wheel}: its entry point tools of stageflow names stageflow_tools.plugins, which it does not hold",
    ]


@pytest.mark.deep
def test_what_does_not_import_where_it_is_installed_alone(clone: Any):
    clone.write("stageflow-tools/src/stageflow_tools/more.py", "import hypothesis\n\n__all__ = []\n")
    clone.commit("needs what it does not declare")
    done = release(clone, PKG, "--dry")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        (
            "  - stageflow_tools-0.1.0a1-py3-none-any.whl: not everything in it imports: stageflow_tools.more: "
            "ModuleNotFoundError(\"No module named 'hypothesis'\")"
        )
    ]


def test_make_hands_on_what_it_is_told():
    command = ["make", "--no-print-directory", "--dry-run", "release", f"PKG={PKG}"]
    for variables, arguments in (
        ([], ""),
        (["DRY=1"], " --dry"),
        (["VERSION=0.2.0", "DRY=1"], " --version 0.2.0 --dry"),
    ):
        done = subprocess.run([*command, *variables], cwd=ROOT, capture_output=True, text=True, check=True)
        assert (
            " ".join(done.stdout.splitlines()[-1].split())
            == f".venv/bin/python scripts/release {PKG}{arguments}"
        )


# --- dry, and not --------------------------------------------------------------------------------------------------

DRY = r"""{package} (?P<version>\S+) \(pyproject\.toml\)
  changelog  \d+ fragments?
  built      {name}-(?P=version)\.tar\.gz, {name}-(?P=version)-py3-none-any\.whl
  inspected  metadata, ranges, entry points, files, py\.typed, licence
(?:  note       \d+ links of its README lead to files beside it, which no index shows
)?  installed  (?:alone|beside stageflow-core \S+), without an index: \d+ modules imported(?:, plugin '\w+' loaded)?
  tag        {package}-v(?P=version)
Nothing was changed\. Next:
  make release PKG={package}
  git add --all {package}
  git commit -m '{package} (?P=version)'
  git tag -a {package}-v(?P=version) -m '{package} (?P=version)'
  git push origin main {package}-v(?P=version)
  uv publish dist/{name}-(?P=version)\*
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "package", [pytest.param(name, marks=[] if name == PKG else pytest.mark.deep) for name in PACKAGES]
)
def test_a_dry_release_changes_nothing(clone: Any, package: str):
    before, commit = contents(clone.root), clone.git("rev-parse", "HEAD")
    done = release(clone, package, "--dry")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.fullmatch(DRY.format(package=package, name=package.replace("-", "_")), done.stdout), done.stdout
    assert contents(clone.root) == before
    assert (clone.git("rev-parse", "HEAD"), clone.git("tag"), clone.git("status", "--porcelain")) == (
        commit,
        "",
        "",
    )


@pytest.mark.deep
@pytest.mark.timeout(120)
def test_a_release_leaves_version_changelog_and_artifacts_and_commits_nothing(clone: Any):
    clone.write("stageflow-tools/changes/+slow.fixed.md", "It is *not* slow.\n")
    clone.commit("a fix")
    commit = clone.git("rev-parse", "HEAD")
    done = release(clone, PKG, "--version", "0.1.0rc1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "The checkout has it, and dist/. Next:" in done.stdout.splitlines()
    changed = dict(line.split()[::-1] for line in clone.git("status", "--porcelain").splitlines())
    fragments = {name for name in changed if "/changes/" in name}
    assert {changed[name] for name in fragments} == {"D"}
    assert set(changed) - fragments == {"stageflow-tools/CHANGELOG.md", "stageflow-tools/pyproject.toml"}
    assert clone.git("diff", "-U0", "stageflow-tools/pyproject.toml").splitlines()[-2:] == [
        '-version = "0.1.0a1"',
        '+version = "0.1.0rc1"',
    ]
    log = (clone.root / "stageflow-tools/CHANGELOG.md").read_text().splitlines()
    assert log[:3] == ["# Changes in stageflow-tools", "", "<!-- releases, newest first -->"]
    assert re.fullmatch(r"## 0\.1\.0rc1 \(\d{4}-\d\d-\d\d\)", log[4])
    assert log[log.index("### Fixed") + 2] == "- It is *not* slow."
    assert sorted(file.name for file in (clone.root / "dist").iterdir()) == [
        "stageflow_tools-0.1.0rc1-py3-none-any.whl",
        "stageflow_tools-0.1.0rc1.tar.gz",
    ]
    assert (clone.git("rev-parse", "HEAD"), clone.git("tag")) == (commit, "")
    # What is printed does the rest, but for what needs a server; then there is nothing to release.
    for line in done.stdout.partition("Next:\n")[2].splitlines()[:3]:
        clone.git(*shlex.split(line)[1:])
    assert clone.git("tag").split() == ["stageflow-tools-v0.1.0rc1"]
    assert clone.git("status", "--porcelain") == ""
    assert refusal(clone, PKG) == ["nothing has changed: stageflow-tools/changes holds no fragment"]


@pytest.mark.deep
@pytest.mark.timeout(120)
def test_the_same_commit_gives_the_same_bytes(clone: Any):
    digests = []
    for _ in range(2):
        assert release(clone, PKG).returncode == 0
        digests.append({file.name: file.read_bytes() for file in (clone.root / "dist").iterdir()})
        clone.git("restore", ".")
    assert digests[0] == digests[1]
