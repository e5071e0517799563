"""Shadows: modules that hide a package of the core or of a plugin, and names that only look like others."""

from __future__ import annotations

import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stageflow.cli.finding import Finding
from stageflow.plugins.names import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from stageflow.plugins.discovery import Candidate
    from stageflow.plugins.registry import Registry

__all__ = ["hidden_packages", "similar_names"]

_OF_CORE: Final = {
    "stageflow": "stageflow-core",
    "click": "click",
    "importlib_metadata": "importlib-metadata",
    "packaging": "packaging",
    "pluggy": "pluggy",
    "pydantic": "pydantic",
    "rich": "rich",
    "structlog": "structlog",
}
"""The packages that the core and its program import, each with its distribution."""

_TYPO: Final = 0.9  # of difflib's ratio: one letter in ten


def hidden_packages(candidates: Iterable[Candidate], folder: Path) -> Iterator[Finding]:
    """Find files that are imported in place of a package that the core or a plugin needs.

    Args:
        candidates: The plugins.
        folder: The working directory, which comes first on the path of ``python -m``, and of a pipeline's file in it.
    """
    brought = [one for one in candidates if one.file is None]
    owners = {one.module.partition(".")[0]: one.distribution for one in brought} | _OF_CORE
    path = [*dict.fromkeys([str(folder), *(entry or str(folder) for entry in sys.path)])]
    for package, distribution in owners.items():
        places = [*_places(package, path)]
        if len(places) > 1 and not _is_of(places[0], distribution):
            yield Finding(
                message=f"{places[0]} hides the package {package!r} of {distribution} ({places[1]}) "
                f"from programs that look there first",
                fix=f"Rename {places[0].parent if places[0].name == '__init__.py' else places[0]}",
            )


def _places(package: str, path: Iterable[str]) -> Iterator[Path]:
    """Yield the different files that a package could be imported from, in the order of the path."""
    seen: set[Path] = set()
    for entry in path:
        spec = None
        with suppress(Exception):  # an entry that cannot be searched holds nothing
            spec = PathFinder.find_spec(package, [entry])
        if spec is not None and spec.origin is not None:
            place = Path(spec.origin)
            if place.resolve() not in seen:
                seen.add(place.resolve())
                yield place


def _is_of(place: Path, distribution: str) -> bool:
    """Tell whether a file may belong to a distribution: it lies where that is installed."""
    import importlib_metadata

    for found in importlib_metadata.distributions(name=distribution):  # pyright: ignore[reportUnknownMemberType] - **kwargs is untyped
        if place.resolve().is_relative_to(Path(str(found.locate_file(""))).resolve()):
            return True
    return False


def similar_names(
    candidates: Iterable[Candidate], registries: Iterable[Registry[Any]], first_party: Iterable[str]
) -> Iterator[Finding]:
    """Find names that a reader, or a list of plugins, takes for others.

    Args:
        candidates: The plugins.
        registries: Everything that is contributed.
        first_party: The distributions that the core's extras install.
    """
    candidates, registries = tuple(candidates), tuple(registries)
    plugins = {one.name: f"{one.provenance}" for one in candidates}
    yield from _alike("plugins", plugins)
    for registry in registries:
        yield from _alike(
            f"{registry.noun}s", {key: str(entry.provenance) for key, entry in registry.items()}
        )
        for name in plugins.keys() & registry.keys():
            entry = registry[name]
            if entry.provenance.plugin != name:
                yield Finding(
                    message=f"{plugins[name]} has the name of the {entry}",
                    fix="Ask its authors for another name",
                )
    known = {canonical(name): name for name in first_party}
    for one in candidates:
        name = canonical(one.distribution)
        near = [] if name in known else get_close_matches(name, known, n=1, cutoff=_TYPO)
        if near:
            yield Finding(
                message=f"{one.provenance} is called nearly as {known[near[0]]!r}, an extra of the core, but is not it",
                fix=f"Make sure that {one.distribution} is what you meant to install",
            )


def _alike(noun: str, owners: Mapping[str, str]) -> Iterator[Finding]:
    groups: dict[str, list[str]] = {}
    for name in owners:
        groups.setdefault(name.replace("-", "").replace("_", ""), []).append(name)
    for names in groups.values():
        if len(names) > 1:
            listed = " and ".join(f"{name!r} of {owners[name]}" for name in names)
            yield Finding(
                message=f"The {noun} {listed} differ only in '-' and '_'",
                fix="Ask the authors of one for another name",
            )
