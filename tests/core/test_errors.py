"""The error tree: codes, messages, relations and pickles of every class in ``stageflow.errors``."""

from __future__ import annotations

import asyncio
import builtins
import copy
import importlib
import inspect
import pickle
import pkgutil
import re
from pathlib import Path
from uuid import UUID

import pytest
import stageflow
import stageflow.errors as module
from stageflow import Pipeline, PipelineResults, StageKind, StageOutput
from stageflow.errors import (
    AmbiguousKeyError,
    BuildProblem,
    CircuitBreakerOpenError,
    ConfigurationError,
    ContributionConflictError,
    ContributionInvalidError,
    ContributionNotFoundError,
    CriticalInterceptorError,
    CycleDetectedError,
    EffectGateClosed,
    EffectGateDeadlock,
    ErrorClass,
    LazyImportError,
    LogicError,
    MissingExtraError,
    MissingInputError,
    OverloadError,
    PermanentError,
    PipelineCancelled,
    PipelineError,
    PipelineValidationError,
    PluginApiError,
    PluginError,
    PluginLoadError,
    PolicyError,
    RateLimitError,
    ReadOnlyDataError,
    RunError,
    RunStateError,
    RunTimeoutError,
    ServiceUnavailableError,
    StageContractError,
    StageError,
    StageExecutionError,
    StageflowError,
    StageTimeoutError,
    SystemicError,
    TransientError,
    UndeclaredDependencyError,
    close_matches,
)
from stageflow.observability import classify, is_retryable

ROOT = Path(__file__).parents[2]
RUN = UUID(int=5)
PROBLEM = BuildProblem("SF-BUILD-CYCLE", "a waits for b", fix="Remove one", stages=["a", "b"])
OTHER = BuildProblem("SF-BUILD-KIND", "no kind", fix="Use one", stages=["c"])
OUTPUTS = {"a": StageOutput.ok(x=[1])}

EXAMPLES = [
    StageflowError("It broke", where="here", fix="Mend it"),
    ConfigurationError("No such file", where="there", fix="Look"),
    MissingExtraError("The CLI", extra="cli"),
    LazyImportError("a:b", asked_by="somebody", reason="no module"),
    PluginError("It is odd", plugin="acme", distribution="acme 1.2", fix="Ask"),
    PluginLoadError("It raised", plugin="acme", fix="Ask"),
    PluginApiError("It is old", plugin="acme", fix="Ask"),
    ContributionInvalidError("It is wrong", plugin="acme", fix="Ask"),
    ContributionConflictError("Both want it", plugin="acme", fix="Ask"),
    ContributionNotFoundError("Nobody has it", plugin="acme", fix="Ask"),
    PipelineError("It does not build", where="pipeline 'p'", fix="Mend it"),
    PipelineValidationError("Two problems", problems=[PROBLEM, OTHER], pipeline="p"),
    CycleDetectedError(["a", "b", "a"], problems=[PROBLEM], pipeline="p"),
    RunError("It ended", where="run 5", fix="Look"),
    StageError("a", ValueError("so"), where="stage 'a'", fix="Look"),
    StageExecutionError("a", ValueError("so"), True, OUTPUTS, run_id=RUN, attempts=2),
    StageTimeoutError("a", 1.5),
    StageContractError("a", "It returned 5", fix="Return an output"),
    OverloadError("stage 'a'", active=2, queued=3),
    UndeclaredDependencyError("b", ["c"], "a"),
    AmbiguousKeyError("key", ["b", "c"], "a"),
    MissingInputError("b", "key", ["other"], "a"),
    ReadOnlyDataError("append()"),
    RunStateError("The run has not ended yet", where="stream", fix="Read it to its end"),
    CriticalInterceptorError("It says no", "guard"),
    CircuitBreakerOpenError("chat", "acme", 2.0),
    TransientError("Try again", where="here", fix="Wait"),
    RateLimitError("Slow down", 3.0, where="here", fix="Wait"),
    ServiceUnavailableError("Down", where="here", fix="Wait"),
    PermanentError("Unreadable", where="here", fix="Send another"),
    LogicError("Impossible", where="here", fix="Mend it"),
    SystemicError("Disk full", where="here", fix="Make room"),
    PolicyError("Forbidden", where="here", fix="Ask"),
    EffectGateClosed("a", gate="guard", reason="it says no"),
    EffectGateDeadlock("a", ["guard", "other"], pipeline="p"),
    PipelineCancelled("a", "enough", OUTPUTS, run_id=RUN),
    RunTimeoutError(2.0, OUTPUTS, run_id=RUN),
]
NAMES = [type(error).__name__ for error in EXAMPLES]
CLASSES = {
    name: one
    for name, one in vars(module).items()
    if inspect.isclass(one) and issubclass(one, BaseException) and one.__module__ == module.__name__
}
every = pytest.mark.parametrize("error", EXAMPLES, ids=NAMES)


