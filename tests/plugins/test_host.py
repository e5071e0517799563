"""What a host offers when plugins do as they should, and how it says no before importing."""

import subprocess
import sys

import pytest
from stageflow.errors import (
    ContributionConflictError,
    ContributionNotFoundError,
    LazyImportError,
    PluginLoadError,
)
from stageflow.plugins import PluginHost, PluginPolicy, builtin
from stageflow.plugins.hookspecs import HOOKS

GOOD = """
@hookimpl
def stageflow_stages():
    return [StageContribution(name="{}.greet", target="m:Greet", kind="transform")]
"""
CORE = [one.name for one in builtin.stageflow_interceptors()]
EVERYTHING = """
asked = []

@hookimpl
def stageflow_stages(context):
    asked.append(context)
    return (StageContribution(name=f"acme.{thing}", target="acme_stages:Greet", kind="work") for thing in "ba")

@hookimpl
def stageflow_interceptors():
    return [InterceptorContribution(name="acme.audit", target="acme_audit:Audit", before=("timeout",))]

@hookimpl
def stageflow_sinks():
    return [SinkContribution(name="acme.kafka", target="acme_sinks:Kafka")]

@hookimpl(specname="stageflow_tools")
def anything():
    return [ToolContribution(name="acme.root", target="math:sqrt")]

@hookimpl
def stageflow_executors():
    return ()

@hookimpl
def stageflow_run_stores():
    return [RunStoreContribution(scheme="acme+sqlite", target="acme_store:open")]

@hookimpl
def stageflow_settings():
    return [SettingsContribution(section="acme", model=dict)]

@hookimpl
def stageflow_commands():
    return [
        CommandContribution(name="acme.sync", target="acme_cli:sync", summary="Copy."),
        CheckContribution(name="acme.sync", target="acme_cli:check", summary="Can it copy?"),
    ]

@hookimpl(optionalhook=True)
def stageflow_of_the_future(context, more): ...
"""


def test_a_good_plugin_contributes_through_every_hook(site, warned):
    site.install("acme", EVERYTHING)
    host = site.host()
    assert list(host.stages()) == ["acme.b", "acme.a"]
    assert list(host.interceptors()) == [*CORE, "acme.audit"]
    assert list(host.sinks()) == ["noop", "logging", "acme.kafka"]
    assert host.tools()["acme.root"].resolve()(9.0) == 3.0
    assert list(host.executors()) == ["inline", "thread", "process"]
    assert list(host.run_stores()) == ["acme+sqlite"]
    assert host.settings()["acme"].resolve() is dict
    assert list(host.commands()) == ["run", "graph", "lint", "plugins", "config", "doctor", "acme.sync"]
    assert list(host.checks()) == ["acme.sync"]
    assert host.report.render() == "acme  dist-acme 1.0  loaded  Hook API 1"
    assert warned == []


def test_hooks_are_asked_once_when_first_needed_and_told_who_they_are(site):
    module = site.install("acme", EVERYTHING)
    host = site.host()
    host.load()
    asked = sys.modules[module].asked
    host.tools()
    assert asked == []
    assert host.stages() is host.stages()
    (context,) = asked
    assert (context.api_version, context.plugin) == (1, "acme")
    assert context.core_version


def test_nothing_is_found_or_imported_before_something_is_asked(site):
    module = site.install("acme", EVERYTHING)
    host = site.host()
    assert repr(host) == "<PluginHost, not loaded>"
    assert module not in sys.modules
    host.load()
    assert repr(host) == "<PluginHost ['core', 'acme']>"
    assert module in sys.modules


def test_a_host_without_candidates_discovers_what_is_installed(site):
    site.install("acme", EVERYTHING)
    host = PluginHost(policy=PluginPolicy(enabled=["dist-acme"], environ={}), strict=False)
    assert [s.state for s in host.load().named("acme")] == ["loaded"]


