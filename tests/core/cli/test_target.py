"""``TARGET``: what can be named, and what is said where nothing fits."""

import sys

import pytest

TWO = """
from stageflow import Pipeline, stage

@stage
async def one() -> int:
    return 1

first = Pipeline.from_stages(one, name="first")
second = Pipeline.from_stages(one, name="second")
again = first
_private = Pipeline("private")
"""

FACTORY = """
from stageflow import Pipeline, StageGraph, stage

@stage
async def one() -> int:
    return 1

def {name}() -> Pipeline:
    return Pipeline.from_stages(one, name="made")

def needs(number):
    raise AssertionError
"""


def error_of(call, *arguments: str) -> str:
    """Return the one paragraph that a refused command line is answered with."""
    code, out, err = call(*arguments)
    assert (code, out) == (1, "")
    (paragraph,) = err.splitlines()
    assert "Traceback" not in paragraph
    assert "What to do: " in paragraph
    return paragraph


def test_a_file_and_a_module_and_a_name_in_either(call, greeting, write) -> None:
    write("pack/__init__.py", "")
    write("pack/mod.py", TWO)
    assert call("graph", greeting)[1].startswith("greeting: 2 stages")
    assert call("graph", f"{greeting}:pipeline")[1].startswith("greeting: 2 stages")
    assert call("graph", "pack.mod:second")[1].startswith("second: 1 stage\n")


@pytest.mark.parametrize("name", ["create_pipeline", "build_pipeline"])
def test_a_function_that_makes_one(call, write, name: str) -> None:
    write("made.py", FACTORY.format(name=name))
    assert call("graph", "made.py")[1].startswith("made: 1 stage\n")
    assert call("graph", f"made.py:{name}")[1].startswith("made: 1 stage\n")


def test_another_function_is_offered_by_name(call, write) -> None:
    write("made.py", FACTORY.format(name="chat_pipeline"))
    assert "made.py:chat_pipeline" in error_of(call, "graph", "made.py")
    assert call("graph", "made.py:chat_pipeline")[1].startswith("made: 1 stage\n")


def test_a_built_graph_runs_too(call, write) -> None:
    write("built.py", TWO + "\ngraph = first.build()\n")
    code, out, _ = call("run", "built.py:graph", "--quiet")
    assert (code, out) == (0, "1\n")


def test_two_pipelines_are_listed(call, write) -> None:
    write("two.py", TWO)
    error = error_of(call, "run", "two.py")
    assert "holds 2 pipelines: 'first', 'second'" in error
    assert "two.py:first or two.py:second" in error


def test_a_misspelt_name(call, write) -> None:
    write("two.py", TWO)
    assert "Did you mean 'second'?" in error_of(call, "run", "two.py:secnd")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothere.py", "There is no file 'nothere.py'"),
        ("folder/nothere.py:x", "There is no file 'folder/nothere.py'"),
        ("greetnig.py", "Did you mean 'greeting.py'?"),
        ("greeting", "Did you mean 'greeting.py'?"),
        ("notes.txt", "is not a Python file"),
        (".", "is a folder"),
        ("no.such.module", "There is neither a file nor a module 'no.such.module'"),
        ("what is this", "There is no file 'what is this', and it is not the name of a module either"),
        ("json:dumps", "'dumps' in 'json' is a function, not a pipeline"),
        ("greeting.py:check", "is a StageDef, not a pipeline"),
    ],
    ids=[
        "missing",
        "missing-folder",
        "near",
        "suffix",
        "text",
        "folder",
        "module",
        "prose",
        "function",
        "stage",
    ],
)
def test_what_is_no_target(call, greeting, write, target: str, said: str) -> None:
    write("notes.txt", "hello")
    if target == "greeting":
        sys.modules.pop("greeting", None)
        (write("greeting.py", "raise SystemExit")).unlink()
        write("greeting.py", "import stageflow_no_such_thing")
        assert "Importing 'greeting' raised ModuleNotFoundError" in error_of(call, "run", target)
        return
    assert said in error_of(call, "run", target)


@pytest.mark.parametrize(
    ("source", "said", "line"),
    [
        ("import os\nimport no_such_thing\n", "ModuleNotFoundError: No module named 'no_such_thing'", 2),
        ("x = 1\n\ndef f(:\n", "SyntaxError", 3),
        ("def f():\n    raise ValueError('no\\nway')\n\nf()\n", "ValueError: no way", 2),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
        ("from stageflow import use\nx = use(3)\n", "use() takes a stage made with @stage", 2),
        ("from . import sibling\n", "relative import", 1),
    ],
    ids=["import", "syntax", "raise", "exit", "ours", "relative"],
)
def test_a_module_that_raises_is_shown_with_the_users_line(
    call, write, source: str, said: str, line: int
) -> None:
    write("broken.py", source)
    error = error_of(call, "run", "broken.py")
    assert said in error
    assert f"broken.py:{line}" in error


def test_verbose_adds_the_traceback(call, write) -> None:
    write("broken.py", "def f():\n    raise ValueError('no')\n\nf()\n")
    _, _, err = call("run", "broken.py", "-v")
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("[SF-CONFIG-TARGET] ")


def test_a_file_finds_its_neighbours_and_is_not_main(call, write) -> None:
    write("apart/neighbour_of_target.py", "NAME = 'near'\n")
    write(
        "apart/x.py",
        "from neighbour_of_target import NAME\nfrom stageflow import Pipeline, stage\n"
        "@stage\nasync def one() -> str:\n    return NAME\n"
        "pipeline = Pipeline.from_stages(one)\nassert __name__ != '__main__'\n",
    )
    assert call("run", "apart/x.py", "--quiet")[:2] == (0, "near\n")


def test_a_file_that_is_called_like_a_module_replaces_nothing(call, write) -> None:
    write("json.py", TWO)
    assert call("graph", "./json.py:first")[0] == 0
    assert "dumps" in dir(sys.modules["json"])
