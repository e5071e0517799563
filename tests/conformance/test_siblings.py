"""Our own packages pass the kit, run as anybody would run it: ``stageflow plugins check``."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from stageflow.plugins import CheckContribution
from stageflow.testing import conformance
from stageflow.testing.conformance.installed import contributions_of, plugins_of

SIBLINGS = ["stageflow-auth", "stageflow-otel", "stageflow-tools", "stageflow-voice"]
EVERYTHING = ["stageflow-core", *SIBLINGS]
CONTRACTS = {
    getattr(conformance, name).contract for name in conformance.__all__ if name.endswith("Conformance")
} - {"executor"}  # the core's have a module of tests of their own, and take as long as all others together


@pytest.fixture(scope="module")
def printed(once: Any) -> tuple[int, str]:
    return once("siblings", check)


def check() -> tuple[int, str]:
    only = [part for contract in sorted(CONTRACTS) for part in ("--only", f"{contract} ")]
    command = [sys.executable, "-m", "stageflow.cli", "plugins", "check", *EVERYTHING, *only]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.timeout(180)
def test_all_pass_and_the_table_of_suites_and_siblings_is_printed(printed: tuple[int, str]):
    code, text = printed
    print(text)
    assert code == 0, text
    head, *rows = text.splitlines()[-9:]
    assert head.split() == ["suite", *EVERYTHING]
    assert sorted(row.partition("  ")[0] for row in rows) == [
        "circuit breaker",
        "command",
        "interceptor",
        "plugin",
        "run store",
        "settings section",
        "sink",
        "stage",
    ]
    assert "failed" not in "\n".join(rows)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("distribution", EVERYTHING)
def test_everything_that_is_contributed_is_checked(distribution: str, printed: tuple[int, str]):
    _, plugins = plugins_of(distribution)
    for plugin in plugins:
        records = [entry.contribution for entry in contributions_of(plugin)]
        wanted = [(one.noun, one.key) for one in records if not isinstance(one, CheckContribution)]
        for noun, key in [*wanted, ("plugin", plugin.name)]:
            found = any(line.split()[:-3] == [*noun.split(), key] for line in printed[1].splitlines())
            assert found == (noun != "executor"), f"{noun} {key}"
