"""The kit notices: each planted defect fails the test that is there for it, with a message that says what is wrong."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent
SETTINGS = "[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n"


def load(name: str) -> Any:
    """Import a module that lies beside this one."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


PLANTED = load("defective").PLANTED
PLUGINS = load("defective_plugins")


def outcomes(folder: Path, nodes: Iterable[str], **env: str) -> dict[str, str | None]:
    """Run tests in a process of its own; returns for each what its failure says, or None if it passed."""
    (folder / "pytest.ini").write_text(SETTINGS, "utf-8")
    report = folder / "report.xml"
    options = [
        "-c",
        str(folder / "pytest.ini"),
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        "-q",
        "--tb=short",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *nodes],
        cwd=folder,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "pytest_asyncio.plugin",
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, str | None] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest's own
        said = [one for one in case if one.tag in {"failure", "error"}]
        text = "".join((one.get("message") or "") + (one.text or "") for one in said)
        found[f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"] = text if said else None
    return found


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory, once: Any) -> dict[str, str | None]:
    nodes = [f"{HERE / 'defective.py'}::{one.node}" for one in PLANTED]
    return once("defects", lambda: outcomes(tmp_path_factory.mktemp("defects"), nodes))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.node)
def test_a_planted_defect_is_noticed(planted: Any, failures: dict[str, str | None]):
    said = failures[planted.node]
    assert said is not None, f"{planted.suite} passes though: {planted.defect}"
    assert re.search(planted.says, said), said


@pytest.fixture(scope="module")
def plugin_failures(tmp_path_factory: pytest.TempPathFactory, once: Any) -> dict[str, str | None]:
    return once("plugins", lambda: plugin_outcomes(tmp_path_factory.mktemp("plugins")))


def plugin_outcomes(folder: Path) -> dict[str, str | None]:
    """Install the distributions, a suite for each, and run of it the test that must notice."""
    lines = ["from stageflow.testing.conformance import PluginConformance"]
    for name, site in {"fine": None, **PLUGINS.SITES}.items():
        PLUGINS.write(folder / "site", name, site)
        lines += [f"class Test_{name}(PluginConformance):", f"    module = 'acme_{name}.plugin'"]
    suites = folder / "test_plugins.py"
    suites.write_text("\n".join(lines), "utf-8")
    nodes = [f"{suites}::Test_{name}::{site.test}" for name, site in PLUGINS.SITES.items()]
    return outcomes(folder, [*nodes, f"{suites}::Test_fine"], PYTHONPATH=str(folder / "site"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", PLUGINS.SITES)
def test_a_defective_plugin_is_noticed(name: str, plugin_failures: dict[str, str | None]):
    site = PLUGINS.SITES[name]
    said = plugin_failures[f"Test_{name}::{site.test}"]
    assert said is not None, f"PluginConformance passes though: {site.defect}"
    assert re.search(site.says, said), said


def test_a_plugin_as_it_should_be_passes(plugin_failures: dict[str, str | None]):
    about = {name: said for name, said in plugin_failures.items() if name.startswith("Test_fine::")}
    assert len(about) > 10
    assert not [said for said in about.values() if said is not None]


def test_every_suite_has_planted_defects():
    """No suite of the kit is trusted without proof, and hardly a test of one is."""
    from stageflow.testing import conformance

    suites = {name for name in conformance.__all__ if name.endswith("Conformance")}
    assert {one.suite for one in PLANTED} | {"PluginConformance"} == suites
    tests = {(one.suite, one.test.partition("[")[0]) for one in PLANTED}
    tests |= {("PluginConformance", site.test) for site in PLUGINS.SITES.values()}
    unproven = [
        f"{suite}.{test}"
        for suite in sorted(suites - {"ExecutorConformance"})
        for test in dir(getattr(conformance, suite))
        if test.startswith("test_") and (suite, test) not in tests
    ]
    shared = {
        test for suite, test in tests if suite == "StageConformance"
    }  # tools are held to them by the same code
    assert [one for one in unproven if one.rpartition(".")[2] not in shared] == []
