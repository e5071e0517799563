"""Which files are found, and what is said about one that cannot be used: every message whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict
from stageflow.config import Configuration, OriginKind, SettingsError


class Acme(BaseModel):
    model_config = ConfigDict(extra="forbid")

    retries: int = 3
    hosts: list[str] = []


def said(config: Configuration) -> str:
    with pytest.raises(SettingsError) as caught:
        config.read("acme", Acme)
    return str(caught.value)


def page(code: str) -> str:
    return f" Docs: docs/reference/errors/{code}.md"


# --- which are found ----------------------------------------------------------------------------------------------


def test_the_nearest_of_each_kind_is_found_in_the_folder_or_above(write, find, project, monkeypatch) -> None:
    write("stageflow.toml", "[acme]\nretries = 1\n")
    write("pyproject.toml", "[tool.stageflow.acme]\nretries = 2\nhosts = ['a']\n")
    write("one/two/three.txt", "")
    monkeypatch.chdir(project / "one" / "two")
    config = find()
    assert config.files == (project / "stageflow.toml", project / "pyproject.toml")
    assert config.project == project
    assert config.read("acme", Acme) == Acme(retries=1, hosts=["a"])
    write("one/stageflow.toml", "[acme]\nretries = 4\n")
    assert find().read("acme", Acme) == Acme(retries=4, hosts=["a"])


def test_the_four_sources_and_their_order(write, find) -> None:
    write("pyproject.toml", "[tool.stageflow.acme]\nretries = 1\nhosts = ['pyproject']\n")
    assert find().read("acme", Acme).retries == 1
    write("stageflow.toml", "[acme]\nretries = 2\n")
    assert find().read("acme", Acme) == Acme(retries=2, hosts=["pyproject"])
    environ = {"STAGEFLOW_ACME__RETRIES": "3"}
    assert find(**environ).read("acme", Acme).retries == 3
    config = find({"acme": {"retries": 4}}, **environ)
    assert config.read("acme", Acme) == Acme(retries=4, hosts=["pyproject"])
    shown = [(one.path, str(one.origin)) for one in config.section("acme", Acme).settings]
    assert shown == [("acme.retries", "code"), ("acme.hosts", "pyproject.toml:3")]


def test_a_named_file_takes_the_place_of_those_that_would_be_found(write) -> None:
    write("stageflow.toml", "[acme]\nretries = 1\n")
    other = write("deploy/production.toml", "[acme]\nhosts = ['b']\n")
    assert Configuration.load(other, environ={}).read("acme", Acme) == Acme(hosts=["b"])
    project = write("other/pyproject.toml", "[tool.stageflow.acme]\nretries = 9\n")
    config = Configuration.load(project, environ={})
    assert config.read("acme", Acme) == Acme(retries=9)
    assert config.project is None


def test_a_pyproject_that_says_nothing_of_stageflow_does_not_take_part(write, find) -> None:
    write("pyproject.toml", "this is no TOML")
    assert find().files == ()
    write("pyproject.toml", "[project]\nname = 'stageflow-acme'\n")
    assert find().files == ()
    assert find().read("acme", Acme) == Acme()


def test_a_link_belongs_to_the_folder_that_it_is_in(write, find, project) -> None:
    real = write("elsewhere/shared.toml", "[acme]\nretries = 6\n")
    (project / "stageflow.toml").symlink_to(real)
    config = find()
    assert config.project == project
    assert config.read("acme", Acme).retries == 6


def test_a_byte_order_mark_and_windows_line_ends_are_fine(write, find) -> None:
    write("stageflow.toml", b"\xef\xbb\xbf[acme]\r\n\r\nretries = 8\r\n")
    config = find()
    assert config.read("acme", Acme).retries == 8
    assert [str(one.origin) for one in config.section("acme", Acme).settings] == [
        "stageflow.toml:3",
        "default",
    ]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
def test_what_somebody_else_has_left_in_an_open_folder_is_not_taken(write, find, project) -> None:
    file = write("stageflow.toml", "[acme]\nretries = 1\n")
    os.chown(file, 12345, 12345)
    assert find().files == (file,)  # the folder is not open to everybody
    project.chmod(0o777)
    assert find().files == ()
    assert Configuration.load(file, environ={}).files == (file,)  # named, it was meant
    os.chown(file, 0, 0)
    assert find().files == (file,)


def test_there_may_be_no_working_directory(find, project, monkeypatch) -> None:
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError):
        Path.cwd()
    assert find().files == ()


# --- what is wrong with one ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[acme]\nretries = = 1\n", "stageflow.toml:2 is not valid TOML: invalid value"),
        (
            b"[acme]\nretries = 1\nretries = 2\n",
            "stageflow.toml:3 is not valid TOML: cannot overwrite a value",
        ),
        (b"[acme]\nhosts = [\n  'a'", "stageflow.toml:3 is not valid TOML: unclosed array"),
        (b"x = " + b"[" * 100_000, "stageflow.toml is not valid TOML: it is nested too deeply"),
    ],
    ids=["value", "twice", "end", "deep"],
)
def test_malformed(write, find, content: bytes, message: str) -> None:
    write("stageflow.toml", content)
    assert (
        said(find()) == f"[SF-CONFIG-FILE] {message}. What to do: Correct that line.{page('SF-CONFIG-FILE')}"
    )


def test_not_in_utf_8(write, find) -> None:
    write("stageflow.toml", "[acme]\n\nhosts = ['Zürich']\n".encode("latin-1"))
    assert said(find()) == (
        "[SF-CONFIG-FILE] stageflow.toml:3 is not in UTF-8: the byte 0xfc at position 19. "
        f"What to do: Save it in UTF-8.{page('SF-CONFIG-FILE')}"
    )


def test_huge(write, find) -> None:
    write("stageflow.toml", b"#" * 1_000_001)
    assert said(find()) == (
        "[SF-CONFIG-FILE] Cannot read 'stageflow.toml': it is larger than 1,000,000 bytes. "
        f"What to do: Keep data elsewhere: it is for settings.{page('SF-CONFIG-FILE')}"
    )


def test_a_folder_a_pipe_and_a_link_to_nothing(project, find) -> None:
    path = project / "stageflow.toml"
    path.mkdir()
    assert "Cannot read 'stageflow.toml': it is a folder. What to do: Name a file." in said(find())
    path.rmdir()
    os.mkfifo(path)
    assert "it is no ordinary file. What to do: Name a file on a disk." in said(find())
    path.unlink()
    path.symlink_to("nothing")
    assert said(find()) == (
        "[SF-CONFIG-FILE] Cannot read 'stageflow.toml': no such file or directory (it is a link to nothing). "
        f"What to do: Check the path and its permissions.{page('SF-CONFIG-FILE')}"
    )
    path.unlink()
    path.symlink_to(path)
    assert "too many levels of symbolic links" in said(find())


def test_a_named_file_that_is_not_there(project) -> None:
    assert said(Configuration.load("no\0file", environ={})).startswith("[SF-CONFIG-FILE] Cannot read ")
    assert said(Configuration.load(project / "mine.toml", environ={})) == (
        "[SF-CONFIG-FILE] Cannot read 'mine.toml': no such file or directory. "
        f"What to do: Check the path and its permissions.{page('SF-CONFIG-FILE')}"
    )


def test_the_table_in_pyproject_is_a_table(write, find) -> None:
    write("pyproject.toml", "[tool]\nstageflow = 'yes'\n")
    assert said(find()) == (
        "[SF-CONFIG-FILE] pyproject.toml:2 has no table at [tool.stageflow], but 'yes'. "
        f"What to do: Make it a table.{page('SF-CONFIG-FILE')}"
    )


def test_all_problems_come_in_one_error(write, find) -> None:
    write("pyproject.toml", "[tool.stageflow.acme]\nretries = 'many'\nhots = 1\n")
    write("stageflow.toml", "= 1")
    with pytest.raises(SettingsError) as caught:
        find(STAGEFLOW_ACME__HOSTS="[1").read("acme", Acme)
    assert str(caught.value) == (
        "[SF-CONFIG-INVALID] The configuration has 4 problems:\n"
        "  1. [SF-CONFIG-FILE] stageflow.toml:1 is not valid TOML: invalid statement. What to do: Correct that line.\n"
        "  2. [SF-CONFIG-VALUE] acme.hosts is no JSON (STAGEFLOW_ACME__HOSTS): expecting ',' delimiter, column 3. "
        "What to do: Set STAGEFLOW_ACME__HOSTS to JSON, such as "
        '\'["a", "b"]\' for a list or \'{"key": 1}\' for a table.\n'
        "  3. [SF-CONFIG-KEY] Section 'acme' has no key 'hots' (pyproject.toml:3). What to do: Did you mean 'hosts'?\n"
        "  4. [SF-CONFIG-VALUE] acme.retries is 'many' (pyproject.toml:2): it should be a valid "
        "integer, unable to parse "
        "string as an integer. What to do: Correct it in pyproject.toml:2.\n"
        "  Docs: docs/reference/errors/SF-CONFIG-FILE.md, docs/reference/errors/SF-CONFIG-KEY.md, "
        "docs/reference/errors/SF-CONFIG-VALUE.md"
    )
    kinds = [problem.origin.kind for problem in caught.value.problems]
    assert kinds == [OriginKind.FILE, OriginKind.ENVIRONMENT, OriginKind.PYPROJECT, OriginKind.PYPROJECT]