def test_every_class_is_here_once_and_exported():
    assert sorted(NAMES) == sorted(CLASSES)
    assert set(CLASSES) <= set(module.__all__)


# --- the tree in the docstring -------------------------------------------------------------------------------------


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Read the tree off the module's docstring: for every class its parent, and what else it is said to be."""
    found: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in module.__doc__.splitlines():
        match = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+)(?: +(?:\(also an? (\w+)\))?.*)?$", line)
        if match is None or not ("──" in line or match[2] == "StageflowError"):
            continue
        depth = len(match[1]) // 4 + ("──" in line)
        del path[depth:]
        found[match[2]] = (path[-1] if path else None, match[3])
        path.append(match[2])
    return found


def test_the_drawn_tree_is_the_real_one():
    real = {
        name: next((base.__name__ for base in one.__bases__ if base.__name__ in CLASSES), None)
        for name, one in CLASSES.items()
    }
    assert {name: parent for name, (parent, _) in drawn().items()} == real


def test_the_drawn_relations_to_builtin_errors_are_the_real_ones():
    said = {name: also for name, (_, also) in drawn().items()}
    for name, one in CLASSES.items():
        others = [
            base.__name__ for base in one.__bases__ if base.__name__ not in CLASSES and base is not Exception
        ]
        assert others == ([] if said[name] is None else [said[name]]), name
        if said[name]:
            assert issubclass(one, getattr(builtins, said[name]))


