"""Input: from where it comes, and what is refused."""

import subprocess
import sys

import pytest
from stageflow.cli.intake import MOST_BYTES


def test_text_file_and_standard_input(stageflow, greeting, write) -> None:
    write("name.txt", "\ufeffAda\n")
    assert stageflow("run", greeting, "-q", "--input", "Ada").stdout == "Hello, Ada\n"
    assert stageflow("run", greeting, "-q", "--input-file", "name.txt").stdout == "Hello, Ada\n"
    assert stageflow("run", greeting, "-q", text="Ada\n").stdout == "Hello, Ada\n"
    assert stageflow("run", greeting, "-q", "--input-file", "-", text="Ada").stdout == "Hello, Ada\n"


def test_without_anything_there_is_no_input(stageflow, greeting) -> None:
    assert stageflow("run", greeting, "-q").stdout == "Hello, nobody\n"


def test_text_and_file_exclude_each_other(call, greeting) -> None:
    assert call("run", greeting, "--input", "x", "--input-file", "y")[0] == 2


def refused(call, *arguments: str) -> str:
    code, out, err = call("run", *arguments)
    assert (code, out) == (1, "")
    (paragraph,) = err.splitlines()
    assert paragraph.startswith("[SF-CLI-INPUT] ")
    assert "What to do: " in paragraph
    return paragraph


@pytest.mark.parametrize("text", ["", "  \n\t"], ids=["nothing", "blank"])
def test_an_empty_text(call, greeting, text: str) -> None:
    assert "The input is empty" in refused(call, greeting, "--input", text)


def test_an_empty_file(call, greeting, write) -> None:
    write("empty.txt", "\n")
    assert "The input is empty" in refused(call, greeting, "--input-file", "empty.txt")


def test_an_empty_pipe(stageflow, greeting) -> None:
    done = stageflow("run", greeting, text="")
    assert done.returncode == 1
    assert "</dev/null" in done.stderr


def test_ten_megabytes_are_too_much(call, greeting, tmp_path) -> None:
    (tmp_path / "big.txt").write_bytes(b"a" * MOST_BYTES)
    error = refused(call, greeting, "--input-file", "big.txt")
    assert "10 MB" in error
    assert "--set file=PATH" in error
    (tmp_path / "big.txt").write_bytes(b"a" * (MOST_BYTES - 1))
    assert call("run", greeting, "-q", "--input-file", "big.txt")[0] == 0


def test_an_endless_pipe_is_not_read_to_its_end(tmp_path, environment, greeting) -> None:
    done = subprocess.run(
        ["bash", "-c", f"yes | {sys.executable} -m stageflow.cli run {greeting}"],  # noqa: S607 - any bash
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "The input is too long" in done.stderr


def test_bytes_that_are_no_text_are_shown_with_their_offset(call, greeting, tmp_path) -> None:
    (tmp_path / "old text.txt").write_bytes(b"caf\xe9 au lait")
    error = refused(call, greeting, "--input-file", "old text.txt")
    assert "byte 0xe9 at offset 3" in error
    assert "iconv -f LATIN1 -t UTF-8 'old text.txt'" in error
    (tmp_path / "wide.txt").write_bytes("hello".encode("utf-16"))
    assert "iconv -f UTF-16" in refused(call, greeting, "--input-file", "wide.txt")


def test_bytes_on_the_command_line_that_are_no_text(tmp_path, environment, greeting) -> None:
    command = [sys.executable, "-m", "stageflow.cli", "run", greeting, "--input", b"caf\xe9"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"byte 0xe9 at offset 3" in done.stderr


@pytest.mark.parametrize("name", ["nothere.txt", "."], ids=["missing", "folder"])
def test_a_file_that_cannot_be_read(call, greeting, name: str) -> None:
    assert f"Cannot read the input file {name!r}" in refused(call, greeting, "--input-file", name)


def test_whoever_leaves_a_pipe_open_is_told_what_the_program_waits_for(
    tmp_path, environment, greeting
) -> None:
    command = [sys.executable, "-m", "stageflow.cli", "run", greeting, "-q"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes) as process:
        assert "Waiting for the input" in process.stderr.readline()
        out, _ = process.communicate("Ada\n")
    assert out == "Hello, Ada\n"
