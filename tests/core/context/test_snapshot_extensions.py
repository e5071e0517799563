"""Reading a snapshot with extensions back from plain data, when what is given for them is wrong."""

from __future__ import annotations

import pytest
from stageflow.context import ContextSnapshot
from stageflow.errors import StageflowError

DATA = {"extensions": {"n": 1}, "extensions_type": "Plan"}


@pytest.mark.parametrize(
    "types",
    [{"Plan": lambda **fields: fields}, {"Plan": int}, {"Plan": "Plan"}, [("Plan", dict)], 5],
    ids=["a function", "a class without such fields", "a name", "a list", "a number"],
)
def test_what_is_no_class_for_extensions_is_refused_with_a_code(types):
    with pytest.raises(StageflowError) as caught:
        ContextSnapshot.from_dict(DATA, types)
    assert caught.value.code.startswith("SF-RUN-ARGUMENT")
    assert "from_dict" in caught.value.what


def test_a_class_gets_the_fields():
    class Plan:
        def __init__(self, n):
            self.n = n

    assert ContextSnapshot.from_dict(DATA, {"Plan": Plan}).extensions.n == 1