def defined_elsewhere() -> list[type[StageflowError]]:
    """Return the classes under ``StageflowError`` of all other modules of the package."""
    for found in pkgutil.walk_packages(stageflow.__path__, "stageflow."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    classes: set[type[StageflowError]] = set()
    rest: list[type[StageflowError]] = [StageflowError]
    while rest:
        children = rest.pop().__subclasses__()
        classes.update(children)
        rest += children
    return [
        one
        for one in classes
        if one.__module__.startswith("stageflow.") and one.__module__ != module.__name__
    ]


def test_the_classes_of_other_rooms_are_listed_where_they_are_defined():
    said: set[str] = set()
    room = ""
    for line in module.__doc__.splitlines():
        if line.startswith("    stageflow."):
            room = line.strip()
        elif room and (match := re.match(r"    [├└]── (\w+\([\w, ]+\))  +\S", line)):
            said.add(f"{room}.{match[1]}")
    assert said == {
        f"{one.__module__}.{one.__name__}({', '.join(base.__name__ for base in one.__bases__)})"
        for one in defined_elsewhere()
    }


# --- codes ---------------------------------------------------------------------------------------------------------


def test_every_class_has_a_code_of_its_own():
    """But for ``StageExecutionError``, which is the ``StageError`` that ends a run."""
    own = {name: vars(one)["code"] for name, one in CLASSES.items() if "code" in vars(one)}
    assert len(set(own.values())) == len(own)
    assert set(CLASSES) - set(own) == {"StageExecutionError"}
    assert StageExecutionError.code == StageError.code


def test_codes_of_the_classes_of_other_rooms_are_their_own_too():
    """One code is for every target that does not resolve, whoever looked for it."""
    codes = [
        one.code
        for one in {*CLASSES.values(), *defined_elsewhere()}
        if vars(one).get("code", "SF-CONFIG-TARGET") != "SF-CONFIG-TARGET"
    ]
    assert len(set(codes)) == len(codes) > len(CLASSES) - 2


def test_the_page_of_a_class_names_it():
    for one in {*CLASSES.values(), *defined_elsewhere()}:
        page = ROOT / "docs/reference/errors" / f"{one.code}.md"
        assert page.is_file(), one
        assert page.read_text("utf-8").startswith(f"# {one.code}")
        assert one.__name__ in page.read_text("utf-8"), f"{page.name} does not name {one.__name__}"


@every
def test_codes_say_which_branch_they_are_in_and_have_a_page(error):
    assert re.fullmatch(r"SF(-[A-Z]+)+", error.code)
    prefix = {
        ConfigurationError: "SF-CONFIG",
        PluginError: "SF-PLUGIN",
        PipelineError: "SF-BUILD",
        RunError: "SF-RUN",
    }
    for branch, start in prefix.items():
        assert error.code.startswith(start) == isinstance(error, branch)
    page = ROOT / "docs/reference/errors" / f"{type(error).code}.md"
    assert page.is_file()
    assert page.read_text("utf-8").startswith(f"# {type(error).code}")


def test_a_pipeline_with_one_kind_of_problem_has_its_code():
    assert PipelineValidationError("x", problems=[OTHER]).code == "SF-BUILD-KIND"
    assert PipelineValidationError("x", problems=[OTHER, OTHER]).code == "SF-BUILD-KIND"
    assert PipelineValidationError("x", problems=[OTHER, PROBLEM]).code == "SF-BUILD-INVALID"
    assert PipelineValidationError("x").code == "SF-BUILD-INVALID"
    assert StageflowError("x", code="SF-ACME").code == "SF-ACME"
    assert StageflowError.code == "SF-ERROR"
    assert StageflowError("x", code="ACME-1").docs == ""


# --- messages ------------------------------------------------------------------------------------------------------


@every
def test_a_message_says_what_and_where_and_what_to_do_and_names_the_page(error):
    text = str(error)
    assert text.startswith(f"[{error.code}] ")
    assert error.what.rstrip(".!?:") in text
    assert error.what == str(error.args[0])
    if error.where:
        assert error.where in text
    if isinstance(error, PipelineValidationError):
        assert all(problem.message in text and problem.fix in text for problem in error.problems)
        assert all(f"docs/reference/errors/{problem.code}.md" in text for problem in error.problems)
    else:
        assert f"What to do: {error.fix}" in text
        assert f"Docs: docs/reference/errors/{error.code}.md" in text
        assert error.docs == f"docs/reference/errors/{error.code}.md"
        assert error.fix
    assert ".." not in text.replace("...", "")
    assert error.where or isinstance(error, (MissingExtraError, ReadOnlyDataError, CircuitBreakerOpenError))


def test_a_message_without_place_and_advice_has_no_empty_parts():
    assert str(StageflowError("It broke")) == "[SF-ERROR] It broke. Docs: docs/reference/errors/SF-ERROR.md"
    assert str(StageflowError("Really?", fix="Yes!")).startswith("[SF-ERROR] Really? What to do: Yes! Docs:")


def test_errors_name_what_they_are_about():
    assert "'acme' (acme 1.2)" in str(PluginError("x", plugin="acme", distribution="acme 1.2"))
    assert "pip install 'stageflow-core[cli]'" in str(MissingExtraError("The CLI", extra="cli"))
    assert "run 00000000-0000-0000-0000-000000000005" in str(PipelineCancelled("a", "", run_id=RUN))
    assert "no reason given" in str(PipelineCancelled("a", ""))
    assert "from outside" in str(PipelineCancelled(PipelineCancelled.EXTERNAL, "x"))
    assert "after 3 attempts" in str(StageExecutionError("a", ValueError(), attempts=3))
    assert "ValueError" in str(StageExecutionError("a", ValueError()))
    inner = StageContractError("b", "It returned 5", fix="Return an output")
    assert str(StageExecutionError("a", inner)).count("[SF-") == 1
    assert "Return an output" in str(StageExecutionError("a", inner))
    assert "1500ms" in str(StageTimeoutError("a", 1.5))


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("gret", ["greet", "shout"], "Did you mean 'greet'?"),
        ("gree", ["greet", "green"], "Did you mean 'greet' or 'green'?"),
        ("zzz", ["greet"], ""),
        ("", ["greet"], ""),
        ("x", [], ""),
    ],
    ids=["one", "two", "none near", "empty", "nothing known"],
)
def test_close_matches(name, known, hint):
    assert close_matches(name, known) in {hint, hint.replace("'greet' or 'green'", "'green' or 'greet'")}
    assert close_matches(name, iter(known)) == close_matches(name, dict.fromkeys(known))


# --- what is worth another attempt -----------------------------------------------------------------------------------


@every
def test_what_an_error_says_of_itself_is_what_the_taxonomy_says(error):
    assert isinstance(error.error_class, ErrorClass)
    assert classify(error) is (
        classify(error.original) if isinstance(error, StageError) else error.error_class
    )
    if not isinstance(error, StageError):
        assert error.retryable is (error.error_class is ErrorClass.TRANSIENT)
        assert is_retryable(error) is error.retryable