def test_two_hosts_share_nothing(site):
    site.install("acme", EVERYTHING)
    one, other = site.host(), site.host(disabled=["acme"])
    assert list(one.tools()) == ["acme.root"]
    assert list(other.tools()) == []


def test_a_host_can_do_without_the_core(site):
    site.install("acme", EVERYTHING)
    host = site.host(builtin=False)
    assert list(host.interceptors()) == ["acme.audit"]
    assert [s.candidate.name for s in host.report.plugins] == ["acme"]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"environ": {"STAGEFLOW_PLUGINS": ""}}, "STAGEFLOW_PLUGINS allows nothing"),
        ({"environ": {"STAGEFLOW_PLUGINS": "voice"}}, "STAGEFLOW_PLUGINS allows 'voice'"),
        ({"environ": {"STAGEFLOW_DISABLED_PLUGINS": "*"}}, "STAGEFLOW_DISABLED_PLUGINS lists '*'"),
        ({"environ": {"STAGEFLOW_DISABLED_PLUGINS": "acme"}}, "STAGEFLOW_DISABLED_PLUGINS lists 'acme'"),
        ({"disabled": ["Dist_Acme"]}, "plugins.disabled lists 'Dist_Acme'"),
        ({"enabled": []}, "plugins.enabled allows nothing"),
    ],
    ids=["none allowed", "another allowed", "all denied", "denied", "distribution denied", "none configured"],
)
def test_a_disabled_plugin_is_not_imported_and_the_core_stays(site, policy, reason):
    module = site.install("acme", EVERYTHING)
    host = site.host(**policy)
    (status,) = host.report.external
    assert (status.state, status.reason) == ("disabled", reason)
    assert module not in sys.modules
    assert list(host.interceptors()) == CORE
    assert [s.state for s in host.report.plugins] == ["loaded", "disabled"]
    assert "loaded" not in [plugin["state"] for plugin in host.report.to_dict()["plugins"]]


def test_names_that_a_list_has_and_nobody_else_are_told_once(site, warned):
    site.install("acme", EVERYTHING)
    host = site.host(environ={"STAGEFLOW_DISABLED_PLUGINS": "acne"})
    host.load()
    host.load()
    assert warned == [
        "STAGEFLOW_DISABLED_PLUGINS lists 'acne', but no such plugin or distribution is installed. Did you mean 'acme'?"
    ]


def test_a_missing_name_of_a_disabled_plugin_says_so(site):
    site.install("acme", EVERYTHING)
    host = site.host(disabled=["acme"])
    with pytest.raises(ContributionNotFoundError) as caught:
        host.stages()["acme.a"]
    message = (
        "[SF-PLUGIN-NOT-FOUND] No stage is named 'acme.a': plugin 'acme' (dist-acme 1.0) is disabled: plugins.disabled "
        "lists 'acme'. "
        "Where: plugin 'acme' (dist-acme 1.0). What to do: Take 'acme' out of plugins.disabled. "
        "Docs: docs/reference/errors/SF-PLUGIN-NOT-FOUND.md"
    )
    assert str(caught.value) == message
    assert isinstance(caught.value, LookupError)
    assert host.why("acme.a") == message.replace("No stage", "No contribution")


def test_a_missing_name_of_a_plugin_whose_hook_failed_says_so(site):
    site.install("acme", "@hookimpl\ndef stageflow_stages(): raise ValueError('no model')")
    with pytest.raises(ContributionNotFoundError) as caught:
        site.host().stages()["acme.a"]
    assert caught.value.what == (
        "No stage is named 'acme.a': plugin 'acme' (dist-acme 1.0) has failed: Hook 'stageflow_stages' "
        "raised ValueError: no model"
    )
    assert caught.value.fix == (
        "Update dist-acme or tell its authors, or disable it with STAGEFLOW_DISABLED_PLUGINS=acme"
    )


