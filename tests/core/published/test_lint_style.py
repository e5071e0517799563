"""Linting dependencies, by the API and by `python -m stageflow.cli.lint`, as 0.9 documented it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from stageflow import Pipeline, StageKind
from stageflow.cli.lint import (
    DependencyIssue,
    DependencyLintResult,
    IssueSeverity,
    analyze_stage_source,
    lint_pipeline,
    lint_pipeline_file,
)
from stageflow.testing import ScriptedStage

K = StageKind.TRANSFORM

GOOD = '''
"""A chat pipeline."""

from stageflow import Pipeline, StageKind


class Profile:
    name = "profile"
    kind = StageKind.ENRICH

    async def execute(self, ctx):
        return {"name": "Ada"}


class Agent:
    name = "agent"
    kind = StageKind.AGENT

    async def execute(self, ctx):
        return {"text": ctx.inputs.get_from("profile", "name")}


chat = (
    Pipeline("chat")
    .with_stage("profile", Profile, StageKind.ENRICH)
    .with_stage("agent", Agent, StageKind.AGENT, dependencies=("profile",))
)


def create_second():
    return chat
'''
BAD = GOOD.replace('dependencies=("profile",)', 'dependencies=("profil",)')
UNDECLARED = GOOD.replace(', dependencies=("profile",)', "")


def stages(*edges: tuple[str, tuple[str, ...]]) -> Pipeline:
    pipeline = Pipeline("p")
    for name, dependencies in edges:
        pipeline = pipeline.with_stage(name, ScriptedStage(), K, dependencies=dependencies)
    return pipeline


# --- the API ------------------------------------------------------------------------------------------------


def test_a_sound_pipeline():
    result = lint_pipeline(stages(("a", ()), ("b", ("a",)), ("c", ("a", "b"))))
    assert isinstance(result, DependencyLintResult)
    assert result.valid
    assert (result.issues, result.errors, result.warnings) == ([], [], [])
    assert (result.stage_count, result.dependency_count) == (3, 2)


def test_an_unknown_dependency_is_an_error():
    result = lint_pipeline(stages(("profile", ()), ("agent", ("profil",))))
    assert not result.valid
    (issue,) = result.errors
    assert isinstance(issue, DependencyIssue)
    assert (issue.stage_name, issue.severity) == ("agent", IssueSeverity.ERROR)
    assert "profil" in issue.message
    assert "'profile'" in issue.suggestion


def test_an_issue_names_the_other_stage():
    (issue,) = lint_pipeline(stages(("profile", ()), ("agent", ("profil",)))).errors
    assert issue.accessed_stage == "profil"


def test_a_stage_that_depends_on_itself_is_an_error():
    result = lint_pipeline(stages(("a", ("a",))))
    assert not result.valid
    assert [issue.stage_name for issue in result.errors] == ["a"]


def test_a_cycle_is_an_error_and_is_shown():
    result = lint_pipeline(stages(("a", ("c",)), ("b", ("a",)), ("c", ("b",))))
    assert not result.valid
    text = " ".join(issue.message for issue in result.errors)
    assert " -> " in text
    assert all(name in text for name in "abc")


def test_a_stage_apart_is_a_warning():
    result = lint_pipeline(stages(("a", ()), ("b", ("a",)), ("apart", ())))
    assert result.valid
    assert [(issue.stage_name, issue.severity) for issue in result.warnings] == [
        ("apart", IssueSeverity.WARNING)
    ]
    assert lint_pipeline(stages(("alone", ()))).issues == []


def test_severities_are_text():
    assert [severity.value for severity in IssueSeverity] == ["error", "warning", "info"]


def test_it_is_linear_on_layers():
    # Findings A1.28: five times as long for each further layer in 0.9; this graph would take longer than the sun.
    pipeline = Pipeline("layers")
    before: tuple[str, ...] = ()
    for layer in range(60):
        names = tuple(f"l{layer}_{n}" for n in range(5))
        for name in names:
            pipeline = pipeline.with_stage(name, ScriptedStage(), K, dependencies=before)
        before = names
    result = lint_pipeline(pipeline)
    assert result.valid
    assert result.stage_count == 300


def test_what_a_source_reads():
    source = """
