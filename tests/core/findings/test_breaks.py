"""The findings against 0.9.1 and their tests: each is seen to fail when the rule that it guards is broken on purpose.

The modules beside this one have a test, or several, for every finding A1.1 to A1.30 that concerns the core, named
after it; ``breaks.toml`` has a way, or several, to break the rule of each. Of these findings the core has nothing, or
not all, because what they are about belongs to a sibling package:

- A1.3, in part: tokens, validators and users without a tenant belong to ``stageflow-auth``. The core's half, that an
  interceptor that crashes lets nobody through, is tested.
- A1.15, in part: the events of tools belong to ``stageflow-tools``. Those of children, attempts, outputs and
  truncations are tested.
- A1.20: undo, the records of it and how they are looked up, belongs to ``stageflow-tools``.
- A1.21: approval, its states and the event of a tool that failed belong to ``stageflow-tools``.
- A1.23, in part: there is no command ``contracts``; what the command does where only the package is, is tested.
- A1.29, in part: the queue of chunks belongs to ``stageflow-voice`` and to the stream edges of a later version,
  buffered exporters to ``stageflow-otel``, the redaction of personal data and JSON patches to ``stageflow-tools``.
  That Tasks are held until they end is tested.
- A1.30, in part: the projector will be a package of its own.
"""

from __future__ import annotations

import ast
import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import stageflow

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SOURCE = Path(stageflow.__file__).parent
BREAKS: list[dict[str, str]] = tomllib.loads((HERE / "breaks.toml").read_text("utf-8"))["break"]
NAME = re.compile(r"test_a1_(\d\d)_\w+|test_a2_bug_\d\d\d_\w+")
TABLE = pytest.mark.parametrize(
    "entry", BREAKS, ids=[f"{number}-{entry['test']}" for number, entry in enumerate(BREAKS, 1)]
)


def all_tests() -> dict[str, tuple[Path, str | None]]:
    """Return the file and the docstring of every test of a finding."""
    return {
        node.name: (file, ast.get_docstring(node))
        for file in HERE.glob("test_*.py")
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and NAME.fullmatch(node.name)
    }


TESTS = all_tests()


# --- the table -----------------------------------------------------------------------------------------------


def test_every_finding_has_a_test_or_a_reason_for_having_none():
    tested = {int(found[1]) for name in TESTS if (found := NAME.fullmatch(name)) and found[1]}
    elsewhere = {
        int(number): line for number, line in re.findall(r"^- A1\.(\d+)(.*):", __doc__ or "", re.MULTILINE)
    }
    assert tested | set(elsewhere) == set(range(1, 31))
    assert tested & {number for number, said in elsewhere.items() if "in part" not in said} == set()
    assert {number for number, said in elsewhere.items() if "in part" in said} <= tested


def test_every_test_says_what_it_promises_and_can_be_made_to_fail():
    broken = {entry["test"] for entry in BREAKS}
    assert sorted(TESTS.keys() - broken) == [], "these have no entry in breaks.toml"
    assert sorted(broken - TESTS.keys()) == [], "breaks.toml names these, and there are no such tests"
    assert [name for name, (_, promise) in TESTS.items() if not promise] == []


@TABLE
def test_the_table_is_true_to_the_source(entry):
    assert set(entry) == {"test", "file", "what", "before", "after"}
    source = (SOURCE / entry["file"]).read_text("utf-8")
    broken = broken_source(source, entry)
    assert broken != source
    compile(broken, entry["file"], "exec")  # a rule is to be broken, not the syntax


def broken_source(source: str, entry: dict[str, str]) -> str:
    """Return the source with the rule broken, or say that the table is out of date."""
    found = source.count(entry["before"])
    if found != 1:
        text = entry["before"].strip("\n")
        pytest.fail(
            f"breaks.toml is out of date: {entry['file']} has this text {found} times instead of once:\n\n"
            f"{text}\n\nIt is there to break the rule of {entry['test']}: {entry['what']}.\n"
            "Put the text that has its place now under 'before', and what breaks the rule under 'after'.",
            pytrace=False,
        )
    return source.replace(entry["before"], entry["after"])


# --- the breaks ----------------------------------------------------------------------------------------------


class Copy:
    """A copy of the package, which processes of its own import in place of the real one."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "stageflow"
        shutil.copytree(SOURCE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        # Compiled once, and valid as long as the source is the same to the letter, whatever its time is.
        compileall.compile_dir(
            self.package, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )
        dropped = ("COVERAGE_", "COV_", "PYTEST_")  # this run's own
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(dropped)},
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # half of a short process would be plugins that nothing here uses
        }

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def pytest(self, *tests: str) -> subprocess.CompletedProcess[str]:
        plugins = ("-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout")
        return self.python("-m", "pytest", "-q", "--tb=native", "--timeout=60", *plugins, *tests)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which every finding's test passes as long as nothing is broken."""
    copy = Copy(tmp_path_factory.mktemp("broken"))
    place = copy.python("-c", "import stageflow; print(stageflow.__file__)")
    assert Path(place.stdout.strip()) == copy.package / "__init__.py", place.stdout + place.stderr
    files = sorted({str(file) for file, _ in TESTS.values()})
    whole = copy.pytest(*files)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    return copy


@pytest.mark.deep
@pytest.mark.timeout(300)
@TABLE
def test_a_broken_rule_is_noticed(entry, copy: Copy):
    file = copy.package / entry["file"]
    whole = file.read_text("utf-8")
    file.write_text(broken_source(whole, entry), "utf-8")
    try:
        done = copy.pytest(f"{TESTS[entry['test']][0]}::{entry['test']}")
    finally:
        file.write_text(whole, "utf-8")
    told = done.stdout + done.stderr
    # 0 would be that nothing has failed, 2 and more that no test has run.
    assert done.returncode == 1, f"{entry['test']} does not notice that {entry['what']}:\n{told}"
    assert re.search(r"^\d+ failed", told, re.MULTILINE), (
        f"{entry['test']} has not run to its failure:\n{told}"
    )