@pytest.mark.parametrize(
    ("name", "fix"),
    [("acme.aa", "Did you mean 'acme.a' or 'acme.b'?"), ("acme.zzzzzzzzzz", "Use one of 'acme.b', 'acme.a'")],
    ids=["near", "far"],
)
def test_a_missing_name_of_a_loaded_plugin_lists_what_there_is(site, name, fix):
    site.install("acme", EVERYTHING)
    with pytest.raises(ContributionNotFoundError) as caught:
        site.host().stages()[name]
    assert (
        caught.value.what
        == f"No stage is named '{name}': plugin 'acme' (dist-acme 1.0) is loaded, but contributes none of that name"
    )
    assert caught.value.fix == fix


def test_a_missing_name_of_nobody_lists_close_matches(site):
    with pytest.raises(ContributionNotFoundError) as caught:
        site.host().interceptors()["timout"]
    assert str(caught.value) == (
        "[SF-PLUGIN-NOT-FOUND] No interceptor is named 'timout'. What to do: Did you mean 'timeout'? "
        "Docs: docs/reference/errors/SF-PLUGIN-NOT-FOUND.md"
    )


def test_a_target_that_does_not_resolve_names_its_plugin(site):
    site.install("acme", EVERYTHING)
    with pytest.raises(LazyImportError) as caught:
        site.host().sinks()["acme.kafka"].resolve()
    assert caught.value.where == "sink 'acme.kafka' of plugin 'acme' (dist-acme 1.0)"


def test_looking_a_refused_name_up_raises_the_conflict(site):
    store = "@hookimpl\ndef stageflow_run_stores(): return [RunStoreContribution(scheme='db', target='m:o')]"
    site.install("one", store)
    site.install("two", store)
    stores = site.host().run_stores()
    assert "db" not in stores
    assert stores.get("db") is None
    with pytest.raises(ContributionConflictError, match="neither is used"):
        stores["db"]


def test_a_host_that_is_given_nothing_does_not_say_that_nothing_is_installed(monkeypatch, warned):
    monkeypatch.setenv("STAGEFLOW_DISABLED_PLUGINS", "acme")
    assert PluginHost(()).report.notices == ()
    assert warned == []


def test_a_name_that_nobody_has_is_in_the_report(site, warned):
    site.install("acme", GOOD.format("acme"))
    notice = "plugins.disabled lists 'acmee', but no such plugin or distribution is installed. Did you mean 'acme'?"
    assert site.host(disabled=["acmee"]).report.notices == (notice,)
    assert warned == [notice]


def test_there_is_a_registry_for_every_kind_that_a_hook_returns():
    kinds = {kind.noun for kinds in HOOKS.values() for kind in kinds}
    assert {registry.noun for registry in PluginHost(()).registries()} == kinds


def test_what_will_be_imported_is_known_before_anything_is(site):
    modules = [site.install(name, GOOD.format(name)) for name in ("acme", "other", "third")]
    host = site.host(disabled=["other"])
    assert [candidate.name for candidate in host.candidates] == ["acme", "third"]
    assert not set(modules) & set(sys.modules)
    host.load()
    assert [candidate.name for candidate in host.candidates] == ["acme", "third"]


def test_a_plugin_that_is_refused_has_failed_and_is_not_imported(site, warned):
    module = site.install("acme", GOOD.format("acme"))
    site.install("other", GOOD.format("other"))
    host = site.host()
    (acme, _) = host.candidates
    error = PluginLoadError("It hangs", plugin="acme", distribution="dist-acme 1.0", fix="Do without it")
    host.refuse(error, acme)
    assert list(host.stages()) == ["other.greet"]
    assert module not in sys.modules
    (status, _) = host.report.external
    assert (status.state, status.reason, status.fix) == ("failed", "It hangs", "Do without it")
    assert warned == [str(error)]


