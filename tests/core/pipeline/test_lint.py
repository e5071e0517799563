"""Lint finds what is wrong before anything runs, in linear time, and names file and line."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from stageflow import Pipeline, StageKind, StageOutput, stage, use
from stageflow.context import ArgumentTypeError
from stageflow.errors import ConfigurationError
from stageflow.pipeline.builders import PipelineBuilder, PipelineSpec
from stageflow.pipeline.conditions import ConditionalDependency
from stageflow.pipeline.file_pipelines import PipelineFileError, PipelineFileNotFoundError, pipelines_in
from stageflow.pipeline.lint import (
    DependencyIssue,
    DependencyLintResult,
    IssueSeverity,
    analyze_stage_source,
    lint_pipeline,
    lint_pipeline_file,
)
from stageflow.pipeline.source_reads import SourceReads

W = StageKind.WORK


async def work(ctx): ...


async def reads_a(ctx):
    return ctx.inputs.require_from("a", "x")


LINE = reads_a.__code__.co_firstlineno + 1


class Base:
    async def helper(self, ctx):
        return ctx.inputs.has_output("base")


class Reader(Base):
    kind = W

    async def execute(self, ctx):
        inputs = ctx.inputs
        return StageOutput.ok(x=inputs.get_from("a", "x"), y=self.more(ctx))

    @staticmethod
    def more(ctx):
        if (given := ctx.inputs) is not None:
            return given.get_output(stage_name="b")
        return None


def shown(result: DependencyLintResult) -> list[tuple[str, str, str | None]]:
    return [(issue.severity.value, issue.stage_name, issue.accessed_stage) for issue in result.issues]


def only(runner, *dependencies):
    pipeline = Pipeline().with_stage("a", work, W).with_stage("b", work, W, ["a"])
    return lint_pipeline(pipeline.with_stage("s", runner, W, [*dependencies, "b"]))


# --- the graph ------------------------------------------------------------------------------------------------------


def test_a_sound_pipeline():
    pipeline = (
        Pipeline().with_stage("a", work, W).with_stage("b", reads_a, W, ["a"]).with_stage("c", work, W, ["a"])
    )
    for one in (pipeline, pipeline.build()):
        result = lint_pipeline(one)
        assert result.valid
        assert (result.issues, result.stage_count, result.dependency_count) == ([], 3, 1)
        assert str(result) == "Pipeline dependencies are valid\n  Stages: 3\n  Dependencies: 1"


def test_the_published_rules():
    pipeline = (
        Pipeline()
        .with_stage("a", work, W, ["a"])
        .with_stage("b", work, W, ["aa"])
        .with_stage("c", work, W, ["d"])
        .with_stage("d", work, W, ["c"])
        .with_stage("alone", work, W)
    )
    result = lint_pipeline(pipeline)
    assert not result.valid
    assert [issue.code for issue in result.issues] == [
        "SF-BUILD-SELF-DEPENDENCY",
        "SF-BUILD-UNKNOWN-DEPENDENCY",
        "SF-BUILD-CYCLE",
        "SF-LINT-ISOLATED",
    ]
    assert [issue.stage_name for issue in result.errors] == ["a", "b", "c"]
    assert [issue.stage_name for issue in result.warnings] == ["alone"]
    assert "c -> d -> c" in result.errors[2].message
    assert str(result).startswith("Found 3 error(s)\n  Stages: 5\n  Dependencies: 4\n")


def test_a_lone_stage_is_not_isolated_and_an_empty_pipeline_is_an_error():
    assert lint_pipeline(Pipeline().with_stage("a", work, W)).issues == []
    assert [issue.code for issue in lint_pipeline(Pipeline()).errors] == ["SF-BUILD-EMPTY"]


def test_builders_are_linted_too_and_other_things_refused():
    builder = PipelineBuilder(stages={"a": PipelineSpec("a", reads_a)})
    assert shown(lint_pipeline(builder)) == [("error", "a", "a")]
    for wrong in (None, [], "x.py"):
        with pytest.raises(ArgumentTypeError):
            lint_pipeline(wrong)


def test_what_a_build_found_takes_the_place_of_what_is_found_here():
    pipeline = Pipeline().with_stage("a", work, W, ["x"])
    assert lint_pipeline(pipeline, problems=()).valid


# --- the source -----------------------------------------------------------------------------------------------------


def test_an_undeclared_read_is_an_error_with_its_line():
    (issue,) = only(reads_a).issues
    assert issue == DependencyIssue(
        "s",
        "Stage 's' reads 'a', on which it does not depend",
        IssueSeverity.ERROR,
        "a",
        "Add 'a' to the dependencies of 's'",
        LINE,
        "SF-RUN-UNDECLARED-DEPENDENCY",
        f"{__file__}:{LINE}",
    )
    assert only(reads_a, "a").issues == []
    assert issue.to_dict()["severity"] == "error"
    assert str(issue).splitlines() == [
        "[ERROR] [SF-RUN-UNDECLARED-DEPENDENCY] s: Stage 's' reads 'a', on which it does not depend",
        f"  Where: {__file__}:{LINE}",
        "  What to do: Add 'a' to the dependencies of 's'",
    ]


@pytest.mark.parametrize("runner", [Reader, Reader()], ids=["class", "instance"])
def test_every_method_of_a_class_counts_and_those_it_inherits(runner):
    result = only(runner)
    assert {issue.accessed_stage for issue in result.errors} == {"a", "base"}
    assert [issue.accessed_stage for issue in only(runner, "a").errors] == ["base"]


def test_methods_partials_decorated_and_typed_stages():
    def decorator(function):
        @functools.wraps(function)
        async def wrapper(ctx):
            return await function(ctx)

        return wrapper

    @decorator
    async def decorated(ctx):
        return ctx.inputs.get_from("a", "x")

    @stage
    async def first() -> int:
        return 1

    @stage
    async def second(ctx, one: int = use(first)) -> int:
        return ctx.inputs.get_from("a", "x") + ctx.inputs.get_from("first", "value")

    async def with_more(more, ctx):
        return ctx.inputs.get_from("a", "x")

    for runner in (Reader().execute, decorated, functools.partial(with_more, 1)):
        assert [issue.accessed_stage for issue in only(runner).errors] == ["a"]
    result = lint_pipeline(Pipeline.from_stages(first, second).with_stage("a", work, W, ["first"]))
    assert shown(result) == [("error", "second", "a")]


def test_an_attribute_of_a_stage_of_ones_own_is_not_its_source():
    """Only a stage made with ``@stage`` is its function, whatever others call theirs."""

    class Wraps:
        def __init__(self):
            self._function = self.function = work

        async def execute(self, ctx):
            return ctx.inputs.require_from("a", "x")

    assert [issue.accessed_stage for issue in only(Wraps()).errors] == ["a"]


def test_what_has_no_source_reads_nothing():
    namespace = {}
    exec("async def made(ctx): return ctx.inputs.get_from('a', 'x')", namespace)  # noqa: S102 - the case
    for runner in (namespace["made"], "owner.name", print, None, 7):
        assert SourceReads().of(runner) == []
    reads = lambda ctx: ctx.inputs.get_from("a", "x")  # noqa: E731 - a line may hold several of them
    assert SourceReads().of(reads) == []


def test_a_source_that_has_changed_reads_what_it_reads_now(tmp_path):
    path = tmp_path / "changing.py"
    text = "async def work(ctx):\n    return ctx.inputs.get_from('{}', 'x')\n"
    for name in ("a", "bb"):
        path.write_text(text.format(name), "utf-8")
        namespace = {}
        exec(compile(path.read_text("utf-8"), str(path), "exec"), namespace)  # noqa: S102 - the case
        assert [read.stage for read in SourceReads().of(namespace["work"])] == [name]
    path.write_text("async def (", "utf-8")
    assert SourceReads().of(namespace["work"]) == []
    path.write_text("async def other(ctx):\n    pass\n", "utf-8")
    assert SourceReads().of(namespace["work"]) == []


def test_a_misspelt_read_is_answered_with_the_right_name():
    async def misspelt(ctx):
        return ctx.inputs.get_from("grete", "x")

    pipeline = Pipeline().with_stage("greet", work, W).with_stage("s", misspelt, W, ["greet"])
    assert lint_pipeline(pipeline).errors[0].suggestion == "Did you mean 'greet'?"
    pipeline = Pipeline().with_stage("x", work, W).with_stage("s", misspelt, W, ["x"])
    assert (
        lint_pipeline(pipeline).errors[0].suggestion == "Correct the name: the pipeline has no stage 'grete'"
    )


def test_finding_a1_22_a_condition_on_an_undeclared_stage_is_an_error():
    condition = ConditionalDependency("a", "a:go")
    pipeline = Pipeline().with_stage("a", work, W).with_stage("b", work, W, ["a"])
    assert lint_pipeline(pipeline.with_stage("c", work, W, ["a"], when=condition)).valid
    result = lint_pipeline(pipeline.with_stage("c", work, W, ["b"], when=condition))
    assert shown(result) == [("error", "c", "a")]
    assert result.errors[0].message.startswith("The condition of stage 'c' reads 'a'")


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("ctx.inputs.get_from('a', 'x')\nctx.inputs.has_output('b')", [("a", 1), ("b", 2)]),
        ("inputs.require_from('a', 'x')", [("a", 1)]),
        ("self.ctx.inputs.get_output(stage_name='a')", [("a", 1)]),
        ("i = ctx.inputs\ni.get_output('a')", [("a", 2)]),
        ("    async def m(self, ctx):\n        ctx.inputs.get_from('a', 'x')", [("a", 2)]),
        ("ctx.inputs.get_from(name, 'x')", []),
        ("ctx.inputs.get_from(f'{a}', 'x')", []),
        ("ctx.inputs.get_from()", []),
        ("ctx.inputs.get('a')", []),
        ("bag.get_output('a')", []),
        ("queue.get_from('a')", []),
        ("get_from('a')", []),
        ("def f(:", []),
        ("x = '\0'", []),
        ("", []),
        ("(" * 500, []),
    ],
)
def test_analyze_stage_source(source, reads):
    assert analyze_stage_source(source) == reads


# --- linear ---------------------------------------------------------------------------------------------------------


def test_finding_a1_28_layers_take_no_time():
    """0.9 needed a second for 9 layers of 5, and five times as long for every further one."""
    for layers in (9, 60):
        pipeline = Pipeline()
        for layer in range(layers):
            needs = [f"{layer - 1}-{other}" for other in range(5)] if layer else []
            for number in range(5):
                pipeline = pipeline.with_stage(f"{layer}-{number}", work, W, needs)
        result = lint_pipeline(pipeline)
        assert result.valid
        assert result.stage_count == layers * 5


@pytest.mark.timeout(60)
def test_finding_a1_28_twenty_thousand_stages():
    pipeline = Pipeline()
    for number in range(20_000):
        runner = reads_a if number % 2 else Reader
        pipeline = pipeline.with_stage(f"s{number}", runner, W, [f"s{number - 1}"] if number else ())
    result = lint_pipeline(pipeline)
    assert result.stage_count == 20_000
    assert result.dependency_count == 19_999
    assert len(result.errors) == 10_000 + 3 * 10_000


def test_a_file_is_parsed_once_however_many_of_its_functions_are_stages(monkeypatch):
    import ast

    parsed = []
    monkeypatch.setattr(
        ast, "parse", lambda source, *args, _parse=ast.parse: parsed.append(1) or _parse(source, *args)
    )
    reads = SourceReads()
    for runner in (reads_a, work, Reader, Reader(), Reader().execute):
        reads.of(runner)
        reads.of(runner)
    assert len(parsed) == 1


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def write(source: str) -> Path:
        path = tmp_path / "my pipelines.py"
        path.write_text(dedent(source), "utf-8")
        return path

    return write


FILE = """\
from __future__ import annotations

