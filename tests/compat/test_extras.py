"""Each extra installs just what it says, with pip and with uv; and what is not there is named with its command."""

from __future__ import annotations

import json
from typing import Any

import pytest
from packaging.utils import canonicalize_name

pytestmark = [pytest.mark.deep, pytest.mark.timeout(300)]

SIBLINGS = ("auth", "otel", "tools", "voice")
CORE = {
    "annotated-types",
    "importlib-metadata",
    "lazy-importer",
    "pluggy",
    "pydantic",
    "pydantic-core",
    "stageflow-core",
    "structlog",
    "typing-extensions",
    "typing-inspection",
    "zipp",
}
ADDED = {
    "": set[str](),
    "auth": {"stageflow-auth"},
    "cli": {"click", "markdown-it-py", "mdurl", "packaging", "pygments", "rich", "tomlkit"},
    "otel": {
        "opentelemetry-api",
        "opentelemetry-sdk",
        "opentelemetry-semantic-conventions",
        "stageflow-otel",
    },
    "tools": {
        "attrs",
        "docstring-parser",
        "jsonschema",
        "jsonschema-specifications",
        "referencing",
        "rpds-py",
        "stageflow-tools",
    },
    "voice": {"cffi", "numpy", "pycparser", "soundfile", "stageflow-voice"},
}
ADDED["testing"] = ADDED["cli"] | {"iniconfig", "pytest", "pytest-asyncio"}
ADDED["all"] = set[str]().union(*(ADDED[name] for name in ("cli", *SIBLINGS)))
STATES = """
from stageflow.plugins import PluginHost
print(*(f"{one.candidate.name}={one.state}" for one in PluginHost().report.external))
"""


def wanted(extra: str) -> str:
    return f"stageflow-core[{extra}]" if extra else "stageflow-core"


def test_every_extra_is_here(wheels: Any) -> None:
    about = wheels.wheelhouse.metadata_of(wheels.of["core"])
    assert {*about.get_all("Provides-Extra")} == {*ADDED} - {""}


@pytest.mark.parametrize("installer", ["pip", "uv"])
@pytest.mark.parametrize("extra", ADDED, ids=lambda extra: extra or "no extra")
def test_an_extra_installs_just_that(extra: str, installer: str, environment: Any) -> None:
    environment.install(wanted(extra), installer=installer)
    assert {canonicalize_name(name) for name in environment.installed()} == CORE | ADDED[extra]
    plugins = dict(pair.split("=") for pair in environment.run(STATES).stdout.split())
    siblings = {name.removeprefix("stageflow-") for name in ADDED[extra] if name.startswith("stageflow-")}
    assert plugins == dict.fromkeys(siblings, "loaded")


def test_none_of_them_is_loaded_where_all_are_denied(environment: Any) -> None:
    environment.install("stageflow-core[all]")
    listing = environment.stageflow("plugins", "list", "--json", STAGEFLOW_DISABLED_PLUGINS="*").stdout
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(listing)["plugins"]}
    assert states == dict.fromkeys(SIBLINGS, "disabled")


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_a_namesake_cannot_take_the_core_s_place(
    installer: str, wheels: Any, namesake: Any, environment: Any, tmp_path: Any
) -> None:
    """Where an index has only somebody else's release, nothing is installed, rather than the wrong thing."""
    house = tmp_path / "house"
    house.mkdir()
    for file in wheels.house.iterdir():
        if not file.name.startswith("stageflow_core-"):
            (house / file.name).symlink_to(file)
    namesake(house)
    environment.house = house
    done = environment.install("stageflow-tools", installer=installer, code=None)
    assert done.returncode != 0
    assert "stageflow-core" in done.stderr
    assert environment.installed() == set()
    environment.install(
        "stageflow-core", installer=installer
    )  # it is there, and would be taken by its bare name
    assert environment.installed() == {"stageflow-core"}


# --- what is not there ---------------------------------------------------------------------------------------------


