"""Real distributions, built to wheels and installed with pip in one place: what is wrong with each, and nobody else.

Every message is asserted whole, wherever it is said: in the log, in the report, in strict mode, where a pipeline that
needs the plugin is built, and by ``stageflow plugins`` and ``stageflow doctor``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.timeout(120)

ASK = Path(__file__).with_name("distributions") / "ask.py"


class Fault(NamedTuple):
    plugin: str
    release: str
    code: str
    what: str
    fix: str

    @property
    def state(self) -> str:
        return {"SF-PLUGIN-API": "incompatible", "SF-PLUGIN-CONFLICT": "conflicting"}.get(self.code, "failed")

    @property
    def verb(self) -> str:
        return "has failed" if self.state == "failed" else f"is {self.state}"

    @property
    def origin(self) -> str:
        return f"plugin '{self.plugin}' ({self.release})"

    @property
    def module(self) -> str:
        special = {"attribute": "acme_attribute:plugin", "pathless": "acme_pathless.plugin"}
        return special.get(self.plugin) or self.release.partition(" ")[0].replace("-", "_")

    @property
    def reason(self) -> str:
        return full(self.what)

    @property
    def cure(self) -> str:
        return full(self.fix)

    def message(self, where: str = "Where: {origin}. ") -> str:
        """Return the error as it is logged and raised."""
        return (
            f"[{self.code}] {self.reason} {where.format(origin=self.origin)}What to do: {self.cure} "
            f"Docs: docs/reference/errors/{self.code}.md"
        )


def full(text: str) -> str:
    return text if text[-1] in ".?" else f"{text}."


def load(plugin: str, what: str, fix: str = "", *, code: str = "SF-PLUGIN-LOAD") -> Fault:
    tell = f"Update acme-{plugin} or tell its authors, or disable it with STAGEFLOW_DISABLED_PLUGINS={plugin}"
    return Fault(plugin, f"acme-{plugin} 1.0", code, what, fix or tell)


def raised(plugin: str, what: str, fix: str = "") -> Fault:
    return load(plugin, f"Importing 'acme_{plugin}' raised {what}", fix)


def in_hook(plugin: str, what: str, fix: str = "") -> Fault:
    return load(plugin, f"Hook 'stageflow_stages' {what}", fix, code="SF-PLUGIN-CONTRIBUTION")


def missing(plugin: str, module: str, fix: str) -> Fault:
    fix = f"{fix}, or disable it with STAGEFLOW_DISABLED_PLUGINS={plugin}"
    return raised(plugin, f"ModuleNotFoundError: No module named '{module}'", fix)


NOVEL = f"[2J [31mred {'and so on ' * 100}"
"""What is left of a message without the signs that a terminal would take for commands."""

ALONE = [
    raised("raises", "RuntimeError: no license for this machine"),
    raised("exits", "SystemExit: 3"),
    raised("groups", "BaseExceptionGroup: two at once (2 sub-exceptions)"),
    raised("spiteful", "SpitefulError: (it cannot say what)"),
    raised("chatty", f"ValueError: {NOVEL[:297]}..."),
    raised("recursion", "RecursionError: maximum recursion depth exceeded"),
    raised("syntax", "SyntaxError: invalid syntax (acme_syntax.py, line 1)"),
    missing("needy", "acme_absent", "Install what acme-needy declares: pip install 'acme-absent>=1.2'"),
    missing(
        "optional",
        "acme_turbo",
        "Install the extra 'fast' of acme-optional, which brings it: pip install 'acme-optional[fast]'",
    ),
    missing(
        "undeclared",
        "acme_nowhere",
        "Install the package that provides 'acme_nowhere', which acme-undeclared needs and does not declare",
    ),
    load(
        "pathless",
        "Importing 'acme_pathless.plugin' raised ModuleNotFoundError: No module named 'acme_pathless'",
        "Reinstall acme-pathless, whose metadata names a module that is not there, or disable it with "
        "STAGEFLOW_DISABLED_PLUGINS=pathless",
    ),
    load(
        "attribute",
        "Its entry point names 'acme_attribute:plugin', which is not a module",
        "Write the entry point as 'attribute = \"package.plugin\"'",
    ),
    load(
        "deletes",
        "Importing 'acme_deletes' took 'json', 'stageflow.errors' and 'stageflow.plugins.contributions' out of "
        "sys.modules, where they are again",
    ),
    load("misspelt", "'stageflow_stage' is not a hook", "Did you mean 'stageflow_stages'?"),
    load(
        "asynchronous",
        "'stageflow_stages' is async, and hooks are sync",
        "Write 'def', return records, and await in what they name: a stage, a sink, a tool",
    ),
    in_hook("hook-raises", "raised LookupError: no catalogue"),
    in_hook("hook-exits", "raised SystemExit: no catalogue"),
    in_hook(
        "wrong-type",
        "returned a dict, where a list of StageContribution is expected",
        "Return [StageContribution(...)]",
    ),
    in_hook(
        "wrong-kind",
        "returned a list with a SinkContribution, where StageContribution is expected",
        "Return [StageContribution(...)]",
    ),
    in_hook(
        "foreign",
        "returned a bad name: stage 'sound.greet' belongs to plugin 'sound', not to 'foreign'",
        "Name it 'foreign.greet'",
    ),
    load(
        "newer",
        "It is written for hook API 2; this core speaks 1",
        "Install a stageflow-core that speaks hook API 2 (pip install --upgrade stageflow-core), or a release of "
        "acme-newer written for 1",
        code="SF-PLUGIN-API",
    ),
    load(
        "older",
        "It is written for hook API 0; this core speaks 1",
        "Install a release of acme-older written for hook API 1: pip install --upgrade acme-older",
        code="SF-PLUGIN-API",
    ),
    load(
        "unnumbered",
        "stageflow_api_version is '1', where a whole number is expected",
        "Write stageflow_api_version = 1 in acme_unnumbered",
        code="SF-PLUGIN-API",
    ),
    Fault(
        "Mis named",
        "acme-misnamed 1.0",
        "SF-PLUGIN-LOAD",
        "'Mis named' is not a name for a plugin",
        "Name its entry point with lower-case letters, digits, '-' and '_', starting with a letter",
    ),
    Fault(
        "core",
        "acme-usurper 1.0",
        "SF-PLUGIN-CONFLICT",
        "The plugin name 'core' belongs to Stageflow itself",
        "Uninstall acme-usurper, or ask its authors for another entry-point name",
    ),
]


def keep(distribution: str) -> str:
    return (
        f"Keep one: set STAGEFLOW_DISABLED_PLUGINS={distribution}, or list '{distribution}' under plugins.disabled in "
        "the configuration; or do so with the other"
    )


def pair(*parties: tuple[str, str], what: str, fix: str) -> list[Fault]:
    return [Fault(plugin, release, "SF-PLUGIN-CONFLICT", what, fix) for plugin, release in parties]


PAIRS = [
    pair(
        ("twin", "acme-twin-one 1.0"),
        ("twin", "acme-twin-two 2.0"),
        what="The plugin name 'twin' is taken more than once, by acme-twin-one 1.0 and acme-twin-two 2.0; none of them "
        "is loaded",
        fix=keep("acme-twin-two"),
    ),
    pair(
        ("rival-one", "acme-rival-one 1.0"),
        ("rival-two", "acme-rival-two 2.0"),
        what="Run store 'acme' is contributed by plugin 'rival-one' (acme-rival-one 1.0) and plugin 'rival-two' "
        "(acme-rival-two 2.0); neither is used",
        fix=keep("acme-rival-two"),
    ),
    pair(
        ("double-one", "acme-double 1.0"),
        ("double-two", "acme-double 1.0"),
        what="The module 'acme_double' is more than one plugin, 'double-one' and 'double-two', by acme-double 1.0; "
        "none of them is loaded",
        fix="Update acme-double or tell its authors",
    ),
]
FAULTS = [*ALONE, *(fault for pair in PAIRS for fault in pair)]
STILL_THERE = [
    "heavy",
    "meddles",
    "patcher",
    "prints",
    "rival-one",
    "rival-two",
    "sound",
    "unstated",
    "unversioned",
]
"""The plugins whose stages can be used; rivals are refused the one name that both want."""

UNSTATED = (
    "plugin 'unstated' (acme-unstated 1.0) is loaded: It states no stageflow_api_version, which is taken for 1. What "
    "to do: Write stageflow_api_version = 1 in acme_unstated."
)

PRINTED = "enjoy\nwelcome to acme-prints\n"
"""What a plugin prints goes to standard error, where its standard output comes when that is flushed."""


def of(fault: Fault) -> str:
    return f"{fault.plugin}, {fault.release}"


faulty = pytest.mark.parametrize("fault", FAULTS, ids=of)


@pytest.fixture(scope="module")
def program(crowd, surroundings, tmp_path_factory):
    """Call the program where they are all installed, each command line once."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "pipeline.py").write_text(
        "from stageflow import Pipeline, stage\n\n\n@stage\nasync def answer() -> int:\n    return 42\n\n\n"
        "pipeline = Pipeline.from_stages(answer)\n",
        "utf-8",
    )
    (folder / "needs.py").write_text(
        "from stageflow import Pipeline, StageKind\n\n"
        "pipeline = Pipeline().with_stage('greet', 'raises.greet', StageKind.TRANSFORM)\n",
        "utf-8",
    )
    called: dict[tuple[str, ...], subprocess.CompletedProcess[str]] = {}

    def program(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        key = (*arguments, *variables)
        if key not in called:
            called[key] = subprocess.run(
                [sys.executable, "-W", "error", "-m", "stageflow.cli", *arguments],
                cwd=folder,
                env=surroundings(crowd, **variables),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
            assert "Traceback" not in called[key].stderr
        return called[key]

    return program


@pytest.fixture(scope="module")
def told(crowd, surroundings):
    """What a host says about them, in one process."""
    names = [*dict.fromkeys([*(fault.plugin for fault in FAULTS), *STILL_THERE])]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ASK), *names],
        env=surroundings(crowd),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def messages() -> list[str]:
    """Return what is logged: a message for each fault, of which a pair shares one that names both."""
    return [*(fault.message() for fault in ALONE), *(pair[0].message("") for pair in PAIRS)]


