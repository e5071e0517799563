"""``stageflow config show``, ``plugins disable`` and ``enable``, ``--config`` and ``--no-plugins``."""

from __future__ import annotations

import json
import os
import stat

import pytest

ACME = """
from pydantic import BaseModel, SecretStr

class Settings(BaseModel):
    retries: int = 3
    token: SecretStr = SecretStr("")
    url: str = ""

@hookimpl
def stageflow_settings():
    print("a print of the plugin's")
    return [SettingsContribution(section="acme", model=Settings)]
"""
ONLY = {"STAGEFLOW_PLUGINS": "acme,broken,project"}


# --- config show --------------------------------------------------------------------------------------------------


def test_without_a_configuration_there_are_defaults(call) -> None:
    code, out, err = call("config", "show", "interceptors")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "No configuration file was found.",
        "STAGEFLOW_DISABLED_PLUGINS=* is set, besides plugins.disabled.",
        "interceptors.order     []  default",
        "interceptors.disabled  []  default",
    ]


def test_each_value_is_shown_with_where_it_comes_from_and_no_secret(stageflow, install, write) -> None:
    install("acme", ACME)
    write("pyproject.toml", "[tool.stageflow.acme]\nurl = 'db://ada:lovelace@host'\n")
    write("stageflow.toml", "[acme]\ntoken = 'swordfish'\n")
    done = stageflow("config", "show", "acme", STAGEFLOW_ACME__RETRIES="5", STAGEFLOW_PLUGINS="acme")
    assert (done.returncode, done.stderr) == (0, "a print of the plugin's\n")
    assert done.stdout.splitlines() == [
        "Files, the strongest first: stageflow.toml, pyproject.toml",
        "STAGEFLOW_PLUGINS=acme is set, in place of plugins.enabled.",
        "acme.retries  5                           STAGEFLOW_ACME__RETRIES",
        'acme.token    "**********"                stageflow.toml:2',
        'acme.url      "db://ada:**********@host"  pyproject.toml:2',
    ]


def test_as_json(stageflow, install, write, tmp_path) -> None:
    install("acme", ACME)
    write("stageflow.toml", "[acme]\ntoken = 'swordfish'\n")
    found = json.loads(stageflow("config", "show", "acme", "--json", **ONLY).stdout)
    file = str(tmp_path / "stageflow.toml")
    assert found == {
        "status": "ok",
        "files": [file],
        "switches": {"STAGEFLOW_PLUGINS": "acme,broken,project"},
        "settings": [
            {"key": "acme.retries", "value": 3, "secret": False, "origin": origin("default", "default")},
            {
                "key": "acme.token",
                "value": "**********",
                "secret": True,
                "origin": origin("stageflow.toml:2", "stageflow.toml", file=file, line=2),
            },
            {"key": "acme.url", "value": "", "secret": False, "origin": origin("default", "default")},
        ],
        "problems": [],
    }


def origin(text: str, kind: str, **more: object) -> dict[str, object]:
    return {"text": text, "kind": kind, "variable": None, "file": None, "line": None} | more


def test_what_is_wrong_comes_after_what_can_be_shown(stageflow, install, write) -> None:
    install("acme", ACME)
    write(
        "stageflow.toml",
        "[acme]\nretries = 'many'\ntoken = 'swordfish'\n[events]\nsinks = ['noop']\n[amce]\n",
    )
    done = stageflow("config", "show", **ONLY)
    assert done.returncode == 1
    assert 'events.sinks           ["noop"]' in done.stdout
    assert "acme." not in done.stdout
    assert done.stderr.endswith(
        "[SF-CONFIG-INVALID] The configuration has 2 problems:\n"
        "  1. [SF-CONFIG-SECTION] There is no section 'amce' (stageflow.toml:6): no plugin of that "
        "name is installed. What "
        "to do: Did you mean 'acme'?\n"
        "  2. [SF-CONFIG-VALUE] acme.retries is 'many' (stageflow.toml:2): it should be a valid "
        "integer, unable to parse "
        "string as an integer. What to do: Correct it in stageflow.toml:2.\n"
        "  Docs: docs/reference/errors/SF-CONFIG-SECTION.md, docs/reference/errors/SF-CONFIG-VALUE.md\n"
    )
    found = json.loads(stageflow("config", "show", "acme", "--json", **ONLY).stdout)
    assert (found["status"], found["settings"]) == ("failed", [])
    assert [one["path"] for one in found["problems"]] == ["acme.retries"]
    assert "swordfish" not in done.stdout + done.stderr + json.dumps(found)


