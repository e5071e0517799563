"""Every command in a `console` block of a page exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stageflow.plugins import PluginHost

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *ROOT.glob("stageflow-*/README.md"), *ROOT.glob("docs/**/*.md")]
BLOCK = re.compile(r"^( *)```(?:console|shell|bash|sh)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINES = sorted(
    {
        (str(page.relative_to(ROOT)), line.strip().removeprefix("$ "))
        for page in PAGES
        if page.exists()
        for _, block in BLOCK.findall(page.read_text("utf-8"))
        for line in block.splitlines()
        if line.strip().startswith("$ ") or re.match(r"(\S*/)?stageflow |make ", line.strip())
    }
)


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda value: value)
def test_command_exists(page: str, line: str):
    words = re.sub(r"^(\w+=\S+ )+", "", line).split()
    program = words[0].rpartition("/")[2]
    if program == "make":
        assert {word for word in words[1:] if "=" not in word} <= targets(), (
            f"{page} names a target that the Makefile does not have"
        )
    elif program == "stageflow" and len(words) > 1 and not words[1].startswith("-"):
        commands = PluginHost(candidates=()).commands()
        assert words[1] in commands, f"{page} names a command that does not exist"
        command = commands[words[1]].resolve()
        if len(words) > 2 and hasattr(command, "commands"):
            assert words[2].startswith("-") or words[2] in command.commands


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