# --- what a host says ----------------------------------------------------------------------------


def test_each_fault_is_logged_once_and_whole(told):
    assert sorted(told["logged"]) == sorted([*messages(), UNSTATED])


def test_strict_mode_raises_them_all_in_one_group(told):
    message, raised = told["strict"]
    assert message == f"{len(messages())} problems with plugins (STAGEFLOW_STRICT_PLUGINS)"
    assert sorted(raised) == sorted(messages())


def test_whoever_is_not_at_fault_contributes(told):
    assert told["stages"] == [f"{name}.greet" for name in STILL_THERE]
    assert {told["built"][name] for name in STILL_THERE} == {""}


@faulty
def test_the_report_has_the_state_with_reason_and_fix(told, fault):
    assert f"{fault.origin} {fault.verb}: {fault.reason} What to do: {fault.cure}" in told["statuses"]


@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if fault.plugin not in STILL_THERE and fault.plugin != "Mis named"],
    ids=of,
)
def test_a_pipeline_that_needs_its_stage_does_not_build_and_says_why(told, fault):
    # Of two plugins of one name the first is named; the reason names both.
    first = next(one for one in FAULTS if one.plugin == fault.plugin)
    name = f"{fault.plugin}.greet"
    assert told["built"][fault.plugin] == (
        "[SF-PLUGIN-NOT-FOUND] The pipeline does not build: 1 problem (pipeline 'pipeline'):\n"
        f"  1. [SF-PLUGIN-NOT-FOUND] Stage 'greet' names the contributed stage '{name}': No stage is named '{name}': "
        f"{first.origin} {first.verb}: {first.reason} What to do: {first.cure}\n"
        "  Docs: docs/reference/errors/SF-PLUGIN-NOT-FOUND.md"
    )


