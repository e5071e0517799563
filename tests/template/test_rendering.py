"""``render``: which files a new plugin has, and that every one of them is what its name says."""

from __future__ import annotations

import ast
import tomllib
from importlib.resources import files

import pytest
from stageflow.cli.scaffold.imports import import_block
from stageflow.cli.scaffold.kinds import KINDS
from stageflow.cli.scaffold.rendering import core_range, render
from stageflow.plugins.hookspecs import HOOKS

PROJECT = [
    ".github/workflows/ci.yml",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "src/stageflow_demo/__init__.py",
    "src/stageflow_demo/conformance.py",
    "src/stageflow_demo/plugin.py",
    "src/stageflow_demo/py.typed",
    "tests/conftest.py",
    "tests/test_conformance.py",
    "tests/test_plugin.py",
]
MODULES = {
    "stage": ["keywords", "stage"],
    "interceptor": ["interceptor"],
    "sink": ["sink"],
    "tool": ["tool"],
    "executor": ["executor"],
    "run-store": ["run_store"],
    "settings": ["settings"],
    "command": ["keywords", "command"],
    "check": ["check"],
}


def expected(*kinds: str) -> list[str]:
    modules = {module for kind in kinds for module in MODULES[kind]}
    own = [f"src/stageflow_demo/{module}.py" for module in modules]
    tests = [f"tests/test_{module}.py" for module in modules]
    return sorted([*PROJECT, *own, *tests])


def test_the_kinds_are_those_of_the_hooks():
    assert list(KINDS) == list(MODULES)
    assert {kind.hook for kind in KINDS.values()} == set(HOOKS)
    assert {kind.record for kind in KINDS.values()} == {
        one.__name__ for kinds in HOOKS.values() for one in kinds
    }


@pytest.mark.parametrize("kind", MODULES)
def test_the_files_of_a_kind(kind, make_plugin):
    assert list(render(make_plugin("demo", (kind,)))) == expected(kind)


def test_the_files_of_all_kinds(make_plugin):
    assert list(render(make_plugin("demo", tuple(MODULES)))) == expected(*MODULES)


def test_every_template_is_used(make_plugin):
    used: set[str] = set()
    for kinds in (("settings",), tuple(MODULES)):
        used.update(render(make_plugin("demo", kinds)))
    root = files("stageflow.cli.scaffold") / "templates"
    folders = [one.name for one in root.iterdir()]
    known = {"project", "keywords", *MODULES, "stage+settings", "sink+settings"}
    assert set(folders) == known
    parts = {
        one.name
        for folder in folders
        for one in (root / folder).iterdir()
        if folder != "project" and one.is_file()
    }
    assert parts == {"record.tmpl", "suite.tmpl", "usage.tmpl", "field.tmpl", "example.tmpl"}


def test_python_compiles_and_says_what_it_offers(case):
    for path, text in render(case).items():
        if path.endswith(".py"):
            tree = ast.parse(text, path)
            assert ast.get_docstring(tree), f"{path} has no docstring"
            if path.startswith("src/"):
                assert "__all__" in text, path


def test_no_placeholder_and_no_odd_space_is_left(case):
    for path, text in render(case).items():
        meant = ("$everybody", "${{ ", "\n$ ")  # of the description, of GitHub, of a shell
        assert sum(map(text.count, meant)) == text.count("$"), path
        lines = text.splitlines()
        assert not [line for line in lines if line != line.rstrip()], path
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), path
        assert "\n\n\n\n" not in text, path


def test_the_manifest_says_what_it_was_told(case):
    manifest = tomllib.loads(render(case)["pyproject.toml"])
    project, name = manifest["project"], case.name
    assert project["name"] == name.distribution
    assert project["description"] == case.description
    assert project["authors"] == [{"name": case.author}]
    assert project["dependencies"][0] == f"stageflow-core{core_range(case.core_version)}"
    chosen = {kind.name for kind in case.kinds}
    assert ("click>=8.1" in project["dependencies"]) == ("command" in chosen)
    assert ("pydantic>=2" in project["dependencies"]) == ("settings" in chosen)
    assert project["entry-points"] == {
        "stageflow": {name.plugin: f"{name.package}.plugin"},
        "stageflow.conformance": {name.plugin: f"{name.package}.conformance"},
    }


def test_prose_says_what_it_was_told(case):
    texts = render(case)
    assert case.description in texts["README.md"]
    assert f"Copyright (c) 2026 {case.author}" in texts["LICENSE"]
    for kind in case.kinds:
        assert f"- Add {kind.phrase} that {kind.does}." in texts["CHANGELOG.md"]
        assert f"{kind.phrase} that {kind.does} |" in texts["README.md"]


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("2.0.0a1", ">=2.0.0a1,<3"),
        ("2.0.0", ">=2.0,<3"),
        ("2.3.1", ">=2.3,<3"),
        ("2.4.0rc1", ">=2.4.0rc1,<3"),
        ("3.1.dev5+g12ab", ">=3.1.dev5,<4"),
        ("2.3.1.post2", ">=2.3,<3"),
    ],
)
def test_the_range_begins_here_and_ends_before_the_next_break(version, wanted):
    assert core_range(version) == wanted


def test_imports_that_are_too_wide_have_a_line_each():
    names = [f"Contribution{number:02}" for number in range(9)]
    block = import_block([f"stageflow.plugins:{name}" for name in [*names, "hookimpl"]], "acme")
    assert block.splitlines()[0] == "from stageflow.plugins import ("
    assert block.splitlines()[-2:] == ["    hookimpl,", ")"]