def test_whoever_catches_ctrl_c_and_asks_again_gets_the_rest(site):
    site.install(
        "acme",
        "import sys\nif not hasattr(sys, 'acme_asked'):\n    sys.acme_asked = 1\n    raise KeyboardInterrupt",
    )
    site.install("other", GOOD.format("other"))
    host = site.host()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            host.load()
        assert caught.value.__notes__ == [
            (
                "It was plugin 'acme' (dist-acme 1.0) that was being imported; to go on without it, disable it with "
                "STAGEFLOW_DISABLED_PLUGINS=acme."
            )
        ]
        assert [status.state for status in host.load().external] == ["loaded", "loaded"]
        assert list(host.stages()) == ["other.greet"]
    finally:
        del sys.acme_asked


def test_why_tells_where_a_name_comes_from(site):
    site.install("acme", EVERYTHING)
    host = site.host()
    assert (
        host.why("acme.kafka")
        == "Sink 'acme.kafka' of plugin 'acme' (dist-acme 1.0), target 'acme_sinks:Kafka'."
    )
    assert host.why("acme").splitlines() == [
        "Plugin 'acme' (dist-acme 1.0) is loaded: Hook API 1.",
        "  stage 'acme.b', target 'acme_stages:Greet'",
        "  stage 'acme.a', target 'acme_stages:Greet'",
        "  interceptor 'acme.audit', target 'acme_audit:Audit'",
        "  sink 'acme.kafka', target 'acme_sinks:Kafka'",
        "  tool 'acme.root', target 'math:sqrt'",
        "  run store 'acme+sqlite', target 'acme_store:open'",
        "Settings section 'acme' of plugin 'acme' (dist-acme 1.0), target dict.",
        "  command 'acme.sync', target 'acme_cli:sync'",
        "  check 'acme.sync', target 'acme_cli:check'",
    ]
    assert (
        host.why("acmee")
        == "No plugin is named 'acmee', and none contributes that name. Did you mean 'acme' or 'acme.b' or 'acme.a'?"
    )


def test_a_wish_about_an_interceptor_that_nobody_has_is_told(site, warned):
    site.install(
        "acme",
        """
        @hookimpl
        def stageflow_interceptors():
            return [InterceptorContribution(name="acme.a", target="m:A", before=("timout",), after=("otel.trace",))]
        """,
    )
    host = site.host()
    host.interceptors()
    assert warned == [
        (
            "The interceptor 'acme.a' of plugin 'acme' (dist-acme 1.0) wants to be before 'timout', which nobody "
            "contributes. Did you mean 'timeout'?"
        )
    ]
    assert host.report.external[0].state == "loaded"


def test_a_report_lines_up_and_tells_fixes(site):
    site.install("acme", EVERYTHING)
    site.install("b", "raise ValueError", distribution="a-long-name")
    host = site.host(disabled=["acme"])
    assert host.report.render() == (
        "b     a-long-name 1.0  failed    Importing 'a_long_name_plugin' raised ValueError\n"
        "    What to do: Update a-long-name or tell its authors, or disable it with STAGEFLOW_DISABLED_PLUGINS=b.\n"
        "acme  dist-acme 1.0    disabled  plugins.disabled lists 'acme'\n"
        "    What to do: Take 'acme' out of plugins.disabled."
    )


def test_every_builtin_target_is_an_import_string():
    host = PluginHost(())
    host.load()
    for registry in (host.interceptors(), host.sinks(), host.executors(), host.commands()):
        assert all(isinstance(entry.contribution.target, str) for entry in registry.values())


@pytest.mark.parametrize(
    "module", ["", ".policy", ".contributions", ".discovery", ".registry", ".report", ".builtin"]
)
def test_only_the_host_imports_pluggy(module):
    imports = f"import sys, stageflow.plugins{module}\nfrom stageflow.plugins import hookimpl"
    code = f"{imports}\nprint('pluggy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_hook_has_a_method_and_the_specification_says_so():
    from stageflow.plugins import hookspecs

    for hook in HOOKS:
        assert hook in hookspecs.__all__
        assert callable(getattr(PluginHost, hook.removeprefix("stageflow_")))