# --- stageflow plugins -----------------------------------------------------------------------------


def test_list_shows_each_in_a_row_with_the_fix_below(program):
    done = program("plugins", "list")
    assert (done.returncode, done.stderr) == (0, PRINTED)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for fault in FAULTS:
        row = lines.index(f"{fault.plugin} {fault.release} {fault.state} {fault.what}")
        assert lines[row + 1] == f"What to do: {fault.cure}"
    row = lines.index("unversioned acme-unversioned (version unknown) loaded Hook API 1")
    assert not lines[row + 1].startswith("What to do")


def test_list_as_json_is_json_although_plugins_print(program):
    done = program("plugins", "list", "--json")
    assert (done.returncode, done.stderr) == (0, PRINTED)
    found = json.loads(done.stdout)
    assert found["notices"] == []
    records = found["plugins"]
    for fault in FAULTS:
        distribution, version = fault.release.split(" ")
        record = {
            "name": fault.plugin,
            "distribution": distribution,
            "version": version,
            "state": fault.state,
        }
        assert record | {"reason": fault.what, "fix": fault.fix} in records
    states = {one["name"]: one["state"] for one in records if one["distribution"].startswith("acme-")}
    loaded = [name for name, state in states.items() if state == "loaded"]
    assert sorted(loaded) == [name for name in STILL_THERE if not name.startswith("rival")]
    (unversioned,) = [one for one in records if one["name"] == "unversioned"]
    assert unversioned["version"] is None


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.plugin != "core"], ids=of)
def test_show_and_why_name_the_plugin_the_reason_and_the_fix(told, fault):
    parties = [one for one in FAULTS if one.plugin == fault.plugin]
    stage = f"  stage {fault.plugin}.greet\n" if fault.plugin in STILL_THERE else ""
    code, out, err = told["shown"][fault.plugin]
    expected = [
        f"{one.origin}\n  state: {one.state}\n  module: {one.module}\n  reason: {one.reason}\n"
        f"  what to do: {one.cure}\n{stage}"
        for one in parties
    ]
    assert (code, out, err) == (0, "".join(expected), "")
    code, out, err = told["why"][fault.plugin]
    target = f"  stage '{fault.plugin}.greet', target 'acme_sound_stages:Greet'\n" if stage else ""
    upper = [f"P{one.origin[1:]} {one.verb}: {one.reason} What to do: {one.cure}\n" for one in parties]
    assert (code, out, err) == (0, "".join(upper) + target, "")


