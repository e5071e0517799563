"""``Stageflow`` with a configuration: settings for what plugins bring, the chain, sinks, policy, the local plugin."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest
from pydantic import BaseModel, SecretStr
from stageflow import Pipeline, Stageflow, StageKind, stage
from stageflow.config import Configuration, SettingsError
from stageflow.errors import (
    ContributionConflictError,
    ContributionInvalidError,
    ContributionNotFoundError,
    PluginLoadError,
)
from stageflow.plugins import PluginHost
from stageflow.plugins.composition import compose_host

ACME = """
from pydantic import BaseModel, Field

class AcmeSettings(BaseModel):
    greeting: str = "Hello"
    retries: int = 3

class AuditSettings(BaseModel):
    level: str = "low"

class Greet:
    def __init__(self, settings, mark="!"):
        self.text = settings.greeting + mark

    async def execute(self, ctx):
        from stageflow import StageOutput
        return StageOutput.ok(text=f"{self.text} {ctx.input_text}")

from stageflow import BaseInterceptor

class Audit(BaseInterceptor):
    def __init__(self, *, settings: AuditSettings):
        self.level = settings.level

class Plain(BaseInterceptor):
    pass

class Sink:
    made = []

    def __init__(self, settings=None):
        self.settings, self.types, self.closed = settings, [], 0
        Sink.made.append(self)

    async def emit(self, *, type, data):
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type, data):
        self.types.append(type)

    async def aclose(self):
        self.closed += 1

def open_store(url, settings):
    return url, settings.retries

@hookimpl
def stageflow_stages():
    return [StageContribution(name="acme.greet", target="acme_module:Greet", kind="transform")]

@hookimpl
def stageflow_interceptors():
    return [
        InterceptorContribution(name="acme.audit", target="acme_module:Audit", default=True),
        InterceptorContribution(name="acme.plain", target="acme_module:Plain", before=("timeout",)),
    ]

@hookimpl
def stageflow_sinks():
    return [SinkContribution(name="acme.sink", target="acme_module:Sink")]

@hookimpl
def stageflow_run_stores():
    return [RunStoreContribution(scheme="acme", target="acme_module:open_store")]

@hookimpl
def stageflow_settings():
    return [
        SettingsContribution(section="acme", model="acme_module:AcmeSettings"),
        SettingsContribution(section="acme.audit", model="acme_module:AuditSettings"),
    ]
"""


@pytest.fixture
def acme(plugin):
    return plugin("acme", ACME)


def app_of(*candidates, config=None, **options) -> Stageflow:
    values = config if isinstance(config, Configuration) else Configuration(config)
    return Stageflow(PluginHost(candidates, strict=False), config=values, **options)


def chain_of(app: Stageflow) -> list[str]:
    names = {type(one).__name__.removesuffix("Interceptor").lower() for one in app.interceptors()}
    return (
        [type(one).__name__.removesuffix("Interceptor").lower() for one in app.interceptors()]
        if names
        else []
    )


def problems_of(app: Stageflow) -> list[tuple[str, str]]:
    with pytest.raises(SettingsError) as caught:
        app.interceptors()
    return [(f"[{one.code}] {one.message}", one.fix) for one in caught.value.problems]


# --- settings for targets -----------------------------------------------------------------------------------------


def test_settings_are_the_validated_model(acme) -> None:
    app = app_of(acme, config={"acme": {"retries": "5"}})
    assert app.settings("acme").retries == 5
    assert app.settings("acme") is app.settings("acme")
    assert app.settings("acme.audit").level == "low"


async def run_greeting(app: Stageflow, **config: object) -> str:
    pipeline = Pipeline().with_stage("greet", "acme.greet", StageKind.TRANSFORM, config=config)
    return (await app.run(pipeline, input_text="Ada"))["greet"].data["text"]


@pytest.mark.asyncio
async def test_a_stage_that_takes_settings_is_given_those_of_its_plugin(acme) -> None:
    app = app_of(acme, config={"acme": {"greeting": "Welcome"}})
    assert await run_greeting(app) == "Welcome! Ada"
    assert await run_greeting(app, mark=",") == "Welcome, Ada"
    own = app.settings("acme").model_copy(update={"greeting": "Bye"})
    assert await run_greeting(app, settings=own) == "Bye! Ada"


def test_a_target_is_given_the_section_of_its_own_name_first(acme) -> None:
    app = app_of(acme, config={"acme": {"greeting": "x", "audit": {"level": "high"}}})
    (audit,) = (one for one in app.interceptors() if type(one).__name__ == "Audit")
    assert audit.level == "high"
    assert app.make(app.host.run_stores()["acme"], "acme://here") == ("acme://here", 3)


def test_a_target_that_must_have_settings_and_has_no_section(plugin) -> None:
    source = """