def test_a_section_that_is_nobody_s(call) -> None:
    code, out, err = call("config", "show", "intreceptors")
    assert (code, out) == (1, "")
    assert "[SF-PLUGIN-NOT-FOUND] No settings section is named 'intreceptors'" in err
    assert "Did you mean 'interceptors'?" in err


def test_a_file_that_cannot_be_read_stops_a_run_but_neither_help_nor_the_list(
    stageflow, write, greeting
) -> None:
    write("stageflow.toml", "[plugins\n")
    said = "[SF-CONFIG-FILE] stageflow.toml:1 is not valid TOML"
    for arguments in (["--help"], ["plugins", "list"], ["graph", greeting]):
        done = stageflow(*arguments)
        assert done.returncode == 0
    done = stageflow("run", greeting, "--json", "--quiet")
    assert done.returncode == 1
    assert done.stderr.count(said) == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["problems"][0]["origin"]["line"]) == ("SF-CONFIG-FILE", 1)
    done = stageflow("config", "show")
    assert (done.returncode, done.stderr.count(said)) == (1, 2)


# --- options of the program ---------------------------------------------------------------------------------------


def test_another_configuration(stageflow, install, write) -> None:
    install("acme", ACME)
    write("stageflow.toml", "[acme]\nretries = 1\n")
    write("deploy/production.toml", "[acme]\nretries = 9\n")
    done = stageflow("--config", "deploy/production.toml", "config", "show", "acme", "--json", **ONLY)
    assert json.loads(done.stdout)["settings"][0]["value"] == 9
    done = stageflow("--config", "nothere.toml", "config", "show")
    assert done.returncode == 1
    assert "[SF-CONFIG-FILE] Cannot read 'nothere.toml': no such file or directory." in done.stderr


def test_no_plugins_wherever_it_is_said(stageflow, install, write, greeting) -> None:
    install("broken", "raise RuntimeError('no license')\n")
    write("stageflow_plugin.py", "raise RuntimeError('no license either')\n")
    write("stageflow.toml", "[broken]\nx = 1\n")
    for arguments in (
        ["--no-plugins", "run", greeting, "--quiet"],
        ["run", "--no-plugins", greeting, "--quiet"],
        ["--no-plugins", "plugins", "list"],
    ):
        done = stageflow(*arguments, **ONLY)
        assert (done.returncode, "no license" in done.stderr) == (0, False)
    assert "the command line lists '*'" in done.stdout


def test_a_pipeline_runs_with_the_project_s_plugin(stageflow, write) -> None:
    write("stageflow.toml", "[project]\ngreeting = 'Welcome'\n")
    write(
        "stageflow_plugin.py",
        """
        from pydantic import BaseModel
        from stageflow import StageOutput
        from stageflow.plugins import SettingsContribution, StageContribution, hookimpl

        stageflow_api_version = 1

        class Settings(BaseModel):
            greeting: str = "Hello"

        class Greet:
            def __init__(self, settings):
                self.greeting = settings.greeting

            async def execute(self, ctx):
                return StageOutput.ok(answer=f"{self.greeting}, {ctx.input_text}")

        @hookimpl
        def stageflow_settings():
            return [SettingsContribution(section="project", model=Settings)]

        @hookimpl
        def stageflow_stages():
            return [StageContribution(name="project.greet", target="stageflow_plugin:Greet", kind="transform")]
        """,
    )
    write(
        "pipes/greeting.py",
        """
        from stageflow import Pipeline, StageKind

        pipeline = Pipeline("greeting").with_stage("greet", "project.greet", StageKind.TRANSFORM, executor="process")
        """,
    )
    done = stageflow("run", "pipes/greeting.py", "--input", "Ada", "--quiet", STAGEFLOW_PLUGINS="project")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Welcome, Ada\n", "")


