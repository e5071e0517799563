"""The examples in the docstrings of the room run, and print what they say."""

from pathlib import Path

import pytest
import stageflow.plugins
from pytest_examples import CodeExample, EvalExample, find_examples

FOLDER = Path(stageflow.plugins.__file__).parent


@pytest.mark.parametrize("example", list(find_examples(FOLDER)), ids=str)
def test_example_runs_and_prints_what_it_says(example: CodeExample, eval_example: EvalExample):
    eval_example.run_print_check(example)


def test_every_hook_shows_an_example_that_prints():
    from stageflow.plugins import hookspecs

    for hook in hookspecs.HOOKS:
        assert "#> " in getattr(hookspecs, hook).__doc__, hook