# --- stageflow run ---------------------------------------------------------------------------------


def test_a_pipeline_that_needs_none_of_them_runs_and_standard_error_has_no_traceback(program):
    done = program("run", "pipeline.py", "--quiet")
    assert (done.returncode, done.stdout) == (0, "42\n")
    # Only what is met on the way: nothing asks for their stages and run stores.
    met = [one for one in messages() if "Hook 'stageflow_" not in one and "Run store" not in one]
    warnings = [f"Warning: {message}" for message in [*met, UNSTATED]]
    assert sorted(done.stderr.splitlines()) == sorted([*warnings, *PRINTED.splitlines()])


def test_a_pipeline_that_needs_one_of_them_ends_with_the_reason(program):
    done = program("run", "needs.py", "--json")
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["error"]["problems"]
    assert problem["message"] == (
        "Stage 'greet' names the contributed stage 'raises.greet': No stage is named 'raises.greet': plugin 'raises' "
        "(acme-raises 1.0) has failed: Importing 'acme_raises' raised RuntimeError: no license for this machine"
    )


def test_in_strict_mode_a_run_is_stopped_by_all_of_them(program):
    done = program("run", "pipeline.py", "--quiet", "--json", STAGEFLOW_STRICT_PLUGINS="1")
    assert done.returncode == 1
    errors = json.loads(done.stdout)["errors"]
    assert len(errors) == len(messages())
    assert {error["code"] for error in errors} == {fault.code for fault in FAULTS}


# --- stageflow doctor ------------------------------------------------------------------------------