class Sink:
    def __init__(self, settings): ...

@hookimpl
def stageflow_sinks():
    return [SinkContribution(name="beta.sink", target="beta_module:Sink")]
"""
    app = app_of(plugin("beta", source))
    with pytest.raises(ContributionInvalidError) as caught:
        app.make(app.host.sinks()["beta.sink"])
    assert str(caught.value) == (
        "[SF-PLUGIN-CONTRIBUTION] sink 'beta.sink' of plugin 'beta' (dist-beta 1.0) takes settings, and its plugin "
        "contributes no section of the configuration. Where: plugin 'beta' (dist-beta 1.0). What to do: Return "
        "[SettingsContribution(section='beta', model=...)] from 'stageflow_settings'. "
        "Docs: docs/reference/errors/SF-PLUGIN-CONTRIBUTION.md"
    )


def test_a_model_that_is_none(plugin, caplog) -> None:
    source = """
@hookimpl
def stageflow_settings():
    models = {"beta": "math:sqrt", "beta.x": "no:x"}
    return [SettingsContribution(section=section, model=model) for section, model in models.items()]
"""
    app = app_of(plugin("beta", source), config={"beta": {"a": 1, "x": {"y": 1}}})
    with pytest.raises(ContributionInvalidError) as caught:
        app.settings("beta")
    assert caught.value.what == (
        "The model of settings section 'beta' of plugin 'beta' (dist-beta 1.0) is <built-in function "
        "sqrt>, which is no "
        "pydantic model"
    )
    with caplog.at_level(logging.WARNING, "stageflow.plugins"):
        app.interceptors()  # whoever does not need the section is not stopped
    assert [record.getMessage().partition("]")[0] for record in caplog.records] == [
        "[SF-PLUGIN-CONTRIBUTION",
        "[SF-CONFIG-TARGET",
    ]


def test_a_plugin_cannot_have_a_section_of_the_core(plugin) -> None:
    app = app_of(plugin("events", ""), config={"events": {"sinks": ["noop"]}})
    assert app.settings("events").sinks == ["noop"]
    assert app.host.report.named("events")[0].reason == "The plugin name 'events' belongs to Stageflow itself"


# --- when it is read ----------------------------------------------------------------------------------------------


def test_a_model_is_imported_when_its_section_is_read(plugin, write) -> None:
    write("site/late_module.py", "from pydantic import BaseModel\nclass Late(BaseModel):\n    x: int = 1\n")
    source = """
@hookimpl
def stageflow_settings():
    return [SettingsContribution(section="beta", model="late_module:Late")]
"""
    beta = plugin("beta", source)
    app = app_of(beta)
    app.interceptors()
    assert "late_module" not in sys.modules
    assert app.settings("beta").x == 1
    assert "late_module" in sys.modules
    del sys.modules["late_module"]
    with pytest.raises(SettingsError, match=r"beta\.x is 'y'"):
        app_of(beta, config={"beta": {"x": "y"}}).interceptors()


def test_everything_that_is_wrong_is_in_one_error_before_anything_runs(acme) -> None:
    values = {
        "acme": {"retries": "x", "audit": {"levle": "y"}},
        "amce": {"a": 1},
        "zzz": {},
        "interceptors": {
            "order": ["retry", "acme.audti", "tracing"],
            "disabled": ["acme.nothing", "tracing"],
        },
        "events": {"sinks": ["acme.snik"], "sink": 1},
    }
    assert problems_of(app_of(acme, config=values)) == [
        (
            "[SF-CONFIG-SECTION] There is no section 'amce' (code): no plugin of that name is installed",
            "Did you mean 'acme'?",
        ),
        (
            "[SF-CONFIG-SECTION] There is no section 'zzz' (code): no plugin of that name is installed",
            "Install the plugin 'zzz', or take the section out",
        ),
        ("[SF-CONFIG-KEY] Section 'events' has no key 'sink' (code)", "Did you mean 'sinks'?"),
        (
            (
                "[SF-CONFIG-VALUE] acme.retries is 'x' (code): it should be a valid integer, unable to "
                "parse string as an integer"
            ),
            "Correct it where the program sets it",
        ),
        ("[SF-CONFIG-KEY] Section 'acme.audit' has no key 'levle' (code)", "Did you mean 'level'?"),
        (
            (
                "[SF-CONFIG-VALUE] interceptors.order names 'acme.audti' (code): no interceptor is "
                "named 'acme.audti': plugin "
                "'acme' (dist-acme 1.0) is loaded, but contributes none of that name"
            ),
            "Did you mean 'acme.audit' or 'acme.plain'?",
        ),
        (
            (
                "[SF-CONFIG-VALUE] interceptors.disabled names 'acme.nothing' (code): no interceptor "
                "is named 'acme.nothing': plugin "
                "'acme' (dist-acme 1.0) is loaded, but contributes none of that name"
            ),
            "Did you mean 'acme.plain'?",
        ),
        (
            "[SF-CONFIG-VALUE] interceptors.order (code) and interceptors.disabled (code) both name 'tracing'",
            "Take it out of one of them",
        ),
    ]


def test_a_key_beside_the_sections_of_a_plugin_that_has_inner_ones_only(plugin) -> None:
    source = """
