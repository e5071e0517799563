"""What each kind of broken plugin ends as, and the whole message that says so."""

import sys
import traceback

import pytest

GOOD = """
@hookimpl
def stageflow_stages(context):
    return [StageContribution(name="good.greet", target="good_stages:Greet", kind="transform")]
"""

DISABLE = "disable it with STAGEFLOW_DISABLED_PLUGINS=bad"


def load_error(what: str, fix: str, *, release: str = "dist-bad 1.0", code: str = "SF-PLUGIN-LOAD") -> str:
    return f"[{code}] {what}. Where: plugin 'bad' ({release}). What to do: {fix}. Docs: docs/reference/errors/{code}.md"


def invalid(what: str, fix: str) -> str:
    return load_error(what, fix, code="SF-PLUGIN-CONTRIBUTION")


TELL = f"Update dist-bad or tell its authors, or {DISABLE}"
ORDERED = "Write a plain @hookimpl; interceptors are ordered by priority, before and after"
SYNC = "Write 'def', return records, and await in what they name: a stage, a sink, a tool"

AT_LOAD = {
    "raises on import": (
        "raise ValueError('two\\nlines')",
        load_error("Importing 'dist_bad_plugin' raised ValueError: two lines", TELL),
    ),
    "exits on import": (
        "raise SystemExit(3)",
        load_error("Importing 'dist_bad_plugin' raised SystemExit: 3", TELL),
    ),
    "misses a dependency": (
        "import nobody_has_this.part",
        load_error(
            "Importing 'dist_bad_plugin' raised ModuleNotFoundError: No module named 'nobody_has_this'",
            "Install the package that provides 'nobody_has_this', which dist-bad needs and does not declare, or "
            f"{DISABLE}",
        ),
    ),
    "is no module": (
        "import sys\nsys.modules[__name__] = 7",
        load_error(
            "Importing 'dist_bad_plugin' gave int 7, not a module", "Let dist_bad_plugin be a plain module"
        ),
    ),
    "cannot be inspected": (
        "@hookimpl\ndef stageflow_sinks(context): ...\nstageflow_sinks.__signature__ = 7",
        load_error(
            "Registering 'dist_bad_plugin' raised TypeError: unexpected object 7 in __signature__ attribute",
            TELL,
        ),
    ),
    "misspells a hook": (
        "@hookimpl\ndef stageflow_stage(context): ...",
        load_error(
            "'stageflow_stage' is not a hook",
            "Did you mean 'stageflow_stages'?",
        ).replace("?.", "?"),
    ),
    "has an async hook": (
        "@hookimpl\nasync def stageflow_stages(context): ...",
        load_error("'stageflow_stages' is async, and hooks are sync", SYNC),
    ),
    "has an async generator": (
        "@hookimpl\nasync def stageflow_stages(context): yield 1",
        load_error("'stageflow_stages' is async, and hooks are sync", SYNC),
    ),
    "wraps a hook": (
        """
        import pluggy
        @pluggy.HookimplMarker("stageflow")(wrapper=True)
        def stageflow_stages(context):
            return (yield)
        """,
        load_error("'stageflow_stages' uses wrapper, which order calls, not contributions", ORDERED),
    ),
    "wants to be first": (
        """
        import pluggy
        @pluggy.HookimplMarker("stageflow")(tryfirst=True, trylast=True)
        def stageflow_sinks(context): ...
        """,
        load_error(
            "'stageflow_sinks' uses tryfirst and trylast, which order calls, not contributions", ORDERED
        ),
    ),
    "takes other arguments": (
        "@hookimpl\ndef stageflow_tools(registry, context): ...",
        load_error(
            "'stageflow_tools' takes 'registry', which no hook is given",
            "Write 'def stageflow_tools(context)', or leave the argument out",
        ),
    ),
    "forgets the mark": (
        "def stageflow_tools(context): ...",
        load_error(
            "'stageflow_tools' is not marked as a hook", "Write @hookimpl above 'def stageflow_tools'"
        ),
    ),
    "does two things wrong": (
        "def stageflow_tools(context): ...\n@hookimpl\nasync def stageflow_sinks(): ...",
        load_error(
            "'stageflow_tools' is not marked as a hook; 'stageflow_sinks' is async, and hooks are sync",
            f"Write @hookimpl above 'def stageflow_tools'; {SYNC}",
        ),
    ),
}