def test_doctor_as_json_has_every_problem_once(program):
    done = program("doctor", "--json")
    assert (done.returncode, done.stderr) == (1, PRINTED)
    found = json.loads(done.stdout)
    assert found["status"] == "failed"
    first = [*ALONE, *(pair[0] for pair in PAIRS)]
    expected = [{"message": f"{one.origin} {one.verb}: {one.what}", "fix": one.fix} for one in first]
    expected += [
        {
            "message": "acme-needy 1.0 needs acme-absent>=1.2, which is not installed",
            "fix": "Run: pip install 'acme-absent>=1.2'",
        },
        {
            "message": "plugin 'patcher' (acme-patcher 1.0) changes the core while it is imported: "
            "stageflow.pipeline.builder.Pipeline.with_stage",
            "fix": "Update acme-patcher or tell its authors: an interceptor does it for whoever wants it; or disable "
            "it with STAGEFLOW_DISABLED_PLUGINS=patcher",
        },
    ]
    assert sorted(found["problems"], key=str) == sorted(expected, key=str)


def test_doctor_warns_of_what_works_but_costs(program):
    found = json.loads(program("doctor", "--json").stdout)
    tell = "the module of a plugin only says what it contributes"
    heavy = [one for one in found["warnings"] if "'heavy'" in one["message"]]
    others = [one for one in found["warnings"] if one not in heavy]
    assert sorted(others, key=str) == sorted(
        [
            {
                "message": "plugin 'unstated' (acme-unstated 1.0): It states no stageflow_api_version, which is taken "
                "for 1",
                "fix": "Write stageflow_api_version = 1 in acme_unstated",
            },
            {
                "message": "plugin 'unversioned' (acme-unversioned (version unknown)): The metadata of "
                "acme-unversioned states no version",
                "fix": "Run: pip install --force-reinstall --no-deps acme-unversioned",
            },
            {
                "message": "plugin 'meddles' (acme-meddles 1.0) changes the environment variable 'ACME_MEDDLES', "
                "starts the thread 'acme-poller' and sets up logging while it is imported",
                "fix": f"Tell the authors of acme-meddles: {tell}",
            },
            {
                "message": "plugin 'prints' (acme-prints 1.0) prints 'welcome to acme-prints enjoy' while it is "
                "imported",
                "fix": f"Tell the authors of acme-prints: {tell}",
            },
            {
                "message": "plugin 'deletes' (acme-deletes 1.0) takes 'json' out of sys.modules while it is imported",
                "fix": f"Tell the authors of acme-deletes: {tell}",
            },
        ],
        key=str,
    )
    ((message, fix),) = [one.values() for one in heavy]
    record = next(one for one in found["imports"] if one["plugin"] == "heavy")
    assert message == (
        f"plugin 'heavy' (acme-heavy 1.0) takes {record['seconds']:.2f} s and {record['modules']} modules to import, "
        f"{record['packages']['numpy']} of 'numpy'"
    )
    assert fix == "Ask the authors of acme-heavy to import 'numpy' where it is used, not in acme_heavy"


def test_doctor_tells_each_import_apart(program):
    imports = {one["plugin"]: one for one in json.loads(program("doctor", "--json").stdout)["imports"]}
    sound = imports["sound"]
    assert (sound["ended"], sound["effects"], sound["patches"]) == (True, [], [])
    assert sound["packages"] == {"acme_sound": 1}  # nothing but itself: what the hooks need is there
    assert "twin" not in imports  # refused by their names, they are not even tried


def test_doctor_as_text_says_the_same(program):
    done = program("doctor")
    assert (done.returncode, done.stderr) == (1, PRINTED)
    found = json.loads(program("doctor", "--json").stdout)
    lines = done.stdout.splitlines()
    start = lines.index(f"Found {len(found['problems'])} problems:") + 1
    assert lines[start:] == [
        f"  {number}. {full(one['message'])} What to do: {full(one['fix'])}"
        for number, one in enumerate(found["problems"], 1)
    ]
    assert f"Found {len(found['warnings'])} warnings:" in lines


# --- help ------------------------------------------------------------------------------------------


def test_help_names_them_and_imports_none(program):
    done = program("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "Plugins:\n  Mis named, asynchronous, attribute, chatty, deletes, exits, foreign, groups,\n"
        "  heavy, hook-exits and 23 more. 'python -m stageflow.cli --help-all'" in done.stdout
    )
