"""``stageflow plugins new``: what it asks, what it says, and what it makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from stageflow.cli.main import main
from stageflow.cli.plugins.new import new
from stageflow.cli.scaffold.kinds import KINDS
from stageflow.cli.session import Session

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(*line: str, answers: str = "") -> Result:
    """Call the command; what stands in *answers* is typed."""
    return CliRunner().invoke(new, line, input=answers, obj=Session())


def kinds_of(folder: Path) -> set[str]:
    source = (folder / "src" / folder.name.replace("-", "_") / "plugin.py").read_text("utf-8")
    return {kind.name for kind in KINDS.values() if f"        {kind.record}(\n" in source}


# --- without questions ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_writes_its_kind_and_asks_nothing(here: Path, kind: str):
    done = asked("demo", f"--{kind}")
    assert (done.exit_code, done.stderr) == (0, "")
    assert kinds_of(here / "stageflow-demo") == {kind}


def test_options_may_be_combined_and_all_means_all(here: Path):
    assert asked("one", "--sink", "--check").exit_code == 0
    assert kinds_of(here / "stageflow-one") == {"sink", "check"}
    assert asked("two", "--all").exit_code == 0
    assert kinds_of(here / "stageflow-two") == set(KINDS)


def test_no_input_alone_writes_a_stage(here: Path):
    assert asked("demo", "--no-input").exit_code == 0
    assert kinds_of(here / "stageflow-demo") == {"stage"}


def test_it_prints_the_tree_and_what_comes_next():
    lines = asked("demo", "--tool").stdout.splitlines()
    assert lines[:3] == ["stageflow-demo/", "├── .github/", "│   └── workflows/"]
    assert lines[-9:] == [
        "",
        "Next, with uv:",
        "",
        "  cd stageflow-demo",
        "  uv pip install -e . --group dev",
        "  pytest -q",
        "  stageflow plugins check stageflow-demo",
        "",
        "or with pip (25.1 or newer) in place of 'uv pip'. README.md says the rest.",
    ]


def test_json_says_the_same_and_nothing_else(here: Path):
    record = json.loads(asked("Demo_X", "--tool", "--json").stdout)
    files = {str(path.relative_to(here / "stageflow-demo-x")) for path in here.rglob("*") if path.is_file()}
    assert set(record.pop("files")) == files
    assert record == {
        "plugin": "demo_x",
        "distribution": "stageflow-demo-x",
        "package": "stageflow_demo_x",
        "directory": "stageflow-demo-x",
        "contributes": ["tool"],
    }


def test_it_may_be_made_elsewhere(here: Path):
    place = here / "my plugins"
    place.mkdir()
    done = asked("demo", "--tool", "--directory", str(place))
    assert [*place.iterdir()] == [place / "stageflow-demo"]
    assert f"  cd '{place / 'stageflow-demo'}'\n" in done.stdout
    assert asked("demo", "--tool", "--directory", "no such").exit_code == 2


def test_author_and_description_are_written_down(here: Path):
    told = ("--author", "Ada O'Neill", "--description", 'Says "hello", naïvely.')
    assert asked("demo", "--tool", *told).exit_code == 0
    assert "Ada O'Neill" in (here / "stageflow-demo" / "LICENSE").read_text("utf-8")
    assert 'Says "hello", naïvely.' in (here / "stageflow-demo" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "a\tb", "\x7f", "x" * 201], ids=repr)
@pytest.mark.parametrize("option", ["--author", "--description"])
def test_what_is_no_line_of_text_is_refused(here: Path, option: str, text: str):
    done = asked("demo", "--tool", option, text)
    assert done.exit_code == 2
    assert "is no line of text" in done.stderr
    assert not [*here.iterdir()]


# --- questions --------------------------------------------------------------------------------------


def test_it_asks_and_says_what_it_will_do(here: Path):
    done = asked("demo", answers="sink, run store\nKeeps things.\nAda\n\n")
    assert done.exit_code == 0
    assert "This makes stageflow-demo: the plugin 'demo' with an event sink and a run store." in done.stderr
    assert kinds_of(here / "stageflow-demo") == {"sink", "run-store"}
    assert "Keeps things." in (here / "stageflow-demo" / "README.md").read_text("utf-8")
    assert "Copyright" in (text := (here / "stageflow-demo" / "LICENSE").read_text("utf-8"))
    assert " Ada\n" in text
    assert done.stdout.startswith("stageflow-demo/\n")  # questions are on the other stream


def test_the_defaults_make_a_stage(here: Path):
    assert asked("demo", answers="\n\n\n\n").exit_code == 0
    assert kinds_of(here / "stageflow-demo") == {"stage"}
    assert "The stageflow-demo authors" in (here / "stageflow-demo" / "LICENSE").read_text("utf-8")


def test_a_wrong_answer_is_asked_for_again(here: Path):
    done = asked("demo", answers="sinc\n,\ntool\n\n\nperhaps\ny\n")
    assert done.exit_code == 0
    assert "'sinc' is none of these. Did you mean 'sink'?" in done.stderr
    assert "Name at least one." in done.stderr
    assert kinds_of(here / "stageflow-demo") == {"tool"}


def test_whoever_says_no_gets_nothing(here: Path):
    answers = "all\n\n\nno\n"
    done = CliRunner().invoke(new, ["demo"], input=answers, obj=Session(), standalone_mode=False)
    assert done.return_value == 1  # which the program exits with
    assert "Nothing was made." in done.stderr
    assert not [*here.iterdir()]


def test_what_was_told_is_not_asked():
    done = asked("demo", "--author", "Ada", "--description", "Keeps.", answers="tool\n\n")
    assert done.exit_code == 0
    assert "copyright" not in done.stderr


def test_where_nobody_answers_the_options_are_named(here: Path):
    done = asked("demo", answers="")
    assert done.exit_code == 2
    assert "There is nobody to ask: say what it contributes, as --stage, or --no-input." in done.stderr
    assert not [*here.iterdir()]


# --- what goes wrong --------------------------------------------------------------------------------


def test_a_bad_name_is_a_wrong_command_line(here: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["plugins", "new", "core", "--all", "--json"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "A plugin cannot be called 'core': it is the name of the core itself." in err
    assert not [*here.iterdir()]


def test_what_is_there_is_said_before_anything_is_asked(here: Path, capfd: pytest.CaptureFixture[str]):
    (here / "stageflow-demo").mkdir()
    (here / "stageflow-demo" / "thesis.txt").write_text("precious", "utf-8")
    assert main(["plugins", "new", "demo"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("[SF-CLI-OUTPUT] 'stageflow-demo' is there already: a folder with 'thesis.txt'.")
    assert (here / "stageflow-demo" / "thesis.txt").read_text("utf-8") == "precious"


def test_a_stream_without_lines_and_corners_gets_plain_ones(here: Path):
    done = subprocess.run(
        [sys.executable, "-B", "-m", "stageflow.cli", "plugins", "new", "demo", "--tool"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        encoding="ascii",
        check=True,
    )
    assert done.stdout.splitlines()[1:3] == ["|-- .github/", "|   `-- workflows/"]


def test_the_group_lists_it(capfd: pytest.CaptureFixture[str]):
    assert main(["plugins", "--help"]) == 0
    assert "new" in capfd.readouterr().out
