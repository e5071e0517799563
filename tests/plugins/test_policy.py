"""Allow and deny: decided from names, before anything is imported."""

import pytest
from stageflow.plugins import Candidate, PluginPolicy

ACME = Candidate(name="acme", module="acme.plugin", distribution="stageflow-acme", version="1.0")
VOICE = Candidate(name="voice", module="voice.plugin", distribution="stageflow-voice", version="1.0")


def allowed(policy: PluginPolicy) -> list[str]:
    return [candidate.name for candidate in (ACME, VOICE) if policy.denial(candidate) is None]


@pytest.mark.parametrize(
    ("environ", "configured", "expected"),
    [
        ({}, {}, ["acme", "voice"]),
        ({"STAGEFLOW_PLUGINS": ""}, {}, []),
        ({"STAGEFLOW_PLUGINS": " acme , "}, {}, ["acme"]),
        ({"STAGEFLOW_PLUGINS": "Stageflow_Voice"}, {}, ["voice"]),
        ({"STAGEFLOW_PLUGINS": "*"}, {}, ["acme", "voice"]),
        ({"STAGEFLOW_DISABLED_PLUGINS": "*"}, {}, []),
        ({"STAGEFLOW_DISABLED_PLUGINS": ""}, {}, ["acme", "voice"]),
        ({"STAGEFLOW_DISABLED_PLUGINS": "nobody,stageflow-acme"}, {}, ["voice"]),
        ({"STAGEFLOW_PLUGINS": "acme", "STAGEFLOW_DISABLED_PLUGINS": "acme"}, {}, []),
        ({}, {"enabled": ["acme"]}, ["acme"]),
        ({}, {"enabled": "acme, voice"}, ["acme", "voice"]),
        ({"STAGEFLOW_PLUGINS": "voice"}, {"enabled": ["acme"]}, ["voice"]),
        ({"STAGEFLOW_PLUGINS": "acme"}, {"disabled": ["acme"]}, []),
        ({"STAGEFLOW_DISABLED_PLUGINS": "voice"}, {"disabled": ["acme"]}, []),
    ],
)
def test_who_is_allowed(environ, configured, expected):
    assert allowed(PluginPolicy(environ=environ, **configured)) == expected


def test_the_process_environment_is_read_unless_another_is_given(monkeypatch):
    monkeypatch.setenv("STAGEFLOW_PLUGINS", "acme")
    assert allowed(PluginPolicy()) == ["acme"]
    assert allowed(PluginPolicy(environ={})) == ["acme", "voice"]


def test_a_denial_says_what_would_change_it():
    denial = PluginPolicy(environ={"STAGEFLOW_PLUGINS": "voice, other"}).denial(ACME)
    assert denial is not None
    assert denial.reason == "STAGEFLOW_PLUGINS allows 'voice', 'other'"
    assert denial.fix == "Add 'acme' to STAGEFLOW_PLUGINS"


def test_names_that_nobody_has_are_told_with_close_matches():
    policy = PluginPolicy(enabled=["acme", "vioce"], disabled=["*", "zzz"], environ={})
    assert policy.unknown_names([ACME, VOICE]) == (
        "plugins.enabled lists 'vioce', but no such plugin or distribution is installed. Did you mean 'voice'?",
        "plugins.disabled lists 'zzz', but no such plugin or distribution is installed.",
    )


def test_a_denial_says_where_a_configured_list_was_written():
    policy = PluginPolicy(
        enabled=["voice"],
        disabled=["acme"],
        enabled_in="plugins.enabled (stageflow.toml:2)",
        disabled_in="plugins.disabled (stageflow.toml:3)",
        environ={},
    )
    denial = policy.denial(ACME)
    assert denial is not None
    assert denial.reason == "plugins.disabled (stageflow.toml:3) lists 'acme'"
    assert denial.fix == "Take 'acme' out of plugins.disabled (stageflow.toml:3)"
    other = Candidate(name="other", module="other.plugin", distribution="other", version="1.0")
    denial = policy.denial(other)
    assert denial is not None
    assert denial.fix == "Add 'other' to plugins.enabled (stageflow.toml:2)"
