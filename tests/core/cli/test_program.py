"""The program as a whole: light, told by plugins what it can do, and clear about what goes wrong."""

import json
import os
import subprocess
import sys

import pytest

HELLO = """
@hookimpl
def stageflow_commands():
    return [CommandContribution(name="acme.hello", target="acme_commands:hello", summary="Say hello.")]
"""


def python(program: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, **more
    )


def test_importing_main_imports_neither_click_nor_rich_nor_pluggy() -> None:
    done = python("import stageflow.cli.main, sys; print(*sys.modules)")
    assert not {"click", "rich", "pluggy", "pydantic", "asyncio"} & set(done.stdout.split())


def test_help_imports_no_command_module() -> None:
    done = python(
        "import sys; from stageflow.cli.main import main; main(['--help'])\n"
        "print(*(name for name in sys.modules if name.startswith('stageflow.cli.')))"
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "stageflow.cli.program" in loaded
    assert not loaded & {
        f"stageflow.cli.{name}" for name in ("run", "graph", "lint", "plugins", "doctor", "target")
    }


@pytest.mark.parametrize("missing", ["click", "packaging", "rich"])
def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None\nfrom stageflow.cli.main import main; sys.exit(main([]))"
    done = python(program)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "pip install 'stageflow-core[cli]'" in line
    assert missing in line


def test_help_lists_the_commands_and_the_exit_codes(stageflow) -> None:
    done = stageflow("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for word in ("run", "graph", "lint", "plugins", "doctor", "Exit codes", "130"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["run", "graph", "lint", "plugins", "doctor"])
def test_every_command_has_help(call, command: str) -> None:
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage:")


def test_version(call) -> None:
    code, out, _ = call("--version")
    assert code == 0
    assert out.startswith("stageflow-core 2.")


def test_an_unknown_command_is_a_usage_error_that_names_what_is_near(call) -> None:
    code, out, err = call("lnit")
    assert (code, out) == (2, "")
    assert "No such command 'lnit'. Did you mean 'lint'?" in err


def test_no_command_at_all_shows_the_help(stageflow) -> None:
    done = stageflow()
    assert done.returncode == 2
    assert "Commands:" in done.stderr


def test_a_command_of_a_plugin_is_listed_without_its_import_and_runs(stageflow, install, write) -> None:
    install("acme", HELLO)
    assert "acme.hello  Say hello." in stageflow("--help-all").stdout  # its module is not even there yet
    write(
        "site/acme_commands.py",
        "import click\nhello = click.Command('hello', callback=lambda: click.echo('hi'))\n",
    )
    assert stageflow("acme.hello").stdout == "hi\n"


def test_a_command_whose_target_is_no_command(stageflow, install, write) -> None:
    install("acme", HELLO)
    write("site/acme_commands.py", "hello = 3\n")
    done = stageflow("acme.hello")
    assert done.returncode == 1
    assert "plugin 'acme' (dist-acme 1.0)" in done.stderr
    assert "Traceback" not in done.stderr


BROKEN = "raise RuntimeError('no license')\n"


def test_help_names_plugins_without_their_import(stageflow, install) -> None:
    install("acme", BROKEN)
    done = stageflow("--help", STAGEFLOW_PLUGINS="acme")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "Plugins:\n  acme. 'python -m stageflow.cli --help-all' lists what commands they add." in done.stdout
    )
    assert "Plugins:" not in stageflow("--help", STAGEFLOW_DISABLED_PLUGINS="*").stdout


def test_a_broken_plugin_is_reported_once_and_help_works(stageflow, install) -> None:
    install("acme", BROKEN)
    done = stageflow("--help-all")
    assert done.returncode == 0
    assert "doctor" in done.stdout
    assert done.stderr.count("no license") == 1
    assert done.stderr.startswith("Warning: ")


def test_a_broken_plugin_does_not_keep_a_pipeline_from_running(stageflow, install, greeting) -> None:
    install("acme", BROKEN)
    done = stageflow("run", greeting, "--json")
    assert done.returncode == 0
    assert done.stderr.count("no license") == 1
    assert json.loads(done.stdout)["status"] == "ok"


def test_without_plugins_nothing_of_theirs_is_imported(stageflow, install, greeting) -> None:
    install("acme", BROKEN)
    done = stageflow("run", greeting, "--no-plugins", "--quiet")
    assert done.returncode == 0
    assert "no license" not in done.stderr


def test_a_command_of_a_broken_plugin_says_why_it_is_not_there(stageflow, install) -> None:
    install("acme", BROKEN)
    done = stageflow("acme.hello")
    assert done.returncode == 1
    assert "plugin 'acme' (dist-acme 1.0) has failed: " in done.stderr


def test_strict_plugins_stop_a_run_but_not_help_and_not_doctor(stageflow, install, greeting) -> None:
    install("acme", BROKEN)
    strict = {"STAGEFLOW_STRICT_PLUGINS": "1"}
    assert stageflow("--help", **strict).returncode == 0
    done = stageflow("run", greeting, "--json", **strict)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "SF-PLUGIN-LOAD"
    assert json.loads(stageflow("doctor", "--json", **strict).stdout)["status"] == "failed"


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_whoever_stops_reading_ends_the_program_quietly(
    greeting, tmp_path, environment, unbuffered: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "stageflow.cli", "graph", greeting, "--format", "svg"],
        cwd=tmp_path,
        env=environment | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "a print of the user's\n" if "print" in done.stderr else "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_full_disk_under_standard_output_is_an_error(greeting, tmp_path, environment) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "stageflow.cli", "graph", greeting],
            cwd=tmp_path,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("[SF-CLI-OUTPUT] Cannot write to standard output")
    assert len(done.stderr.splitlines()) == 1
