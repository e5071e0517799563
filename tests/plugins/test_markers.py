"""Our marks are pluggy's, without pluggy."""

import warnings
from types import SimpleNamespace

import pluggy
import pytest
from stageflow.deprecations import (
    Deprecation,
    RemovedInCore3Warning,
    StageflowDeprecationWarning,
)
from stageflow.plugins import Candidate, PluginHost, hookspecs
from stageflow.plugins.markers import deprecation_of, hookimpl, hookspec


@pytest.mark.parametrize("options", [{}, {"specname": "other"}, {"optionalhook": True}], ids=str)
def test_hookimpl_marks_as_pluggy_does(options):
    theirs = pluggy.HookimplMarker("stageflow")(**options)(lambda: None)
    ours = hookimpl(**options)(lambda: None)
    assert vars(ours) == vars(theirs)


def test_hookimpl_works_without_parentheses():
    def implementation() -> None: ...

    assert hookimpl(implementation) is implementation
    assert vars(implementation) == vars(pluggy.HookimplMarker("stageflow")(lambda: None))


def test_hookspec_marks_as_pluggy_does():
    assert vars(hookspec(lambda: None)) == vars(pluggy.HookspecMarker("stageflow")(lambda: None))


def test_what_orders_calls_is_not_offered():
    with pytest.raises(TypeError, match="tryfirst"):
        hookimpl(tryfirst=True)


# --- hooks that are going to go ------------------------------------------------------------------------------------


class RemovedInPytest2Warning(StageflowDeprecationWarning):
    """Of a distribution that is installed, and is beyond 2."""

    distribution = "pytest"
    removal = "2.0"


def specification(removed_in):
    old = Deprecation(
        "the hook stageflow_old", since="1.0", removed_in=removed_in, replacement="stageflow_new", code="X"
    )

    @hookspec(deprecated=old)
    def stageflow_old(context) -> None: ...

    return stageflow_old, old


def test_a_plugin_that_implements_a_deprecated_hook_is_warned_about():
    spec, old = specification(RemovedInCore3Warning)
    assert deprecation_of(spec) == old
    assert old.due() is None
    manager = pluggy.PluginManager("stageflow")
    manager.add_hookspecs(SimpleNamespace(stageflow_old=spec))

    @hookimpl
    def stageflow_old(context) -> None: ...

    with pytest.warns(RemovedInCore3Warning) as caught:
        manager.register(SimpleNamespace(stageflow_old=stageflow_old))
    assert str(caught[0].message) == (
        "[X] the hook stageflow_old is deprecated since stageflow-core 1.0; use stageflow_new. "
        "stageflow-core 3.0 removes it."
    )
    assert (caught[0].filename, caught[0].lineno) == (__file__, stageflow_old.__code__.co_firstlineno)


stageflow_api_version = 1  # this file is a plugin's module as well


@hookimpl
def stageflow_tools():
    return []


@pytest.mark.parametrize(
    ("removed_in", "state"),
    [(RemovedInCore3Warning, "loaded"), (RemovedInPytest2Warning, "failed")],
    ids=["before", "due"],
)
def test_a_host_refuses_a_plugin_that_implements_a_hook_whose_removal_is_due(
    removed_in, state: str, monkeypatch: pytest.MonkeyPatch
):
    spec, _ = specification(removed_in)
    monkeypatch.setattr(hookspecs.stageflow_tools, "stageflow_spec", spec.stageflow_spec)
    acme = Candidate(name="acme", module=__name__, distribution="stageflow-acme", version="1.2")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (status,) = PluginHost([acme]).report.external
    assert status.state == state
    assert [one.category for one in caught] == ([removed_in] if state == "loaded" else [])
    if state == "failed":
        assert status.reason == "the hook stageflow_old was deprecated in pytest 1.0, and 2.0 has removed it"
        assert status.fix == "Use stageflow_new"


def test_other_hooks_have_no_deprecation():
    assert deprecation_of(hookspec(lambda: None)) is None
    assert deprecation_of(lambda: None) is None
