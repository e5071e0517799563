"""``Session``: what one call of the program shares between its parts."""

from __future__ import annotations

import logging
import sys
from functools import cached_property
from typing import TYPE_CHECKING, cast, final

from stageflow.cli.failure import show_warning

if TYPE_CHECKING:
    from stageflow.app import Stageflow
    from stageflow.plugins.host import PluginHost

__all__ = ["Session"]


@final
class Session:
    """One call of the program.

    Attributes:
        verbose: Whether errors come with their traceback.
        as_json: Whether standard output must hold JSON and nothing else.
        strict_errors: What is wrong with plugins, if ``STAGEFLOW_STRICT_PLUGINS`` asks to stop at that.
    """

    def __init__(self) -> None:
        self.verbose = False
        self.as_json = False
        self.strict_errors: tuple[Exception, ...] = ()

    @cached_property
    def host(self) -> PluginHost:
        """The installed plugins, found when something first asks for them."""
        from stageflow.plugins.host import PluginHost

        _report_plugins_on_stderr()
        host = PluginHost()
        try:
            host.load()
        except ExceptionGroup as group:
            # Help, plugins and doctor work all the same; whoever runs a pipeline is stopped by app().
            self.strict_errors = cast("tuple[Exception, ...]", group.exceptions)
            host = PluginHost(strict=False)
        return host

    @cached_property
    def core_host(self) -> PluginHost:
        """The core's own plugin alone; nothing of anybody else is imported for it."""
        from stageflow.plugins.host import PluginHost

        return PluginHost(candidates=(), strict=False)

    def app(self, *, plugins: bool = True) -> Stageflow:
        """Return the app that runs and checks pipelines.

        Args:
            plugins: Whether the installed plugins take part.

        Raises:
            ExceptionGroup: Something is wrong with a plugin, and ``STAGEFLOW_STRICT_PLUGINS`` is set.
        """
        from stageflow.app import Stageflow

        host = self.host if plugins else self.core_host
        if plugins and self.strict_errors:
            msg = "problems with plugins"
            raise ExceptionGroup(msg, self.strict_errors)
        return Stageflow(host)


@final
class _StderrHandler(logging.Handler):
    """Prints what the plugin host reports, once each: two hosts may see the same broken plugin."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message on what is standard error now."""
        message = record.getMessage()
        if message not in self._seen:
            self._seen.add(message)
            show_warning(message, stream=sys.stderr)


def _report_plugins_on_stderr() -> None:
    logger = logging.getLogger("stageflow.plugins")
    for handler in [*logger.handlers]:
        if isinstance(handler, _StderrHandler):
            logger.removeHandler(handler)
    logger.addHandler(_StderrHandler())
    # The pipeline's module may set up logging, and would print every report again.
    logger.propagate = False
