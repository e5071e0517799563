"""``check_distribution``: runs the suites of an installed distribution in a process of its own, and reports."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from stageflow.errors import MissingExtraError
from stageflow.testing.conformance.installed import plugins_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["CheckReport", "CheckedTest", "check_distribution", "require_pytest"]

_NEEDED: Final = ("pytest", "pytest_asyncio")
_KEPT: Final = 4000  # characters of what the process said at its end


@final
class CheckedTest(NamedTuple):
    """One test, and what became of it.

    Attributes:
        contract: What its suite is about, as ``"stage"``.
        contribution: Which contribution, as ``"acme.greet"``; the class, if it is about none.
        test: The name of the test.
        promise: What the test proves, in a sentence.
        outcome: ``"passed"``, ``"failed"``, ``"skipped"`` or, if the process ended before, ``"not run"``.
        message: Why it failed or was skipped.
    """

    contract: str
    contribution: str
    test: str
    promise: str
    outcome: str
    message: str


@final
class CheckReport(NamedTuple):
    """What the suites of one distribution have found.

    Attributes:
        distribution: The distribution.
        version: Its version; None where its metadata states none.
        tests: The tests, in the order of the suites.
        error: Why no tests could be run, or not all of them; empty otherwise.
    """

    distribution: str
    version: str | None
    tests: tuple[CheckedTest, ...]
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether all is well: every test has passed or was skipped, and there were some."""
        return not self.error and bool(self.tests) and not self.failures

    @property
    def failures(self) -> tuple[CheckedTest, ...]:
        """The tests that failed, or were not run."""
        return tuple(one for one in self.tests if one.outcome in {"failed", "not run"})

    def count(self, *outcomes: str, contract: str | None = None, contribution: str | None = None) -> int:
        """Return how many tests have one of the outcomes; of one contract, or contribution, if these are given."""
        return sum(
            one.outcome in outcomes
            and contract in (None, one.contract)
            and contribution in (None, one.contribution)
            for one in self.tests
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        suites: dict[tuple[str, str], list[CheckedTest]] = {}
        for one in self.tests:
            suites.setdefault((one.contract, one.contribution), []).append(one)
        return {
            "distribution": self.distribution,
            "version": self.version,
            "status": "ok" if self.passed else "failed",
            "error": self.error or None,
            "suites": [
                {
                    "contract": contract,
                    "contribution": contribution,
                    "status": "ok"
                    if all(one.outcome in {"passed", "skipped"} for one in tests)
                    else "failed",
                    "tests": [
                        {
                            "name": one.test,
                            "promise": one.promise,
                            "outcome": one.outcome,
                            "message": one.message,
                        }
                        for one in tests
                    ],
                }
                for (contract, contribution), tests in suites.items()
            ],
        }


def require_pytest() -> None:
    """Look for what the suites need.

    Raises:
        MissingExtraError: It is not there.
    """
    for name in _NEEDED:
        if find_spec(name) is None:
            feature = f"stageflow plugins check (which needs {name!r})"
            raise MissingExtraError(feature, extra="testing")


def check_distribution(
    name: str,
    *,
    only: Sequence[str] = (),
    limit: float = 60.0,
    on_test: Callable[[CheckedTest], object] | None = None,
) -> CheckReport:
    """Run the suites of an installed distribution.

    Args:
        name: The distribution, or one of its plugins.
        only: Run only suites whose contract or contribution contains one of these.
        limit: How long one test may take before the process is ended, in seconds.
        on_test: Called with each test as it ends.

    Raises:
        ContributionNotFoundError: None of that name brings plugins.
        MissingExtraError: pytest or pytest-asyncio is not installed.
    """
    require_pytest()
    distribution, plugins = plugins_of(name)
    with tempfile.TemporaryDirectory(prefix="stageflow-check-") as folder, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
            [sys.executable, "-m", "stageflow.testing.conformance", distribution, *only],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=folder,
            env=_environment(),
            start_new_session=True,
        )
        try:
            collected = _Collected(on_test)
            error = _listen(process, collected, limit)
        finally:
            _end(process)
        said.seek(0)
        tail = said.read().decode("utf-8", "replace").strip()[-_KEPT:]
    if not error and not collected.told:
        error = f"The suites could not be collected. {tail}".rstrip()
    return CheckReport(distribution, plugins[0].version, collected.results(), error)


@final
class _Collected:
    """The tests, and what the process has told of them."""

    def __init__(self, on_test: Callable[[CheckedTest], object] | None) -> None:
        self.told = False
        self.running: str | None = None
        self._tests: dict[str, CheckedTest] = {}
        self._on_test = on_test

    def hear(self, event: dict[str, Any]) -> str:
        """Take an event in; returns an error if it tells of one."""
        match event["event"]:
            case "collected":
                self.told = True
                for one in event["tests"]:
                    test_id = one.pop("id")
                    self._tests[test_id] = CheckedTest(**one, outcome="not run", message="")
            case "broken":
                return str(event["message"])
            case "started":
                self.running = event["id"]
            case "reported":
                known = self._tests[event["id"]]
                if known.outcome != "failed":  # else its end fails as well
                    self._tests[event["id"]] = known._replace(
                        outcome=event["outcome"], message=event["message"]
                    )
            case _:
                self._settle()
        return ""

    def give_up(self, message: str) -> None:
        """The process has ended, or was ended, while a test ran."""
        if self.running is not None:
            known = self._tests[self.running]
            self._tests[self.running] = known._replace(outcome="failed", message=message)
            self._settle()

    def results(self) -> tuple[CheckedTest, ...]:
        """Return the tests."""
        return tuple(self._tests.values())

    def _settle(self) -> None:
        if self.running is not None and self._on_test is not None:
            self._on_test(self._tests[self.running])
        self.running = None


def _listen(process: subprocess.Popen[bytes], collected: _Collected, limit: float) -> str:
    """Take in what the process tells, until it ends or hangs; returns an error, if there is one."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read(stream: Iterable[bytes]) -> None:
        for line in stream:
            lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, args=(process.stdout,), name="conformance", daemon=True).start()
    error = ""
    while True:
        try:
            line = lines.get(timeout=limit)
        except queue.Empty:
            collected.give_up(f"it had not ended after {limit:g} s, and was ended with its process")
            return error or f"A test has not ended after {limit:g} s; those after it were not run"
        if not line:
            break
        error = collected.hear(json.loads(line)) or error
    if collected.running is not None:
        code = process.wait()
        collected.give_up(f"its process ended with it, with the code {code}")
        return f"The process of the tests ended with the code {code}; those that were left were not run"
    return error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _environment() -> dict[str, str]:
    """Return our environment without what would change pytest: other plugins, and options for other tests."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    if "PYTHONPATH" in env:  # as it is relative to our folder, and the process has another
        env["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, env["PYTHONPATH"].split(os.pathsep)))
    return {**env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
