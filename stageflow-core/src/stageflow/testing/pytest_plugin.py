"""Fixtures for pytest. Nothing registers them: say ``pytest_plugins = ["stageflow.testing.pytest_plugin"]``.

That line goes into the ``conftest.py`` at the root of the tests. The package itself is imported when a fixture is
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import pytest
except ImportError as exc:
    from stageflow.errors import MissingExtraError

    raise MissingExtraError("stageflow.testing.pytest_plugin", extra="testing") from exc

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from stageflow.plugins import PluginHost
    from stageflow.testing.recorder import EventRecorder

__all__ = ["stageflow_events", "stageflow_host", "virtual_clock"]


@pytest.fixture
def stageflow_events() -> Iterator[EventRecorder]:
    """A sink that records: pass it as ``sink=``. When the test ends, every run in it must have ended as runs do."""
    from stageflow.testing.recorder import EventRecorder

    recorder = EventRecorder()
    yield recorder
    if any("sequence" in event.data for event in recorder):
        recorder.assert_paired()


@pytest.fixture
def stageflow_host() -> PluginHost:
    """A plugin host that looks for no plugin: it knows what the core itself contributes, whatever is installed."""
    from stageflow.plugins import PluginHost

    return PluginHost(candidates=(), strict=True)


@pytest.fixture
def virtual_clock() -> Iterator[asyncio.Runner]:
    """A runner whose time jumps: ``virtual_clock.run(coro)``, and ``virtual_clock.get_loop().time()``."""
    import asyncio

    from stageflow.testing.clock import VirtualClockLoop

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        yield runner