from dataclasses import dataclass

from stageflow import Pipeline, StageKind
from stageflow.pipeline.builders import PipelineBuilder

async def work(ctx): ...

async def reads(ctx):
    return ctx.inputs.get_from("a", "x")

@dataclass
class Needs:  # looks its module up
    x: int

good = Pipeline().with_stage("a", work, StageKind.WORK)
again = good
bad = good.with_stage("b", reads, StageKind.WORK)
_private = Pipeline()

def chat_pipeline(size=1, *args, **options):
    return Pipeline().with_stage("x", work, StageKind.WORK, ["y"])

def create_other() -> Pipeline:
    return good

def create_builder() -> PipelineBuilder:
    return PipelineBuilder().with_stage("q", reads)

def create_database():
    raise RuntimeError("not called")

def needs_pipeline(size):
    raise RuntimeError("not called")

async def async_pipeline():
    return good
"""


def test_a_file_names_pipeline_and_stage(write):
    before = [*sys.path], {*sys.modules}
    path = write(FILE)
    result = lint_pipeline_file(path)
    assert shown(result) == [
        ("error", "bad.b", "a"),
        ("warning", "bad.a", None),
        ("warning", "bad.b", None),
        ("error", "chat_pipeline.x", "y"),
        ("error", "create_builder.q", "a"),
    ]
    (first, *_) = result.issues
    assert first.line_number == 11
    assert first.where == f"{path.resolve()}:11"
    assert (result.stage_count, result.dependency_count) == (1 + 2 + 1 + 1, 1)
    assert not result.valid
    assert ([*sys.path], {*sys.modules}) == before
    assert shown(lint_pipeline_file(str(path))) == shown(result)


def test_a_file_may_import_its_neighbour(write, tmp_path):
    (tmp_path / "lint_test_neighbour.py").write_text(
        "from stageflow import Pipeline\npipeline = Pipeline()\n", "utf-8"
    )
    path = write("from lint_test_neighbour import pipeline\n")
    try:
        assert shown(lint_pipeline_file(path)) == [("error", "pipeline.<module>", None)]
    finally:
        sys.modules.pop("lint_test_neighbour", None)


def test_two_files_may_be_looked_at_at_once(write, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(
        "from stageflow import Pipeline\npipeline = Pipeline()\nimport sys\nsys.path.pop(0)\n", "utf-8"
    )
    before = [*sys.path]
    with pipelines_in(write(FILE)) as found, pipelines_in(other) as more:
        assert len(found) == 4
        assert [*more] == ["pipeline"]
    assert [*sys.path] == before


def test_a_file_without_pipelines_is_valid_with_a_warning(write):
    result = lint_pipeline_file(write("x = 1\n"))
    assert result.valid
    assert [issue.code for issue in result.warnings] == ["SF-LINT-NO-PIPELINE"]


def test_a_missing_file():
    with pytest.raises(FileNotFoundError) as caught:
        lint_pipeline_file("nowhere.py")
    assert isinstance(caught.value, PipelineFileNotFoundError)
    assert isinstance(caught.value, ConfigurationError)
    assert caught.value.code == "SF-CONFIG-TARGET"
    with pytest.raises(FileNotFoundError):
        lint_pipeline_file(Path(__file__).parent)
    with pytest.raises(ArgumentTypeError):
        lint_pipeline_file(None)


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        ("x = 1\ndef f(:\n", "SyntaxError", 2),
        ("\nimport nothing_of_the_kind\n", "ModuleNotFoundError", 2),
        ("raise SystemExit(3)\n", "SystemExit", 1),
        ("def my_pipeline():\n    return 1 / 0\n", "ZeroDivisionError", 2),
        ("x = '\udc80'\n", "SyntaxError", None),
    ],
    ids=["syntax", "import", "exit", "factory", "encoding"],
)
def test_a_file_that_does_not_run(tmp_path, source, reason, line):
    path = tmp_path / "broken.py"
    path.write_bytes(source.encode("utf-8", "surrogateescape"))
    before = [*sys.path], {*sys.modules}
    with pytest.raises(ImportError, match=reason) as caught:
        lint_pipeline_file(path)
    assert isinstance(caught.value, PipelineFileError)
    assert caught.value.code == "SF-CONFIG-TARGET"
    if line is not None:
        assert caught.value.line == line
        assert caught.value.where == f"{path}:{line}"
    assert ([*sys.path], {*sys.modules}) == before


def test_issues_are_values():
    issue = DependencyIssue("a", "b", IssueSeverity.INFO)
    assert str(issue) == "[INFO] a: b"
    with pytest.raises(dataclasses.FrozenInstanceError):
        issue.message = "c"
    assert IssueSeverity("warning") is IssueSeverity.WARNING