@pytest.mark.parametrize(
    "error",
    [
        OverloadError("stage 'a'", active=1, queued=0),
        TransientError("x"),
        RateLimitError("x"),
        ServiceUnavailableError("x"),
        StageTimeoutError("a", 1),
        RunTimeoutError(1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_work_in_a_moment(error):
    assert error.retryable
    assert error.error_class is ErrorClass.TRANSIENT


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "recoverable"),
    [
        (RateLimitError("x", 1.0), True),
        (TransientError("x"), True),
        (ConnectionError("x"), True),
        (TimeoutError("x"), True),
        (PermanentError("x"), False),
        (PolicyError("x"), False),
        (SystemicError("x"), False),
        (ValueError("x"), False),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_failed_stage_is_recoverable_if_its_error_is(error, recoverable):
    async def fails(ctx):
        raise error

    results = await Pipeline().with_stage("a", fails, StageKind.WORK).run(raise_errors=False)
    assert results.error.original is error
    assert results.error.recoverable is recoverable
    assert results.error.retryable is recoverable
    if isinstance(error, StageflowError):
        assert results.error.error_class is error.error_class


# --- pickles and copies ----------------------------------------------------------------------------------------------


def same(value, other):
    """Say whether two attributes say the same; exceptions and problems have no ``==``."""
    if isinstance(value, BaseException):
        return type(value) is type(other) and value.args == other.args
    if isinstance(value, tuple):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, BuildProblem):
        return repr(value) == repr(other) and value.fix == other.fix
    return value == other


COPIES = {
    **{
        f"pickle {p}": lambda error, p=p: pickle.loads(pickle.dumps(error, p))
        for p in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@every
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_errors_pickle_and_copy_with_all_their_attributes(error, copied):
    error.add_note("a note")
    try:
        other = copied(error)
    finally:
        del error.__notes__
    assert other is not error
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert other.args == error.args
    assert other.__notes__ == ["a note"]
    mine, others = vars(error), {key: value for key, value in vars(other).items() if key != "__notes__"}
    assert mine.keys() == others.keys()
    assert all(same(mine[key], others[key]) for key in mine)
    assert (other.code, other.docs, other.retryable) == (error.code, error.docs, error.retryable)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_an_error_whose_results_hold_the_error_itself(copied):
    error = StageExecutionError("a", ValueError("so"), run_id=RUN)
    error.results = PipelineResults({"a": StageOutput.fail("so")}, error=error, run_id=RUN)
    other = copied(error)
    if copied is copy.copy:
        assert other.results is error.results
        return
    assert other.results.error is other
    assert other.results["a"] == error.results["a"]
    assert isinstance(other.original, ValueError)


@pytest.mark.asyncio
@pytest.mark.parametrize("ending", ["fail", "raise", "cancel", "time out"])
async def test_what_a_run_raises_pickles(ending):
    async def ok(ctx):
        return {"x": [1, {2}]}

    async def ends(ctx):
        if ending == "raise":
            raise ValueError("so")
        if ending == "time out":
            await asyncio.sleep(60)
        return {"fail": StageOutput.fail, "cancel": StageOutput.cancel}[ending]("so")

    pipeline = (
        Pipeline("p").with_stage("ok", ok, StageKind.WORK).with_stage("ends", ends, StageKind.WORK, ["ok"])
    )
    with pytest.raises(RunError) as caught:
        await pipeline.run(timeout=0.01 if ending == "time out" else None)
    other = pickle.loads(pickle.dumps(caught.value))
    assert str(other) == str(caught.value)
    assert other.results == caught.value.results
    assert other.results.error is other
    assert other.run_id == caught.value.run_id


def test_errors_are_caught_as_what_else_they_are():
    for error, name in zip(EXAMPLES, NAMES, strict=True):
        also = drawn()[name][1]
        if also is not None:
            with pytest.raises(getattr(builtins, also)):
                raise error
            error.__traceback__ = None


def test_build_problems_say_what_they_are():
    assert "SF-BUILD-CYCLE" in repr(PROBLEM)
    assert str(PROBLEM) == "[SF-BUILD-CYCLE] a waits for b. What to do: Remove one."
    error = PipelineValidationError("Two problems", problems=[PROBLEM, OTHER], pipeline="p")
    assert error.stages == ("a", "b", "c")
    assert error.to_dict() == {
        "code": "SF-BUILD-INVALID",
        "message": "Two problems",
        "pipeline": "p",
        "stages": ["a", "b", "c"],
        "problems": [
            {"code": "SF-BUILD-CYCLE", "message": "a waits for b", "fix": "Remove one", "stages": ["a", "b"]},
            {"code": "SF-BUILD-KIND", "message": "no kind", "fix": "Use one", "stages": ["c"]},
        ],
    }
    cycle = CycleDetectedError(["a", "b", "a"])
    assert (cycle.cycle_path, cycle.stages) == (("a", "b", "a"), ("a", "b"))
