"""A step that takes long is named once, while it goes on; nothing is left running."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

import pytest
from stageflow.plugins.watchdog import Watchdog

HOUR = 3600.0
LONG = 10  # seconds to wait for what is about to happen


@pytest.fixture
def said():
    """The messages, as they are logged."""
    messages: SimpleQueue[str] = SimpleQueue()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.put(record.getMessage())

    logger = logging.getLogger("stageflow.plugins")
    handler = Keep()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def watchdogs() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "stageflow-plugin-watchdog"]


def test_a_step_that_takes_long_is_named_once_and_so_is_the_next(said):
    with Watchdog(0.01) as watchdog:
        watchdog.step("The first goes on", fix="wait")
        assert said.get(timeout=LONG) == "The first goes on after 0.01 s. What to do: wait."
        watchdog.step("The second goes on", fix="wait, too")
        assert said.get(timeout=LONG) == "The second goes on after 0.01 s. What to do: wait, too."
    assert said.empty()
    assert watchdogs() == []


def test_what_is_quick_is_not_named(said):
    with Watchdog(HOUR) as watchdog:
        for number in range(100):
            watchdog.step(f"Step {number} goes on", fix="wait")
        assert watchdogs() != []
    assert said.empty()
    assert watchdogs() == []  # without waiting for its hour to pass


def test_it_ends_with_whatever_ends_the_step(said):
    with pytest.raises(KeyboardInterrupt), Watchdog(HOUR) as watchdog:
        watchdog.step("It goes on", fix="wait")
        raise KeyboardInterrupt
    assert watchdogs() == []


def test_a_host_without_plugins_starts_none(monkeypatch):
    from stageflow.plugins import PluginHost

    def refuse(self: threading.Thread) -> None:
        raise AssertionError(self.name)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert "timeout" in PluginHost(()).interceptors()
