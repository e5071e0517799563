"""``stageflow plugins check``: what it prints, and what becomes of distributions that break it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def load(name: str) -> Any:
    """Import a module that lies beside this one."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


PLUGINS = load("defective_plugins")

NEEDY = """
from stageflow import Effect
from stageflow.plugins import RunStoreContribution, StageContribution, ToolContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [StageContribution(name="needy.one", target="acme_needy.parts:One", kind="work", summary="One.")]


@hookimpl
def stageflow_tools():
    return [ToolContribution(name="needy.two", target="acme_needy.parts:Two", summary="Two.")]


@hookimpl
def stageflow_run_stores():
    return [RunStoreContribution(scheme="needy", target="acme_needy.parts:Three")]
"""
PARTS = """
from stageflow import Effect, StageKind
from stageflow.testing import RecordingRunStore


class One:
    kind = StageKind.WORK

    def __init__(self, url): ...

    async def execute(self, ctx): ...


class Two:
    name = "two"
    description = "Two."
    effect = Effect.NONE
    input_schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

    async def call(self, arguments, ctx): ...


def Three(url):
    assert url == "needy://"
    return RecordingRunStore()
"""
SUITES = """
import os
import threading

from stageflow.testing.conformance import StageConformance, Suite


class Stage:
    def __init__(self):
        async def execute(ctx): ...

        self.execute = execute


class TestGreet(StageConformance):
    contribution = "{name}.greet"

    def make_stage(self):
        return Stage()


class TestOther(Suite):
    contract = "other"

    def test_one(self):
        '''It is there.'''

    def test_two(self):
        '''It ends.'''
        {body}

    def test_three(self):
        '''It comes after.'''
"""


def install(site: Path, name: str, *, suites: str = "", **files: str) -> str:
    """Write a distribution, with a module of suites if there is one."""
    PLUGINS.write(site, name)
    package = site / f"acme_{name}"
    for file, text in files.items():
        (package / f"{file}.py").write_text(text, "utf-8")
    if suites:
        (package / "conformance.py").write_text(suites, "utf-8")
        points = site / f"acme_{name}-1.0.dist-info" / "entry_points.txt"
        with points.open("a", encoding="utf-8") as file:
            file.write(f"\n[stageflow.conformance]\n{name} = acme_{name}.conformance\n")
    return f"acme-{name}"


def check(site: Path, *arguments: str, program: str = "") -> subprocess.CompletedProcess[str]:
    call = "from stageflow.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", f"{program}\n{call}", "plugins", "check", *arguments]
    env = {name: value for name, value in os.environ.items() if not name.startswith("STAGEFLOW_")}
    env["PYTHONPATH"] = str(site)
    return subprocess.run(command, cwd=site, env=env, capture_output=True, text=True, check=False)


def only_report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (report,) = json.loads(done.stdout)["distributions"]
    return report


def results_of(report: dict[str, Any], contract: str) -> dict[str, tuple[str, str]]:
    return {
        test["name"]: (test["outcome"], test["message"])
        for suite in report["suites"]
        if suite["contract"] == contract
        for test in suite["tests"]
    }


@pytest.mark.timeout(60)
def test_a_distribution_that_passes(tmp_path: Path):
    install(tmp_path, "fine")
    done = check(tmp_path, "acme-fine")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["acme-fine 1.0", "  suite    contribution  passed  failed  skipped"]
    assert [line.split() for line in lines[2:-1]] == [
        ["stage", "fine.greet", "18", "0", "0"],
        ["command", "fine.greet", "6", "0", "1"],
        ["plugin", "fine", "16", "0", "0"],
    ]
    assert lines[-1] == "  40 tests passed."


@pytest.mark.timeout(60)
def test_json_says_the_same_with_every_promise(tmp_path: Path):
    install(tmp_path, "fine")
    done = check(tmp_path, "fine", "--json", "--only", "plugin")
    assert (done.returncode, done.stderr) == (0, "")
    report = only_report(done)
    assert json.loads(done.stdout)["status"] == report["status"] == "ok"
    assert (report["distribution"], report["version"], report["error"]) == ("acme-fine", "1.0", None)
    (suite,) = report["suites"]
    assert (suite["contract"], suite["contribution"], suite["status"]) == ("plugin", "fine", "ok")
    assert {test["outcome"] for test in suite["tests"]} == {"passed"}
    assert all(test["promise"].endswith(".") for test in suite["tests"])


@pytest.mark.timeout(60)
def test_what_fails_is_told_with_its_promise_and_ends_with_1(tmp_path: Path):
    PLUGINS.write(tmp_path, "untyped", PLUGINS.SITES["untyped"])
    done = check(tmp_path, "acme-untyped", "--only", "plugin")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[3:] == [
        "  failed: plugin untyped, test_it_is_typed",
        "    promised: Its packages have a ``py.typed``, so that checkers see the types of what it brings.",
        "    AssertionError: these have no py.typed: acme_untyped",
        "    assert not ['acme_untyped']",
        "  1 of 16 tests failed or were not run.",
    ]