# --- plugins disable and enable -----------------------------------------------------------------------------------

FILE = """\
# What this program uses.
[acme]   # ours
retries = 1

[plugins]
# too loud
disabled = [
  "voice",  # no ears
  "otel",
]
strict = false
"""


def test_a_plugin_is_disabled_and_enabled_and_comments_stay(call, write, monkeypatch) -> None:
    monkeypatch.delenv("STAGEFLOW_DISABLED_PLUGINS")
    file = write("stageflow.toml", FILE)
    file.chmod(0o600)
    code, out, err = call("plugins", "disable", "tools")
    assert (code, err) == (0, "")
    assert out.startswith("Wrote plugins.disabled to stageflow.toml.\nPlugin 'tools' (stageflow-tools ")
    assert out.endswith(" is disabled.\n")
    assert file.read_text("utf-8") == FILE.replace('  "otel",\n', '  "otel",\n  "tools",\n')
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    code, out, _ = call("plugins", "disable", "stageflow-tools")
    assert (code, out.count("Wrote"), out.endswith(" is already disabled.\n")) == (0, 0, True)
    code, out, _ = call("plugins", "enable", "stageflow_tools")
    assert (code, out.endswith(" is enabled.\n")) == (0, True)
    assert file.read_text("utf-8") == FILE
    code, out, _ = call("plugins", "enable", "otel", "--json")
    assert json.loads(out) == {"plugins": ["otel"], "state": "enabled", "changed": True, "files": [str(file)]}
    assert file.read_text("utf-8") == FILE.replace('  "otel",\n', "")


