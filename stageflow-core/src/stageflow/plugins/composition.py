"""Composing a host: the plugins that are installed, and the project's own, as the configuration wants them."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stageflow.plugins.discovery import discover, local_plugin
from stageflow.plugins.host import STRICT_VARIABLE, PluginHost
from stageflow.plugins.loading import load_error
from stageflow.plugins.policy import PluginPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.config import Configuration
    from stageflow.config.sections import PluginsSettings
    from stageflow.plugins.discovery import Candidate

__all__ = ["compose_host"]

_SECTION: Final = "plugins"


def compose_host(
    config: Configuration,
    *,
    strict: bool | None = None,
    disabled: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> PluginHost:
    """Return a host of the installed plugins and the project's own, with the policy of ``[plugins]``.

    Nothing of a plugin is imported for it. ``STAGEFLOW_STRICT_PLUGINS``, where it is set, wins over
    ``plugins.strict``, as ``STAGEFLOW_PLUGINS`` does over ``plugins.enabled``; what ``STAGEFLOW_DISABLED_PLUGINS``
    lists is disabled as well.

    Args:
        config: The configuration.
        strict: Whether what is wrong with a plugin is raised; None for what environment and configuration say.
        disabled: Plugins not to load, whatever the configuration says.
        environ: Where those three variables are; the process's environment by default.

    Raises:
        SettingsError: Something is wrong with a file or with ``[plugins]``.

    ```python
    from stageflow.config import Configuration
    from stageflow.plugins.composition import compose_host

    host = compose_host(Configuration({"plugins": {"disabled": ["*"]}}), environ={})
    print({str(status.state) for status in host.report.external} or "nothing is installed")
    #> {'disabled'}
    ```
    """
    environ = os.environ if environ is None else environ
    settings, places = _plugins_section(config)
    local = None if config.project is None else local_plugin(config.project, _local_name(settings))
    listed = tuple(disabled)
    policy = PluginPolicy(
        enabled=None if settings is None else settings.enabled,
        disabled=listed or (() if settings is None else settings.disabled),
        enabled_in=places["enabled"],
        disabled_in="the command line" if listed else places["disabled"],
        environ=environ,
    )
    if strict is None and settings is not None and STRICT_VARIABLE not in environ:
        strict = settings.strict
    host = PluginHost(None if local is None else (*discover(), local), policy=policy, strict=strict)
    if local is not None and local.file is not None and policy.denial(local) is None:
        _make_importable(host, local, local.file)
    return host


def _plugins_section(config: Configuration) -> tuple[PluginsSettings | None, Mapping[str, str]]:
    """Return ``[plugins]``, and where its lists were written; None where nobody says anything, to spare pydantic."""
    from stageflow.config.problems import SettingsError

    places = {"enabled": "plugins.enabled", "disabled": "plugins.disabled"}
    if not config.mentions(_SECTION) and not config.problems:
        return None, places
    from stageflow.config.sections import EventsSettings, InterceptorsSettings, PluginsSettings

    read = {
        "events": config.section("events", EventsSettings),
        "interceptors": config.section("interceptors", InterceptorsSettings),
        _SECTION: config.section(_SECTION, PluginsSettings),
    }
    section = read[_SECTION]
    if section.problems or config.problems:
        # Without a policy nothing more can be read; so that is all that can be said now.
        raise SettingsError([*config.problems, *(one for each in read.values() for one in each.problems)])
    for setting in section.settings:
        key = setting.path.partition(".")[2]
        if key in places:
            places[key] = f"{setting.path} ({setting.origin})"
    values: object = section.values
    return (values if isinstance(values, PluginsSettings) else None), places


def _local_name(settings: PluginsSettings | None) -> str:
    return "project" if settings is None else settings.local


def _make_importable(host: PluginHost, local: Candidate, file: Path) -> None:
    """Put the project's folder on ``sys.path``, as the last one, so that it shadows nothing.

    So the plugin is an ordinary module under its own name, may import what stands beside it, and its targets are found
    by processes of an executor, too.
    """
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    origin = _origin_of(local.module)
    if origin is None or not origin.samefile(file):
        what = f"Another module of that name is there first, {str(origin)!r}"
        host.refuse(
            load_error(local, what, fix="Have one project in a process, or take the other off sys.path"),
            local,
        )


def _origin_of(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except ValueError:  # what sys.modules holds under this name is no module
        return None
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    return origin if origin is not None and origin.exists() else None
