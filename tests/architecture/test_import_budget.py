"""What importing costs, counted in modules: times differ between machines, counts do not."""

import os
import subprocess
import sys

import pytest

HEAVY = {"asyncio", "click", "opentelemetry", "pluggy", "pydantic", "rich", "structlog"}
SIBLINGS = {"stageflow_auth", "stageflow_otel", "stageflow_tools", "stageflow_voice"}


def modules_after(statement: str) -> set[str]:
    """List what a new interpreter holds after one statement.

    Isolated (-I) and without coverage's variables, so that nothing of the test run is in it. What .pth files and
    editable finders import is in the bare interpreter as well, and goes with the difference.
    """
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "budget"),
    [("import stageflow", 40), ("from stageflow import Pipeline", 150)],
    ids=["import", "pipeline"],
)
def test_imports_stay_within_their_budget(statement: str, budget: int) -> None:
    added = modules_after(statement) - modules_after("")
    assert len(added) <= budget, sorted(added)


def test_importing_stageflow_imports_no_heavy_library_and_no_sibling() -> None:
    roots = {name.partition(".")[0] for name in modules_after("import stageflow")}
    assert not roots & (HEAVY | SIBLINGS)