@hookimpl
def stageflow_settings():
    return [SettingsContribution(section="beta.x", model="stageflow.config.sections:EventsSettings")]
"""
    beta = plugin("beta", source)
    app_of(beta, config={"beta": {"x": {"sinks": []}}}).interceptors()
    assert problems_of(app_of(beta, config={"beta": {"x": {"sinks": []}, "y": 1}})) == [
        ("[SF-CONFIG-KEY] Section 'beta' has no key 'y' (code)", "It has no keys")
    ]


def test_a_section_of_a_plugin_without_settings_and_of_one_that_is_not_loaded(plugin, acme) -> None:
    quiet, broken = plugin("quiet", ""), plugin("broken", "raise RuntimeError('no license')")
    values = {"quiet": {"a": 1}, "broken": {"a": 1}, "acme": {"retries": "x"}}
    app = app_of(quiet, broken, config=values)
    assert problems_of(app) == [
        (
            (
                "[SF-CONFIG-SECTION] There is no section 'quiet' (code): the plugin 'quiet' (dist-quiet "
                "1.0) has no settings"
            ),
            "Take the section out",
        ),
        (
            "[SF-CONFIG-SECTION] There is no section 'acme' (code): no plugin of that name is installed",
            "Install the plugin 'acme', or take the section out",
        ),
    ]
    with pytest.raises(ContributionNotFoundError, match=r"has failed: .*no license"):
        app.settings("broken")


@pytest.mark.asyncio
async def test_a_pipeline_is_not_run_with_a_wrong_configuration(acme) -> None:
    ran: list[int] = []

    @stage
    async def note() -> None:
        ran.append(1)

    with pytest.raises(SettingsError):
        await app_of(acme, config={"acme": {"retries": "x"}}).run(Pipeline.from_stages(note))
    assert ran == []


# --- the chain ----------------------------------------------------------------------------------------------------

DEFAULT = ["idempotency", "timeout", "circuitbreaker", "tracing", "metrics", "childtrackermetrics", "logging"]


def test_the_order_of_the_configuration_wins_and_names_what_is_not_there_by_default() -> None:
    assert chain_of(app_of()) == DEFAULT
    app = app_of(
        config={
            "interceptors": {"order": ["logging", "retry", "timeout"], "disabled": ["tracing", "metrics"]}
        }
    )
    assert chain_of(app) == [
        "idempotency",
        "logging",
        "retry",
        "timeout",
        "circuitbreaker",
        "childtrackermetrics",
    ]


def test_it_wins_over_wishes_too(acme) -> None:
    app = app_of(acme, config={"interceptors": {"order": ["timeout", "acme.plain"]}})
    chain = chain_of(app)
    assert chain.index("timeout") < chain.index("plain")


def test_code_that_names_the_chain_is_stronger(acme) -> None:
    app = app_of(
        acme, config={"interceptors": {"order": ["logging", "timeout"]}}, interceptors=["timeout", "logging"]
    )
    assert chain_of(app) == ["timeout", "logging"]


def test_a_circle_names_the_configuration_as_a_party(plugin, write, find) -> None:
    source = """
@hookimpl
def stageflow_interceptors():
    return [InterceptorContribution(name="beta.x", target="m:X", default=True, after=("timeout",), before=("logging",))]
