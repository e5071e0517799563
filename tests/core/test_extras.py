"""Extras: what is missing is named with the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
import stageflow
from stageflow import Pipeline, PipelineValidationError, Stageflow, StageKind
from stageflow.errors import ContributionNotFoundError, MissingExtraError
from stageflow.extras import extra_of_plugin, require_extra
from stageflow.plugins import PluginHost

SIBLINGS = ("auth", "otel", "tools", "voice")


def test_what_is_there_passes():
    require_extra("cli", "click", "rich", feature="It")
    assert "a_module_that_is_not_there" not in sys.modules


def test_the_first_that_is_missing_is_named():
    with pytest.raises(MissingExtraError) as caught:
        require_extra("cli", "click", "nobody_has_it", "nor_this", feature="It")
    assert str(caught.value) == (
        "[SF-CONFIG-MISSING-EXTRA] It (which needs 'nobody_has_it') needs the extra 'cli', which is not installed. "
        "What to do: Run: pip install 'stageflow-core[cli]'. Docs: docs/reference/errors/SF-CONFIG-MISSING-EXTRA.md"
    )
    assert isinstance(caught.value, ImportError)


def test_what_stands_in_for_a_module_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(MissingExtraError, match="which needs 'rich'"):
        require_extra("cli", "rich", feature="It")


def test_every_sibling_has_its_extra():
    assert {name: extra_of_plugin(name) for name in SIBLINGS} == {name: name for name in SIBLINGS}
    assert set(SIBLINGS) <= set(metadata("stageflow-core").get_all("Provides-Extra") or [])


@pytest.mark.parametrize("name", ["core", "cli", "all", "acme", ""])
def test_nothing_else_has_one(name: str):
    assert extra_of_plugin(name) is None


def test_a_pipeline_that_needs_a_sibling_says_how_to_install_it():
    app = Stageflow(PluginHost(candidates=()))
    pipeline = Pipeline().with_stage("sum", "tools.call", StageKind.WORK)
    with pytest.raises(PipelineValidationError) as caught:
        app.build(pipeline)
    (problem,) = caught.value.problems
    assert "No stage is named 'tools.call': it would come with the extra 'tools'" in problem.message
    assert problem.fix == "Run: pip install 'stageflow-core[tools]'"


def test_so_does_every_other_kind_of_name():
    host = PluginHost(candidates=())
    for registry, name in (
        (host.interceptors(), "auth.tenant"),
        (host.sinks(), "otel.sink"),
        (host.commands(), "voice.x"),
    ):
        with pytest.raises(ContributionNotFoundError) as caught:
            registry[name]
        assert caught.value.fix == f"Run: pip install 'stageflow-core[{name.partition('.')[0]}]'"
    with pytest.raises(ContributionNotFoundError) as caught:
        host.sinks()["acme.kafka"]
    assert caught.value.fix.startswith("Install the plugin that contributes it")


def test_where_the_core_is_on_the_path_without_being_installed_no_plugin_has_an_extra():
    source = str(Path(stageflow.__file__).parents[1])
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from stageflow.extras import extra_of_plugin as of; "
    )
    program += "print(of('tools'))"
    command = [sys.executable, "-I", "-S", "-c", program, source]  # -S: without what is installed
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "None\n"
