"""What is installed: the core, the distributions that bring plugins, the core's extras, and whether they fit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from stageflow.cli.versions import is_within, parse_requirement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.cli.versions import Requirement

__all__ = ["Distribution", "Extra", "Installation", "read_installation"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """An installed distribution, and what it needs."""

    name: str
    version: str | None
    requires: tuple[Requirement, ...]


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
    own = _read(core) or Distribution(name=core, version=None, requires=())
    found = {_canonical(name): one for name in siblings if (one := _read(name)) is not None}
    # The core knows siblings only by its extras; they may be installed without registering a plugin.
    needed = {_canonical(need.name): _read(need.name) for need in own.requires if need.extra}
    installed = {**{name: one for name, one in needed.items() if one is not None}, **found}
    return Installation(
        core=own,
        siblings=tuple(found[name] for name in sorted(found) if name != _canonical(core)),
        extras=_extras(own, installed),
        skews=tuple(_skews(own, installed)),
    )


def _extras(core: Distribution, installed: Mapping[str, Distribution]) -> tuple[Extra, ...]:
    needs: dict[str, list[str]] = {}
    for need in core.requires:
        if need.extra and _canonical(need.name) != _canonical(core.name):  # [all] is made of the others
            needs.setdefault(need.extra, []).append(need.name)
    return tuple(
        Extra(name=extra, missing=tuple(name for name in names if _canonical(name) not in installed))
        for extra, names in needs.items()
    )


def _skews(core: Distribution, installed: Mapping[str, Distribution]) -> Iterable[str]:
    pairs = [(core, need, installed.get(_canonical(need.name))) for need in core.requires if need.extra]
    for one in installed.values():
        pairs += [
            (one, need, core) for need in one.requires if _canonical(need.name) == _canonical(core.name)
        ]
    for owner, need, other in pairs:
        if other is not None and other.version and is_within(other.version, need.range) is False:
            yield f"{owner.name} {owner.version} needs {need.name}{need.range}, but {other.version} is installed"


def _read(name: str) -> Distribution | None:
    import importlib_metadata

    try:
        found = importlib_metadata.distribution(name)
        version = str(found.version or "") or None
        lines = found.requires or []
    except Exception:  # noqa: BLE001 - not there, or its metadata is broken: either way nothing is known of it
        return None
    requires = tuple(need for line in lines if (need := parse_requirement(line)) is not None)
    return Distribution(name=name, version=version, requires=requires)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
