"""``Session``: what one call of the program shares between its parts."""

from __future__ import annotations

import logging
import sys
from functools import cached_property
from typing import TYPE_CHECKING, cast, final

from stageflow.cli.failure import show_warning

if TYPE_CHECKING:
    from pathlib import Path

    from stageflow.app import Stageflow
    from stageflow.config.configuration import Configuration
    from stageflow.plugins.host import PluginHost

__all__ = ["Session"]


@final
class Session:
    """One call of the program.

    Attributes:
        config_file: The configuration to read in place of the one that would be found.
        no_plugins: Whether no plugin but the core's own is loaded.
        verbose: Whether errors come with their traceback.
        as_json: Whether standard output must hold JSON and nothing else.
        errors: What is wrong with the configuration, so that no plugin can be loaded; or with plugins, if strictness is
            asked for.
    """

    def __init__(self) -> None:
        self.config_file: Path | None = None
        self.no_plugins = False
        self.verbose = False
        self.as_json = False
        self.errors: tuple[Exception, ...] = ()

    @cached_property
    def config(self) -> Configuration:
        """The configuration, read when something first asks for it."""
        from stageflow.config.configuration import Configuration

        return Configuration.find() if self.config_file is None else Configuration.load(self.config_file)

    @cached_property
    def host(self) -> PluginHost:
        """The plugins that the configuration wants, found when something first asks for them."""
        host = self.new_host()
        try:
            host.load()
        except ExceptionGroup as group:
            # Help, plugins and doctor work all the same; whoever runs a pipeline is stopped by app().
            self.errors = cast("tuple[Exception, ...]", group.exceptions)
            host = self.new_host(strict=False)
        return host

    def new_host(self, *, strict: bool | None = None) -> PluginHost:
        """Return a host that has imported nothing yet.

        Where the configuration does not say which plugins may be imported, because something is wrong with it, none is:
        that is logged, and in ``errors``.

        Args:
            strict: Whether what is wrong with a plugin is raised; None for what environment and configuration say.
        """
        from stageflow.config.problems import SettingsError
        from stageflow.plugins.host import PluginHost

        _report_plugins_on_stderr()
        try:
            return self._composed(strict=strict)
        except SettingsError as error:
            self.errors = (error,)
            logging.getLogger("stageflow.plugins").warning("%s", error)
            return PluginHost(candidates=(), strict=False)

    @cached_property
    def core_host(self) -> PluginHost:
        """The core's own plugin alone; nothing of anybody else is imported for it."""
        from stageflow.plugins.host import PluginHost

        return PluginHost(candidates=(), strict=False)

    def app(self) -> Stageflow:
        """Return the app that runs and checks pipelines.

        Raises:
            SettingsError: Something is wrong with a configuration file, or with ``[plugins]``.
            ExceptionGroup: Something is wrong with a plugin, and strictness is asked for.
        """
        from stageflow.app import Stageflow

        if "host" not in vars(self):
            self._composed()  # to raise here what is only a warning to others
        host = self.host
        if self.errors:
            msg = "problems with the configuration or with plugins"
            raise ExceptionGroup(msg, self.errors)
        return Stageflow(host, config=self.config)

    def _composed(self, *, strict: bool | None = None) -> PluginHost:
        from stageflow.plugins.composition import compose_host

        return compose_host(self.config, strict=strict, disabled=("*",) if self.no_plugins else ())


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