@pytest.mark.timeout(60)
def test_what_cannot_be_made_says_how_to_say_it(tmp_path: Path):
    install(tmp_path, "needy", plugin=NEEDY, parts=PARTS)
    done = check(
        tmp_path, "acme-needy", "--json", "--only", "stage ", "--only", "tool", "--only", "run store"
    )
    report = only_report(done)
    assert done.returncode == 1
    ((outcome, message),) = results_of(report, "stage").values()
    assert outcome == "failed"
    assert message.startswith("Making stage 'needy.one' without arguments raised TypeError: ")
    assert message.endswith(
        "Say how it is made, in a class with contribution = 'needy.one' in the module that the entry-point group "
        "'stageflow.conformance' names"
    )
    ((outcome, message),) = results_of(report, "tool").values()
    assert outcome == "failed"
    assert "it requires the arguments 'text', for which the suite has no values" in message
    assert {outcome for outcome, _ in results_of(report, "run store").values()} == {"passed"}


@pytest.mark.timeout(60)
def test_a_module_of_suites_takes_the_place_of_the_plain_ones(tmp_path: Path):
    install(tmp_path, "own", suites=SUITES.format(name="own", body="pass"))
    report = only_report(check(tmp_path, "acme-own", "--json", "--only", "stage", "--only", "other"))
    assert [(one["contract"], one["contribution"]) for one in report["suites"]] == [
        ("stage", "own.greet"),
        ("other", "TestOther"),
    ]
    assert report["status"] == "ok"


@pytest.mark.timeout(60)
def test_a_module_of_suites_that_raises_is_one_failed_test(tmp_path: Path):
    install(tmp_path, "broken", suites="import no_such_module")
    report = only_report(check(tmp_path, "acme-broken", "--json", "--only", "stage", "--only", " broken"))
    ((outcome, said),) = results_of(report, "").values()
    assert (outcome, said) == (
        "failed",
        (
            "Importing 'acme_broken.conformance', of the entry point 'broken', raised ModuleNotFoundError: "
            "No module named 'no_such_module'"
        ),
    )
    assert results_of(report, "stage")["test_it_does_its_work"] == ("passed", "")


@pytest.mark.timeout(60)
def test_a_test_that_hangs_is_ended(tmp_path: Path):
    install(tmp_path, "stuck", suites=SUITES.format(name="stuck", body="threading.Event().wait()"))
    done = check(tmp_path, "acme-stuck", "--json", "--only", "other", "--timeout", "2")
    report = only_report(done)
    assert done.returncode == 1
    assert results_of(report, "other") == {
        "test_one": ("passed", ""),
        "test_two": ("failed", "it had not ended after 2 s, and was ended with its process"),
        "test_three": ("not run", ""),
    }
    assert report["error"] == "A test has not ended after 2 s; those after it were not run"


@pytest.mark.timeout(60)
def test_a_test_that_ends_the_interpreter_is_told(tmp_path: Path):
    install(tmp_path, "crash", suites=SUITES.format(name="crash", body="os._exit(9)"))
    report = only_report(check(tmp_path, "acme-crash", "--json", "--only", "other"))
    assert results_of(report, "other") == {
        "test_one": ("passed", ""),
        "test_two": ("failed", "its process ended with it, with the code 9"),
        "test_three": ("not run", ""),
    }
    assert (
        report["error"] == "The process of the tests ended with the code 9; those that were left were not run"
    )


@pytest.mark.timeout(60)
def test_output_of_tests_is_not_in_the_json(tmp_path: Path):
    body = "print('to standard output'); os.write(1, b'to its descriptor')"
    install(tmp_path, "loud", suites=f"print('at its import')\n{SUITES.format(name='loud', body=body)}")
    report = only_report(check(tmp_path, "acme-loud", "--json", "--only", "other"))
    assert report["status"] == "ok"


@pytest.mark.timeout(60)
def test_a_plugin_that_cannot_be_imported_is_told(tmp_path: Path):
    PLUGINS.write(tmp_path, "raising", PLUGINS.SITES["raising"])
    done = check(tmp_path, "acme-raising", "--json")
    report = only_report(done)
    assert done.returncode == 1
    assert [suite["contract"] for suite in report["suites"]] == ["plugin"]
    outcome, message = results_of(report, "plugin")["test_its_import_goes_well"]
    assert outcome == "failed"
    assert "importing acme_raising.plugin: RuntimeError: broken" in message


def test_nobody_named_is_a_mistake(tmp_path: Path):
    done = check(tmp_path)
    assert done.returncode == 2
    assert "Name the distributions to check, or say --all." in done.stderr


def test_an_unknown_name_is_told_with_what_is_near(tmp_path: Path):
    done = check(tmp_path, "stageflow-voic")
    assert done.returncode == 1
    assert "No distribution named 'stageflow-voic' brings a plugin" in done.stderr
    assert "Did you mean 'stageflow-voice'" in done.stderr


@pytest.mark.parametrize("library", ["pytest", "pytest_asyncio"])
def test_without_pytest_it_says_what_to_install(tmp_path: Path, library: str):
    done = check(tmp_path, "stageflow-voice", program=f"import sys; sys.modules[{library!r}] = None")
    assert done.returncode == 1
    assert f"which needs {library!r}" in done.stderr
    assert "stageflow-core[testing]" in done.stderr


@pytest.mark.timeout(60)
def test_nothing_is_left_in_the_folder_it_is_called_in(tmp_path: Path):
    install(tmp_path, "fine")
    before = sorted(path.name for path in tmp_path.iterdir())
    check(tmp_path, "acme-fine", "--only", "command")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
