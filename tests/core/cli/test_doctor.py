"""What ``stageflow doctor`` finds of shadows and names, and how it says it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
import pytest
from stageflow.cli.shadowing import hidden_packages, similar_names
from stageflow.plugins import Candidate, Registry, SettingsContribution, StageContribution
from stageflow.plugins.registry import Entry

if TYPE_CHECKING:
    from pathlib import Path


def candidate(name: str, distribution: str = "", module: str = "") -> Candidate:
    distribution = distribution or f"acme-{name}"
    return Candidate(name=name, module=module or f"acme_{name}", distribution=distribution, version="1.0")


# --- files that hide packages ----------------------------------------------------------------------


def test_a_file_in_the_working_directory_that_hides_a_package_of_the_core_is_a_problem(call, write) -> None:
    file = write("click.py", "")
    code, out, err = call("doctor", "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["problems"] == [
        {
            "message": f"{file} hides the package 'click' of click ({click.__file__}) from programs that look there "
            "first",
            "fix": f"Rename {file}",
        }
    ]


def test_a_package_hides_as_well_and_a_folder_without_code_does_not(tmp_path: Path, write) -> None:
    write("rich/__init__.py", "")
    (tmp_path / "pluggy").mkdir()
    (found,) = hidden_packages([], tmp_path)
    assert found.message.startswith(f"{tmp_path / 'rich' / '__init__.py'} hides the package 'rich' of rich (")
    assert found.fix == f"Rename {tmp_path / 'rich'}"


def test_a_file_that_hides_a_plugin_is_found_wherever_it_is_on_the_path(
    tmp_path: Path, write, monkeypatch
) -> None:
    real = write("site/acme_voice.py", "")
    write("site/acme_voice-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme-voice\nVersion: 1.0\n")
    stray = write("stray/acme_voice.py", "")
    plugin = candidate("voice")
    monkeypatch.setattr(sys, "path", [str(real.parent), *sys.path])
    assert [*hidden_packages([plugin], tmp_path)] == []
    monkeypatch.setattr(sys, "path", [str(real.parent), str(stray.parent), *sys.path])
    assert [*hidden_packages([plugin], tmp_path)] == []  # it comes later
    monkeypatch.setattr(sys, "path", [str(stray.parent), str(real.parent), *sys.path])
    (found,) = hidden_packages([plugin], tmp_path)
    assert found.message == (
        f"{stray} hides the package 'acme_voice' of acme-voice ({real}) from programs that look there first"
    )


def test_the_one_place_of_a_package_hides_nothing(tmp_path: Path, write, monkeypatch) -> None:
    file = write("src/acme_voice.py", "")  # as in the folder of a project that is installed editable
    monkeypatch.setattr(sys, "path", [*sys.path, str(file.parent), "a path that is not there"])
    assert [*hidden_packages([candidate("voice")], file.parent)] == []


# --- names that look like others ---------------------------------------------------------------------


def test_plugins_that_differ_in_dashes_alone_are_told() -> None:
    found = similar_names([candidate("acme-x"), candidate("acme_x"), candidate("acme-y")], [], [])
    assert [str(one) for one in found] == [
        (
            "The plugins 'acme-x' of plugin 'acme-x' (acme-acme-x 1.0) and 'acme_x' of plugin 'acme_x' (acme-acme_x "
            "1.0) differ only in '-' and '_'. What to do: Ask the authors of one for another name."
        )
    ]


def test_contributions_that_differ_in_dashes_alone_are_told() -> None:
    origin = candidate("acme").provenance
    names = ("acme.to-text", "acme.to_text", "acme.other")
    stages = [Entry(StageContribution(name=name, target="m:s", kind="transform"), origin) for name in names]
    (found,) = similar_names([candidate("acme")], [Registry("stage", stages)], [])
    assert found.message.startswith(
        "The stages 'acme.to-text' of plugin 'acme' (acme-acme 1.0) and 'acme.to_text'"
    )


def test_a_plugin_that_is_called_as_something_of_another_is_told(call) -> None:
    other = candidate("other")
    section = Entry(SettingsContribution(section="voice", model="m:s"), other.provenance)
    (found,) = similar_names([candidate("voice"), other], [Registry("settings", [section])], [])
    assert found.message == (
        "plugin 'voice' (acme-voice 1.0) has the name of the settings section 'voice' of plugin 'other' (acme-"
        "other 1.0)"
    )
    own = Entry(SettingsContribution(section="voice", model="m:s"), candidate("voice").provenance)
    assert [*similar_names([candidate("voice")], [Registry("settings", [own])], [])] == []


@pytest.mark.parametrize(
    ("distribution", "told"),
    [
        ("stageflow-voise", True),
        ("stageflow-voices", True),
        ("stageflow_voice", False),
        ("stageflow-acme", False),
        ("voice", False),
    ],
)
def test_a_distribution_that_is_called_nearly_as_an_extra_is_told(distribution: str, *, told: bool) -> None:
    found = [*similar_names([candidate("x", distribution)], [], ["stageflow-voice", "stageflow-tools"])]
    assert [str(one) for one in found] == (
        [
            (
                f"plugin 'x' ({distribution} 1.0) is called nearly as 'stageflow-voice', an extra of the core, but is "
                f"not it. What to do: Make sure that {distribution} is what you meant to install."
            )
        ]
        if told
        else []
    )


# --- the command -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_a_time_limit_is_a_length_of_time(call, value: str) -> None:
    code, out, err = call("doctor", "--import-timeout", value)
    assert (code, out) == (2, "")
    assert "is not a positive number of seconds" in err


def test_a_name_that_nobody_has_is_a_warning_and_not_an_error(call, monkeypatch) -> None:
    monkeypatch.setenv("STAGEFLOW_DISABLED_PLUGINS", "*,acmee")
    code, out, err = call("doctor", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["status"], found["problems"]) == ("ok", [])
    assert found["warnings"] == [
        {
            "message": "STAGEFLOW_DISABLED_PLUGINS lists 'acmee', but no such plugin or distribution is installed",
            "fix": "",
        }
    ]
    assert call("doctor")[1].endswith("is installed.\nNothing is wrong.\n")


def test_what_a_plugin_prints_while_it_is_imported_does_not_spoil_the_answer(stageflow, install) -> None:
    install("noisy", "print('hello')\n")
    for command in (
        ("doctor", "--json"),
        ("plugins", "list", "--json"),
        ("plugins", "why", "noisy", "--json"),
    ):
        done = stageflow(*command, STAGEFLOW_PLUGINS="noisy")
        json.loads(done.stdout)
        assert done.stderr == "hello\n"
