"""What is installed: the core, the distributions that bring plugins, the core's extras, and whether they fit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from stageflow.cli.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Distribution", "Extra", "Installation", "read_installation"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """An installed distribution, and what it needs."""

    name: str
    version: str | None
    requires: tuple[Requirement, ...]
    extras: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version or '(version unknown)'}"


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
    problems: tuple[Finding, ...]
    """What is not there or does not fit, of what the core and the plugins declare that they need."""


def read_installation(core: str, siblings: Iterable[str]) -> Installation:
    """Read the metadata of the core and of the distributions that bring plugins; nothing is imported.

    Args:
        core: The name of the core's distribution.
        siblings: The names of the others.
    """
    installed = _Installed()
    own = installed.get(core) or Distribution(name=core, version=None, requires=(), extras=())
    found = {canonicalize_name(name): one for name in siblings if (one := installed.get(name)) is not None}
    found.pop(canonicalize_name(core), None)
    needs = {extra: _needed_by(own, extra) for extra in own.extras}
    others = [found[name] for name in sorted(found)]
    # The core knows siblings only by its extras; they may be installed without registering a plugin.
    named = {canonicalize_name(need.name) for group in needs.values() for need in group}
    unregistered = [one for name in sorted(named - found.keys()) if (one := installed.get(name)) is not None]
    problems = [
        *(one for group in needs.values() for need in group for one in _misfit(own, need, installed)),
        *(
            one
            for need in _needed(own)
            for one in (*_absence(own, need, installed), *_misfit(own, need, installed))
        ),
        *(one for other in others for one in _unmet(other, installed)),
        # Of what registers no plugin, only whether it fits the core is of interest here.
        *(
            one
            for other in unregistered
            for need in _needed(other)
            if canonicalize_name(need.name) == canonicalize_name(core)
            for one in _misfit(other, need, installed)
        ),
    ]
    return Installation(
        core=own,
        siblings=tuple(others),
        extras=tuple(
            Extra(name=extra, missing=tuple(need.name for need in group if installed.get(need.name) is None))
            for extra, group in needs.items()
        ),
        problems=tuple(dict.fromkeys(problems)),
    )


class _Installed:
    """The installed distributions by name, each read once."""

    def __init__(self) -> None:
        self._read: dict[str, Distribution | None] = {}

    def get(self, name: str) -> Distribution | None:
        key = canonicalize_name(name)
        if key not in self._read:
            self._read[key] = _read(name)
        return self._read[key]


def _needed(one: Distribution) -> list[Requirement]:
    """Return what a distribution needs here, without any extra."""
    return [need for need in one.requires if need.marker is None or need.marker.evaluate({"extra": ""})]


def _needed_by(one: Distribution, extra: str) -> list[Requirement]:
    """Return what an extra adds to a distribution here; ``all``, which is made of the others, adds nothing."""
    return [
        need
        for need in one.requires
        if need.marker is not None
        and need.marker.evaluate({"extra": extra})
        and not need.marker.evaluate({"extra": ""})
        and canonicalize_name(need.name) != canonicalize_name(one.name)
    ]


def _unmet(one: Distribution, installed: _Installed) -> Iterator[Finding]:
    for need in _needed(one):
        yield from _absence(one, need, installed)
        yield from _misfit(one, need, installed)
        yield from _missing_extras(one, need, installed)


def _absence(one: Distribution, need: Requirement, installed: _Installed) -> Iterator[Finding]:
    if installed.get(need.name) is None:
        wanted = _as_text(need)
        yield Finding(
            message=f"{one} needs {wanted}, which is not installed", fix=f"Run: pip install '{wanted}'"
        )


def _misfit(one: Distribution, need: Requirement, installed: _Installed) -> Iterator[Finding]:
    other = installed.get(need.name)
    if other is not None and other.version and not _fits(other.version, need):
        yield Finding(
            message=f"{one} needs {_as_text(need)}, but {other.version} is installed",
            fix=f"Run: pip install --upgrade {one.name} {other.name}; in one call, pip finds versions that fit",
        )


def _missing_extras(one: Distribution, need: Requirement, installed: _Installed) -> Iterator[Finding]:
    """Find the extras that a distribution needs of another, and that are not whole."""
    other = installed.get(need.name)
    for extra in sorted(need.extras if other is not None else ()):
        group = _needed_by(other, extra) if other is not None else []
        missing = [part.name for part in group if installed.get(part.name) is None]
        if missing:
            names = " and ".join(map(repr, missing))
            verb = "is" if len(missing) == 1 else "are"
            yield Finding(
                message=f"{one} needs the extra {extra!r} of {need.name}, of which {names} {verb} not installed",
                fix=f"Run: pip install '{need.name}[{extra}]'",
            )


def _as_text(need: Requirement) -> str:
    extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
    return f"{need.name}{extras}{need.specifier}"


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
        lines = found.requires or []
        extras = found.metadata.get_all("Provides-Extra") or []
    except Exception:  # noqa: BLE001 - not there, or its metadata is broken: either way nothing is known of it
        return None
    version: str | None = None
    with suppress(Exception):  # it states none; old releases of the library return None then, new ones raise
        version = str(found.version or "") or None
    return Distribution(
        name=str(found.metadata["Name"] or name),
        version=version,
        requires=tuple(_requirements(lines)),
        extras=tuple(map(str, extras)),
    )


def _requirements(lines: Iterable[str]) -> Iterator[Requirement]:
    for line in lines:
        try:
            yield Requirement(line)
        except InvalidRequirement:
            continue  # as old tools have written them
