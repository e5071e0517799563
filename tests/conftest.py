"""What every test shares: example counts, and the rule that the deep tier tolerates no gap."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from stageflow.events import clear_event_sink

if TYPE_CHECKING:
    from collections.abc import Generator

NO_GAPS = os.environ.get("STAGEFLOW_NO_GAPS") == "1"

# No deadline: pytest never asserts times here. The quick tier takes the same examples each time: no failure by chance.
settings.register_profile("quick", max_examples=30, derandomize=True, deadline=None)
settings.register_profile("deep", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


for variable in [name for name in os.environ if name.startswith("STAGEFLOW_") and "__" in name]:
    del os.environ[variable]  # no test reads the configuration of the machine; its children neither


@pytest.fixture(autouse=True)
def no_event_sink() -> Generator[None]:
    """Let no test hear of a sink that an earlier one has set."""
    clear_event_sink()
    yield
    clear_event_sink()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test on a real component into a failure, where no gap is tolerated."""
    report = yield
    if NO_GAPS and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("real"):
        report.outcome = "failed"
        report.longrepr = f"a gap: {skip_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself, as importorskip does; its marks are not known yet."""
    report = yield
    if NO_GAPS and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"a gap: {skip_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the real components that were left out."""
    gaps = [report for report in terminalreporter.getreports("skipped") if "real" in report.keywords]
    for report in gaps:
        terminalreporter.line(f"left out: {report.nodeid}: {skip_reason(report)}")
    ran = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    for report in ran:
        for name, said in getattr(report, "user_properties", ()):
            if name == "note":  # record_property("note", ...): what a reader of the summary should know
                terminalreporter.line(f"note: {said}")
    if config.option.markexpr.startswith("real"):
        terminalreporter.line(f"tests on real components: {len(ran)} ran, {len(gaps)} left out")


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Say why a test skipped itself."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