IN_A_HOOK = {
    "raises in a hook": (
        "raise KeyError('x')",
        invalid("Hook 'stageflow_stages' raised KeyError: 'x'", TELL),
    ),
    "exits in a hook": (
        "raise SystemExit",
        invalid("Hook 'stageflow_stages' raised SystemExit", TELL),
    ),
    "raises in a generator": (
        "yield StageContribution(name='bad.x', target='m:x', kind='work')\n    1 / 0",
        invalid("Hook 'stageflow_stages' raised ZeroDivisionError: division by zero", TELL),
    ),
    "returns None": (
        "return None",
        invalid("Hook 'stageflow_stages' returned None", "Return a list; an empty one for nothing"),
    ),
    "returns a string": (
        "return 'bad.x'",
        invalid(
            "Hook 'stageflow_stages' returned a str, where a list of StageContribution is expected",
            "Return [StageContribution(...)]",
        ),
    ),
    "returns a lone record": (
        "return StageContribution(name='bad.x', target='m:x', kind='work')",
        invalid(
            "Hook 'stageflow_stages' returned a StageContribution, where a list of StageContribution is expected",
            "Return [StageContribution(...)]",
        ),
    ),
    "returns another hook's records": (
        "return [SinkContribution(name='bad.x', target='m:x')]",
        invalid(
            "Hook 'stageflow_stages' returned a list with a SinkContribution, where StageContribution is expected",
            "Return [StageContribution(...)]",
        ),
    ),
    "uses a name of another plugin": (
        "return [StageContribution(name='good.x', target='m:x', kind='work')]",
        invalid(
            "Hook 'stageflow_stages' returned a bad name: stage 'good.x' belongs to plugin 'good', not to 'bad'",
            "Name it 'bad.x'",
        ),
    ),
    "uses a bare name": (
        "return [StageContribution(name='x', target='m:x', kind='work')]",
        invalid(
            "Hook 'stageflow_stages' returned a bad name: stage 'x' has a bare name, which only the core may use",
            "Name it 'bad.x'",
        ),
    ),
    "uses a name twice": (
        "return [StageContribution(name='bad.x', target='m:x', kind='work')] * 2",
        invalid("Hook 'stageflow_stages' returned the stage 'bad.x' twice", "Return each name once"),
    ),
    "breaks the grammar": (
        "return [StageContribution(name='Bad.X', target='m:x', kind='work')]",
        invalid(
            "Hook 'stageflow_stages' returned nothing, because of a bad record: 'Bad.X' is not a name for a stage",
            "Write 'owner.thing', both of lower-case letters, digits, '-' and '_', starting with a letter",
        ),
    ),
}


@pytest.mark.parametrize(("source", "message"), AT_LOAD.values(), ids=list(AT_LOAD))
def test_a_plugin_that_cannot_be_admitted_fails_alone_and_says_why_once(site, warned, source, message):
    site.install("bad", source)
    site.install("good", GOOD)
    host = site.host()
    assert [(s.candidate.name, s.state) for s in host.load().external] == [
        ("bad", "failed"),
        ("good", "loaded"),
    ]
    assert list(host.stages()) == ["good.greet"]
    assert "timeout" in host.interceptors()
    assert host.load() == host.report
    assert warned == [message]


@pytest.mark.parametrize(("body", "message"), IN_A_HOOK.values(), ids=list(IN_A_HOOK))
def test_a_hook_that_breaks_its_contract_contributes_nothing_and_hides_nobody(site, warned, body, message):
    site.install("bad", f"@hookimpl\ndef stageflow_stages():\n    {body}\n")
    site.install("good", GOOD)
    host = site.host()
    assert list(host.stages()) == ["good.greet"]
    assert [(s.candidate.name, s.state) for s in host.report.external] == [
        ("bad", "failed"),
        ("good", "loaded"),
    ]
    assert warned == [message]


def test_the_traceback_of_a_failed_import_is_kept(site):
    site.install("bad", "def boom():\n    raise RuntimeError('here')\nboom()")
    (status,) = site.host().load().external
    (error,) = status.errors
    frames = traceback.extract_tb(error.__cause__.__traceback__)
    assert frames[-1].name == "boom"