"""
    write("stageflow.toml", "[interceptors]\norder = ['logging', 'timeout']\n")
    app = app_of(plugin("beta", source), config=find())
    with pytest.raises(ContributionConflictError) as caught:
        app.interceptors()
    core = app.host.interceptors()["timeout"].provenance
    assert caught.value.what == (
        "The order of interceptors is a circle: 'beta.x' before 'logging' before 'timeout' before "
        "'beta.x' (interceptor "
        f"'beta.x' of plugin 'beta' (dist-beta 1.0); interceptor 'logging' of {core}; interceptor "
        f"'timeout' of {core}; "
        "interceptors.order (stageflow.toml:2))"
    )
    assert caught.value.fix == (
        "List them all in interceptors.order (stageflow.toml:2), in the order that you want, or disable one of their "
        "plugins with STAGEFLOW_DISABLED_PLUGINS"
    )


# --- sinks --------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_sinks_are_opened_once_and_closed_with_the_app(acme) -> None:
    @stage
    async def one() -> int:
        return 1

    app = app_of(acme, config={"events": {"sinks": ["acme.sink"]}, "acme": {"greeting": "Hi"}})
    pipeline = Pipeline.from_stages(one)
    async with app:
        await app.run(pipeline)
        await app.run(pipeline)
        (sink,) = sys.modules["acme_module"].Sink.made
        assert sink.settings.greeting == "Hi"
        assert sink.types.count("pipeline.completed") == 2
        assert sink.closed == 0
    assert sink.closed == 1
    await app.run(pipeline)  # an app that is closed may be used again, and makes what it needs anew
    await app.aclose()
    assert [one.closed for one in sys.modules["acme_module"].Sink.made] == [1, 1]


@pytest.mark.asyncio
async def test_sinks_of_code_are_stronger_and_stay_open(acme) -> None:
    app_of(acme).host.load()
    own = sys.modules["acme_module"].Sink()

    @stage
    async def one() -> int:
        return 1

    async with app_of(acme, config={"events": {"sinks": ["acme.sink"]}}, sinks=[own]) as app:
        await app.run(Pipeline.from_stages(one))
    assert sys.modules["acme_module"].Sink.made == [own]
    assert (bool(own.types), own.closed) == (True, 0)


# --- which plugins ------------------------------------------------------------------------------------------------


def states(host: PluginHost) -> dict[str, tuple[str, str]]:
    return {one.candidate.name: (str(one.state), one.reason) for one in host.report.external}


def test_the_policy_stands_in_the_configuration(write, find) -> None:
    write("stageflow.toml", "[plugins]\ndisabled = ['otel']\nenabled = ['otel', 'tools']\n")
    found = states(compose_host(find(), environ={}))
    assert found["otel"] == ("disabled", "plugins.disabled (stageflow.toml:2) lists 'otel'")
    assert found["voice"] == ("disabled", "plugins.enabled (stageflow.toml:3) allows 'otel', 'tools'")
    assert found["tools"][0] == "loaded"
    found = states(
        compose_host(find(), environ={"STAGEFLOW_PLUGINS": "voice", "STAGEFLOW_DISABLED_PLUGINS": "auth"})
    )
    assert found["voice"][0] == "loaded"
    assert found["auth"] == ("disabled", "STAGEFLOW_DISABLED_PLUGINS lists 'auth'")


def test_strictness_stands_in_the_configuration_and_the_environment_wins(write, find) -> None:
    write("stageflow.toml", "[plugins]\nstrict = true\nenabled = ['project']\n")
    write("stageflow_plugin.py", "raise RuntimeError('no license')\n")
    with pytest.raises(ExceptionGroup) as caught:
        compose_host(find(), environ={}).load()
    assert isinstance(caught.value.exceptions[0], PluginLoadError)
    sys.modules.pop("stageflow_plugin", None)
    compose_host(find(), strict=False, environ={}).load()


def test_a_wrong_policy_loads_nothing(write, find) -> None:
    write("stageflow.toml", "[plugins]\ndisabled = 'otel'\n[interceptors]\nordre = []\n")
    with pytest.raises(SettingsError) as caught:
        compose_host(find(), environ={})
    assert [one.message for one in caught.value.problems] == [
        "Section 'interceptors' has no key 'ordre' (stageflow.toml:4)",
        "plugins.disabled is 'otel' (stageflow.toml:2): it should be a valid list",
    ]
    with pytest.raises(SettingsError):
        Stageflow(config=find()).interceptors()


# --- the project's own plugin -------------------------------------------------------------------------------------

LOCAL = """
from stageflow.plugins import SinkContribution, StageContribution, hookimpl
import beside
stageflow_api_version = 1

@hookimpl
def stageflow_sinks(context):
    return [SinkContribution(name=f"{context.plugin}.sink", target="beside:Sink")]
