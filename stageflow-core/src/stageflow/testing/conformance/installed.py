"""What is installed, as the kit needs it: the plugins of a distribution, and what each contributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import importlib_metadata

from stageflow.errors import ContributionNotFoundError, close_matches
from stageflow.plugins.discovery import CORE_DISTRIBUTION, discover
from stageflow.plugins.host import PluginHost
from stageflow.plugins.names import canonical
from stageflow.plugins.policy import PluginPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stageflow.plugins.contributions import Contribution
    from stageflow.plugins.discovery import Candidate
    from stageflow.plugins.registry import Entry, Registry

__all__ = ["contributions_of", "distributions", "host_of", "packages_of", "plugin_at", "plugins_of"]


def distributions() -> list[str]:
    """Return the names of the distributions that bring plugins: the core first, the others by name."""
    return list(dict.fromkeys([CORE_DISTRIBUTION, *(one.distribution for one in discover())]))


def plugins_of(name: str) -> tuple[str, list[Candidate]]:
    """Return a distribution's own name, and its plugins.

    Args:
        name: The distribution, in any spelling, or one of its plugins.

    Raises:
        ContributionNotFoundError: None of that name brings plugins.
    """
    everything = [_builtin(), *discover()]
    wanted = canonical(name)
    found = [one for one in everything if canonical(one.distribution) == wanted]
    if not found:
        owner = next((one.distribution for one in everything if one.name == name), None)
        found = [one for one in everything if one.distribution == owner]
    if not found:
        known = list(dict.fromkeys(one.distribution for one in everything))
        fix = close_matches(name, known) or f"Installed are {', '.join(map(repr, known))}"
        what = f"No distribution named {name!r} brings a plugin"
        raise ContributionNotFoundError(what, fix=fix)
    return found[0].distribution, found


def plugin_at(module: str) -> Candidate | None:
    """Return the plugin whose entry point names *module*, or None."""
    return next((one for one in [_builtin(), *discover()] if one.module == module), None)


def host_of(plugin: Candidate) -> PluginHost:
    """Return a host that knows one plugin, and raises what is wrong with it."""
    candidates = () if plugin.builtin else (plugin,)
    return PluginHost(candidates, policy=PluginPolicy(environ={}), strict=True)


def contributions_of(plugin: Candidate) -> list[Entry[Contribution]]:
    """Return what one plugin contributes.

    Raises:
        ExceptionGroup: Something is wrong with it.
    """
    return [
        entry
        for registry in _registries(host_of(plugin))
        for entry in registry.values()
        if entry.provenance.plugin == plugin.name
    ]


def packages_of(plugin: Candidate) -> frozenset[str]:
    """Return the packages and modules at the top that the distribution of a plugin brings."""
    wanted = canonical(plugin.distribution)
    found = {
        module
        for module, owners in importlib_metadata.packages_distributions().items()
        if wanted in map(canonical, owners)
    }
    return frozenset(found | {plugin.module.partition(".")[0]})


def _registries(host: PluginHost) -> Iterator[Registry[Any]]:
    yield host.stages()
    yield host.interceptors()
    yield host.sinks()
    yield host.tools()
    yield host.executors()
    yield host.run_stores()
    yield host.settings()
    yield host.commands()
    yield host.checks()


def _builtin() -> Candidate:
    return (
        PluginHost(candidates=(), policy=PluginPolicy(environ={}), strict=False).report.plugins[0].candidate
    )