def test_keyboard_interrupts_are_not_the_plugins_to_swallow(site):
    site.install("bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.host().load()


def test_a_hook_that_fails_costs_the_plugin_only_what_that_hook_contributes(site, warned):
    site.install(
        "bad",
        """
        @hookimpl
        def stageflow_stages():
            raise ValueError("boom")
        @hookimpl
        def stageflow_tools():
            return [ToolContribution(name="bad.tool", target="m:t")]
        @hookimpl
        def stageflow_sinks():
            return 7
        """,
    )
    host = site.host()
    assert list(host.tools()) == ["bad.tool"]
    assert warned == []
    (status,) = host.report.external
    assert status.reason == (
        "Hook 'stageflow_stages' raised ValueError: boom; "
        "Hook 'stageflow_sinks' returned an int, where a list of SinkContribution is expected"
    )
    assert len(warned) == 2


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (
            "2",
            load_error(
                "It is written for hook API 2; this core speaks 1",
                "Install a stageflow-core that speaks hook API 2 (pip install --upgrade stageflow-core), "
                "or a release of dist-bad written for 1",
                code="SF-PLUGIN-API",
            ),
        ),
        (
            "0",
            load_error(
                "It is written for hook API 0; this core speaks 1",
                "Install a release of dist-bad written for hook API 1: pip install --upgrade dist-bad",
                code="SF-PLUGIN-API",
            ),
        ),
        (
            "'1'",
            load_error(
                "stageflow_api_version is '1', where a whole number is expected",
                "Write stageflow_api_version = 1 in dist_bad_plugin",
                code="SF-PLUGIN-API",
            ),
        ),
    ],
    ids=["newer", "older", "not a number"],
)
def test_a_plugin_of_another_hook_api_is_incompatible_whatever_its_hooks_look_like(
    site, warned, stated, message
):
    site.install("bad", "@hookimpl\ndef stageflow_of_the_future(a, b): ...", api=stated)
    (status,) = site.host().load().external
    assert status.state == "incompatible"
    assert warned == [message]


def test_a_plugin_that_states_no_hook_api_is_taken_for_version_1_with_a_warning(site, warned):
    site.install("good", GOOD, api=None)
    host = site.host(strict=True)
    assert list(host.stages()) == ["good.greet"]
    assert warned == [
        (
            "plugin 'good' (dist-good 1.0) is loaded: It states no stageflow_api_version, which is taken for 1. "
            "What to do: Write stageflow_api_version = 1 in dist_good_plugin."
        )
    ]


def test_metadata_without_a_version_is_no_reason_to_fail(site, warned):
    site.install("good", GOOD, version=None)
    host = site.host()
    assert (
        str(host.stages()["good.greet"])
        == "stage 'good.greet' of plugin 'good' (dist-good (version unknown))"
    )
    assert host.report.to_dict() == {
        "plugins": [
            {
                "name": "good",
                "distribution": "dist-good",
                "version": None,
                "state": "loaded",
                "reason": "Hook API 1",
                "fix": None,
            }
        ]
    }
    assert warned == []


def test_metadata_that_names_a_missing_module_says_to_reinstall(site, warned):
    site.install("bad", None, entry_points={"bad": "bad_package.plugin"})
    site.host().load()
    assert warned == [
        load_error(
            "Importing 'bad_package.plugin' raised ModuleNotFoundError: No module named 'bad_package'",
            f"Reinstall dist-bad, whose metadata names a module that is not there, or {DISABLE}",
        )
    ]


def test_an_entry_point_that_names_no_module_is_not_imported(site, warned):
    module = site.install("bad", GOOD, entry_points={"bad": "dist_bad_plugin:thing"})
    site.host().load()
    assert module not in sys.modules
    assert warned == [
        load_error(
            "Its entry point names 'dist_bad_plugin:thing', which is not a module",
            "Write the entry point as 'bad = \"package.plugin\"'",
        )
    ]


def test_one_entry_point_name_from_two_distributions_refuses_both_before_import(site, warned):
    modules = [site.install("bad", GOOD, distribution=name) for name in ("fork", "origin")]
    host = site.host()
    assert [s.state for s in host.load().external] == ["conflicting", "conflicting"]
    assert not set(modules) & set(sys.modules)
    assert warned == [
        (
            "[SF-PLUGIN-CONFLICT] The plugin name 'bad' is taken more than once, by fork 1.0 and origin 1.0; none of "
            "them is loaded. What to do: Keep one: set STAGEFLOW_DISABLED_PLUGINS=origin, or list 'origin' under "
            "plugins.disabled in the configuration; or do so with the other. Docs: "
            "docs/reference/errors/SF-PLUGIN-CONFLICT.md"
        )
    ]


