"""Our marks are pluggy's, without pluggy."""

import pluggy
import pytest
from stageflow.plugins.markers import hookimpl, hookspec


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
