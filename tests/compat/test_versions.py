"""The newest of each package works with the oldest of the other that it says it works with.

The oldest is what lower ends of ranges name. A version that was released is built from its tag; one that was not can
only be the one in this tree, and the summary of the test run says so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
CORE = "stageflow-core"
PROJECTS: dict[str, dict[str, Any]] = {
    manifest.parent.name: tomllib.loads(manifest.read_text("utf-8"))["project"]
    for manifest in sorted(ROOT.glob("stageflow-*/pyproject.toml"))
}
SIBLINGS = [name for name in PROJECTS if name != CORE]
VERSIONS = {name: project["version"] for name, project in PROJECTS.items()}
# Somebody else's, under the core's name; the last one of them on an index is 1.2.0.
NAMESAKES = ["0.9.0", "1.0.0", "1.2.0", "1.99"]


def ranges(package: str) -> dict[str, Requirement]:
    """Return what a package says of the others, by their names."""
    project = PROJECTS[package]
    lines = [
        *project["dependencies"],
        *chain.from_iterable(project.get("optional-dependencies", {}).values()),
    ]
    needs = map(Requirement, lines)
    return {need.name: need for need in needs if need.name in PROJECTS and need.name != package}


def oldest(need: Requirement) -> str:
    (lower,) = (one.version for one in need.specifier if one.operator == ">=")
    return lower


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


PAIRS = [(owner, need) for owner in PROJECTS for need in ranges(owner).values()]


def test_core_names_every_sibling_and_every_sibling_only_the_core():
    assert sorted(ranges(CORE)) == SIBLINGS
    assert {name: sorted(ranges(name)) for name in SIBLINGS} == {name: [CORE] for name in SIBLINGS}


@pytest.mark.parametrize(("owner", "need"), PAIRS, ids=[f"{owner} on {need.name}" for owner, need in PAIRS])
class TestRanges:
    def test_admits_what_is_in_this_tree(self, owner: str, need: Requirement) -> None:
        assert need.specifier.contains(VERSIONS[need.name], prereleases=True)

    def test_ends_before_the_next_release_that_may_break_it(self, owner: str, need: Requirement) -> None:
        release = Version(VERSIONS[need.name]).release
        breaking = f"{release[0] + 1}" if release[0] else f"0.{release[1] + 1}"
        assert not need.specifier.contains(breaking, prereleases=True)

    def test_begins_with_a_version_that_there_is(self, owner: str, need: Requirement) -> None:
        tag = f"{need.name}-v{oldest(need)}"
        is_released = bool(run("git", "-C", str(ROOT), "tag", "--list", tag))
        assert is_released or oldest(need) == VERSIONS[need.name], f"{tag} does not exist"

    def test_admits_no_namesake(self, owner: str, need: Requirement) -> None:
        if need.name == CORE:
            assert not [one for one in NAMESAKES if need.specifier.contains(one, prereleases=True)]


def works(environment: Any, sibling: Any, core: Any, folder: Path) -> int:
    """Install both and nothing else of ours, run the sibling's own tests, and return how many passed."""
    tools = ("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")
    # With all of its own extras: it has tests for those, too.
    extras = ",".join(sibling.extras)
    environment.install(
        f"{CORE}[cli,testing] @ {core.wheel.as_uri()}",
        f"{sibling.package}{f'[{extras}]' if extras else ''} @ {sibling.wheel.as_uri()}",
        *tools,
    )
    listing = json.loads(environment.stageflow("plugins", "list", "--json").stdout)
    states = {plugin["name"]: (plugin["version"], plugin["state"]) for plugin in listing["plugins"]}
    assert states == {sibling.package.removeprefix("stageflow-"): (sibling.version, "loaded")}
    tests = sibling.copy_tests(folder)
    command = [environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "tests"]
    # How they behave together is asked here, not what is rare: full counts are for the tree's own leg.
    counts = os.environ | {"HYPOTHESIS_PROFILE": "quick"}
    done = subprocess.run(command, cwd=tests, env=counts, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    return int(passed)


# The newest of each with the oldest of the other; one pair, as long as that is the same.
MATRIX = list(
    dict.fromkeys(
        pair
        for name in SIBLINGS
        for pair in (
            (name, VERSIONS[name], oldest(ranges(name)[CORE])),
            (name, oldest(ranges(CORE)[name]), VERSIONS[CORE]),
        )
    )
)


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("package", "version", "core_version"),
    MATRIX,
    ids=[f"{name} {version} on {core}" for name, version, core in MATRIX],
)
def test_the_newest_works_with_the_oldest_that_it_admits(
    package: str,
    version: str,
    core_version: str,
    release: Any,
    environment: Any,
    tmp_path: Path,
    record_property: Any,
) -> None:
    sibling, core = release(package, version), release(CORE, core_version)
    passed = works(environment, sibling, core, tmp_path / "own")
    assert passed
    record_property(
        "note",
        f"{package} {version} ({sibling.origin}) on {CORE} {core_version} ({core.origin}): "
        f"{passed} tests of its own passed",
    )
