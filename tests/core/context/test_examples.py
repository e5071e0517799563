"""The example in each docstring runs and prints what it says, and every public name has one."""

from pathlib import Path

import pytest
import stageflow.context as room
from pytest_examples import CodeExample, EvalExample, find_examples

FOLDER = Path(room.__file__).parent


@pytest.mark.parametrize("example", list(find_examples(str(FOLDER))), ids=str)
def test_example_runs_and_prints_what_it_says(example: CodeExample, eval_example: EvalExample) -> None:
    eval_example.run_print_check(example)


@pytest.mark.parametrize("name", room.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    assert "```python" in (getattr(room, name).__doc__ or "")
