"""What is installed: the core, the distributions that bring plugins, the core's extras, and whether they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Distribution", "Extra", "Installation", "read_installation"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """An installed distribution, and what it needs."""

    name: str
    version: str | None
    requires: tuple[Requirement, ...]
    extras: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """One extra of the core."""

    name: str
    missing: tuple[str, ...]
    """The distributions that it needs and that are not installed."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """What is installed."""

    core: Distribution
    siblings: tuple[Distribution, ...]
    """What brings plugins, by name."""

    extras: tuple[Extra, ...]
    skews: tuple[str, ...]
    """A sentence for each pair of versions that do not fit."""


def read_installation(core: str, siblings: Iterable[str]) -> Installation:
    """Read the metadata of the core and of the distributions that bring plugins; nothing is imported.

    Args:
        core: The name of the core's distribution.
        siblings: The names of the others.
    """
    own = _read(core) or Distribution(name=core, version=None, requires=(), extras=())
    found: dict[str, Distribution] = {
        canonicalize_name(name): one for name in siblings if (one := _read(name)) is not None
    }
    needs = {extra: _needed_by(own, extra) for extra in own.extras}
    # The core knows siblings only by its extras; they may be installed without registering a plugin.
    needed = {canonicalize_name(need.name): _read(need.name) for group in needs.values() for need in group}
    installed = {name: one for name, one in needed.items() if one is not None} | found
    return Installation(
        core=own,
        siblings=tuple(found[name] for name in sorted(found) if name != canonicalize_name(core)),
        extras=tuple(
            Extra(
                name=extra,
                missing=tuple(need.name for need in group if canonicalize_name(need.name) not in installed),
            )
            for extra, group in needs.items()
        ),
        skews=tuple(_skews(own, needs.values(), installed)),
    )


def _needed_by(core: Distribution, extra: str) -> list[Requirement]:
    """Return what an extra of the core adds to it here; ``all``, which is made of the others, adds nothing."""
    return [
        need
        for need in core.requires
        if need.marker is not None
        and need.marker.evaluate({"extra": extra})
        and not need.marker.evaluate({"extra": ""})
        and canonicalize_name(need.name) != canonicalize_name(core.name)
    ]


def _skews(
    core: Distribution, extras: Iterable[list[Requirement]], installed: Mapping[str, Distribution]
) -> Iterator[str]:
    pairs = [(core, need, installed.get(canonicalize_name(need.name))) for group in extras for need in group]
    for one in installed.values():
        pairs += [
            (one, need, core)
            for need in one.requires
            if canonicalize_name(need.name) == canonicalize_name(core.name)
        ]
    for owner, need, other in pairs:
        if other is not None and other.version and not _fits(other.version, need):
            wanted = f"{need.name}{need.specifier}"
            yield f"{owner.name} {owner.version} needs {wanted}, but {other.version} is installed"


def _fits(version: str, need: Requirement) -> bool:
    """Say whether a version will do; a pre-release between the ends of the range was chosen."""
    try:
        return need.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True  # what cannot be read is not known to be wrong


def _read(name: str) -> Distribution | None:
    import importlib_metadata

    try:
        found = importlib_metadata.distribution(name)
        version = str(found.version or "") or None
        lines = found.requires or []
        extras = found.metadata.get_all("Provides-Extra") or []
    except Exception:  # noqa: BLE001 - not there, or its metadata is broken: either way nothing is known of it
        return None
    return Distribution(
        name=name, version=version, requires=tuple(_requirements(lines)), extras=tuple(map(str, extras))
    )


def _requirements(lines: Iterable[str]) -> Iterator[Requirement]:
    for line in lines:
        try:
            yield Requirement(line)
        except InvalidRequirement:
            continue  # as old tools have written them