def said(extra: str, feature: str) -> str:
    return (
        f"[SF-CONFIG-MISSING-EXTRA] {feature} needs the extra '{extra}', which is not installed. What to do: Run: pip "
        f"install 'stageflow-core[{extra}]'. Docs: docs/reference/errors/SF-CONFIG-MISSING-EXTRA.md"
    )


BARE = """
import importlib, pkgutil, stageflow
from stageflow.errors import MissingExtraError

def attempt(name):
    try:
        module = importlib.import_module(name)
        for attribute in module.__all__:
            if (name, attribute) != ("stageflow.cli.lint", "command"):  # the command beside the functions
                getattr(module, attribute)
    except MissingExtraError as error:
        return error.extra
    except ImportError as error:
        return repr(error)
    return ""

def below(package):
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        print(found.name, attempt(found.name))
        if found.ispkg and not attempt(found.name):
            below(importlib.import_module(found.name))

below(stageflow)
"""


def test_every_module_imports_without_an_extra_or_says_which_one_it_needs(environment: Any) -> None:
    environment.install("stageflow-core")
    answers = dict(line.split(" ", 1) for line in environment.run(BARE).stdout.splitlines())
    assert len(answers) > 100
    needing = {name: answer for name, answer in answers.items() if answer}
    # Inside of the command line, which says so at its door, as the next test shows.
    inside = {name for name in needing if name.startswith("stageflow.cli.")}
    assert {name: needing[name] for name in needing.keys() - inside} == {
        "stageflow.testing.conformance": "testing",
        "stageflow.testing.pytest_plugin": "testing",
    }
    assert not inside & {"stageflow.cli.lint", "stageflow.cli.main", "stageflow.cli.pictures"}


def test_the_command_line_says_what_to_install(environment: Any) -> None:
    environment.install("stageflow-core")
    for done in (
        environment.stageflow("--help", code=1),
        environment.run(
            "import sys, stageflow.cli.main; sys.exit(stageflow.cli.main.main(['--help']))", code=1
        ),
    ):
        assert (done.stdout, done.stderr) == (
            "",
            said("cli", "The stageflow command (which needs 'click')") + "\n",
        )


@pytest.mark.parametrize(
    ("statement", "extra", "feature"),
    [
        (
            "from stageflow.testing.conformance import ExecutorConformance",
            "testing",
            "stageflow.testing.conformance (which needs 'pytest')",
        ),
        (
            "from stageflow.testing.conformance.executor import ExecutorConformance",
            "testing",
            "stageflow.testing.conformance (which needs 'pytest')",
        ),
        ("import stageflow.testing.pytest_plugin", "testing", "stageflow.testing.pytest_plugin"),
        (
            "import stageflow; stageflow.get_default_interceptors(include_auth=True)",
            "auth",
            "get_default_interceptors(include_auth=True)",
        ),
    ],
    ids=["a suite", "its module", "the fixtures", "tenants"],
)
def test_what_needs_an_extra_says_what_to_install(
    statement: str, extra: str, feature: str, environment: Any
) -> None:
    environment.install("stageflow-core")
    done = environment.run(statement, code=1)
    assert done.stderr.splitlines()[-1] == f"stageflow.errors.MissingExtraError: {said(extra, feature)}"


BUILD = """
from stageflow import Pipeline, StageKind, Stageflow
try:
    Stageflow().build(Pipeline().with_stage("it", {name!r}, StageKind.WORK))
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(("name", "extra"), [("tools.call", "tools"), ("voice.wav_info", "voice")])
def test_a_pipeline_that_needs_a_sibling_says_what_to_install(
    name: str, extra: str, environment: Any
) -> None:
    environment.install("stageflow-core")
    text = environment.run(BUILD.format(name=name)).stdout
    assert f"No stage is named '{name}': it would come with the extra '{extra}'" in text
    assert f"What to do: Run: pip install 'stageflow-core[{extra}]'." in text
    environment.install(wanted(extra))
    assert "would come with" not in environment.run(BUILD.format(name=name)).stdout
