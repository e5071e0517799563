"""Runs the suites of one distribution with pytest, and tells on standard output what becomes of each test.

``stageflow plugins check`` starts it in a process of its own, in an empty folder. One line of JSON per event: nobody
else's output gets between, as standard output leads to standard error by then.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, final

import pytest

from stageflow.testing.conformance.assertions import show_values
from stageflow.testing.conformance.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_MODULE: Final = """\
from stageflow.testing.conformance.suites import suites_of

globals().update(suites_of({name!r}))
"""
_SETTINGS: Final = """\
[pytest]
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
"""


def main(name: str, only: Sequence[str]) -> int:
    """Run the suites.

    Args:
        name: The distribution.
        only: What the contract or the contribution of a suite must contain, if anything.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    Path("test_conformance.py").write_text(_MODULE.format(name=name), "utf-8")
    Path("pytest.ini").write_text(_SETTINGS, "utf-8")
    options = [
        "-c",
        "pytest.ini",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:terminal",
        "-p",
        "pytest_asyncio.plugin",
    ]
    code = pytest.main([*options, "test_conformance.py"], plugins=[_Teller(channel, only)])
    return int(code)


@final
class _Teller:
    """A plugin of pytest that tells of each test."""

    def __init__(self, channel: TextIO, only: Sequence[str]) -> None:
        self._channel = channel
        self._only = only

    def pytest_configure(self) -> None:
        show_values()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        wanted = [item for item in items if self._wants(_suite_of(item))]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted
        self._tell("collected", tests=[_about(item) for item in items])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell("broken", message=str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._tell("started", id=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._tell("reported", id=report.nodeid, outcome=report.outcome, message=_message(report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._tell("ended", id=nodeid)

    def _wants(self, suite: type[Suite]) -> bool:
        text = f"{suite.contract} {suite.contribution}"
        return not self._only or any(one in text for one in self._only)

    def _tell(self, event: str, **facts: Any) -> None:
        self._channel.write(json.dumps({"event": event, **facts}) + "\n")


def _suite_of(item: pytest.Item) -> type[Suite]:
    suite: Any = getattr(item, "cls", None)
    return suite if suite is not None else Suite


def _about(item: pytest.Item) -> dict[str, str]:
    suite = _suite_of(item)
    promise = " ".join(
        (getattr(getattr(item, "obj", None), "__doc__", None) or "").partition("\n\n")[0].split()
    )
    return {
        "id": item.nodeid,
        "contract": suite.contract,
        "contribution": suite.contribution or suite.__name__,
        "test": item.name,
        "promise": promise,
    }


def _message(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):  # why it was skipped
        return report.longrepr[2].removeprefix("Skipped: ")
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr or "").removeprefix("Failed: ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