async def execute(self, ctx):
    a = ctx.inputs.get_from("profile", "name")
    b = ctx.inputs.require_from("memory", "facts")
    if ctx.inputs.has_output("router"):
        return ctx.inputs.get_output("router")
"""
    assert analyze_stage_source(source) == [("profile", 3), ("memory", 4), ("router", 5), ("router", 6)]


# --- files --------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "chat_app.py"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


def test_a_good_file(write):
    result = lint_pipeline_file(str(write(GOOD)))
    assert result.valid
    assert result.errors == []
    assert lint_pipeline_file(write(GOOD)).valid  # a Path as well


def test_a_bad_file_names_the_pipeline_and_the_stage(write):
    result = lint_pipeline_file(str(write(BAD)))
    assert not result.valid
    assert "chat.agent" in [issue.stage_name for issue in result.errors]
    assert all("profil" in issue.message for issue in result.errors)


def test_a_file_without_a_pipeline_is_valid_with_a_warning(write):
    result = lint_pipeline_file(str(write("x = 1\n")))
    assert result.valid
    assert len(result.warnings) == 1


def test_a_file_that_is_not_there_and_one_that_does_not_import(write, tmp_path):
    with pytest.raises(FileNotFoundError):
        lint_pipeline_file(str(tmp_path / "nothing.py"))
    with pytest.raises(ImportError):
        lint_pipeline_file(str(write("import no_such_module_anywhere\n")))
    with pytest.raises(ImportError):
        lint_pipeline_file(str(write("def (\n")))


# --- the command --------------------------------------------------------------------------------------------


def command(module: str, *arguments: object, cwd: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("form", ["module", "program"])
def test_the_command(form, write, tmp_path):
    def lint(*arguments: object) -> subprocess.CompletedProcess[str]:
        if form == "module":
            return command("stageflow.cli.lint", *arguments, cwd=tmp_path)
        return command("stageflow.cli", "lint", *arguments, cwd=tmp_path)

    good = lint(write(GOOD))
    assert (good.returncode, "Traceback" in good.stderr) == (0, False), good
    bad = lint(write(BAD, "bad_app.py"))
    assert bad.returncode == 1
    assert "profil" in bad.stdout + bad.stderr
    assert "Traceback" not in bad.stderr
    as_json = lint(tmp_path / "bad_app.py", "--json")
    assert as_json.returncode == 1
    assert "profil" in json.dumps(json.loads(as_json.stdout))
    missing = lint(tmp_path / "nothing.py")
    assert missing.returncode == 1
    assert "nothing.py" in missing.stderr + missing.stdout
    assert "Traceback" not in missing.stderr
    wrong = lint(tmp_path / "bad_app.py", "--no-such-option")
    assert wrong.returncode == 2


@pytest.mark.timeout(60)
def test_the_command_is_strict_about_warnings_if_it_is_told_to(write, tmp_path):
    apart = GOOD + '\nchat = chat.with_stage("apart", Profile, StageKind.ENRICH)\n'
    path = write(apart)
    assert command("stageflow.cli.lint", path, cwd=tmp_path).returncode == 0
    assert command("stageflow.cli.lint", path, "--strict", cwd=tmp_path).returncode == 1
    assert command("stageflow.cli.lint", path, "-v", cwd=tmp_path).returncode == 0


@pytest.mark.timeout(60)
def test_the_command_finds_what_a_stage_reads_without_declaring_it(write, tmp_path):
    done = command("stageflow.cli.lint", write(UNDECLARED), cwd=tmp_path)
    assert done.returncode == 1
    assert "profile" in done.stdout + done.stderr
