"""``stageflow lint``, ``python -m stageflow.cli.lint`` and the functions of 0.9."""

import json
import subprocess
import sys

import pytest
from stageflow import Pipeline, StageKind
from stageflow.cli.lint import (
    DependencyIssue,
    IssueSeverity,
    analyze_stage_source,
    lint_pipeline,
    lint_pipeline_file,
)

WRONG_USE = """
from stageflow import Pipeline, stage, use

@stage
async def count() -> int:
    return 1

@stage
async def shout(text: str = use(count)) -> str:
    return text

pipeline = Pipeline.from_stages(count, shout)
"""

ISOLATED = """
from stageflow import Pipeline, stage, use

@stage
async def count() -> int:
    return 1

@stage
async def double(number: int = use(count)) -> int:
    return number

@stage
async def lonely() -> int:
    return 1

def create_pipeline():
    return Pipeline.from_stages(count, double, lonely)
"""


async def body(ctx): ...


def test_a_sound_file(call, greeting) -> None:
    code, out, err = call("lint", greeting)
    assert (code, err) == (0, "a print of the user's\n" if "print" in err else "")
    assert out == "greeting.py: valid (2 stages, 1 dependency; 0 errors, 0 warnings)\n"


def test_a_wrong_use_is_reported(call, write) -> None:
    write("wrong.py", WRONG_USE)
    code, out, _ = call("lint", "wrong.py")
    assert code == 1
    assert (
        "ERROR [SF-BUILD-TYPE] pipeline.shout: Stage 'shout' wants text: str, but 'count' gives int." in out
    )
    assert "What to do: " in out


def test_an_isolated_stage_is_a_warning_that_only_strict_fails(call, write) -> None:
    write("isolated.py", ISOLATED)
    code, out, _ = call("lint", "isolated.py")
    assert code == 0
    assert "WARNING [SF-LINT-ISOLATED] create_pipeline.lonely" in out
    assert call("lint", "isolated.py", "--strict")[0] == 1


def test_every_target_is_reported_also_after_one_that_does_not_import(call, write, greeting) -> None:
    write("wrong.py", WRONG_USE)
    write("broken.py", "import no_such_thing\n")
    write("empty.py", "x = 1\n")
    code, out, _ = call("lint", "broken.py", "wrong.py", "empty.py", greeting, "nothere.py", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["valid"] is False
    assert {one["target"]: one["valid"] for one in found["targets"]} == {
        "broken.py": False,
        "wrong.py": False,
        "empty.py": True,
        "greeting.py": True,
        "nothere.py": False,
    }
    codes = [issue["code"] for issue in found["issues"]]
    assert codes == ["SF-CONFIG-TARGET", "SF-BUILD-TYPE", "SF-LINT-NO-PIPELINE", "SF-CONFIG-TARGET"]
    assert set(found["issues"][0]) >= {"stage_name", "message", "severity", "accessed_stage", "suggestion"}
    assert found["issues"][0]["where"] == "broken.py:1"
    assert found["stage_count"] == 4


def test_a_stage_of_a_plugin_that_is_not_there(call, write) -> None:
    write(
        "named.py",
        """
        from stageflow import Pipeline, StageKind
        pipeline = Pipeline().with_stage("look", "acme.look", StageKind.WORK)
        """,
    )
    code, out, _ = call("lint", "named.py")
    assert code == 1
    assert "SF-PLUGIN-NOT-FOUND" in out


def test_only_functions_that_promise_a_pipeline_are_called(call, write) -> None:
    write(
        "makers.py",
        """
        from stageflow import Pipeline, StageGraph, stage

        @stage
        async def one() -> int:
            return 1

        def create_database():
            raise AssertionError

        def create_chat() -> Pipeline:
            return Pipeline.from_stages(one)

        def voice_pipeline(model="x"):
            return Pipeline.from_stages(one)

        def other_pipeline(model):
            raise AssertionError

        def not_a_pipeline():
            return 3
        """,
    )
    code, out, _ = call("lint", "makers.py")
    assert code == 0
    assert "(2 stages, " in out


def test_a_function_that_raises_is_an_error(call, write) -> None:
    write("makers.py", "def create_pipeline():\n    return 1 // 0\n")
    code, out, _ = call("lint", "makers.py")
    assert code == 1
    assert "ZeroDivisionError" in out
    assert "makers.py:2" in out


@pytest.mark.parametrize(
    "extra", [[], ["-v"], ["--json"], ["--strict"]], ids=["plain", "verbose", "json", "strict"]
)
def test_the_module_as_in_0_9(write, tmp_path, environment, extra: list[str]) -> None:
    write("wrong.py", WRONG_USE)
    command = [sys.executable, "-W", "error", "-m", "stageflow.cli.lint", "wrong.py", *extra]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "SF-BUILD-TYPE" in done.stdout
    assert done.stderr == ""
    if "--json" in extra:
        assert set(json.loads(done.stdout)) >= {"valid", "stage_count", "dependency_count", "issues"}


def test_the_module_without_the_extra_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['click'] = None; sys.argv = ['lint', 'x.py']\n"
        "import runpy; runpy.run_module('stageflow.cli.lint', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'stageflow-core[cli]'" in done.stderr


def test_the_functions_need_no_extra() -> None:
    program = "import sys, stageflow.cli.lint as lint; lint.lint_pipeline; print('click' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_lint_pipeline() -> None:
    pipeline = (
        Pipeline().with_stage("a", body, StageKind.WORK, ["a", "b"]).with_stage("c", body, StageKind.WORK)
    )
    result = lint_pipeline(pipeline)
    assert not result.valid
    assert result.stage_count == 2
    assert result.dependency_count == 2
    assert [issue.code for issue in result.errors] == [
        "SF-BUILD-SELF-DEPENDENCY",
        "SF-BUILD-UNKNOWN-DEPENDENCY",
    ]
    assert [issue.stage_name for issue in result.warnings] == ["c"]
    assert "SF-BUILD-SELF-DEPENDENCY" in str(result)


def test_lint_pipeline_of_a_graph() -> None:
    assert lint_pipeline(Pipeline().with_stage("a", body, StageKind.WORK).build()).valid


def test_lint_pipeline_file(tmp_path, write, greeting, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert lint_pipeline_file(tmp_path / greeting).valid
    with pytest.raises(FileNotFoundError):
        lint_pipeline_file(tmp_path / "nothere.py")
    with pytest.raises(ImportError, match="no_such_thing"):
        lint_pipeline_file(write("broken.py", "import no_such_thing"))


def test_an_issue_as_text() -> None:
    issue = DependencyIssue(
        "a", "is wrong", IssueSeverity.ERROR, suggestion="mend it", code="SF-X", where="x.py:1"
    )
    assert str(issue) == "[ERROR] [SF-X] a: is wrong\n  Where: x.py:1\n  What to do: mend it"


def test_analyze_stage_source() -> None:
    source = "ctx.inputs.get_from('a', 'x')\nctx.inputs.has_output('b')\nctx.inputs.get_from(name, 'x')\nf()"
    assert analyze_stage_source(source) == [("a", 1), ("b", 2)]
    assert analyze_stage_source("def f(:") == []


def test_a_wide_layered_graph_takes_no_time() -> None:
    pipeline = Pipeline()
    for layer in range(40):
        for number in range(10):
            needs = [f"{layer - 1}-{other}" for other in range(10)] if layer else []
            pipeline = pipeline.with_stage(f"{layer}-{number}", body, StageKind.WORK, needs)
    assert lint_pipeline(pipeline).valid  # 0.9 needed five times as long for every further layer