def test_a_file_is_made_where_there_is_none(call, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("STAGEFLOW_DISABLED_PLUGINS")
    code, out, _ = call("plugins", "disable", "voice")
    assert (code, out.splitlines()[0]) == (0, "Wrote plugins.disabled to stageflow.toml.")
    assert (tmp_path / "stageflow.toml").read_text("utf-8") == '[plugins]\ndisabled = ["voice"]\n'
    assert "voice" in call("plugins", "list")[1]
    assert "plugins.disabled (stageflow.toml:2) lists 'voice'" in call("plugins", "list")[1]


def test_a_list_is_edited_where_it_stands(call, write, monkeypatch) -> None:
    monkeypatch.delenv("STAGEFLOW_DISABLED_PLUGINS")
    table = write("pyproject.toml", "[tool.stageflow]\nplugins = { disabled = ['otel'] } # inline\n")
    write("stageflow.toml", "[events]\n")
    assert call("plugins", "disable", "voice")[0] == 0
    assert (
        table.read_text("utf-8")
        == "[tool.stageflow]\nplugins = { disabled = ['otel', \"voice\"] } # inline\n"
    )


def test_a_link_and_windows_line_ends_and_a_byte_order_mark_stay(call, write, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("STAGEFLOW_DISABLED_PLUGINS")
    real = tmp_path / "shared.toml"
    real.write_bytes(b"\xef\xbb\xbf[plugins]\r\ndisabled = ['otel']\r\n")
    (tmp_path / "stageflow.toml").symlink_to(real)
    assert call("plugins", "disable", "voice")[0] == 0
    assert (tmp_path / "stageflow.toml").is_symlink()
    assert real.read_bytes() == b"\xef\xbb\xbf[plugins]\r\ndisabled = ['otel', \"voice\"]\r\n"


def test_an_allow_list_is_added_to(call, write, monkeypatch) -> None:
    monkeypatch.delenv("STAGEFLOW_DISABLED_PLUGINS")
    file = write("stageflow.toml", "[plugins]\nenabled = []\ndisabled = ['voice']\n")
    code, out, _ = call("plugins", "enable", "voice")
    assert code == 0
    assert out.splitlines()[:2] == [
        "Wrote plugins.disabled to stageflow.toml.",
        "Wrote plugins.enabled to stageflow.toml.",
    ]
    assert file.read_text("utf-8") == '[plugins]\nenabled = ["voice"]\ndisabled = []\n'


def test_the_project_s_own_plugin(call, write, monkeypatch) -> None:
    monkeypatch.delenv("STAGEFLOW_DISABLED_PLUGINS")
    file = write("stageflow.toml", "[plugins]\nlocal = 'mine'\n")
    write("stageflow_plugin.py", "stageflow_api_version = 1\n")
    code, out, _ = call("plugins", "disable", "mine")
    assert (code, "Plugin 'mine' (project file " in out) == (0, True)
    assert file.read_text("utf-8") == "[plugins]\nlocal = 'mine'\ndisabled = [\"mine\"]\n"


@pytest.mark.parametrize(
    ("arguments", "content", "variables", "message"),
    [
        (
            ["disable", "vioce"],
            "",
            {},
            "[SF-PLUGIN-NOT-FOUND] No plugin or distribution is named 'vioce'. What to do: Did you mean 'voice'?",
        ),
        (
            ["enable", "voice"],
            "[plugins]\ndisabled = ['*']\n",
            {},
            (
                "[SF-CONFIG] Plugin 'voice' cannot be enabled alone: plugins.disabled lists '*' "
                "(stageflow.toml:2). What to do: "
                "List the plugins that are to be disabled instead, or those under plugins.enabled."
            ),
        ),
        (
            ["disable", "voice"],
            "",
            {"STAGEFLOW_PLUGINS__DISABLED": "otel"},
            (
                "[SF-CONFIG] plugins.disabled is set by STAGEFLOW_PLUGINS__DISABLED, which is "
                "stronger than any file. What to "
                "do: Unset STAGEFLOW_PLUGINS__DISABLED, or change it."
            ),
        ),
        (["disable", "voice"], "[plugins\n", {}, "[SF-CONFIG-FILE] stageflow.toml:1 is not valid TOML: "),
        (
            ["disable", "voice"],
            "[plugins]\ndisabled = 'otel'\n",
            {},
            (
                "[SF-CONFIG-VALUE] plugins.disabled is 'otel' (stageflow.toml:2): it should be a "
                "valid list. What to do: Correct "
                "it in stageflow.toml:2. disabled: Plugins not to load; '*' for all."
            ),
        ),
    ],
    ids=["unknown", "all", "environment", "malformed", "wrong"],
)
def test_what_cannot_be_edited_is_left_as_it_was(
    call, write, monkeypatch, arguments, content: str, variables, message: str
) -> None:
    file = write("stageflow.toml", content)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, out, err = call("plugins", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(message)
    assert file.read_text("utf-8") == content


def test_what_the_environment_says_is_stronger_and_is_told(call, write) -> None:
    write("stageflow.toml", "[plugins]\ndisabled = ['voice']\n")
    code, out, _ = call("plugins", "enable", "voice")
    assert code == 1
    assert out.splitlines()[1].endswith(
        " is still disabled: STAGEFLOW_DISABLED_PLUGINS lists '*'. What to do: Take '*' out of "
        "STAGEFLOW_DISABLED_PLUGINS."
    )
    code, out, _ = call("plugins", "enable", "voice", "--json")
    assert (code, json.loads(out)["state"], json.loads(out)["changed"]) == (1, "disabled", False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(call, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("STAGEFLOW_DISABLED_PLUGINS")
    tmp_path.chmod(0o500)
    code, _, err = call("plugins", "disable", "voice")
    assert code == 1
    assert err.startswith("[SF-CLI-OUTPUT] Cannot write 'stageflow.toml'")