"""


@pytest.fixture
def local(write):
    write("beside.py", "class Sink: ...\n")
    return write("stageflow_plugin.py", LOCAL)


def test_the_local_plugin_is_loaded_like_any_other(local, write, find) -> None:
    assert "project" not in states(
        compose_host(find(), environ={})
    )  # without a stageflow.toml there is no project
    write("stageflow.toml", "[plugins]\nenabled = ['project']\n")
    host = compose_host(find(), environ={})
    assert "stageflow_plugin" not in sys.modules
    assert sys.path[-1] == str(local.parent)  # it shadows nothing
    assert states(host)["project"] == ("loaded", "Hook API 1")
    entry = host.sinks()["project.sink"]
    assert str(entry) == f"sink 'project.sink' of plugin 'project' (project file {local})"
    assert entry.resolve().__name__ == "Sink"


def test_it_can_have_another_name_and_be_disabled(local, write, find) -> None:
    write("stageflow.toml", "[plugins]\nlocal = 'mine'\n")
    host = compose_host(find(), environ={"STAGEFLOW_PLUGINS": "mine"})
    assert list(host.sinks())[-1] == "mine.sink"
    sys.modules.pop("stageflow_plugin")
    host = compose_host(find(), environ={"STAGEFLOW_DISABLED_PLUGINS": "mine"})
    assert states(host)["mine"] == ("disabled", "STAGEFLOW_DISABLED_PLUGINS lists 'mine'")
    assert "stageflow_plugin" not in sys.modules


def test_a_broken_one_stops_nobody(local, write, find) -> None:
    write("stageflow.toml", "[plugins]\nenabled = ['project']\n")
    local.write_text("raise RuntimeError('no license')\n", "utf-8")
    host = compose_host(find(), environ={})
    state, reason = states(host)["project"]
    assert (state, reason) == ("failed", "Importing 'stageflow_plugin' raised RuntimeError: no license")
    assert "noop" in host.sinks()


def test_two_projects_in_one_process(local, write, find, project, monkeypatch) -> None:
    write("stageflow.toml", "")
    compose_host(find(), environ={"STAGEFLOW_PLUGINS": "project"}).load()
    write("other/stageflow.toml", "")
    write("other/stageflow_plugin.py", LOCAL)
    monkeypatch.chdir(project / "other")
    host = compose_host(find(), environ={"STAGEFLOW_PLUGINS": "project"})
    assert states(host)["project"] == (
        "failed",
        f"Another module of that name is there first, {str(local)!r}",
    )


# --- where it comes from ------------------------------------------------------------------------------------------


def test_a_path_a_mapping_or_nothing(write, project, monkeypatch) -> None:
    monkeypatch.setenv("STAGEFLOW_PLUGINS", "")
    write("stageflow.toml", "[interceptors]\ndisabled = ['logging']\n[events]\nsinks = ['noop']\n")
    other = write("other.toml", "[interceptors]\ndisabled = ['timeout']\n")
    assert Stageflow().settings("interceptors").disabled == ["logging"]
    mixed = Stageflow(config={"interceptors": {"disabled": []}})
    assert (mixed.settings("interceptors").disabled, mixed.settings("events").sinks) == ([], ["noop"])
    for name in (other, str(other)):
        assert Stageflow(config=name).settings("interceptors").disabled == ["timeout"]
    assert Stageflow(config=Configuration()).settings("interceptors").disabled == []


def test_apps_share_nothing(acme) -> None:
    one, other = app_of(acme, config={"acme": {"retries": 1}}), app_of(acme, config={"acme": {"retries": 2}})
    assert (one.settings("acme").retries, other.settings("acme").retries) == (1, 2)


def test_nothing_is_read_before_something_is_needed(write) -> None:
    app = Stageflow()
    write("stageflow.toml", "[interceptors]\ndisabled = ['logging']\n")
    assert app.config.files != ()


def test_secrets_reach_the_target_as_they_are(plugin) -> None:
    class Settings(BaseModel):
        key: SecretStr

    beta = plugin(
        "beta",
        """
SETTINGS = None

def make(settings):
    return settings.key.get_secret_value()

@hookimpl
def stageflow_sinks():
    return [SinkContribution(name="beta.sink", target=make)]

@hookimpl
def stageflow_settings():
    return [SettingsContribution(section="beta", model=SETTINGS)]
""",
    )
    __import__("beta_module").SETTINGS = Settings
    app = app_of(beta, config={"beta": {"key": "swordfish"}})
    assert app.make(app.host.sinks()["beta.sink"]) == "swordfish"


def test_an_app_runs_from_sync_code_too(acme) -> None:
    assert asyncio.run(run_greeting(app_of(acme))) == "Hello! Ada"
