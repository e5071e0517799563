"""Built-in tools stay inside: a calculator that runs no code, a folder that nothing leads out of."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow_tools import ToolCall, ToolExecutionError, ToolExecutor, ToolOutput, ToolRegistry
from stageflow_tools.builtin import Folder, calculator
from stageflow_tools.builtin.calculator import evaluate

if TYPE_CHECKING:
    from pathlib import Path


def call(tools: ToolExecutor, name: str, **arguments: Any) -> ToolOutput:
    return asyncio.run(tools.execute(ToolCall(name, arguments)))


# --- the calculator -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 2 * 3", 7),
        (" -2 ** 2 ", -4),
        ("7 // 2 + 7 % 2 - 7 / 2", 0.5),
        ("sqrt(hypot(3, 4) + 4)", 3.0),
        ("round(pi, 2)", 3.14),
        ("2 ** -1", 0.5),
        ("1e3", 1000.0),
    ],
)
def test_arithmetic(expression, result):
    assert evaluate(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "1 / 0",
        "9 ** 9 ** 9",
        "9 ** 9999",
        "2.0 ** 99999",
        "(-8) ** 0.5",
        "sqrt(-1)",
        "1e400",
        "True",
        "'a' * 3",
        "[1] * 9",
        "().__class__",
        "__import__('os').system('true')",
        "abs.__self__",
        "max(1, key=abs)",
        "(lambda: 1)()",
        "x := 1",
        "min()",
        "1 if 1 else 2",
        "1" * 5_000,
        "(" * 300 + "1" + ")" * 300,
        "-" * 999 + "1",
        "1\x00",
        "10 ** 300 * 10 ** 300 * 10 ** 300 * 10 ** 300 * 10 ** 300",
    ],
)
def test_what_is_no_arithmetic_or_too_much_of_it(expression):
    with pytest.raises(ValueError, match=r"\w"):
        evaluate(expression)


@given(
    st.recursive(
        st.integers(-9, 9).map(str),
        lambda one: st.tuples(one, st.sampled_from("+-*"), one).map(
            lambda three: f"({three[0]}{three[1]}{three[2]})"
        ),
    )
)
def test_it_agrees_with_python(expression):
    try:
        assert evaluate(expression) == eval(expression)  # noqa: S307 - what it is compared with
    except ValueError as exc:
        assert "characters" in str(exc) or "deeply" in str(exc) or "large" in str(exc)  # noqa: PT017


@given(st.text(max_size=60))
def test_any_text_is_a_number_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert math.isfinite(evaluate(text))


def test_a_mistake_of_the_model_is_told():
    tools = ToolExecutor(registry=ToolRegistry(calculator))
    assert call(tools, "calculator", expression="6 * 7") == ToolOutput.ok({"result": 42})
    with pytest.raises(ToolExecutionError, match="no function of the calculator"):
        call(tools, "calculator", expression="exec('1')")


# --- the folder -----------------------------------------------------------------------------------------------------


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "jail" / "in").mkdir(parents=True)
    (tmp_path / "jail" / "a.txt").write_text("A")
    (tmp_path / "jail" / "in" / "b.txt").write_text("B")
    (tmp_path / "jail" / "out").symlink_to(tmp_path)
    (tmp_path / "jail" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "jail" / "pipe")
    (tmp_path / "jail" / "binary").write_bytes(b"\xff\xfe")
    return tmp_path / "jail"


def tools_of(jail: Path, **options: Any) -> ToolExecutor:
    return ToolExecutor(registry=ToolRegistry(*Folder(jail, **options).tools))


def test_files_are_listed_and_read(jail):
    tools = tools_of(jail)
    listed = call(tools, "list_files").data["files"]
    assert {"a.txt", "in/b.txt"} <= set(listed)
    assert not any("secret" in name for name in listed)
    assert call(tools, "read_file", path="in/b.txt").data == {"path": "in/b.txt", "text": "B"}


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "out/secret",
        "link",
        "/etc/passwd",
        "in/../../secret",
        "",
        ".",
        "..",
        "in/",
        "a\0b",
        "in",
        "pipe",
        "binary",
        "nothing",
        "a.txt/b",
        "x" * 300,
    ],
)
@pytest.mark.parametrize("name", ["read_file", "write_file"])
def test_nothing_leads_out(jail, name, path):
    if name == "write_file" and path in {"nothing", "link", "pipe", "binary"}:
        pytest.skip("that is a new file, or one that is replaced as a whole: see below")
    tools = tools_of(jail)
    arguments = {"path": path} if name == "read_file" else {"path": path, "text": "mine"}
    output = call(tools, name, **arguments)
    assert not output.success
    assert "secret" not in str(output.data)
    assert (jail.parent / "secret").read_text() == "secret"
    assert sorted(one.name for one in jail.parent.iterdir()) == ["jail", "secret"]


def test_a_link_is_never_written_through(jail):
    tools = tools_of(jail)
    call(tools, "write_file", path="link", text="mine")
    assert (jail.parent / "secret").read_text() == "secret"


def test_a_write_replaces_and_can_be_undone(jail):
    folder = Folder(jail)
    tools = ToolExecutor(registry=ToolRegistry(*folder.tools))
    for path, before in (("a.txt", "A"), ("new/deep/c.txt", None)):
        output = call(tools, "write_file", path=path, text="café")
        assert output.data == {"path": path, "bytes": 5}
        assert (jail / path).read_text() == "café"
        assert output.undo_metadata == {"path": path, "before": before}
        asyncio.run(folder.undo_write(output.undo_metadata))
        assert ((jail / path).read_text() if (jail / path).exists() else None) == before
    assert not list(jail.rglob("*.tmp"))


def test_limits_and_reading_only(jail):
    tools = tools_of(jail, max_bytes=3)
    (jail / "large").write_text("1234")
    assert "larger than 3 bytes" in call(tools, "read_file", path="large").error
    assert "may have 3" in call(tools, "write_file", path="new", text="1234").error
    assert "write_file" not in tools_of(jail, read_only=True).registry
    with pytest.raises(NotADirectoryError):
        Folder(jail / "a.txt")