def test_a_conflict_ends_when_one_distribution_is_disabled(site, warned):
    for name in ("fork", "origin"):
        site.install("good", GOOD, distribution=name)
    host = site.host(environ={"STAGEFLOW_DISABLED_PLUGINS": "origin"})
    assert [s.state for s in host.load().external] == ["loaded", "disabled"]
    assert list(host.stages()) == ["good.greet"]
    assert warned == []


def test_one_module_as_two_plugins_refuses_both(site, warned):
    site.install("bad", GOOD, entry_points={"bad": "dist_bad_plugin", "worse": "dist_bad_plugin"})
    assert [s.state for s in site.host().load().external] == ["conflicting", "conflicting"]
    assert warned == [
        (
            "[SF-PLUGIN-CONFLICT] The module 'dist_bad_plugin' is more than one plugin, 'bad' and 'worse', by "
            "dist-bad 1.0; none of them is loaded. What to do: Update dist-bad or tell its authors. Docs: "
            "docs/reference/errors/SF-PLUGIN-CONFLICT.md"
        )
    ]


@pytest.mark.parametrize("name", ["core", "events", "interceptors", "plugins"])
def test_nobody_else_can_be_the_core_or_a_section_of_its_configuration(site, warned, name):
    site.install(name, GOOD)
    host = site.host()
    assert [s.state for s in host.load().plugins] == ["loaded", "conflicting"]
    assert "timeout" in host.interceptors()
    assert warned == [
        (
            f"[SF-PLUGIN-CONFLICT] The plugin name '{name}' belongs to Stageflow itself. Where: plugin '{name}' "
            f"(dist-{name} 1.0). What to do: Uninstall dist-{name}, or ask its authors for another entry-point name. "
            "Docs: docs/reference/errors/SF-PLUGIN-CONFLICT.md"
        )
    ]


STORE = """
@hookimpl
def stageflow_run_stores():
    return [RunStoreContribution(scheme="acme", target="m:open"), RunStoreContribution(scheme="{own}", target="m:o")]
"""


def test_one_contribution_from_two_plugins_is_refused_to_both_and_names_both(site, warned):
    site.install("one", STORE.format(own="one"))
    site.install("two", STORE.format(own="two"), version="2.1")
    host = site.host()
    assert list(host.run_stores()) == ["one", "two"]
    message = (
        "[SF-PLUGIN-CONFLICT] Run store 'acme' is contributed by plugin 'one' (dist-one 1.0) and plugin 'two' "
        "(dist-two 2.1); neither is used. What to do: Keep one: set STAGEFLOW_DISABLED_PLUGINS=dist-two, or list "
        "'dist-two' under plugins.disabled in the configuration; or do so with the other. Docs: "
        "docs/reference/errors/SF-PLUGIN-CONFLICT.md"
    )
    assert warned == [message]
    assert [s.state for s in host.report.external] == ["conflicting", "conflicting"]
    assert host.why("acme") == message


def test_strict_mode_raises_everything_at_once_and_every_time(site, warned):
    site.install("bad", "raise ValueError")
    site.install("two", STORE.format(own="acme2"))
    site.install("worse", "@hookimpl\ndef stageflow_tools(): return 1")
    host = site.host(strict=True)
    for ask in (host.load, host.stages, host.load):
        with pytest.raises(ExceptionGroup) as caught:
            ask()
        assert caught.value.message == "2 problems with plugins (STAGEFLOW_STRICT_PLUGINS)"
        assert [e.code for e in caught.value.exceptions] == ["SF-PLUGIN-LOAD", "SF-PLUGIN-CONTRIBUTION"]
    assert [s.state for s in host.report.external] == ["failed", "loaded", "failed"]
    assert warned == []


@pytest.mark.parametrize(("value", "raises"), [("1", True), (" true ", True), ("0", False), ("", False)])
def test_the_environment_can_ask_for_strict_mode(site, monkeypatch, value, raises):
    site.install("bad", "raise ValueError")
    monkeypatch.setenv("STAGEFLOW_STRICT_PLUGINS", value)
    host = site.host(strict=None)
    if raises:
        with pytest.raises(ExceptionGroup):
            host.load()
    else:
        host.load()
